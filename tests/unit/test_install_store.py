"""Frames in the store: there or not, listed, taken out."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from stackbuild.errors import InstallError
from stackbuild.install.store import Listing, Store, StoredFile
from stackbuild.mark import MARK, Kind, Mark, read_mark
from stackbuild.messages import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHA256 = "0123456789abcdef" * 4
LISTING = Listing(
    directories=("bin", "lib", "lib/é"),
    files=(
        StoredFile("bin/run", 7, True, 0xDEADBEEF, 1),
        StoredFile("lib/é/data", 0, False, 0, 1_700_000_000_123_456_789),
    ),
    links=(("bin/also", "run"),),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, text: str | None = None, sha256: str = SHA256) -> None:
    """A frame with the listing `text`."""
    (store.tree(sha256) / "bin").mkdir(parents=True)
    (store.tree(sha256) / "bin/run").write_text("content")
    store.listing_path(sha256).write_text(LISTING.to_json() if text is None else text)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_where_things_stand(store: Store) -> None:
    assert store.tree(SHA256) == store.directory / SHA256 / "tree"
    assert store.listing_path(SHA256) == store.directory / SHA256 / "files.json"
    assert store.staging == store.directory / "staging"


def test_a_listing_comes_back(store: Store) -> None:
    put(store)
    assert json.loads(LISTING.to_json()) == {
        "format": 2,
        "directories": ["bin", "lib", "lib/é"],
        "files": [
            ["bin/run", 7, True, 0xDEADBEEF, 1],
            ["lib/é/data", 0, False, 0, 1_700_000_000_123_456_789],
        ],
        "links": [["bin/also", "run"]],
    }
    assert " " not in LISTING.to_json()
    assert store.has(SHA256)
    assert store.listing(SHA256) == LISTING


def test_a_listing_is_read_once(store: Store) -> None:
    put(store)
    first = store.listing(SHA256)
    store.listing_path(SHA256).unlink()
    assert store.listing(SHA256) is first
    store.discard(SHA256)
    assert store.listing(SHA256) is None


def odd(**values: Any) -> Listing:
    return replace(LISTING, **values)


def odd_file(**values: Any) -> StoredFile:
    return replace(LISTING.files[0], **values)


@pytest.mark.parametrize(
    "listing",
    [
        odd(directories=("bin", 1)),
        odd(links=(("bin/also", None),)),
        odd(links=((3, "run"),)),
        odd(files=(odd_file(), odd_file(path=None))),
        odd(files=(odd_file(executable=1), odd_file())),
        odd(files=(odd_file(), odd_file(size="7"))),
        odd(files=(odd_file(size=True), odd_file())),
        odd(files=(odd_file(), odd_file(crc32=1.5))),
        odd(files=(odd_file(mtime_ns=None), odd_file())),
    ],
)
def test_a_listing_with_a_value_of_another_type_is_none(store: Store, listing: Listing) -> None:
    put(store, listing.to_json())
    assert store.listing(SHA256) is None


@pytest.mark.parametrize(
    ("text", "is_there"),
    [
        ("", False),
        ("{", False),
        (LISTING.to_json()[:-1], False),
        (LISTING.to_json()[:-2] + "}", True),  # found out when it is read
        (LISTING.to_json().replace('"format":2', '"format":3'), False),
        (LISTING.to_json().replace('"format":2', '"format":22'), False),
        ('{"format":2,}', True),
        ('{"format":2,"directories":[],"files":[],"links":3}', True),
        ('{"format":2,"directories":[],"files":[["a",1]],"links":[]}', True),
        ('{"format":2,"directories":[],"files":[]}', True),
        ('{"format":2,"directories":[],"files":[],"links":[["a"]]}', True),
        ('{"directories":[],"files":[],"links":[],"format":3}', False),
    ],
)
def test_a_listing_that_cannot_be_read_is_none(store: Store, text: str, is_there: bool) -> None:
    put(store, text)
    assert store.has(SHA256) == is_there
    assert store.listing(SHA256) is None


def test_a_frame_that_is_not_there(store: Store) -> None:
    assert not store.has(SHA256)
    assert store.listing(SHA256) is None
    assert list(store.frames()) == []
    store.directory.mkdir()
    (store.directory / SHA256).write_text("a file")
    assert not store.has(SHA256)
    assert store.listing(SHA256) is None
    assert list(store.frames()) == []


@pytest.mark.parametrize("kind", ["missing", "a file", "a link"])
def test_a_listing_without_its_tree_is_none(store: Store, kind: str) -> None:
    put(store)
    store.tree(SHA256).rename(store.directory / "away")
    if kind == "a file":
        store.tree(SHA256).touch()
    if kind == "a link":
        store.tree(SHA256).symlink_to(store.directory / "away")
    assert store.listing(SHA256) is None


def test_a_frame_that_is_a_link_is_none(store: Store) -> None:
    put(store)
    (store.directory / SHA256).rename(store.directory / "away")
    (store.directory / SHA256).symlink_to("away")
    assert store.listing(SHA256) is None


def test_only_frames_are_frames(store: Store) -> None:
    names = ["f" * 64, "0" * 64]
    for name in (*names, "f" * 63, "g" * 64, "F" * 64, f"{'f' * 64}x", "staging"):
        put(store, sha256=name)
    (store.directory / ("a" * 64)).mkdir()
    assert sorted(store.frames()) == sorted(names)


def test_a_frame_is_taken_out_whole(store: Store) -> None:
    put(store)
    kept = "e" * 64
    put(store, sha256=kept)
    # What a killed process was taking out.
    left = store.staging / f"{SHA256}.gone" / "tree"
    left.mkdir(parents=True)
    (left / "x").touch()
    outside = store.directory.parent / "generation"
    outside.hardlink_to(store.tree(SHA256) / "bin/run")
    store.discard(SHA256)
    assert list(store.frames()) == [kept]
    assert list(store.staging.iterdir()) == []
    assert outside.read_text() == "content"
    store.discard(SHA256)
    assert list(store.frames()) == [kept]
    store.sweep()
    assert not store.staging.exists()
    store.sweep()


def test_nothing_can_be_taken_out_of_what_is_not_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "store")
    with umask(0):
        store.discard(SHA256)
    assert mode(store.staging) == 0o755


def test_a_new_store_is_marked_and_private(tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "store")
    with umask(0o001):
        store.claim()
    assert read_mark(store.directory, Kind.STORE) == Mark(Kind.STORE)
    assert mode(store.directory) == 0o754
    store.claim()
    store.check()
    assert mode(store.directory) == 0o754


def test_an_empty_directory_becomes_a_store(store: Store) -> None:
    store.directory.mkdir()
    store.directory.chmod(0o2775)
    store.claim()
    assert read_mark(store.directory, Kind.STORE) == Mark(Kind.STORE)
    assert mode(store.directory) == 0o2755


def test_a_private_directory_keeps_its_mode(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.directory.mkdir(mode=0o700)

    def fail(path: Path, mode: int) -> None:
        # As in a directory of another account.
        raise PermissionError(f"chmod {mode:o} {path}")

    monkeypatch.setattr(type(store.directory), "chmod", fail)
    store.claim()
    assert mode(store.directory) == 0o700


def test_another_directory_is_refused(store: Store) -> None:
    store.directory.mkdir()
    store.directory.chmod(0o775)
    (store.directory / "mine").touch()
    for refuse in (store.claim, store.check):
        with pytest.raises(InstallError, match="is not empty and is not a store directory"):
            refuse()
    assert [path.name for path in store.directory.iterdir()] == ["mine"]
    assert mode(store.directory) == 0o775
    (store.directory / MARK).write_text("stackbuild cache, format 1\n")
    for refuse in (store.claim, store.check):
        with pytest.raises(InstallError, match="as a store directory: its mark has another kind"):
            refuse()


def test_a_store_that_others_may_write_is_refused(store: Store) -> None:
    store.claim()
    store.directory.chmod(0o775)
    for refuse in (store.claim, store.check):
        with pytest.raises(InstallError, match="other accounts may write in a store") as caught:
            refuse()
        assert "exFAT, can have what `stackbuild export` makes" in str(caught.value)
    assert mode(store.directory) == 0o775


def test_a_frame_that_others_may_write_is_refused(store: Store) -> None:
    put(store)
    for directory in (store.directory / SHA256, store.tree(SHA256)):
        before = mode(directory)
        directory.chmod(0o775)
        with pytest.raises(InstallError, match="other accounts may write in a store") as caught:
            store.listing(SHA256)
        assert dict(caught.value.details)["file"] == str(directory)
        directory.chmod(before)
    assert store.listing(SHA256) == LISTING


def test_roots_that_use_a_store_are_remembered(store: Store, tmp_path: Path) -> None:
    one, other = Mark(Kind.ROOT, "1" * 32), Mark(Kind.ROOT, "2" * 32)
    place = tmp_path / os.fsdecode(b"root \xff")
    assert not store.serves(one)
    store.enter_root(one, place)
    assert store.serves(one)
    assert not store.serves(other)
    entry = store.directory / "roots" / one.id
    assert entry.read_bytes() == os.fsencode(place) + b"\n"
    # A root that has moved is still the same.
    store.enter_root(one, tmp_path / "moved")
    assert entry.read_bytes() == os.fsencode(place) + b"\n"
    assert store.serves(one)


def test_a_store_is_locked_against_other_processes(store: Store) -> None:
    store.claim()
    heard: list[str] = []
    # flock(2) locks two descriptors of one process against each other too.
    with (store.directory / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        class Waits(Silent):
            def note(self, text: str) -> None:
                heard.append(text)
                fcntl.flock(file, fcntl.LOCK_UN)

        with store.locked(Waits()):
            assert heard == [f"waiting for another stackbuild process in {store.directory}"]
            with pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
