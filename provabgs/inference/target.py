"""The posterior of a galaxy as samplers see it: latent coordinates in, ln L and monitored quantities out.

Everything is compiled once per model and evaluated in chunks of one shape, so that galaxies share compilations.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.chunks import in_chunks
from provabgs.core.jax import jax, jnp
from provabgs.inference.device.client import UNSERVED, serve
from provabgs.inference.likelihood import Likelihood
from provabgs.inference.marginalised import marginalise, share_of
from provabgs.inference.priors import Prior, log_prior, theta_from_latent, unit_from_theta
from provabgs.inference.samplers.base import Target
from provabgs.sps.derived import derived_properties
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel

CHUNK = 1024
"""Draws handled at a time by compiled functions."""


def make_target(likelihood: Likelihood, model: SPSModel, tables: HistoryTables, prior: Prior) -> Target:
    """The posterior in latent coordinates, with every parameter and derived property monitored.

    Parameters
    ----------
    likelihood
        The backend that is sampled.
    model, tables
        The SPS model, and its history tables at the galaxy.
    prior
        The galaxy's prior.

    Returns
    -------
    Target
        With the masses integrated out where the likelihood has normal equations.
    """
    system, marginal, served = likelihood.linear_system, None, UNSERVED
    if system is not None:
        weight = np.asarray(tables.weight)
        served = serve(system, prior, share_of(model.linear_block, weight))
        marginal = marginalise(system, model.linear_block, prior, weight, served)

    def log_likelihood(latent: FloatArray) -> FloatArray:
        if (found := served.ask("likelihood", False, latent)) is not None:
            return found[0]
        return np.asarray(likelihood(_to_theta(jnp.asarray(latent), prior)))

    # derived properties too: they can mix worse than any parameter, and are what users read
    def monitor(latent: FloatArray) -> FloatArray:
        theta = to_theta(latent, prior)
        derived = derived_columns(model, prior.parameters.select(theta, model.parameters), tables)
        return np.concatenate([theta, np.stack(list(derived.values()), axis=1)], axis=1)

    def gradient(latent: FloatArray) -> FloatArray:
        total = jax.grad(lambda z: jnp.sum(likelihood(theta_from_latent(z, prior))))
        return np.asarray(total(jnp.asarray(latent)))

    return Target(prior.n_coordinate, log_likelihood, monitor, marginal, gradient)


_to_theta = jax.jit(theta_from_latent)
to_unit = jax.jit(unit_from_theta)
compiled_log_prior = jax.jit(log_prior)


def to_theta(latent: FloatArray, prior: Prior) -> FloatArray:
    """Parameters of latent coordinates, evaluated in chunks.

    Parameters
    ----------
    latent
        ``(n, n_coordinate)`` standard-normal coordinates.
    prior
        The galaxy's prior.

    Returns
    -------
    FloatArray
        ``(n, size)``, each parameter in its own unit.
    """
    return in_chunks(lambda z: _to_theta(z, prior), latent, CHUNK)


def derived_columns(model: SPSModel, theta: FloatArray, tables: HistoryTables) -> dict[str, FloatArray]:
    """Derived properties by name, each ``(n,)``.

    Parameters
    ----------
    model
        The SPS model.
    theta
        ``(n, nparameter)`` of the model.
    tables
        Its history tables at the galaxy.

    Returns
    -------
    dict
        In the order of ``model.properties``.

    Raises
    ------
    InputError
        When theta has another number of columns.
    """
    model.parameters.check(theta)
    values = in_chunks(lambda t: _compiled_derived(model)(t, tables), theta, CHUNK)
    return dict(zip((p.name for p in model.properties), values.T, strict=True))


@lru_cache(maxsize=4)
def _compiled_derived(model: SPSModel) -> Callable[[FloatArray, HistoryTables], jax.Array]:
    """Derived properties as columns ``(batch, nderived)``."""

    def columns(theta: jax.Array, tables: HistoryTables) -> jax.Array:
        return jnp.stack(list(derived_properties(model, theta, tables).values()), axis=1)

    return jax.jit(columns)
