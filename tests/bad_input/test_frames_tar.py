"""Tar fragments that nobody who means well would make."""

from __future__ import annotations

import io
import tarfile

import pytest

from stackbuild.errors import IntegrityError
from stackbuild.files import EARLIEST
from stackbuild.frames.tarformat import (
    BLOCK,
    END,
    TarReader,
    _pax_record,
    check_link,
    check_path,
    header,
    padding,
)
from tests.support.damage import with_checksum

_ODD_PART = "is absolute, or has an empty, '.' or '..' part"
_ODD_TARGET = "is absolute, or has an empty, '.' or inner '..' part"
_ODD_LETTER = "has a backslash, a NUL or a drive letter"
_NO_FILE = "a tar entry is not a file, link or directory"
_MODE = "a tar entry has permissions that are not allowed in a layer"
_TWICE = "a path is in a tar fragment twice"
_BELOW = "a tar entry is below a file or a link"
_TO_FIX = ("to fix", "download or publish the archive again")


_FILE, _HARD_LINK, _LINK, _CHARACTERS, _BLOCKS, _DIRECTORY, _FIFO = (b"%d" % n for n in range(7))
_PLACES = {"mode": 100, "uid": 108, "gid": 116, "size": 124, "mtime": 136}


def _member(path: str, kind: bytes = _FILE, target: str = "", **fields: bytes) -> bytes:
    """A header in the canonical format, but for what the writer would refuse."""
    block = path.encode().ljust(100, b"\0") + header("a")[100:156] + kind
    block += target.encode().ljust(100, b"\0") + header("a")[257:]
    fields = {"mode": {_LINK: b"0000777", _DIRECTORY: b"0000755"}.get(kind, b"0000644"), **fields}
    for name, value in fields.items():
        place = _PLACES[name]
        block = block[:place] + value + block[place + len(value) :]
    return with_checksum(block)


def _link(path: str, target: str) -> bytes:
    return _member(path, _LINK, target)


def _read(data: bytes) -> None:
    for member in TarReader(io.BytesIO(data).read):
        b"".join(member.data())


def _told(data: bytes) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The message and the details of the error that reading `data` ends in."""
    with pytest.raises(IntegrityError) as caught:
        _read(data)
    return caught.value.message, caught.value.details


@pytest.mark.parametrize(
    ("members", "message", "file"),
    [
        ([_member("/etc/passwd")], f"the path '/etc/passwd' {_ODD_PART}", "'/etc/passwd'"),
        ([_member("../evil")], f"the path '../evil' {_ODD_PART}", "'../evil'"),
        ([_member("lib/../../evil")], f"the path 'lib/../../evil' {_ODD_PART}", "'lib/../../evil'"),
        ([_member("lib//x")], f"the path 'lib//x' {_ODD_PART}", "'lib//x'"),
        ([_member("./x")], f"the path './x' {_ODD_PART}", "'./x'"),
        ([_member("x/")], f"the path 'x/' {_ODD_PART}", "'x/'"),
        ([_member("x//", _DIRECTORY)], f"the path 'x/' {_ODD_PART}", "'x/'"),
        ([_member("..\\é")], f"the path '..\\\\é' {_ODD_LETTER}", "'..\\\\\\xe9'"),
        ([_member("C:/evil")], f"the path 'C:/evil' {_ODD_LETTER}", "'C:/evil'"),
        ([_link("x", "/etc")], f"the target '/etc' of a link {_ODD_TARGET}", "'x'"),
        ([_link("x", "./y")], f"the target './y' of a link {_ODD_TARGET}", "'x'"),
        ([_link("x", "a/../../y")], f"the target 'a/../../y' of a link {_ODD_TARGET}", "'x'"),
        ([_link("x", "..")], "the target '..' of a link leads out of the layer", "'x'"),
        ([_link("x", "")], "the target '' of a link is empty", "'x'"),
        (
            [_link("bin/x", "../../y")],
            "the target '../../y' of a link leads out of the layer",
            "'bin/x'",
        ),
        ([_member("x", _CHARACTERS)], _NO_FILE, "x"),
        ([_member("x", _BLOCKS)], _NO_FILE, "x"),
        ([_member("x", _FIFO)], _NO_FILE, "x"),
        ([_member("x", _HARD_LINK, "y")], _NO_FILE, "x"),
        ([_member("x"), _member("x")], _TWICE, "x"),
        ([_member("d/x"), _member("d")], _TWICE, "d"),
        ([_member("d/x"), _member("d/", _DIRECTORY)], _TWICE, "d"),
        ([_member("d/", _DIRECTORY), _member("d/", _DIRECTORY)], _TWICE, "d"),
        ([_link("d", "e"), _member("d/x")], _BELOW, "d/x"),
        ([_member("d"), _member("d/e/x")], _BELOW, "d/e/x"),
        ([_member("a/d"), _member("a/d/e/f/x")], _BELOW, "a/d/e/f/x"),
    ],
)
def test_evil_entries_are_refused(members: list[bytes], message: str, file: str) -> None:
    assert _told(b"".join(members)) == (message, (("file", file),))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        (_FILE, 0o4755),
        (_FILE, 0o2644),
        (_FILE, 0o1644),
        (_FILE, 0o666),
        (_LINK, 0o755),
        (_DIRECTORY, 0o1755),
    ],
)
def test_other_permissions_are_refused(kind: bytes, mode: int) -> None:
    data = _member("x", kind, "y", mode=b"%07o" % mode)
    assert _told(data) == (_MODE, (("file", "x"), ("found", f"{mode:o}")))


@pytest.mark.parametrize(
    "data",
    [
        _member("x", uid=b"0001750"),
        _member("x", gid=b"0001750"),
        _member("x", mtime=b"02263523001"),
    ],
)
def test_other_owners_and_times_are_refused(data: bytes) -> None:
    message = "a tar fragment has a header that is not in the canonical format"
    assert _told(data) == (message, (_TO_FIX,))


def test_a_link_or_directory_with_data_is_refused() -> None:
    for kind in (_LINK, _DIRECTORY):
        block = _member("x", kind, "y", size=b"00000000001")
        message = "a tar entry has data, although it is not a file"
        assert _told(block + bytes(BLOCK)) == (message, (("file", "x"),))


def _extended(records: bytes, size: int | None = None) -> bytes:
    """An extended header with these records."""
    size = len(records) if size is None else size
    block = _member("././@PaxHeader", b"x", size=b"%011o" % size)
    return block + records + padding(len(records))


@pytest.mark.parametrize("key", ["path", "linkpath"])
def test_evil_names_in_extended_headers_are_refused(key: str) -> None:
    data = _extended(_pax_record(key, "../é")) + header("x", link="y")
    what = f"the path '../é' {_ODD_PART}"
    if key == "linkpath":
        what = "the target '../é' of a link leads out of the layer"
    assert _told(data) == (what, (("file", "'../\\xe9'" if key == "path" else "'x'"),))


_NOT_UNDERSTOOD = "has an extended header that is not understood"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (_extended(_pax_record("GNU.sparse.major", "1")), _NOT_UNDERSTOOD),
        (
            _member("././@PaxHeade", b"x", size=b"00000000011") + b"9 path=a\n" + bytes(503),
            _NOT_UNDERSTOOD,
        ),
        (_extended(_pax_record("path", "a") * 2), _NOT_UNDERSTOOD),
        (_extended(b"8 path=a\n"), _NOT_UNDERSTOOD),
        (_extended(b"10 path=a\n"), _NOT_UNDERSTOOD),
        (_extended(b"9 path=a "), _NOT_UNDERSTOOD),
        (_extended(b"9 path:a\n"), _NOT_UNDERSTOOD),
        (_extended(b"-1 path=a\n"), _NOT_UNDERSTOOD),
        (_extended(b"x path=a\n"), _NOT_UNDERSTOOD),
        (_extended(b"011 path=a\n"), _NOT_UNDERSTOOD),
        (_extended(b"9" * 5000 + b" path=a\n"), _NOT_UNDERSTOOD),
        (_extended(b"9 \xff\xff\xff\xff=a\n"), "has a name that is not UTF-8"),
        (_extended(b"9 path=\xff\n"), "has a name that is not UTF-8"),
        (_extended(_pax_record("path", "a" * 65536)), "has an extended header of more than 64 KiB"),
        (_extended(b"", 64 * 1024), "is truncated"),
        (_extended(_pax_record("path", "a")), "ends after an extended header"),
        (_extended(_pax_record("path", "a")) + END, "ends after an extended header"),
        (_extended(_pax_record("path", "a"))[:-1], "is truncated"),
        (header("a", size=3), "ends inside a file"),
        (header("a", size=3) + b"ab", "ends inside a file"),
        (header("a", size=3) + b"abc" + bytes(508), "is truncated"),
        (header("a")[:-1], "is truncated"),
        (header("a") + END + header("b"), "continues after its end-of-archive blocks"),
        (header("a") + END + b"x", "continues after its end-of-archive blocks"),
        (header("a") + END + bytes(2 << 20) + b"x", "continues after its end-of-archive blocks"),
    ],
)
def test_damages_are_told(data: bytes, what: str) -> None:
    assert _told(data) == (f"a tar fragment {what}", (_TO_FIX,))


@pytest.mark.parametrize("size", ["-1", "+1", " 1", "1_0", "1" * 20, "٣", "", "0x1"])
def test_a_size_in_an_extended_header_that_is_no_number(size: str) -> None:
    data = _extended(_pax_record("size", size)) + header("a")
    what = "a tar fragment has an extended header with a size that is not a number"
    assert _told(data) == (what, (_TO_FIX,))


def test_names_that_a_system_cannot_have_are_refused_for_it() -> None:
    data = header("lib/aux.py")
    assert [member.path for member in TarReader(io.BytesIO(data).read, os="linux")]
    with pytest.raises(IntegrityError, match="reserves for a device"):
        list(TarReader(io.BytesIO(data).read, os="windows"))


def test_the_largest_extended_header_that_is_read() -> None:
    record = _pax_record("path", "a" * (64 * 1024 - 12))
    assert len(record) == 64 * 1024
    # It is understood: the path in it is what is refused.
    message, _ = _told(_extended(record) + header("a"))
    assert message.startswith("the path 'aaa")


@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        (0, b"b", "has a damaged header"),
        (148, b"0000000\0", "has a damaged header"),
        (511, b"\1", "has a damaged header"),
    ],
)
def test_a_wrong_checksum_is_told(place: int, value: bytes, what: str) -> None:
    block = header("a")
    data = block[:place] + value + block[place + len(value) :]
    assert _told(data) == (f"a tar fragment {what}", (_TO_FIX,))


@pytest.mark.parametrize("place", [107, 108, 116, 135, 136, 257, 263, 265, 297, 329, 344, 500, 511])
def test_every_field_that_is_always_the_same_is_looked_at(place: int) -> None:
    block = bytearray(header("a"))
    block[place] ^= 8
    message, details = _told(with_checksum(bytes(block)))
    is_number = place in {107, 135}
    what = "with a number that is not octal" if is_number else "that is not in the canonical format"
    assert message == f"a tar fragment has a header {what}"
    assert details == (_TO_FIX,)


@pytest.mark.parametrize(
    ("start", "value"),
    [
        (124, b"\0" * 12),
        (124, b"0000000000 \0"),
        (124, b"00000000008\0"),
        (124, b"\x80\0\0\0\0\0\0\0\0\0\0\0"),
        (100, b"0000X44\0"),
    ],
)
def test_numbers_in_other_notations_are_refused(start: int, value: bytes) -> None:
    block = header("a")
    data = with_checksum(block[:start] + value + block[start + len(value) :])
    message = "a tar fragment has a header with a number that is not octal"
    assert _told(data) == (message, (_TO_FIX,))


@pytest.mark.parametrize("start", [0, 157, 345])
def test_names_that_are_not_utf_8_are_refused(start: int) -> None:
    block = header("a", link="b")
    data = with_checksum(block[:start] + b"\xff" + block[start + 1 :])
    assert _told(data) == ("a tar fragment has a name that is not UTF-8", (_TO_FIX,))


@pytest.mark.parametrize("start", [0, 157, 345])
def test_what_follows_a_nul_in_a_name_is_no_hiding_place(start: int) -> None:
    block = header("a", link="b")
    data = with_checksum(block[: start + 2] + b"x" + block[start + 3 :])
    message, details = _told(data)
    assert message.endswith(_ODD_LETTER)
    assert details


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_other_formats_are_refused(form: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        member = tarfile.TarInfo("x")
        member.mtime = EARLIEST
        archive.addfile(member)
    message = "a tar fragment has a header that is not in the canonical format"
    assert _told(buffer.getvalue()) == (message, (_TO_FIX,))


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("bin/python", "../../other/bin/python"),
        ("bin/python", "../../../cpython-3.12/bin/python"),
        ("bin/python", "../../../../cpython-3.12"),
        ("bin/python", "../.."),
        ("python", "../../cpython-3.12/bin/python"),
        ("python", "../cpython-3.12x/bin/python"),
    ],
)
def test_only_the_directories_of_the_chain_can_be_reached(path: str, link: str) -> None:
    message = f"the target {link!r} of a link leads out of the layer"
    with pytest.raises(IntegrityError) as caught:
        list(TarReader(io.BytesIO(header(path, link=link)).read, siblings=["cpython-3.12"]))
    assert (caught.value.message, caught.value.details) == (message, (("file", repr(path)),))
    with pytest.raises(IntegrityError, match="leads out of the layer"):
        check_link(path, link)


@pytest.mark.parametrize("path", ["", "/x", "a/../b", "a\\b", "a\0b", "\udcff", "x" * 5000])
def test_the_writer_refuses_them_too(path: str) -> None:
    for write in (header, check_path):
        with pytest.raises(IntegrityError, match=r"^the path "):
            write(path)
