"""What a run waits for, and how its jobs ended, in words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

MOST_IDS = 4
REPEAT_S = 60.0
"""How often an unchanged state of waiting is told again, seconds."""
REPEAT_WITH_WORKERS_S = 600.0
"""The same for jobs that are still awaited while others work."""


def in_words(jobs: Iterable[tuple[str, str]]) -> str:
    """Jobs by their state: ``jobs 4711, 4712: PENDING (Resources)``.

    Parameters
    ----------
    jobs
        (job id, state) pairs.
    """
    by_state: dict[str, list[str]] = {}
    for number, state in jobs:
        by_state.setdefault(state, []).append(number)
    return "; ".join(
        f"{'jobs' if len(ids) > 1 else 'job'} {some(ids)}: {state}" for state, ids in sorted(by_state.items())
    )


def some(ids: list[str]) -> str:
    """The first few of many."""
    more = len(ids) - MOST_IDS
    return ", ".join(ids[:MOST_IDS]) + (f" and {more} more" if more > 0 else "")


def duration(seconds: float) -> str:
    """``40 s``, ``5 min`` or ``3.2 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def last_words(logs: Path, number: str, state: str) -> str:
    """Where a job's log is, and how it ends.

    Parameters
    ----------
    logs
        Folder of the jobs' logs.
    number, state
        Id of the job, and how the queue says that it ended.
    """
    named = re.compile(rf"(?<!\d){number}(?!\d)")
    found = [p for p in logs.iterdir() if named.search(p.name) and p.stat().st_size]
    if not found:
        return f"job {number} ended as {state} and left no log in {logs}"
    log = max(found, key=lambda p: p.stat().st_size)
    last: list[str] = []
    with contextlib.suppress(OSError):
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
    return f"the log of job {number}, {log}, ends: {last[0].strip() if last else '(empty)'}"
