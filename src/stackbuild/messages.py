"""The interface for messages and progress."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


def one_line(text: str) -> str:
    r"""`text` with all characters escaped that a terminal interprets or does not show.

    These are the characters for which `str.isprintable` is false: control characters (C0, DEL,
    C1), line breaks, bidirectional marks, other invisible ones, and lone surrogates. They are
    written as in Python: ``\x1b``, ``\n``, ``\u202e``.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


class Task(Protocol):
    """A task whose progress is shown."""

    def advance(self, amount: int) -> None:
        """Report `amount` more finished units (bytes, files, layers). Thread-safe."""


class Messages(Protocol):
    """Receives messages and progress; never writes to stdout."""

    def note(self, text: str) -> None:
        """Show an informational message."""

    def warn(self, text: str) -> None:
        """Show a warning."""

    @contextmanager
    def task(self, title: str, total: int | None, *, unit: str = "B") -> Iterator[Task]:
        """Begin a task of `total` units, or of an unknown amount; `unit` B means bytes."""


class _SilentTask:
    def advance(self, amount: int) -> None:
        """Nobody listens."""


class Silent:
    """Discards all messages."""

    def note(self, text: str) -> None:
        """Nobody listens."""

    def warn(self, text: str) -> None:
        """Nobody listens."""

    @contextmanager
    def task(self, title: str, total: int | None, *, unit: str = "B") -> Iterator[Task]:
        """A task without progress output."""
        yield _SilentTask()


SILENT = Silent()


def size_text(size: int) -> str:
    """`size` in bytes with a suitable unit: ``49.8 MB`` (powers of 1000)."""
    number = float(size)
    for unit in ("B", "kB", "MB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
