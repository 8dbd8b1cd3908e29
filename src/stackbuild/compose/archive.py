"""Writes a composed layer to one file.

`tar.zst` is the concatenation of the frames; its size and frames are known before
it is written. The other formats contain the same entries, compressed again. They
do not depend on the time, the user or the machine.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from stackbuild.compose.manifest import Archive, ArchiveFormat
from stackbuild.files import atomic_file, zip_entry
from stackbuild.frames.contents import members, uncompressed

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Callable, Iterator

    from stackbuild.compose.layer import Composition
    from stackbuild.compose.manifest import Manifest
    from stackbuild.frames.cache import FrameCache
    from stackbuild.frames.tarformat import Member

_DOS_DIRECTORY = 0x10


def archive_name(manifest: Manifest, format_: ArchiveFormat) -> str:
    """The name of the archive: layer, digest, format."""
    return f"{manifest.layer}-{manifest.digest[:12]}.{format_}"


def write_archive(
    composition: Composition, cache: FrameCache, directory: Path, format_: ArchiveFormat
) -> Archive:
    """Write `composition` into `directory` atomically.

    Raises OSError, and IntegrityError for a frame that is damaged in the cache. It is
    removed from the cache, so that the next run makes it again.
    """
    path = directory / archive_name(composition.manifest, format_)
    with atomic_file(path) as work, work.open("xb") as file:
        return _write(composition, cache, file, format_)


def plan_archive(composition: Composition, cache: FrameCache, format_: ArchiveFormat) -> Archive:
    """The archive that `write_archive` would write. Raises as it does."""
    with Path(os.devnull).open("wb") as file:
        return _write(composition, cache, file, format_)


def _write(
    composition: Composition, cache: FrameCache, file: IO[bytes], format_: ArchiveFormat
) -> Archive:
    hashed = _Hashed(file)
    _WRITERS[format_](composition, cache, hashed)
    name = archive_name(composition.manifest, format_)
    return Archive(name=name, size=hashed.size, sha256=hashed.sha256(), format=format_)


class _Hashed:
    """An append-only file with the sha256 of its contents."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Append `data`."""
        self._digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()

    def sha256(self) -> str:
        """The sha256 (hex) of everything written so far."""
        return self._digest.hexdigest()


def _write_frames(composition: Composition, cache: FrameCache, file: _Hashed) -> None:
    for placed in composition.manifest.frames:
        for chunk in cache.read(placed.frame):
            file.write(chunk)


def _tar(composition: Composition, cache: FrameCache) -> Iterator[bytes]:
    """The whole tar archive; its last frame contains the end-of-archive blocks."""
    for placed in composition.manifest.frames:
        yield from uncompressed(placed.frame, cache)


def _write_xz(composition: Composition, cache: FrameCache, file: _Hashed) -> None:
    import lzma

    compressor = lzma.LZMACompressor(preset=lzma.PRESET_DEFAULT)
    for data in _tar(composition, cache):
        file.write(compressor.compress(data))
    file.write(compressor.flush())


def _write_gz(composition: Composition, cache: FrameCache, file: _Hashed) -> None:
    from stackbuild.runtimes.tarball import GzipWriter

    with GzipWriter(file, 9) as packed:
        for data in _tar(composition, cache):
            packed.write(data)


def _write_zip(composition: Composition, cache: FrameCache, file: _Hashed) -> None:
    """Write entries in the order of the frames; only the last one of a path."""
    import zipfile

    siblings = {link.directory for link in composition.manifest.chain}
    frames = [
        (number, frame) for number, item in enumerate(composition.sets) for frame in item.frames
    ]
    last = {path: number for number, item in enumerate(composition.sets) for path in item.paths}
    with zipfile.ZipFile(cast("IO[bytes]", file), "w") as archive:
        for number, frame in frames:
            for member in members(frame, cache, siblings):
                if last.get(member.path, number) == number:
                    add_to_zip(archive, member)


def add_to_zip(archive: zipfile.ZipFile, member: Member) -> None:
    """Add an entry of a frame; its bytes do not depend on the machine."""
    from zipfile import ZIP64_LIMIT, ZIP_DEFLATED

    if member.is_directory:
        entry = zip_entry(f"{member.path}/", stat.S_IFDIR | 0o755)
        entry.external_attr |= _DOS_DIRECTORY
    elif member.link is not None:
        entry = zip_entry(member.path, stat.S_IFLNK | 0o777)
    else:
        entry = zip_entry(member.path, stat.S_IFREG | member.mode)
    entry.compress_type = ZIP_DEFLATED
    if member.is_directory or member.link is not None:
        archive.writestr(entry, (member.link or "").encode())
    else:
        entry.file_size = member.size  # decides whether the entry needs zip64
        with archive.open(entry, "w", force_zip64=member.size >= ZIP64_LIMIT) as target:
            for chunk in member.data():
                target.write(chunk)


_WRITERS: dict[ArchiveFormat, Callable[[Composition, FrameCache, _Hashed], None]] = {
    "tar.zst": _write_frames,
    "tar.xz": _write_xz,
    "tar.gz": _write_gz,
    "zip": _write_zip,
}
