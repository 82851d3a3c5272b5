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
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.compressed.normal_equations import make_normal_equations
from provabgs.inference.emulated import EmulatedLikelihood
from provabgs.inference.engines import Likelihood
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.marginalised import Equations, collapse
from provabgs.inference.priors import Prior, log_prior, theta_from_latent, unit_from_theta
from provabgs.inference.samplers import Target
from provabgs.sps.derived import derived_properties
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import DERIVED_NAMES

CHUNK = 1024
"""Draws handled at a time by compiled functions."""


def make_target(likelihood: Likelihood, exact: ExactLikelihood, prior: Prior) -> Target:
    """The posterior in latent coordinates, with every parameter and derived property monitored.

    `likelihood` is sampled; `exact` knows the model and its history tables.
    """

    def log_likelihood(latent: FloatArray) -> FloatArray:
        return np.asarray(likelihood(_to_theta(jnp.asarray(latent), prior)))

    def monitor(latent: FloatArray) -> FloatArray:
        theta = to_theta(latent, prior)
        derived = derived_columns(exact.model, theta, exact.tables)
        return np.concatenate([theta, np.stack([derived[n] for n in DERIVED_NAMES], axis=1)], axis=1)

    collapsed, weight = None, np.asarray(exact.tables.weight)
    if isinstance(likelihood, CompressedLikelihood):
        collapsed = collapse(_normal_equations(exact.model), likelihood.reduction, prior, weight)
    elif isinstance(likelihood, EmulatedLikelihood):
        collapsed = collapse(likelihood.equations, likelihood.reduction, prior, weight)
    return Target(len(prior.low), log_likelihood, monitor, collapsed)


@lru_cache(maxsize=4)
def _normal_equations(model: SPSModel) -> Equations:
    return make_normal_equations(model)


_to_theta = jax.jit(theta_from_latent)
to_unit = jax.jit(unit_from_theta)
compiled_log_prior = jax.jit(log_prior)


def to_theta(latent: FloatArray, prior: Prior) -> FloatArray:
    """Parameters ``(n, 13)`` of latent coordinates ``(n, 12)``; as many more of both as the model has extra."""
    return in_chunks(lambda z: _to_theta(z, prior), latent, CHUNK)


def derived_columns(model: SPSModel, theta: FloatArray, tables: HistoryTables) -> dict[str, FloatArray]:
    """Derived properties by name, each ``(n,)``."""
    values = in_chunks(lambda t: _compiled_derived(model)(t, tables), theta, CHUNK)
    return dict(zip(DERIVED_NAMES, values.T, strict=True))


@lru_cache(maxsize=4)
def _compiled_derived(model: SPSModel) -> Callable[[FloatArray, HistoryTables], jax.Array]:
    """Derived properties as columns ``(batch, nderived)``."""

    def columns(theta: jax.Array, tables: HistoryTables) -> jax.Array:
        derived = derived_properties(model, theta, tables)
        return jnp.stack([derived[name] for name in DERIVED_NAMES], axis=1)

    return jax.jit(columns)
