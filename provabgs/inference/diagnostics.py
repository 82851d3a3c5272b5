"""Convergence: rank-normalised split R-hat and bulk and tail effective sample sizes (Vehtari et al. 2021).

The numbers are ArviZ's to rounding (`tests/unit/test_diagnostics.py`), in a quarter of its time: one sort of each
quantity serves its ranks and its folded ranks, normal scores are looked up, and power spectra are averaged over chains
before they are transformed back to autocovariances.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.special import ndtri

from provabgs.core.arrays import FloatArray

TAIL = (0.05, 0.95)
"""Quantiles whose effective sample size is the tail's."""
LEAST_DRAWS = 8
"""Draws of a chain below which nothing is judged."""


class Convergence(NamedTuple):
    """Per-quantity diagnostics, each ``(nquantity,)``; NaN for quantities that do not vary."""

    rhat: FloatArray
    ess_bulk: FloatArray
    ess_tail: FloatArray

    @property
    def rhat_max(self) -> float:
        """Largest R-hat over quantities that vary; infinite where a chain is stuck."""
        return float(np.nanmax(self.rhat)) if not np.all(np.isnan(self.rhat)) else float("nan")

    @property
    def ess_min(self) -> float:
        """Smallest effective sample size, bulk or tail, over quantities that vary."""
        both = np.concatenate([self.ess_bulk, self.ess_tail])
        return float(np.nanmin(both)) if np.any(np.isfinite(both)) else float("nan")

    def passes(self, rhat: float, ess: float) -> bool:
        """Whether every quantity that varies meets the convergence criterion (false when none could be judged).

        Parameters
        ----------
        rhat
            Largest R-hat allowed.
        ess
            Smallest effective sample size allowed, bulk and tail.

        Returns
        -------
        bool
            False where a chain is stuck.
        """
        return bool(self.rhat_max <= rhat and self.ess_min >= ess)


def convergence(draws: FloatArray) -> Convergence:
    """Diagnostics of chains.

    Parameters
    ----------
    draws
        ``(nchain, ndraw, nquantity)``, at least two chains and eight draws.
    """
    n = draws.shape[2]
    out = Convergence(np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan))
    if draws.shape[1] < LEAST_DRAWS:
        return out
    for i in range(n):
        chains = np.ascontiguousarray(draws[:, :, i])
        if np.ptp(chains) == 0:  # false for NaN, which must not pass as constant
            continue
        if not np.all(np.isfinite(chains)):
            out.rhat[i] = np.inf
        elif np.any(np.ptp(chains, axis=1) == 0):
            # who never moved in a chain would divide by zero; a stuck chain is an infinite R-hat
            out.rhat[i], out.ess_bulk[i], out.ess_tail[i] = np.inf, 1.0, 1.0
        else:
            out.rhat[i], out.ess_bulk[i], out.ess_tail[i] = judge(chains)
    return out


def judge(chains: FloatArray) -> tuple[float, float, float]:
    """R-hat, bulk and tail effective sample size of one quantity.

    Parameters
    ----------
    chains
        ``(nchain, ndraw)``, finite, none of them constant.

    Returns
    -------
    tuple
        As of ``arviz_stats.rhat(method="rank")`` and ``ess`` of methods "bulk" and "tail".
    """
    halves = _split(chains)
    normal, folded = _normal_scores(halves)
    below = chains <= np.quantile(chains, TAIL)[:, None, None]
    tails = [_split(b).astype(np.float64) for b in below]
    bulk, *tail = effective_sizes(np.stack([normal, *tails]))
    return max(split_rhat(normal), split_rhat(folded)), float(bulk), float(min(tail))


def split_rhat(halves: FloatArray) -> float:
    """Square root of the variance of all draws over that within chains ``(nchain, ndraw)``."""
    n = halves.shape[1]
    between = n * np.var(halves.mean(axis=1), ddof=1)
    within = np.mean(np.var(halves, axis=1, ddof=1))
    return float(np.sqrt((between / within + n - 1) / n))


def effective_sizes(series: FloatArray) -> FloatArray:
    """Effective sample sizes by Geyer's initial monotone sequence.

    Parameters
    ----------
    series
        ``(nseries, nchain, ndraw)``.

    Returns
    -------
    FloatArray
        ``(nseries,)``; the number of draws for a series that is constant.
    """
    n_chain, n = series.shape[1:]
    mean = series.mean(axis=2)
    covariance = _autocovariance(series - mean[:, :, None])
    within = covariance[:, 0] * n / (n - 1)
    total = covariance[:, 0] + (np.var(mean, axis=1, ddof=1) if n_chain > 1 else 0.0)
    constant = np.ptp(series, axis=(1, 2)) == 0
    rho = 1 - (within[:, None] - covariance) / np.where(constant, 1.0, total)[:, None]
    rho[:, 0] = 1.0
    pairs = rho[:, 0 : n - n % 2 : 2] + rho[:, 1::2]
    # pairs up to the first whose sum is not positive, each at most as large as that before it
    ended = pairs <= 0
    last = np.minimum(np.where(ended.any(axis=1), ended.argmax(axis=1), n), -(-(n - 2) // 2) - 1)
    each = np.arange(len(series))
    counted = np.where(np.arange(pairs.shape[1]) < last[:, None], np.minimum.accumulate(pairs, axis=1), 0.0)
    even, pair = rho[each, 2 * last], pairs[each, last]
    tau = -1 + 2 * counted.sum(axis=1) + np.where((even > 0) | (pair >= 0), even, 0.0)
    size = n_chain * n
    return np.where(constant, float(size), size / np.maximum(tau, 1 / np.log10(size)))


def _autocovariance(centred: FloatArray) -> FloatArray:
    """Autocovariance at each lag, the mean over chains: ``(nseries, nchain, ndraw)`` to ``(nseries, ndraw)``."""
    n = centred.shape[2]
    length = fft.next_fast_len(2 * n, real=True)
    spectrum = fft.rfft(centred, length, axis=2)
    power = np.mean(spectrum.real**2 + spectrum.imag**2, axis=1)
    return np.asarray(fft.irfft(power, length, axis=1)[:, :n] / n)


def _split(chains: FloatArray) -> FloatArray:
    """Halves of chains as chains of their own, the middle draw of an odd number left out."""
    half = chains.shape[1] // 2
    return np.concatenate([chains[:, :half], chains[:, -half:]])


def _normal_scores(halves: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Normal scores of the ranks of all draws, and of their distances from the median; shaped as `halves`."""
    x = halves.reshape(-1)
    order = np.argsort(x)
    ordered = x[order]
    scores = np.empty((2, x.size))
    scores[0, order] = _scores_in_order(ordered)
    distance = np.abs(ordered - (ordered[(x.size - 1) // 2] + ordered[x.size // 2]) / 2)
    outwards = np.argsort(distance, kind="stable")  # two runs, one falling and one rising: merged in one pass
    scores[1, order[outwards]] = _scores_in_order(distance[outwards])
    return scores[0].reshape(halves.shape), scores[1].reshape(halves.shape)


def _scores_in_order(ordered: FloatArray) -> FloatArray:
    """Normal scores of ascending numbers; equal ones share the mean of their ranks."""
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    count = np.diff(np.append(first, ordered.size))
    return np.repeat(_score_table(ordered.size)[2 * first + count - 1], count)


@lru_cache(maxsize=4)
def _score_table(size: int) -> FloatArray:
    """Blom's normal scores of the ranks 1, 1.5, 2, ... `size`."""
    rank = 1 + np.arange(2 * size - 1) / 2
    return np.asarray(ndtri((rank - 0.375) / (size + 0.25)))
