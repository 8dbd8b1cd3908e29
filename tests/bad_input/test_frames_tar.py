"""Tar fragments that nobody who means well would make."""

from __future__ import annotations

import io
import tarfile

import pytest

from stackbuild.errors import IntegrityError
from stackbuild.frames.tarformat import END, TarReader, header


def _tar(*members: tarfile.TarInfo, form: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return buffer.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def _read(data: bytes) -> None:
    for member in TarReader(io.BytesIO(data).read):
        b"".join(member.data())


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([_member("/etc/passwd")], "the path '/etc/passwd' is absolute, or has an empty"),
        ([_member("../evil")], "the path '../evil' is absolute, or has an empty, '.' or '..' part"),
        ([_member("lib/../../evil")], "the path 'lib/../../evil' is absolute, or has an empty"),
        ([_member("lib//x")], "the path 'lib//x' is absolute, or has an empty"),
        ([_member("./x")], "the path './x' is absolute, or has an empty"),
        ([_member("..\\evil")], "has a backslash, a NUL or a drive letter"),
        ([_member("C:/evil")], "has a backslash, a NUL or a drive letter"),
        ([_member("x", tarfile.SYMTYPE, linkname="/etc")], "the target '/etc' of a link is abs"),
        ([_member("bin/x", tarfile.SYMTYPE, linkname="../../y")], "leads out of the layer"),
        ([_member("x", tarfile.SYMTYPE, linkname="..")], "leads out of the layer"),
        ([_member("x", tarfile.SYMTYPE, linkname="a/../../y")], "inner '..' part"),
        ([_member("x", tarfile.SYMTYPE, linkname="")], "the target '' of a link is empty"),
        ([_member("x", tarfile.CHRTYPE)], "a tar entry is no file, link or directory"),
        ([_member("x", tarfile.BLKTYPE)], "a tar entry is no file, link or directory"),
        ([_member("x", tarfile.FIFOTYPE)], "a tar entry is no file, link or directory"),
        ([_member("x", tarfile.LNKTYPE, linkname="y")], "a tar entry is no file, link or direct"),
        ([_member("x", mode=0o4755)], "a tar entry has setuid, setgid or sticky bits"),
        ([_member("x", mode=0o2755)], "a tar entry has setuid, setgid or sticky bits"),
        ([_member("x"), _member("x")], "a path stands twice in a tar fragment"),
        ([_member("d/x"), _member("d")], "a path stands twice in a tar fragment"),
        (
            [_member("d", tarfile.SYMTYPE, linkname="e"), _member("d/x")],
            "a tar entry stands below a file or a link",
        ),
        (
            [_member("d"), _member("d/e/x")],
            "a tar entry stands below a file or a link",
        ),
    ],
)
def test_evil_entries_are_refused(members: list[tarfile.TarInfo], message: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        _read(_tar(*members))
    assert message in caught.value.message


@pytest.mark.parametrize("place", ["path", "linkpath"])
def test_evil_names_in_extended_headers_are_refused(place: str) -> None:
    evil = "../" + "é" * 80
    member = _member("x", tarfile.SYMTYPE, linkname="y")
    setattr(member, "name" if place == "path" else "linkname", evil)
    with pytest.raises(IntegrityError, match=r"leads out of the layer|or '\.\.' part"):
        _read(_tar(member, form=tarfile.PAX_FORMAT))


def test_other_formats_are_refused() -> None:
    with pytest.raises(IntegrityError, match="not in ustar format"):
        _read(_tar(_member("x"), form=tarfile.GNU_FORMAT))
    member = _member("x", pax_headers={"GNU.sparse.major": "1"})
    with pytest.raises(IntegrityError, match="extended header that is not understood"):
        _read(_tar(member, form=tarfile.PAX_FORMAT))


def test_a_wrong_checksum_is_told() -> None:
    damaged = bytearray(header("name", size=0))
    damaged[0] ^= 1
    with pytest.raises(IntegrityError, match="a header that is damaged"):
        _read(bytes(damaged))


def test_bytes_behind_the_end_are_refused() -> None:
    with pytest.raises(IntegrityError, match="goes on behind its end-of-archive blocks"):
        _read(header("a") + END + header("b"))


def test_a_sibling_that_is_not_of_the_chain_is_refused() -> None:
    data = header("bin/python", link="../../other/bin/python")
    with pytest.raises(IntegrityError, match="leads out of the layer"):
        list(TarReader(io.BytesIO(data).read, siblings=["cpython-3.12"]))


@pytest.mark.parametrize("path", ["", "/x", "a/../b", "a\\b", "a\0b", "\udcff", "x" * 5000])
def test_the_writer_refuses_them_too(path: str) -> None:
    with pytest.raises(IntegrityError):
        header(path)
