"""Order files, divide them into frames, and run the jobs that make them.

Similar files are adjacent, so that zstd finds repetitions: files with one extension together,
Python modules by path, so that modules of a package are neighbours, and all others by size, which
groups compiled modules from one generator. For numpy, pandas and scipy the frames are 1 % smaller
than in path order.
"""

from __future__ import annotations

import heapq
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from stackbuild.frames.model import MAX_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from stackbuild.messages import Messages


ItemT = TypeVar("ItemT")


def plan_parts(
    items: Iterable[ItemT],
    place: Callable[[ItemT], tuple[str, int]],
    *,
    limit: int = MAX_FILE_BYTES,
) -> list[list[ItemT]]:
    """Sort `items` for compression and divide them into parts of at most `limit` bytes.

    `place` returns the path and the size of an item. A larger item gets its own part.
    """
    parts: list[list[ItemT]] = []
    filled = 0
    for item in sorted(items, key=lambda item: _order(*place(item))):
        size = place(item)[1]
        if not parts or filled + size > limit:
            parts.append([])
            filled = 0
        parts[-1].append(item)
        filled += size
    return parts


def _order(path: str, size: int) -> tuple[str, int, str]:
    name = path.rpartition("/")[2]
    extension = "so" if ".so." in name else name.rpartition(".")[2] if "." in name else ""
    return extension, 0 if extension == "py" else size, path


T = TypeVar("T")

_JOBS_PER_WORKER = 4
"""Jobs wait for their parts most of the time; planning ahead offers more parts to choose from."""


class Part(NamedTuple, Generic[T]):
    """An independent piece of work."""

    cost: int
    """Its cost, in bytes to compress."""
    run: Callable[[], T]


def make_sets(jobs: Sequence[Callable[[], T]], workers: int, messages: Messages) -> list[T]:
    """Run `jobs`, one for each frame set, in `workers` threads; returns results in order.

    An error ends the work: parts that have not begun are dropped, and the error of the first failed
    job is raised.
    """
    if not jobs:
        return []
    with (
        messages.task("Making frames", len(jobs), unit="sets") as task,
        _workers(max(1, workers)) as pool,
        ThreadPoolExecutor(min(len(jobs), _JOBS_PER_WORKER * max(1, workers))) as planners,
    ):

        def run(job: Callable[[], T]) -> T:
            try:
                result = job()
            except BaseException:
                pool.stop()
                raise
            task.advance(1)
            return result

        futures = [planners.submit(copy_context().run, run, job) for job in jobs]
        try:
            return _results(futures)
        except BaseException:
            planners.shutdown(wait=False, cancel_futures=True)
            pool.stop()
            raise


def run_parts(parts: Sequence[Part[T]]) -> list[T]:
    """Run `parts` in the threads of `make_sets`, or here; returns results in order."""
    pool = _pool.get()
    if pool is None:
        return [part.run() for part in parts]
    return _results([pool.submit(part) for part in parts])


class _StoppedError(Exception):
    """Raised in a job when another job has failed."""


def _results(futures: Sequence[Future[T]]) -> list[T]:
    """Wait for all futures; returns results, or raises the first other than _StoppedError."""
    errors = [error for future in futures if (error := future.exception()) is not None]
    if errors:
        raise next((error for error in errors if not isinstance(error, _StoppedError)), errors[0])
    return [future.result() for future in futures]


class _Pool:
    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Part[Any], Future[Any]]] = []
        """By cost, then in order of submission: the cost is negative, the number unique."""
        self._count = 0
        self._open = True
        self._changed = threading.Condition()

    def submit(self, part: Part[T]) -> Future[T]:
        future: Future[T] = Future()
        with self._changed:
            if self._open:
                self._count += 1
                heapq.heappush(self._heap, (-part.cost, self._count, part, future))
                self._changed.notify()
            else:
                future.set_exception(_StoppedError())
        return future

    def stop(self) -> None:
        """Start no more parts."""
        with self._changed:
            self._open = False
            waiting, self._heap = self._heap, []
            self._changed.notify_all()
        for *_, future in waiting:
            future.set_exception(_StoppedError())

    def work(self) -> None:
        """Run parts, in the calling thread, until `stop`."""
        while True:
            with self._changed:
                while self._open and not self._heap:
                    self._changed.wait()
                if not self._open:
                    return
                *_, part, future = heapq.heappop(self._heap)
            try:
                future.set_result(part.run())
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                future.set_exception(error)


_pool: ContextVar[_Pool | None] = ContextVar("pool", default=None)


@contextmanager
def _workers(count: int) -> Iterator[_Pool]:
    pool = _Pool()
    token = _pool.set(pool)
    threads = [threading.Thread(target=pool.work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield pool
    finally:
        _pool.reset(token)
        pool.stop()
        for thread in threads:
            thread.join()
