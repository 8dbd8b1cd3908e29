"""Frames in the store: there or not, listed, taken out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from stackbuild.install.store import Listing, Store, StoredFile

if TYPE_CHECKING:
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
