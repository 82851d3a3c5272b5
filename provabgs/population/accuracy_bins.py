"""Accuracy of inferred properties in bins of the true value, and over a plane of two quantities."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.population.accuracy import AccuracyPosterior, SigmaPrior, infer_accuracy

BIN_WIDTHS: dict[str, float] = {"logmstar": 0.2, "log_sfr_1gyr": 0.5, "log_z_mw": 0.05, "t_age_mw": 0.5}
"""Bins of the true property in the published figures, by property (dex; Gyr for the age)."""
MIN_COUNT = 10
"""A bin needs more galaxies than this."""


class BinAccuracy(NamedTuple):
    """Accuracy of the galaxies of one bin."""

    low: float
    high: float
    n_galaxy: int
    median_by: float
    """Median of the binning quantity among them."""
    posterior: AccuracyPosterior


def bin_edges(values: ArrayLike, width: float) -> FloatArray:
    """Edges at multiples of a width that enclose every finite value.

    Parameters
    ----------
    values
        Any shape.
    width
        Width of the bins, > 0.

    Returns
    -------
    numpy.ndarray
        ``(nbin + 1,)``.

    Raises
    ------
    InputError
        Without a finite value, or for a width that is not positive.
    """
    v = np.asarray(values, dtype=np.float64)
    v = v[np.isfinite(v)]
    if v.size == 0 or not width > 0:
        raise InputError(f"no finite value to bin, or bin width {width} is not positive")
    first, last = np.floor(v.min() / width), np.floor(v.max() / width) + 1
    return np.arange(first, last + 1) * width


def accuracy_in_bins(
    draws: ArrayLike,
    truth: ArrayLike,
    by: ArrayLike | None = None,
    edges: ArrayLike | None = None,
    width: float | None = None,
    log_prior: Callable[[FloatArray], FloatArray] | ArrayLike | None = None,
    min_count: int = MIN_COUNT,
    sigma_prior: SigmaPrior = "uniform",
) -> list[BinAccuracy]:
    """Accuracy of one property in bins of its true value, or of any other quantity.

    Parameters
    ----------
    draws
        ``(n, nsample)`` posterior draws of the property.
    truth
        ``(n,)`` true values; galaxies with a non-finite one (no stars formed: log SFR = -inf) are left out.
    by
        ``(n,)`` quantity to bin in; the truth itself when None.
    edges, width
        Bin edges, or the width of bins at multiples of it.
    log_prior
        Callable of draws, or ``(n, nsample)`` values; see `infer_accuracy`.
    min_count
        Bins of this many galaxies or fewer are left out.
    sigma_prior
        As in `infer_accuracy`.

    Returns
    -------
    list
        One `BinAccuracy` per bin, in ascending order.

    Raises
    ------
    InputError
        For arrays that do not belong together, or when neither edges nor width are given.
    """
    x, t = np.asarray(draws, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    b = t if by is None else np.asarray(by, dtype=np.float64)
    if x.ndim != 2 or t.shape != (len(x),) or b.shape != t.shape:
        raise InputError(f"draws {x.shape}, truth {t.shape} and by {b.shape} do not belong together")
    known = np.isfinite(t) & np.isfinite(b) & np.isfinite(x).any(axis=1)
    if edges is None:
        if width is None:
            raise InputError("give bin edges or a bin width")
        edges = bin_edges(b[known], width)
    e = np.asarray(edges, dtype=np.float64)
    prior = np.asarray(log_prior(x) if callable(log_prior) else log_prior) if log_prior is not None else None
    out = []
    for low, high in pairwise(e):
        rows = np.flatnonzero(known & (b >= low) & (b < high))
        if rows.size > min_count:
            delta = x[rows] - t[rows, None]
            posterior = infer_accuracy(delta, None if prior is None else prior[rows], sigma_prior)
            out.append(BinAccuracy(float(low), float(high), rows.size, float(np.median(b[rows])), posterior))
    return out


class PlaneAccuracy(NamedTuple):
    """Accuracy over a plane; NaN in cells with too few galaxies."""

    x_edges: FloatArray
    y_edges: FloatArray
    n_galaxy: NDArray[np.int64]
    mu: FloatArray
    """``(nx, ny)`` peak of the posterior, as is `sigma`."""
    sigma: FloatArray


def accuracy_over_plane(
    draws: ArrayLike,
    truth: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    x_edges: ArrayLike,
    y_edges: ArrayLike,
    log_prior: Callable[[FloatArray], FloatArray] | ArrayLike | None = None,
    min_count: int = MIN_COUNT,
) -> PlaneAccuracy:
    """Accuracy of one property over a plane of two quantities, such as true stellar mass and SFR.

    Parameters
    ----------
    draws, truth
        As in `accuracy_in_bins`.
    x, y
        ``(n,)`` quantities that span the plane.
    x_edges, y_edges
        ``(nx + 1,)`` and ``(ny + 1,)`` edges of its cells.
    log_prior, min_count
        As in `accuracy_in_bins`.

    Returns
    -------
    PlaneAccuracy
        Peaks of the posteriors of the cells.
    """
    d, t = np.asarray(draws, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    ex, ey = np.asarray(x_edges, dtype=np.float64), np.asarray(y_edges, dtype=np.float64)
    shape = (ex.size - 1, ey.size - 1)
    count, mu, sigma = np.zeros(shape, dtype=np.int64), np.full(shape, np.nan), np.full(shape, np.nan)
    values = np.asarray(log_prior(d) if callable(log_prior) else log_prior) if log_prior is not None else None
    for i in range(shape[0]):
        inside = np.isfinite(t) & (xs >= ex[i]) & (xs < ex[i + 1])
        if not inside.any():
            continue
        for j in range(shape[1]):
            rows = np.flatnonzero(inside & (ys >= ey[j]) & (ys < ey[j + 1]))
            count[i, j] = rows.size
            # (mu, sigma) of few galaxies says more about the prior of sigma than about the galaxies
            if rows.size > min_count:
                prior = None if values is None else values[rows]
                mu[i, j], sigma[i, j] = infer_accuracy(d[rows] - t[rows, None], prior).peak
    return PlaneAccuracy(ex, ey, count, mu, sigma)
