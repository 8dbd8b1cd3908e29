"""The smallest Mach-O, PE and ELF files that have what a check of libraries reads."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# Apple's <mach/machine.h>, <mach-o/loader.h>.
CPU = {"x86_64": (0x01000007, 3), "aarch64": (0x0100000C, 0), "arm64e": (0x0100000C, 0x80000002)}
PROGRAM, LIBRARY, BUNDLE, DEBUG_SYMBOLS = 2, 6, 8, 10
LOAD, WEAK, REEXPORT, ID, RPATH = 0xC, 0x80000018, 0x8000001F, 0xD, 0x8000001C
# PE format, machine types.
MACHINE = {"i386": 0x14C, "x86_64": 0x8664, "aarch64": 0xAA64}
EM = {"i386": 3, "x86_64": 62, "aarch64": 183, "amdgpu": 224}


def macho(
    machine: str = "aarch64",
    needed: Sequence[str] = (),
    *,
    weak: Sequence[str] = (),
    reexported: Sequence[str] = (),
    rpaths: Sequence[str] = (),
    name: str | None = None,
    kind: int = LIBRARY,
) -> bytes:
    """A Mach-O file for one processor, of load commands alone."""
    commands = [_dylib(ID, name)] if name else []
    commands += [_dylib(LOAD, item) for item in needed]
    commands += [_dylib(WEAK, item) for item in weak]
    commands += [_dylib(REEXPORT, item) for item in reexported]
    commands += [_command(RPATH, b"", item) for item in rpaths]
    data = b"".join(commands)
    return (
        struct.pack("<8I", 0xFEEDFACF, *CPU[machine], kind, len(commands), len(data), 0x85, 0)
        + data
    )


def fat(slices: Mapping[str, bytes]) -> bytes:
    """A universal Mach-O file."""
    head = struct.pack(">2I", 0xCAFEBABE, len(slices))
    offset = 4096
    body = b""
    for machine, data in slices.items():
        head += struct.pack(">5I", *CPU[machine], offset + len(body), len(data), 12)
        body += data.ljust(-len(data) % 4096 + len(data), b"\0")
    return head.ljust(offset, b"\0") + body


def _dylib(command: int, name: str) -> bytes:
    return _command(command, struct.pack("<3I", 2, 0x10000, 0x10000), name)


def _command(command: int, fields: bytes, text: str) -> bytes:
    data = text.encode() + b"\0"
    data += b"\0" * (-(12 + len(fields) + len(data)) % 8)
    size = 12 + len(fields) + len(data)
    return struct.pack("<3I", command, size, 12 + len(fields)) + fields + data


def pe(
    machine: str = "x86_64",
    needed: Iterable[str] = (),
    *,
    program: bool = False,
    managed: bool = False,
) -> bytes:
    """A PE32+ file with one section, which holds the import table."""
    base, start = 0x1000, 0x200
    names = list(needed)
    table = 20 * (len(names) + 1)
    descriptors = strings = b""
    for item in names:
        # The lists of functions are empty: one entry of zeros, shared by all.
        where = base + table + 8 + len(strings)
        descriptors += struct.pack("<5I", base + table, 0, 0, where, base + table)
        strings += item.encode() + b"\0"
    section = (descriptors + b"\0" * 20 + b"\0" * 8 + strings).ljust(start, b"\0")
    section = section.ljust(-len(section) % start + len(section), b"\0")
    directories = [(0, 0)] * 16
    if names:
        directories[1] = (base, table)
    if managed:
        directories[14] = (base, 72)
    optional = struct.pack("<HBBIIIII", 0x20B, 14, 0, 0, len(section), 0, 0, base)
    optional += struct.pack("<QIIHHHHHHIIIIHH", 0x180000000, 0x1000, start, *(6, 0) * 3, 0,
                            base + 0x1000, start, 0, 2, 0)  # fmt: skip
    optional += struct.pack("<QQQQII", 1 << 20, 1 << 12, 1 << 20, 1 << 12, 0, 16)
    optional += b"".join(struct.pack("<II", *entry) for entry in directories)
    flags = 0x22 if program else 0x2022
    header = struct.pack("<HHIIIHH", MACHINE[machine], 1, 0, 0, 0, len(optional), flags)
    sections = struct.pack(
        "<8s6I2HI", b".rdata", len(section), base, len(section), start, 0, 0, 0, 0, 0x40000040
    )
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    return (dos + b"PE\0\0" + header + optional + sections).ljust(start, b"\0") + section


def elf(machine: str = "x86_64", needed: Sequence[str] = ()) -> bytes:
    """A 64-bit ELF library with a dynamic section and no section headers."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    entries: list[tuple[int, int]] = []
    position = 1
    for name in needed:
        entries.append((1, position))
        position += len(name) + 1
    count = len(entries) + 3
    dynamic_at = 64 + 2 * 56
    strings_at = dynamic_at + 16 * count
    size = strings_at + len(strings)
    entries += [(5, strings_at), (10, len(strings)), (0, 0)]
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, EM[machine], 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0
    )
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, size, size, 4096)
    dynamic = struct.pack("<IIQQQQQQ", 2, 4, *(dynamic_at,) * 3, *(16 * count,) * 2, 8)
    body = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    return header + load + dynamic + body + strings
