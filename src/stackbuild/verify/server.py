"""Start and control the processes that import modules with a layer's interpreter."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackbuild.processes import end_group, system_environment
from stackbuild.strictjson import JsonError, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_WORKER = Path(__file__).with_name("import_worker.py")
_SLACK = 15.0
"""Seconds beyond the limit of one import after which a server counts as dead."""
_END = 3.0
"""Seconds for a server to end its child processes."""


_NO_DEVICES = {
    "CUDA_VISIBLE_DEVICES": "",
    "HIP_VISIBLE_DEVICES": "",
    "ROCR_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
}
"""Do not initialise GPUs, which takes seconds and memory."""

_ONE_THREAD = dict.fromkeys(
    (
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"),
        *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS"),
        *("POLARS_MAX_THREADS", "RAYON_NUM_THREADS"),
    ),
    "1",
)
"""Many processes run in parallel, and only processes without threads can be forked."""

_NO_WINDOWS = {
    "MPLBACKEND": "Agg",
    "QT_QPA_PLATFORM": "offscreen",
    "SDL_VIDEODRIVER": "dummy",
    "SDL_AUDIODRIVER": "dummy",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
}

_NO_NETWORK = {
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "offline",
    "TOKENIZERS_PARALLELISM": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

_FORKING_IS_MEANT = {"OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"}
"""On macOS: failures in a forked process are repeated in a fresh one."""

_DIRECTORIES = (
    *("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "TMPDIR", "TEMP", "TMP"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("MPLCONFIGDIR", "NUMBA_CACHE_DIR", "CUPY_CACHE_DIR"),
)
"""Directories where modules write files or search for user settings."""


def import_environment(scratch: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The variables, including `more`; modules write files in `scratch`."""
    return {
        # Other variables (`LD_LIBRARY_PATH`, `PYTHONPATH`) could hide or cause failures.
        **system_environment("PATH", "LANG", "TZ"),
        **_NO_DEVICES,
        **_ONE_THREAD,
        **_NO_WINDOWS,
        **_NO_NETWORK,
        **_FORKING_IS_MEANT,
        **dict.fromkeys(_DIRECTORIES, str(scratch)),
        **more,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSettings:
    """Settings for starting processes."""

    interpreter: Path
    environment: Mapping[str, str]
    scratch: Path
    """An empty directory for temporary files."""
    limit: float
    """Time limit for one import, in seconds."""

    def command(self, *arguments: str) -> list[str]:
        """Start the worker with `arguments`, without user settings and without writing bytecode."""
        interpreter, scratch = os.fspath(self.interpreter), os.fspath(self.scratch)
        return [interpreter, "-I", "-B", "-X", "utf8", os.fspath(_WORKER), scratch, *arguments]


class Server:
    """A process that forks others; it runs one task at a time."""

    def __init__(self, settings: ImportSettings) -> None:
        self._limit = settings.limit
        self._process = subprocess.Popen(
            settings.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(settings.environment),
            cwd=settings.scratch,
            start_new_session=True,
        )
        self._rest = b""

    def results(self, modules: Sequence[str], *, alone: bool) -> Iterator[dict[str, Any]]:
        """Import `modules` and yield each result; stops early if the server dies."""
        task = {"modules": list(modules), "alone": alone, "limit": self._limit}
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(task).encode() + b"\n")
            self._process.stdin.flush()
        while (line := self._line()) is not None:
            with suppress(JsonError):  # a module may write to any descriptor
                result = parse(line, "the answer of the importing process")
                if result == {"task": "done"}:
                    return
                if isinstance(result, dict) and result.keys() >= {"result", "at", "modules"}:
                    yield result

    def _line(self) -> bytes | None:
        deadline = time.monotonic() + self._limit + _SLACK
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.stop()
                    return None
                data = os.read(self._process.stdout.fileno(), 1 << 16)
                if not data:
                    return None
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    @property
    def is_alive(self) -> bool:
        """Whether it can take another task."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it and all its descendants. Idempotent and thread-safe."""
        if self.is_alive:
            self._process.terminate()
            try:
                self._process.wait(_END)
            except subprocess.TimeoutExpired:
                end_group(self._process)

    def close(self) -> None:
        """End it and close its pipes."""
        self.stop()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


class Once:
    """A process that imports one module, for systems without fork."""

    def __init__(self, module: str, settings: ImportSettings) -> None:
        self._begin = time.monotonic()
        self._module = module
        self._limit = settings.limit
        self._log = settings.scratch / f"{module}.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                settings.command(module),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                env=dict(settings.environment),
                cwd=settings.scratch,
                start_new_session=True,
            )

    def result(self) -> dict[str, Any]:
        """The result; waits for the process, and ends it at the time limit."""
        try:
            said, _ = self._process.communicate(timeout=self._limit)
            result = _result(said, self._process.returncode)
        except subprocess.TimeoutExpired:
            result = {"result": "hang", "text": f"not imported within {self._limit:g} s"}
        finally:
            self.close()
        if result["result"] in {"crash", "hang"}:
            result["output"] = self._log.read_bytes()[-2000:].decode("utf-8", "replace")
        took = round(time.monotonic() - self._begin, 3)
        return {**result, "at": self._module, "modules": [self._module], "seconds": took}

    def stop(self) -> None:
        """End it and its descendants. Thread-safe."""
        end_group(self._process)

    def close(self) -> None:
        """End it and close its pipe."""
        self.stop()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _result(said: bytes, code: int) -> dict[str, Any]:
    lines = said.splitlines()
    if code == 0 and lines:
        with suppress(JsonError):
            result = parse(lines[-1], "the answer of the importing process")
            if isinstance(result, dict) and "result" in result:
                return result
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else "signal"
        return {"result": "crash", "text": f"killed by {name} (signal {-code})"}
    shown = f"{code:#x}" if code > 255 else str(code)  # NTSTATUS codes are written in hex
    return {"result": "crash", "text": f"ended the process with exit code {shown}"}
