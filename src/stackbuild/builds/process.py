"""Running the programs of a build: logged, within a time limit, and ended with all they started."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING

from stackbuild.lock.indexes import without_secrets
from stackbuild.runtimes.probe import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MARK = "STACKBUILD_BUILD"
"""The variable by which everything that a build started is found again."""
TAIL = 20
"""How many lines of a log a failure shows."""

_NETWORK = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
# What Microsoft's compiler is found by.
_WINDOWS = (
    *("APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "COMSPEC", "PATHEXT", "WINDIR"),
    *("PROGRAMFILES", "PROGRAMFILES(X86)", "COMMONPROGRAMFILES", "COMMONPROGRAMFILES(X86)"),
    *("PROCESSOR_ARCHITECTURE", "NUMBER_OF_PROCESSORS"),
)
_LAST_WORDS = 5.0
"""Seconds for reading what an ended program has written."""


class RunError(Exception):
    """A program of a build failed or took too long; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs the programs of one build, one after the other."""

    log: Path
    """Everything they print goes to its end, without the credentials of addresses."""
    until: float
    """When they must be done, by `time.monotonic`."""
    limit: int
    """The seconds that were given, for messages."""
    echo: Callable[[str], None] | None = None
    """Is given each line as it comes."""

    def run(
        self, command: Sequence[str | Path], directory: Path, environment: Mapping[str, str]
    ) -> None:
        """Run `command`. Raises RunError for another status than 0, and when the time is up."""
        mark = secrets.token_hex(16)
        with self.log.open("a", encoding="utf-8") as log:
            process = subprocess.Popen(
                [os.fspath(word) for word in command],
                cwd=directory,
                env={**environment, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
                umask=0o022,
            )
            reader = Thread(target=self._read, args=(process.stdout, log), daemon=True)
            reader.start()
            try:
                status = process.wait(max(0.0, self.until - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise RunError(f"it was not done within {self.limit} s and was ended") from None
            finally:
                # Also after an interruption, and for what runs on after the program has ended.
                end_tree(process, mark)
                reader.join(_LAST_WORDS)
        if status:
            raise RunError(f"{Path(command[0]).name} ended with status {status}")

    def _read(self, output: IO[str], log: IO[str]) -> None:
        with suppress(ValueError):  # the log of a reader that was given up
            for line in output:
                text = without_secrets(line)
                log.write(text)
                log.flush()
                if self.echo:
                    self.echo(text.rstrip())


def end_tree(process: subprocess.Popen[str], mark: str) -> None:
    """End `process` and everything it started, whatever became of its parents.

    On Linux it is found by its environment, elsewhere by its process group.
    """
    if os.name == "nt":
        words = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(words, capture_output=True, check=False)
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        # One that is being started while the others end shows up in the next round.
        while found := _marked(mark):
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
    process.wait()


def _marked(mark: str) -> list[int]:
    """The running processes with `mark` in their environment; none where there is no /proc."""
    if sys.platform != "linux":
        return []
    wanted = f"{MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            # That of a process which has ended and waits to be asked for its status is empty.
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def tail(log: Path) -> str:
    """The last lines of `log`."""
    with suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
        return "\n".join(lines[-TAIL:])
    return ""


def tool_environment() -> dict[str, str]:
    """For uv and git: no settings of the host but proxies and certificates."""
    names = (*_NETWORK, *map(str.lower, _NETWORK), *(_WINDOWS if os.name == "nt" else ()))
    return clean_environment() | {name: os.environ[name] for name in names if name in os.environ}


def build_environment(platform_variables: Mapping[str, str], home: Path) -> dict[str, str]:
    """For a build backend and its compilers, which keep what they write at home in `home`.

    The time is fixed (SOURCE_DATE_EPOCH), and so are language and time zone.
    """
    environment = tool_environment() | {
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        # 1980-01-01, the earliest time that a zip archive can tell.
        "SOURCE_DATE_EPOCH": "315532800",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
    }
    if sys.platform == "linux":
        # What sysconfig names is the compiler of the machine that built the interpreter.
        environment |= {"CC": "gcc", "CXX": "g++"}
    for name, folder in (("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")):
        toolchain = Path.home() / folder
        if toolchain.is_dir():
            environment[name] = str(toolchain)
    return environment | dict(platform_variables)
