"""Parameter vectors for tests, timings and studies, by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.inference.prior_draws import draw_prior
from provabgs.inference.priors import Prior, log_prior, theta_from_latent
from provabgs.inference.standard import PARAMETERS, PROPERTIES
from provabgs.observe.observation import Observation
from provabgs.sps.parameters import ParameterSet, Values

QUANTITIES = (*PARAMETERS.names, *(p.name for p in PROPERTIES))
"""Names of all that a posterior holds: parameters, then derived properties."""
STARS = ParameterSet(tuple(p for p in PARAMETERS if p.role != "nuisance"))
"""Parameters of the default SPS model: those of a fit without the observation's."""
N_THETA = PARAMETERS.size
"""Length of a fit's theta."""
N_FREE = len(PARAMETERS.coordinates)
"""Coordinates that a sampler works in."""


def prior_of(fiber: Observation | tuple[float, float] | None = None, parameters: ParameterSet = PARAMETERS) -> Prior:
    """Default prior; `fiber` is an observation, or mean and sigma of its f_fiber, which is 1 if left out."""
    fraction = fiber.fiber_fraction if isinstance(fiber, Observation) else fiber
    return Prior.of(parameters, normal={} if fraction is None else {"f_fiber": fraction})


def prior_draws(n: int, rng: np.random.Generator, fiber: tuple[float, float] | None = None) -> FloatArray:
    """``(n, N_THETA)`` draws of the default prior.

    Parameters
    ----------
    n
        Number of draws.
    rng
        Source of one uniform number per free coordinate and draw.
    fiber
        Mean and sigma of the prior of f_fiber; 1 exactly if left out.
    """
    return draw_prior(prior_of(fiber), n, rng)


def theta_of(latent: FloatArray, prior: Prior) -> FloatArray:
    """``(n, N_THETA)`` at latent coordinates ``(n, N_FREE)``."""
    return np.asarray(theta_from_latent(jnp.asarray(latent), prior))


def log_prior_of(theta: FloatArray, prior: Prior) -> FloatArray:
    """``(n,)`` log density of the prior at ``(n, N_THETA)``."""
    return np.asarray(log_prior(jnp.asarray(theta), prior))


def named(n: int = 1, /, **values: float | FloatArray) -> FloatArray:
    """``(n, N_THETA)`` with the parameters named, numbers or ``(n,)``; all others are 0."""
    return put(np.zeros((n, N_THETA)), **values)


def put(theta: FloatArray, /, **values: float | FloatArray) -> FloatArray:
    """`theta` ``(..., N_THETA)`` itself, after the parameters named have been given their values."""
    for name, value in values.items():
        theta[..., PARAMETERS.index(name)] = value
    return theta


def column(theta: FloatArray | jax.Array, *names: str) -> FloatArray:
    """Values of one parameter ``(...)``, or of several ``(..., k)``."""
    values = np.asarray(theta)[..., PARAMETERS.indices(names)]
    return values[..., 0] if len(names) == 1 else values


def values_of(theta: FloatArray | jax.Array) -> Values:
    """Parameters by name, each ``(n,)``, of a fit's theta ``(n, N_THETA)``."""
    return PARAMETERS.values(jnp.asarray(theta))


def stars_of(theta: Any) -> Any:
    """The SPS model's columns of a fit's theta ``(..., N_THETA)``."""
    return PARAMETERS.select(theta, STARS)
