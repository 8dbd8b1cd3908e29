"""The interpreter that makes a runtime's bytecode."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError, FetchError, UsageError
from stackbuild.platforms import host_platform
from stackbuild.runtimes.model import Interpreter
from stackbuild.runtimes.provide import provide_runtime, tell_compiler
from stackbuild.runtimes.unpacked import unpacked_interpreter
from stackbuild.spec.model import RuntimeSettings

if TYPE_CHECKING:
    from stackbuild.lock.model import RuntimeLock
    from stackbuild.messages import Messages
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

    Bytecode is the same on every platform, and not the same for two patch
    versions. So every machine compiles with the locked version, from the archive
    that the lock names for this machine's platform. Where that is not to be had,
    another interpreter of the minor version stands in, and a message says so; its
    version is part of the key of what it compiles. Raises ComposeError when
    there is none.
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
        tell_compiler(runtime, runtime_lock, messages, compiler, [error.message])
        return Interpreter(executable=facts.executable, version=str(facts.version))
    executable = unpacked_interpreter(archive, workspace)
    return Interpreter(executable=executable, version=str(archive.version))


def _locked_first(runtime: Layer) -> Layer:
    """`runtime` with the locked archive as the first source, where it is one at all."""
    settings = runtime.runtime_settings or RuntimeSettings()
    sources = tuple(sorted(settings.sources, key=lambda source: source != "pbs"))
    return replace(runtime, runtime_settings=replace(settings, sources=sources))


def _found(stack: Stack, runtime: Layer) -> Facts:
    from stackbuild.runtimes.find import candidates, find_interpreters, nearest_first

    version = stack.python_version(runtime)
    minor = f"{version.major}.{version.minor}"
    for facts in nearest_first(find_interpreters(minor, candidates()), version):
        # Another implementation or a free-threaded build writes other bytecode.
        if facts.implementation == "cpython" and not facts.abi and facts.executable.exists():
            return facts
    raise ComposeError(
        f"there is no CPython {minor} on this machine to make bytecode with",
        layer=runtime.name,
        remedy=f"install one (`uv python install {version}`), or set "
        "`bytecode = false` under [tool.stackbuild.frames]",
    )
