"""Draws of a prior, and of the properties that it induces."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.inference.priors import Prior, theta_from_unit
from provabgs.sps.derived import derived_properties
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel

CHUNK = 10_000
"""Draws evaluated at a time."""


def draw_prior(prior: Prior, n: int, rng: np.random.Generator) -> FloatArray:
    """Parameter vectors from a prior.

    Parameters
    ----------
    prior
        Of one galaxy.
    n
        Number of draws.
    rng
        Source of the numbers.

    Returns
    -------
    numpy.ndarray
        ``(n, size)``, writable.
    """
    return np.array(theta_from_unit(jnp.asarray(rng.random((n, prior.n_coordinate))), prior))


def draw_quantities(
    model: SPSModel, prior: Prior, tables: HistoryTables, n: int, rng: np.random.Generator
) -> dict[str, FloatArray]:
    """Draws of every parameter and derived property under a prior.

    Parameters
    ----------
    model
        The SPS model.
    prior
        Over the model's parameters and the observation's.
    tables
        The model's history tables at one redshift.
    n
        Number of draws.
    rng
        Random generator.

    Returns
    -------
    dict
        By name, each ``(n,)``.
    """
    pieces = [
        _evaluate(model)(jnp.asarray(rng.random((min(CHUNK, n), prior.n_coordinate))), prior, tables)
        for _ in range(-(-n // CHUNK))
    ]
    return {name: np.concatenate([np.asarray(p[name]) for p in pieces])[:n] for name in pieces[0]}


@lru_cache(maxsize=4)
def _evaluate(model: SPSModel) -> Callable[[jax.Array, Prior, HistoryTables], dict[str, jax.Array]]:
    def call(unit: jax.Array, prior: Prior, tables: HistoryTables) -> dict[str, jax.Array]:
        theta = theta_from_unit(unit, prior)
        stars = prior.parameters.select(theta, model.parameters)
        return {**prior.parameters.values(theta), **derived_properties(model, stars, tables)}

    return jax.jit(call)
