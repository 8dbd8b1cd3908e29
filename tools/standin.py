"""Copies of this repository's stack, as it is or for another version of Python.

The stack asks for CPython 3.12.10. Where neither its archive can be downloaded nor a CPython 3.12
is installed, the demo and the tests take the stack for the version of Python that runs them.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PARTS = ("venvstacks.toml", "layers", "launch", "overlays")


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


def copy_stack_for_this_python(to: Path) -> Path:
    """A copy for the version of CPython that runs this, which is also packed; it has no locks."""
    copy_stack(to)
    shutil.rmtree(to / "layers", ignore_errors=True)
    minor = "{}.{}".format(*sys.version_info[:2])
    spec = to / "venvstacks.toml"
    text = spec.read_text(encoding="utf-8")
    text = text.replace("cpython@3.12.10", f"cpython@{platform.python_version()}")
    text = text.replace("cpython-3.12", f"cpython-{minor}")
    # JSON's strings are TOML's.
    interpreter = json.dumps(str(Path(sys.executable).resolve()))
    text += f'\n[tool.stackbuild.layers."cpython-{minor}"]\nsources = ["local"]\n'
    text += f"path = {interpreter}\n"
    spec.write_text(text, encoding="utf-8")
    return to
