"""Derived properties as the production of the released catalog computed them.

That code has a history in bins of lookback time, 0.1 dex wide above 1.1 Myr. Metallicity and age of a bin are those of
its middle, for a burst in it too: above 5 Gyr a bin is more than 1 Gyr wide. SFRs take star formation even within a
bin. A burst older than the galaxy gives its mass to the smooth part of the history. (The surviving mass of the
production came from a network; ours is the library's.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from provabgs.core.constants import Z_RANGE_PROVABGS
from provabgs.core.jax import jax, jnp
from provabgs.sps.derived import DERIVED, TINY, DerivedProperty, State
from provabgs.sps.histories.nmf import NMFHistories

EDGES_GYR = np.concatenate([[0.0], 10.0 ** (6.05 - 9 + 0.1 * np.arange(41))])
"""Edges of the bins below the age of the universe, which is the last."""


class _Bins(NamedTuple):
    """Bins of lookback time; ``(batch or 1, nbin + 1)`` edges, ``(batch, nbin)`` mass of each per mass formed."""

    edges: jax.Array
    mass: jax.Array
    smooth: jax.Array
    """As `mass`, without the burst."""
    fburst: jax.Array
    """``(batch,)``; 0 where the burst is older than the galaxy."""

    @property
    def middle(self) -> jax.Array:
        """``(batch or 1, nbin)`` Gyr."""
        return 0.5 * (self.edges[:, 1:] + self.edges[:, :-1])


def _bins(state: State) -> _Bins:
    histories, values = state.model.histories, state.values
    assert isinstance(histories, NMFHistories)
    t_age = jnp.atleast_1d(jnp.asarray(state.tables.t_age))[:, None]
    edges = jnp.concatenate([jnp.minimum(jnp.asarray(EDGES_GYR), t_age), t_age], axis=1)
    formed = jnp.diff(_cumulative(histories, edges), axis=-1)
    share = jnp.stack([values[n] for n in histories.linear_block.fractions], axis=-1)
    smooth = jnp.einsum("bi,bij->bj", share, jnp.broadcast_to(formed, (len(share), *formed.shape[1:])))
    smooth /= smooth.sum(axis=1, keepdims=True)
    fburst = jnp.where(values["tburst"] > t_age[:, 0], 0.0, values["fburst"])
    inside = (values["tburst"][:, None] >= edges[:, :-1]) & (values["tburst"][:, None] < edges[:, 1:])
    mass = (1 - fburst)[:, None] * smooth + fburst[:, None] * inside
    return _Bins(edges, mass, smooth, fburst)


def _cumulative(histories: NMFHistories, t: jax.Array) -> jax.Array:
    """Integral of each basis from 0 to t ``(batch, n)``: ``(batch, nbasis, n)``; exact for piecewise-linear bases."""
    knots, values = jnp.asarray(histories.bases.time), jnp.asarray(histories.bases.sfh)
    step = jnp.diff(knots)
    total = jnp.concatenate(
        [jnp.zeros((len(values), 1)), jnp.cumsum(0.5 * step * (values[:, 1:] + values[:, :-1]), axis=1)], axis=1
    )
    k = jnp.clip(jnp.searchsorted(knots, t, side="right") - 1, 0, knots.size - 2)
    x = t - knots[k]
    slope = jnp.diff(values, axis=1) / step
    return jnp.moveaxis(total[:, k] + x * (values[:, k] + 0.5 * x * slope[:, k]), 0, 1)


def _sfr(span_gyr: float) -> Any:
    def compute(state: State) -> jax.Array:
        bins = _bins(state)
        width = jnp.diff(bins.edges, axis=1)
        covered = jnp.clip(span_gyr - bins.edges[:, :-1], 0.0, width) / jnp.where(width > 0, width, 1.0)
        formed = (1 - bins.fburst) * jnp.sum(bins.smooth * covered, axis=1)
        formed += jnp.where(state.values["tburst"] < span_gyr, bins.fburst, 0.0)
        return state.log_mass + jnp.log10(jnp.maximum(formed, TINY)) - np.log10(span_gyr * 1e9)

    return compute


def _metallicity(state: State) -> jax.Array:
    histories, values, bins = state.model.histories, state.values, _bins(state)
    assert isinstance(histories, NMFHistories)
    knots, bases = jnp.asarray(histories.bases.time), jnp.asarray(histories.bases.zh)
    z = sum(values[f"gamma{i + 1}"][:, None] * jnp.interp(bins.middle, knots, row) for i, row in enumerate(bases))
    mean = jnp.sum(bins.mass * jnp.clip(z, *Z_RANGE_PROVABGS), axis=1)
    return jnp.log10(jnp.maximum(mean, TINY))


def _age(state: State) -> jax.Array:
    bins = _bins(state)
    return jnp.sum(bins.mass * bins.middle, axis=1)


_COMPUTE = {"log_sfr_100myr": _sfr(0.1), "log_sfr_1gyr": _sfr(1.0), "log_z_mw": _metallicity, "t_age_mw": _age}
RELEASED: tuple[DerivedProperty, ...] = tuple(replace(d, compute=_COMPUTE.get(d.name, d.compute)) for d in DERIVED)
"""The published properties as the production of the released catalog computed them, for the published histories."""
