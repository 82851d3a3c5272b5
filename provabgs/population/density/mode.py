"""The mode of a population's posterior and the curvature there: the start of all samplers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.optimize import minimize

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.population.density.likelihood import Data, LogSelected, log_likelihood
from provabgs.population.density.models import Density

_ROUGHEST = 1e-2
"""Smallest curvature at the mode that is used: directions without data have the width of the prior, about 1."""


def log_posterior(density: Density, selection: LogSelected | None, eta: jax.Array, data: Data) -> jax.Array:
    """Ln posterior of eta, not normalised.

    Parameters
    ----------
    density
        Family of populations, with its prior.
    selection
        ln alpha(eta), or None.
    eta
        ``(n_eta,)``.
    data
        Draws of the galaxies.

    Returns
    -------
    jax.Array
        Scalar.
    """
    return density.log_prior(eta) + log_likelihood(density, eta, data, selection)


@partial(jax.jit, static_argnums=(0, 1))
def _jit_value_and_grad(
    density: Density, selection: LogSelected | None, eta: jax.Array, data: Data
) -> tuple[jax.Array, jax.Array]:
    return jax.value_and_grad(lambda e: log_posterior(density, selection, e, data))(eta)


@partial(jax.jit, static_argnums=(0, 1))
def negative_hessian(density: Density, selection: LogSelected | None, eta: jax.Array, data: Data) -> jax.Array:
    """Minus the second derivatives of ln posterior.

    Parameters
    ----------
    density
        Family of populations, with its prior.
    selection
        ln alpha(eta), or None.
    eta
        ``(n_eta,)``.
    data
        Draws of the galaxies.

    Returns
    -------
    jax.Array
        ``(n_eta, n_eta)``.
    """
    gradient = jax.grad(lambda e: -log_posterior(density, selection, e, data))
    return jax.lax.map(lambda v: jax.jvp(gradient, (eta,), (v,))[1], jnp.eye(eta.size))


def on_host(
    density: Density, selection: LogSelected | None, data: Data
) -> Callable[[FloatArray], tuple[float, FloatArray]]:
    """Ln posterior and its gradient as a NumPy function of eta.

    Parameters
    ----------
    density
        Family of populations, with its prior.
    selection
        ln alpha(eta), or None.
    data
        Draws of the galaxies.

    Returns
    -------
    Callable
        ``eta (n_eta,)`` to a number and ``(n_eta,)``.
    """

    def call(eta: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = _jit_value_and_grad(density, selection, jnp.asarray(eta), data)
        return float(value), np.asarray(gradient)

    return call


def find_mode(
    density: Density,
    value_and_grad: Callable[[FloatArray], tuple[float, FloatArray]],
    rng: np.random.Generator,
    n_start: int,
) -> FloatArray:
    """Mode of the posterior: L-BFGS from the best three of some prior draws.

    Parameters
    ----------
    density
        Family of populations, from whose prior starts are drawn.
    value_and_grad
        Ln posterior and gradient of ``eta (n_eta,)``.
    rng
        Source of randomness.
    n_start
        Number of prior draws.

    Returns
    -------
    numpy.ndarray
        ``(n_eta,)``.

    Raises
    ------
    InputError
        When the posterior is 0 at all of them.
    """
    candidates = np.stack([np.zeros(density.n_eta), *(density.sample_prior(rng) for _ in range(n_start))])
    found = np.array([value_and_grad(c)[0] for c in candidates])
    found = np.where(np.isfinite(found), found, -np.inf)
    if not np.any(np.isfinite(found)):
        raise InputError(f"the population likelihood is 0 at all of {len(candidates)} starts; widen the range")
    ends = [climb(value_and_grad, start) for start in candidates[np.argsort(-found)[:3]]]
    return max(ends, key=lambda eta: value_and_grad(eta)[0])


def climb(
    value_and_grad: Callable[[FloatArray], tuple[float, FloatArray]],
    start: FloatArray,
    factor: FloatArray | None = None,
) -> FloatArray:
    """Maximum by L-BFGS, in the coordinates u of ``eta = start + factor u`` where a factor is given.

    Parameters
    ----------
    value_and_grad
        Function to maximise and its gradient.
    start
        ``(n_eta,)``.
    factor
        ``(n_eta, n_eta)`` scaling of the coordinates (`whitening`).

    Returns
    -------
    numpy.ndarray
        ``(n_eta,)``.
    """
    turn = np.eye(start.size) if factor is None else factor

    def downhill(u: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = value_and_grad(start + turn @ u)
        # a large finite value makes the line search step back
        good = np.isfinite(value) and np.all(np.isfinite(gradient))
        return (-value, -turn.T @ gradient) if good else (1e100, np.zeros_like(u))

    fit = minimize(downhill, np.zeros(start.size), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return start + turn @ fit.x


def whitening(curvature: FloatArray) -> FloatArray:
    """Matrix F such that ``eta = mode + F u`` has unit curvature in u; `curvature` is minus the Hessian at the mode."""
    values, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
    return vectors / np.sqrt(np.maximum(values, _ROUGHEST))
