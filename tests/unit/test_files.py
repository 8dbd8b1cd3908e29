from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from stackbuild import files
from stackbuild.files import (
    _filelocked,
    atomic_copy,
    atomic_directory,
    atomic_write,
    locked,
    remove_tree,
    tree_size,
)
from stackbuild.messages import Silent


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


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


def test_atomic_write_leaves_nothing_beside_a_directory(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        atomic_write(target, b"x")
    assert names(tmp_path) == ["file"]


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


def test_atomic_write_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


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
            f"waiting for another stackbuild that works in {lock.parent}: process {holder.pid}; "
            f"to go on without it, end it with `kill {holder.pid}`"
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


def test_a_lock_file_that_names_nobody(tmp_path: Path) -> None:
    for holder in (b"", b"\0\xff", b"-3 here", b"12"):
        text = files._waiting(tmp_path / "lock", holder) or ""
        assert text.startswith(f"waiting for another stackbuild that works in {tmp_path}")
        assert "kill" not in text
    assert "process 7 on another" in (files._waiting(tmp_path / "lock", b"7 another\n") or "")


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


def test_tree_size_counts_hard_links_once(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "a").write_bytes(b"x" * 100)
    os.link(tmp_path / "a", tmp_path / "d" / "b")
    (tmp_path / "d" / "c").write_bytes(b"x" * 11)
    (tmp_path / "link").symlink_to("a")
    assert tree_size(tmp_path) == 111
    assert tree_size(tmp_path / "nothing") == 0


def test_a_deep_tree_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    (top / "a" / "link").symlink_to(tmp_path)
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
    assert list(tmp_path.iterdir()) == []
