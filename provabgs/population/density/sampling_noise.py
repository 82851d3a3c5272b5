"""Monte Carlo noise of the population likelihood, and a population posterior inflated by this noise.

Each galaxy's marginal likelihood is a Monte Carlo sum over its draws, ``1/S sum_j p(theta_ij | eta) / p0(theta_ij)``;
few draws are effective where the population is narrower than the galaxy's posterior. To first order, an error delta of
the gradient of ln L shifts the posterior of eta by ``Sigma delta``, with Sigma the posterior's covariance. The
covariance C of delta, summed over galaxies, is estimated from the draws: it is the variance of a self-normalised
estimate (Owen 2013, "Monte Carlo theory, methods and examples", section 9.2). The error of eta therefore has covariance
``Sigma + Sigma C Sigma``, and the posterior is inflated to that covariance by rescaling its draws about their mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
from scipy import linalg

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.population.density.likelihood import Draws
from provabgs.population.density.models import Density, MixtureDensity

BATCH = 64
"""Galaxies whose scores are held at a time."""


def gradient_noise(density: Density, eta: FloatArray, draws: Iterable[Draws]) -> tuple[FloatArray, float]:
    """Covariance of the gradient of ln L due to finite numbers of draws.

    Parameters
    ----------
    density
        Family of populations.
    eta
        ``(n_eta,)`` at which the gradient is taken: the posterior's mean.
    draws
        The galaxies, in chunks.

    Returns
    -------
    covariance
        ``(n_eta, n_eta)``.
    weight
        Total weight of the galaxies.
    """
    total, weight = np.zeros((density.n_eta, density.n_eta)), 0.0
    for chunk in draws:
        total += np.asarray(_gradient_noise(density, jnp.asarray(eta), chunk))
        weight += float(jnp.sum(chunk.weight))
    return total, weight


@partial(jax.jit, static_argnums=0)
def _gradient_noise(density: Density, eta: jax.Array, draws: Draws) -> jax.Array:
    def of_galaxy(galaxy: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        theta, log_weight, weight = galaxy
        member = jax.nn.softmax(density.log_prob(eta, theta) + log_weight)
        # draws outside the support of the density have weight 0 and an undefined score
        scores = jax.jacfwd(lambda e: density.log_prob(e, theta))(eta)
        scores = jnp.where(member[:, None] > 0, scores, 0.0).astype(jnp.float64)
        off = member[:, None] * (scores - member @ scores)
        return jnp.where(weight > 0, weight**2, 0.0) * (off.T @ off)

    return jnp.sum(jax.lax.map(of_galaxy, tuple(draws), batch_size=BATCH), axis=0)


def inflated(chains: FloatArray, noise: FloatArray) -> tuple[FloatArray, float]:
    """Draws of eta rescaled about their mean to the covariance ``Sigma + Sigma C Sigma``.

    Of all linear maps between two normal distributions this is the one that moves draws least (Brenier's map).

    Parameters
    ----------
    chains
        ``(nchain, ndraw, n_eta)`` draws of the posterior.
    noise
        ``(n_eta, n_eta)`` covariance C of the gradient of ln L (`gradient_noise`).

    Returns
    -------
    chains
        ``(nchain, ndraw, n_eta)``.
    inflation
        Largest factor by which a width grew, over directions.
    """
    flat = chains.reshape(-1, chains.shape[-1])
    middle, covariance = flat.mean(axis=0), np.atleast_2d(np.cov(flat, rowvar=False))
    root = np.real(linalg.sqrtm(covariance))
    inner = np.eye(len(root)) + root @ noise @ root
    values, vectors = np.linalg.eigh(0.5 * (inner + inner.T))
    target = root @ (vectors * values) @ vectors.T @ root
    between = np.real(linalg.sqrtm(root @ target @ root))
    inverse = np.linalg.pinv(root)
    stretch = inverse @ between @ inverse
    return middle + (chains - middle) @ stretch.T, float(np.sqrt(values.max()))


def can_inflate(density: Density) -> bool:
    """Whether draws of eta can be rescaled about their mean; not for mixtures, whose components may change places."""
    return not (isinstance(density, MixtureDensity) and density.n_component > 1)
