"""Unpack a verified frame."""

from __future__ import annotations

import os
import zlib
from typing import IO, TYPE_CHECKING

from stackbuild import windows
from stackbuild.errors import InstallError, IntegrityError
from stackbuild.frames.keys import frame_length
from stackbuild.frames.tarformat import TarReader
from stackbuild.install.store import PRIVATE, Listing, StoredFile

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from stackbuild.frames.model import Frame
    from stackbuild.frames.tarformat import Member
    from stackbuild.platforms import OsName

_CREATE = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
)


def unpack(
    compressed: IO[bytes],
    frame: Frame,
    tree: Path,
    siblings: Collection[str],
    for_os: OsName | None = None,
) -> Listing:
    """Unpack the files of `frame` below the new directory `tree`, read-only.

    The other parameters are those of `entries`. Raises as it does, and OSError.
    """
    return write_entries(entries(compressed, frame, siblings, for_os), tree)


def write_entries(members: Iterable[Member], tree: Path) -> Listing:
    """Write `members` below the new directory `tree`, read-only. Raises OSError."""
    tree.mkdir(mode=PRIVATE)
    writer = _Writer(windows.extended(tree))
    for member in members:
        writer.add(member)
    return writer.listing()


def entries(
    compressed: IO[bytes], frame: Frame, siblings: Collection[str], for_os: OsName | None = None
) -> Iterator[Member]:
    """The entries of `frame`, each checked before it is yielded.

    `compressed` is positioned at the first byte of the frame, whose sha256 is already checked.
    Links may point into the layer directories `siblings`. File names must be valid on `for_os`.
    Raises IntegrityError for forbidden entries and for a wrong size.
    """
    length = frame_length(compressed)
    if length is not None and length != frame.size:
        # Skippable or empty frames after it would be unchecked bytes.
        raise _differs(
            frame, "compressed size of a frame", f"{frame.size} bytes", f"{length} bytes"
        )
    return content_entries(_decompressed(compressed, frame), frame, siblings, for_os)


def content_entries(
    read: Callable[[int], bytes],
    frame: Frame,
    siblings: Collection[str],
    for_os: OsName | None = None,
) -> Iterator[Member]:
    """The entries of `frame` as `entries` yields them; `read` gives its contents, uncompressed."""
    source = _Counted(read, frame)
    members = 0
    for member in TarReader(source.read, siblings=siblings, os=for_os):
        if for_os == "windows" and member.link is not None:
            raise IntegrityError("a layer for Windows contains a link", file=ascii(member.path))
        yield member
        members += 1
    source.finish()
    if members != frame.files:
        raise _differs(frame, "number of files in a frame", str(frame.files), str(members))


def _decompressed(compressed: IO[bytes], frame: Frame) -> Callable[[int], bytes]:
    from stackbuild.zstd import ZstdError, ZstdReader

    reader = ZstdReader(compressed)

    def read(size: int) -> bytes:
        try:
            return reader.read(size)
        except ZstdError as error:
            raise _fault(frame, f"a frame cannot be decompressed: {error}") from error

    return read


class _Counted:
    """Reads at most the frame's size in bytes."""

    def __init__(self, read: Callable[[int], bytes], frame: Frame) -> None:
        self._read = read
        self._frame = frame
        self._count = 0

    def read(self, size: int) -> bytes:
        data = self._read(size)
        self._count += len(data)
        if self._count > self._frame.content_size:
            raise self._differs("more")
        return data

    def finish(self) -> None:
        # `TarReader` has read to the end, also beyond the end-of-archive blocks.
        if self._count != self._frame.content_size:
            raise self._differs(f"{self._count} bytes")

    def _differs(self, found: str) -> IntegrityError:
        expected = f"{self._frame.content_size} bytes"
        return _differs(self._frame, "unpacked size of a frame", expected, found)


class _Writer:
    """Creates files below `base`; never follows links or replaces files."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._directories: dict[str, None] = {"": None}
        self._files: list[StoredFile] = []
        self._links: list[tuple[str, str]] = []

    def listing(self) -> Listing:
        return Listing(
            directories=tuple(self._directories)[1:],
            files=tuple(self._files),
            links=tuple(self._links),
        )

    def add(self, member: Member) -> None:
        path = member.path
        try:
            if member.is_directory:
                self._directory(path)
                return
            self._directory(path.rpartition("/")[0])
            if member.link is None:
                self._file(path, member)
            else:
                os.symlink(member.link, windows.inside(self._base, path))  # noqa: PTH211 - a Path for each costs too much time
                self._links.append((path, member.link))
        except FileExistsError as error:
            # The reader refuses duplicate paths, so the file system treats two paths as equal.
            raise InstallError(
                "this file system treats two paths of a frame as the same file",
                file=path,
                remedy="install into a case-sensitive file system",
            ) from error

    def _directory(self, path: str) -> None:
        if path not in self._directories:
            self._directory(path.rpartition("/")[0])
            os.mkdir(windows.inside(self._base, path), PRIVATE)  # noqa: PTH102 - a Path for each costs too much time
            self._directories[path] = None

    def _file(self, path: str, member: Member) -> None:
        executable = bool(member.mode & 0o111)
        descriptor = os.open(
            windows.inside(self._base, path), _CREATE, 0o555 if executable else 0o444
        )
        crc = 0
        try:
            for chunk in member.data():
                crc = zlib.crc32(chunk, crc)
                _write(descriptor, chunk)
            mtime_ns = os.fstat(descriptor).st_mtime_ns
        finally:
            os.close(descriptor)
        self._files.append(StoredFile(path, member.size, executable, crc, mtime_ns))


def _write(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        # An almost full disk writes a part; the next write raises the error.
        written += os.write(descriptor, memoryview(data)[written:])


def _fault(frame: Frame, message: str, **details: str) -> IntegrityError:
    remedy = "publish the layer again"
    return IntegrityError(message, distribution=frame.subject, remedy=remedy, **details)


def _differs(frame: Frame, what: str, expected: str, found: str) -> IntegrityError:
    message = f"the {what} does not match its manifest"
    return _fault(frame, message, expected=expected, found=found)
