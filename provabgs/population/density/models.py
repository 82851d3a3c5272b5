"""Population densities p(theta | eta): the `Density` protocol, Gaussian and Gaussian mixture.

Every density has unconstrained coordinates, a vector ``eta``, so that one sampler serves all. `transform` gives the
usual parameters. Priors over eta are proper: populations can be drawn from them, and the inference can be tested by
simulation-based calibration (Talts et al. 2018, arXiv:1804.06788).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp

LN_WIDTH_PRIOR = (-1.0, 0.8)
"""Mean and sigma of the normal prior on ln(sigma / scale): a population is narrower than the range it is sought in."""
MEAN_PRIOR = 1.0
"""Sigma of the normal prior on (mean - centre) / scale."""
DIRICHLET = 2.0
"""Concentration of the prior on the weights of a mixture; above 1 keeps components from vanishing."""
_LN_2PI = float(np.log(2 * np.pi))


class Density(Protocol):
    """A family of normalised densities over ``ndim`` properties. Instances are immutable and hashable: jit keys."""

    @property
    def ndim(self) -> int:
        """Number of properties."""
        ...

    @property
    def n_eta(self) -> int:
        """Number of unconstrained coordinates."""
        ...

    def log_prob(self, eta: jax.Array, theta: jax.Array) -> jax.Array:
        """Ln p(theta | eta).

        Parameters
        ----------
        eta
            ``(n_eta,)``.
        theta
            ``(..., ndim)`` properties.

        Returns
        -------
        jax.Array
            ``(...)``; -inf outside the support.
        """
        ...

    def log_prior(self, eta: jax.Array) -> jax.Array:
        """Ln prior density in the unconstrained coordinates (Jacobian included), normalised up to a constant."""
        ...

    def transform(self, eta: jax.Array) -> dict[str, jax.Array]:
        """The usual parameters (means, widths, weights), from eta."""
        ...

    def sample_prior(self, rng: np.random.Generator) -> FloatArray:
        """One ``eta (n_eta,)`` from the prior."""
        ...

    def sample(self, eta: ArrayLike, rng: np.random.Generator, n: int) -> FloatArray:
        """Galaxies drawn from the population.

        Parameters
        ----------
        eta
            ``(n_eta,)``.
        rng
            Source of randomness.
        n
            Number of galaxies.

        Returns
        -------
        numpy.ndarray
            ``(n, ndim)``.
        """
        ...


@dataclass(frozen=True)
class GaussianDensity:
    """Normal distribution in any number of dimensions.

    eta = (means, ln sigmas, correlations): ``mean = centre + scale m``, ``sigma = scale exp(s)``; the rows of the
    correlation matrix's Cholesky factor are ``(y_i1 .. y_i,i-1, 1)`` divided by their length.

    Attributes
    ----------
    centre, scale
        Middle and half width of the region in which the population is sought, per property and in its unit. The prior
        is m ~ N(0, 1), s ~ N(-1, 0.8), y ~ N(0, 1).
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.centre) != len(self.scale) or not self.centre:
            raise InputError(f"centre {self.centre} and scale {self.scale} need one number per property each")
        if not (np.all(np.isfinite(self.centre)) and np.all(np.asarray(self.scale) > 0)):
            raise InputError(f"centre {self.centre} must be finite and scale {self.scale} positive")

    @property
    def ndim(self) -> int:
        """Number of properties."""
        return len(self.centre)

    @property
    def n_eta(self) -> int:
        """Two per property and one per pair."""
        d = self.ndim
        return 2 * d + d * (d - 1) // 2

    def log_prob(self, eta: jax.Array, theta: jax.Array) -> jax.Array:
        """Ln p(theta | eta), see `Density.log_prob`.

        Parameters
        ----------
        eta
            ``(n_eta,)`` parameters of the density.
        theta
            ``(..., ndim)`` properties.

        Returns
        -------
        jax.Array
            ``(...)``.
        """
        mean, factor = self._mean_and_factor(eta.astype(theta.dtype))
        return _log_normal(theta, mean, factor)

    def log_prior(self, eta: jax.Array) -> jax.Array:
        """Ln prior, see `Density.log_prior`."""
        d = self.ndim
        return (
            _log_std(eta[:d] / MEAN_PRIOR)
            + _log_std((eta[d : 2 * d] - LN_WIDTH_PRIOR[0]) / LN_WIDTH_PRIOR[1])
            + _log_std(eta[2 * d :])
        )

    def transform(self, eta: jax.Array) -> dict[str, jax.Array]:
        """``mean (d,)``, ``sigma (d,)`` and ``correlation (d, d)``."""
        mean, factor = self._mean_and_factor(eta)
        covariance = factor @ factor.T
        sigma = jnp.sqrt(jnp.diag(covariance))
        return {"mean": mean, "sigma": sigma, "correlation": covariance / sigma[:, None] / sigma[None, :]}

    def sample_prior(self, rng: np.random.Generator) -> FloatArray:
        """One draw of eta from the prior."""
        eta = rng.standard_normal(self.n_eta)
        d = self.ndim
        eta[:d] *= MEAN_PRIOR
        eta[d : 2 * d] = LN_WIDTH_PRIOR[0] + LN_WIDTH_PRIOR[1] * eta[d : 2 * d]
        return eta

    def sample(self, eta: ArrayLike, rng: np.random.Generator, n: int) -> FloatArray:
        """Galaxies drawn from the population.

        Parameters
        ----------
        eta
            ``(n_eta,)`` parameters of the density.
        rng
            Random generator.
        n
            Number of galaxies.

        Returns
        -------
        FloatArray
            ``(n, ndim)``.
        """
        mean, factor = (np.asarray(v) for v in self._mean_and_factor(jnp.asarray(eta)))
        return mean + rng.standard_normal((n, self.ndim)) @ factor.T

    def _mean_and_factor(self, eta: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean ``(d,)`` and Cholesky factor of the covariance ``(d, d)``."""
        d = self.ndim
        scale = jnp.asarray(self.scale, dtype=eta.dtype)
        mean = jnp.asarray(self.centre, dtype=eta.dtype) + scale * eta[:d]
        rows = jnp.eye(d, dtype=eta.dtype).at[np.tril_indices(d, -1)].set(eta[2 * d :])
        rows /= jnp.linalg.norm(rows, axis=1, keepdims=True)
        return mean, scale[:, None] * jnp.exp(eta[d : 2 * d])[:, None] * rows


@dataclass(frozen=True)
class MixtureDensity:
    """Mixture of normals.

    eta = (ln of weight ratios, one `GaussianDensity` eta per component); the first coordinates of the means are kept in
    ascending order by giving the first and the logarithms of the steps, so that components have an identity. Prior:
    weights Dirichlet(2), means and widths as those of `GaussianDensity`, in any order.

    Attributes
    ----------
    component
        The Gaussian that all components are copies of, with its prior.
    n_component
        Number of components.
    """

    component: GaussianDensity
    n_component: int

    def __post_init__(self) -> None:
        if self.n_component < 2:
            raise InputError(f"a mixture of {self.n_component} components; use GaussianDensity, or 2 and more")

    @property
    def ndim(self) -> int:
        """Number of properties."""
        return self.component.ndim

    @property
    def n_eta(self) -> int:
        """Unconstrained coordinates of all components, and one weight fewer than components."""
        return self.n_component - 1 + self.n_component * self.component.n_eta

    def log_prob(self, eta: jax.Array, theta: jax.Array) -> jax.Array:
        """Ln p(theta | eta), see `Density.log_prob`.

        Parameters
        ----------
        eta
            ``(n_eta,)`` parameters of the density.
        theta
            ``(..., ndim)`` properties.

        Returns
        -------
        jax.Array
            ``(...)``.
        """
        log_weight, parts = self._split(eta.astype(theta.dtype))
        logs = jnp.stack([self.component.log_prob(p, theta) for p in parts], axis=-1)
        return jax.scipy.special.logsumexp(logs + log_weight, axis=-1)

    def log_prior(self, eta: jax.Array) -> jax.Array:
        """Ln prior, see `Density.log_prior`; the ordering's Jacobian is the sum of the log steps."""
        log_weight, parts = self._split(eta)
        steps = jnp.sum(self._raw_parts(eta)[1:, 0])
        return DIRICHLET * jnp.sum(log_weight) + jnp.sum(jax.vmap(self.component.log_prior)(parts)) + steps

    def transform(self, eta: jax.Array) -> dict[str, jax.Array]:
        """``weight (K,)`` and the components' ``mean (K, d)``, ``sigma (K, d)``, ``correlation (K, d, d)``."""
        log_weight, parts = self._split(eta)
        return {"weight": jnp.exp(log_weight), **jax.vmap(self.component.transform)(parts)}

    def sample_prior(self, rng: np.random.Generator) -> FloatArray:
        """One draw of eta from the prior."""
        weight = np.maximum(rng.dirichlet(np.full(self.n_component, DIRICHLET)), 1e-12)
        parts = np.stack([self.component.sample_prior(rng) for _ in range(self.n_component)])
        parts = parts[np.argsort(parts[:, 0])]
        return self._join(weight, parts)

    def sample(self, eta: ArrayLike, rng: np.random.Generator, n: int) -> FloatArray:
        """Galaxies drawn from the population, in random order.

        Parameters
        ----------
        eta
            ``(n_eta,)`` parameters of the density.
        rng
            Random generator.
        n
            Number of galaxies.

        Returns
        -------
        FloatArray
            ``(n, ndim)``.
        """
        log_weight, parts = (np.asarray(v) for v in self._split(jnp.asarray(eta)))
        weight = np.exp(log_weight)
        counts = rng.multinomial(n, weight / weight.sum())
        drawn = [self.component.sample(p, rng, int(c)) for p, c in zip(parts, counts, strict=True)]
        return rng.permutation(np.concatenate(drawn))

    def _join(self, weight: FloatArray, parts: FloatArray) -> FloatArray:
        """Unconstrained coordinates of weights and ordered components."""
        raw = parts.copy()
        raw[1:, 0] = np.log(np.maximum(np.diff(parts[:, 0]), 1e-12))
        return np.concatenate([np.log(weight[:-1] / weight[-1]), raw.ravel()])

    def _raw_parts(self, eta: jax.Array) -> jax.Array:
        return eta[self.n_component - 1 :].reshape(self.n_component, self.component.n_eta)

    def _split(self, eta: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Ln weights ``(K,)`` and the components' eta ``(K, n)``."""
        ratios = jnp.concatenate([eta[: self.n_component - 1], jnp.zeros(1, dtype=eta.dtype)])
        raw = self._raw_parts(eta)
        first = jnp.cumsum(jnp.concatenate([raw[:1, 0], jnp.exp(raw[1:, 0])]))
        return jax.nn.log_softmax(ratios), raw.at[:, 0].set(first)


def region_of(theta: ArrayLike) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Centre and scale for a density, from all finite draws ``(..., d)``: middle and half width of their 1-99 % range.

    Raises
    ------
    InputError
        When a property has no spread.
    """
    values = np.asarray(theta, dtype=np.float64)
    values = values.reshape(-1, values.shape[-1])
    values = values[np.all(np.isfinite(values), axis=1)]
    if len(values) < 2:
        raise InputError("no finite draws to find the population's region from")
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    if not np.all(high > low):
        raise InputError(f"property {int(np.argmin(high - low))} is the same in all draws; no density to infer")
    return tuple((0.5 * (low + high)).tolist()), tuple((0.5 * (high - low)).tolist())


def _log_normal(theta: jax.Array, mean: jax.Array, factor: jax.Array) -> jax.Array:
    """Ln of a normal density with Cholesky factor `factor`; written out, as d is 1-3 and theta has millions of rows."""
    white: list[jax.Array] = []
    for i in range(mean.shape[0]):
        rest = theta[..., i] - mean[i]
        for j, w in enumerate(white):
            rest = rest - factor[i, j] * w
        white.append(rest / factor[i, i])
    square = sum(w * w for w in white)
    return -0.5 * square - jnp.sum(jnp.log(jnp.diag(factor))) - 0.5 * len(white) * _LN_2PI


def _log_std(x: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum(x * x)
