"""Renames libraries in Mach-O files, and renews their ad-hoc signature.

Apple's <mach-o/loader.h> and <kern/cs_blobs.h> define the format. Only the load commands and the
signature change; all offsets stay the same. `install_name_tool` and `codesign`, which do this
on macOS, exist only there.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.frames.binaries import FAT, NEEDED, macho_slices

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER = 32
"""The size of the header of a 64-bit file. Other files are not edited."""
_MAGIC_64 = b"\xcf\xfa\xed\xfe"
_WEAK = 0x80000018
_SEGMENT, _SEGMENT_SIZE, _SECTION_SIZE = 0x19, 72, 80
_CODE_SIGNATURE = 0x1D

_SUPER_BLOB, _CODE_DIRECTORY = 0xFADE0CC0, 0xFADE0C02
_FIELDS = ">9I4BI"
"""The first fields of a code directory: magic, length, version, flags, offsets of the hashes and
of the identifier, numbers of special and code slots, limit of the code, size and type of hashes,
platform, logarithm of the page size, a spare field."""
_EXEC_SEGMENT = 64
"""The offset of three numbers about the segment with the code, in version 0x20400."""
_VERSION, _START = 0x20400, 88
_AD_HOC = 0x20002
"""CS_ADHOC and CS_LINKER_SIGNED: the flags with which Apple's linker signs."""
_SHA256, _HASH_SIZE = 2, 32


def renamed(data: bytes, names: Mapping[str, str]) -> bytes:
    """The Mach-O file `data` with the new `names` of needed libraries, on all processors.

    Raises ComposeError if there is no room, or the file is damaged.
    """
    try:
        if data[:4] not in FAT:
            return _renamed(data, names)
        result = bytearray(data)
        for start, size in macho_slices(data):
            result[start : start + size] = _renamed(data[start : start + size], names)
        return bytes(result)
    except (struct.error, ValueError) as error:
        raise ComposeError("a binary file is damaged", found=str(error)) from error


def _renamed(data: bytes, names: Mapping[str, str]) -> bytes:
    if data[:4] != _MAGIC_64:
        raise ValueError("it is not a 64-bit Mach-O file")
    count, size = struct.unpack_from("<II", data, 16)
    commands: list[bytes] = []
    position, end, signature = _HEADER, len(data), None
    for _ in range(count):
        command, length = struct.unpack_from("<II", data, position)
        if length < 8 or position + length > _HEADER + size:
            raise ValueError(f"a load command of {length} bytes")
        body = data[position : position + length]
        if command in NEEDED or command == _WEAK:
            body = _load_command(body, names)
        elif command == _SEGMENT:
            end = min(end, _first_content(body, end))
        elif command == _CODE_SIGNATURE:
            signature = struct.unpack_from("<II", body, 8)
        commands.append(body)
        position += length
    new = b"".join(commands)
    if _HEADER + len(new) > end:
        raise ComposeError(
            "the header of a library has no room for a longer name",
            expected=f"{_HEADER + len(new) - end} bytes more",
            remedy="link it with `-Wl,-headerpad_max_install_names`, or give it an rpath in its"
            " own distribution, such as `@loader_path/../lib`",
        )
    result = bytearray(data)
    result[20:24] = struct.pack("<I", len(new))
    result[_HEADER : _HEADER + max(size, len(new))] = new.ljust(size, b"\0")
    if signature:
        start, room = signature
        result[start : start + room] = _signature(bytes(result), start, room)
    return bytes(result)


def _load_command(body: bytes, names: Mapping[str, str]) -> bytes:
    (start,) = struct.unpack_from("<I", body, 8)
    name = body[start:].partition(b"\0")[0].decode("utf-8", "replace")
    if name not in names:
        return body
    text = names[name].encode() + b"\0"
    new = body[:start] + text + bytes(-(start + len(text)) % 8)
    return new[:4] + struct.pack("<I", len(new)) + new[8:]


def _first_content(segment: bytes, end: int) -> int:
    """The offset in the file of the first section of `segment`, or `end`."""
    (count,) = struct.unpack_from("<I", segment, 64)
    offsets = [
        struct.unpack_from("<I", segment, _SEGMENT_SIZE + _SECTION_SIZE * index + 48)[0]
        for index in range(count)
    ]
    return min((offset for offset in offsets if offset), default=end)


def _signature(data: bytes, start: int, room: int) -> bytes:
    """An ad-hoc signature of `data` up to `start`, with the identifier of the one there.

    A code directory with a sha256 of each page, as Apple's linker writes it.
    """
    magic, _, count = struct.unpack_from(">III", data, start)
    if magic != _SUPER_BLOB or not count:
        raise ValueError("it has an unknown signature")
    directory = start + struct.unpack_from(">I", data, start + 16)[0]
    fields = struct.unpack_from(_FIELDS, data, directory)
    if fields[0] != _CODE_DIRECTORY:
        raise ValueError("its signature has no code directory")
    version, identifier, page_log = fields[2], directory + fields[5], fields[12]
    if not 12 <= page_log <= 16:
        raise ValueError("its signature has an unknown size of pages")
    name = data[identifier : data.index(b"\0", identifier) + 1]
    segment = bytes(24)
    if version >= _VERSION:
        segment = data[directory + _EXEC_SEGMENT : directory + _START]
    page = 1 << page_log
    hashes = b"".join(
        hashlib.sha256(data[at : min(at + page, start)]).digest() for at in range(0, start, page)
    )
    slots = len(hashes) // _HASH_SIZE
    offset = _START + len(name)
    header = struct.pack(
        _FIELDS, _CODE_DIRECTORY, offset + len(hashes), _VERSION, _AD_HOC, offset, _START, 0, slots,
        start, _HASH_SIZE, _SHA256, 0, page_log, 0,
    )  # fmt: skip
    # Scatter, team and a limit of 64 bits are not used.
    blob = header.ljust(_EXEC_SEGMENT, b"\0") + segment + name + hashes
    whole = struct.pack(">5I", _SUPER_BLOB, 20 + len(blob), 1, 0, 20) + blob
    if len(whole) > room:
        raise ValueError("its signature has no room for sha256")
    return whole.ljust(room, b"\0")
