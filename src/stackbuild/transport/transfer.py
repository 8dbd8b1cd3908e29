"""Download files, with resuming and verification.

Addresses are http, https and file. A user name and password in an address
are sent to its host only and never shown.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from stackbuild.errors import IntegrityError
from stackbuild.files import is_at, sha256_file
from stackbuild.transport.ranges import CHUNK, open_from
from stackbuild.transport.retries import PATIENCE, Attempts, BrokenTransferError, Patience
from stackbuild.transport.urls import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackbuild.messages import Messages, Task


def download(
    url: str,
    destination: Path,
    *,
    sha256: str | None,
    messages: Messages,
    size: int | None = None,
    patience: Patience = PATIENCE,
) -> None:
    """Download the file at `url` to `destination`, atomically and verified.

    The data is written to `destination` + ``.part``. A failure removes it; a killed process leaves
    it, and the next download resumes from it if `sha256` is given. `size` is in bytes. If two
    processes download to one destination, the second waits for the first. Raises FetchError, and
    IntegrityError if size or sha256 (hex) differ.
    """
    part = destination.with_name(f"{destination.name}.part")
    with _claimed(part, destination, messages) as (file, waited):
        # On Windows an open file can be neither renamed nor removed.
        staged = Path(file.name)
        try:
            if waited and sha256 and destination.is_file() and sha256_file(destination) == sha256:
                staged.unlink()
                return
            with messages.task(destination.name, size) as task:
                _receive_verified(_Reception(url, file, size, task, patience, messages), sha256)
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
        # The partial file of an earlier process may be of another file.
        reception.restart()
        reception.run()
    if sha256 is not None and reception.sha256() != sha256:
        raise IntegrityError(
            "the downloaded file is not the expected one",
            file=redact(reception.url),
            expected=f"sha256 {sha256}",
            found=f"sha256 {reception.sha256()}, {reception.have} bytes",
            remedy="find out why the server has another file; if that is intended, lock again",
        )


class _Reception:
    """A partially downloaded file."""

    def __init__(
        self,
        url: str,
        file: IO[bytes],
        size: int | None,
        task: Task,
        patience: Patience,
        messages: Messages,
    ) -> None:
        self.url = url
        self.have = 0
        self._file = file
        self._size = size
        self._task = task
        self._patience = patience
        self._messages = messages
        self._digest = hashlib.sha256()

    def sha256(self) -> str:
        return self._digest.hexdigest()

    def take_up(self) -> bool:
        """Resume from the existing contents; returns whether there were any."""
        self._file.seek(0)
        while chunk := self._file.read(CHUNK):
            self._count(chunk)
        if self._size is not None and self.have > self._size:
            return self.restart()
        return self.have > 0

    def restart(self) -> bool:
        """Discard the contents. Returns False: nothing to resume from."""
        self._file.seek(0)
        self._file.truncate()
        self._task.advance(-self.have)
        self.have = 0
        self._digest = hashlib.sha256()
        return False

    def run(self) -> None:
        """Receive the missing bytes."""
        attempts = Attempts(self.url, self._patience, self._messages)
        while True:
            before = self.have
            try:
                self._attempt()
            except BrokenTransferError as error:
                attempts.failed(error, self.have - before)
            else:
                return

    def _attempt(self) -> None:
        with open_from(self.url, self.have, None, self._patience) as answer:
            if answer.first != self.have:
                self.restart()
            for chunk in answer.pieces:
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
            remedy="find out why the server has another file; if that is intended, lock again",
        )

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.have += len(chunk)
        self._task.advance(len(chunk))


@contextmanager
def _claimed(part: Path, destination: Path, messages: Messages) -> Iterator[tuple[IO[bytes], bool]]:
    """`part`, open and locked against other processes, and whether this one had to wait."""
    if sys.platform == "win32":
        with _opened(part.with_name(f"{part.name}.{os.getpid()}"), "w+b") as file:
            yield file, False
        return
    import fcntl

    waited = False
    while True:
        with _opened(part, "a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if not waited:
                    messages.note(f"waiting for another process that downloads {destination.name}")
                waited = True
                fcntl.flock(file, fcntl.LOCK_EX)
            if is_at(file.fileno(), part):
                yield file, waited
                return


def _opened(path: Path, mode: str) -> IO[bytes]:
    """Open the file `path`; creates missing parent directories."""
    # Another process whose download failed may remove the directory at the same time.
    for _ in range(100):
        with suppress(FileNotFoundError, FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open(mode)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open(mode)
