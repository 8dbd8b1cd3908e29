"""Wheels that are not what the lock, or their own RECORD, says."""

from __future__ import annotations

import base64
import copy
import hashlib
import os
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest

from stackbuild.errors import IntegrityError
from stackbuild.frames import wheelplan
from stackbuild.frames.cache import FrameCache
from stackbuild.frames.wheel import wheel_set
from stackbuild.record import corrected, record_hash
from stackbuild.spec.model import FrameSettings
from tests.support.frames import LINUX, rewrite_wheel, sha256
from tests.support.wheels import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

_INFO = "thing-1.0.dist-info"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    files = {"thing/a.py": "a = 1\n" * 50, "thing/b.py": "b = 2\n"}
    return make_wheel(tmp_path, "thing", "1.0", files, console_scripts={"run": "thing.a:main"})


def _fail(wheel: Path, digest: str | None = None) -> IntegrityError:
    """Frame the wheel, which must fail and leave no frame set, nor work files."""
    cache = FrameCache(wheel.parent / "cache")
    with pytest.raises(IntegrityError) as caught:
        wheel_set(wheel, digest or sha256(wheel), LINUX, FrameSettings(), cache)
    assert list(cache.sets()) == []
    assert list((wheel.parent / "cache").glob("work/*")) == []
    return caught.value


def _details(error: IntegrityError) -> dict[str, str]:
    return dict(error.details)


def _rewrite(wheel: Path, name: str, old: bytes, new: bytes) -> None:
    """Change a file of `.dist-info`, with a RECORD that is true again."""
    changed: dict[str, bytes] = {}

    def change(info: zipfile.ZipInfo, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
        if info.filename.endswith(f".dist-info/{name}"):
            assert old in data
            data = changed[info.filename] = data.replace(old, new)
        elif info.filename.endswith("/RECORD"):
            data = corrected(data, changed, "")
        return info, data

    rewrite_wheel(wheel, change)


def _rewrite_record(wheel: Path, old: bytes, new: bytes) -> None:
    def change(info: zipfile.ZipInfo, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
        if info.filename.endswith("/RECORD"):
            assert old in data
            data = data.replace(old, new)
        return info, data

    rewrite_wheel(wheel, change)


def _append(wheel: Path, name: str, *, mode: int = 0o100644, recorded: bool = True) -> None:
    if recorded:
        _rewrite_record(
            wheel, f"{_INFO}/RECORD,,".encode(), _row(name) + f"{_INFO}/RECORD,,".encode()
        )
    with zipfile.ZipFile(wheel, "a") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, b"")


def _row(name: str) -> bytes:
    return f"{name},sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n".encode()


def test_another_sha256_than_the_lock_s(wheel: Path) -> None:
    error = _fail(wheel, "0" * 64)
    assert error.message == "a wheel does not match its lock"
    assert _details(error) == {
        "file": str(wheel),
        "expected": "sha256 " + "0" * 64,
        "found": f"sha256 {sha256(wheel)}",
        "to fix": "remove the file and run stackbuild fetch",
    }


def test_a_wheel_that_is_replaced_between_two_runs_is_noticed(wheel: Path) -> None:
    digest = sha256(wheel)
    wheel_set(wheel, digest, LINUX, FrameSettings(), FrameCache(wheel.parent / "first"))
    wheel.write_bytes(wheel.read_bytes() + b"x")
    assert _fail(wheel, digest).message == "a wheel does not match its lock"


@pytest.mark.parametrize("same", ["size and time", "size and file", "time and file"])
def test_each_sign_of_another_file_is_noticed(wheel: Path, same: str) -> None:
    digest, before = sha256(wheel), wheel.stat()
    wheel_set(wheel, digest, LINUX, FrameSettings(), FrameCache(wheel.parent / "first"))
    data = bytes(before.st_size + (same == "time and file"))
    if "file" in same:
        wheel.write_bytes(data)
    else:
        (wheel.parent / "new").write_bytes(data)
        wheel.unlink()
        (wheel.parent / "new").rename(wheel)
    shift = 1_000_000_000 * (same == "size and file")
    os.utime(wheel, ns=(before.st_atime_ns, before.st_mtime_ns + shift))
    assert _fail(wheel, digest).message == "a wheel does not match its lock"


def test_a_wheel_that_is_not_there(wheel: Path) -> None:
    digest = sha256(wheel)
    wheel.unlink()
    error = _fail(wheel, digest)
    assert error.message == "a fetched wheel is missing"
    assert error.details == (("file", str(wheel)), ("to fix", "run stackbuild fetch"))


def test_a_file_that_differs_from_record(wheel: Path) -> None:
    def change(info: zipfile.ZipInfo, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
        return info, data.replace(b"a = 1", b"a = 3") if info.filename == "thing/a.py" else data

    rewrite_wheel(wheel, change)
    error = _fail(wheel)
    assert error.message == "a file of a wheel does not match RECORD"
    assert error.details == (
        ("distribution", "thing 1.0"),
        ("file", f"{wheel.name}: thing/a.py"),
        ("expected", record_hash(b"a = 1\n" * 50).removeprefix("sha256=")),
        ("found", record_hash(b"a = 3\n" * 50).removeprefix("sha256=")),
    )


def test_a_file_of_another_size_than_record_says(wheel: Path) -> None:
    _rewrite_record(wheel, b",300\n", b",301\n")
    error = _fail(wheel)
    assert error.message == "a file of a wheel does not match RECORD"
    assert _details(error)["file"] == f"{wheel.name}: thing/a.py"
    assert (_details(error)["expected"], _details(error)["found"]) == ("301 bytes", "300 bytes")


def test_a_file_that_record_leaves_out(wheel: Path) -> None:
    _append(wheel, "thing/c.py", recorded=False)
    error = _fail(wheel)
    assert error.message == "a file of the wheel has no valid hash in RECORD"
    assert _details(error)["file"] == f"{wheel.name}: thing/c.py"
    assert _details(error)["found"] == "no entry"


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (b"thing/b.py,sha256=", b"thing/b.py,md5=", "hash md5"),
        (b"thing/b.py,sha256=", b"thing/b.py,,6\nthing/z.py,sha256=", "hash None"),
    ],
)
def test_a_hash_that_proves_nothing(wheel: Path, old: bytes, new: bytes, found: str) -> None:
    _rewrite_record(wheel, old, new)
    error = _fail(wheel)
    assert error.message == "a file of the wheel has no valid hash in RECORD"
    assert _details(error)["expected"] == "sha256 or sha384 or sha512"
    assert _details(error)["found"] == found


def test_a_file_that_record_names_and_the_wheel_lacks(wheel: Path) -> None:
    rewrite_wheel(wheel, lambda info, data: None if info.filename == "thing/b.py" else (info, data))
    error = _fail(wheel)
    assert error.message == "a file in RECORD is missing from a wheel"
    assert _details(error)["file"] == f"{wheel.name}: thing/b.py"


def test_a_record_that_cannot_be_read(wheel: Path) -> None:
    _rewrite_record(wheel, b"thing/b.py,", b"thing/b.py,,,,")
    error = _fail(wheel)
    assert error.message == "RECORD cannot be read: row 2 is not a path, a hash and a size"
    assert error.details == (("distribution", "thing 1.0"), ("file", f"{wheel.name}: RECORD"))


@pytest.mark.parametrize("name", ["RECORD", "WHEEL", "METADATA"])
def test_a_wheel_without_its_metadata(wheel: Path, name: str) -> None:
    place = f"{_INFO}/{name}"
    rewrite_wheel(wheel, lambda info, data: None if info.filename == place else (info, data))
    error = _fail(wheel)
    assert error.message == "a wheel lacks a file"
    assert _details(error)["file"] == f"{wheel.name}: {place}"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("../evil.py", "is absolute, or has an empty, '.' or '..' part"),
        ("/evil.py", "is absolute, or has an empty, '.' or '..' part"),
        ("thing/../../evil.py", "is absolute, or has an empty, '.' or '..' part"),
        (f"{_INFO[:-10]}.data/data/../../evil", "is absolute, or has an empty, '.' or '..' part"),
        ("..\\evil.py", "has a backslash, a NUL or a drive letter"),
        ("C:/evil.py", "has a backslash, a NUL or a drive letter"),
        ("thing/" + "x" * 300, "has a name of more than 255 bytes"),
        ("/".join(["d"] * 1500), "is longer than 1024 bytes"),
        ("/".join(["d"] * 400), "has more than 100 nested directories"),
    ],
)
def test_a_path_that_no_layer_can_have(wheel: Path, name: str, fault: str) -> None:
    _append(wheel, name)
    error = _fail(wheel)
    assert error.message == f"a file of a wheel {fault}"
    assert _details(error)["file"] == f"{wheel.name}: {name!r}"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_path_twice(wheel: Path) -> None:
    _append(wheel, "thing/b.py", recorded=False)
    assert _fail(wheel).message == "a file of a wheel is in it twice"


def test_two_members_with_one_place(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "thing", "1.0", {"thing.py": "1"}, data={"purelib/thing.py": b"2"})
    error = _fail(wheel)
    assert error.message == "two files of a wheel would be installed at the same path"
    assert _details(error)["file"] == f"{wheel.name}: lib/python3.12/site-packages/thing.py"


def test_a_symbolic_link(wheel: Path) -> None:
    _append(wheel, "thing/link", mode=0o120777)
    assert _fail(wheel).message == "a file of a wheel is a symbolic link"


def test_an_encrypted_file(wheel: Path) -> None:
    data = bytearray(wheel.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1
    wheel.write_bytes(data)
    assert _fail(wheel).message == "a file of a wheel is encrypted"


def test_a_member_that_is_larger_than_it_says(wheel: Path) -> None:
    """The central directory and RECORD say 6 bytes; the deflated data has 50 MB."""
    large = b"b = 2\n" + bytes(50_000_000)

    def change(info: zipfile.ZipInfo, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
        return info, large if info.filename == "thing/b.py" else data

    rewrite_wheel(wheel, change)
    data = bytearray(wheel.read_bytes())
    place = data.index(b"PK\x01\x02")
    while data[place + 46 : place + 56] != b"thing/b.py":
        place = data.index(b"PK\x01\x02", place + 1)
    assert struct.unpack_from("<I", data, place + 24) == (len(large),)
    struct.pack_into("<I", data, place + 24, 6)
    wheel.write_bytes(data)
    error = _fail(wheel)
    assert error.message == "a file of a wheel is damaged, or larger than its declared size"
    assert _details(error)["file"] == f"{wheel.name}: thing/b.py"


def test_a_member_that_is_larger_than_it_says_with_the_right_checksum(wheel: Path) -> None:
    """A stored member: `a = 1` of 300 bytes, of which headers, CRC and RECORD know 6 less."""
    with zipfile.ZipFile(wheel) as archive:
        whole = archive.read("thing/a.py")

    def change(info: zipfile.ZipInfo, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
        info.compress_type = zipfile.ZIP_STORED
        return info, data

    rewrite_wheel(wheel, change)
    shorter = whole[:-6]
    digest = base64.urlsafe_b64encode(hashlib.sha256(whole).digest()).rstrip(b"=")
    replaced = base64.urlsafe_b64encode(hashlib.sha256(shorter).digest()).rstrip(b"=")
    _rewrite_record(wheel, digest + b",300", replaced + b",294")
    data = bytearray(wheel.read_bytes())
    place = data.index(b"PK\x01\x02")
    while data[place + 46 : place + 56] != b"thing/a.py":
        place = data.index(b"PK\x01\x02", place + 1)
    struct.pack_into("<I", data, place + 16, zlib.crc32(shorter))
    struct.pack_into("<I", data, place + 24, len(shorter))
    wheel.write_bytes(data)
    error = _fail(wheel)
    assert _details(error)["file"] == f"{wheel.name}: thing/a.py"


def test_members_that_overlap(wheel: Path) -> None:
    data = bytearray(wheel.read_bytes())
    place = data.index(b"PK\x01\x02")
    with zipfile.ZipFile(wheel) as archive:
        first, *others = [info.compress_size for info in archive.infolist()]
    assert struct.unpack_from("<I", data, place + 20) == (first,)
    struct.pack_into("<I", data, place + 20, len(data) - sum(others) + 1)
    wheel.write_bytes(data)
    error = _fail(wheel)
    assert error.message == "the files of a wheel overlap"
    assert error.details == (("distribution", "thing 1.0"), ("file", str(wheel)))
    struct.pack_into("<I", data, place + 20, len(data) - sum(others))
    wheel.write_bytes(data)
    assert wheelplan.read_wheel(wheel).subject == "thing 1.0"


def test_metadata_that_is_too_large(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(wheel) as archive:
        size = archive.getinfo(f"{_INFO}/RECORD").file_size
    monkeypatch.setattr(wheelplan, "_MAX_METADATA", size - 1)
    error = _fail(wheel)
    assert error.message == "a file of metadata is too large"
    assert error.details == (
        ("distribution", "thing 1.0"),
        ("file", f"{wheel.name}: {_INFO}/RECORD"),
    )
    monkeypatch.setattr(wheelplan, "_MAX_METADATA", size)
    assert wheelplan.read_wheel(wheel).subject == "thing 1.0"


def test_metadata_that_is_not_utf_8(wheel: Path) -> None:
    _rewrite(wheel, "METADATA", b"Name: thing", b"Name: \xff")
    error = _fail(wheel)
    assert error.message == "a file is not UTF-8"
    assert error.details == (
        ("distribution", "thing 1.0"),
        ("file", f"{wheel.name}: {_INFO}/METADATA"),
    )


@pytest.mark.parametrize("keep", [0, 10, 200, -30])
def test_a_truncated_wheel(wheel: Path, keep: int) -> None:
    wheel.write_bytes(wheel.read_bytes()[:keep])
    error = _fail(wheel)
    assert error.message.startswith("a wheel is not a valid zip file: ")
    assert _details(error)["file"] == str(wheel)


def test_damaged_compressed_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = copy.copy(archive.getinfo("thing/a.py"))
    data = bytearray(wheel.read_bytes())
    start = info.header_offset + 30 + len(info.filename)
    data[start : start + info.compress_size] = b"\xff" * info.compress_size
    wheel.write_bytes(data)
    error = _fail(wheel)
    assert error.message == "a file of a wheel is damaged, or larger than its declared size"
    assert _details(error)["file"] == f"{wheel.name}: thing/a.py"
    assert _details(error)["found"].startswith("Error -3 while decompressing data")


def test_two_dist_info_directories(wheel: Path) -> None:
    _append(wheel, "other-1.dist-info/METADATA")
    error = _fail(wheel)
    assert error.message == ("a wheel must have exactly one .dist-info directory, with its name")
    assert _details(error)["found"] == "other-1.dist-info, thing-1.0.dist-info"


def test_another_distribution_than_the_name_says(wheel: Path) -> None:
    renamed = wheel.rename(wheel.with_name("other-1.0-py3-none-any.whl"))
    error = _fail(renamed)
    assert error.message == ("a wheel must have exactly one .dist-info directory, with its name")


def test_no_dist_info_directory(wheel: Path) -> None:
    def change(info: zipfile.ZipInfo, data: bytes) -> tuple[zipfile.ZipInfo, bytes] | None:
        return None if ".dist-info/" in info.filename else (info, data)

    rewrite_wheel(wheel, change)
    error = _fail(wheel)
    assert error.message == "a wheel must have exactly one .dist-info directory, with its name"
    assert _details(error)["found"] == "none"


def test_a_pth_file_that_is_not_utf_8(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "thing", "1.0", {"thing.pth": b"\xff"})
    error = _fail(wheel)
    assert error.message == "a .pth file is not UTF-8"
    assert error.details == (("distribution", "thing 1.0"), ("file", f"{wheel.name}: thing.pth"))


def test_a_name_that_is_no_wheel_s(wheel: Path) -> None:
    renamed = wheel.rename(wheel.with_name("thing.whl"))
    error = _fail(renamed)
    assert error.message.startswith("Invalid wheel filename")
    assert error.details == (("file", str(renamed)),)


def test_a_python_script_in_a_directory(tmp_path: Path) -> None:
    scripts = {"scripts/lib/x.sh": b"#!/bin/sh\n"}
    wheelplan.read_wheel(make_wheel(tmp_path, "fine", "1.0", {}, data=scripts))
    scripts["scripts/lib/x.py"] = b"#!python\n"
    error = _fail(make_wheel(tmp_path, "thing", "1.0", {}, data=scripts))
    assert error.message == (
        "a Python script of a wheel is in a subdirectory, so it cannot be started"
    )
    assert error.details == (
        ("distribution", "thing 1.0"),
        ("file", "thing-1.0-py3-none-any.whl: thing-1.0.data/scripts/lib/x.py"),
        ("expected", "a script directly in thing-1.0.data/scripts"),
        ("to fix", "build the wheel with the script there, or with an entry point"),
    )


def test_an_unknown_scheme(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "thing", "1.0", {}, data={"evil/x": b""})
    error = _fail(wheel)
    assert error.message == "a file below .data is in an unknown scheme"
    assert _details(error)["file"] == f"{wheel.name}: thing-1.0.data/evil/x"
    assert _details(error)["expected"] == "purelib, platlib, headers, scripts, data"


def test_a_wheel_of_a_version_to_come(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "thing", "1.0", {}, dist_info={"WHEEL.x": ""}, requires=())
    _replace_text(wheel, "WHEEL", "Wheel-Version: 2.0\nRoot-Is-Purelib: true\n")
    error = _fail(wheel)
    assert error.message.startswith("a wheel cannot be installed: Incompatible Wheel-Version 2.0")
    assert error.details == (("distribution", "thing 1.0"), ("file", f"{wheel.name}: WHEEL"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[console_scripts\n", "File contains no section headers"),
        ("[console_scripts]\nrun = \n", "'run = ' is not `name = module:function`"),
        (
            "[other]\na = b\n[console_scripts]\nA = m:f\nb = thing\n[gui_scripts]\nc =\n",
            "'b = thing' is not `name = module:function`",
        ),
        (
            "[console_scripts]\nx = /etc/passwd:c\n",
            "'x = /etc/passwd:c' is not `name = module:function`",
        ),
        ("[gui_scripts]\nx = a\0b:c\n", "'x = a\\x00b:c' is not `name = module:function`"),
    ],
)
def test_entry_points_that_cannot_be_read(wheel: Path, text: str, fault: str) -> None:
    _replace_text(wheel, "entry_points.txt", text)
    error = _fail(wheel)
    assert error.message.startswith(f"entry points cannot be read: {fault}")
    assert error.details == _of_entry_points(wheel)


@pytest.mark.parametrize(
    "name", ["../run", "a/b", "..", "a\\b", "$(id)", "a b", "a'b", 'a"b', "-rf", "x" * 256]
)
def test_an_entry_point_whose_name_is_no_command(tmp_path: Path, name: str) -> None:
    wheel = make_wheel(tmp_path, "thing", "1.0", {}, console_scripts={name: "thing:main"})
    error = _fail(wheel)
    assert error.message == f"invalid name of an entry point: {name!r}"
    expected = "letters, digits, '.', '_', '-' and '+', a letter, digit or '_' first"
    assert error.details == (*_of_entry_points(wheel), ("expected", expected))


def _of_entry_points(wheel: Path) -> tuple[tuple[str, str], ...]:
    return ("distribution", "thing 1.0"), ("file", f"{wheel.name}: entry_points.txt")


def _replace_text(wheel: Path, name: str, text: str) -> None:
    """Put `text` into a file of .dist-info, and its digest into RECORD."""
    place = f"{_INFO}/{name}"
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
    row = f"{place},sha256={digest.decode()},{len(text)}"

    def change(info: zipfile.ZipInfo, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
        if info.filename == place:
            return info, text.encode()
        if info.filename == f"{_INFO}/RECORD":
            rows = data.decode().splitlines()
            data = "\n".join(row if old.startswith(f"{place},") else old for old in rows).encode()
        return info, data

    rewrite_wheel(wheel, change)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (b"Version: 1.0\n", b"Version: 9.9\n", "'thing 9.9'"),
        (b"Version: 1.0\n", b"Version: latest\n", "'thing latest'"),
        (b"Version: 1.0\n", b"", "'thing '"),
        (b"Name: thing\n", b"Name: other\n", "'other 1.0'"),
        (b"Name: thing\n", b"", "' 1.0'"),
    ],
)
def test_metadata_of_another_distribution(wheel: Path, old: bytes, new: bytes, found: str) -> None:
    _rewrite(wheel, "METADATA", old, new)
    error = _fail(wheel)
    assert error.message == (
        "the metadata of a wheel has another name or version than its file name"
    )
    details = _details(error)
    assert details["file"] == f"{wheel.name}: METADATA"
    assert (details["expected"], details["found"]) == ("thing 1.0", found)


def test_a_dist_info_directory_of_another_version(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "thing", "2.0", {"thing.py": ""})
    wheel = wheel.rename(tmp_path / "thing-1.0-py3-none-any.whl")
    _rewrite(wheel, "METADATA", b"Version: 2.0\n", b"Version: 1.0\n")
    assert _details(_fail(wheel))["file"] == f"{wheel.name}: thing-2.0.dist-info"


def test_a_version_may_be_spelt_otherwise(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "thing", "1.0", {"thing.py": ""})
    _rewrite(wheel, "METADATA", b"Version: 1.0\n", b"Version: v1.0.0\n")
    wheel_set(wheel, sha256(wheel), LINUX, FrameSettings(), FrameCache(tmp_path / "cache"))


@pytest.mark.parametrize("reference", ["1thing:main", "thing:class", "thing.:main", "thing:a..b"])
def test_an_entry_point_that_is_no_python(tmp_path: Path, reference: str) -> None:
    wheel = make_wheel(tmp_path, "thing", "1.0", {}, console_scripts={"run": reference})
    error = _fail(wheel)
    assert error.message == "the entry point run does not name a module and an object of Python"
    assert error.details == (*_of_entry_points(wheel), ("found", repr(reference)))
