"""Signals that end a command: with everything it has started."""

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
"""The exit code after SIGTERM, as a shell tells it: 128 and the signal's number."""


class Terminated(KeyboardInterrupt):
    """SIGTERM has come; everything is left as after Ctrl-C."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it, SIGINT and SIGTERM end programs that run, and raise where the command is.

    Where somebody else listens to one of them, or it is ignored, that stays so.
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
