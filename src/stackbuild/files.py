"""Create files and directories atomically, lock between processes, remove trees."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild import windows
from stackbuild.durable import sync_directory

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module or None; checked below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from zipfile import ZipInfo

    from stackbuild.messages import Messages

WORK_SUFFIX = ".partial"
"""The suffix of unfinished files; leftovers with it may be removed."""


EARLIEST = 315_532_800
"""1980-01-01 in UTC, in seconds since the epoch: the earliest time that every archive format can
store, used for all entries of archives."""

_HOLDER_LIMIT = 100
"""Limit for the information about the lock holder, in bytes."""
_ANOTHER = "waiting for another stackbuild process in"


def is_inside(path: Path, directory: Path) -> bool:
    """Whether `path` is `directory` or in it, with all links resolved."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory))


def work_tree(directory: Path) -> Path | None:
    """The nearest directory from `directory` upwards that is the top of a work tree."""
    return next((top for top in (directory, *directory.parents) if is_top(top)), None)


def is_top(directory: Path) -> bool:
    """Whether `directory` is the top of a work tree of git (gitrepository-layout(5))."""
    path = directory / ".git"
    try:
        if path.is_file():  # of submodules, and of what `git worktree add` makes
            return path.read_bytes()[:8] == b"gitdir: "
        return path.is_dir() and (path / "HEAD").exists() and (path / "objects").is_dir()
    except OSError:
        return False


def work_path(path: Path) -> Path:
    """A free name beside `path`, on the same file system, for work that ends in a rename."""
    return path.with_name(f".{path.name[:80]}.{os.urandom(6).hex()}{WORK_SUFFIX}")


def zip_entry(name: str, mode: int = 0) -> ZipInfo:
    """An entry of a zip archive, with the `st_mode` `mode`, which is the same on every host."""
    from zipfile import ZipInfo

    entry = ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.create_system = 3  # Unix, so that modes and links are understood
    entry.external_attr = mode << 16
    return entry


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A free name beside `path`; its file is renamed to `path` if the block succeeds.

    Readers never see a partial file. Afterwards the file survives a power cut; without `durable` it
    may then be empty, which is enough for files that are recreated if damaged. If the block fails,
    the file is removed. Missing parent directories are created. Raises OSError.

    Example::

        with atomic_file(path) as work:
            work.write_bytes(data)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work = work_path(path)
    try:
        yield work
        if durable:
            # Otherwise the rename may reach the disk before the data, and the file is empty after a
            # power cut.
            with work.open("rb+") as file:
                os.fsync(file.fileno())
        windows.replace(work, path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def atomic_write(path: Path, data: bytes | str, *, durable: bool = True) -> None:
    """Replace the file `path` atomically with `data` (text as UTF-8).

    The mode follows the umask. Raises OSError.
    """
    content = data.encode() if isinstance(data, str) else data
    with atomic_file(path, durable=durable) as work, work.open("xb") as file:
        file.write(content)


def atomic_copy(source: Path, path: Path) -> None:
    """Replace the file `path` atomically with a copy of `source`. Raises OSError."""
    with atomic_file(path) as work:
        shutil.copyfile(source, work)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A new directory beside `path` that is renamed to `path` if the block succeeds.

    If the block fails, the directory is removed. If another process has created `path` in the
    meantime, that one is kept, so the contents must be the same in all processes. Missing parent
    directories are created. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work = work_path(path)
    work.mkdir()
    try:
        yield work
        try:
            windows.rename(work, path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        remove_tree(work)


@contextmanager
def locked(path: Path, messages: Messages) -> Iterator[None]:
    """Lock the file `path`; if another process has locked it, show a message and wait.

    The system releases the lock when the process ends. The lock is not reentrant. Missing parent
    directories are created; the file is kept. The holder may remove its directory. Raises OSError,
    also for a link.
    """
    with _flocked(path, messages) if fcntl else _filelocked(path, messages):
        yield


@contextmanager
def _flocked(path: Path, messages: Messages) -> Iterator[None]:
    # filelock is not used because importing it takes 50 ms, a sixth of the limit for a command with
    # nothing to do.
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not through a link: the holder is written into the file.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if text := _waiting(path, os.pread(descriptor, _HOLDER_LIMIT, 0)):
                    messages.note(text)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # The previous holder may have removed the file; other processes would then lock a new
            # one.
            if is_at(descriptor, path):
                _sign(descriptor)
                yield
                return
        finally:
            os.close(descriptor)


def _sign(descriptor: int) -> None:
    """Write the holder into a lock file, for messages of waiting processes."""
    # Ignored, because `clean` must work on a full disk.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {os.uname().nodename}\n".encode(), 0)


def _waiting(path: Path, holder: bytes) -> str | None:
    """The message while the lock file `path`, with the contents `holder`, is locked.

    None if the holder is another thread of this process.
    """
    text = f"{_ANOTHER} {path.parent}"
    pid, _, host = holder.decode(errors="replace").strip().partition(" ")
    if not (pid.isascii() and pid.isdecimal()):
        return text
    if host != os.uname().nodename:
        return f"{text}: process {pid} on {host}"
    if int(pid) == os.getpid():
        return None
    if _is_stopped(int(pid)):
        return (
            f"{text}: process {pid}, which is stopped; continue it with `kill -CONT {pid}`, "
            f"or end it with `kill -KILL {pid}`"
        )
    return f"{text}: process {pid}; to stop waiting, end it with `kill {pid}`"


def _is_stopped(pid: int) -> bool:
    """Whether a process is stopped; False without /proc (proc_pid_stat(5))."""
    try:
        # The name, in parentheses, may contain any character.
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in {b"T", b"t"}


def is_at(descriptor: int, path: Path) -> bool:
    """Whether `path` still names the open file; another process may have renamed or removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _filelocked(path: Path, messages: Messages) -> Iterator[None]:
    import filelock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        # On Windows a locked file cannot be read, so the holder is unknown.
        messages.note(f"{_ANOTHER} {path.parent}")
        lock.acquire(poll_interval=0.1)
    try:
        yield
    finally:
        lock.release()


def remove_tree(path: Path) -> None:
    """Remove the file, link or directory `path`, if it exists; does not follow links.

    Removes read-only files and directories too. Raises OSError.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        with suppress(FileNotFoundError):
            windows.unlink(path)
        return
    try:
        _remove_directory(path)
    except RecursionError:
        _flatten(path)
        _remove_directory(path)


def _remove_directory(path: Path) -> None:
    name = windows.extended(path)
    if sys.version_info >= (3, 12):
        shutil.rmtree(name, onexc=_make_writable)
    else:
        shutil.rmtree(name, onerror=_make_writable)


def _flatten(top: Path) -> None:
    """Move all files below `top` into it, for rmtree's recursion limit before Python 3.13."""
    token, numbers = os.urandom(6).hex(), count()
    pending = True
    while pending:
        directories = [
            Path(entry) for entry in os.scandir(top) if entry.is_dir(follow_symlinks=False)
        ]
        pending = bool(directories)
        for directory in directories:
            directory.chmod(0o700)
            for path in list(directory.iterdir()):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o700)  # Moving a directory changes its entry `..`.
                path.rename(top / f".{token}.{next(numbers)}{WORK_SUFFIX}")
            directory.rmdir()


def _make_writable(function: Callable[[str], object], name: str, _error: object) -> None:
    # POSIX needs a writable directory. The mode of a file is kept, because all its hard links share
    # it; Windows needs another call for a read-only one.
    removing = function in {os.unlink, os.rmdir}
    try:
        Path(name).parent.chmod(0o700)
        if function is os.unlink and os.name == "nt":
            windows.unlink(name)
            return
        if os.name == "nt" or not removing:
            Path(name).chmod(0o700)
        if removing:
            function(name)
        else:
            shutil.rmtree(name)
    except FileNotFoundError:
        return


def tree_size(path: Path) -> int:
    """Bytes of all regular files below `path`; hard links of one file count once.

    A missing path counts as 0. Raises OSError for unreadable directories.
    """
    seen: set[tuple[int, int]] = set()
    total = 0
    pending = [windows.extended(path)]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink == 1 or (status.st_dev, status.st_ino) not in seen:
                        total += status.st_size
                        seen.add((status.st_dev, status.st_ino))
    return total


class Pieces:
    """Reads pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """At most `size` bytes; empty only at the end."""
        return bytes(next(self.take(size), b""))

    def take(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes; fewer at the end."""
        while size:
            while not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    return
                self._rest = memoryview(piece)
            taken, self._rest = self._rest[:size], self._rest[size:]
            size -= len(taken)
            yield taken


def open_regular(path: Path) -> BufferedReader:
    """Open the regular file at `path` for reading; follows links.

    Raises OSError, also for a directory, a named pipe or a device, where opening or reading could
    block forever.
    """
    # With O_NONBLOCK, opening a named pipe does not wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            kind = "a named pipe" if stat.S_ISFIFO(mode) else "a device or socket"
            raise OSError(errno.EINVAL, f"it is {kind} and not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, limit: int = -1) -> bytes:
    """Read the regular file at `path`, or its first `limit` bytes. Raises OSError."""
    with open_regular(path) as file:
        return file.read(limit)


def sha256_file(path: Path) -> str:
    """The sha256 (hex) of the regular file at `path`. Raises OSError."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def why(error: OSError) -> str:
    """The reason why a file cannot be used, as the end of a sentence."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "does not exist"
    return f"cannot be read ({error.strerror})"


def mode_of(path: Path) -> int:
    """The `st_mode` of `path`; 0 if it is missing or not accessible."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0
