"""Patches: contents from contents, within bounds."""

from __future__ import annotations

import io
import random
import resource
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackbuild.errors import IntegrityError
from stackbuild.frames import patches
from stackbuild.frames.model import Frame, FrameKind
from stackbuild.frames.patches import (
    apply_patch,
    grouped,
    limited,
    make_patch,
    nearest,
    source_entry,
    source_of,
)
from stackbuild.frames.tarformat import TarReader, header, padding
from stackbuild.zstd import CompressionParameter
from tests.support.zstd import compressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOISE = random.Random(1).randbytes(200_000)


def patch_of(source: bytes, contents: bytes) -> bytes:
    return make_patch(source, [contents], len(contents))


def applied(source: bytes, patch: bytes, size: int) -> bytes:
    return b"".join(apply_patch(source, io.BytesIO(patch), size))


def frame(size: int, name: str = "1") -> Frame:
    return Frame(
        kind=FrameKind.DISTRIBUTION,
        subject="demo 1",
        sha256=name * 64,
        size=size,
        content_size=size,
        files=1,
    )


@st.composite
def edits(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Contents, and the same after some random edits."""
    source = draw(st.binary(max_size=3000)) + NOISE[: draw(st.integers(0, 9000))]
    contents = bytearray(source)
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(contents)))
        contents[at : at + draw(st.integers(0, 500))] = draw(st.binary(max_size=500))
    return source, bytes(contents)


@given(edits())
def test_a_patch_makes_any_contents_from_any_others(pair: tuple[bytes, bytes]) -> None:
    source, contents = pair
    patch = patch_of(source, contents)
    assert applied(source, patch, len(contents)) == contents
    assert patch_of(source, contents) == patch


def test_how_contents_are_divided_does_not_change_a_patch() -> None:
    contents = NOISE[5000:] + b"new"
    pieces = [contents[at : at + 777] for at in range(0, len(contents), 777)]
    patch = patch_of(NOISE, contents)
    assert make_patch(bytearray(NOISE), pieces, len(contents)) == patch
    assert len(patch) < 200


@pytest.mark.parametrize(
    ("source", "change", "size", "message"),
    [
        (NOISE, lambda patch: patch[:-9], 200_004, "ends .* bytes too early"),
        (NOISE, lambda patch: b"", 200_004, "ends 200004 bytes too early"),
        (NOISE, lambda patch: patch, 200_003, "has more than 200003 bytes"),
        (NOISE, lambda patch: patch, 200_005, "has other contents"),
        (NOISE, lambda patch: patch + b"x", 200_004, "has other contents"),
        (NOISE[1:], lambda patch: patch, 200_004, "cannot be decompressed"),
        (b"", lambda patch: patch, 200_004, "cannot be decompressed"),
        (NOISE, lambda patch: b"x" * 100, 200_004, "cannot be decompressed"),
    ],
)
def test_a_damaged_patch_is_refused(
    source: bytes, change: Callable[[bytes], bytes], size: int, message: str
) -> None:
    patch = change(patch_of(NOISE, NOISE + b"more"))
    with pytest.raises(IntegrityError, match=f"a patch {message}"):
        applied(source, patch, size)


def test_a_window_of_more_than_128_mib_is_refused() -> None:
    wide = compressed(b"x" * 1000, {CompressionParameter.window_log: 28})
    with pytest.raises(IntegrityError, match=r"cannot be decompressed: .*memory"):
        applied(b"", wide, 1000)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_a_patch_with_many_more_bytes_takes_no_memory() -> None:
    bomb = patch_of(NOISE, bytes(1 << 26))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(IntegrityError, match="more than 1000000 bytes"):
        applied(NOISE, bomb, 1_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80 << 10


def test_a_source_is_the_same_from_a_frame_and_from_its_unpacked_files() -> None:
    files = {"a.py": b"1" * 700, "bin/tool": b"#!/bin/sh\n"}

    def tar() -> Iterator[bytes]:
        yield header("lib/link", link="../a.py")
        for path, data in files.items():
            executable = path == "bin/tool"
            yield header(path, size=len(data), executable=executable) + data + padding(len(data))
        yield header("empty/")

    members = TarReader(io.BytesIO(b"".join(tar())).read)
    unpacked = [
        piece
        for path, data in files.items()
        for piece in source_entry(path, len(data), path == "bin/tool", [data])
    ]
    assert b"".join(source_of(members)) == b"".join(unpacked)
    assert len(b"".join(unpacked)) == 512 + 1024 + 512 + 512


def test_a_source_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "MAX_BYTES", 10)
    assert limited([b"12345", b"67890"]) == b"1234567890"
    with pytest.raises(IntegrityError, match="the source of a patch is too large"):
        limited([b"12345", b"678901"])


def test_groups_are_as_large_as_the_limit_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "MAX_BYTES", 10)
    frames = [frame(size) for size in (4, 6, 1, 11, 9, 2)]
    sizes = [[one.content_size for one in group] for group in grouped(frames)]
    assert sizes == [[4, 6], [1, 9], [2]]
    assert grouped([frame(11)]) == []


def test_sources_of_a_part_are_those_in_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "MAX_BYTES", 20)
    new = [frame(10, name) for name in "1234"]
    old = [frame(10, name) for name in "abcd"]
    assert nearest(old, new, new[:2]) == old[:2]
    assert nearest(old, new, new[2:]) == old[2:]
    assert nearest(old, new, new[3:]) == old[2:]
    assert nearest([frame(21, "e")], new, new) == []
