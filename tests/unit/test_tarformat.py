"""The tar fragments that frames hold."""

from __future__ import annotations

import io
import posixpath
import tarfile
from pathlib import PurePosixPath

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from stackbuild.errors import IntegrityError
from stackbuild.files import EARLIEST
from stackbuild.frames.tarformat import BLOCK, END, TarReader, header
from tests.support.damage import damaged_fragments, member

_ASCII = st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="/\\:")
_ANY = st.characters(exclude_categories=["Cs"], exclude_characters="\0/\\:")
_PARTS = st.one_of(
    st.text(_ASCII, min_size=1, max_size=30),
    st.text(_ASCII, min_size=90, max_size=160),
    st.text(_ANY, min_size=1, max_size=60),
).filter(lambda part: part not in (".", ".."))
_PATHS = st.lists(_PARTS, min_size=1, max_size=5).map("/".join)
_DATA = st.one_of(st.binary(max_size=40), st.sampled_from([511, 512, 513, 1024]).map(bytes))
_ENTRIES = st.lists(
    st.tuples(_PATHS, st.one_of(st.tuples(_DATA, st.booleans()), _PATHS)),
    max_size=6,
    unique_by=lambda entry: entry[0].partition("/")[0],
)


def _fragment(entries: list[tuple[str, tuple[bytes, bool] | str]]) -> bytes:
    return b"".join(member(path, content) for path, content in entries)


def _read(fragment: bytes) -> list[tuple[str, tuple[bytes, bool] | str]]:
    return [
        (
            member.path,
            member.link
            if member.link is not None
            else (b"".join(member.data()), member.mode == 0o755),
        )
        for member in TarReader(io.BytesIO(fragment).read)
    ]


@given(_ENTRIES)
def test_our_reader_gives_what_was_written(
    entries: list[tuple[str, tuple[bytes, bool] | str]],
) -> None:
    fragment = _fragment(entries)
    assert len(fragment) % BLOCK == 0
    assert _read(fragment) == entries
    assert _read(fragment + END) == entries


@given(_ENTRIES)
def test_tarfile_reads_what_was_written(
    entries: list[tuple[str, tuple[bytes, bool] | str]],
) -> None:
    with tarfile.open(fileobj=io.BytesIO(_fragment(entries) + END), mode="r:") as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == [path for path, _ in entries]
        for member, (_, content) in zip(members, entries, strict=True):
            assert (member.mtime, member.uid, member.gid) == (EARLIEST, 0, 0)
            assert (member.uname, member.gname) == ("", "")
            if isinstance(content, str):
                assert member.issym()
                assert member.linkname == content
                continue
            data, executable = content
            file = archive.extractfile(member)
            assert file is not None
            assert file.read() == data
            assert member.mode == (0o755 if executable else 0o644)


@example("n" * 100)
@given(st.text(_ASCII, min_size=1, max_size=100).filter(lambda name: name not in (".", "..")))
def test_a_short_ascii_path_needs_one_block(name: str) -> None:
    assert len(header(name)) == BLOCK


def _texts(block: bytes) -> tuple[bytes, bytes, bytes]:
    """The prefix, the name and the target of a link in a header block."""
    fields = block[345:500], block[:100], block[157:257]
    prefix, name, target = (field.rstrip(b"\0") for field in fields)
    return prefix, name, target


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("d", "n" * 100),
        ("d" * 120, "n"),
        ("d" * 150, "n" * 100),
        ("d" * 155, "n" * 50),
        # The first slash that leaves few enough letters behind it.
        ("d" * 60, "e" * 60 + "/" + "n" * 30),
    ],
)
def test_a_long_path_is_split_where_ustar_can(prefix: str, name: str) -> None:
    path = f"{prefix}/{name}"
    block = header(path)
    assert len(block) == BLOCK
    assert _texts(block) == (prefix.encode(), name.encode(), b"")
    assert _read(block) == [(path, (b"", False))]


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("n" * 101, "n" * 100),
        ("X" * 150, "X" * 100),
        ("d" * 156 + "/" + "n" * 50, "d" * 100),
        ("d" * 120 + "/", "d" * 100),
        # A slash at its end would make a directory of the file.
        ("d" * 99 + "/" + "n" * 200, "d" * 99),
        ("d" * 99 + " " + "n" * 100, "d" * 99 + " "),
        ("lib/é", "lib/?"),
    ],
)
def test_a_path_that_ustar_cannot_hold_has_an_extended_header(path: str, short: str) -> None:
    blocks = header(path)
    assert blocks.startswith(b"././@PaxHeader\0")
    assert _texts(blocks[-BLOCK:]) == (b"", short.encode(), b"")
    assert [member.path for member in TarReader(io.BytesIO(blocks).read)] == [path.rstrip("/")]


def test_the_target_of_a_link() -> None:
    assert _texts(header("a", link="n" * 100)) == (b"", b"a", b"n" * 100)
    for link, short in (("n" * 101, b"n" * 100), ("é", b"?")):
        blocks = header("a", link=link)
        assert blocks.startswith(b"././@PaxHeader\0")
        assert _texts(blocks[-BLOCK:]) == (b"", b"a", short)
        assert _read(blocks) == [("a", link)]


def test_a_file_of_more_than_8_gib_says_its_size() -> None:
    size = 9 * 1024**3
    blocks = header("large", size=size)
    with tarfile.open(fileobj=io.BytesIO(blocks + END), mode="r:") as archive:
        member = archive.next()
    assert member is not None
    assert member.size == size
    assert next(iter(TarReader(io.BytesIO(blocks).read))).size == size


def test_a_size_is_in_the_header_block_where_it_has_a_field_for_it() -> None:
    block = header("large", size=8**11 - 1)
    assert (len(block), block[124:136]) == (BLOCK, b"77777777777\0")
    blocks = header("large", size=8**11)
    assert blocks.startswith(b"././@PaxHeader\0")
    assert blocks[-BLOCK:][124:136] == b"00000000000\0"


def test_an_empty_directory() -> None:
    (member,) = TarReader(io.BytesIO(header("lib/empty/")).read)
    assert (member.path, member.is_directory, member.mode) == ("lib/empty", True, 0o755)


def test_a_directory_may_come_before_what_is_in_it() -> None:
    paths = [member.path for member in TarReader(io.BytesIO(header("d/") + header("d/x")).read)]
    assert paths == ["d", "d/x"]


def test_a_name_may_end_with_any_letter() -> None:
    for path, link in (("libX", "aX"), ("X" * 150 + "/" + "X" * 100, "X")):
        assert _read(header(path, link=link)) == [(path, link)]


def test_data_that_nobody_reads_is_skipped() -> None:
    fragment = _fragment([("a", (b"x" * 600, False)), ("b", (b"y", False))])
    assert [member.path for member in TarReader(io.BytesIO(fragment).read)] == ["a", "b"]


@given(_ENTRIES, st.integers(1, 700))
def test_short_reads_make_no_difference(
    entries: list[tuple[str, tuple[bytes, bool] | str]], most: int
) -> None:
    stream = io.BytesIO(_fragment(entries))
    reader = TarReader(lambda size: stream.read(min(size, most)))
    assert [member.path for member in reader] == [path for path, _ in entries]


def test_two_fragments_in_a_row_are_one() -> None:
    first, second = _fragment([("a", (b"1", False))]), _fragment([("b", (b"2", True))])
    assert _read(first + second + END) == [("a", (b"1", False)), ("b", (b"2", True))]


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("bin/python3", "python3.12"),
        ("lib/a", "../c"),
        ("lib/a/b", "../c/d"),
        ("lib/a/b", "../../share/x"),
        ("bin/python", "../../cpython-3.12/bin/python3.12"),
    ],
)
def test_links_that_stay_or_lead_to_a_sibling(path: str, link: str) -> None:
    reader = TarReader(io.BytesIO(header(path, link=link)).read, siblings=["cpython-3.12"])
    assert [member.link for member in reader] == [link]


@settings(max_examples=200)
@given(damaged_fragments())
def test_of_a_damaged_fragment_only_what_is_safe_is_read(fragment: bytes) -> None:
    """It is refused, or another reader sees the same entries and none of them can do harm."""
    try:
        entries = _read(fragment)
    except IntegrityError:
        return
    with tarfile.open(fileobj=io.BytesIO(fragment + END), mode="r:") as archive:
        assert [_as_tarfile_reads(archive, member) for member in archive] == entries
    paths = [PurePosixPath(path) for path, _ in entries]
    assert len(set(paths)) == len(paths)
    assert not {parent for path in paths for parent in path.parents} & set(paths)
    for path, (_, content) in zip(paths, entries, strict=True):
        target = content if isinstance(content, str) else "."
        for name in (str(path), posixpath.join(path.parent, target)):
            assert not posixpath.isabs(name)
            assert not posixpath.normpath(name).startswith("..")


def _as_tarfile_reads(
    archive: tarfile.TarFile, member: tarfile.TarInfo
) -> tuple[str, tuple[bytes, bool] | str]:
    if member.issym():
        return member.name, member.linkname
    file = archive.extractfile(member)
    data = file.read() if file is not None else b""
    return member.name, (data, not member.isdir() and bool(member.mode & 0o111))


@given(_ENTRIES.filter(bool), st.data())
def test_a_fragment_that_is_cut_off_is_an_error(
    entries: list[tuple[str, tuple[bytes, bool] | str]], data: st.DataObject
) -> None:
    fragment = _fragment(entries)
    length = data.draw(st.integers(1, len(fragment) - 1))
    whole = {0}
    for count in range(len(entries)):
        whole.add(len(_fragment(entries[: count + 1])))
    assume(length not in whole)
    with pytest.raises(IntegrityError):
        _read(fragment[:length])
