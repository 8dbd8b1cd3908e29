"""Read the needs of programs and shared libraries, for all formats."""

from __future__ import annotations

import mmap
import struct
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from stackbuild.errors import ComposeError
from stackbuild.frames.model import Binary
from stackbuild.runtimes import elf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from stackbuild.frames.cache import FrameCache
    from stackbuild.platforms import OsName, Platform


FAT = {b"\xca\xfe\xba\xbe": ">IIIII", b"\xca\xfe\xba\xbf": ">IIQQII"}
"""Universal files: the layout of an entry (processor, its variant, offset, size …)."""
_THIN = {b"\xce\xfa\xed\xfe": 28, b"\xcf\xfa\xed\xfe": 32}
"""Files for one processor, 32-bit and 64-bit: the size of the header."""
_MACHO_MAGICS = frozenset((*FAT, *_THIN))
"""Magic numbers of Mach-O files of little-endian processors."""

_MOST_SLICES = 20
"""Java class files have the same magic number as universal files. Their version, 45 or more, is at
the offset of the number of slices."""
_PROCESSORS = {7: "i386", 12: "arm", 0x01000007: "x86_64", 0x0100000C: "aarch64"}
_ARM64E = 2
"""The variant of `aarch64` for Apple's own programs."""
_PROGRAM, _LIBRARY, _BUNDLE = 2, 6, 8
NEEDED = frozenset({0xC, 0x8000001F, 0x80000023})
"""LC_LOAD_DYLIB, LC_REEXPORT_DYLIB, LC_LOAD_UPWARD_DYLIB. Libraries of LC_LOAD_WEAK_DYLIB are
optional."""
_RPATH = 0x8000001C


def macho_slices(data: bytes) -> list[tuple[int, int]]:
    """The offset and size of the file for each processor in the universal file `data`."""
    (count,) = struct.unpack_from(">I", data, 4)
    layout = FAT[data[:4]]
    size = struct.calcsize(layout)
    entries = (struct.unpack_from(layout, data, 8 + size * index) for index in range(count))
    return [(entry[2], entry[3]) for entry in entries]


def read_macho(path: Path, machine: str) -> Binary | None:
    """The needs of the Mach-O file `path` on the processor `machine`.

    None for files that dyld does not load: objects, debug symbols, archives and other formats.
    Raises ComposeError for a damaged file.
    """
    with path.open("rb") as file:
        try:
            slices = _slices(file)
            offset = slices.get(machine, next(iter(slices.values()), None))
            return None if offset is None else _read(file, offset, tuple(slices), machine)
        except (struct.error, ValueError) as error:
            raise ComposeError("a binary file is damaged", file=path, found=str(error)) from error


def _slices(file: BinaryIO) -> dict[str, int]:
    """The offset of the file for each processor; empty for other formats."""
    magic = file.read(4)
    if magic in _THIN:
        return {_processor(*_unpack("<II", file)): 0}
    if magic not in FAT:
        return {}
    (count,) = _unpack(">I", file)
    if count > _MOST_SLICES:
        return {}
    entries = [_unpack(FAT[magic], file) for _ in range(count)]
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
        if command in NEEDED:
            needed.append(_string(commands, position, length))
        elif command == _RPATH:
            search.append(_string(commands, position, length))
        position += length
    return Binary(machines=machines, needed=tuple(needed), search=tuple(search), program=program)


def _string(commands: bytes, position: int, length: int) -> str:
    """The string of a load command; its offset follows the command and its length."""
    (start,) = struct.unpack_from("<I", commands, position + 8)
    text = commands[position + start : position + length]
    if not text:
        raise ValueError("a load command without its text")
    return text.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _unpack(layout: str, file: BinaryIO) -> tuple[int, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


_PE_MAGIC = b"MZ"
_ENDINGS = frozenset({".dll", ".exe", ".pyd"})
"""File name extensions of PE files; only these must be valid if they begin with MZ."""
_MACHINES = {0x14C: "i386", 0x8664: "x86_64", 0xAA64: "aarch64"}
_IS_DLL = 0x2000
_IMPORTS, _DOTNET = 1, 14
"""Indexes of data directories (PE format, optional header). Delayed imports are loaded when they
are called, so they are optional."""


def read_pe(path: Path) -> Binary | None:
    """The DLLs that `path` is linked with, in lower case; None if it is not a PE file.

    Raises ComposeError for a damaged file.
    """
    # pefile collects garbage for 40 ms whenever it closes a file that it has opened itself.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _read_pe(path, data)


def _read_pe(path: Path, data: mmap.mmap) -> Binary | None:
    import pefile

    try:
        image = pefile.PE(data=data, fast_load=True)
    except pefile.PEFormatError as error:
        # Text and programs for DOS may also begin with these two letters.
        if path.suffix.lower() in _ENDINGS:
            raise ComposeError("a binary file is damaged", file=path, found=str(error)) from error
        return None
    try:
        image.parse_data_directories(directories=[_IMPORTS], import_dllnames_only=True)
        imports = getattr(image, "DIRECTORY_ENTRY_IMPORT", None)
        directories = image.OPTIONAL_HEADER.DATA_DIRECTORY
        if imports is None and len(directories) > _IMPORTS and directories[_IMPORTS].VirtualAddress:
            raise ComposeError("a binary file is damaged", file=path, found="no import table")
        managed = len(directories) > _DOTNET and directories[_DOTNET].VirtualAddress != 0
        machine = image.FILE_HEADER.Machine
        return Binary(
            # .NET code runs on any processor; it is compiled at start.
            machines=() if managed else (_MACHINES.get(machine, f"machine {machine:#x}"),),
            needed=tuple(entry.dll.decode("ascii", "replace").lower() for entry in imports or ()),
            program=not image.FILE_HEADER.Characteristics & _IS_DLL,
        )
    except pefile.PEFormatError as error:
        raise ComposeError("a binary file is damaged", file=path, found=str(error)) from error


_ELF_MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64", "EM_386": "i386", "EM_ARM": "arm"}
_DEVICES = frozenset({"EM_CUDA", "EM_AMDGPU"})
"""Code for devices, in the same format."""


def read_binary(path: Path, magic: bytes, platform: Platform) -> Binary | None:
    """The needs of `path`, which begins with `magic`, on `platform`.

    None for files that the loader of this system ignores, such as files for other systems in a
    distribution. Raises ComposeError for a damaged file.
    """
    if not _is_candidate(magic, platform.os):
        return None
    if platform.os == "macos":
        return read_macho(path, platform.machine)
    return read_pe(path) if platform.os == "windows" else _read_elf(path)


def _is_candidate(magic: bytes, os: OsName) -> bool:
    """Whether a file that begins with `magic` may be one that the loader of `os` loads."""
    if os == "macos":
        return magic in _MACHO_MAGICS
    return magic.startswith(_PE_MAGIC) if os == "windows" else magic == elf.MAGIC


def _read_elf(path: Path) -> Binary | None:
    found = elf.read_elf(path)
    if found is None or found.machine in _DEVICES:
        return None
    machine = _ELF_MACHINES.get(found.machine, found.machine)
    return Binary(machines=(machine,), needed=found.needed, search=found.search)


class BinaryReader:
    """Reads the needs of the programs and libraries among files that are put into frames.

    It copies them to work files while they pass. Thread-safe.
    """

    def __init__(self, os: OsName, cache: FrameCache) -> None:
        self._os: OsName = os
        self._cache = cache
        self._found: list[Binary] = []

    def watch(self, path: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """`chunks`, the contents of the file at the layer-relative `path`."""
        pieces = iter(chunks)
        first = next(pieces, b"")
        if not _is_candidate(first[:4], self._os):
            yield first
            yield from pieces
            return
        with self._cache.work_file() as work:
            with work.open("wb") as copy:
                copy.write(first)
                yield first
                for piece in pieces:
                    copy.write(piece)
                    yield piece
            self._found += _all_slices(work, path, self._os)

    def found(self, links: Mapping[str, str]) -> tuple[Binary, ...]:
        """The programs and libraries, sorted, also by the names of `links` to them.

        `links` are the targets of symbolic links, relative to the layer, by path.
        """
        by_path: dict[str, list[Binary]] = {}
        for binary in self._found:
            by_path.setdefault(binary.path, []).append(binary)
        for path in links:
            place, steps = path, 0
            while place in links and steps < len(links):
                place, steps = links[place], steps + 1
            if place in by_path:
                by_path[path] = [replace(one, path=path, link=True) for one in by_path[place]]
        return tuple(one for _, found in sorted(by_path.items()) for one in found)


def _all_slices(file: Path, path: str, os: OsName) -> Iterator[Binary]:
    """The needs of `file` on each of its processors; nothing if `verify` reports it as damaged."""
    with suppress(ComposeError, struct.error):
        if os != "macos":
            found = read_pe(file) if os == "windows" else _read_elf(file)
            if found:
                yield _named(found, path, found.machines)
            return
        with file.open("rb") as opened:
            machines = tuple(_slices(opened))
        for machine in machines:
            if found := read_macho(file, machine):
                yield _named(found, path, (machine,))


def _named(binary: Binary, path: str, machines: tuple[str, ...]) -> Binary:
    """`binary` at `path`, with names that JSON can contain."""

    def plain(texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(text.encode("utf-8", "replace").decode() for text in texts)

    needed, search = plain(binary.needed), plain(binary.search)
    return replace(binary, path=path, machines=machines, needed=needed, search=search)
