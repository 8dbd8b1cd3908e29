"""The script in each layer that adjusts it after a move on Windows."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stackbuild.compose.layer_metadata import POSTINSTALL
from stackbuild.compose.postinstall_template import (
    LAUNCHERS,
    adjust,
    launcher,
    with_home,
    write_home,
)
from tests.support.archives import unpack_layer
from tests.support.smallstack import SmallStack

if TYPE_CHECKING:
    from pathlib import Path

BEFORE = b"home = C:\\elsewhere\ninclude-system-site-packages = false\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A runtime of CPython 3.13 and a layer, side by side."""
    launchers = tmp_path / "py/Lib/venv/scripts/nt"
    launchers.mkdir(parents=True)
    (launchers / "venvlauncher.exe").write_bytes(b"MZ console")
    (launchers / "venvwlauncher.exe").write_bytes(b"MZ window")
    (tmp_path / "py/python.exe").write_bytes(b"MZ")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/pyvenv.cfg").write_bytes(BEFORE)
    (tmp_path / "app/pyvenv.cfg").chmod(0o444)
    return tmp_path


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackbuild.compose.postinstall_template.RUNTIME", "py")


def test_home_and_launchers_fit_the_place(root: Path) -> None:
    shared = root / "in-the-store"
    shared.hardlink_to(root / "app/pyvenv.cfg")
    adjust(str(root / "app"))
    home = os.fsencode(root / "py")
    after = b"home = %b\ninclude-system-site-packages = false\n" % home
    assert (root / "app/pyvenv.cfg").read_bytes() == after
    assert shared.read_bytes() == BEFORE
    assert (root / "app/Scripts/python.exe").read_bytes() == b"MZ console"
    assert (root / "app/Scripts/pythonw.exe").read_bytes() == b"MZ window"
    assert not list(root.rglob("*.partial"))


def test_what_fits_is_not_written_again(root: Path) -> None:
    adjust(str(root / "app"))
    files = [root / "app/pyvenv.cfg", root / "app/Scripts/python.exe"]
    before = [path.stat() for path in files]
    adjust(str(root / "app"))
    assert [path.stat() for path in files] == before


def test_another_launcher_is_replaced(root: Path) -> None:
    """As after an upgrade of the runtime; times and sizes say nothing."""
    adjust(str(root / "app"))
    source = root / "py/Lib/venv/scripts/nt/venvlauncher.exe"
    target = root / "app/Scripts/python.exe"
    source.write_bytes(b"MZ CONSOLE")
    for path in (source, target):
        os.utime(path, (1, 1))
    target.chmod(0o444)
    adjust(str(root / "app"))
    assert target.read_bytes() == b"MZ CONSOLE"


def test_a_runtime_may_lack_the_launcher_for_windows(root: Path) -> None:
    (root / "py/Lib/venv/scripts/nt/venvwlauncher.exe").unlink()
    adjust(str(root / "app"))
    assert [path.name for path in (root / "app/Scripts").iterdir()] == ["python.exe"]


def test_a_layer_gets_its_first_home(root: Path) -> None:
    path = root / "app/pyvenv.cfg"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        adjust(str(root / "app"))
    path.write_bytes(b"version = 3.12\n")
    adjust(str(root / "app"))
    assert path.read_bytes() == b"home = %b\nversion = 3.12\n" % os.fsencode(root / "py")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, None),
        (b"prompt = home \n", b"prompt = home \n"),
        (b"home = /a\nprompt = x\n", b"home = /b\nprompt = x\n"),
        (b"prompt = x\nhome = /a\n", b"home = /b\nprompt = x\n"),
    ],
)
def test_only_an_existing_home_is_adjusted(
    tmp_path: Path, before: bytes | None, after: bytes | None
) -> None:
    path = tmp_path / "pyvenv.cfg"
    if before is not None:
        path.write_bytes(before)
    write_home(str(tmp_path), "/b", only_existing=True)
    assert (path.read_bytes() if path.exists() else None) == after


def test_a_missing_runtime_is_named(root: Path) -> None:
    (root / "py").rename(root / "other")
    with pytest.raises(SystemExit, match="the runtime of this layer is missing") as stop:
        adjust(str(root / "app"))
    assert f"python.exe in {root / 'py'}" in str(stop.value)
    assert (root / "app/pyvenv.cfg").read_bytes() == BEFORE


def test_launchers_of_old_and_new_runtimes(root: Path) -> None:
    old = root / "old/Lib/venv/scripts/nt"
    old.mkdir(parents=True)
    (old / "python.exe").write_bytes(b"MZ")
    assert launcher(str(root / "old"), "python.exe") == str(old / "python.exe")
    assert launcher(str(root / "old"), "pythonw.exe") is None
    (old / "pythonw.exe").write_bytes(b"MZ")
    assert launcher(str(root / "old"), "pythonw.exe") == str(old / "pythonw.exe")
    assert {name for name in LAUNCHERS if launcher(str(root / "py"), name)} == set(LAUNCHERS)


def test_home_is_put_first_and_replaced() -> None:
    rest = b"prompt = \xff\x85\nversion = 3.12\n"
    once = with_home(rest, "/a")
    assert once == b"home = /a\n" + rest
    assert with_home(once, os.fsdecode(b"/d\xe9")) == b"home = /d\xe9\n" + rest


@pytest.mark.skipif(os.name == "nt", reason="on Windows it adjusts the layer")
def test_it_changes_nothing_elsewhere(root: Path) -> None:
    import stackbuild.compose.postinstall_template as template

    runpy.run_path(str(template.__file__), run_name="__main__")
    assert (root / "app/pyvenv.cfg").read_bytes() == BEFORE


def test_each_layer_has_it(tmp_path: Path) -> None:
    stack = SmallStack(tmp_path / "project", tmp_path / "cache")
    (layer,) = stack.publish(["app"]).layers
    unpack_layer(layer.path, tmp_path / "app")
    script = tmp_path / "app" / POSTINSTALL
    assert runpy.run_path(str(script))["RUNTIME"] == "cpython"
    configuration = (tmp_path / "app/pyvenv.cfg").read_bytes()
    subprocess.run([sys.executable, "-I", script], check=True)
    assert (tmp_path / "app/pyvenv.cfg").read_bytes() == configuration
