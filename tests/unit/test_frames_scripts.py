"""Console scripts."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stackbuild.frames.model import EntryPoint
from stackbuild.frames.scripts import LAUNCHER, launched_script, script_files
from stackbuild.frames.wheel import wheel_key
from stackbuild.layout import ENVIRONMENT_SCRIPT
from stackbuild.scripts import header, unbound
from stackbuild.spec.model import FrameSettings
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


def _launched(directory: Path, script: bytes) -> Path:
    """A directory with `script` and its launcher."""
    launcher = _layer(directory, LAUNCHER)
    place = directory / launched_script("bin/tool")
    place.parent.mkdir()
    place.write_bytes(script)
    return launcher


@posix
def test_a_script_of_a_wheel_is_what_it_was(tmp_path: Path) -> None:
    script = """\
#!python -E
# -*- coding: latin-1 -*-
"Words of the f\xe4cade."
from __future__ import annotations

import inspect
import sys


def where(value: Missing) -> str:
    return sys.argv[0]


print(__doc__, where(1), __file__, __name__, sys.argv[1:], sys.path[0], sys.executable, sep="|")
print(inspect.getsource(where).splitlines()[0], where.__code__.co_firstlineno)
raise SystemExit(4)
"""
    layer = tmp_path / "x y"
    launcher = _launched(layer, script.encode("latin-1"))
    code, output = _run([launcher, "a b"], tmp_path)
    assert (code, output) == (
        4,
        f"Words of the f\xe4cade.|{launcher}|{launcher}|__main__|['a b']|{layer}/bin|"
        f"{layer}/bin/python\ndef where(value: Missing) -> str: 10",
    )


@posix
@pytest.mark.parametrize("script", [b"print(__doc__)\n", b"#!python\nprint(__doc__)\n"])
def test_a_script_without_a_docstring_has_none(tmp_path: Path, script: bytes) -> None:
    assert _run([_launched(tmp_path / "layer", script)], tmp_path) == (0, "None")


@posix
def test_processes_that_a_script_spawns_know_what_it_defines(tmp_path: Path) -> None:
    script = b"""#!python
import multiprocessing


def double(number):
    return 2 * number


if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(double, [1, 2]))
"""
    assert _run([_launched(tmp_path / "layer", script)], tmp_path) == (0, "[2, 4]")


@posix
@pytest.mark.parametrize("made", [True, False], ids=["entry point", "script"])
def test_a_script_finds_its_interpreter_however_it_is_started(tmp_path: Path, made: bool) -> None:
    layer = tmp_path / "envs" / "the layer"
    if made:
        ((_, data),) = script_files(_POINT, LINUX, "x86_64").items()
        _layer(layer, data)
    else:
        _launched(layer, b"import sys\nprint(sys.executable, sys.argv)\nsys.exit(3)\n")
    home = tmp_path / "home"
    (home / "dotfiles" / "bin").mkdir(parents=True)
    (home / "bin").symlink_to("dotfiles/bin")  # so that `..` is not what the words say
    (home / "bin/absolute").symlink_to(layer / "bin/tool")
    (home / "bin/relative").symlink_to("../../../envs/the layer/bin/tool")
    (home / "bin/twice").symlink_to("relative")
    tools = tmp_path / "tools"  # all that a script may need: macOS 12 has no `realpath`
    tools.mkdir()
    for name in ("sh", "readlink"):
        (tools / name).symlink_to(str(shutil.which(name)))
    environment = {"PYTHONPATH": str(layer / "modules"), "CDPATH": "/:/usr"}
    for words, path, cwd in (
        (["./bin/absolute"], "", home),
        (["./bin/relative"], "", home),
        ([f"{home}/bin/relative"], "", tmp_path),
        ([f"{home}/bin/twice"], "", tmp_path),
        (["sh", "-c", "twice a"], f":{home}/bin", tmp_path),
        (["sh", "-c", "tool a"], ":bin", layer),
        (["sh", "-c", "tool a"], ":", layer / "bin"),
        (["sh", "tool", "a"], "", layer / "bin"),
        (["./bin/tool"], "", layer),
    ):
        done = subprocess.run(
            words,
            env=environment | {"PATH": f"{tools}{path}"},
            cwd=cwd,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 3, (words, done.stderr)
        assert done.stdout.startswith(f"{layer}/bin/python ["), words


@posix
def test_a_script_says_that_its_interpreter_is_gone(tmp_path: Path) -> None:
    launcher = _launched(tmp_path / "layer", b"")
    (tmp_path / "layer/bin/python").unlink()
    code, output = _run([launcher], tmp_path)
    assert code == 127
    assert f"{tmp_path}/layer/bin/python" in output


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


@pytest.mark.parametrize(("gui", "program"), [(False, b"python.exe"), (True, b"pythonw.exe")])
def test_the_interpreter_of_a_windows_runtime_is_above(gui: bool, program: bytes) -> None:
    point = EntryPoint(name="tool", module="tool.cli", attribute="run", gui=gui)
    runtime = replace(WINDOWS, is_runtime=True)
    ((_, data),) = script_files(point, runtime, "x86_64").items()
    assert data[data.rindex(b"#!") : data.rindex(b"PK\x03\x04")] == (
        b"#!<launcher_dir>\\..\\" + program + b"\n"
    )
    settings = FrameSettings()
    keys = [wheel_key("0" * 64, layout, settings) for layout in (WINDOWS, runtime)]
    assert keys[0] != keys[1]
    posix = [replace(LINUX, is_runtime=is_runtime) for is_runtime in (False, True)]
    assert len({wheel_key("0" * 64, layout, settings) for layout in posix}) == 1
    assert script_files(point, posix[0], "") == script_files(point, posix[1], "")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_launchers_know_the_directory_they_stand_in(machine: str) -> None:
    ((_, data),) = script_files(_POINT, WINDOWS, machine).items()
    assert "<launcher_dir>\\".encode("utf-16-le") in data


def test_only_scripts_with_variables_look_for_them() -> None:
    plain, variables = header("python3").decode(), header("python3", variables=True).decode()
    assert ENVIRONMENT_SCRIPT in variables
    others = [line for line in variables.splitlines() if "__set" not in line]
    assert plain.splitlines() == others


_PIP = b"#!/bin/sh\n'''exec' \"/a dir/python3.12\" \"$0\" \"$@\"\n' '''\n"
_BUILT = _PIP.replace(b"/a dir", b'$(dirname -- "$(realpath -- "$0")")')


@pytest.mark.parametrize(
    "head",
    [
        b"#!/usr/bin/python3.12 -s\n",
        b"#! /usr/bin/env python\n",
        _PIP,
        _BUILT,
        header("python3"),
        header("python3", variables=True),
    ],
)
def test_a_script_loses_the_path_of_its_interpreter(head: bytes) -> None:
    body = b"# '''\nimport \xff\n#!/usr/bin/python\n"
    assert unbound(head + body) == b"#!python\n" + body


@pytest.mark.parametrize(
    "script",
    [
        b"#!python\n",
        b"import sys\n#!/usr/bin/python\n",
        b"#!/bin/sh\npython -m x\n",
        b"#!/opt/python/bin/bash\n",
        b"#!/usr/bin/env bash\n# python\n",
        _PIP.replace(b"python3.12", b"perl"),
        b"",
        b"\x7fELF",
    ],
)
def test_what_is_no_script_with_the_path_of_an_interpreter(script: bytes) -> None:
    assert unbound(script) is None
