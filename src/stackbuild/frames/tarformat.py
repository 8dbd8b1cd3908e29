"""Write and read the canonical tar fragment of a frame.

The format is ustar (POSIX.1-2001, "ustar Interchange Format"). pax extended headers are used only
for long or non-ASCII names and for files of 8 GiB and more. Time, owner and modes are fixed. The
reader accepts only this format, so an archive cannot contain entries that the writer would never
write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stackbuild.errors import IntegrityError
from stackbuild.files import EARLIEST
from stackbuild.names import link_fault, path_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from stackbuild.platforms import OsName

BLOCK = 512
END = bytes(2 * BLOCK)
"""The end-of-archive blocks; only the last frame of an archive has them."""

_MAX_PAX = 64 * 1024
_MAX_USTAR_SIZE = 8**11 - 1
_FILE, _LINK, _DIRECTORY, _PAX = b"0", b"2", b"5", b"x"
_MODES = {_FILE: 0o644, _LINK: 0o777, _DIRECTORY: 0o755, _PAX: 0o644}
_EXECUTABLE = 0o755
_CHUNK = 1024 * 1024

_OWNER = b"0000000\0" * 2
_TIME = b"%011o\0" % EARLIEST
_MAGIC_TO_DEVICE = b"ustar\x0000" + bytes(64) + b"0000000\0" * 2
_UNUSED = bytes(12)
_FIXED = ((108, _OWNER), (136, _TIME), (257, _MAGIC_TO_DEVICE), (500, _UNUSED))
"""The constant fields of header blocks, by offset."""


def check_path(path: str, os: OsName | None = None) -> None:
    """Check that a layer can have `path`, on `os` if given (`names.path_fault`).

    Raises IntegrityError.
    """
    if fault := path_fault(path, os):
        raise IntegrityError(f"the path {path!r} {fault}", file=ascii(path))


def check_link(path: str, link: str, siblings: Collection[str] = ()) -> None:
    """Check that the target `link` of a symbolic link at `path` is valid (`names.link_fault`).

    Raises IntegrityError.
    """
    if fault := link_fault(path, link, siblings):
        raise IntegrityError(f"the target {link!r} of a link {fault}", file=ascii(path))


def header(path: str, *, size: int = 0, executable: bool = False, link: str | None = None) -> bytes:
    """The header blocks of an entry.

    A `path` that ends in a slash is a directory; with `link` the entry is a
    symbolic link and has no data. `size` is in bytes. Raises IntegrityError
    for a path that `check_path` refuses.
    """
    kind = _LINK if link is not None else _DIRECTORY if path.endswith("/") else _FILE
    check_path(path.removesuffix("/"))
    records: list[tuple[str, str]] = []
    place = _ustar_place(path)
    if place is None:
        records.append(("path", path))
        place = (b"", path.encode("ascii", "replace")[:100].rstrip(b"/"))
    target = (link or "").encode("ascii", "replace")
    if link is not None and (len(target) > 100 or not link.isascii()):
        records.append(("linkpath", link))
    if size > _MAX_USTAR_SIZE:
        records.append(("size", str(size)))
    mode = _EXECUTABLE if executable and kind == _FILE else _MODES[kind]
    short_size = size if size <= _MAX_USTAR_SIZE else 0
    return _pax(records) + _block(place, kind, mode, short_size, target[:100])


def padding(size: int) -> bytes:
    """The zeros that follow `size` bytes of data."""
    return bytes(-size % BLOCK)


def _ustar_place(path: str) -> tuple[bytes, bytes] | None:
    """`path` as the prefix and name fields of ustar; None if it does not fit."""
    if not path.isascii():
        return None
    raw = path.encode()
    if len(raw) <= 100:
        return b"", raw
    cut = raw.find(b"/", len(raw) - 101)
    if cut <= 0 or cut > 155 or cut == len(raw) - 1:
        return None
    return raw[:cut], raw[cut + 1 :]


def _pax(records: list[tuple[str, str]]) -> bytes:
    if not records:
        return b""
    data = b"".join(_pax_record(key, value) for key, value in records)
    return _pax_block(len(data)) + data + padding(len(data))


def _pax_block(size: int) -> bytes:
    return _block((b"", b"././@PaxHeader"), _PAX, _MODES[_PAX], size, b"")


def _pax_record(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n".encode()
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _block(place: tuple[bytes, bytes], kind: bytes, mode: int, size: int, target: bytes) -> bytes:
    prefix, name = place
    before = name.ljust(100, b"\0") + b"%07o\0" % mode + _OWNER + b"%011o\0" % size + _TIME
    after = kind + target.ljust(100, b"\0") + _MAGIC_TO_DEVICE + prefix.ljust(155, b"\0") + _UNUSED
    return before + _checksum(before, after) + after


def _checksum(before: bytes, after: bytes) -> bytes:
    """The checksum field of the block with these bytes around it."""
    return b"%06o\0 " % (sum(before) + sum(after) + 8 * 0x20)


class Member(NamedTuple):
    """A checked entry of a tar fragment. Its data is available until the next entry is read."""

    path: str
    size: int
    mode: int
    """0o644 or 0o755; of links 0o777."""
    link: str | None
    """The target, for a symbolic link."""
    is_directory: bool
    """An empty directory."""
    reader: TarReader

    def data(self) -> Iterator[bytes]:
        """The file's bytes, in pieces. Raises IntegrityError if the fragment ends too early."""
        return self.reader.data()


class TarReader:
    """Reads the entries of one or more consecutive tar fragments.

    `read(n)` returns at most `n` bytes, and none at the end. Iterating raises IntegrityError for
    all deviations from the canonical format: other entry types, owners, times or permissions, paths
    or links out of the layer (links may lead into `siblings`, the directories beside it), duplicate
    paths, a path below a file or a link, a wrong checksum, a truncated fragment; with `os` also for
    names that are invalid on this system.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        *,
        siblings: Collection[str] = (),
        os: OsName | None = None,
    ) -> None:
        self._read = read
        self._siblings = siblings
        self._os = os
        self._left = 0
        self._pad = 0
        self._leaves: set[str] = set()
        self._directories: set[str] = {""}

    def __iter__(self) -> Iterator[Member]:
        """Each entry, in order."""
        while (block := self._next_block()) is not None:
            records: dict[str, str] = {}
            if block[156:157] == _PAX:
                records = self._pax_records(_checked(block))
                following = self._next_block()
                if following is None:
                    raise _damaged("ends after an extended header")
                block = following
            yield self._member(_checked(block), records)

    def data(self) -> Iterator[bytes]:
        """The remaining bytes of the current entry, in pieces."""
        while self._left:
            chunk = self._read(min(self._left, _CHUNK))
            if not chunk:
                raise _damaged("ends inside a file")
            self._left -= len(chunk)
            yield chunk

    def _next_block(self) -> bytes | None:
        for _ in self.data():
            pass
        self._exactly(self._pad)
        self._pad = 0
        block = self._exactly(BLOCK, may_end=True)
        if block.count(0) == len(block):
            if block:
                self._only_zeros()
            return None
        return block

    def _only_zeros(self) -> None:
        while chunk := self._read(_CHUNK):
            if chunk.count(0) != len(chunk):
                raise _damaged("continues after its end-of-archive blocks")

    def _exactly(self, size: int, *, may_end: bool = False) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self._read(size - len(data))
            if not chunk:
                if may_end and not data:
                    break
                raise _damaged("is truncated")
            data += chunk
        return data

    def _pax_records(self, block: bytes) -> dict[str, str]:
        size = _number(block, 124, 12)
        if size > _MAX_PAX:
            raise _damaged("has an extended header of more than 64 KiB")
        if block != _pax_block(size):
            raise _damaged("has an extended header that is not understood")
        data = self._exactly(size + -size % BLOCK)[:size]
        records: dict[str, str] = {}
        while data:
            digits = data.partition(b" ")[0]
            length = int(digits) if digits.isdigit() and len(digits) < 6 else 0
            key, _, value = data[len(digits) + 1 : length - 1].partition(b"=")
            name, text = _text(key), _text(value)
            is_known = name in _PAX_KEYS and name not in records
            if not is_known or data[:length] != _pax_record(name, text):
                raise _damaged("has an extended header that is not understood")
            records[name] = text
            data = data[length:]
        return records

    def _member(self, block: bytes, records: dict[str, str]) -> Member:
        kind = block[156:157]
        path = records.get("path", _ustar_path(block))
        if kind == _DIRECTORY:
            path = path.removesuffix("/")
        check_path(path, self._os)
        if kind not in (_FILE, _LINK, _DIRECTORY):
            raise IntegrityError("a tar entry is not a file, link or directory", file=path)
        mode = _number(block, 100, 8)
        if mode != _MODES[kind] and (kind, mode) != (_FILE, _EXECUTABLE):
            raise IntegrityError(
                "a tar entry has permissions that are not allowed in a layer",
                file=path,
                found=f"{mode:o}",
            )
        size = _pax_size(records["size"]) if "size" in records else _number(block, 124, 12)
        if size and kind != _FILE:
            raise IntegrityError("a tar entry has data, although it is not a file", file=path)
        link = records.get("linkpath", _field(block, 157, 100)) if kind == _LINK else None
        if link is not None:
            check_link(path, link, self._siblings)
        is_directory = kind == _DIRECTORY
        self._place(path, is_directory=is_directory)
        self._left, self._pad = size, -size % BLOCK
        return Member(
            path=path, size=size, mode=mode, link=link, is_directory=is_directory, reader=self
        )

    def _place(self, path: str, *, is_directory: bool) -> None:
        parent = path.rpartition("/")[0]
        while parent not in self._directories:
            if parent in self._leaves:
                raise IntegrityError("a tar entry is below a file or a link", file=path)
            self._directories.add(parent)
            parent = parent.rpartition("/")[0]
        if path in self._leaves or path in self._directories:
            raise IntegrityError("a path is in a tar fragment twice", file=path)
        (self._directories if is_directory else self._leaves).add(path)


_PAX_KEYS = ("path", "linkpath", "size")


def _damaged(what: str) -> IntegrityError:
    return IntegrityError(f"a tar fragment {what}", remedy="download or publish the archive again")


def _checked(block: bytes) -> bytes:
    if block[148:156] != _checksum(block[:148], block[156:]):
        raise _damaged("has a damaged header")
    if any(block[start : start + len(value)] != value for start, value in _FIXED):
        raise _damaged("has a header that is not in the canonical format")
    return block


def _field(block: bytes, start: int, length: int) -> str:
    return _text(block[start : start + length].rstrip(b"\0"))


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _damaged("has a name that is not UTF-8") from None


def _number(block: bytes, start: int, length: int) -> int:
    digits = block[start : start + length - 1]
    if digits.strip(b"01234567") or block[start + length - 1]:
        raise _damaged("has a header with a number that is not octal")
    return int(digits, 8)


def _pax_size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _damaged("has an extended header with a size that is not a number")
    return int(text)


def _ustar_path(block: bytes) -> str:
    prefix = _field(block, 345, 155)
    name = _field(block, 0, 100)
    return f"{prefix}/{name}" if prefix else name
