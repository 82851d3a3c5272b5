"""Are posteriors calibrated? Ranks (SBC), coverage and TARP over simulated galaxies of known truth.

Galaxies drawn from the prior, with data drawn from the likelihood, have truths that are draws of their posteriors.
Then ranks of the truth among the draws are uniform (Talts et al. 2018, arXiv:1804.06788), central intervals hold the
truth as often as they say, and so do balls about any reference point (TARP: Lemos et al. 2023, arXiv:2302.03026), which
sees what one-dimensional ranks do not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError

LEVELS = (0.5, 0.68, 0.9)
"""Central intervals whose coverage is counted."""
N_BINS = 10


class Uniformity(NamedTuple):
    """How uniform a set of numbers in [0, 1] is."""

    p_chi2: float
    """Of a chi^2 test in `N_BINS` equal bins."""
    p_ks: float
    """Of a Kolmogorov-Smirnov test."""


def ranks(draws: ArrayLike, truth: ArrayLike) -> FloatArray:
    """Fraction of a galaxy's draws below the truth.

    Parameters
    ----------
    draws
        ``(ngalaxy, ndraw, nquantity)``.
    truth
        ``(ngalaxy, nquantity)``.

    Returns
    -------
    FloatArray
        ``(ngalaxy, nquantity)`` in [0, 1]; ties count half.

    Raises
    ------
    InputError
        When shapes do not match.
    """
    draws, truth = np.asarray(draws, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if draws.ndim != 3 or truth.shape != (draws.shape[0], draws.shape[2]):
        raise InputError(f"draws {draws.shape} and truth {truth.shape} do not match: (n, ndraw, q) and (n, q) wanted")
    below, equal = draws < truth[:, None], draws == truth[:, None]
    return np.mean(below + 0.5 * equal, axis=1)


def tarp_ranks(draws: ArrayLike, truth: ArrayLike, reference: ArrayLike, scale: ArrayLike) -> FloatArray:
    """Fraction of a galaxy's draws closer to a random reference point than the truth is (Lemos et al. 2023).

    Uniform for calibrated posteriors, whatever the distribution of the reference points.

    Parameters
    ----------
    draws, truth
        As for `ranks`.
    reference
        ``(ngalaxy, nquantity)`` points drawn without knowledge of the truth.
    scale
        ``(nquantity,)`` unit of distance in each quantity; 0 leaves a quantity out.

    Returns
    -------
    FloatArray
        ``(ngalaxy,)`` in [0, 1].
    """
    draws, truth, reference, scale = (np.asarray(a, dtype=np.float64) for a in (draws, truth, reference, scale))
    keep = scale > 0
    unit = scale[keep]
    far = np.sum(((draws[:, :, keep] - reference[:, None, keep]) / unit) ** 2, axis=2)
    own = np.sum(((truth[:, keep] - reference[:, keep]) / unit) ** 2, axis=1)
    return np.mean(far < own[:, None], axis=1)


def uniformity(rank: ArrayLike) -> Uniformity:
    """Test that ranks ``(ngalaxy,)`` are uniform."""
    rank = np.asarray(rank, dtype=np.float64)
    counts = np.histogram(rank, bins=N_BINS, range=(0, 1))[0]
    return Uniformity(float(stats.chisquare(counts).pvalue), float(stats.kstest(rank, "uniform").pvalue))


def central_coverage(rank: ArrayLike, level: float) -> tuple[float, float]:
    """Coverage of central intervals.

    Parameters
    ----------
    rank
        ``(ngalaxy,)`` from `ranks`, one quantity.
    level
        Nominal probability of the interval.

    Returns
    -------
    fraction
        Of truths inside the interval.
    sigma
        Binomial standard error expected for it.
    """
    rank = np.asarray(rank, dtype=np.float64)
    inside = float(np.mean(np.abs(rank - 0.5) < level / 2))
    return inside, float(np.sqrt(level * (1 - level) / rank.size))


def overconfident(draws: ArrayLike, factor: float = 0.7) -> FloatArray:
    """Posteriors made too narrow: a fixture that calibration tests have to refuse.

    Parameters
    ----------
    draws
        ``(ngalaxy, ndraw, nquantity)``.
    factor
        Width of the new posteriors over that of the old.

    Returns
    -------
    FloatArray
        Of the shape of `draws`.
    """
    draws = np.asarray(draws, dtype=np.float64)
    centre = draws.mean(axis=1, keepdims=True)
    return centre + factor * (draws - centre)


def biased(draws: ArrayLike, sigmas: float = 0.4) -> FloatArray:
    """Posteriors shifted: a fixture that calibration tests have to refuse.

    Parameters
    ----------
    draws
        ``(ngalaxy, ndraw, nquantity)``.
    sigmas
        Shift in standard deviations of each posterior.

    Returns
    -------
    FloatArray
        Of the shape of `draws`.
    """
    draws = np.asarray(draws, dtype=np.float64)
    return draws + sigmas * draws.std(axis=1, keepdims=True)
