"""The tar fragments that frames hold."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackbuild.errors import IntegrityError
from stackbuild.frames.tarformat import BLOCK, END, MTIME, TarReader, header, padding

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
    blocks = []
    for path, content in entries:
        if isinstance(content, str):
            blocks.append(header(path, link=content))
        else:
            data, executable = content
            blocks += [header(path, size=len(data), executable=executable), data]
            blocks.append(padding(len(data)))
    return b"".join(blocks)


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
            assert (member.mtime, member.uid, member.gid) == (MTIME, 0, 0)
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


@given(st.text(_ASCII, min_size=1, max_size=100).filter(lambda name: name not in (".", "..")))
def test_a_short_ascii_path_needs_one_block(name: str) -> None:
    assert len(header(name)) == BLOCK


def test_a_long_path_is_split_where_ustar_can() -> None:
    path = "d" * 150 + "/" + "n" * 100
    assert len(header(path)) == BLOCK
    assert _read(header(path)) == [(path, (b"", False))]


def test_a_file_of_more_than_8_gib_says_its_size() -> None:
    size = 9 * 1024**3
    blocks = header("large", size=size)
    with tarfile.open(fileobj=io.BytesIO(blocks + END), mode="r:") as archive:
        member = archive.next()
    assert member is not None
    assert member.size == size
    assert next(iter(TarReader(io.BytesIO(blocks).read))).size == size


def test_an_empty_directory() -> None:
    (member,) = TarReader(io.BytesIO(header("lib/empty/")).read)
    assert (member.path, member.is_directory, member.mode) == ("lib/empty", True, 0o755)


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
        ("lib/a/b", "../c/d"),
        ("lib/a/b", "../../share/x"),
        ("bin/python", "../../cpython-3.12/bin/python3.12"),
    ],
)
def test_links_that_stay_or_lead_to_a_sibling(path: str, link: str) -> None:
    reader = TarReader(io.BytesIO(header(path, link=link)).read, siblings=["cpython-3.12"])
    assert [member.link for member in reader] == [link]


@given(st.binary(max_size=2000))
def test_noise_is_an_error_or_nothing(noise: bytes) -> None:
    try:
        members = _read(noise)
    except IntegrityError:
        return
    assert members == []
    assert noise.count(0) == len(noise)


@given(_ENTRIES.filter(bool), st.data())
def test_a_fragment_that_is_cut_off_is_an_error(
    entries: list[tuple[str, tuple[bytes, bool] | str]], data: st.DataObject
) -> None:
    fragment = _fragment(entries)
    length = data.draw(st.integers(1, len(fragment) - 1))
    whole = {0}
    for count in range(len(entries)):
        whole.add(len(_fragment(entries[: count + 1])))
    if length in whole:
        return
    with pytest.raises(IntegrityError):
        _read(fragment[:length])
