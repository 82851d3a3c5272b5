"""How a run is doing: on the terminal or in a log, and ``progress.json`` in its folder for whoever watches."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import TextIO

from provabgs.core.progress import Display
from provabgs.core.status import Status

PROGRESS_NAME = "progress.json"
_FILE_EVERY_S = 30.0


class Progress:
    """Counts rows, shows them, and estimates the time left; a context manager that leaves the terminal clean.

    Parameters
    ----------
    output
        Directory that gets ``progress.json``.
    total
        Rows of the plan.
    stream
        Where the display goes; standard error when None.
    quiet
        No display; the file is written all the same.
    unit
        What a row is called.
    """

    def __init__(
        self, output: Path, total: int, stream: TextIO | None = None, *, quiet: bool = False, unit: str = "galaxies"
    ) -> None:
        self.path = output / PROGRESS_NAME
        self.total = total
        self.stored: Counter[int] = Counter()
        self.fitted: Counter[int] = Counter()
        self.display = Display("fitting", quiet=quiet, unit=unit, stream=stream, keep=True)
        self._written = 0.0

    def __enter__(self) -> Progress:
        self.display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.display.__exit__(kind, error, trace)

    @property
    def done(self) -> int:
        """Rows stored by earlier runs or fitted by this one."""
        return sum(self.stored.values()) + sum(self.fitted.values())

    def add_stored(self, counts: Counter[int]) -> None:
        """Count rows that were there already: they say nothing about the rate."""
        self.stored.update(counts)
        self.display.pace.skip(sum(counts.values()))

    def add_fitted(self, counts: Counter[int]) -> None:
        """Count rows of a finished batch."""
        self.fitted.update(counts)

    def show(self, n_workers: int, *, last: bool = False) -> None:
        """Bring the display up to date, and the file every half minute.

        Parameters
        ----------
        n_workers
            Workers at work.
        last
            The run is done: everything is brought up to date now.
        """
        self.display("fitting", self.done, self.total, self.note(n_workers), last=last)
        now = time.monotonic()
        if last or now - self._written >= _FILE_EVERY_S:
            self._written = now
            with contextlib.suppress(OSError):  # a full disk is reported by what matters: the shards
                self.path.write_text(json.dumps(self.state(n_workers)))

    def say(self, text: str) -> None:
        """Print a line of its own, above the bar."""
        self.display.say(text)

    def state(self, n_workers: int) -> dict[str, object]:
        """Everything as plain numbers."""
        counts = self.stored + self.fitted
        pace = self.display.pace
        return {
            "total": self.total,
            "done": self.done,
            "fitted_now": sum(self.fitted.values()),
            "status": {Status(k).name: n for k, n in sorted(counts.items())},
            "galaxies_per_second": pace.rate,
            "seconds_left": pace.left(self.done, self.total),
            "workers": n_workers,
            "time": time.time(),
        }

    def note(self, n_workers: int) -> str:
        """What to know beside the count: workers, and rows that went wrong."""
        counts = self.stored + self.fitted
        wrong = {
            "not converged": counts[Status.NOT_CONVERGED] + counts[Status.ENGINE_ERROR],
            "unusable": sum(n for s, n in counts.items() if Status.UNOBSERVED <= s < Status.LIKELIHOOD_FAILED),
            "failed": sum(n for s, n in counts.items() if s >= Status.LIKELIHOOD_FAILED),
        }
        workers = f"{n_workers} worker{'' if n_workers == 1 else 's'}"
        return ", ".join([workers, *(f"{n} {what}" for what, n in wrong.items() if n)])
