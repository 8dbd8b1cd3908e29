"""Small specs: files to write, and a stack to read from their text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import SpecError
from stackbuild.spec.reader import load_stack

if TYPE_CHECKING:
    from pathlib import Path

    from stackbuild.spec.model import Stack

RUNTIME = """
[[runtimes]]
name = "py"
python_implementation = "cpython@3.12.10"
requirements = []
"""

FRAMEWORK = """
[[frameworks]]
name = "base"
runtime = "py"
requirements = []
"""

APPLICATION = """
[[applications]]
name = "app"
frameworks = ["base"]
requirements = []
"""

ALL = RUNTIME + FRAMEWORK + APPLICATION


def write_spec(directory: Path, *parts: str) -> Path:
    """A spec file in `directory` out of parts of TOML; the path of the file."""
    path = directory / "venvstacks.toml"
    path.write_text("".join(parts), encoding="utf-8")
    return path


def read_spec(directory: Path, *parts: str) -> Stack:
    """The stack that parts of TOML define."""
    return load_stack(write_spec(directory, *parts))


def problems_of(directory: Path, *parts: str) -> list[str]:
    """The problems of a spec out of parts of TOML, as they are shown."""
    path = write_spec(directory, *parts)
    with pytest.raises(SpecError) as caught:
        load_stack(path)
    head, *problems = str(caught.value).splitlines()
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    assert head == f"{path} has {count}"
    return [problem.removeprefix("  ") for problem in problems]
