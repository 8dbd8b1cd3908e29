from __future__ import annotations

import os
from pathlib import Path

import pytest

from stackbuild.install.home import CopyLauncher, WriteHome, adjustments, needs_home
from stackbuild.platforms import Platform
from tests.support.publish import Publisher, publisher


@pytest.fixture
def made(tmp_path: Path) -> Publisher:
    return publisher(tmp_path)


@pytest.mark.parametrize(
    ("version", "needed"),
    [
        ("3.10.13", False),
        ("3.13.0", False),
        ("3.14.0b2", True),
        ("3.14.0", True),
        ("3.14.1", False),
        ("3.15.0", False),
    ],
)
def test_home_is_written_where_cpython_wants_it(version: str, needed: bool) -> None:
    assert needs_home("linux", version) is needed
    assert needs_home("macos", version) is needed
    assert needs_home("windows", version)


def test_linux_needs_nothing(made: Publisher) -> None:
    made.platform = Platform.LINUX_X64
    assert adjustments(made.stack(), Path("/work"), Path("/root/generations/1")) == ()


def test_windows_gets_home_and_launchers(made: Publisher) -> None:
    made.platform = Platform.WINDOWS_X64
    built, final = Path("/work"), Path("/root/generations/1")
    runtime, framework, *_ = made.stack()
    launchers = built / "cpython-3.12" / "Lib" / "venv" / "scripts" / "nt"
    scripts = built / "framework" / "Scripts"
    assert adjustments([runtime, framework], built, final) == (
        WriteHome(built / "framework" / "pyvenv.cfg", final / "cpython-3.12"),
        CopyLauncher(launchers / "python.exe", scripts / "python.exe"),
        CopyLauncher(launchers / "pythonw.exe", scripts / "pythonw.exe"),
    )


def test_home_of_an_early_3_14_is_its_bin(made: Publisher) -> None:
    made.platform = Platform.LINUX_X64
    runtime = made.publish("cpython-3.14", {"p": {"x": ""}}, python_version="3.14.0")
    app = made.publish("app", {"a": {"x": ""}}, below=[runtime], python_version="3.14.0")
    (change,) = adjustments([runtime, app], Path("/w"), Path("/g/1"))
    assert change == WriteHome(Path("/w/app/pyvenv.cfg"), Path("/g/1/cpython-3.14/bin"))


def test_writing_home_leaves_the_store_alone(tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    stored.write_text("include-system-site-packages = false\n")
    linked = tmp_path / "pyvenv.cfg"
    linked.hardlink_to(stored)
    WriteHome(linked, Path("/somewhere/bin")).apply()
    assert linked.read_text() == "home = /somewhere/bin\ninclude-system-site-packages = false\n"
    assert stored.read_text() == "include-system-site-packages = false\n"
    # A layer that is carried over has a home already.
    WriteHome(linked, Path("/else")).apply()
    assert linked.read_text() == "home = /else\ninclude-system-site-packages = false\n"


def test_writing_home_takes_any_bytes(tmp_path: Path) -> None:
    path = tmp_path / "pyvenv.cfg"
    path.write_bytes(b"prompt = \xff\x85\nhome = /old\n")
    change = WriteHome(path, Path(os.fsdecode(b"/d\xe9j\xc3\xa0/bin")))
    change.apply()
    assert path.read_bytes() == b"home = /d\xe9j\xc3\xa0/bin\nprompt = \xff\x85\n"
    assert change.is_applied()


def test_a_launcher_is_copied_where_the_runtime_has_one(tmp_path: Path) -> None:
    target = tmp_path / "layer" / "Scripts" / "python.exe"
    (tmp_path / "layer").mkdir()
    CopyLauncher(tmp_path / "none.exe", target).apply()
    assert not target.exists()
    (tmp_path / "python.exe").write_bytes(b"MZ")
    CopyLauncher(tmp_path / "python.exe", target).apply()
    assert target.read_bytes() == b"MZ"
