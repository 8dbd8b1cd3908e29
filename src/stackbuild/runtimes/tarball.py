"""Write reproducible archives, and unpack foreign archives safely."""

from __future__ import annotations

import gzip
import io
import posixpath
import re
import struct
import tarfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Protocol, Self, cast

from stackbuild.errors import IntegrityError
from stackbuild.files import EARLIEST
from stackbuild.runtimes.model import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from packaging.version import Version

    from stackbuild.runtimes.contents import Entry


def write_tarball(path: Path, entries: Mapping[str, Entry]) -> None:
    """Write a `.tar.gz` whose bytes depend only on the entries.

    Level 1, because it is read only once, to make frames.
    """
    with path.open("wb") as file, GzipWriter(file, 1) as compressed:
        # As a stream (|), so that only `write` of `compressed` is called.
        stream = cast("IO[bytes]", compressed)
        with tarfile.open(mode="w|", fileobj=stream, format=tarfile.PAX_FORMAT) as tar:
            for name in sorted(entries):
                _add(tar, f"{ROOT}/{name}", entries[name])


class Writable(Protocol):
    """The part of a binary file that writers use."""

    def write(self, data: bytes, /) -> int:
        """Append `data`."""


class GzipWriter:
    """Compresses into `file` as one gzip member (RFC 1952) without name and time.

    If `file` fails, as on a full disk, its error is raised and the member stays unfinished.
    `gzip.GzipFile` is not used, because from Python 3.12 on it writes its buffer again when it is
    deleted, and the interpreter then prints a second traceback.
    """

    def __init__(self, file: Writable, level: int) -> None:
        self._file = file
        self._compressor = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._crc = self._size = 0
        # No flags, time 0, level (2 best, 4 fastest), operating system unknown.
        file.write(b"\x1f\x8b\x08\0" + bytes(4) + bytes([{9: 2, 1: 4}.get(level, 0), 255]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._file.write(self._compressor.flush())
            self._file.write(struct.pack("<2I", self._crc, self._size & 0xFFFFFFFF))

    def write(self, data: bytes, /) -> int:
        """Compress `data` and append it. Raises what `file` raises."""
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        self._file.write(self._compressor.compress(data))
        return len(data)


def _add(tar: tarfile.TarFile, name: str, entry: Entry) -> None:
    info = tarfile.TarInfo(name)
    info.mtime = EARLIEST
    if entry.link is not None:
        info.type = tarfile.SYMTYPE
        info.linkname = entry.link
        info.mode = 0o777
        tar.addfile(info)
        return
    data = entry.read()
    info.size = len(data)
    info.mode = 0o755 if entry.executable else 0o644
    tar.addfile(info, io.BytesIO(data))


def unpack_tarball(archive: Path, to: Path) -> None:
    """Unpack a `.tar.gz` or `.tar.zst` into the existing directory `to`.

    Raises IntegrityError for a damaged archive and for forbidden entries: paths and links that
    leave `to`, devices, duplicates, set-user-ID bits.
    """
    seen: dict[str, bool] = {}
    try:
        with decompressed(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            # CPython before 3.11.4 has no filters; there only `_check` applies.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            for member in tar:
                _check(member, seen, archive)
                tar.extract(member, to)
    except (tarfile.TarError, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno and not isinstance(error, gzip.BadGzipFile):
            raise
        raise IntegrityError(
            "the archive of an interpreter cannot be unpacked", file=archive, found=str(error)
        ) from error


def _check(member: tarfile.TarInfo, seen: dict[str, bool], archive: Path) -> None:
    """Check `member` and add its name to `seen`, with whether it is a symbolic link."""
    name = member.name.rstrip("/")
    fault = _fault(member, name, seen)
    if fault is not None:
        raise IntegrityError(
            "the archive of an interpreter contains a forbidden entry",
            file=archive,
            found=f"{name!r}{fault}",
        )
    seen[name] = member.issym()


def _fault(member: tarfile.TarInfo, name: str, seen: Mapping[str, bool]) -> str | None:
    parts = name.split("/")
    if parts[0] != ROOT or ".." in parts or "" in parts:
        return f", which is not below {ROOT}/"
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return ", which is not a file, directory or link"
    if member.mode & 0o6000:
        return " with a set-user-ID or set-group-ID bit"
    if name in seen and not member.isdir():
        return " twice"
    if any(seen.get("/".join(parts[:count])) for count in range(1, len(parts))):
        return ", which is below a link"
    return _link_fault(member, name)


def _link_fault(member: tarfile.TarInfo, name: str) -> str | None:
    if not (member.issym() or member.islnk()):
        return None
    if member.linkname.startswith("/"):
        return ", an absolute link"
    # The target of a hard link is a name in the archive (POSIX.1-2001, ustar).
    base = posixpath.dirname(name) if member.issym() else ""
    target = posixpath.normpath(posixpath.join(base, member.linkname))
    if target.partition("/")[0] == "..":
        return f", a link to {member.linkname!r} outside the destination"
    return None


_HEADER = re.compile(rf"{ROOT}/include/(?:python[^/]+/)?patchlevel\.h")
_PY_VERSION = re.compile(rb'#define\s+PY_VERSION\s+"([^"]+)"')


def version_inside(archive: Path) -> Version | None:
    """The version of CPython in the header `patchlevel.h` of `archive`; None without one.

    Also None for a damaged archive: unpacking it reports the damage.
    """
    from packaging.version import InvalidVersion, Version

    from stackbuild.zstd import ZstdError

    damages = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ZstdError)
    try:
        with decompressed(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                if _HEADER.fullmatch(member.name) and (file := tar.extractfile(member)):
                    match = _PY_VERSION.search(file.read(member.size))
                    # A development build has a version such as 3.14.0+.
                    return Version(match[1].decode().rstrip("+")) if match else None
    except (*damages, ValueError, InvalidVersion):
        pass
    return None


@contextmanager
def decompressed(archive: Path) -> Iterator[IO[bytes]]:
    """The tar archive in a `.tar.gz` or `.tar.zst`; only its method `read` may be called."""
    with archive.open("rb") as file:
        if archive.name.endswith(".zst"):
            from stackbuild.zstd import ZstdReader

            # tarfile only calls read() of a stream.
            yield cast("IO[bytes]", ZstdReader(file, all_frames=True))
        else:
            with gzip.GzipFile(fileobj=file) as stream:
                yield cast("IO[bytes]", stream)
