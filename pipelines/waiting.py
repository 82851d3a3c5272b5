"""What a run waits for, in words."""

from __future__ import annotations

from collections.abc import Iterable

MOST_IDS = 4


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
