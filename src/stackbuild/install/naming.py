"""Giving unpacked frames their names in the store, once their files are on the disk.

A frame with a name counts as present, also after a power cut, so its files have
to be on the disk before. One synchronization serves a group of frames, for each
one waits for the disk. Groups are closed after `GROUP_SECONDS` too: an install
that is killed goes on from the frames that have names.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackbuild.durable import Sync
    from stackbuild.install.store import Store

GROUP_SECONDS = 3.0
"""How long the first frame of a group waits for others."""

GROUP_BYTES = 1 << 30
"""A group of more unpacked bytes is closed at once."""


@dataclass(slots=True)
class Namer:
    """Frames that were unpacked in the store's staging directory and wait for their names."""

    store: Store
    sync: Sync
    _waiting: queue.SimpleQueue[tuple[str, int] | None] = field(default_factory=queue.SimpleQueue)
    _failure: BaseException | None = None

    def add(self, sha256: str, size: int) -> None:
        """Name the frame that is complete in staging, of `size` unpacked bytes, before long.

        Safe in any thread. Raises what has gone wrong with frames before it.
        """
        if self._failure is not None:
            raise self._failure
        self._waiting.put((sha256, size))

    def run(self) -> None:
        """Name frames, group by group, until `close`."""
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
            # What has the name and is no frame (a listing of another format) goes first.
            self.store.discard(sha256)
            (self.store.staging / sha256).rename(self.store.directory / sha256)

    def close(self) -> None:
        """Let `run` end when all frames have their names."""
        self._waiting.put(None)

    def check(self) -> None:
        """Raise what has gone wrong."""
        if self._failure is not None:
            raise self._failure


@contextmanager
def naming(store: Store, sync: Sync) -> Iterator[Namer]:
    """A namer at work in a thread of its own; at the end every frame has its name.

    Raises OSError where a frame cannot be named.
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
