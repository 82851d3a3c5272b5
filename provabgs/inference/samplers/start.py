"""Where populations start: the prior, with parameters that matter when they are small drawn small half of the time.

A burst of the last 70 Myr changes a spectrum as much as one of the 13 Gyr before, and a burst of 2 % of the mass as
much as one of 50 %. A prior flat in age and fraction puts 4e-4 of its draws there: a population of 4,096 begins with
two of them, and its proposals, fitted to draws, may never come back (docs/studies/speed.md). So half of the first draws
of such a coordinate, whose prior is flat in u between 0 and 1, have the density ``1 / ((u + e) ln(1 + 1/e))``: about
flat in log u from `SMALLEST` on. Annealing goes from this density to the posterior; what it samples stays the
posterior.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, ndtri

from provabgs.core.arrays import FloatArray

SMALLEST = 1e-3
"""Fraction of a parameter's range below which its first draws become flat."""
SHARE = 0.5
"""Of draws that are drawn so, in each coordinate on its own."""


def draw_start(n: int, n_outer: int, small: Sequence[int], rng: np.random.Generator) -> FloatArray:
    """First draws in standard-normal coordinates.

    Parameters
    ----------
    n
        Number of draws.
    n_outer
        Number of coordinates.
    small
        Coordinates whose parameters matter when they are small.
    rng
        Random generator.

    Returns
    -------
    FloatArray
        ``(n, n_outer)``.
    """
    x = rng.standard_normal((n, n_outer))
    for k in small:
        u = SMALLEST * np.expm1(rng.random(n) * np.log1p(1 / SMALLEST))
        x[:, k] = np.where(rng.random(n) < SHARE, ndtri(np.clip(u, 1e-12, 1 - 1e-12)), x[:, k])
    return x


def log_start(x: FloatArray, small: Sequence[int]) -> FloatArray:
    """Log density of `draw_start` in the normalisation of `Target.log_prob` (constant left out).

    Parameters
    ----------
    x
        ``(n, n_outer)``.
    small
        As of `draw_start`.

    Returns
    -------
    FloatArray
        ``(n,)``; at least the prior's times ``(1 - SHARE)`` per coordinate of `small`.
    """
    out = -0.5 * np.sum(x * x, axis=1)
    for k in small:
        out += np.log(1 - SHARE + SHARE / ((ndtr(x[:, k]) + SMALLEST) * np.log1p(1 / SMALLEST)))
    return out
