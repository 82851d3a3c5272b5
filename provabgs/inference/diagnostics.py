"""Convergence: rank-normalised split R-hat and bulk and tail effective sample sizes (Vehtari et al. 2021), by ArviZ."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats

from provabgs.core.arrays import FloatArray

TAIL = (0.05, 0.95)
"""Quantiles whose effective sample size is the tail's."""


class Convergence(NamedTuple):
    """Per-quantity diagnostics, each ``(nquantity,)``; NaN for quantities that do not vary."""

    rhat: FloatArray
    ess_bulk: FloatArray
    ess_tail: FloatArray

    @property
    def rhat_max(self) -> float:
        """Largest R-hat over quantities that vary; infinite where a chain is stuck."""
        return float(np.nanmax(self.rhat)) if not np.all(np.isnan(self.rhat)) else float("nan")

    @property
    def ess_min(self) -> float:
        """Smallest effective sample size, bulk or tail, over quantities that vary."""
        both = np.concatenate([self.ess_bulk, self.ess_tail])
        return float(np.nanmin(both)) if np.any(np.isfinite(both)) else float("nan")

    def passes(self, rhat: float, ess: float) -> bool:
        """Whether every quantity that varies meets the convergence criterion (false when none could be judged).

        Parameters
        ----------
        rhat
            Largest R-hat allowed.
        ess
            Smallest effective sample size allowed, bulk and tail.

        Returns
        -------
        bool
            False where a chain is stuck.
        """
        return bool(self.rhat_max <= rhat and self.ess_min >= ess)


def convergence(draws: FloatArray) -> Convergence:
    """Diagnostics of chains.

    Parameters
    ----------
    draws
        ``(nchain, ndraw, nquantity)``, at least two chains (or one, then split in half by R-hat) and eight draws.
    """
    n = draws.shape[2]
    out = Convergence(np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan))
    vary = ~(np.ptp(draws, axis=(0, 1)) == 0)  # true for NaN, which must not pass as constant
    finite = np.all(np.isfinite(draws), axis=(0, 1))
    keep = np.flatnonzero(vary & finite)
    if keep.size == 0 or draws.shape[1] < 8:
        return out
    # whoever never moved in a chain would divide by zero; a stuck chain is an infinite R-hat
    stuck = np.any(np.ptp(draws[:, :, keep], axis=1) == 0, axis=0)
    out.rhat[keep[stuck]] = np.inf
    out.ess_bulk[keep[stuck]] = out.ess_tail[keep[stuck]] = 1.0
    keep = keep[~stuck]
    if keep.size:
        x = draws[:, :, keep]
        out.rhat[keep] = array_stats.rhat(x, chain_axis=0, draw_axis=1, method="rank")
        out.ess_bulk[keep] = array_stats.ess(x, chain_axis=0, draw_axis=1, method="bulk")
        out.ess_tail[keep] = array_stats.ess(x, chain_axis=0, draw_axis=1, method="tail", prob=TAIL)
    out.rhat[np.flatnonzero(vary & ~finite)] = np.inf
    return out
