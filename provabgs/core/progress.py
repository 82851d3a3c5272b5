"""The one progress display: what is done, how much of it, at which rate, and the time that is left.

On a terminal it is a bar at the foot of the output. Elsewhere (a log file, a batch job) it is a plain line now and
then: after half a minute, and ever more rarely, so that the log of a run of ten hours has a hundred of them.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

Show = Callable[[str, int, int], None]
"""Told what is done, how many and of how many."""

_TOLD: ContextVar[Display | None] = ContextVar("told", default=None)
"""The display that `report` speaks to."""
WINDOW_S = 300.0
"""Rates are those of the last five minutes."""
FIRST_LINE_S, LAST_INTERVAL_S, LINES_PER_E_FOLD = 30.0, 600.0, 20.0
"""Where there is no terminal: the first line, the longest wait for the next, and how their interval grows."""


def report(what: str, done: int, total: int) -> None:
    """Say how far a loop is to the display that asked for it (``Display(reports=True)``), to nobody without one.

    Parameters
    ----------
    what
        Of the work.
    done, total
        Items; 0 of 0 for work of unknown length.
    """
    if (told := _TOLD.get()) is not None:
        told(what, done, total)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Within it `report` speaks to nobody: for a loop that tells its own progress, around smaller ones."""
    token = _TOLD.set(None)
    try:
        yield
    finally:
        _TOLD.reset(token)


class Pace:
    """How fast something goes on, from what was done at which time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.restart()

    def restart(self, done: int = 0) -> None:
        """Begin a new count, of which `done` are there already and say nothing about the rate."""
        self.start = self._clock()
        self._recent: deque[tuple[float, int]] = deque([(self.start, done)])

    @property
    def elapsed(self) -> float:
        """Seconds since the count began."""
        return self._clock() - self.start

    def skip(self, n: int) -> None:
        """Take `n` items as done before the count began: those of an earlier run."""
        self._recent = deque((t, done + n) for t, done in self._recent)

    def note(self, done: int) -> None:
        """Remember how many are done now."""
        now = self._clock()
        self._recent.append((now, done))
        while len(self._recent) > 2 and now - self._recent[0][0] > WINDOW_S:
            self._recent.popleft()

    @property
    def rate(self) -> float:
        """Items per second over the last minutes; 0 where none is known."""
        (t0, n0), (t1, n1) = self._recent[0], self._recent[-1]
        return max(n1 - n0, 0) / (t1 - t0) if t1 > t0 else 0.0

    def left(self, done: int, total: int) -> float | None:
        """Seconds that are left, None where the rate is not known.

        Parameters
        ----------
        done, total
            Items.
        """
        return (total - done) / self.rate if self.rate > 0 else None


class Display:
    """A progress bar on a terminal, lines elsewhere; a context manager that cleans up whatever happens.

    Parameters
    ----------
    what
        Shown until the first report.
    quiet
        Show nothing; `say` still speaks.
    unit
        What an item is called, for the rate: "galaxies". Left out of the line when empty.
    stream
        Where to; standard error when None.
    keep
        Leave the last state on the terminal when the work is done.
    reports
        Show what loops inside tell `report`.
    """

    def __init__(
        self, what: str = "", *, quiet: bool = False, unit: str = "", stream: TextIO | None = None, keep: bool = False,
        reports: bool = False,
    ) -> None:  # fmt: skip
        from rich.console import Console

        self.what, self.quiet, self.unit, self.keep = what, quiet, unit, keep
        self.console: Console = Console(file=stream, stderr=stream is None)
        self.pace = Pace()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._next_line = FIRST_LINE_S
        self._done = 0
        self._reports = reports
        self._token: Token[Display | None] | None = None

    def __enter__(self) -> Display:
        if self._reports:
            self._token = _TOLD.set(self)
        if self.console.is_terminal and not self.quiet:
            self._bar = _bar(self.console, transient=not self.keep)
            self._task = self._bar.add_task(self.what, total=None, facts="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _TOLD.reset(self._token)
            self._token = None
        if self._bar is not None:
            with contextlib.suppress(OSError):  # the terminal may be gone
                self._bar.stop()
            self._bar = None

    def __call__(self, what: str, done: int, total: int, note: str = "", *, last: bool = False) -> None:
        """Say how far the work is; a new name of the work (up to its first colon) begins a new count.

        Parameters
        ----------
        what
            Of the work, and of the item that is being worked on.
        done, total
            Items.
        note
            More to say, at the end of the line.
        last
            The work is done: where there is no terminal, the line comes whatever the time.
        """
        if what.split(":")[0] != self.what.split(":")[0] or done < self._done:
            self.pace.restart(done)
            self._next_line = FIRST_LINE_S
        self.what, self._done = what, done
        self.pace.note(done)
        if self.quiet:
            return
        facts = ", ".join(text for text in (*self._facts(done, total), note) if text)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=what, completed=done, total=total or None, facts=facts)
        elif last or self.pace.elapsed >= self._next_line:
            self._next_line = next_line(self.pace.elapsed)
            share = f" ({100 * done / total:.1f} %)" if total else ""
            head = f"{what}: " if what else ""
            count = f"{done}/{total}{share}" if total else f"{duration(self.pace.elapsed)} so far"
            self.say(f"{time.strftime('%H:%M:%S')} {head}{count}, {facts}".rstrip(", "))

    def say(self, text: str) -> None:
        """Print a line of its own, above the bar where there is one."""
        with contextlib.suppress(OSError):  # the terminal may be gone, and the run go on under nohup
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _facts(self, done: int, total: int) -> tuple[str, str]:
        left = self.pace.left(done, total)
        return rate_text(self.pace.rate, self.unit), f"{duration(left)} left" if left else ""


def next_line(elapsed_s: float) -> float:
    """When the next line of a log is due, seconds after the start."""
    return elapsed_s + min(max(FIRST_LINE_S, elapsed_s / LINES_PER_E_FOLD), LAST_INTERVAL_S)


def rate_text(per_second: float, unit: str = "") -> str:
    """A rate as people say it: items per second, or seconds an item where they are slow; nothing for 0.

    Parameters
    ----------
    per_second
        Items per second.
    unit
        What they are called.
    """
    if per_second <= 0:
        return ""
    if per_second <= 2:
        return f"{1 / per_second:.1f} s each"
    return f"{per_second:,.0f} {unit}/s" if unit else f"{per_second:,.0f}/s"


def duration(seconds: float) -> str:
    """Seconds as 1d02h, 3h04m or 5m06s."""
    s = int(seconds)
    if s >= 86400:
        return f"{s // 86400}d{s % 86400 // 3600:02d}h"
    if s >= 3600:
        return f"{s // 3600}h{s % 3600 // 60:02d}m"
    return f"{s // 60}m{s % 60:02d}s"


def _bar(console: Console, *, transient: bool) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        console=console,
        transient=transient,
        redirect_stdout=sys.stdout.isatty(),  # else what is printed for a file or a pipe would go to the terminal
    )
