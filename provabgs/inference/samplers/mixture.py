"""Student-t mixtures as proposals: fitted to draws, with known density and heavy tails.

Distances of all draws to all components are one matrix product: a squared Mahalanobis distance is linear in the
products of a draw's coordinates (`_products`), and so are the moments that a component is refitted from. Expectation
maximisation is a pure function of arrays of weighted draws: padding is a draw of weight 0.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.linalg import cholesky
from numpy.typing import NDArray
from scipy.special import gammaln

from provabgs.core.arrays import FloatArray

DEGREES = 6.0
"""Degrees of freedom of each component: tails heavier than any Gaussian posterior's."""
INFLATION = 1.2
"""Covariances are widened by this, against clusters fitted to few draws."""
DEFENSIVE = 0.03
"""Weight of a component as wide as all draws together, so that no region between clusters is left out."""
REGULARISATION = 1e-4
MAX_ITERATIONS = 15
TOLERANCE = 1e-2
"""Gain of the mean log density, in nats, below which iterations end."""
_ROWS = 1024
"""Points handled at a time: their distances to all components stay in the cache."""


class Mixture(NamedTuple):
    """Mixture of Student-t distributions."""

    weights: FloatArray
    """``(k,)``."""
    means: FloatArray
    """``(k, d)``."""
    factors: FloatArray
    """``(k, d, d)`` lower Cholesky factors of the scale matrices."""

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw from the mixture.

        Parameters
        ----------
        n
            Number of draws.
        rng
            Random generator.

        Returns
        -------
        FloatArray
            ``(n, d)``.
        """
        k = rng.choice(self.weights.size, n, p=self.weights)
        normal = rng.standard_normal((n, self.means.shape[1]))
        normal /= np.sqrt(rng.chisquare(DEGREES, n) / DEGREES)[:, None]
        return self.means[k] + np.einsum("nij,nj->ni", self.factors[k], normal)

    def log_density(self, x: FloatArray) -> FloatArray:
        """``(n,)`` log density at ``(n, d)``."""
        d = self.means.shape[1]
        constant = gammaln((DEGREES + d) / 2) - gammaln(DEGREES / 2) - d / 2 * np.log(DEGREES * np.pi)
        log_scale = np.log(self.weights) - np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(axis=1) + constant
        distance = _distances(self.means, self.factors)
        out = np.empty(len(x))
        for i in range(0, len(x), _ROWS):
            square = _products(x[i : i + _ROWS]) @ distance
            terms = log_scale - (DEGREES + d) / 2 * np.log1p(np.maximum(square, 0.0) / DEGREES)
            out[i : i + _ROWS] = _log_sum(terms)
        return out


def combine(first: Mixture, second: Mixture) -> Mixture:
    """Equal mixture of two mixtures.

    Parameters
    ----------
    first, second
        Of the same dimension.

    Returns
    -------
    Mixture
        Weight 1/2 for either.
    """
    return Mixture(
        np.concatenate([first.weights, second.weights]) / 2,
        np.concatenate([first.means, second.means]),
        np.concatenate([first.factors, second.factors]),
    )


def fit_mixture(
    draws: FloatArray, n_components: int, rng: np.random.Generator, weights: FloatArray | None = None
) -> Mixture:
    """Fit to weighted draws by expectation maximisation, and add the defensive component.

    Parameters
    ----------
    draws
        ``(n, d)``, all different.
    n_components
        Largest number of components; fewer where there are fewer than 4 d draws for each.
    rng
        Random generator.
    weights
        ``(n,)`` of any sum; equal if None.

    Returns
    -------
    Mixture
        Widened by `INFLATION`.
    """
    n, d = draws.shape
    weights = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    n_components = max(1, min(n_components, n // (4 * d)))
    mean = weights @ draws
    centred = draws - mean
    wide = (centred * weights[:, None]).T @ centred + REGULARISATION * np.eye(d)
    starts = centred[rng.choice(n, n_components, replace=False, p=weights)]
    shares, means, covariances = expectation_maximisation(centred, weights, starts, wide)
    return Mixture(
        np.append(shares * (1 - DEFENSIVE), DEFENSIVE),
        np.concatenate([means, np.zeros((1, d))]) + mean,
        cholesky(np.concatenate([covariances * INFLATION, [wide * 2]])),
    )


def refit(draws: FloatArray, chosen: NDArray[np.intp], n_components: int, rng: np.random.Generator) -> Mixture:
    """Fit to resampled draws, each once, weighted by how often it was chosen.

    Parameters
    ----------
    draws
        ``(m, d)``.
    chosen
        ``(n,)`` indices, repeated for draws of large weight.
    n_components, rng
        As of `fit_mixture`.

    Returns
    -------
    Mixture
        The same as of all `chosen` draws, at the cost of the different ones.
    """
    rows, counts = np.unique(chosen, return_counts=True)
    return fit_mixture(draws[rows], n_components, rng, counts.astype(np.float64))


def expectation_maximisation(
    x: FloatArray, weights: FloatArray, starts: FloatArray, covariance: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gaussian mixture of weighted draws.

    Parameters
    ----------
    x
        ``(n, d)`` draws, their mean near 0 (products of coordinates are formed).
    weights
        ``(n,)`` of sum 1; draws of weight 0 do not count.
    starts
        ``(k, d)`` first means; components begin with the draws that are nearest to each.
    covariance
        ``(d, d)`` of all draws, the metric of that.

    Returns
    -------
    shares
        ``(k,)`` of sum 1.
    means
        ``(k, d)``.
    covariances
        ``(k, d, d)``, with `REGULARISATION` on the diagonal.
    """
    k, d = starts.shape
    products = _products(x)
    square = products @ _distances(starts, np.tile(cholesky(covariance), (k, 1, 1)))
    sums = (np.eye(k)[np.argmin(square, axis=1)] * weights[:, None]).T @ products
    reached = -np.inf
    for _ in range(MAX_ITERATIONS):
        shares, means, covariances = _moments(sums, d)
        sums, total = _expected(products, weights, shares, means, covariances)
        if total - reached < TOLERANCE:
            break
        reached = total
    return shares, means, covariances


def _expected(
    products: FloatArray, weights: FloatArray, shares: FloatArray, means: FloatArray, covariances: FloatArray
) -> tuple[FloatArray, float]:
    """Sums of `_products` over the draws that each component is expected to have made, and the mean log density."""
    factors = np.asarray(cholesky(covariances), dtype=np.float64)
    log_scale = np.log(shares) - np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    distance, sums, reached = _distances(means, factors), np.zeros((len(shares), products.shape[1])), 0.0
    for i in range(0, len(products), _ROWS):
        part, weight = products[i : i + _ROWS], weights[i : i + _ROWS]
        terms = log_scale - 0.5 * (part @ distance)
        total = _log_sum(terms)
        reached += float(weight @ total)
        sums += (np.exp(terms - total[:, None]) * weight[:, None]).T @ part
    return sums, reached


def _moments(sums: FloatArray, d: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Shares, means and covariances of components from their sums of `_products`."""
    rows, columns = _pairs(d)
    shares = sums[:, -1] + 1e-12
    means = sums[:, -1 - d : -1] / shares[:, None]
    covariances = np.empty((len(sums), d, d))
    covariances[:, rows, columns] = sums[:, : rows.size] / shares[:, None] - means[:, rows] * means[:, columns]
    covariances[:, columns, rows] = covariances[:, rows, columns]
    return shares / shares.sum(), means, covariances + REGULARISATION * np.eye(d)


def _products(x: FloatArray) -> FloatArray:
    """Products of all pairs of coordinates, the coordinates, and 1: ``(n, d)`` to ``(n, d (d + 1) / 2 + d + 1)``."""
    rows, columns = _pairs(x.shape[1])
    return np.concatenate([x[:, rows] * x[:, columns], x, np.ones((len(x), 1))], axis=1)


def _distances(means: FloatArray, factors: FloatArray) -> FloatArray:
    """What `_products` are multiplied by for squared Mahalanobis distances to k components, ``(nproduct, k)``."""
    rows, columns = _pairs(means.shape[1])
    inverse = np.linalg.inv(factors)
    precision = np.einsum("kji,kjl->kil", inverse, inverse)
    linear = np.einsum("kij,kj->ki", precision, means)
    twice = np.where(rows == columns, 1.0, 2.0)
    constant = np.sum(linear * means, axis=1, keepdims=True)
    return np.concatenate([precision[:, rows, columns] * twice, -2 * linear, constant], axis=1).T


@lru_cache(maxsize=8)
def _pairs(d: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the lower triangle."""
    rows, columns = np.tril_indices(d)
    return rows, columns


def _log_sum(terms: FloatArray) -> FloatArray:
    """Log of the sum of the exponentials along the last axis, ``(n, k)`` to ``(n,)``."""
    peak = terms.max(axis=1)
    return np.asarray(peak + np.log(np.exp(terms - peak[:, None]).sum(axis=1)))
