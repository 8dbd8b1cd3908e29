"""The programs that stackbuild starts: what they get of its environment, and how they are ended.

Each gets the variables that it needs and no others, so that no setting of the host changes
what it does. A build or an import may leave processes behind that have no parent any more, a
session of their own, or another environment. On Linux they are found by their
parents while these live, and by a variable that was set for them.
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
"""What programs on Windows are started with."""
_USER = ("PATH", "HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP")
_NETWORK = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_MICROSOFT = (
    *("APPDATA", "LOCALAPPDATA", "PROGRAMDATA"),
    *("PROGRAMFILES", "PROGRAMFILES(X86)", "COMMONPROGRAMFILES", "COMMONPROGRAMFILES(X86)"),
    *("PROCESSOR_ARCHITECTURE", "NUMBER_OF_PROCESSORS"),
)
"""What programs on Windows find the files of the user by, and Microsoft's compiler its own."""

_ends: dict[int, Callable[[], None]] = {}
_is_interrupted = threading.Event()


def system_environment(*more: str) -> dict[str, str]:
    """The variables of the system, and those called `more`."""
    return {name: os.environ[name] for name in (*_SYSTEM, *more) if name in os.environ}


def clean_environment() -> dict[str, str]:
    """For an interpreter, which no setting of the host may change."""
    return system_environment(*_USER) | {"LC_ALL": "C.UTF-8"}


def network_environment() -> dict[str, str]:
    """For a program that downloads: also the proxies and certificates."""
    names = (*_NETWORK, *map(str.lower, _NETWORK))
    return clean_environment() | system_environment(*names, *_MICROSOFT)


def uv_environment() -> dict[str, str]:
    """For uv: also what it identifies itself with to package indexes."""
    return network_environment() | system_environment("SSL_CLIENT_CERT", "NETRC")


@contextmanager
def ended_with_us(end: Callable[[], None]) -> Iterator[None]:
    """Within it, `end` is called when this process is interrupted, from another thread.

    Raises KeyboardInterrupt where that has happened before. Without it a thread
    that waits for a program would keep the whole command waiting.
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
    """End everything that stands within `ended_with_us`, and whatever comes into it."""
    _is_interrupted.set()
    for end in list(_ends.values()):
        end()


def begin() -> None:
    """Forget an earlier interruption."""
    _is_interrupted.clear()


def end_tree(process: subprocess.Popen[str], variable: str, value: str) -> None:
    """End `process`, which leads a group of its own, and everything it started.

    `variable` was set to `value` in its environment, and to nothing else anywhere.
    """
    # Before their parents end, by which they are found.
    started = below(process.pid) if process.poll() is None else []
    end_group(process)
    _kill(started)
    end_marked(variable, value)
    process.wait()


def end_group(process: subprocess.Popen[Any]) -> None:
    """End `process`, which leads a group of its own, and all in that group; on Windows its tree."""
    if os.name == "nt":
        # Imported late: every command comes by this module, and few start anything.
        import subprocess

        words = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(words, capture_output=True, check=False)
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def end_marked(variable: str, value: str) -> None:
    """End all processes that have `variable` set to `value`; on Linux only."""
    # One that is being started while the others end shows up in the next round.
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
            # That of a process which has ended and waits to be asked for its status is empty.
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def below(pid: int) -> list[int]:
    """The processes below `pid`, by their parents; none where there is no /proc."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):
                found.extend(map(int, children.read_text().split()))
    return found[1:]
