"""Failures of transfers, and when to retry, wait or give up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackbuild.errors import FetchError
from stackbuild.transport.urls import redact, split_address

if TYPE_CHECKING:
    from stackbuild.messages import Messages

ENOUGH_PROGRESS = 1 << 20
"""After this many bytes an interrupted transfer gets all its attempts again."""
_NOTED = 1.0
"""Pauses of at least this many seconds are reported."""


class UnreachableError(FetchError):
    """A host that cannot be resolved or connected to, or does not answer."""

    def __init__(self, host: str, url: str, reason: str) -> None:
        super().__init__(
            f"{host} cannot be reached",
            file=redact(url),
            found=reason,
            remedy="check the network and the proxy settings, or set a mirror",
        )
        self.host = host
        self.reason = reason


class NotFoundError(FetchError):
    """The address has no file."""


class ForbiddenError(FetchError):
    """The server answers 403, as some do also for what they do not have."""


class BrokenTransferError(Exception):
    """A failure for which a retry may succeed; `pause` is the delay that the server requests."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pause = pause


class SlowTransferError(BrokenTransferError):
    """The transfer is too slow to finish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Time limits in seconds, and the number of attempts."""

    reach: float = 10.0
    """For the first answer of a host, for all attempts together."""
    silence: float = 30.0
    """For the next bytes of a host that has answered before."""
    attempts: int = 5
    backoff: float = 0.5
    """The first pause between attempts; it doubles each time."""
    longest_pause: float = 60.0
    """The limit for a server's Retry-After."""
    slowest: int = 1000
    """The minimum bytes per second, on average over `window`."""
    window: float = 30.0


PATIENCE = Patience()


class Attempts:
    """Counts the failures of one transfer, and waits between them."""

    def __init__(self, url: str, patience: Patience, messages: Messages) -> None:
        self._url = url
        self._host = split_address(url).hostname or "the server"
        self._patience = patience
        self._messages = messages
        self._failures = 0
        self._slow = False

    def failed(self, error: BrokenTransferError, progress: int) -> None:
        """Wait before the next attempt. Raises FetchError after the last one.

        `progress` is the number of bytes that the attempt received.
        """
        slow = isinstance(error, SlowTransferError)
        if slow and self._slow:
            raise self._too_slow(error) from error
        self._slow = slow
        self._failures = 1 if progress >= ENOUGH_PROGRESS else self._failures + 1
        if self._failures >= self._patience.attempts:
            raise FetchError(
                f"the transfer failed {self._failures} times",
                file=redact(self._url),
                found=error.reason,
                remedy="try again later",
            ) from error
        self._wait(error)

    def _too_slow(self, error: BrokenTransferError) -> FetchError:
        return FetchError(
            f"{self._host} sends too slowly",
            file=redact(self._url),
            expected=f"{self._patience.slowest} bytes per second or more",
            found=error.reason,
            remedy="try again later, or use another mirror",
        )

    def _wait(self, error: BrokenTransferError) -> None:
        limits = self._patience
        own = limits.backoff * 2 ** (self._failures - 1)
        pause = min(max(error.pause or 0.0, own), limits.longest_pause)
        if error.pause is not None and error.pause >= _NOTED:
            self._messages.note(
                f"{self._host} requests a pause of {error.pause:.0f} s ({error.reason}); "
                f"trying again in {pause:.0f} s"
            )
        elif pause >= _NOTED:
            self._messages.note(f"{self._host}: {error.reason}; trying again in {pause:.0f} s")
        time.sleep(pause)


class Pace:
    """Checks the speed of a transfer. Only the time spent waiting for bytes counts."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._bytes = 0
        self._seconds = 0.0

    def arrived(self, count: int, seconds: float) -> None:
        """Record `count` bytes that arrived after `seconds`. Raises SlowTransferError."""
        self._bytes += count
        self._seconds += seconds
        if self._seconds < self._patience.window:
            return
        if self._bytes < self._patience.slowest * self._seconds:
            raise SlowTransferError(f"{self._bytes} bytes in {self._seconds:.0f} s")
        self._bytes, self._seconds = 0, 0.0
