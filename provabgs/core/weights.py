"""Importance weights: normalisation, effective sample size, systematic resampling, a Student-t proposal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray


def normalised(log_weight: FloatArray) -> FloatArray:
    """Weights of sum 1 along the last axis.

    Parameters
    ----------
    log_weight
        ``(..., n)`` ln of the weights; NaN and -inf are weights of 0.

    Returns
    -------
    numpy.ndarray
        ``(..., n)``; where every weight is 0, all draws get the same weight.
    """
    finite = np.where(np.isnan(log_weight), -np.inf, log_weight)
    peak = np.max(finite, axis=-1, keepdims=True)
    reached = np.isfinite(peak)
    w = np.where(reached, np.exp(finite - np.where(reached, peak, 0.0)), 1.0)
    return w / w.sum(axis=-1, keepdims=True)


def effective_sample_size(log_weight: FloatArray) -> FloatArray:
    """Kish's effective number of draws, ``(sum w)^2 / sum w^2``, along the last axis.

    Parameters
    ----------
    log_weight
        ``(..., n)`` ln of the weights, as in `normalised`.

    Returns
    -------
    numpy.ndarray
        ``(...)`` between 1 and n.
    """
    return np.asarray(1 / np.sum(normalised(log_weight) ** 2, axis=-1))


def resample_systematic(weight: FloatArray, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices of `n` draws of equal weight, by systematic resampling.

    One random number places `n` evenly spaced points on the cumulative weight; of all unbiased resampling schemes in
    common use this one adds the least noise (Douc, Cappe & Moulines 2005, arXiv:cs/0507025).

    Parameters
    ----------
    weight
        ``(m,)`` weights >= 0, of any normalisation.
    n
        Number of draws wanted.
    rng
        Source of the one random number.

    Returns
    -------
    numpy.ndarray
        ``(n,)`` ascending indices below m.
    """
    positions = (rng.random() + np.arange(n)) / n
    cumulative = np.cumsum(weight)
    # rounding may leave the last point beyond the last entry
    return np.minimum(np.searchsorted(cumulative, positions * cumulative[-1]), len(weight) - 1)


def student_t_proposal(
    centre: FloatArray, factor: FloatArray, degrees: float, n: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Draws of a multivariate Student t distribution, for importance sampling of a nearly Gaussian target.

    Parameters
    ----------
    centre
        ``(d,)`` location.
    factor
        ``(d, d)`` any matrix F whose ``F F^T`` is the scale matrix.
    degrees
        Degrees of freedom; the fewer, the heavier the tails.
    n
        Number of draws.
    rng
        Source of randomness.

    Returns
    -------
    draws
        ``(n, d)``.
    log_density
        ``(n,)`` ln density up to a constant.
    """
    white = rng.standard_normal((n, centre.size)) / np.sqrt(rng.chisquare(degrees, n) / degrees)[:, None]
    log_density = -0.5 * (degrees + centre.size) * np.log1p(np.sum(white**2, axis=1) / degrees)
    return centre + white @ factor.T, log_density
