"""The one progress display of all commands: what is done, how many, at which rate, and the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Show = Callable[[str, int, int], None]
"""Told what is done, how many and of how many."""


@contextmanager
def progress(what: str = "", *, quiet: bool = False) -> Iterator[Show]:
    """Show progress on a terminal, and nothing where standard error is none; gone when the work is done.

    Parameters
    ----------
    what
        Shown until the first report.
    quiet
        Show nothing anywhere.

    Yields
    ------
    callable
        To report to; a new name of the work begins a new count.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, rate="")
        current = what

        def show(now: str, done: int, total: int) -> None:
            nonlocal current
            if now.split(":")[0] != current.split(":")[0]:
                bar.reset(task)
            current = now
            bar.update(task, description=now, completed=done, total=total)
            bar.update(task, rate=rate(done, bar.tasks[0].elapsed or 0.0))

        yield show


def rate(done: int, elapsed_s: float) -> str:
    """Items per second, or seconds an item where they are slow; nothing before the first.

    Parameters
    ----------
    done
        Items.
    elapsed_s
        Seconds that they took.
    """
    if done <= 0 or elapsed_s <= 0:
        return ""
    each = elapsed_s / done
    return f"{each:.1f} s each" if each >= 0.5 else f"{1 / each:,.0f}/s"
