"""Signals that stop a run in good order: Ctrl-C, a terminal that closes, what batch systems send before they kill."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_STOPPED = 130
"""Exit code of a run that Ctrl-C or the end of its terminal stopped, by the shell's custom 128 + SIGINT."""
EXIT_TERMINATED = 143
"""The same for SIGTERM."""
PATIENCE_S = 10.0
"""Further signals within this time of the first do not disturb the orderly stop; later ones break it off."""


class Stopped(KeyboardInterrupt):
    """A signal asked for the end of the run."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = EXIT_TERMINATED if number == signal.SIGTERM else EXIT_STOPPED


def exit_code(stop: KeyboardInterrupt) -> int:
    """The exit code that belongs to what stopped a run."""
    return getattr(stop, "exit_code", EXIT_STOPPED)


@contextmanager
def orderly_stop() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise `Stopped` in the main thread while the context is open.

    A signal that is ignored (``nohup``) stays so. Terminals and batch systems like to send several at once: within
    `PATIENCE_S` only the first counts.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: list[float] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if first and now - first[0] < PATIENCE_S:
            return
        first[:] = [now]
        raise Stopped(number)

    taken = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
