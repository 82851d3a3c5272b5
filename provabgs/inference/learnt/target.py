"""The learnt prior of one galaxy as a function of a fit's coordinates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.chunks import in_chunks
from provabgs.core.errors import ConfigError, UnusableTargetError
from provabgs.core.jax import jax, jnp
from provabgs.core.status import Status
from provabgs.inference.learnt.coordinates import AGES, FLOOR, NODES, REACH
from provabgs.inference.learnt.mixture import GaussianSum
from provabgs.inference.learnt.prior import BACKGROUND, LearntPrior, half_of
from provabgs.inference.priors import Prior, theta_from_latent
from provabgs.sps.derived import derived_properties
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel

SPECIFIC = {"LOGSSFR_1GYR": "log_sfr_1gyr", "LOGSSFR_100MYR": "log_sfr_100myr"}
"""Specific rates, per surviving mass, by the rate that they are made of."""
_CHUNK = 1024
_ARRAYS = ("tables", "share", "base", "learnt")


def learnt_ratio(
    learnt: LearntPrior, model: SPSModel, prior: Prior, tables: HistoryTables, redshift: float, stream: int
) -> Callable[[FloatArray], FloatArray]:
    """Ln of learnt over inference prior of one galaxy.

    Parameters
    ----------
    learnt
        The learnt prior.
    model
        The SPS model.
    prior
        The galaxy's inference prior.
    tables
        History tables of the galaxy.
    redshift
        Of the galaxy.
    stream
        Its TARGETID, or what stands for it (`provabgs.core.identity.stream_of`); decides the half.

    Returns
    -------
    Callable
        Latent coordinates ``(n, n_latent)`` to ``(n,)``.

    Raises
    ------
    UnusableTargetError
        For a redshift far from those that the prior was learnt from.
    ConfigError
        When the fit has no such properties.
    """
    if not learnt.covers(redshift):
        low, high = learnt.z_range
        raise UnusableTargetError(
            f"redshift {redshift:g}: the learnt prior is of redshifts {low:.3g} to {high:.3g}; fit this galaxy without",
            Status.REDSHIFT_OUT_OF_RANGE,
        )
    columns = _columns(learnt.names, model, prior)
    arrays = _arrays(learnt, redshift, int(1 - half_of([stream])[0]))
    compiled = _compiled(learnt.names, columns, model)
    return lambda latent: in_chunks(lambda z: compiled(jnp.asarray(z), prior, tables, arrays), latent, _CHUNK)


def _columns(names: tuple[str, ...], model: SPSModel, prior: Prior) -> tuple[str, ...]:
    """Names of the fit's parameters and derived properties by sample column."""
    known = {q.column: q.name for q in (*prior.parameters, *model.properties)}
    missing = [n for n in names if n not in known and n not in SPECIFIC]
    if missing:
        raise ConfigError(f"the learnt prior is of {missing[0]}, which these fits do not have")
    return tuple(SPECIFIC.get(n) or known[n] for n in names)


def _arrays(learnt: LearntPrior, redshift: float, half: int) -> dict[str, Any]:
    """Numbers of the prior at one redshift, of shapes that do not depend on it."""
    share, scaled = learnt.coordinates.shares(np.array([redshift]))[0], float(learnt.scaled(redshift))
    members = [m.at(scaled) for m in learnt.halves[half]]
    joined = GaussianSum(*(np.concatenate([m[k] for m in members]) for k in range(3)))
    joined = joined._replace(log_weight=joined.log_weight - np.log(len(members)))
    # at most two nodes count
    first = min(int(np.argmax(share > 0)), max(len(share) - 2, 0))
    found = (learnt.coordinates.tables[first : first + 2], share[first : first + 2], learnt.base.at(scaled), joined)
    return dict(zip(_ARRAYS, jax.tree.map(jnp.asarray, found), strict=True))


@lru_cache(maxsize=4)
def _compiled(names: tuple[str, ...], columns: tuple[str, ...], model: SPSModel) -> Callable[..., jax.Array]:
    def call(latent: jax.Array, prior: Prior, tables: HistoryTables, arrays: Mapping[str, Any]) -> jax.Array:
        theta = theta_from_latent(latent, prior)
        stars = prior.parameters.select(theta, model.parameters)
        values = {**prior.parameters.values(theta), **derived_properties(model, stars, tables)}
        x = [_property(name, values[c], values, tables) for name, c in zip(names, columns, strict=True)]
        u = jnp.stack([_coordinate(v, arrays, k) for k, v in enumerate(x)], axis=-1)
        ratio = _log_density(u, arrays["learnt"]) - _log_density(u, arrays["base"])
        return jnp.logaddexp(jnp.log1p(-BACKGROUND) + ratio, jnp.log(BACKGROUND))

    return jax.jit(call)


def _property(name: str, value: jax.Array, values: Mapping[str, jax.Array], tables: HistoryTables) -> jax.Array:
    """As the coordinates' tables have it; see `provabgs.inference.learnt.coordinates.Coordinates`."""
    if name in SPECIFIC:
        value = value - values["logmstar_surviving"]
    return value / tables.t_age if name in AGES else jnp.maximum(value, FLOOR.get(name, -jnp.inf))


def _coordinate(x: jax.Array, arrays: Mapping[str, Any], k: int) -> jax.Array:
    """`provabgs.inference.learnt.coordinates.look_up` at each node, by their shares."""
    step, nodes = NODES[1] - NODES[0], jnp.asarray(NODES)

    def at(table: jax.Array) -> jax.Array:
        low = jnp.minimum(x - table[0], 0) * step / (table[1] - table[0])
        high = jnp.maximum(x - table[-1], 0) * step / (table[-1] - table[-2])
        return jnp.clip(jnp.interp(x, table, nodes) + low + high, -REACH, REACH)

    return jnp.sum(arrays["share"][:, None] * jax.vmap(at)(arrays["tables"][:, k]), axis=0)


def _log_density(u: jax.Array, gaussians: GaussianSum) -> jax.Array:
    """Ln of a sum of Gaussians at points ``(n, d)``."""
    white = jnp.einsum("kij,nkj->nki", gaussians.whitening, u[:, None] - gaussians.mean)
    return jax.scipy.special.logsumexp(gaussians.log_weight - 0.5 * jnp.sum(white**2, axis=-1), axis=-1)
