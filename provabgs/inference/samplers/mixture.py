"""Student-t mixtures as proposals: fitted to draws, with known density and heavy tails."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import ThreadpoolController

from provabgs.core.arrays import FloatArray

DEGREES = 6.0
"""Degrees of freedom of each component: tails heavier than any Gaussian posterior's."""
INFLATION = 1.2
"""Covariances are widened by this, against clusters fitted to few draws."""
DEFENSIVE = 0.03
"""Weight of a component as wide as all draws together, so that no region between clusters is left out."""
REGULARISATION = 1e-4
MAX_ITERATIONS = 15
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
        k, d = self.means.shape
        constant = gammaln((DEGREES + d) / 2) - gammaln(DEGREES / 2) - d / 2 * np.log(DEGREES * np.pi)
        # one product whitens for all components: their number times faster than solving for each
        whiten = np.linalg.inv(self.factors).transpose(2, 0, 1).reshape(d, k * d)
        centre = np.einsum("kij,kj->ki", np.linalg.inv(self.factors), self.means).reshape(-1)
        log_scale = np.log(self.weights) - np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(axis=1) + constant
        out = np.empty(len(x))
        for i in range(0, len(x), _ROWS):
            y = x[i : i + _ROWS] @ whiten - centre
            square = np.square(y, out=y).reshape(-1, k, d).sum(axis=2)
            terms = log_scale - (DEGREES + d) / 2 * np.log1p(square / DEGREES)
            peak = terms.max(axis=1)
            out[i : i + _ROWS] = peak + np.log(np.exp(terms - peak[:, None]).sum(axis=1))
        return out


@lru_cache(maxsize=1)
def _threads() -> ThreadpoolController:
    """Finding the libraries takes milliseconds; once is enough."""
    return ThreadpoolController()


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


def fit_mixture(draws: FloatArray, n_components: int, rng: np.random.Generator) -> Mixture:
    """Fit to equally weighted draws by expectation maximisation, and add the defensive component.

    Parameters
    ----------
    draws
        ``(n, d)``.
    n_components
        Largest number of components; fewer where there are fewer than 4 d distinct draws for each.
    rng
        Random generator.

    Returns
    -------
    Mixture
        Widened by `INFLATION`.
    """
    n_components = max(1, min(n_components, len(np.unique(draws[:, 0])) // (4 * draws.shape[1])))
    seed = int(rng.integers(2**31))
    model = GaussianMixture(
        n_components,
        reg_covar=REGULARISATION,
        random_state=seed,
        max_iter=MAX_ITERATIONS,
        tol=1e-2,
        init_params="random_from_data",
    )
    # tiny matrices: threads of the linear algebra would cost fifty times what they do
    with warnings.catch_warnings(), _threads().limit(limits=1, user_api="blas"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # a proposal need not be the best fit
        model.fit(draws)
    wide = np.cov(draws.T) + REGULARISATION * np.eye(draws.shape[1])
    covariances = np.concatenate([model.covariances_ * INFLATION, [wide * 2]])
    keep = np.append(model.weights_ * (1 - DEFENSIVE), DEFENSIVE)
    means = np.concatenate([model.means_, [draws.mean(axis=0)]])
    return Mixture(keep / keep.sum(), means, np.linalg.cholesky(covariances))
