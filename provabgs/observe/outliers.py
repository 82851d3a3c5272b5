"""Isolated bad pixels that no mask names: cosmic rays, sky residuals, edges of the dichroics.

A non-negative combination of SSPs is fitted to the spectrum, both divided by their running means, so that neither dust
nor calibration matters. Pixels that lie far off it, in runs too short for any line that a spectrograph resolves, are
outliers.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, optimize, sparse

from provabgs.core.arrays import BoolArray, FloatArray
from provabgs.sps.library import SSPLibrary

N_AGES, N_METALS = 10, 3
"""SSPs that the first model is made of."""
MODEL_ERROR = 0.03
"""Error of the first model, fraction of the flux."""
LONGEST_RUN = 4
"""Longest run of pixels that counts as an outlier; lines are wider."""
ROUNDS = 2
"""Times that outliers are sought; the second model is fitted without those of the first."""


def find_outliers(
    operator: sparse.csr_matrix,
    flux: FloatArray,
    variance: FloatArray,
    level: FloatArray,
    library: SSPLibrary,
    sigma: float,
) -> BoolArray:
    """Pixels to leave out.

    Parameters
    ----------
    operator
        ``(npix, nwave)`` from the library's wavelengths to pixels.
    flux, variance, level
        ``(npix,)`` data, their variance, and their running mean.
    library
        Stars.
    sigma
        Number of sigmas beyond which a pixel is an outlier.

    Returns
    -------
    numpy.ndarray
        ``(npix,)`` True where a pixel is one; none where the spectrum has no continuum to speak of.
    """
    out = np.zeros(flux.size, dtype=bool)
    positive = level > 0
    if np.count_nonzero(positive) < 200:
        return out
    templates = _normalised_templates(operator, library)
    scaled = np.where(positive, flux, 0.0) / np.where(positive, level, 1.0)
    error = np.sqrt(np.where(positive, variance / np.where(positive, level, 1.0) ** 2, np.inf) + MODEL_ERROR**2)
    for _ in range(ROUNDS):
        weight = np.where(out, 0.0, 1 / error)
        # normal equations: thirty numbers in place of thousands of pixels
        gram = (templates * weight[:, None]).T @ (templates * weight[:, None])
        factor = np.linalg.cholesky(gram + 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram)))
        target = np.linalg.solve(factor, templates.T @ (weight**2 * scaled))
        coefficients, _ = optimize.nnls(factor.T, target)
        out = _short_runs(np.abs(scaled - templates @ coefficients) > sigma * error)
    return out


def _normalised_templates(operator: sparse.csr_matrix, library: SSPLibrary) -> FloatArray:
    """SSPs as the spectrograph sees them, over their running means, ``(npix, nssp)``."""
    from provabgs.observe.noise import SMOOTHING_PIXELS

    ages = np.linspace(np.searchsorted(library.age_gyr, 0.003), library.log_age.size - 1, N_AGES).round().astype(int)
    metals = np.linspace(library.logzsol.size // 3, library.logzsol.size - 1, N_METALS).round().astype(int)
    ssps = library.spectrum[np.ix_(metals, ages)].reshape(-1, library.wave.size).astype(np.float64)
    pixels = operator @ ssps.T
    mean = ndimage.uniform_filter1d(pixels, SMOOTHING_PIXELS, axis=0, mode="nearest")
    return np.asarray(pixels / np.maximum(mean, 1e-300))


def _short_runs(flagged: BoolArray) -> BoolArray:
    """Flagged pixels of runs of at most `LONGEST_RUN`, and the pixel on either side."""
    labels, n = ndimage.label(flagged)
    if n == 0:
        return flagged
    length = np.bincount(labels.ravel(), minlength=n + 1)
    short = flagged & (length[labels] <= LONGEST_RUN)
    return np.asarray(ndimage.binary_dilation(short))
