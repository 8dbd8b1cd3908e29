"""The environment of started programs, and ending them with all their processes.

Each program gets only the variables that it needs, so that settings of the host have no effect.
Builds and imports may leave processes that are orphaned, in another session, or with another
environment. On Linux they are found by their parents, while these live, and by a variable that
marks them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

_SYSTEM = ("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT")
"""Variables that programs on Windows need."""
_USER = ("PATH", "HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP")
_NETWORK = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_MICROSOFT = (
    *("APPDATA", "LOCALAPPDATA", "PROGRAMDATA"),
    *("PROGRAMFILES", "PROGRAMFILES(X86)", "COMMONPROGRAMFILES", "COMMONPROGRAMFILES(X86)"),
    *("PROCESSOR_ARCHITECTURE", "NUMBER_OF_PROCESSORS"),
)
"""Variables that locate the user's files on Windows, and Microsoft's compiler."""

_ends: dict[int, Callable[[], None]] = {}
_is_interrupted = threading.Event()


def system_environment(*more: str) -> dict[str, str]:
    """The system's variables, and those named `more`."""
    return {name: os.environ[name] for name in (*_SYSTEM, *more) if name in os.environ}


def clean_environment() -> dict[str, str]:
    """The environment of an interpreter, without Python settings of the host."""
    return system_environment(*_USER) | {"LC_ALL": "C.UTF-8"}


def network_environment() -> dict[str, str]:
    """The environment of a program that downloads: also proxies and certificates."""
    names = (*_NETWORK, *map(str.lower, _NETWORK))
    return clean_environment() | system_environment(*names, *_MICROSOFT)


def uv_environment() -> dict[str, str]:
    """The environment of uv: also its credentials for package indexes.

    A time without an offset, such as in `exclude-newer`, is one of UTC on every machine.
    """
    return network_environment() | system_environment("SSL_CLIENT_CERT", "NETRC") | {"TZ": "UTC"}


@contextmanager
def ended_with_us(end: Callable[[], None]) -> Iterator[None]:
    """In the `with` block, an interruption of this process calls `end` from another thread.

    Otherwise a thread that waits for a program would block the whole command. Raises
    KeyboardInterrupt if the process was already interrupted.

    Example::

        with subprocess.Popen(command) as process, ended_with_us(process.kill):
            process.wait()
    """
    key = id(end)
    _ends[key] = end
    try:
        if _is_interrupted.is_set():
            end()
            raise KeyboardInterrupt
        yield
    finally:
        del _ends[key]


def end_all() -> None:
    """Call `end` of all current and later `ended_with_us` blocks."""
    _is_interrupted.set()
    for end in list(_ends.values()):
        end()


def begin() -> None:
    """Reset after an interruption."""
    _is_interrupted.clear()


def end_tree(process: subprocess.Popen[str], variable: str, value: str) -> None:
    """End `process`, a process group leader, and all its descendants.

    `variable` is set to the unique `value` in its environment.
    """
    # Before their parents end, because they are found by their parents.
    started = below(process.pid) if process.poll() is None else []
    end_group(process)
    _kill(started)
    end_marked(variable, value)
    process.wait()


def end_group(process: subprocess.Popen[Any]) -> None:
    """End `process`, a process group leader, and its group; on Windows its process tree."""
    if os.name == "nt":
        # Imported late: every command imports this module, and few start programs.
        import subprocess

        words = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(words, capture_output=True, check=False)
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def end_marked(variable: str, value: str) -> None:
    """End all processes with `variable` set to `value`; only on Linux."""
    # A process that is started in the meantime is found in the next round.
    while found := _marked(variable, value):
        _kill(found)
        time.sleep(0.01)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _marked(variable: str, value: str) -> list[int]:
    if sys.platform != "linux":
        return []
    wanted = f"{variable}={value}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            # The environment of a zombie process is empty.
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def below(pid: int) -> list[int]:
    """The descendants of `pid`; none without /proc."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):
                found.extend(map(int, children.read_text().split()))
    return found[1:]
