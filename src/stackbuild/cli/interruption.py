"""Signals that end a command and the programs that it started."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from stackbuild import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

TERMINATED = 143
"""The exit code after SIGTERM, as shells report it: 128 plus the signal's number."""


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM; handled like Ctrl-C."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it, SIGINT and SIGTERM end the programs that were started, and raise.

    A signal that is ignored, or has another handler, is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual: dict[int, signal.Handlers | Callable[[int, FrameType | None], object]] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    ours = [number for number, handler in usual.items() if signal.getsignal(number) is handler]
    processes.begin()
    for number in ours:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, usual[number])


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    processes.end_all()
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
