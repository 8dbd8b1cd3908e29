"""Make written files survive a power cut.

Closed files and new names are first in the memory of the operating system. `sync_to_disk` waits
until they are on the disk. Linux has one call for a whole file system (syncfs(2)), which is much
cheaper than fsync(2) for each of the thousands of files of a layer (figures in docs/benchmarks.md),
but also waits for the writes of other programs. Elsewhere each file and directory is synced
separately.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stackbuild import windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SUPPORTED_BY_NO = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
"""Errors of file systems that cannot sync a directory, and of kernels without the call."""


class Sync(Protocol):
    """A function that writes files to the disk, or does nothing."""

    def __call__(self, *, trees: Iterable[Path] = (), directories: Iterable[Path] = ()) -> None:
        """Return when `trees`, with all their files, and the names in `directories` are on disk.

        Raises OSError if the disk fails.
        """


def sync_to_disk(*, trees: Iterable[Path] = (), directories: Iterable[Path] = ()) -> None:
    """Write `trees`, and the names in `directories`, to the disk. Raises OSError."""
    trees, directories = tuple(trees), tuple(directories)
    if _sync_file_systems((*trees, *directories)):
        return
    for tree in trees:
        _sync_tree(tree)
    for directory in directories:
        sync_directory(directory)
    for path in (*trees[-1:], *directories[-1:]):
        _empty_drive_cache(path)


def no_sync(*, trees: Iterable[Path] = (), directories: Iterable[Path] = ()) -> None:
    """Do nothing: the system writes later, and after a power cut files may be lost."""


def sync_directory(path: Path) -> None:
    """Write the names in the directory `path` to the disk. Raises OSError.

    Does nothing on Windows, where directories cannot be synced; NTFS has names in its journal.
    """
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _SUPPORTED_BY_NO:
            raise
    finally:
        os.close(descriptor)


def _sync_file_systems(paths: Iterable[Path]) -> bool:
    """Sync the file systems of `paths`; returns False if there is no call for it."""
    syncfs = _syncfs()
    if syncfs is None:
        return False
    done: set[int] = set()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            device = os.fstat(descriptor).st_dev
            if device not in done and not syncfs(descriptor, path):
                return False
            done.add(device)
        finally:
            os.close(descriptor)
    return True


@cache
def _syncfs() -> Callable[[int, Path], bool] | None:
    """syncfs(2) of the C library (glibc, musl), or None."""
    if sys.platform != "linux":
        return None
    # Imported late, because a command with nothing to do syncs no files.
    import ctypes

    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None:
        return None

    def call(descriptor: int, path: Path) -> bool:
        if function(descriptor) == 0:
            return True
        code = ctypes.get_errno()
        if code in _SUPPORTED_BY_NO:
            return False
        raise OSError(code, os.strerror(code), os.fspath(path))

    return call


def _sync_tree(tree: Path) -> None:
    """Sync every regular file and directory of `tree`; does not follow links."""
    pending = [windows.extended(tree)]
    while pending:
        directory = pending.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    _sync_file(entry.path)
        sync_directory(Path(directory))


def _sync_file(path: str) -> None:
    if os.name == "nt":
        _sync_file_of_windows(path)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_of_windows(path: str) -> None:
    # FlushFileBuffers needs a file open for writing, so a read-only file is made writable.
    mode = os.stat(path).st_mode  # noqa: PTH116 - a Path for each file costs too much time
    is_read_only = not mode & stat.S_IWRITE
    if is_read_only:
        os.chmod(path, mode | stat.S_IWRITE)  # noqa: PTH101 - as above
    try:
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    finally:
        if is_read_only:
            os.chmod(path, mode)  # noqa: PTH101 - as above


def _empty_drive_cache(path: Path) -> None:
    """On macOS fsync only passes data to the drive; make the drive write it."""
    if sys.platform == "darwin":
        import fcntl

        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in _SUPPORTED_BY_NO:
                raise
        finally:
            os.close(descriptor)
