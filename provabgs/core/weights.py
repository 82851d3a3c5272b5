"""Importance weights: normalisation, effective sample size, quantiles, systematic resampling, a Student-t proposal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError


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


def weighted_quantiles(values: ArrayLike, weight: ArrayLike, q: Sequence[float]) -> FloatArray:
    """Quantiles ``(n, nq)`` of rows ``(n, S)`` under weights ``(n, S)``; draws of weight 0 may be NaN.

    The cumulative weight is interpolated linearly between the middles of the draws' weights; for equal weights these
    are Hazen's quantiles.

    Parameters
    ----------
    values
        ``(n, S)`` draws.
    weight
        ``(n, S)`` weights >= 0.
    q
        Probabilities.

    Returns
    -------
    numpy.ndarray
        ``(n, nq)``; NaN for rows without weight.

    Raises
    ------
    InputError
        When the shapes differ.
    """
    v, w = np.asarray(values, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    if v.shape != w.shape or v.ndim != 2:
        raise InputError(f"values {v.shape} and weights {w.shape} must be the same table")
    v = np.where(w > 0, v, np.inf)
    order = np.argsort(v, axis=1)
    v, w = np.take_along_axis(v, order, axis=1), np.take_along_axis(w, order, axis=1)
    middle = (np.cumsum(w, axis=1) - 0.5 * w) / np.maximum(w.sum(axis=1, keepdims=True), 1e-300)
    out = np.empty((len(v), len(q)))
    for i in range(len(v)):
        n = int(np.sum(w[i] > 0))
        out[i] = np.interp(q, middle[i, :n], v[i, :n]) if n else np.nan
    return out
