from __future__ import annotations

import calendar
import errno
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stackbuild import files
from stackbuild.errors import IN_THE_WAY, obstacle
from stackbuild.files import (
    EARLIEST,
    Pieces,
    _filelocked,
    atomic_copy,
    atomic_directory,
    atomic_write,
    is_inside,
    locked,
    mode_of,
    open_regular,
    read_regular,
    remove_tree,
    tree_size,
    why,
    work_path,
    zip_entry,
)
from stackbuild.messages import Silent
from stackbuild.workspace import Workspace, temporary

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def in_an_empty_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed `_flatten` (`make mutants`) may take the working directory for the one to empty."""
    monkeypatch.chdir(tmp_path_factory.mktemp("working"))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_what_is_inside_a_directory(tmp_path: Path) -> None:
    real = tmp_path / "real"
    (real / "d").mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    (real / "out").symlink_to(tmp_path)
    for path in (real, real / "d", real / "missing/x", tmp_path / "link/d"):
        assert is_inside(path, real)
        assert is_inside(path, tmp_path / "link")
    for path in (tmp_path, tmp_path / "real2", real / "out/x"):
        assert not is_inside(path, real)
        assert not is_inside(path, tmp_path / "link")


def test_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    default, below = tmp_path / "x", tmp_path / "file/a/b"
    for error in (OSError(1, ""), OSError(1, "", None, None, None)):
        assert obstacle(error, default) == default
    assert obstacle(OSError(1, "", str(tmp_path / "y")), default) == tmp_path / "y"
    assert obstacle(OSError(1, "", "y", None, str(default)), tmp_path) == default
    assert obstacle(OSError(1, "", str(below)), default) == tmp_path / "file"
    assert obstacle(OSError(1, ""), tmp_path / "new/a/b") == tmp_path / "new"


def test_names_for_work_are_new_short_and_end_alike(tmp_path: Path) -> None:
    one, other = (work_path(tmp_path / ("é" * 81)) for _ in range(2))
    assert one != other
    assert one.parent == tmp_path
    assert re.fullmatch(f"[.]{'é' * 80}[.][0-9a-f]{{12}}[.]partial", one.name)


@pytest.mark.parametrize("host", ["linux", "win32"])
def test_an_entry_of_a_zip_archive_is_the_same_on_every_host(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", host)
        entry, plain = zip_entry("bin/run", stat.S_IFREG | 0o755), zip_entry("x")
    assert entry.filename == "bin/run"
    assert calendar.timegm(entry.date_time) == EARLIEST
    assert (entry.create_system, entry.external_attr) == (3, 0o100755 << 16)
    assert (plain.create_system, plain.external_attr) == (3, 0)


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    atomic_write(target, "grüße\n")
    atomic_write(target, b"second")
    assert target.read_bytes() == b"second"
    assert names(target.parent) == ["file"]


def test_atomic_write_keeps_the_old_file_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    atomic_write(target, b"old")

    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk is full"):
        atomic_write(target, b"new")
    with pytest.raises(OSError, match="disk is full"):
        atomic_copy(Path(__file__), target)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_atomic_write_takes_no_file_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "work").symlink_to("mine")
    monkeypatch.setattr(files, "work_path", lambda _: tmp_path / "work")
    with pytest.raises(FileExistsError):
        atomic_write(tmp_path / "file", b"new")
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_atomic_write_leaves_nothing_beside_a_directory(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        atomic_write(target, b"x")
    assert names(tmp_path) == ["file"]


def test_the_first_error_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "missing", tmp_path / "d/file"
    with pytest.raises(FileNotFoundError) as caught:
        atomic_copy(source, target)
    assert caught.value.filename == str(source)

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        with pytest.raises(OSError, match="disk is full"):
            atomic_write(target, b"new")
    assert names(target.parent) == []


@pytest.mark.parametrize("copied", [False, True])
def test_missing_directories_are_made(tmp_path: Path, copied: bool) -> None:
    source, target = tmp_path / "source", tmp_path / "a/b/file"
    source.write_bytes(b"1\r\n2\n")
    for _ in range(2):
        atomic_copy(source, target) if copied else atomic_write(target, source.read_bytes())
        assert target.read_bytes() == b"1\r\n2\n"
        assert names(target.parent) == ["file"]


@pytest.mark.parametrize("copied", [False, True])
def test_a_reader_sees_the_old_file_until_the_new_one_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    target, source, new = tmp_path / "d/file", tmp_path / "source", b"new" * 99
    source.write_bytes(new)
    atomic_write(target, b"old")
    fsync = os.fsync
    seen: list[tuple[str, bytes]] = []

    def observe(descriptor: int) -> None:
        fsync(descriptor)
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            assert os.path.samestat(status, target.parent.stat())
            seen.append(("directory", target.read_bytes()))
        else:
            # Everything is in the file that is synchronized, which has not its name yet.
            (work,) = set(target.parent.iterdir()) - {target}
            assert os.path.samestat(status, work.stat())
            assert work.read_bytes() == new
            seen.append(("file", target.read_bytes()))

    monkeypatch.setattr(os, "fsync", observe)
    atomic_copy(source, target) if copied else atomic_write(target, new)
    assert seen == [("file", b"old"), ("directory", new)]


def test_what_is_made_again_when_it_is_damaged_is_not_synchronized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronized: list[int] = []
    monkeypatch.setattr(os, "fsync", synchronized.append)
    atomic_write(tmp_path / "cached", b"new", durable=False)
    assert synchronized == []
    assert (tmp_path / "cached").read_bytes() == b"new"
    atomic_write(tmp_path / "kept", b"new")
    assert len(synchronized) == 2


@pytest.mark.parametrize(("mask", "mode"), [(0o027, 0o640), (0, 0o666)])
def test_atomic_write_follows_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        atomic_write(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_a_lock_is_not_written_through_a_link(tmp_path: Path) -> None:
    mine, lock = tmp_path / "mine", tmp_path / "lock"
    mine.write_text("mine")
    lock.symlink_to(mine)
    with pytest.raises(OSError, match="symbolic link") as caught, locked(lock, Silent()):
        pass
    assert caught.value.errno in IN_THE_WAY
    assert mine.read_text() == "mine"


def test_atomic_directory_appears_at_once(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "a" / "d") as work:
        (work / "x").write_text("1")
        assert not (tmp_path / "a" / "d").exists()
    assert (tmp_path / "a" / "d" / "x").read_text() == "1"
    assert names(tmp_path / "a") == ["d"]


def test_atomic_directory_leaves_nothing_when_the_block_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_directory(tmp_path / "d") as work:
            (work / "x").write_text("1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == []


def test_atomic_directory_gives_way_to_one_that_was_quicker(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "d") as work:
        (work / "x").write_text("mine")
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "x").write_text("theirs")
    assert (tmp_path / "d" / "x").read_text() == "theirs"
    assert names(tmp_path) == ["d"]


HOLDER = """
import sys
from pathlib import Path
from stackbuild.files import locked
from stackbuild.messages import Silent
with locked(Path(sys.argv[1]), Silent()):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_process_is_waited_for_and_a_killed_one_is_not(tmp_path: Path) -> None:
    lock = tmp_path / "root" / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    class Release(Heard):
        def note(self, text: str) -> None:
            super().note(text)
            holder.kill()

    messages = Release()
    with locked(lock, messages):
        assert messages.notes == [
            f"waiting for another stackbuild process in {lock.parent}: process {holder.pid}; "
            f"to stop waiting, end it with `kill {holder.pid}`"
        ]
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    quiet = Heard()
    with locked(lock, quiet):
        assert quiet.notes == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_stopped_process_is_told_with_what_lets_it_go_on(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    holder.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED)
    holder.stdin.write(b"\n")
    holder.stdin.close()

    class Advised(Heard):
        def note(self, text: str) -> None:
            super().note(text)
            # What the note says first, as a user would type it.
            subprocess.run(text.split("`")[1], shell=True, check=True)

    messages = Advised()
    with locked(lock, messages):
        assert f"process {holder.pid}, which is stopped" in messages.notes[0]
    assert holder.wait() == 0
    holder.stdout.close()


def test_a_thread_of_the_same_process_is_waited_for_in_silence(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    messages = Heard()
    held = threading.Event()

    def first() -> None:
        with locked(lock, Silent()):
            held.set()
            time.sleep(0.2)

    holder = threading.Thread(target=first)
    holder.start()
    held.wait(10)
    with locked(lock, messages):
        assert messages.notes == []
    holder.join()


def test_a_lock_file_names_its_holder(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("1234567890 " + "another-machine" * 9)
    with locked(lock, Silent()):
        assert lock.read_text() == f"{os.getpid()} {os.uname().nodename}\n"


def test_a_lock_that_cannot_say_its_holder_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr(os, "pwrite", fail)
    with locked(tmp_path / "lock", Silent()):
        assert (tmp_path / "lock").read_text() == ""


@pytest.mark.parametrize(
    ("holder", "rest"),
    [
        (b"", ""),
        (b"\0\xff", ""),
        (b"-3 here", ""),
        ("٣ here".encode(), ""),
        (b"7 another\n", ": process 7 on another"),
        (b" 7 the other one\n", ": process 7 on the other one"),
    ],
)
def test_what_a_lock_file_says_of_its_holder(tmp_path: Path, holder: bytes, rest: str) -> None:
    told = files._waiting(tmp_path / "lock", holder)
    assert told == f"waiting for another stackbuild process in {tmp_path}{rest}"


@pytest.mark.parametrize("stopped", [False, True])
def test_what_to_do_about_the_holder_of_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    asked: list[int] = []

    def is_stopped(pid: int) -> bool:
        asked.append(pid)
        return stopped

    monkeypatch.setattr(files, "_is_stopped", is_stopped)
    told = files._waiting(tmp_path / "lock", f"7 {os.uname().nodename}\n".encode()) or ""
    assert asked == [7]
    assert told.removeprefix(f"waiting for another stackbuild process in {tmp_path}") == (
        ": process 7, which is stopped; continue it with `kill -CONT 7`, "
        "or end it with `kill -KILL 7`"
        if stopped
        else ": process 7; to stop waiting, end it with `kill 7`"
    )


@pytest.mark.parametrize(
    ("status", "stopped"),
    [
        (b"7 (a) T 1 7", True),
        (b"7 (a) t 1 7", True),
        (b"7 (a) S 1 7", False),
        (b"7 (a) T (b) S T t", False),
        (b"", False),
        (None, False),
    ],
)
def test_which_processes_are_stopped(
    monkeypatch: pytest.MonkeyPatch, status: bytes | None, stopped: bool
) -> None:
    def read(path: Path) -> bytes:
        assert path == Path("/proc/7/stat")
        if status is None:
            raise FileNotFoundError
        return status

    monkeypatch.setattr(Path, "read_bytes", read)
    assert files._is_stopped(7) == stopped


def test_a_lock_whose_directory_the_holder_removes_is_made_anew(tmp_path: Path) -> None:
    lock = tmp_path / "root" / "lock"
    entered = threading.Event()
    seen: list[bool] = []

    class Waits(Heard):
        def note(self, text: str) -> None:
            entered.set()

    def second() -> None:
        with locked(lock, Waits()):
            seen.append(lock.exists())

    waiter = threading.Thread(target=second)
    with locked(lock, Silent()):
        lock.write_text("7 another\n")  # this process itself would be waited for in silence
        waiter.start()
        assert entered.wait(10)
        remove_tree(lock.parent)
    waiter.join()
    assert seen == [True]


def test_the_lock_of_systems_without_flock(tmp_path: Path) -> None:
    lock = tmp_path / "root" / "lock"
    messages = Heard()
    with _filelocked(lock, messages):
        assert lock.exists()
    with _filelocked(lock, messages):
        assert messages.notes == []


def test_remove_tree_takes_whatever_is_there(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").touch(mode=0o444)
    (tree / "link").symlink_to(outside)
    (tree / "sub").chmod(0o555)
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "kept").exists()
    remove_tree(tree)
    link = tmp_path / "link"
    link.symlink_to(outside)
    remove_tree(link)
    assert not link.is_symlink()
    assert (outside / "kept").exists()


READ_ONLY = """
import os, sys
from pathlib import Path
from stackbuild.files import remove_tree
if os.getuid() == 0:
    os.setuid(65534)
tree = Path(sys.argv[1])
(tree / "a" / "b").mkdir(parents=True)
(tree / "a" / "b" / "file").touch()
(tree / "a" / "b").chmod(0o555)
(tree / "a").chmod(0o555)
remove_tree(tree)
sys.exit(tree.exists())
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX accounts")
def test_remove_tree_takes_read_only_directories_of_an_ordinary_user() -> None:
    # A directory that every account can reach: pytest's own is its maker's alone.
    with tempfile.TemporaryDirectory() as reachable:
        Path(reachable).chmod(0o777)
        subprocess.run([sys.executable, "-c", READ_ONLY, f"{reachable}/tree"], check=True)


def test_a_file_that_is_gone_before_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = Path(__file__).lstat()
    monkeypatch.setattr(Path, "lstat", lambda _: status)
    remove_tree(tmp_path / "gone")


@pytest.mark.skipif(os.name == "nt", reason="needs the modes of POSIX")
def test_what_cannot_be_removed_is_made_writable(tmp_path: Path) -> None:
    directory, kept = tmp_path / "d", tmp_path / "kept"
    directory.mkdir()
    kept.touch()
    kept.chmod(0o444)
    (directory / "link").hardlink_to(kept)
    (directory / "sub").mkdir()
    directory.chmod(0o500)
    files._make_writable(os.unlink, str(directory / "link"), None)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(kept.stat().st_mode) == 0o444
    directory.chmod(0o500)
    files._make_writable(os.rmdir, str(directory / "sub"), None)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert names(directory) == []
    # Another process may have been quicker.
    files._make_writable(os.unlink, str(directory / "link"), None)
    files._make_writable(os.scandir, str(directory / "sub" / "x"), None)


@pytest.mark.skipif(os.name == "nt", reason="needs the modes of POSIX")
def test_a_directory_that_cannot_be_listed_is_made_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "d"
    (directory / "sub").mkdir(parents=True)
    directory.chmod(0o100)
    tmp_path.chmod(0o500)
    rmtree = shutil.rmtree
    modes: list[int] = []

    def observe(name: str) -> None:
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in (tmp_path, Path(name)))
        rmtree(name)

    monkeypatch.setattr(shutil, "rmtree", observe)
    files._make_writable(os.scandir, str(directory), None)
    assert modes == [0o700, 0o700]
    assert names(tmp_path) == []


def test_tree_size_counts_hard_links_once(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "a").write_bytes(b"x" * 100)
    os.link(tmp_path / "a", tmp_path / "d" / "b")
    (tmp_path / "d" / "c").write_bytes(b"x" * 11)
    (tmp_path / "d" / "e").write_bytes(b"x" * 7)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "up").symlink_to(tmp_path.parent)
    assert tree_size(tmp_path) == 118
    assert tree_size(tmp_path / "nothing") == 0


def test_tree_size_of_a_tree_that_is_being_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * 10)
    scandir = os.scandir
    calls: list[str] = []

    def second_is_gone(path: str) -> object:
        calls.append(path)
        if len(calls) == 2:
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", second_is_gone)
    assert tree_size(tmp_path) == 20
    assert len(calls) == 4


def test_a_regular_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1\r\n2\n\xff")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"1\r\n2\n\xff"
    assert read_regular(path, 100) == b"1\r\n2\n\xff"
    assert read_regular(path, 3) == b"1\r\n"
    assert read_regular(path, 0) == b""
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "missing")


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Ends a system call that waits for ever, with an error."""

    def fail(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.usefixtures("no_waiting")
def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    expected = {
        tmp_path: (errno.EISDIR, os.strerror(errno.EISDIR)),
        tmp_path / "pipe": (errno.EINVAL, "it is a named pipe and not a regular file"),
        Path(os.devnull): (errno.EINVAL, "it is a device or socket and not a regular file"),
    }
    before = os.dup(0)
    os.close(before)
    for path, (number, text) in expected.items():
        with pytest.raises(OSError, match=re.escape(text)) as caught:
            open_regular(path)
        assert (caught.value.errno, caught.value.strerror) == (number, text)
        assert caught.value.filename == str(path)
    # The lowest free descriptor is still the same: none was left open.
    after = os.dup(0)
    os.close(after)
    assert after == before


def test_why_a_file_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "missing", tmp_path / "file" / "x"):
        with pytest.raises((FileNotFoundError, NotADirectoryError)) as caught:
            open_regular(path)
        assert why(caught.value) == "does not exist"
    with pytest.raises(IsADirectoryError) as directory:
        open_regular(tmp_path)
    assert why(directory.value) == f"cannot be read ({os.strerror(errno.EISDIR)})"


def test_the_mode_of_what_is_there_and_of_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file").chmod(0o640)
    assert mode_of(tmp_path / "link") == stat.S_IFREG | 0o640
    assert stat.S_ISDIR(mode_of(tmp_path))
    assert mode_of(tmp_path / "missing") == mode_of(tmp_path / "file" / "x") == 0


@pytest.mark.parametrize("size", range(1, 9))
def test_pieces_of_any_sizes_are_read_in_pieces_of_another(size: int) -> None:
    whole = b"abcdefgh"
    for cut in range(len(whole) + 1):
        pieces = Pieces(iter([b"", whole[:cut], b"", b"", whole[cut:]]))
        found = [b"".join(pieces.take(size)) for _ in range(9)]
        assert found == [whole[place : place + size] for place in range(0, 9 * size, size)]


def test_a_read_gives_what_is_at_hand() -> None:
    pieces = Pieces(iter([b"", b"abc", b"", b"d"]))
    assert [pieces.read(size) for size in (0, 1, 9, 9, 9, 9)] == [b"", b"a", b"bc", b"d", b"", b""]


def test_what_is_not_removed_at_once_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").touch()
    refused: list[str] = []

    def refuse_once(name: str) -> None:
        remove = getattr(os, name)

        def first_refuse(path: str, *, dir_fd: int | None = None) -> None:
            if Path(path).name not in refused:
                refused.append(Path(path).name)
                raise PermissionError(errno.EACCES, "not allowed", path)
            remove(path, dir_fd=dir_fd)

        monkeypatch.setattr(os, name, first_refuse)

    refuse_once("unlink")
    refuse_once("rmdir")
    remove_tree(tmp_path / "tree")
    assert refused == ["file", "sub", "tree"]
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("version", "handler"), [((3, 11, 9), "onerror"), ((3, 12, 0), "onexc"), ((3, 13, 0), "onexc")]
)
def test_each_python_is_told_what_to_do_about_errors(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], handler: str
) -> None:
    called: list[tuple[object, ...]] = []
    with monkeypatch.context() as patch:
        patch.setattr(sys, "version_info", version)
        patch.setattr(shutil, "rmtree", lambda *args, **named: called.append((args, named)))
        files._remove_directory(Path("d"))
    assert called == [(("d",), {handler: files._make_writable})]


@pytest.mark.skipif(os.name == "nt", reason="needs the modes of POSIX")
def test_what_is_moved_up_is_its_owner_s_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "file").write_bytes(b"x")
    for name in ("d/e", "d"):
        (tmp_path / name).chmod(0o555)
    rename = Path.rename
    modes: list[int] = []

    def observe(path: Path, target: Path) -> Path:
        modes.append(stat.S_IMODE(path.parent.stat().st_mode))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", observe)
    files._flatten(tmp_path)
    assert modes == [0o700, 0o700]
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"x"]


@pytest.fixture
def reachable_by_rm() -> Iterator[Path]:
    """A directory that can be removed however deep it is.

    pytest fails on a deep tree that a failed or killed test has left in its own directory,
    in every later run, and `make mutants` would take that for a change that is noticed.
    """
    directory = tempfile.mkdtemp()
    yield Path(directory)
    subprocess.run(["rm", "-rf", directory], check=True)


def test_a_deep_tree_is_removed(reachable_by_rm: Path) -> None:
    top = reachable_by_rm / "top"
    (top / "a").mkdir(parents=True)
    (top / "a" / "link").symlink_to(reachable_by_rm)
    # From within: the whole path is longer than the system takes.
    before = Path.cwd()
    os.chdir(top)
    try:
        for _ in range(1500):
            Path("a").mkdir(exist_ok=True)
            os.chdir("a")
            Path("f").write_text("x")
    finally:
        os.chdir(before)
    remove_tree(top)
    assert list(reachable_by_rm.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_what_changes_in_a_temporary_workspace_stays_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links")

    workspace = Workspace(project=tmp_path / "project", cache=tmp_path / "cache", jobs=1)
    names = (
        *("addresses/ab/one.json", "published/one.json", "runtimes/local/one/about.json"),
        *("runtimes/downloads/one/archive.tar.gz", "runtimes/unpacked/one/bin/python"),
    )
    paths = [workspace.cache / name for name in names]
    for path in paths:
        atomic_write(path, "old")
    atomic_write(workspace.runtimes / "downloads/two/archive.tar.gz.part", "interrupted")
    if not links:
        monkeypatch.setattr(Path, "symlink_to", refuse)
    with temporary(workspace) as work:
        seen = [work.cache / name for name in names]
        # Without links, an interpreter is unpacked again.
        assert [path.exists() for path in seen] == [True] * 4 + [links]
        # A download would be continued in the cache.
        assert not (work.runtimes / "downloads/two").exists()
        remove_tree(work.runtimes / "unpacked/one")
        for path in seen:
            atomic_write(path, "new")
    assert [path.read_text() for path in paths] == ["old"] * 5
    assert not work.cache.exists()
