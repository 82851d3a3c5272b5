"""Posterior draws of one quantity on a fine grid: sums over draws become sparse matrix products.

A million galaxies fit in memory: each row of the matrix has one entry per occupied cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError


@dataclass(frozen=True, eq=False)
class PosteriorGrid:
    """Posterior draws of one quantity as probabilities on a grid.

    Attributes
    ----------
    centre
        ``(ngrid,)`` evenly spaced.
    matrix
        ``(n, ngrid)`` sparse; row i is proportional to the likelihood of galaxy i (draws over prior) and sums to 1.
    """

    centre: FloatArray
    matrix: sparse.csr_array

    @property
    def step(self) -> float:
        """Distance of grid points."""
        return float(self.centre[1] - self.centre[0])


def posterior_grid(
    draws: ArrayLike, log_prior: ArrayLike | None = None, step: float = 0.02, margin: float = 0.25
) -> PosteriorGrid:
    """Posterior draws as probabilities on a grid that holds them all.

    Parameters
    ----------
    draws
        ``(n, ndraw)``; NaN and infinite ones are left out.
    log_prior
        ``(n, ndraw)`` ln of the prior under which the draws were made, which is divided out; None for a flat prior.
    step
        Spacing of the grid.
    margin
        Length of the grid beyond the smallest and the largest draw.

    Returns
    -------
    PosteriorGrid
        One row per galaxy.

    Raises
    ------
    InputError
        For a galaxy without a finite draw, or wrong shapes.
    """
    x = np.asarray(draws, dtype=np.float64)
    if x.ndim != 2 or x.size == 0:
        raise InputError(f"draws have shape {x.shape}; give (galaxies, draws)")
    ln_w = np.zeros(x.shape) if log_prior is None else -np.asarray(log_prior, dtype=np.float64)
    if ln_w.shape != x.shape:
        raise InputError(f"log_prior has shape {ln_w.shape}, draws {x.shape}")
    good = np.isfinite(x) & np.isfinite(ln_w)
    if not good.any(axis=1).all():
        raise InputError(f"galaxy {int(np.argmin(good.any(axis=1)))} of {len(x)} has no finite draw; leave it out")
    low, high = float(x[good].min()) - margin, float(x[good].max()) + margin
    centre = np.floor(low / step) * step + step * (np.arange(int(np.ceil((high - low) / step)) + 1) + 0.5)
    weight = np.where(good, np.exp(ln_w - np.max(ln_w, axis=1, where=good, initial=-np.inf, keepdims=True)), 0.0)
    weight /= weight.sum(axis=1, keepdims=True)
    row, column = np.nonzero(good)
    cell = np.clip(((x[row, column] - centre[0]) / step + 0.5).astype(np.int64), 0, centre.size - 1)
    # the conversion to compressed rows adds up draws that share a cell
    matrix = sparse.coo_array((weight[row, column], (row, cell)), shape=(len(x), centre.size)).tocsr()
    return PosteriorGrid(centre, matrix)
