from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from stackbuild import windows


@pytest.mark.parametrize(
    ("path", "long"),
    [
        ("C:\\a\\b", "\\\\?\\C:\\a\\b"),
        ("C:/a/../b c/", "\\\\?\\C:\\b c"),
        ("\\\\server\\share\\a", "\\\\?\\UNC\\server\\share\\a"),
        ("\\\\?\\C:\\a", "\\\\?\\C:\\a"),
    ],
)
def test_extended_paths(path: str, long: str) -> None:
    assert windows.extended_path(path) == long
    assert windows.shown(long) == path.replace("C:/a/../b c/", "C:\\b c").replace("\\\\?\\", "")


def test_other_systems_keep_their_paths() -> None:
    if os.name == "nt":
        assert windows.inside("C:\\a", "b/c") == "C:\\a\\b\\c"
    else:
        assert windows.extended(Path("a/b")) == "a/b"
        assert windows.inside("a\\x", "b/c\\d") == "a\\x/b/c\\d"
    assert windows.shown("/a/b") == "/a/b"


def test_a_file_that_is_scanned_is_renamed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a virus scanner holds it for a moment."""
    errors = [PermissionError(13, "denied"), PermissionError(13, "denied")]
    rename = os.rename

    def busy(source: str, target: str) -> None:
        if errors:
            raise errors.pop()
        rename(source, target)

    monkeypatch.setattr("stackbuild.windows.os.rename", busy)
    (tmp_path / "a").touch()
    with pytest.raises(PermissionError):
        windows.rename(tmp_path / "a", tmp_path / "b")
    waited: list[float] = []
    monkeypatch.setattr(windows, "_attempts", lambda: 20)
    monkeypatch.setattr("stackbuild.windows.time.sleep", waited.append)
    windows.rename(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").is_file()
    assert waited == [0.1]
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError):
        windows.rename(tmp_path / "a", tmp_path / "b")


def test_removing_a_read_only_file_keeps_its_other_links_read_only(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.touch(0o444)
    other.hardlink_to(one)
    windows.unlink(one)
    assert not one.exists()
    assert not other.stat().st_mode & stat.S_IWUSR


def test_a_read_only_file_is_replaced(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch(0o444)
    new.write_text("x")
    windows.replace(new, old)
    assert old.read_text() == "x"


class WindowsFiles:
    """Stands for `os` on Windows, with the files `modes`; `calls` are the changes."""

    def __init__(self, modes: dict[str, int]) -> None:
        self.name, self.sep, self.fspath = "nt", "\\", os.fspath
        self.modes, self.calls = modes, list[tuple[str, ...]]()

    def lstat(self, path: str) -> SimpleNamespace:
        if path not in self.modes:
            raise FileNotFoundError(path)
        return SimpleNamespace(st_mode=self.modes[path])

    def unlink(self, path: str) -> None:
        self.calls.append(("unlink", path))

    def replace(self, source: str, target: str) -> None:
        self.calls.append(("replace", source, target))


NEW, OLD = "\\\\?\\C:\\new", "\\\\?\\C:\\old"


@pytest.mark.parametrize(
    ("modes", "removed"),
    [
        ({OLD: 0o100444}, [("unlink", OLD)]),
        ({OLD: 0o100666}, []),
        ({}, []),
    ],
)
def test_windows_replaces_no_read_only_file(
    monkeypatch: pytest.MonkeyPatch, modes: dict[str, int], removed: list[tuple[str, ...]]
) -> None:
    files = WindowsFiles(modes)
    monkeypatch.setattr(windows, "os", files)
    assert windows._attempts() > 1
    windows.replace("C:/new", "C:\\a\\..\\old")
    assert files.calls == [*removed, ("replace", NEW, OLD)]
    assert windows.inside("C:\\a", "b/c") == "C:\\a\\b\\c"
    files.calls.clear()
    windows.unlink("C:/old")
    assert files.calls == [("unlink", OLD)]


def test_a_file_that_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: str) -> None:
        raise PermissionError(13, "denied")

    (tmp_path / "a").touch()
    monkeypatch.setattr("stackbuild.windows.os.unlink", denied)
    with pytest.raises(PermissionError):
        windows.unlink(tmp_path / "a")
    (tmp_path / "a").chmod(0o444)
    if sys.platform != "win32":
        with pytest.raises(PermissionError):
            windows.unlink(tmp_path / "a")
    removed: list[str] = []
    monkeypatch.setattr(windows, "_unlink_read_only", removed.append, raising=False)
    monkeypatch.setattr("stackbuild.windows.sys.platform", "win32")
    windows.unlink(tmp_path / "a")
    assert removed == [windows.extended(tmp_path / "a")]
    (tmp_path / "a").chmod(0o644)
    with pytest.raises(PermissionError):
        windows.unlink(tmp_path / "a")
