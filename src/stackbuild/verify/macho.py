"""Reads Mach-O files: for which processors they are, what they need and where they look for it.

macholib would read them too, but reads the contents of every section of every
slice into memory (more than 100 MB for LLVM's library alone), and takes a file with
debug symbols, whose sections are elsewhere, for a damaged one. Only the load
commands count here; their layout is that of `<mach-o/loader.h>` and
`<mach-o/fat.h>` of Apple's SDK.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.verify.binary import Binary

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_FAT = {b"\xca\xfe\xba\xbe": ">IIIII", b"\xca\xfe\xba\xbf": ">IIQQII"}
"""Universal files: how an entry is laid out (processor, its variant, offset, size …)."""
_THIN = {b"\xce\xfa\xed\xfe": 28, b"\xcf\xfa\xed\xfe": 32}
"""Files for one processor, of 32 and 64 bits: the size of their header."""
MAGICS = frozenset((*_FAT, *_THIN))
"""What Mach-O files of little-endian processors begin with."""

_MOST_SLICES = 20
"""A class file of Java begins as a universal file does, with its version, 45 or more, where
that has the number of slices."""
_PROCESSORS = {7: "i386", 12: "arm", 0x01000007: "x86_64", 0x0100000C: "aarch64"}
_ARM64E = 2
"""The variant of `aarch64` that only Apple's own programs can use."""
_PROGRAM, _LIBRARY, _BUNDLE = 2, 6, 8
_NEEDED = frozenset({0xC, 0x8000001F, 0x80000023})
"""LC_LOAD_DYLIB, LC_REEXPORT_DYLIB, LC_LOAD_UPWARD_DYLIB. What LC_LOAD_WEAK_DYLIB names may
be missing."""
_RPATH = 0x8000001C


def read_macho(path: Path, machine: str) -> Binary | None:
    """What the Mach-O file `path` needs on the processor `machine`.

    None for a file that dyld does not load: objects, debug symbols, archives
    and files of other formats. Raises ComposeError for a damaged one.
    """
    with path.open("rb") as file:
        try:
            slices = _slices(file)
            offset = slices.get(machine, next(iter(slices.values()), None))
            return None if offset is None else _read(file, offset, tuple(slices), machine)
        except (struct.error, ValueError) as error:
            raise ComposeError("a program file is damaged", file=path, found=str(error)) from error


def _slices(file: BinaryIO) -> dict[str, int]:
    """Where the file for each processor begins; nothing for a file of another kind."""
    magic = file.read(4)
    if magic in _THIN:
        return {_processor(*_unpack("<II", file)): 0}
    if magic not in _FAT:
        return {}
    (count,) = _unpack(">I", file)
    if count > _MOST_SLICES:
        return {}
    entries = [_unpack(_FAT[magic], file) for _ in range(count)]
    return {_processor(entry[0], entry[1]): entry[2] for entry in entries}


def _processor(kind: int, variant: int) -> str:
    name = _PROCESSORS.get(kind, f"processor {kind:#x}")
    return "arm64e" if name == "aarch64" and variant & 0xFF == _ARM64E else name


def _read(file: BinaryIO, offset: int, machines: tuple[str, ...], machine: str) -> Binary | None:
    file.seek(offset)
    magic = file.read(4)
    if magic not in _THIN:
        return None  # slices may be archives of objects
    _, _, kind, count, size = _unpack("<5I", file)
    if kind not in {_PROGRAM, _LIBRARY, _BUNDLE}:
        return None
    program = kind == _PROGRAM
    if machine not in machines:
        return Binary(machines=machines, program=program)
    file.seek(offset + _THIN[magic])
    commands = file.read(size)
    needed: list[str] = []
    search: list[str] = []
    position = 0
    for _ in range(count):
        command, length = struct.unpack_from("<II", commands, position)
        if length < 8:
            raise ValueError(f"a load command of {length} bytes")
        if command in _NEEDED:
            needed.append(_string(commands, position, length))
        elif command == _RPATH:
            search.append(_string(commands, position, length))
        position += length
    return Binary(machines=machines, needed=tuple(needed), search=tuple(search), program=program)


def _string(commands: bytes, position: int, length: int) -> str:
    """The text of a load command; where it begins is told after the command and its length."""
    (start,) = struct.unpack_from("<I", commands, position + 8)
    text = commands[position + start : position + length]
    if not text:
        raise ValueError("a load command without its text")
    return text.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _unpack(layout: str, file: BinaryIO) -> tuple[int, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
