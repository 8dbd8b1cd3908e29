"""Copies of this repository's stack, as it is or for another version of Python.

The stack asks for CPython 3.12.10. Where neither its archive can be downloaded nor a CPython 3.12
is installed, the demo and the tests take the stack for a version of Python that is there.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from stackbuild.errors import ComposeError, FetchError, UsageError
from stackbuild.lock.files import lock_path, read_lock, read_runtime_lock
from stackbuild.messages import Silent
from stackbuild.platforms import host_platform
from stackbuild.runtimes.probe import candidates, find_interpreters, objection
from stackbuild.runtimes.provide import provide_runtime
from stackbuild.spec.reader import load_stack
from stackbuild.workspace import open_workspace

if TYPE_CHECKING:
    from stackbuild.runtimes.model import RuntimeArchive
    from stackbuild.workspace import Workspace

PROJECT = Path(__file__).resolve().parent.parent
SPEC = "venvstacks.toml"
RUNTIME = "cpython-3.12"
"""The stack's only runtime."""
PARTS = (SPEC, "layers", "launch", "overlays")

MINORS = ("3.13", "3.12", "3.11", "3.14")
"""The minor versions that the stack is tried with, the preferred ones first."""


def copy_stack(to: Path) -> Path:
    """A copy of everything that the stack is made of; the result is its directory."""
    to.mkdir(parents=True)
    for name in PARTS:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy2(source, to / name)
    return to


def interpreter_archive(workspace: Workspace) -> RuntimeArchive | None:
    """The archive of the interpreter that the stack in `workspace` asks for, for this platform.

    As when the runtime is published, it is downloaded, or packed from one of this machine. None
    where neither can be done.
    """
    stack = load_stack(workspace.project / SPEC)
    (name,) = stack.python_versions
    lock = read_runtime_lock(workspace, name)
    runtime = stack.layers[name]
    try:
        return provide_runtime(stack, runtime, host_platform(), lock, workspace, Silent())
    except (FetchError, ComposeError, UsageError):
        return None


def copy_stack_for_another_python(to: Path) -> tuple[Path, Version]:
    """A copy for a version of CPython that is on this machine and is packed; it has no locks.

    The copy asks for the nearest versions from the pinned ones on that have wheels for it, which
    are mostly the pinned ones themselves; `other_versions` tells the others once it is locked.
    """
    import tomlkit

    interpreter, version = _interpreter()
    copy_stack(to)
    shutil.rmtree(to / "layers", ignore_errors=True)
    minor = f"{version.major}.{version.minor}"
    path = to / SPEC
    text = path.read_text(encoding="utf-8")
    text = text.replace("cpython@3.12.10", f"cpython@{version}")
    text = text.replace(RUNTIME, f"cpython-{minor}")
    # JSON's strings are TOML's.
    found = json.dumps(str(interpreter))
    text += f'\n[tool.stackbuild.layers."cpython-{minor}"]\nsources = ["local"]\npath = {found}\n'
    text += '\n[tool.uv]\nresolution = "lowest-direct"\n'
    document = tomlkit.parse(text)
    _allow_newer(document)
    path.write_text(tomlkit.dumps(document), encoding="utf-8")
    return to, version


def other_versions(directory: Path, layer: str) -> dict[str, tuple[str, str]]:
    """What a locked copy has in other versions than the stack: the pinned one and the copy's.

    Of all that `layer` and its frameworks require.
    """
    stack = load_stack(directory / SPEC)
    workspace = open_workspace(directory, read_only=True)
    chain = [layer, *stack.layers[layer].frameworks]
    locks = [read_lock(lock_path(workspace, name, host_platform())) for name in chain]
    taken = {item.name: str(item.version) for lock in locks for item in lock.distributions}
    pinned = {
        requirement.name: str(requirement.specifier).removeprefix("==")
        for name in chain
        for requirement in load_stack(PROJECT / SPEC).layers[name].requirements
    }
    return {
        name: (version, taken[canonicalize_name(name)])
        for name, version in pinned.items()
        if taken[canonicalize_name(name)] != version
    }


def _allow_newer(document: Any) -> None:
    """Let newer versions take the place of pinned ones in a parsed spec."""
    for layer in (*document["frameworks"], *document["applications"]):
        layer["requirements"] = [line.replace("==", ">=") for line in layer["requirements"]]
    for layer in document["tool"]["stackbuild"]["layers"].values():
        for name, version in layer.get("overrides", {}).items():
            layer["overrides"][name] = f">={version}"


def _interpreter() -> tuple[Path, Version]:
    """The one that runs this if it can be packed, or another; the operating system's own last."""
    listed = [Path(sys.executable), *candidates()]
    own = "{}.{}".format(*sys.version_info)
    found = [
        facts
        for minor in (own, *(minor for minor in MINORS if minor != own))
        for facts in find_interpreters(minor, listed)
        if not facts.version.is_prerelease and objection(facts, host_platform()) is None
    ]
    if not found:
        # The command that tries to pack this one tells why it cannot, and what to do.
        return Path(sys.executable).resolve(), Version(python_version())
    best = min(found, key=lambda facts: facts.is_system)
    return best.executable, best.version
