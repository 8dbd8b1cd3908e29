"""Make frames of an interpreter's archive: choose its files and rewrite its scripts."""

from __future__ import annotations

import os
import posixpath
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from stackbuild.errors import IntegrityError
from stackbuild.files import sha256_file
from stackbuild.frames.files import frames_of
from stackbuild.frames.keys import frame_key
from stackbuild.frames.model import FrameKind, FrameSet
from stackbuild.frames.scripts import LAUNCHER, launched_script
from stackbuild.frames.tarformat import END, check_link
from stackbuild.names import path_fault
from stackbuild.record import corrected, record_paths, record_rows
from stackbuild.runtimes.model import ROOT
from stackbuild.scripts import unbound

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path
    from tarfile import TarInfo

    from stackbuild.frames.cache import FrameCache
    from stackbuild.layout import Layout
    from stackbuild.runtimes.model import RuntimeArchive
    from stackbuild.spec.model import FrameSettings


_LARGEST_SCRIPT = 1024 * 1024


def chosen_files(
    archive: ArchiveFiles, layout: Layout, keep: Collection[str]
) -> tuple[ArchiveFile, ...]:
    """The files of `archive` for a layer that keeps the distributions `keep`.

    Left out are `__pycache__`, the marker EXTERNALLY-MANAGED (PEP 668), and site-packages with the
    scripts of its distributions, except those in `keep`. A script with the absolute path of the
    interpreter gets a relocatable launcher; if RECORD lists the script, it is updated. Raises
    IntegrityError.
    """
    owned, kept = _distributions(archive, layout, keep)
    files = {
        file.path: file
        for file in archive.files
        if "__pycache__" not in file.path.split("/")
        and file.path != f"{layout.stdlib}/EXTERNALLY-MANAGED"
        and (
            file.path in kept
            or not (file.path in owned or file.path.startswith(f"{layout.site_packages}/"))
        )
    }
    if layout.os != "windows":
        _launch_scripts(archive, files, layout)
    return tuple(file for _, file in sorted(files.items()))


def _distributions(
    archive: ArchiveFiles, layout: Layout, keep: Collection[str]
) -> tuple[set[str], set[str]]:
    """The paths of all distributions and of the kept ones, according to their RECORDs."""
    from packaging.utils import canonicalize_name

    owned: set[str] = set()
    kept: set[str] = set()
    for file in _records(archive.files, layout):
        directory = posixpath.basename(posixpath.dirname(file.path))
        name = canonicalize_name(directory.removesuffix(".dist-info").rpartition("-")[0])
        rows = record_rows(archive.read(file).decode())
        paths = {posixpath.normpath(f"{layout.site_packages}/{row[0]}") for row in rows}
        owned |= paths
        if name in keep:
            kept |= paths
    return owned, kept


def _records(files: Iterable[ArchiveFile], layout: Layout) -> list[ArchiveFile]:
    by_path = {file.path: file for file in files}
    return [by_path[path] for path in record_paths(by_path, layout.site_packages)]


def _launch_scripts(archive: ArchiveFiles, files: dict[str, ArchiveFile], layout: Layout) -> None:
    """Give each Python script in `files` a launcher, and update RECORD."""
    changed: dict[str, bytes] = {}
    launched: dict[str, str] = {}
    for path, file in tuple(files.items()):
        is_script = posixpath.dirname(path) == layout.scripts and file.link is None
        if not is_script or file.size > _LARGEST_SCRIPT:
            continue
        script = unbound(archive.read(file))
        if script is None:
            continue
        place = launched[path] = launched_script(path)
        if place in files:
            raise IntegrityError(
                "the path for a script in an interpreter's archive is already used", file=place
            )
        changed |= {path: LAUNCHER, place: script}
        files[path] = file._replace(data=LAUNCHER, size=len(LAUNCHER), executable=True)
        files[place] = file._replace(path=place, data=script, size=len(script), executable=False)
    for file in _records(tuple(files.values()), layout) if changed else ():
        record = archive.read(file)
        data = corrected(record, changed, layout.site_packages, beside=launched)
        files[file.path] = file._replace(data=data, size=len(data))


_TOP = f"{ROOT}/"
_CHUNK = 1024 * 1024


class ArchiveFile(NamedTuple):
    """A file or link of an interpreter; `offset` is the position of its bytes in the work file."""

    path: str
    size: int = 0
    executable: bool = False
    link: str | None = None
    offset: int = 0
    data: bytes | None = None
    """Bytes that replace those in the archive."""


class ArchiveFiles(NamedTuple):
    """An interpreter's files, sorted by path, and the work file with their bytes."""

    tar: Path
    files: tuple[ArchiveFile, ...]

    def chunks(self, file: ArchiveFile) -> Iterator[bytes]:
        """The bytes of `file`, in pieces. Thread-safe."""
        if file.data is not None:
            yield file.data
            return
        left = file.size
        with self.tar.open("rb") as stream:
            stream.seek(file.offset)
            while left and (chunk := stream.read(min(left, _CHUNK))):
                left -= len(chunk)
                yield chunk
        if left:
            raise IntegrityError("an interpreter's archive ends inside a file", file=file.path)

    def read(self, file: ArchiveFile) -> bytes:
        """All bytes of `file`."""
        return b"".join(self.chunks(file))


@contextmanager
def opened(
    archive: RuntimeArchive, layout: Layout, keep: Collection[str], cache: FrameCache
) -> Iterator[ArchiveFiles]:
    """Unpack the files of `archive` that go into a layer, for the `with` block.

    `chosen_files` selects them. Raises IntegrityError for an archive that is damaged, has another
    layout, or contains entries forbidden in a layer.
    """
    if (found := sha256_file(archive.path)) != archive.sha256:
        raise IntegrityError(
            "an interpreter's archive has changed",
            file=archive.path,
            expected=f"sha256 {archive.sha256}",
            found=f"sha256 {found}",
        )
    with cache.work_file() as tar:
        try:
            _decompress(archive.path, tar)
            files = _index(archive.path, tar)
        except _damages() as error:
            raise IntegrityError(
                f"an interpreter's archive cannot be read: {error}", file=archive.path
            ) from error
        everything = ArchiveFiles(tar=tar, files=files)
        if layout.runtime_interpreter not in {file.path for file in files}:
            raise _refused(archive.path, f"{_TOP}{layout.runtime_interpreter}", "is missing")
        yield everything._replace(files=chosen_files(everything, layout, keep))


def _damages() -> tuple[type[Exception], ...]:
    import gzip
    import tarfile
    import zlib

    from stackbuild.zstd import ZstdError

    return (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ZstdError)


def _decompress(path: Path, to: Path) -> None:
    from stackbuild.runtimes.tarball import decompressed

    with decompressed(path) as source, to.open("wb") as target:
        while chunk := source.read(_CHUNK):
            target.write(chunk)
    # zstd's reader and tarfile both accept a truncated archive.
    with to.open("rb") as whole:
        whole.seek(max(0, whole.seek(0, os.SEEK_END) - len(END)))
        if whole.read() != END:
            raise EOFError("it has no end-of-archive blocks")


def _index(path: Path, tar: Path) -> tuple[ArchiveFile, ...]:
    import tarfile

    files: dict[str, ArchiveFile] = {}
    with tarfile.open(tar, "r:", encoding="utf-8") as archive:
        for member in archive:
            name = posixpath.normpath(member.name) if member.isdir() else member.name
            if member.isdir() and name in (".", _TOP.rstrip("/")):
                continue
            fault = path_fault(name.removeprefix("./"))
            name = name.removeprefix("./")
            if not fault and not name.startswith(_TOP):
                fault = f"is not below {_TOP}"
            if not fault and name.removeprefix(_TOP) in files:
                fault = "is in it twice"
            if not fault and not (member.isdir() or member.isreg() or member.issym()):
                fault = None if member.islnk() else "is not a file, link or directory"
            if fault:
                raise _refused(path, name, fault)
            if not member.isdir():
                file = _file(member, name.removeprefix(_TOP))
                files[file.path] = file
    _check_places(path, files)
    return tuple(file for _, file in sorted(files.items()))


def _file(member: TarInfo, path: str) -> ArchiveFile:
    if member.issym():
        check_link(path, member.linkname)
        return ArchiveFile(path=path, link=member.linkname)
    if member.islnk():
        # A hard link to an earlier file; it becomes a symbolic link.
        target = member.linkname.removeprefix("./").removeprefix(_TOP)
        link = posixpath.relpath(target, posixpath.dirname(path) or ".")
        check_link(path, link)
        return ArchiveFile(path=path, link=link)
    return ArchiveFile(
        path=path,
        size=member.size,
        executable=bool(member.mode & 0o111),
        offset=member.offset_data,
    )


def _check_places(path: Path, files: dict[str, ArchiveFile]) -> None:
    directories: set[str] = set()
    for name in files:
        parent = posixpath.dirname(name)
        while parent and parent not in directories:
            if parent in files:
                raise _refused(path, name, "is below a file or a link")
            directories.add(parent)
            parent = posixpath.dirname(parent)


def _refused(path: Path, name: str, fault: str) -> IntegrityError:
    return IntegrityError(
        f"a file of an interpreter's archive {fault}", file=f"{path.name}: {name!a}"
    )


def interpreter_key(
    archive: RuntimeArchive, layout: Layout, keep: Collection[str], settings: FrameSettings
) -> str:
    """The key of the frame set that `interpreter_set` makes."""
    inputs = (archive.sha256, layout.os, layout.python, *sorted(keep))
    return frame_key("interpreter", *inputs, settings=settings)


def interpreter_set(
    archive: RuntimeArchive,
    layout: Layout,
    keep: Collection[str],
    settings: FrameSettings,
    cache: FrameCache,
) -> FrameSet:
    """The frames of the interpreter in `archive`, from the cache or newly made.

    `keep` are normalised names of distributions to keep in its site-packages. Raises IntegrityError
    for an archive that is damaged, is not in the `install_only` layout, or contains entries
    forbidden in a layer.
    """
    key = interpreter_key(archive, layout, keep, settings)
    if found := cache.get(key):
        return found
    with opened(archive, layout, keep, cache) as contents:
        frames, binaries = frames_of(
            FrameKind.INTERPRETER,
            f"cpython {archive.version}",
            contents.files,
            contents.chunks,
            settings,
            cache,
            os=layout.os,
        )
        paths = tuple(sorted(file.path for file in contents.files))
    return cache.put(FrameSet(key=key, frames=frames, paths=paths, binaries=binaries))
