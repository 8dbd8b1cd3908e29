"""The file that a download grows in: who holds it, what is left in it, what is told of it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from stackbuild.errors import FetchError, IntegrityError
from stackbuild.files import sha256_file
from stackbuild.messages import Silent
from stackbuild.transport import transfer
from stackbuild.transport.ranges import CHUNK
from stackbuild.transport.retries import Patience
from stackbuild.transport.transfer import download
from tests.support.http import CutAfter, Status, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = bytes(range(256)) * 10_000
SHA256 = hashlib.sha256(DATA).hexdigest()
QUICK = Patience(reach=5.0, silence=5.0, attempts=3, backoff=0.001)


class Watched(Silent):
    """Keeps what is told, and calls `at_note` and `at_task`."""

    def __init__(
        self, at_note: Callable[[], object] = int, at_task: Callable[[], object] = int
    ) -> None:
        self.notes: list[str] = []
        self.tasks: list[tuple[str, int | None]] = []
        self.advanced: list[int] = []
        self._at_note = at_note
        self._at_task = at_task

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._at_note()

    @contextmanager
    def task(self, title: str, total: int | None, *, unit: str = "B") -> Iterator[Watched]:
        assert unit == "B"
        self.tasks.append((title, total))
        self._at_task()
        yield self

    def advance(self, amount: int) -> None:
        self.advanced.append(amount)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


def receive(
    source: Path | str,
    to: Path,
    *,
    sha256: str | None = SHA256,
    size: int | None = None,
    messages: Watched | None = None,
) -> Watched:
    heard = messages or Watched()
    url = source if isinstance(source, str) else source.as_uri()
    download(url, to, sha256=sha256, messages=heard, size=size, patience=QUICK)
    return heard


@contextmanager
def held(part: Path) -> Iterator[IO[bytes]]:
    """`part`, held as another process that downloads holds it."""
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_progress_is_told(source: Path, tmp_path: Path) -> None:
    assert sha256_file(source) == SHA256
    heard = receive(source, tmp_path / "f", size=len(DATA))
    assert heard.tasks == [("f", len(DATA))]
    assert heard.advanced == [CHUNK, CHUNK, len(DATA) - 2 * CHUNK]
    assert heard.notes == []


@pytest.mark.parametrize("size", [None, len(DATA)])
@pytest.mark.parametrize("left", [0, 1, CHUNK, len(DATA) - 1, len(DATA)])
def test_what_is_left_counts(source: Path, tmp_path: Path, left: int, size: int | None) -> None:
    (tmp_path / "f.part").write_bytes(DATA[:left])
    with serving({"/f": DATA}) as server:
        heard = receive(f"{server.url}/f", tmp_path / "f", size=size)
        assert server.bytes_sent == len(DATA) - left
        assert server.count() == 1
    assert sum(heard.advanced) == len(DATA)
    assert all(amount > 0 for amount in heard.advanced if left)
    assert (tmp_path / "f").read_bytes() == DATA


@pytest.mark.parametrize(("left", "sent"), [(b"x", 2), (DATA[:-1] + b"y", 2), (DATA + b"y", 1)])
def test_what_is_left_of_another_file_is_not_used(tmp_path: Path, left: bytes, sent: int) -> None:
    (tmp_path / "f.part").write_bytes(left)
    with serving({"/f": DATA}) as server:
        heard = receive(f"{server.url}/f", tmp_path / "f", size=len(DATA))
        assert server.count() == sent
    assert sum(heard.advanced) == len(DATA)
    assert (tmp_path / "f").read_bytes() == DATA


@pytest.mark.parametrize("left", [b"", DATA[:CHUNK], DATA, DATA + b"y"])
def test_without_a_hash_nothing_that_is_left_is_used(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "f.part").write_bytes(left)
    with serving({"/f": DATA}) as server:
        heard = receive(f"{server.url}/f", tmp_path / "f", sha256=None, size=len(DATA))
        assert server.count() == 1
        assert server.bytes_sent == len(DATA)
    assert sum(heard.advanced) == len(DATA)
    assert (tmp_path / "f").read_bytes() == DATA


@pytest.mark.parametrize(("left", "sent"), [(b"", 1), (b"x", 2), (bytes(len(DATA) + 1), 1)])
def test_wrong_files_are_asked_for_once(tmp_path: Path, left: bytes, sent: int) -> None:
    wrong = bytes(len(DATA))
    (tmp_path / "f.part").write_bytes(left)
    with serving({"/f": wrong}) as server:
        with pytest.raises(IntegrityError) as caught:
            receive(f"{server.url}/f?key=secret", tmp_path / "f", size=len(DATA))
        assert server.count() == sent
        assert caught.value.message == "the downloaded file is not the expected one"
        assert dict(caught.value.details) == {
            "file": f"{server.url}/f?…",
            "expected": f"sha256 {SHA256}",
            "found": f"sha256 {hashlib.sha256(wrong).hexdigest()}, {len(wrong)} bytes",
            "to fix": "find out why the server has another file; if that is intended, lock again",
        }
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_too_long(source: Path, tmp_path: Path) -> None:
    for size in (CHUNK - 1, CHUNK):
        heard = Watched()
        with pytest.raises(IntegrityError) as caught:
            receive(source, tmp_path / "f", sha256=None, size=size, messages=heard)
        assert caught.value.message == "the file at the address is longer than expected"
        assert dict(caught.value.details) == {
            "file": source.as_uri(),
            "expected": f"{size} bytes",
            "to fix": "find out why the server has another file; if that is intended, lock again",
        }
        assert sum(heard.advanced) == CHUNK * (1 + (size == CHUNK))
    assert not (tmp_path / "f").exists()


def test_a_file_that_is_too_short(source: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="the transfer failed 3 times") as caught:
        receive(source, tmp_path / "f", sha256=None, size=len(DATA) + 1)
    details = dict(caught.value.details)
    assert details["found"] == f"only {len(DATA)} of {len(DATA) + 1} bytes arrived"
    assert details["file"] == source.as_uri()


def test_what_was_left_is_no_progress(tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(DATA[:-100])
    with serving({"/f": DATA}) as server:
        server.script("/f", *[CutAfter(1)] * 10)
        with pytest.raises(FetchError, match="the transfer failed 3 times"):
            receive(f"{server.url}/f", tmp_path / "f")


def test_long_pauses_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackbuild.transport.retries.time.sleep", lambda _: None)
    with serving({"/f": DATA}) as server:
        server.script("/f", Status(503, {"Retry-After": "75"}))
        heard = receive(f"{server.url}/f", tmp_path / "f")
    assert len(heard.notes) == 1
    assert heard.notes[0].startswith("127.0.0.1 requests a pause of 75 s")


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_the_file_is_held_until_it_has_its_name(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sha256: str | None
) -> None:
    replace = Path.replace
    seen: list[tuple[str, bool, int]] = []

    def observe(path: Path, target: Path) -> Path:
        seen.append((path.name, is_held(path), path.stat().st_size))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", observe)
    receive(source, tmp_path / "d" / "f", sha256=sha256)
    assert seen == [("f.part", True, len(DATA))]
    assert (tmp_path / "d" / "f").read_bytes() == DATA


def test_the_file_is_held_until_it_is_removed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink
    seen: list[tuple[str, bool]] = []

    def observe(path: Path, missing_ok: bool = False) -> None:
        seen.append((path.name, is_held(path)))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", observe)
    with pytest.raises(IntegrityError):
        receive(source, tmp_path / "f", sha256="0" * 64)
    assert seen == [("f.part", True)]


def test_the_first_error_is_told(source: Path, tmp_path: Path) -> None:
    def fail() -> None:
        (tmp_path / "f.part").unlink()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        receive(source, tmp_path / "f", messages=Watched(at_task=fail))


@pytest.mark.parametrize("sha256", [SHA256, None])
@pytest.mark.parametrize("there", [DATA, b"another", None])
def test_what_another_process_has_just_brought(
    source: Path, tmp_path: Path, there: bytes | None, sha256: str | None
) -> None:
    target, part = tmp_path / "d/f", tmp_path / "d/f.part"
    with held(part) as file:

        def release() -> None:
            if there is not None:
                target.write_bytes(there)
            fcntl.flock(file, fcntl.LOCK_UN)

        heard = receive(source, target, sha256=sha256, messages=Watched(release))
    assert heard.notes == ["waiting for another process that downloads f"]
    is_used = there == DATA and sha256 is not None
    assert heard.tasks == ([] if is_used else [("f", None)])
    assert target.read_bytes() == DATA
    assert [path.name for path in target.parent.iterdir()] == ["f"]


def test_without_another_process_nothing_is_taken_for_new(source: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    assert receive(source, tmp_path / "f").tasks == [("f", None)]


@pytest.mark.parametrize("third", [True, False])
@pytest.mark.parametrize("end", [Path.unlink, lambda path: path.rename(path.with_name("f"))])
def test_a_part_that_its_holder_has_taken_away(
    source: Path, tmp_path: Path, end: Callable[[Path], object], third: bool
) -> None:
    part = tmp_path / "d/f.part"
    with held(part) as file:

        def release() -> None:
            end(part)
            if third:
                part.write_bytes(b"of a third process")
            fcntl.flock(file, fcntl.LOCK_UN)

        heard = receive(source, tmp_path / "d/f", messages=Watched(release))
        file.seek(0)
        assert file.read() == b""
    assert heard.notes == ["waiting for another process that downloads f"]
    assert (tmp_path / "d/f").read_bytes() == DATA


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("failures", [100, 101])
def test_a_directory_that_others_remove_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, removed: bool
) -> None:
    path = tmp_path / "a/b/f"
    opening = Path.open
    calls: list[str] = []

    def fail(self: Path, mode: str = "r") -> IO[bytes]:
        assert self == path
        assert self.parent.is_dir()
        calls.append(mode)
        if len(calls) > failures:
            return opening(self, "a+b")
        if removed:
            path.parent.rmdir()
            path.parent.parent.rmdir()
        raise FileNotFoundError(os.fspath(self)) if len(calls) % 2 else FileExistsError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        if failures == 100:
            transfer._opened(path, "a+b").close()
        else:
            with pytest.raises(FileNotFoundError):
                transfer._opened(path, "a+b")
    assert calls == ["a+b"] * 101
    assert path.exists() == (failures == 100)


def test_downloads_beside_each_other(tmp_path: Path) -> None:
    with serving({"/f": DATA}) as server:
        workers = [
            threading.Thread(target=receive, args=(f"{server.url}/f", tmp_path / "d/f"))
            for _ in range(4)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert (tmp_path / "d/f").read_bytes() == DATA
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["f"]
