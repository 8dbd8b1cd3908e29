"""Interpreters that run on this machine, for building wheels and compiling bytecode."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError, FetchError, UsageError
from stackbuild.layout import layout_for
from stackbuild.platforms import host_platform
from stackbuild.runtimes.model import ROOT, Interpreter
from stackbuild.runtimes.provide import note_compiler, provide_runtime
from stackbuild.spec.model import RuntimeSettings

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.lock.model import RuntimeLock
    from stackbuild.messages import Messages
    from stackbuild.runtimes.model import RuntimeArchive
    from stackbuild.runtimes.probe import Facts
    from stackbuild.spec.model import Layer, Stack
    from stackbuild.workspace import Workspace


def bytecode_interpreter(
    stack: Stack,
    runtime: Layer,
    runtime_lock: RuntimeLock,
    workspace: Workspace,
    messages: Messages,
) -> Interpreter:
    """The interpreter that compiles the modules of all layers on `runtime`.

    Bytecode does not depend on the platform, but on the patch version. So every machine compiles
    with the locked version, from the archive locked for its own platform. If that is not available,
    another interpreter of the minor version is used, with a message; its version is part of the key
    of what it compiles. Raises ComposeError if there is none.
    """
    try:
        archive = provide_runtime(
            stack,
            _locked_first(runtime),
            host_platform(),
            runtime_lock,
            workspace,
            messages,
            purpose="bytecode",
        )
    except (FetchError, UsageError) as error:
        facts = _found(stack, runtime)
        compiler = (facts.version, str(facts.prefix))
        note_compiler(runtime, runtime_lock, messages, compiler, [error.message])
        return Interpreter(executable=facts.executable, version=str(facts.version))
    return unpacked_interpreter(archive, workspace)


def _locked_first(runtime: Layer) -> Layer:
    """`runtime` with the locked archive as the first source, if it is one of its sources."""
    settings = runtime.runtime_settings or RuntimeSettings()
    sources = tuple(sorted(settings.sources, key=lambda source: source != "pbs"))
    return replace(runtime, runtime_settings=replace(settings, sources=sources))


def _found(stack: Stack, runtime: Layer) -> Facts:
    from stackbuild.runtimes.probe import candidates, find_interpreters, nearest_first

    version = stack.python_version(runtime)
    minor = f"{version.major}.{version.minor}"
    for facts in nearest_first(find_interpreters(minor, candidates()), version):
        # Other implementations and free-threaded builds write different bytecode.
        if facts.implementation == "cpython" and not facts.abi and facts.executable.exists():
            return facts
    raise ComposeError(
        f"no CPython {minor} was found on this machine to compile bytecode",
        layer=runtime.name,
        remedy=f"install one (`uv python install {version}`), or set "
        "`bytecode = false` under [tool.stackbuild.frames]",
    )


def unpacked_interpreter(archive: RuntimeArchive, workspace: Workspace) -> Interpreter:
    """Unpack an archive for the host's platform into the cache; returns the interpreter.

    Raises IntegrityError for a damaged archive, ComposeError if the interpreter does not run here
    or has another minor version than `archive`.
    """
    name = layout_for(host_platform(), archive.version).runtime_interpreter
    directory = workspace.runtimes / "unpacked" / archive.sha256[:32]
    executable = directory / ROOT / name
    if not executable.is_file():
        _unpack(archive, directory, f"{ROOT}/{name}")
    return Interpreter(executable=executable, version=str(archive.version))


def _unpack(archive: RuntimeArchive, directory: Path, interpreter: str) -> None:
    from stackbuild.files import atomic_directory, remove_tree
    from stackbuild.runtimes.probe import probe
    from stackbuild.runtimes.tarball import unpack_tarball

    # The cached directory lacks its interpreter.
    remove_tree(directory)
    with atomic_directory(directory) as work:
        unpack_tarball(archive.path, work)
        facts = probe(work / interpreter)
        if facts is None:
            raise ComposeError(
                "the interpreter of the archive does not run on this machine", file=archive.path
            )
        if facts.version.release[:2] != archive.version.release[:2]:
            raise ComposeError(
                "the archive contains another version of CPython",
                file=archive.path,
                expected=f"CPython {archive.version}",
                found=f"CPython {facts.version}",
            )
