"""Messages and progress bars on stderr."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stackbuild.cli.output import message_text, print_message
from stackbuild.messages import Silent, Task, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, amount: int) -> None:
        self._progress.advance(self._task, amount)


class Console:
    """Messages as plain lines; progress bars where stderr is a terminal.

    `quiet` leaves out everything but warnings.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._progress: Progress | None = None

    def note(self, text: str) -> None:
        """Print a line."""
        if not self._quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        """Print a line that begins with `warning`; without colour."""
        self._print(f"warning: {text}")

    def _print(self, text: str) -> None:
        # Indented, so that a line break in what others wrote begins no message of its own.
        text = text.replace("\n", "\n    ")
        if self._progress is not None:
            self._progress.console.print(
                message_text(text), markup=False, highlight=False, soft_wrap=True
            )
        else:
            print_message(text)

    @contextmanager
    def task(self, title: str, total: int | None, *, unit: str = "B") -> Iterator[Task]:
        """A progress bar, or nothing if stderr is no terminal or for `quiet`."""
        if self._quiet or not sys.stderr.isatty():
            with Silent().task(title, total, unit=unit) as silent:
                yield silent
            return
        from rich.markup import escape

        started = self._progress is None
        progress = self._progress or _progress()
        if started:
            progress.start()
            self._progress = progress
        task = progress.add_task(escape(one_line(title)), total=total, unit=unit)
        try:
            yield _Bar(progress, task)
        finally:
            progress.remove_task(task)
            if started:
                progress.stop()
                self._progress = None


def _progress() -> Progress:
    # rich takes a tenth of a second to import, which commands with nothing to do never pay.
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=RichConsole(stderr=True),
        transient=True,
    )
