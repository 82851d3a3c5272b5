"""The population likelihood, from draws in memory or compressed onto a grid.

With draws theta_ij of galaxy i made under the inference prior p0 (Hogg, Myers & Bovy 2010; Hahn et al. 2023,
arXiv:2202.01809, equation 10), weights w_i and the fraction alpha(eta) of the population that the survey selects::

    ln L(eta) = sum_i w_i [ ln 1/S_i sum_j p(theta_ij | eta) / p0(theta_ij)  -  ln alpha(eta) ]

p0 is stored with the draws: ``log_weight = -ln(S_i p0(theta_ij))``. A sum over finitely many draws is biased and noisy.
The bias is removed here (`sum_bias`); the noise widens the posterior (`provabgs.population.density.sampling_noise`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.core.weights import effective_sample_size
from provabgs.population.density.models import Density

LogSelected = Callable[[jax.Array], jax.Array]
"""ln alpha(eta): the log of the fraction of the population that the survey would have selected; traceable by JAX."""


class Draws(NamedTuple):
    """Weighted posterior draws of some galaxies; a pytree. Their dtype is the precision of the computation."""

    theta: jax.Array
    """``(n, S, d)``, finite."""
    log_weight: jax.Array
    """``(n, S)`` -ln(S_i p0(theta_ij)); -inf for draws that do not count."""
    weight: jax.Array
    """``(n,)`` weights of the galaxies, 0 for rows that only fill up a chunk."""


class Gridded(NamedTuple):
    """Draws compressed onto nodes: one matrix product replaces all exponentials. Exact for a `HistogramDensity`."""

    nodes: jax.Array
    """``(m, d)``."""
    mass: jax.Array
    """``(n, m)`` weight of each galaxy's draws at each node, scaled to a largest entry of 1."""
    log_scale: jax.Array
    """``(n,)`` ln of the scale factor that `mass` was divided by."""
    weight: jax.Array
    """``(n,)`` weights of the galaxies."""


Data = Draws | Gridded


def log_sum(density: Density, eta: jax.Array, data: Data) -> jax.Array:
    """Ln of each galaxy's sum, ln 1/S_i sum_j p(theta_ij | eta) / p0(theta_ij).

    Parameters
    ----------
    density
        Family of populations.
    eta
        ``(n_eta,)``.
    data
        Draws of n galaxies.

    Returns
    -------
    jax.Array
        ``(n,)``, double precision.
    """
    if isinstance(data, Gridded):
        log_p = density.log_prob(eta, data.nodes)
        top = jnp.max(log_p)
        total = data.mass @ jnp.exp(log_p - top).astype(data.mass.dtype)
        # single precision underflows for a galaxy that the population does not reach: take the smallest normal number
        return jnp.log(jnp.maximum(total, 1e-37)).astype(jnp.float64) + top + data.log_scale
    return jax.scipy.special.logsumexp(density.log_prob(eta, data.theta) + data.log_weight, axis=1).astype(jnp.float64)


def sum_bias(density: Density, eta: jax.Array, draws: Draws) -> jax.Array:
    """Bias of `log_sum` to first order, 1/2 (1/n_effective - 1/S_i); add it to `log_sum`.

    The expected logarithm of a noisy mean is below the logarithm of the mean by half the relative variance. The bias
    grows as fewer draws are effective, so narrow populations would be disfavoured without the correction. Not
    available for gridded draws: it needs the individual draws.

    Parameters
    ----------
    density
        Family of populations.
    eta
        ``(n_eta,)``.
    draws
        Of n galaxies.

    Returns
    -------
    jax.Array
        ``(n,)``, double precision; 0 for galaxies that the population does not reach.
    """
    log_u = density.log_prob(eta, draws.theta) + draws.log_weight
    some = jnp.any(jnp.isfinite(log_u), axis=1)
    log_u = jnp.where(some[:, None], log_u, 0.0)  # softmax of -inf alone would be NaN
    member = jax.nn.softmax(log_u, axis=1).astype(jnp.float64)
    n_draw = jnp.maximum(jnp.sum(jnp.isfinite(draws.log_weight), axis=1), 1)
    return jnp.where(some, 0.5 * (jnp.sum(member**2, axis=1) - 1 / n_draw), 0.0)


def log_likelihood(density: Density, eta: jax.Array, data: Data, selection: LogSelected | None = None) -> jax.Array:
    """Ln L(eta).

    Parameters
    ----------
    density
        Family of populations.
    eta
        ``(n_eta,)``.
    data
        Draws of the galaxies; rows of weight 0 do not count, whatever they hold.
    selection
        ln alpha(eta); None where everything is selected.

    Returns
    -------
    jax.Array
        Scalar, double precision.
    """
    each = log_sum(density, eta, data)
    if isinstance(data, Draws):
        each = each + sum_bias(density, eta, data)
    total = jnp.sum(jnp.where(data.weight > 0, data.weight * each, 0.0))
    return total if selection is None else total - jnp.sum(data.weight) * selection(eta)


@dataclass(frozen=True, eq=False)
class Efficiency:
    """ln alpha(eta) for a known efficiency on a grid: ``alpha(eta) = sum_k f_k p(theta_k | eta) dV_k``.

    Attributes
    ----------
    density
        Family of populations.
    points
        ``(m, d)`` centres of cells that cover the population.
    log_measure
        ``(m,)`` ln of efficiency times volume of each cell; -inf where nothing is selected.
    """

    density: Density
    points: jax.Array
    log_measure: jax.Array

    def __call__(self, eta: jax.Array) -> jax.Array:
        """Ln alpha(eta)."""
        return jax.scipy.special.logsumexp(self.density.log_prob(eta, self.points) + self.log_measure)


def effective_draws(density: Density, eta: jax.Array, data: Data) -> FloatArray:
    """Kish's effective number of draws in each galaxy's sum, for terms ``p(theta_ij | eta) / p0(theta_ij)``.

    Parameters
    ----------
    density
        Family of populations.
    eta
        ``(n_eta,)``.
    data
        Draws of n galaxies.

    Returns
    -------
    numpy.ndarray
        ``(n,)``; 0 for galaxies that the population does not reach, NaN for `Gridded` data (individual draws are
        needed).
    """
    if isinstance(data, Gridded):
        return np.full(data.weight.shape[0], np.nan)
    log_u = np.asarray(_log_terms(density, jnp.asarray(eta), data), dtype=np.float64)
    return np.where(np.isfinite(log_u).any(axis=1), effective_sample_size(log_u), 0.0)


@partial(jax.jit, static_argnums=0)
def _log_terms(density: Density, eta: jax.Array, data: Draws) -> jax.Array:
    return density.log_prob(eta, data.theta) + data.log_weight
