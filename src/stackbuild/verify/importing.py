"""Import many modules in parallel, each in its own process.

Modules below one package are a task for a server (see `import_worker.py`). A module that fails in a
forked process below the top is imported again in a fresh process, whose result counts, because the
fork itself may cause the failure.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stackbuild.processes import end_marked
from stackbuild.verify.model import TIME_LIMIT, Outcome
from stackbuild.verify.server import ImportSettings, Once, Server, import_environment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from stackbuild.messages import Messages, Task

_Process = TypeVar("_Process", Server, Once)


@dataclass(frozen=True, slots=True)
class _Job:
    modules: tuple[str, ...]
    alone: bool = False
    """Whether each module is imported in a fresh process."""
    doubtful: tuple[str, ...] = ()
    """Modules that failed because the module of this job failed."""


def import_modules(
    modules: Collection[str],
    interpreter: Path,
    messages: Messages,
    *,
    jobs: int,
    limit: float = TIME_LIMIT,
    environment: Mapping[str, str] | None = None,
    fork: bool = hasattr(os, "fork"),
) -> dict[str, Outcome]:
    """Import `modules` with `interpreter`, `jobs` at once, and return the result of each.

    `limit` is the time limit for one import in seconds; `environment` is added to
    `import_environment`. Raises OSError if the interpreter cannot be started.
    """
    if not modules:
        return {}
    # A module that is killed while it writes must not leave files.
    with (
        tempfile.TemporaryDirectory(prefix="stackbuild-", ignore_cleanup_errors=True) as scratch,
        messages.task("importing", len(modules), unit="modules") as task,
    ):
        settings = ImportSettings(
            interpreter=interpreter,
            environment=import_environment(Path(scratch), environment or {}),
            scratch=Path(scratch),
            limit=limit,
        )
        run = _Run(settings, task, fork)
        run.add(_by_package(modules) if fork else [_Job((name,), True) for name in modules])
        try:
            run.all(jobs)
        finally:
            # Processes started by modules may outlive their parents; this variable marks them.
            end_marked("TMPDIR", scratch)
    return run.outcomes


def _by_package(modules: Collection[str]) -> list[_Job]:
    """A job for each top-level package, the largest first."""
    packages: dict[str, list[str]] = {}
    for name in sorted(set(modules)):
        packages.setdefault(name.partition(".")[0], []).append(name)
    return [_Job(tuple(names)) for names in sorted(packages.values(), key=len, reverse=True)]


@dataclass
class _Run:
    settings: ImportSettings
    task: Task
    fork: bool
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    _waiting: deque[_Job] = field(default_factory=deque)
    _busy: int = 0
    _working: int = 0
    """The number of threads that have not ended."""
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _running: set[Server | Once] = field(default_factory=set)
    _is_stopped: bool = False
    _error: BaseException | None = None

    def add(self, jobs: list[_Job]) -> None:
        """Append `jobs` to the queue."""
        with self._changed:
            self._waiting.extend(jobs)
            self._changed.notify_all()

    def all(self, workers: int) -> None:
        """Run all jobs in `workers` threads."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        try:
            for thread in threads:
                thread.start()
                with self._changed:
                    self._working += 1
            self._wait()
        finally:
            # Also on Ctrl-C: end all started processes.
            self._stop(None)
            self._wait()
            for process in self._running:
                process.close()
        if self._error is not None:
            raise self._error

    def _wait(self) -> None:
        """Wait until all threads have ended.

        Not with their `join`: after one that Ctrl-C interrupts, CPython 3.11 takes a running thread
        for ended (bpo-45274).
        """
        with self._changed:
            while self._working > 0:
                self._changed.wait()

    def _stop(self, error: BaseException | None) -> None:
        with self._changed:
            self._error = self._error or error
            self._is_stopped = True
            running = tuple(self._running)
            self._changed.notify_all()
        for process in running:
            process.stop()

    def _work(self) -> None:
        server: Server | None = None
        try:
            while (job := self._next()) is not None:
                if self.fork and (server is None or not server.is_alive):
                    server = self._started(Server(self.settings))
                try:
                    self._do(job, server)
                finally:
                    with self._changed:
                        self._busy -= 1
                        self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self._stop(error)
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def _started(self, process: _Process) -> _Process:
        with self._changed:
            self._running.add(process)
            if self._is_stopped:
                process.stop()
        return process

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._waiting and self._busy and not self._is_stopped:
                self._changed.wait()
            if not self._waiting or self._is_stopped:
                return None
            self._busy += 1
            return self._waiting.popleft()

    def _do(self, job: _Job, server: Server | None) -> None:
        left = dict.fromkeys(job.modules)
        for result in self._results(job, server):
            for name in result["modules"]:
                left.pop(name, None)
            self._take(job, result)
        for name in left:
            # The parent process has ended, for example because a thread of a package crashed.
            if job.alone:
                text = "the process that should import it ended"
                self._take(job, {"result": "crash", "text": text, "at": name, "modules": [name]})
            else:
                self.add([_Job((name,), alone=True)])

    def _results(self, job: _Job, server: Server | None) -> Iterator[dict[str, Any]]:
        if server is None:
            once = self._started(Once(job.modules[0], self.settings))
            yield once.result()
            self._running.discard(once)
        else:
            yield from server.results(job.modules, alone=job.alone)

    def _take(self, job: _Job, result: dict[str, Any]) -> None:
        modules, at = tuple(result["modules"]), result["at"]
        if result["result"] == "not forked":
            self.add([_Job((name,), alone=True) for name in modules])
        elif result["result"] == "imported":
            again = [_Job((name,), alone=True) for name in job.doubtful if name != at]
            self.add(again)
            self._settle(modules if not job.doubtful or at in job.doubtful else (), result)
        elif job.alone or "." not in at:
            self._settle(job.doubtful or modules, result)
        else:
            self.add([_Job((at,), alone=True, doubtful=modules)])

    def _settle(self, modules: tuple[str, ...], result: dict[str, Any]) -> None:
        for name in modules:
            self.outcomes[name] = Outcome(
                module=name,
                result=result["result"],
                at=result["at"],
                text=result.get("text", ""),
                missing=tuple(result.get("missing", ())),
                output=result.get("output", ""),
                seconds=result.get("seconds", 0.0),
            )
        self.task.advance(len(modules))
