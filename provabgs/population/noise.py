"""The noise of sums over finite draws, and posteriors of a population widened by it.

Each galaxy's sum ``1/S sum_j p(theta_ij | eta) / p0(theta_ij)`` is a Monte Carlo estimate (of few effective draws where
the population is narrower than the galaxy's posterior), and the errors of all galaxies together shift the posterior of
eta. To first order the shift is ``Sigma delta``, with Sigma the posterior's covariance and delta the error of the
gradient of ln L, whose covariance C follows from the draws themselves (the variance of a self-normalised estimate, as
in Owen 2013, "Monte Carlo theory, methods and examples", section 9.2). What the data say of eta is then known to
``Sigma + Sigma C Sigma``; draws of eta are stretched about their mean to have that covariance.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
from scipy import linalg

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.population.densities import Density, MixtureDensity
from provabgs.population.likelihood import Draws

BATCH = 64
"""Galaxies whose scores are held at a time."""


def gradient_noise(density: Density, eta: FloatArray, draws: Iterable[Draws]) -> tuple[FloatArray, float]:
    """Covariance ``(n_eta, n_eta)`` of the gradient of ln L that comes of finite draws, and the galaxies' total weight.

    Parameters
    ----------
    density
        Family of populations.
    eta
        ``(n_eta,)`` where; the posterior's mean.
    draws
        The galaxies, in chunks.
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
        share = jax.nn.softmax(density.log_prob(eta, theta) + log_weight)
        # draws outside the density's support have no score, and no share
        scores = jax.jacfwd(lambda e: density.log_prob(e, theta))(eta)
        scores = jnp.where(share[:, None] > 0, scores, 0.0).astype(jnp.float64)
        off = share[:, None] * (scores - share @ scores)
        return jnp.where(weight > 0, weight**2, 0.0) * (off.T @ off)

    return jnp.sum(jax.lax.map(of_galaxy, tuple(draws), batch_size=BATCH), axis=0)


def widened(chains: FloatArray, noise: FloatArray) -> tuple[FloatArray, float]:
    """Draws of eta ``(nchain, ndraw, n_eta)`` stretched to allow for the noise, and the largest factor on a width.

    The stretch is the one linear map between the two normal distributions that moves draws least (Brenier's).
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


def can_widen(density: Density) -> bool:
    """Whether one linear map can do it: components of a mixture may change places, so that their mean means nothing."""
    return not (isinstance(density, MixtureDensity) and density.n_component > 1)
