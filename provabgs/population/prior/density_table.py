"""Densities of derived properties, tabulated from draws: one property, or two as p(x) p(y | x).

Two rules divide the axis into bins. `tabulate` takes bins of equal width and joins those with few draws: its relative
error is the same everywhere, its tails reach as far as the draws. `tabulate_equal_counts` takes bins of equal counts:
its resolution follows the density, its tails are a floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError

N_BIN, MIN_COUNT = 150, 150
"""Largest number of bins, and smallest number of draws in a bin: 8 % error where the density is lowest."""
N_CONDITION = 32
"""Slices of the first property in which the second is tabulated."""
MIN_DRAWS = 1000
"""Fewest draws for `tabulate_equal_counts`."""


@dataclass(frozen=True, eq=False)
class DensityTable:
    """ln density of one property, linear between nodes, constant beyond the nodes.

    A constant beyond the nodes keeps one posterior draw in a tail of the prior from dominating a galaxy's sum of
    1 / prior.
    """

    x: FloatArray
    """``(k,)`` nodes, in the unit of the property."""
    log_density: FloatArray
    """``(k,)`` ln of the density per unit of the property."""
    low: float
    """Smallest draw."""
    high: float
    """Largest draw."""
    floor: float | None = None
    """ln density outside the nodes; None continues the value of the nearest node."""

    def __call__(self, value: ArrayLike) -> FloatArray:
        """Ln p(value), of the same shape."""
        v = np.asarray(value, dtype=np.float64)
        return np.interp(v, self.x, self.log_density, left=self.floor, right=self.floor)


def tabulate(draws: ArrayLike, n_bin: int = N_BIN, min_count: int = MIN_COUNT) -> DensityTable:
    """Density of draws in bins of equal width, joined where they hold few draws; nodes at the mean of each bin.

    Parameters
    ----------
    draws
        ``(n,)``; NaN and infinite draws are left out.
    n_bin
        Bins between the smallest and the largest draw.
    min_count
        Neighbouring bins are joined until each holds this many draws.

    Returns
    -------
    DensityTable
        Continued by a constant beyond its nodes.

    Raises
    ------
    InputError
        For fewer than ten bins' worth of finite draws.
    """
    x = _finite_sorted(draws)
    if x.size < 10 * min_count or not x[-1] > x[0]:
        raise InputError(
            f"a prior needs at least {10 * min_count} finite, different draws to be tabulated, got {x.size}"
        )
    edges = np.linspace(x[0], x[-1], n_bin + 1)
    below = np.searchsorted(x, edges)
    below[-1] = x.size
    kept = [0]
    for k in range(1, n_bin + 1):
        if below[k] - below[kept[-1]] >= min_count:
            kept.append(k)
    kept[-1] = n_bin  # what is left over joins the last bin
    at, counts = edges[kept], np.diff(below[kept])
    sums = np.diff(np.concatenate([[0.0], np.cumsum(x)])[below[kept]])
    return DensityTable(sums / counts, np.log(counts / x.size / np.diff(at)), float(x[0]), float(x[-1]))


def tabulate_equal_counts(draws: ArrayLike, n_bin: int | None = None) -> DensityTable:
    """Density of draws in bins of equal counts; nodes at the middle of each bin.

    Parameters
    ----------
    draws
        ``(n,)``, at least `MIN_DRAWS`; NaN and infinite draws are left out.
    n_bin
        Bins; by default ``n^(1/3)``, between 20 and 400.

    Returns
    -------
    DensityTable
        With a floor beyond its nodes: the lowest density in the table divided by the number of bins.

    Raises
    ------
    InputError
        For fewer than `MIN_DRAWS` finite draws.
    """
    x = _finite_sorted(draws)
    if x.size < MIN_DRAWS:
        raise InputError(f"a prior needs at least {MIN_DRAWS} finite draws to be tabulated, got {x.size}")
    n = n_bin or int(np.clip(round(x.size ** (1 / 3)), 20, 400))
    edges = np.unique(np.quantile(x, np.linspace(0, 1, n + 1)))
    counts = np.histogram(x, edges)[0]
    log_density = np.log(np.maximum(counts, 1) / x.size / np.diff(edges))
    floor = float(log_density.min()) - float(np.log(n))
    return DensityTable(0.5 * (edges[1:] + edges[:-1]), log_density, float(x[0]), float(x[-1]), floor)


@dataclass(frozen=True, eq=False)
class JointTable:
    """ln p(x) + ln p(y | x) of two properties, the latter tabulated in slices of x."""

    first: DensityTable
    """p(x)."""
    x: FloatArray
    """``(k,)`` mean of x in each slice."""
    y: FloatArray
    """``(m,)`` even grid."""
    log_conditional: FloatArray
    """``(k, m)`` ln p(y | x)."""

    def __call__(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Ln p(x, y) of pairs, of the same shape; bilinear between nodes, constant beyond them."""
        u = np.interp(x, self.x, np.arange(self.x.size))
        v = np.clip((y - self.y[0]) / (self.y[1] - self.y[0]), 0, self.y.size - 1)
        i, j = np.minimum(u.astype(int), self.x.size - 2), np.minimum(v.astype(int), self.y.size - 2)
        a, b = u - i, v - j
        c = self.log_conditional
        low = (1 - b) * c[i, j] + b * c[i, j + 1]
        high = (1 - b) * c[i + 1, j] + b * c[i + 1, j + 1]
        return self.first(x) + (1 - a) * low + a * high


def tabulate_joint(x: ArrayLike, y: ArrayLike, n_slice: int = N_CONDITION, min_count: int = MIN_COUNT) -> JointTable:
    """Joint density of pairs of draws.

    Parameters
    ----------
    x, y
        ``(n,)`` draws; pairs with a NaN or infinite member are left out.
    n_slice
        Slices of x, of equal counts.
    min_count
        As in `tabulate`, for x; a third of it for y within a slice.

    Returns
    -------
    JointTable
        p(x) p(y | x).

    Raises
    ------
    InputError
        For too few draws.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    good = np.isfinite(a) & np.isfinite(b)
    a, b = a[good], b[good]
    first = tabulate(a, min_count=min_count)
    grid = np.linspace(b.min(), b.max(), 2 * N_BIN)
    slices = np.array_split(np.argsort(a), n_slice)
    rows = [tabulate(b[s], N_BIN // 2, min_count // 3)(grid) for s in slices]
    return JointTable(first, np.array([a[s].mean() for s in slices]), grid, np.array(rows))


def _finite_sorted(draws: ArrayLike) -> FloatArray:
    x = np.asarray(draws, dtype=np.float64).ravel()
    return np.sort(x[np.isfinite(x)])
