"""Files and directories that are there whole or not at all, and locks between processes."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.durable import sync_directory

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module or None: what is asked below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from zipfile import ZipInfo

    from stackbuild.messages import Messages

WORK_SUFFIX = ".partial"
"""Ends the name of everything that is not finished; such leftovers may be removed."""


EARLIEST = 315_532_800
"""1980-01-01 in UTC, in seconds since the epoch: the earliest time that every archive format can
tell, and the time of every entry of the archives that are written here."""

_HOLDER_LIMIT = 100
"""Bytes that a lock file may say about who holds it."""
_ANOTHER = "waiting for another stackbuild that works in"


def is_inside(path: Path, directory: Path) -> bool:
    """Whether `path` is `directory` or something in it, all links followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory))


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
    """A free name beside `path`, whose file becomes `path` when the block ends well.

    So no reader sees half a file. When this returns, a power cut leaves the new one; one
    that is not `durable` may be empty after it, which is enough for what is made again
    where it is damaged. When the block fails, the file is removed. Missing parent
    directories are made. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work = work_path(path)
    try:
        yield work
        if durable:
            # A rename may reach the disk before the data does; after a power cut
            # the file would be there and empty.
            with work.open("rb+") as file:
                os.fsync(file.fileno())
        work.replace(path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def atomic_write(path: Path, data: bytes | str, *, durable: bool = True) -> None:
    """Replace the file `path` by one with `data` (text as UTF-8), as `atomic_file` does.

    The mode follows the umask. Raises OSError.
    """
    content = data.encode() if isinstance(data, str) else data
    with atomic_file(path, durable=durable) as work, work.open("xb") as file:
        file.write(content)


def atomic_copy(source: Path, path: Path) -> None:
    """Replace the file `path` by a copy of `source`, as `atomic_file` does. Raises OSError."""
    with atomic_file(path) as work:
        shutil.copyfile(source, work)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A new directory beside `path` that becomes `path` when the block ends well.

    When it does not, the directory is removed. When another process has made
    `path` meanwhile, theirs stays and this one is removed: it is for content
    that is the same whoever makes it. Missing parents are made. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work = work_path(path)
    work.mkdir()
    try:
        yield work
        try:
            work.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        remove_tree(work)


@contextmanager
def locked(path: Path, messages: Messages) -> Iterator[None]:
    """Hold the lock file `path`; tell when another process has it, and wait.

    The system gives the lock back when the process ends, however it ends. It
    is not reentrant. Missing parent directories are made; the file stays. The
    holder may remove the directory around it. Raises OSError.
    """
    with _flocked(path, messages) if fcntl else _filelocked(path, messages):
        yield


@contextmanager
def _flocked(path: Path, messages: Messages) -> Iterator[None]:
    # filelock does the same, but importing it takes 50 ms, a sixth of what a
    # command with nothing to do may take in all.
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if text := _waiting(path, os.pread(descriptor, _HOLDER_LIMIT, 0)):
                    messages.note(text)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Who held it may have removed the file; the next process would lock a new one.
            if _is_at(descriptor, path):
                _sign(descriptor)
                yield
                return
        finally:
            os.close(descriptor)


def _sign(descriptor: int) -> None:
    """Write into a lock file who holds it, for those who wait."""
    # On a full disk there may be no room for it, and `clean` must work there.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {os.uname().nodename}\n".encode(), 0)


def _waiting(path: Path, holder: bytes) -> str | None:
    """What to tell while somebody holds the lock file `path`, which says `holder`.

    None where it is another thread of this process.
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
            f"{text}: process {pid}, which is stopped; let it go on with `kill -CONT {pid}`, "
            f"or end it with `kill -KILL {pid}`"
        )
    return f"{text}: process {pid}; to go on without it, end it with `kill {pid}`"


def _is_stopped(pid: int) -> bool:
    """Whether a process waits for SIGCONT; False where there is no /proc (proc_pid_stat(5))."""
    try:
        # The name, in parentheses, may hold anything.
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in {b"T", b"t"}


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether `path` still names the open file."""
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
        # Windows lets nobody read a locked file, so it cannot say who holds it.
        messages.note(f"{_ANOTHER} {path.parent}")
        lock.acquire(poll_interval=0.1)
    try:
        yield
    finally:
        lock.release()


def remove_tree(path: Path) -> None:
    """Remove `path`, whatever it is, links not followed; nothing there is fine.

    Read-only files and directories go too. Raises OSError.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        path.unlink(missing_ok=True)
        return
    try:
        _remove_directory(path)
    except RecursionError:
        _flatten(path)
        _remove_directory(path)


def _remove_directory(path: Path) -> None:
    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=_make_writable)
    else:
        shutil.rmtree(path, onerror=_make_writable)


def _flatten(top: Path) -> None:
    """Move all files below `top` into it: rmtree of Python before 3.13 goes only so deep."""
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
                path.rename(top / f".{token}.{next(numbers)}{WORK_SUFFIX}")
            directory.rmdir()


def _make_writable(function: Callable[[str], object], name: str, _error: object) -> None:
    # POSIX asks for a writable directory, Windows for a writable file. On POSIX the
    # file keeps its mode, which it shares with all its hard links.
    removing = function in {os.unlink, os.rmdir}
    parent = Path(name).parent
    try:
        parent.chmod(0o700)
        if os.name == "nt" or not removing:
            Path(name).chmod(0o700)
        if removing:
            function(name)
        else:
            shutil.rmtree(name)
    except FileNotFoundError:
        return


def tree_size(path: Path) -> int:
    """Bytes of all regular files below `path`, hard links of one file counted once.

    Nothing there counts as nothing. Raises OSError for what cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    total = 0
    pending = [os.fspath(path)]
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
    """Pieces of bytes, read in other pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """At most `size` bytes, at least one where there is one."""
        return bytes(next(self.take(size), b""))

    def take(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes; fewer where the pieces end."""
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
    """The regular file at `path`, open for reading, links followed.

    Raises OSError, also for a directory, a named pipe or a device: opening one
    of those could wait for ever, and reading it need not end.
    """
    # With O_NONBLOCK a named pipe is opened without waiting for its writer.
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
    """The regular file at `path`, or its first `limit` bytes. Raises OSError as `open_regular`."""
    with open_regular(path) as file:
        return file.read(limit)


def why(error: OSError) -> str:
    """Why a file cannot be used, as the end of a sentence."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "does not exist"
    return f"cannot be read ({error.strerror})"


def mode_of(path: Path) -> int:
    """The `st_mode` of what is at `path`; 0 where that is nothing, or cannot be known."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0
