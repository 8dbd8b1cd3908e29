"""Rename unpacked frames to their names in the store once their files are on the disk.

A named frame counts as present, also after a power cut, so its files must be on the disk first.
Frames are synced in groups, because each sync waits for the disk. A group is closed after
`GROUP_SECONDS` at the latest, so that a killed install continues from the frames named so far.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stackbuild import windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackbuild.durable import Sync
    from stackbuild.install.store import Store

GROUP_SECONDS = 3.0
"""The longest time that the first frame of a group waits for others."""

GROUP_BYTES = 1 << 30
"""A group of more unpacked bytes is closed at once."""


@dataclass(slots=True)
class Namer:
    """Queue of frames that are unpacked in the store's staging directory and not yet named."""

    store: Store
    sync: Sync
    _waiting: queue.SimpleQueue[tuple[str, int] | None] = field(default_factory=queue.SimpleQueue)
    _failure: BaseException | None = None

    def add(self, sha256: str, size: int) -> None:
        """Queue the complete frame in staging, of `size` unpacked bytes, for naming.

        Thread-safe. Raises errors of earlier frames.
        """
        if self._failure is not None:
            raise self._failure
        self._waiting.put((sha256, size))

    def run(self) -> None:
        """Name frames in groups until `close` is called."""
        try:
            is_open = True
            while is_open:
                group, is_open = self._group()
                self._name(group)
        except BaseException as error:  # noqa: BLE001 - raised where the thread is waited for
            self._failure = error

    def _group(self) -> tuple[list[str], bool]:
        """The next frames, and whether more may come."""
        group: list[str] = []
        total = 0
        item = self._waiting.get()
        deadline = time.monotonic() + GROUP_SECONDS
        while item is not None:
            group.append(item[0])
            total += item[1]
            if total > GROUP_BYTES:
                return group, True
            try:
                item = self._waiting.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                return group, True
        return group, False

    def _name(self, group: list[str]) -> None:
        if not group:
            return
        self.sync(trees=[self.store.staging / sha256 for sha256 in group])
        for sha256 in group:
            # Remove an existing entry that is not a valid frame, such as one of another format.
            self.store.discard(sha256)
            windows.rename(self.store.staging / sha256, self.store.directory / sha256)

    def close(self) -> None:
        """Make `run` return when all frames are named."""
        self._waiting.put(None)

    def check(self) -> None:
        """Raise the first error of `run`."""
        if self._failure is not None:
            raise self._failure


@contextmanager
def naming(store: Store, sync: Sync) -> Iterator[Namer]:
    """Run a namer in its own thread.

    On exit every frame is named. Raises OSError if a frame cannot be named.
    """
    namer = Namer(store, sync)
    thread = threading.Thread(target=namer.run, name="naming")
    thread.start()
    try:
        yield namer
    finally:
        namer.close()
        thread.join()
    namer.check()
