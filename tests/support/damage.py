"""Tar fragments that were valid and are damaged in one place or more, as hypothesis draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from stackbuild.frames.tarformat import BLOCK, END, header, padding
from stackbuild.names import path_fault

if TYPE_CHECKING:
    from collections.abc import Callable

Entry = tuple[str, tuple[bytes, bool] | str]
"""A path with the data and whether it is executable, or with the target of a link."""

_PARTS = st.one_of(
    st.text("abc é", min_size=1, max_size=4), st.sampled_from(["x" * 90, "y" * 120, "z" * 160])
)
_PATHS = st.lists(_PARTS, min_size=1, max_size=3).map("/".join)
_DATA = st.one_of(st.binary(max_size=40), st.sampled_from([511, 512, 513]).map(bytes))
_ENTRIES = st.lists(
    st.tuples(_PATHS, st.one_of(st.tuples(_DATA, st.booleans()), _PATHS)),
    min_size=1,
    max_size=4,
    unique_by=lambda entry: entry[0].partition("/")[0],
)
_FIELDS = {
    "name": (0, 100, [b"../x", b"/x", b"x/", b"a/../b", b"a\\b", b"C:x", b"\xff", b""]),
    "mode": (100, 8, [b"0004755\0", b"0002644\0", b"0000000\0", b"9\0", b"\x80\0\0\0\0\0\0\1"]),
    "size": (124, 12, [b"00000000001\0", b"77777777777\0", b"-0000000001\0", b"\0000000000017"]),
    "checksum": (148, 8, [b"000000\0 ", b"\0\0\0\0\0\0\0\0"]),
    "type": (156, 1, [b"0", b"1", b"2", b"3", b"5", b"6", b"L", b"g", b"x", b"\0"]),
    "target": (157, 100, [b"/etc", b"../../x", b"a/../../x", b"..", b"a", b""]),
    "magic": (257, 8, [b"ustar  \0", bytes(8)]),
    "prefix": (345, 155, [b"/", b"..", b"a", b"a/"]),
}


def member(path: str, content: tuple[bytes, bool] | str) -> bytes:
    """The blocks of one entry."""
    if isinstance(content, str):
        return header(path, link=content)
    data, executable = content
    return header(path, size=len(data), executable=executable) + data + padding(len(data))


def with_checksum(block: bytes) -> bytes:
    """A header block with the checksum that it should have (ustar interchange format)."""
    total = sum(block) - sum(block[148:156]) + 8 * 0x20
    return block[:148] + b"%06o\0 " % total + block[156:]


def _flip(draw: st.DrawFn, members: list[bytes]) -> None:
    """Change one byte of a header, of an extended header's data, or of a file."""
    index = draw(st.integers(0, len(members) - 1))
    blocks = bytearray(members[index])
    blocks[draw(st.integers(0, len(blocks) - 1))] ^= draw(st.integers(1, 255))
    members[index] = _summed(draw, bytes(blocks))


def _set_field(draw: st.DrawFn, members: list[bytes]) -> None:
    """Put what somebody with bad intentions would write into a field of a header."""
    index = draw(st.integers(0, len(members) - 1))
    blocks = members[index]
    place = BLOCK * draw(st.sampled_from(_headers(blocks)))
    start, length, values = _FIELDS[draw(st.sampled_from(sorted(_FIELDS)))]
    value = draw(st.sampled_from(values)).ljust(length, b"\0")
    blocks = blocks[: place + start] + value + blocks[place + start + length :]
    members[index] = _summed(draw, blocks)


def _headers(blocks: bytes) -> list[int]:
    """The numbers of the blocks of one entry that are headers: one, or two with pax."""
    return [0] if blocks[156:157] != b"x" else [0, 2]


def _summed(draw: st.DrawFn, blocks: bytes) -> bytes:
    """`blocks`, mostly with the right checksums, so that more than these is looked at."""
    if draw(st.integers(0, 4)):
        for number in _headers(blocks):
            place = number * BLOCK
            summed = with_checksum(blocks[place : place + BLOCK])
            blocks = blocks[:place] + summed + blocks[place + BLOCK :]
    return blocks


def _truncate(draw: st.DrawFn, members: list[bytes]) -> None:
    last = members[-1]
    members[-1] = last[: draw(st.integers(0, len(last) - 1))]


def _duplicate(draw: st.DrawFn, members: list[bytes]) -> None:
    members.insert(
        draw(st.integers(0, len(members))), members[draw(st.integers(0, len(members) - 1))]
    )


def _swap(draw: st.DrawFn, members: list[bytes]) -> None:
    first, second = (draw(st.integers(0, len(members) - 1)) for _ in range(2))
    members[first], members[second] = members[second], members[first]


def _drop_block(draw: st.DrawFn, members: list[bytes]) -> None:
    index = draw(st.integers(0, len(members) - 1))
    place = BLOCK * draw(st.integers(0, (len(members[index]) - 1) // BLOCK))
    members[index] = members[index][:place] + members[index][place + BLOCK :]


def _end(draw: st.DrawFn, members: list[bytes]) -> None:
    """End-of-archive blocks, or half of them, anywhere."""
    members.insert(
        draw(st.integers(0, len(members))), draw(st.sampled_from([END, END[:BLOCK], END[:100]]))
    )


def _below(draw: st.DrawFn, members: list[bytes]) -> None:
    """A file below something that may be a file or a link."""
    blocks = draw(st.sampled_from(members))
    name = blocks[:100].partition(b"\0")[0].decode("ascii", "replace").strip("/")
    if not path_fault(name):
        members.append(header(f"{name}/q", link="q"))


_CHANGES: list[Callable[[st.DrawFn, list[bytes]], None]] = [
    _flip,
    _set_field,
    _truncate,
    _duplicate,
    _swap,
    _drop_block,
    _end,
    _below,
]


@st.composite
def damaged_fragments(draw: st.DrawFn) -> bytes:
    """A valid fragment with one to three changes."""
    members = [member(path, content) for path, content in draw(_ENTRIES)]
    for _ in range(draw(st.integers(1, 3))):
        whole = [blocks for blocks in members if len(blocks) >= BLOCK]
        if not whole:
            break
        draw(st.sampled_from(_CHANGES))(draw, whole)
        members = whole
    return b"".join(members)
