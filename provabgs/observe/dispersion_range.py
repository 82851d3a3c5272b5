"""The dispersions that a spectrum allows: a first fit of a few SSPs, on a coarse grid of dispersions.

Spectrum and SSPs are divided by their running means, as in `provabgs.observe.outliers`. The range is generous: what is
beyond it fits worse by tens of nats, and the fit proper never goes there.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize, sparse

from provabgs.core.arrays import FloatArray
from provabgs.observe.dispersion import N_NODE, N_TABLE, Dispersion, DispersionTable
from provabgs.observe.noise import SMOOTHING_PIXELS

AGES_GYR, N_METALS = (0.05, 0.3, 1.0, 3.0, 11.0), 3
"""SSPs that the first fit is made of."""
MODEL_ERROR = 0.01
"""Error of the first fit, fraction of the flux."""
STEP = 3
"""Every so many dispersions of the table are tried."""
RISE = 60.0
"""chi^2 above the least, in units of the least per pixel where that exceeds 1, at which the range ends."""
FEWEST = 8
"""Steps of the table that a range has at least."""
OUTLIER = 5.0
"""Pixels this many sigmas off the first fit are left out."""


def allowed_dispersions(
    operator: sparse.csr_matrix, flux: FloatArray, variance: FloatArray, level: FloatArray, table: DispersionTable
) -> Dispersion:
    """The range of dispersions of one galaxy.

    Parameters
    ----------
    operator
        ``(npix, nwave)`` from broadened spectra to pixels.
    flux, variance, level
        ``(npix,)`` data, their variance and their running mean.
    table
        Broadening matrices.

    Returns
    -------
    Dispersion
        All of the table's range where the spectrum says nothing.
    """
    positive = level > 0
    safe = np.where(positive, level, 1.0)
    weight = np.where(positive, 1 / (variance / safe**2 + MODEL_ERROR**2), 0.0)
    scaled = np.where(positive, flux / safe, 0.0)
    tried = np.unique(np.append(np.arange(0, N_TABLE, STEP), N_TABLE - 1))
    templates = [_over_mean(operator @ _broadened(table, int(k))) for k in tried]
    first = templates[len(tried) // 2]
    residual = scaled - first @ _fit(first, scaled, weight)
    weight = np.where(weight * residual**2 > OUTLIER**2, 0.0, weight)
    chi2 = np.array([weight @ (scaled - t @ _fit(t, scaled, weight)) ** 2 for t in templates])
    limit = chi2.min() + RISE * max(1.0, chi2.min() / max(np.count_nonzero(weight), 1))
    fine = np.interp(np.arange(N_TABLE), tried, chi2)
    inside = np.flatnonzero(fine < limit)
    return Dispersion(table, _nodes(int(inside[0]) - 1, int(inside[-1]) + 1))


def _nodes(low: int, high: int) -> NDArray[np.int64]:
    """Chebyshev-Lobatto points of a range of the table, at least `FEWEST` steps wide."""
    more = max(0, FEWEST - (high - low))
    low, high = low - more // 2, high + more - more // 2
    low, high = (low, high) if low >= 0 else (0, max(high, FEWEST))
    low, high = (low, high) if high < N_TABLE else (min(low, N_TABLE - 1 - FEWEST), N_TABLE - 1)
    place = 0.5 * (1 - np.cos(np.pi * np.arange(N_NODE) / (N_NODE - 1)))
    return low + np.round(place * (high - low)).astype(np.int64)


def _fit(templates: FloatArray, data: FloatArray, weight: FloatArray) -> FloatArray:
    """Non-negative coefficients of the templates."""
    weighted = templates * weight[:, None]
    gram = templates.T @ weighted
    factor = np.linalg.cholesky(gram + (1e-9 * np.trace(gram) / len(gram) + 1e-300) * np.eye(len(gram)))
    coefficients, _ = optimize.nnls(factor.T, np.linalg.solve(factor, weighted.T @ data))
    return np.asarray(coefficients)


def _over_mean(pixels: FloatArray) -> FloatArray:
    mean = ndimage.uniform_filter1d(pixels, SMOOTHING_PIXELS, axis=0, mode="nearest")
    return np.asarray(pixels / np.maximum(mean, 1e-300))


@lru_cache(maxsize=64)
def _broadened(table: DispersionTable, k: int) -> FloatArray:
    """A few SSPs, broadened, ``(nwave, nssp)``."""
    library = table.library
    ages = np.unique([int(np.argmin(np.abs(library.age_gyr - a))) for a in AGES_GYR])
    metals = np.linspace(library.logzsol.size // 3, library.logzsol.size - 1, N_METALS).round().astype(int)
    ssps = library.spectrum[np.ix_(np.unique(metals), ages)].reshape(-1, library.wave.size)
    return np.asarray(table.matrix(k) @ ssps.T.astype(np.float64))
