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

from packaging.version import Version

from stackbuild.platforms import host_platform
from stackbuild.runtimes.find import candidates, find_interpreters
from stackbuild.runtimes.probe import objection

PROJECT = Path(__file__).resolve().parent.parent
PARTS = ("venvstacks.toml", "layers", "launch", "overlays")

MINORS = ("3.13", "3.12", "3.11")
"""The minor versions for which all that the stack asks for has wheels."""


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


def copy_stack_for_another_python(to: Path) -> Path:
    """A copy for a version of CPython that is on this machine and is packed; it has no locks."""
    interpreter, version = _interpreter()
    copy_stack(to)
    shutil.rmtree(to / "layers", ignore_errors=True)
    minor = f"{version.major}.{version.minor}"
    spec = to / "venvstacks.toml"
    text = spec.read_text(encoding="utf-8")
    text = text.replace("cpython@3.12.10", f"cpython@{version}")
    text = text.replace("cpython-3.12", f"cpython-{minor}")
    # JSON's strings are TOML's.
    path = json.dumps(str(interpreter))
    text += f'\n[tool.stackbuild.layers."cpython-{minor}"]\nsources = ["local"]\npath = {path}\n'
    spec.write_text(text, encoding="utf-8")
    return to


def _interpreter() -> tuple[Path, Version]:
    """The one that runs this if it can be packed, or another; the operating system's own last."""
    listed = [Path(sys.executable), *candidates()]
    own = "{}.{}".format(*sys.version_info)
    found = [
        facts
        for minor in sorted(MINORS, key=lambda minor: minor != own)
        for facts in find_interpreters(minor, listed)
        if not facts.version.is_prerelease and objection(facts, host_platform()) is None
    ]
    if not found:
        # The command that tries to pack this one tells why it cannot, and what to do.
        return Path(sys.executable).resolve(), Version(python_version())
    best = min(found, key=lambda facts: facts.is_system)
    return best.executable, best.version
