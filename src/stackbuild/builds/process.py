"""Run the programs of a build: log them, limit their time, end all their processes."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING

from stackbuild.lock.indexes import without_secrets
from stackbuild.processes import end_tree, ended_with_us

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MARK = "STACKBUILD_BUILD"
"""The environment variable that marks all processes of a build."""
TAIL = 20
"""The number of log lines shown after a failure."""

_LAST_WORDS = 5.0
"""Time limit for reading the output of an ended program, in seconds."""


class RunError(Exception):
    """A program of a build failed or exceeded its time limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs the programs of one build, one after the other."""

    log: Path
    """Their output is appended to it, without credentials in addresses."""
    until: float
    """The deadline, as `time.monotonic`."""
    limit: int
    """The time limit in seconds, for messages."""
    echo: Callable[[str], None] | None = None
    """Called with each line of output."""

    def run(
        self, command: Sequence[str | Path], directory: Path, environment: Mapping[str, str]
    ) -> None:
        """Run `command`. Raises RunError for a status other than 0, or after the time limit."""
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
            end = partial(end_tree, process, MARK, mark)
            try:
                with ended_with_us(end):
                    status = process.wait(max(0.0, self.until - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise RunError(
                    f"it exceeded the time limit of {self.limit} s and was ended"
                ) from None
            finally:
                # Also after an interruption, and for processes that outlive the program.
                end()
                reader.join(_LAST_WORDS)
        if status:
            raise RunError(f"{Path(command[0]).name} ended with status {status}")

    def _read(self, output: IO[str], log: IO[str]) -> None:
        with suppress(ValueError):  # the reader was abandoned
            for line in output:
                text = without_secrets(line)
                log.write(text)
                log.flush()
                if self.echo:
                    self.echo(text.rstrip())


def tail(log: Path) -> str:
    """The last lines of `log`."""
    with suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
        return "\n".join(lines[-TAIL:])
    return ""
