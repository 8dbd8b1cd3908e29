from __future__ import annotations

import os
from pathlib import Path

import pytest

from stackbuild.errors import InstallError
from stackbuild.install.home import (
    CopyLauncher,
    WriteHome,
    adjustments,
    must_be_adjusted,
    needs_home,
)
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
    layers = made.stack()
    assert adjustments(layers, Path("/built").joinpath, Path("/final")) == ()
    assert not must_be_adjusted(layers)


def test_windows_gets_home_and_launchers(made: Publisher) -> None:
    made.platform = Platform.WINDOWS_X64
    built, final = Path("/built"), Path("/final")
    runtime, framework, *_ = made.stack()
    scripts = built / "framework" / "Scripts"
    launchers = (
        CopyLauncher(built / "cpython-3.12", scripts / "python.exe"),
        CopyLauncher(built / "cpython-3.12", scripts / "pythonw.exe"),
    )
    home = WriteHome(built / "framework" / "pyvenv.cfg", final / "cpython-3.12")
    assert adjustments([runtime, framework], built.joinpath, final) == (home, *launchers)
    assert adjustments([runtime, framework], built.joinpath, None) == launchers
    assert must_be_adjusted([runtime, framework])
    assert not must_be_adjusted([runtime])


def test_home_of_an_early_3_14_is_its_bin(made: Publisher) -> None:
    made.platform = Platform.LINUX_X64
    runtime = made.publish("cpython-3.14", {"p": {"x": ""}}, python_version="3.14.0")
    app = made.publish("app", {"a": {"x": ""}}, below=[runtime], python_version="3.14.0")
    (change,) = adjustments([runtime, app], Path("/w").joinpath, Path("/g/1"))
    assert change == WriteHome(Path("/w/app/pyvenv.cfg"), Path("/g/1/cpython-3.14/bin"))
    assert adjustments([runtime, app], Path("/w").joinpath, None) == ()
    assert must_be_adjusted([runtime, app])


def test_writing_home_leaves_the_store_alone(tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    stored.write_text("include-system-site-packages = false\n")
    linked = tmp_path / "pyvenv.cfg"
    linked.hardlink_to(stored)
    change = WriteHome(linked, Path("/somewhere/bin"))
    assert not change.is_applied()
    change.apply()
    assert change.is_applied()
    assert linked.read_text() == "home = /somewhere/bin\ninclude-system-site-packages = false\n"
    assert stored.read_text() == "include-system-site-packages = false\n"
    # A layer that was moved, or is carried over, has a home already.
    assert not WriteHome(linked, Path("/else")).is_applied()
    WriteHome(linked, Path("/else")).apply()
    assert linked.read_text() == "home = /else\ninclude-system-site-packages = false\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pyvenv.cfg", "stored"]


def test_writing_home_takes_any_bytes(tmp_path: Path) -> None:
    path = tmp_path / "pyvenv.cfg"
    path.write_bytes(b"prompt = \xff\x85\nhome = /old\n")
    change = WriteHome(path, Path(os.fsdecode(b"/d\xe9j\xc3\xa0/bin")))
    change.apply()
    assert path.read_bytes() == b"home = /d\xe9j\xc3\xa0/bin\nprompt = \xff\x85\n"
    assert change.is_applied()


@pytest.mark.parametrize("shipped", ["python.exe", "venvlauncher.exe"])
def test_a_launcher_is_copied(tmp_path: Path, shipped: str) -> None:
    runtime, target = tmp_path / "py", tmp_path / "layer" / "Scripts" / "python.exe"
    launchers = runtime / "Lib" / "venv" / "scripts" / "nt"
    launchers.mkdir(parents=True)
    (launchers / shipped).write_bytes(b"MZ")
    target.parent.parent.mkdir()
    change = CopyLauncher(runtime, target)
    assert not change.is_applied()
    change.apply()
    assert change.is_applied()
    assert target.read_bytes() == b"MZ"
    target.chmod(0o644)
    target.write_bytes(b"ZM")
    assert not change.is_applied()


def test_a_runtime_without_launchers(tmp_path: Path) -> None:
    scripts = tmp_path / "layer" / "Scripts"
    change = CopyLauncher(tmp_path / "py", scripts / "python.exe")
    assert not change.is_applied()
    with pytest.raises(InstallError) as caught:
        change.apply()
    assert str(caught.value) == (
        "the runtime has no launcher for virtual environments\n"
        "  layer: py\n"
        f"  file: {tmp_path / 'py/Lib/venv/scripts/nt'}\n"
        "  expected: venvlauncher.exe or python.exe\n"
        "  to fix: publish the runtime from an interpreter that has the venv module"
    )
    # Only programs with windows need the other one.
    windowed = CopyLauncher(tmp_path / "py", scripts / "pythonw.exe")
    assert windowed.is_applied()
    windowed.apply()
    assert not scripts.exists()
