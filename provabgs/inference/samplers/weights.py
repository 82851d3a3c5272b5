"""Weights of the annealing: tempered, truncated, and the next power of the likelihood."""

from __future__ import annotations

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.weights import effective_sample_size


def truncated(weights: FloatArray) -> FloatArray:
    """Normalised weights with none above ``1 / sqrt(n)`` of the sum (Ionides 2008): what a proposal is fitted to.

    A draw that the proposals nearly missed weighs more than thousands of others; fitted as it is, the next proposal
    would shrink to it.
    """
    cut = np.minimum(weights, len(weights) ** -0.5)
    return cut / cut.sum()


def tempered(log_like: FloatArray, log_ratio: FloatArray, power: float) -> FloatArray:
    """Log weights at a power of the likelihood.

    Parameters
    ----------
    log_like
        ``(n,)`` ln of the target over the first draws' density, ln L where these are the prior's; -inf allowed.
    log_ratio
        ``(n,)`` ln of the first draws' density over the proposal's at the draws.
    power
        Of the target over that density, 0 (first draws) to 1 (posterior).

    Returns
    -------
    FloatArray
        ``(n,)``.
    """
    return np.where(np.isfinite(log_like), power * log_like, -np.inf) + log_ratio


def next_power(log_like: FloatArray, log_ratio: FloatArray, power: float, efficiency: float) -> float:
    """Largest power of the likelihood at which a given fraction of the draws stays effective.

    At least 5 % above `power`, so that annealing ends.

    Parameters
    ----------
    log_like
        ``(n,)`` as of `tempered`.
    log_ratio
        ``(n,)`` ln of the first draws' density over the proposal's at the draws.
    power
        The current power.
    efficiency
        Effective fraction wanted (Kish).

    Returns
    -------
    float
        At most 1.
    """

    def fraction(p: float) -> float:
        return float(effective_sample_size(tempered(log_like, log_ratio, p))) / len(log_like)

    if fraction(1.0) >= efficiency:
        return 1.0
    low, high = power, 1.0
    for _ in range(40):
        middle = np.sqrt(max(low, 1e-9) * high)
        low, high = (middle, high) if fraction(middle) >= efficiency else (low, middle)
    return min(1.0, max(low, power * 1.05, 1e-8))
