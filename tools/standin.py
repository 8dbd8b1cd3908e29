"""Copies of this repository's stack, as it is or for another version of Python.

The stack asks for CPython 3.12.10. Where neither its archive can be downloaded nor a CPython 3.12
is installed, the demo and the tests take the stack for a version of Python that is there.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import findpython

if TYPE_CHECKING:
    from packaging.version import Version

PROJECT = Path(__file__).resolve().parent.parent
PARTS = ("venvstacks.toml", "layers", "launch", "overlays")

OLDEST, NEWEST = (3, 11), (3, 13)
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
    """The one that runs this, or a suitable one if that belongs to the operating system."""
    own = findpython.PythonVersion(Path(sys.executable).resolve())
    others = [found for found in findpython.find_all() if not found.version.is_prerelease]
    for python in (own, *others):
        executable = Path(python.executable).resolve()
        suitable = OLDEST <= python.version.release[:2] <= NEWEST
        if suitable and executable.parent not in {Path("/usr/bin"), Path("/bin")}:
            return executable, python.version
    # Cannot be packed either; the command that tries tells what to do.
    return Path(own.executable), own.version
