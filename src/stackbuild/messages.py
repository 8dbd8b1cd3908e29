"""How the core tells what it is doing, without knowing who listens."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


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
