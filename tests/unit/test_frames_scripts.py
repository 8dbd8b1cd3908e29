"""Console scripts."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from stackbuild.frames.model import EntryPoint
from stackbuild.frames.scripts import relocatable_script, script_files
from tests.support.frames import LINUX, WINDOWS

if TYPE_CHECKING:
    from pathlib import Path

_POINT = EntryPoint(name="tool", module="tool.cli", attribute="Main.run")

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX scripts")


def _layer(directory: Path, script: bytes) -> Path:
    """A directory with a script and, as its interpreter, the one that runs the tests."""
    (directory / "bin").mkdir(parents=True)
    (directory / "bin/python").symlink_to(sys.executable)
    path = directory / "bin/tool"
    path.write_bytes(script)
    path.chmod(0o755)
    package = directory / "modules/tool"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cli.py").write_text(
        "import sys\n"
        "class Main:\n"
        "    def run():\n"
        "        print(sys.executable, sys.argv)\n"
        "        return 3\n"
    )
    return path


def _run(command: list[str | Path], directory: Path) -> tuple[int, str]:
    environment = os.environ | {"PYTHONPATH": str(directory / "modules")}
    done = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    return done.returncode, done.stdout.strip() or done.stderr


@posix
@pytest.mark.parametrize("name", ["layer", "with space", "näme's $HOME `x`"])
def test_a_posix_script_runs_the_interpreter_beside_it(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    ((path, data),) = script_files(_POINT, LINUX, "x86_64").items()
    assert path == "bin/tool"
    script = _layer(directory, data)
    code, output = _run([script, "a b", "*"], directory)
    assert code == 3, output
    assert output == f"{directory}/bin/python {[str(script), 'a b', '*']}"


@posix
def test_a_posix_script_runs_through_links_and_after_a_move(tmp_path: Path) -> None:
    ((_, data),) = script_files(_POINT, LINUX, "x86_64").items()
    _layer(tmp_path / "before", data)
    moved = tmp_path / "after"
    shutil.move(tmp_path / "before", moved)
    (tmp_path / "link").symlink_to("after/bin/tool")
    code, output = _run([tmp_path / "link"], moved)
    assert code == 3, output
    assert output.startswith(f"{moved}/bin/python ")


@posix
def test_a_script_of_a_wheel_is_made_relocatable(tmp_path: Path) -> None:
    original = b"#!python -E\nimport sys\nprint(sys.executable)\n"
    script = _layer(tmp_path / "x y", relocatable_script(original))
    assert _run([script], tmp_path) == (0, f"{tmp_path}/x y/bin/python")


@pytest.mark.parametrize(
    ("gui", "machine", "program"),
    [
        (False, "x86_64", b"python.exe"),
        (True, "x86_64", b"pythonw.exe"),
        (False, "aarch64", b"python.exe"),
        (True, "aarch64", b"pythonw.exe"),
    ],
)
def test_a_windows_launcher_looks_beside_itself(gui: bool, machine: str, program: bytes) -> None:
    point = EntryPoint(name="tool", module="tool.cli", attribute="run", gui=gui)
    ((path, data),) = script_files(point, WINDOWS, machine).items()
    assert path == "Scripts/tool.exe"
    assert data.startswith(b"MZ")
    assert data[data.rindex(b"#!") : data.rindex(b"PK\x03\x04")] == (
        b"#!<launcher_dir>\\" + program + b"\n"
    )
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (info,) = archive.infolist()
        assert info.date_time == (1980, 1, 1, 0, 0, 0)
        assert b"from tool.cli import run" in archive.read("__main__.py")
    machines = {"x86_64": 0x8664, "aarch64": 0xAA64}
    header = int.from_bytes(data[0x3C:0x40], "little")
    assert int.from_bytes(data[header + 4 : header + 6], "little") == machines[machine]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_launchers_know_the_directory_they_stand_in(machine: str) -> None:
    ((_, data),) = script_files(_POINT, WINDOWS, machine).items()
    assert "<launcher_dir>\\".encode("utf-16-le") in data
