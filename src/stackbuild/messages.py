"""How the core tells what it is doing, without knowing who listens."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


def one_line(text: str) -> str:
    r"""`text` with every character escaped that a terminal would act on or not show.

    Those are the characters that `str.isprintable` is false for: control characters (C0,
    DEL, C1), line breaks, marks that change the direction of text, other invisible ones, and
    lone surrogates. They are written as in Python: ``\x1b``, ``\n``, ``\u202e``.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


class Task(Protocol):
    """A piece of work whose progress is shown."""

    def advance(self, amount: int) -> None:
        """`amount` more units (bytes, files, layers) are done. Safe in any thread."""


class Messages(Protocol):
    """Where messages and progress go; all of it to stderr or nowhere."""

    def note(self, text: str) -> None:
        """Something worth knowing."""

    def warn(self, text: str) -> None:
        """Something that may not be what the user wants."""

    @contextmanager
    def task(self, title: str, total: int | None, *, unit: str = "B") -> Iterator[Task]:
        """Long work of `total` units, or of an unknown amount; `unit` B means bytes."""


class _SilentTask:
    def advance(self, amount: int) -> None:
        """Nobody listens."""


class Silent:
    """Messages that go nowhere."""

    def note(self, text: str) -> None:
        """Nobody listens."""

    def warn(self, text: str) -> None:
        """Nobody listens."""

    @contextmanager
    def task(self, title: str, total: int | None, *, unit: str = "B") -> Iterator[Task]:
        """A task that nobody watches."""
        yield _SilentTask()


SILENT = Silent()


def size_text(size: int) -> str:
    """`size` bytes in the unit that keeps the number short: ``49.8 MB`` (powers of 1000)."""
    number = float(size)
    for unit in ("B", "kB", "MB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
