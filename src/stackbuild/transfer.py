"""Files from an address: whole, resumed, verified while they arrive; or a part of one.

Addresses are http, https and file. A user name and password in an address
are sent to its host only and never shown.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from stackbuild.connection import (
    PATIENCE,
    Attempts,
    BrokenTransferError,
    NotFoundError,
    Patience,
    UnreachableError,
    open_url,
    reason_of,
    redact,
)
from stackbuild.errors import FetchError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import urllib3

    from stackbuild.messages import Messages, Task

__all__ = [
    "NotFoundError",
    "Patience",
    "UnreachableError",
    "content_length",
    "download",
    "read_bytes",
    "read_range",
    "redact",
    "sha256_file",
]

CHUNK = 1 << 20


def sha256_file(path: Path) -> str:
    """The sha256 (hex) of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    url: str,
    destination: Path,
    *,
    sha256: str | None,
    messages: Messages,
    size: int | None = None,
    patience: Patience = PATIENCE,
) -> None:
    """Put the file at `url` at `destination`, at once and only when it is right.

    It grows in `destination` + ``.part``, which a failure removes and a killed
    process leaves, for the next one to go on from (only where `sha256` tells
    whether the two halves fit). `size` is in bytes. Of two processes that
    download to one destination, the second waits for the first.

    Raises FetchError, and IntegrityError when size or sha256 (hex) differ.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(f"{destination.name}.part")
    with _claimed(part, destination, messages) as (file, waited):
        # On Windows the name is another one, and an open file can be neither renamed nor removed.
        staged = Path(file.name)
        try:
            if waited and sha256 and destination.is_file() and sha256_file(destination) == sha256:
                staged.unlink()
                return
            with messages.task(destination.name, size) as task:
                _receive_verified(_Reception(url, file, size, task, patience), sha256)
            file.flush()
            if sys.platform == "win32":
                file.close()
            staged.replace(destination)
        except Exception:
            if sys.platform == "win32":
                file.close()
            staged.unlink(missing_ok=True)
            raise


def _receive_verified(reception: _Reception, sha256: str | None) -> None:
    resumed = reception.take_up() if sha256 is not None else reception.restart()
    reception.run()
    if resumed and reception.sha256() != sha256:
        # What an earlier process left may be of another file; that says nothing about this one.
        reception.restart()
        reception.run()
    if sha256 is not None and reception.sha256() != sha256:
        raise IntegrityError(
            "the downloaded file is not the one that is expected",
            file=redact(reception.url),
            expected=f"sha256 {sha256}",
            found=f"sha256 {reception.sha256()}, {reception.have} bytes",
            remedy="find out why the server has another file; if that is right, lock again",
        )


class _Reception:
    """A file that grows by what arrives from an address."""

    def __init__(
        self, url: str, file: IO[bytes], size: int | None, task: Task, patience: Patience
    ) -> None:
        self.url = url
        self.have = 0
        self._file = file
        self._size = size
        self._task = task
        self._patience = patience
        self._digest = hashlib.sha256()

    def sha256(self) -> str:
        return self._digest.hexdigest()

    def take_up(self) -> bool:
        """Go on from what the file holds already; tells whether it held anything."""
        self._file.seek(0)
        while chunk := self._file.read(CHUNK):
            self._count(chunk)
        if self._size is not None and self.have > self._size:
            return self.restart()
        return self.have > 0

    def restart(self) -> bool:
        """Forget what is there. Returns False: nothing is left of an earlier process."""
        self._file.seek(0)
        self._file.truncate()
        self._task.advance(-self.have)
        self.have = 0
        self._digest = hashlib.sha256()
        return False

    def run(self) -> None:
        """Receive what is missing."""
        attempts = Attempts(self.url, self._patience)
        while True:
            before = self.have
            try:
                self._attempt()
            except BrokenTransferError as error:
                attempts.failed(error, self.have - before)
            else:
                return

    def _attempt(self) -> None:
        with _open_from(self.url, self.have, None, self._patience) as (position, chunks):
            if position != self.have:
                self.restart()
            for chunk in chunks:
                self._file.write(chunk)
                self._count(chunk)
                if self._size is not None and self.have > self._size:
                    break
        if self._size is None or self.have == self._size:
            return
        if self.have < self._size:
            raise BrokenTransferError(f"only {self.have} of {self._size} bytes arrived")
        raise IntegrityError(
            "the file at the address is longer than expected",
            file=redact(self.url),
            expected=f"{self._size} bytes",
            remedy="find out why the server has another file; if that is right, lock again",
        )

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.have += len(chunk)
        self._task.advance(len(chunk))


def read_range(
    url: str,
    start: int,
    stop: int | None,
    *,
    chunk: int = CHUNK,
    patience: Patience = PATIENCE,
) -> Iterator[bytes]:
    """The bytes from `start` up to and without `stop` (None: to the end), as they arrive.

    See `read_spans`. Raises FetchError, also where the file ends before `stop`.
    """
    if stop is None or start < stop:
        yield from read_spans(url, [(start, stop)], chunk=chunk, patience=patience)


def read_spans(
    url: str,
    spans: Sequence[tuple[int, int | None]],
    *,
    chunk: int = CHUNK,
    patience: Patience = PATIENCE,
) -> Iterator[bytes]:
    """The bytes of `spans`, one after the other, as they arrive.

    A span goes from its first byte up to and without its second (None: to the
    end); they rise, and none is empty. Each is asked for by itself; of a server
    that knows no ranges the whole file is read once for all of them. Interrupted
    transfers are resumed. No piece is longer than `chunk` bytes. Raises
    FetchError, also where the file ends before a span does.
    """
    attempts = Attempts(url, patience)
    left = list(spans)
    while left:
        before, asked = left[0]
        at, count = before, len(left)
        try:
            with _open_from(url, at, asked, patience, chunk) as (first, pieces):
                position = first
                for piece in pieces:
                    for wanted in _of_spans(piece, position, left):
                        at += len(wanted)
                        yield wanted
                    position += len(piece)
                    if not left:
                        return
            start, stop = left[0]
            if stop is None and (asked is None or first != before):
                return
            if len(left) < count:
                continue
            raise BrokenTransferError(f"the file ends at byte {start}, before {stop}")
        except BrokenTransferError as error:
            attempts.failed(error, at - before)


def _of_spans(piece: bytes, position: int, left: list[tuple[int, int | None]]) -> Iterator[bytes]:
    """What `left` wants of a piece at `position`; takes it out of `left`."""
    end = position + len(piece)
    while left and left[0][0] < end:
        start, stop = left[0]
        until = end if stop is None else min(stop, end)
        if until == stop:
            del left[0]
        else:
            left[0] = (until, stop)
        if until > start:
            yield piece[start - position : until - position]
        if until == end:
            return


def read_bytes(url: str, limit: int = 64 << 20, *, patience: Patience = PATIENCE) -> bytes:
    """The whole file at `url`. Raises FetchError, also for more than `limit` bytes."""
    pieces = []
    total = 0
    for piece in read_range(url, 0, None, patience=patience):
        total += len(piece)
        if total > limit:
            raise FetchError("the file is too large", file=redact(url), expected=f"{limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def content_length(url: str, *, patience: Patience = PATIENCE) -> int | None:
    """The size in bytes of the file at `url`, or None where the server does not tell.

    Raises FetchError when there is none.
    """
    if (path := _file_path(url)) is not None:
        return path.stat().st_size
    attempts = Attempts(url, patience)
    while True:
        try:
            return _length(url, patience)
        except BrokenTransferError as error:
            attempts.failed(error, 0)


def _length(url: str, patience: Patience) -> int | None:
    try:
        response = open_url(url, method="HEAD", patience=patience)
        value = response.headers.get("Content-Length", "")
        response.drain_conn()
        if value.isdecimal():
            return int(value)
    except NotFoundError:
        raise
    except FetchError as error:
        if isinstance(error, UnreachableError):
            raise
        # Some servers know no HEAD; a request for one byte tells the size as well.
    with open_url(url, headers={"Range": "bytes=0-0"}, patience=patience) as response:
        if response.status == 200:
            value = response.headers.get("Content-Length", "")
            response.close()
            return int(value) if value.isdecimal() else None
        return _content_range(response)[1]


@contextmanager
def _open_from(
    url: str, start: int, stop: int | None, patience: Patience, chunk: int = CHUNK
) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Where the pieces begin (`start`, or 0 where the server sends all), and the pieces."""
    if (path := _file_path(url)) is not None:
        with path.open("rb") as file:
            file.seek(start)
            yield start, iter(lambda: file.read(chunk), b"")
        return
    headers = {}
    if start or stop is not None:
        headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
    response = open_url(url, headers=headers, patience=patience)
    try:
        first, total = _content_range(response) if response.status != 200 else (0, None)
        if response.status == 416:
            # Nothing is left to send: either we have it all, or what we have is too much.
            yield (start if total == start else 0), iter(())
            if total != start:
                raise BrokenTransferError(f"the file has {total} bytes and none from {start} on")
            return
        if first not in {0, start}:
            raise BrokenTransferError(f"asked for byte {start}, the server sends from {first}")
        yield first, _pieces(response, chunk)
    finally:
        # A connection with unread bytes must not go back to the pool.
        response.close()


def _pieces(response: urllib3.BaseHTTPResponse, chunk: int) -> Iterator[bytes]:
    from urllib3.exceptions import HTTPError

    try:
        yield from response.stream(chunk, decode_content=False)
    except (HTTPError, OSError) as error:
        raise BrokenTransferError(reason_of(error)) from error
    response.release_conn()


def _content_range(response: urllib3.BaseHTTPResponse) -> tuple[int, int | None]:
    """First byte and complete length of a Content-Range (RFC 9110, section 14.4)."""
    value = response.headers.get("Content-Range", "").removeprefix("bytes").strip()
    positions, _, total = value.partition("/")
    first = positions.partition("-")[0]
    return int(first) if first.isdecimal() else 0, int(total) if total.isdecimal() else None


def _file_path(url: str) -> Path | None:
    """The file of a file: address. Raises FetchError for other addresses than the known."""
    parts = urlsplit(url)
    if parts.scheme in {"http", "https"} and parts.hostname:
        return None
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise FetchError(
            "this is no address of a file",
            file=redact(url),
            expected="one that begins with https://, http:// or file:///",
        )
    from urllib.request import url2pathname

    path = Path(url2pathname(parts.path))
    if not path.is_file():
        raise NotFoundError("there is no such file", file=path)
    return path


@contextmanager
def _claimed(part: Path, destination: Path, messages: Messages) -> Iterator[tuple[IO[bytes], bool]]:
    """`part`, open and locked against other processes, and whether one of them was waited for."""
    if sys.platform == "win32":
        part = part.with_name(f"{part.name}.{os.getpid()}")
        with part.open("w+b") as file:
            yield file, False
        return
    import fcntl

    waited = False
    while True:
        with part.open("a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if not waited:
                    messages.note(f"waiting for another process that downloads {destination.name}")
                waited = True
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, part):
                yield file, waited
                return
        time.sleep(0)


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether `path` still names the open file, which its former holder may have renamed."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
