"""How a run is doing: a line in the terminal, and ``progress.json`` in the output directory for whoever watches."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import TextIO

from provabgs.core.status import Status

PROGRESS_NAME = "progress.json"
_WINDOW_S = 300.0


class Progress:
    """Counts rows and estimates the time left from the rate of the last five minutes.

    Parameters
    ----------
    output
        Directory that gets ``progress.json``.
    total
        Rows of the plan.
    stream
        Where the line goes; rewritten in place on a terminal, else printed every half minute.
    quiet
        No line at all.
    unit
        What a row is called.
    """

    def __init__(
        self, output: Path, total: int, stream: TextIO | None = None, *, quiet: bool = False, unit: str = "galaxies"
    ) -> None:
        self.unit = unit
        self.path = output / PROGRESS_NAME
        self.total = total
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self.stored: Counter[int] = Counter()
        self.fitted: Counter[int] = Counter()
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._shown = 0.0

    @property
    def done(self) -> int:
        """Rows stored by earlier runs or fitted by this one."""
        return sum(self.stored.values()) + sum(self.fitted.values())

    def add_stored(self, counts: Counter[int]) -> None:
        """Count rows that were there already."""
        self.stored.update(counts)

    def add_fitted(self, counts: Counter[int]) -> None:
        """Count rows of a finished batch."""
        self.fitted.update(counts)

    def show(self, n_workers: int, *, last: bool = False) -> None:
        """Bring the terminal and the file up to date, at most once a second (a terminal) or half minute."""
        now = time.monotonic()
        terminal = self.stream.isatty()
        if not last and now - self._shown < (1.0 if terminal else 30.0):
            return
        self._shown = now
        self._recent.append((now, sum(self.fitted.values())))
        while len(self._recent) > 2 and now - self._recent[0][0] > _WINDOW_S:
            self._recent.popleft()
        line = self.line(n_workers)
        with contextlib.suppress(OSError):  # a full disk is reported by what matters: the shards
            self.path.write_text(json.dumps(self.state(n_workers)))
        if not self.quiet:
            with contextlib.suppress(OSError):  # the terminal may be gone, and the run go on under nohup
                self.stream.write(f"\r{line:<110}" + ("\n" if last else "") if terminal else line + "\n")
                self.stream.flush()

    def say(self, text: str) -> None:
        """Print a line of its own, above the progress line."""
        with contextlib.suppress(OSError):  # the terminal may be gone
            self.stream.write(f"\r{text:<110}\n" if self.stream.isatty() else text + "\n")
            self.stream.flush()

    def rate(self) -> float:
        """Galaxies per second over the last minutes."""
        (t0, n0), (t1, n1) = self._recent[0], self._recent[-1]
        return (n1 - n0) / (t1 - t0) if t1 > t0 else 0.0

    def state(self, n_workers: int) -> dict[str, object]:
        """Everything as plain numbers."""
        rate = self.rate()
        counts = self.stored + self.fitted
        return {
            "total": self.total,
            "done": self.done,
            "fitted_now": sum(self.fitted.values()),
            "status": {Status(k).name: n for k, n in sorted(counts.items())},
            "galaxies_per_second": rate,
            "seconds_left": (self.total - self.done) / rate if rate > 0 else None,
            "workers": n_workers,
            "time": time.time(),
        }

    def line(self, n_workers: int) -> str:
        """One line for people."""
        counts = self.stored + self.fitted
        doubtful = counts[Status.NOT_CONVERGED] + counts[Status.ENGINE_ERROR]
        failed = sum(n for s, n in counts.items() if s >= Status.LIKELIHOOD_FAILED)
        unusable = sum(n for s, n in counts.items() if Status.UNOBSERVED <= s < Status.LIKELIHOOD_FAILED)
        rate = self.rate()
        left = _duration((self.total - self.done) / rate) if rate > 0 else "unknown"
        percent = 100.0 * self.done / self.total if self.total else 100.0
        return (
            f"{self.done}/{self.total} ({percent:.1f} %), {rate:.3g} {self.unit}/s, {left} left, {n_workers} workers; "
            f"not converged {doubtful}, unusable {unusable}, failed {failed}"
        )


def _duration(seconds: float) -> str:
    """Seconds as 1d02h, 3h04m or 5m06s."""
    s = int(seconds)
    if s >= 86400:
        return f"{s // 86400}d{s % 86400 // 3600:02d}h"
    if s >= 3600:
        return f"{s // 3600}h{s % 3600 // 60:02d}m"
    return f"{s // 60}m{s % 60:02d}s"
