"""Runs commands and measures them: wall-clock seconds and peak memory (Linux)."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.processes import below

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MIB = 1024 * 1024
ROUNDS = 3
LONG = 15.0
"""A command that takes longer than this many seconds is run once."""
SAMPLE_EVERY = 0.1
"""Seconds between two looks at the memory of all processes of a command."""


class BenchError(Exception):
    """A command that is to be measured did not do its work; the text says which and how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a command took."""

    seconds: float
    largest: int
    """Peak resident memory of the largest of its processes, in bytes: `ru_maxrss` of
    wait4(2), which counts descendants that were waited for."""
    together: int = 0
    """The most that all its processes had resident at one time, in bytes, sampled; pages
    they share count once for each process. 0 where nobody looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where commands run: their directory, their environment and the file for their output."""

    directory: Path
    environment: Mapping[str, str]
    log: Path


def _resident(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return 0  # the process has ended between the two looks
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class _Watcher(threading.Thread):
    """Samples the memory of a process and its descendants until it is told to end."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._ended = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_EVERY):
            self.peak = max(self.peak, sum(map(_resident, [self._pid, *below(self._pid)])))

    def end(self) -> int:
        self._ended.set()
        self.join()
        return self.peak


def run(command: Sequence[str | Path], place: Place, *, watch: bool = False) -> Run:
    """Run `command`, with a look at its memory every `SAMPLE_EVERY` if `watch`.

    What it prints goes to the log. Raises BenchError when it fails, with the end
    of what it printed.
    """
    words = [str(word) for word in command]
    place.log.parent.mkdir(parents=True, exist_ok=True)
    with place.log.open("ab") as log:
        log.write(f"$ {' '.join(words)}\n".encode())
        log.flush()
        start = time.perf_counter()
        process = subprocess.Popen(
            words,
            cwd=place.directory,
            env=dict(place.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        watcher = _Watcher(process.pid)
        if watch:
            watcher.start()
        # Not process.wait(): only wait4 tells what this one process used.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        together = watcher.end() if watch else 0
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = place.log.read_text(errors="replace").splitlines()[-25:]
        raise BenchError(f"exit code {process.returncode}, see {place.log}\n" + "\n".join(tail))
    return Run(seconds=seconds, largest=usage.ru_maxrss * 1024, together=together)


def in_turn(runs: Sequence[Run]) -> Run:
    """Several commands, one after the other, as one."""
    return Run(
        seconds=sum(each.seconds for each in runs),
        largest=max(each.largest for each in runs),
        together=max(each.together for each in runs),
    )


def middle(runs: Sequence[Run]) -> Run:
    """The median of the times, and the highest of the memory figures."""
    return Run(
        seconds=statistics.median(each.seconds for each in runs),
        largest=max(each.largest for each in runs),
        together=max(each.together for each in runs),
    )


def repeated(work: Callable[[], Run], *, before: Callable[[], object] = lambda: None) -> Run:
    """The `middle` of `ROUNDS` runs of `work`, or of one if that is a `LONG` one.

    `before` is called before each, unmeasured.
    """
    return alternated([work], before=before)[0]


def alternated(
    works: Sequence[Callable[[], Run]],
    *,
    before: Callable[[], object] = lambda: None,
    rounds: int = ROUNDS,
) -> list[Run]:
    """The `middle` of each of `works`, measured in turns so that a noisy moment hits all.

    A work that was `LONG` in the first round is not run again.
    """
    runs: list[list[Run]] = [[] for _ in works]
    for _ in range(rounds):
        for work, done in zip(works, runs, strict=True):
            if done and done[0].seconds > LONG:
                continue
            before()
            os.sync()  # what was written before is not to be paid for by this one
            done.append(work())
    return [middle(done) for done in runs]
