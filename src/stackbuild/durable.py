"""Making what was written survive a power cut.

A file that was closed, and a name that was given, are in the memory of the
operating system first. `sync_to_disk` waits until they are on the disk. Linux has
one call for a whole file system (syncfs(2)), which costs much less than one
fsync(2) for each of the thousands of files of a layer: figures in
docs/benchmarks.md. It also waits for what other programs have written there.
Elsewhere every file and directory is synchronized by itself.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SUPPORTED_BY_NO = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What file systems answer that cannot synchronize a directory, and kernels without a call."""


class Sync(Protocol):
    """A way to bring what was written to the disk, or to leave that out."""

    def __call__(self, *, trees: Iterable[Path] = (), directories: Iterable[Path] = ()) -> None:
        """Return when `trees` with all below them, and the names in `directories`, are on disk.

        Raises OSError where the disk has failed.
        """


def sync_to_disk(*, trees: Iterable[Path] = (), directories: Iterable[Path] = ()) -> None:
    """Bring `trees`, and the names in `directories`, to the disk. Raises OSError."""
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
    """Leave it to the system when it writes: after a power cut, files may be lost."""


def sync_directory(path: Path) -> None:
    """Bring the names in the directory `path` to the disk. Raises OSError.

    On Windows nothing is done: a directory cannot be synchronized there, and NTFS
    keeps changes of names in its journal.
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
    """Synchronize the file systems of `paths`; False where there is no call for that."""
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
    """syncfs(2) of the C library (glibc, musl); None where it has none."""
    if sys.platform != "linux":
        return None
    # Imported late: a command with nothing to do synchronizes nothing.
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
    """Synchronize every regular file and directory of `tree`, links not followed."""
    pending = [tree]
    while pending:
        directory = pending.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    _sync_file(entry.path)
        sync_directory(directory)


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
    # FlushFileBuffers wants a file that is open for writing, which one that is
    # marked as read-only cannot be.
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
    """On macOS, where fsync hands data to the drive, make the drive write all it was given."""
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
