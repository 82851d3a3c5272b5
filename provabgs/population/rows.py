"""Which rows of a catalog enter a population, and why the others do not."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import BoolArray
from provabgs.core.errors import InputError
from provabgs.core.status import Status


class RowSelection:
    """Rows that are still in, and the number left out for each reason.

    Parameters
    ----------
    n
        Number of rows at the start, all of them in.

    Attributes
    ----------
    keep
        ``(n,)`` True for rows that are still in.
    excluded
        Rows left out, by reason; a row counts once, under the first reason that applied.
    """

    def __init__(self, n: int) -> None:
        self.keep: BoolArray = np.ones(n, dtype=bool)
        self.excluded: dict[str, int] = {}

    def drop(self, bad: ArrayLike, reason: str) -> None:
        """Leave rows out.

        Parameters
        ----------
        bad
            ``(n,)`` True for rows to leave out; those that are out already do not count again.
        reason
            What is wrong with these rows, as in "12 not converged".
        """
        bad = np.asarray(bad, dtype=bool)
        count = int((bad & self.keep).sum())
        if count:
            self.excluded[reason] = self.excluded.get(reason, 0) + count
        self.keep &= ~bad

    @property
    def n_rows(self) -> int:
        """Rows at the start."""
        return self.keep.size

    @property
    def n_used(self) -> int:
        """Rows that are still in."""
        return int(self.keep.sum())

    @property
    def reasons(self) -> str:
        """Rows left out by reason, as text: "1 without samples, 12 not converged"."""
        return ", ".join(f"{n} {reason}" for reason, n in self.excluded.items()) or "none"

    def sentence(self) -> str:
        """What was used and left out, for people."""
        return f"{self.n_used} of {self.n_rows} galaxies used; left out: {self.reasons}"

    def require_some(self, label: str) -> None:
        """Refuse an empty selection.

        Parameters
        ----------
        label
            File or catalog, for the message.

        Raises
        ------
        InputError
            When no row is left.
        """
        if not self.keep.any():
            hint = " (--include-not-converged takes the latter)" if "not converged" in self.excluded else ""
            raise InputError(f"{label}: no galaxy of {self.n_rows} is left; left out: {self.reasons}{hint}")


def fitted_rows(status: ArrayLike, n_samples: ArrayLike, include_not_converged: bool = False) -> RowSelection:
    """Rows with posterior samples, by default the converged ones.

    Parameters
    ----------
    status
        ``(n,)`` STATUS (`provabgs.core.status.Status`).
    n_samples
        ``(n,)`` N_SAMPLES.
    include_not_converged
        Keep rows of STATUS NOT_CONVERGED and ENGINE_ERROR.

    Returns
    -------
    RowSelection
        With rows left out as "without samples" and "not converged".
    """
    state = np.asarray(status, dtype=np.float64)
    rows = RowSelection(state.size)
    sampled = np.isin(state, [int(s) for s in Status if s.has_samples])
    rows.drop(~(sampled & (np.asarray(n_samples, dtype=np.float64) > 0)), "without samples")
    if not include_not_converged:
        rows.drop(sampled & (state != int(Status.CONVERGED)), "not converged")
    return rows
