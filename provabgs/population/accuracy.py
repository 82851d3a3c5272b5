"""How accurate inferred properties are, as a population: the hierarchical estimator of the mock challenge.

For galaxies of known truth, the difference ``Delta = theta - theta_true`` is taken to be drawn from a Gaussian with
hyperparameters eta = (mu, sigma). With posterior draws theta_ij of galaxy i, made under the prior p(theta)
(Hahn et al. 2023, arXiv:2202.01809, section 4.1; Hogg, Myers & Bovy 2010)::

    p(eta | {X}) ~ p(eta) prod_i 1/S_i sum_j p(theta_ij | eta) / p(theta_ij)

mu is the bias; sigma is the scatter beyond the width of the individual posteriors. Correct posteriors have mu = 0 and
sigma -> 0. The whole posterior of eta is computed, on a grid refined around its peak. The published analysis did not
divide by the prior; a tabulated prior (`provabgs.population.prior.density_table`) can be given for the division.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.weights import effective_sample_size

SigmaPrior = Literal["uniform", "log-uniform"]

_COARSE, _FINE = 15, 41
_DROP = 14.0
"""Cells this far in ln p below the peak do not count when zooming in."""


@dataclass(frozen=True, eq=False)
class AccuracyPosterior:
    """Posterior of eta = (mu, sigma) on a grid.

    Attributes
    ----------
    mu
        ``(nmu,)`` grid, unit of the property.
    sigma
        ``(nsigma,)`` grid, > 0, spaced evenly in its logarithm.
    probability
        ``(nmu, nsigma)`` probability of each cell; sums to 1.
    n_galaxy
        Galaxies that entered.
    n_effective
        Effective number of draws in a galaxy's sum at the peak, 5 % quantile over galaxies; at fewer than about five
        the draws do not resolve the scatter.
    """

    mu: FloatArray
    sigma: FloatArray
    probability: FloatArray
    n_galaxy: int
    n_effective: float

    @property
    def peak(self) -> tuple[float, float]:
        """(mu, sigma) of highest posterior density: the published point estimate."""
        density = self.probability / self.sigma  # cells are equal in ln sigma
        i, j = np.unravel_index(np.argmax(density), density.shape)
        return float(self.mu[i]), float(self.sigma[j])

    def quantile(self, name: Literal["mu", "sigma"], q: ArrayLike) -> FloatArray:
        """Quantiles of a marginal posterior.

        Parameters
        ----------
        name
            ``"mu"`` or ``"sigma"``.
        q
            Probabilities.

        Returns
        -------
        numpy.ndarray
            Shape of `q`, unit of the property.
        """
        axis = self.mu if name == "mu" else np.log(self.sigma)
        marginal = self.probability.sum(axis=1 if name == "mu" else 0)
        edges = np.concatenate([[axis[0]], 0.5 * (axis[1:] + axis[:-1]), [axis[-1]]])
        value = np.interp(np.asarray(q, dtype=np.float64), np.concatenate([[0.0], np.cumsum(marginal)]), edges)
        return value if name == "mu" else np.exp(value)


def infer_accuracy(
    delta: ArrayLike,
    log_prior: ArrayLike | None = None,
    sigma_prior: SigmaPrior = "uniform",
) -> AccuracyPosterior:
    """Posterior of (mu, sigma) for one group of galaxies.

    Parameters
    ----------
    delta
        ``(n, nsample)`` theta_ij - theta_true,i; NaN entries (galaxies with fewer draws) are left out.
    log_prior
        ``(n, nsample)`` ln p(theta_ij) of the prior under which the draws were made; None does not divide by it.
    sigma_prior
        p(sigma); the prior of mu is flat either way.

    Returns
    -------
    AccuracyPosterior
        On its final grid.

    Raises
    ------
    InputError
        For arrays of wrong shape, or a galaxy without a finite draw.
    """
    d = np.asarray(delta, dtype=np.float64)
    if d.ndim != 2 or d.size == 0:
        raise InputError(f"delta has shape {d.shape}; give (galaxies, draws)")
    weight = np.zeros_like(d) if log_prior is None else -np.asarray(log_prior, dtype=np.float64)
    if weight.shape != d.shape:
        raise InputError(f"log_prior has shape {weight.shape}, delta {d.shape}")
    good = np.isfinite(d) & np.isfinite(weight)
    if not np.all(good.any(axis=1)):
        row = int(np.argmin(good.any(axis=1)))
        raise InputError(f"galaxy {row} of {len(d)} has no finite draw; leave it out")
    # galaxies may keep different numbers of draws: each counts as a mean over its own
    weight = np.where(good, weight, -np.inf) - np.log(good.sum(axis=1, keepdims=True))
    d = np.where(good, d, 0.0)
    mu, ln_sigma, log_p = _zoom(d, weight, sigma_prior)
    probability = np.exp(log_p - logsumexp(log_p))
    peak = np.unravel_index(np.argmax(log_p), log_p.shape)
    n_effective = _effective_draws(d, weight, mu[peak[0]], float(np.exp(ln_sigma[peak[1]])))
    return AccuracyPosterior(mu, np.exp(ln_sigma), probability, len(d), n_effective)


def _log_posterior(
    d: FloatArray, weight: FloatArray, mu: FloatArray, ln_sigma: FloatArray, sigma_prior: SigmaPrior
) -> FloatArray:
    """Ln p on the grid, per cell of mu times ln sigma, ``(nmu, nsigma)``, unnormalised."""
    out = np.empty((mu.size, ln_sigma.size))
    # single precision inside the exponential: 1e-7 of each galaxy's term, and three times as fast
    d32, w32 = d.astype(np.float32), weight.astype(np.float32)
    for j, ln_s in enumerate(ln_sigma):
        scale = np.float32(np.exp(-ln_s) * np.sqrt(0.5))
        for i, m in enumerate(mu):
            exponent = (d32 - np.float32(m)) * scale
            np.multiply(exponent, exponent, out=exponent)
            np.subtract(w32, exponent, out=exponent)
            top = exponent.max(axis=1, keepdims=True)
            np.exp(exponent - top, out=exponent)
            total = np.log(exponent.sum(axis=1, dtype=np.float64)) + top[:, 0]
            out[i, j] = total.sum() - len(d) * ln_s
    # a cell's width is d ln sigma: a uniform prior in sigma brings one factor sigma
    return out + (ln_sigma if sigma_prior == "uniform" else 0.0)


def _zoom(d: FloatArray, weight: FloatArray, sigma_prior: SigmaPrior) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Grid around the bulk of the posterior, found by two coarse passes over an ever smaller box."""
    usable = np.isfinite(weight)
    low, high = (float(v) for v in (d[usable].min(), d[usable].max()))
    spread = max(high - low, 1e-6)
    mu = np.linspace(low, high, _COARSE)
    ln_sigma = np.linspace(np.log(1e-3 * spread), np.log(2.0 * spread), _COARSE)
    for size in (_COARSE, _COARSE, _FINE):
        log_p = _log_posterior(d, weight, mu, ln_sigma, sigma_prior)
        rows, columns = np.nonzero(log_p > log_p.max() - _DROP)
        mu = _window(mu, rows, size)
        ln_sigma = _window(ln_sigma, columns, size)
    return mu, ln_sigma, _log_posterior(d, weight, mu, ln_sigma, sigma_prior)


def _window(axis: FloatArray, kept: NDArray[np.intp], size: int) -> FloatArray:
    """Axis over the kept cells and one more on either side."""
    step = axis[1] - axis[0]
    return np.linspace(axis[kept.min()] - step, axis[kept.max()] + step, size)


def _effective_draws(d: FloatArray, weight: FloatArray, mu: float, sigma: float) -> float:
    """5 % quantile over galaxies of the effective number of draws at (mu, sigma)."""
    return float(np.quantile(effective_sample_size(weight - 0.5 * ((d - mu) / sigma) ** 2), 0.05))
