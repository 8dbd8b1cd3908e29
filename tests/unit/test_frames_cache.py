"""The frame cache, and frames of files in memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import IntegrityError
from stackbuild.files import tree_size
from stackbuild.frames.cache import FrameCache, dump_frame_set, read_frame_set
from stackbuild.frames.files import FileContent, Link, files_set
from stackbuild.frames.model import EntryPoint, Frame, FrameKind, FrameSet
from stackbuild.spec.model import FrameSettings
from tests.support.frames import contents

if TYPE_CHECKING:
    from pathlib import Path

_SETTINGS = FrameSettings()
_FILES: dict[str, FileContent | Link] = {
    "bin/tool": FileContent(data=b"#!/bin/sh\n", executable=True),
    "lib/x.txt": FileContent(data=b"text" * 1000),
    "bin/python": Link("../../cpython-3.12/bin/python3.12"),
}


def _made(cache: FrameCache, text: bytes = b"text") -> FrameSet:
    files = _FILES | {"lib/x.txt": FileContent(data=text)}
    return files_set(FrameKind.HEAD, "app", files, _SETTINGS, cache)


def test_files_become_one_frame(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    made = files_set(FrameKind.HEAD, "app", _FILES, _SETTINGS, cache)
    assert contents(cache, made, ["cpython-3.12"]) == {
        "bin/tool": (0o755, b"#!/bin/sh\n"),
        "lib/x.txt": (0o644, b"text" * 1000),
        "bin/python": (0o777, "../../cpython-3.12/bin/python3.12"),
    }
    assert [(frame.kind, frame.subject) for frame in made.frames] == [("head", "app")]


def test_the_last_frame_ends_the_archive(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    usual = files_set(FrameKind.HEAD, "app", _FILES, _SETTINGS, cache)
    last = files_set(FrameKind.HEAD, "app", _FILES, _SETTINGS, cache, end=True)
    assert last.frames[0].content_size == usual.frames[0].content_size + 1024
    assert contents(cache, last, ["cpython-3.12"]) == contents(cache, usual, ["cpython-3.12"])


def test_what_was_put_is_had_again(tmp_path: Path) -> None:
    made = _made(FrameCache(tmp_path))
    assert FrameCache(tmp_path).get(made.key) == made
    assert _made(FrameCache(tmp_path)) == made


@pytest.mark.parametrize(
    "change",
    [
        {"lib/x.txt": FileContent(data=b"Text" * 1000)},
        {"bin/tool": FileContent(data=b"#!/bin/sh\n")},
        {"bin/python": Link("python3")},
        {"more": FileContent(data=b"")},
    ],
)
def test_every_change_of_a_file_changes_the_key(
    tmp_path: Path, change: dict[str, FileContent | Link]
) -> None:
    cache = FrameCache(tmp_path)
    first = files_set(FrameKind.HEAD, "app", _FILES, _SETTINGS, cache)
    second = files_set(FrameKind.HEAD, "app", _FILES | change, _SETTINGS, cache)
    assert first.key != second.key
    assert first.frames[0].sha256 != second.frames[0].sha256


def test_the_level_changes_the_key(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    keys = {
        files_set(FrameKind.HEAD, "app", _FILES, FrameSettings(level=level), cache).key
        for level in (1, 9, 19)
    }
    assert len(keys) == 3


def test_a_truncated_frame_counts_as_missing(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    made = _made(cache)
    path = cache.frame_path(made.frames[0].sha256)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert cache.get(made.key) is None
    assert _made(cache) == made
    assert path.read_bytes() == whole


def test_a_missing_frame_or_a_damaged_set_counts_as_missing(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    made = _made(cache)
    cache.frame_path(made.frames[0].sha256).unlink()
    assert cache.get(made.key) is None
    made = _made(cache)
    record = tmp_path / "sets" / f"{made.key}.json"
    for damaged in (b"", b"[]", b'{"key": 1}', record.read_bytes()[:-20]):
        record.write_bytes(damaged)
        assert cache.get(made.key) is None
    assert cache.get("0" * 64) is None


def test_a_damaged_frame_is_told_and_removed(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    made = _made(cache)
    path = cache.frame_path(made.frames[0].sha256)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="a frame of app was damaged in the cache") as caught:
        list(cache.read(made.frames[0]))
    assert "run the command again" in str(caught.value)
    assert cache.get(made.key) is None
    with pytest.raises(IntegrityError, match="is missing from the cache"):
        list(cache.read(made.frames[0]))


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    with (
        pytest.raises(IntegrityError, match="a file changed while it was read"),
        cache.new_frame(FrameKind.HEAD, "app", 9, expected=10) as frame,
    ):
        frame.add("x", [b"12345"], size=10)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_pruning_keeps_what_it_is_told_to(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    first, second = _made(cache, b"one"), _made(cache, b"two")
    (tmp_path / "work" / "left over").write_bytes(b"xyz")
    before = tree_size(tmp_path)
    assert list(cache.sets()) == sorted([first, second], key=lambda item: item.key)
    freed = cache.prune({second.key}, grace=-1)
    assert tree_size(tmp_path) == before - freed
    assert freed > first.frames[0].size
    assert cache.get(first.key) is None
    assert cache.get(second.key) == second
    assert list((tmp_path / "work").iterdir()) == []


def test_pruning_leaves_what_is_in_use(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    old, used = _made(cache, b"old"), _made(cache, b"used")
    for path in tmp_path.rglob("*"):
        os.utime(path, (0, 0))
    assert cache.get(used.key) == used
    assert cache.prune(set()) > 0
    assert cache.get(old.key) is None
    assert cache.get(used.key) == used


def test_a_frame_that_two_sets_share_stays_with_the_other(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path)
    made = _made(cache)
    other = FrameSet(key="f" * 64, frames=made.frames, paths=made.paths)
    cache.put(other)
    cache.prune({other.key}, grace=-1)
    assert cache.get(made.key) is None
    assert cache.get(other.key) == other


def test_a_set_comes_back_from_json(tmp_path: Path) -> None:
    frame = Frame(
        kind=FrameKind.BYTECODE,
        subject="x 1",
        sha256="ab" * 32,
        size=1,
        content_size=2,
        files=3,
        content_sha256="cd" * 32,
    )
    point = EntryPoint(name="n", module="m", attribute="a.b", gui=True)
    full = FrameSet(
        key="k", frames=(frame,), paths=("a", "é"), entry_points=(point,), pth=("x",), licence="MIT"
    )
    path = tmp_path / "k.json"
    path.write_bytes(dump_frame_set(full))
    assert read_frame_set(path) == full
    assert type(read_frame_set(path).frames[0].kind) is FrameKind


@pytest.mark.parametrize("files", [{"../x": Link("y")}, {"/x": FileContent(data=b"")}])
def test_a_path_that_leaves_the_layer_is_refused(
    tmp_path: Path, files: dict[str, FileContent | Link]
) -> None:
    with pytest.raises(IntegrityError, match=r"'\.\.' part"):
        files_set(FrameKind.HEAD, "app", files, _SETTINGS, FrameCache(tmp_path))
