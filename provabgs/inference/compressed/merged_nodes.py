"""Age nodes of the compressed engine: those that no burst reaches are merged into one, for fewer SSPs to sum."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.jax import jax, jnp
from provabgs.inference.compressed.gas import GasRows, gas_rows, merged_photons
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import NodeGrid, SPSModel
from provabgs.sps.nebular_ssp import NebularModel
from provabgs.sps.parameters import INDEX

BURST_MIN_GYR = 0.01
"""Youngest burst; SSP nodes below it carry smooth star formation only and are merged into one."""


class MergedNodes(NamedTuple):
    """The library's age nodes with the youngest merged into one: those that no burst can reach.

    Over these ages (below 10 Myr) the published SFH bases are constant to 1e-4 and Z(t) to 3e-4, so that one profile
    and one metallicity serve all.
    """

    n_merged: int
    """Number of nodes merged."""
    profile: FloatArray
    """``(n_merged,)`` share of each merged node in the mass that smooth star formation puts on them; sums to 1."""
    grid: NodeGrid
    n_young: int
    """Young nodes left; the others are old."""
    gas: GasRows | None = None
    """What gas of free parameters gives, as rows after the SSPs of young and of old stars."""
    photons: tuple[SingleArray, SingleArray] | None = None
    """Ionising photons of young and old SSPs, each ``(nmet * nnode, ngasage)``; with `gas`."""

    @classmethod
    def of(cls, model: SPSModel) -> MergedNodes:
        """Merge the nodes of a model."""
        n = int(np.searchsorted(model.library.age_gyr, BURST_MIN_GYR * (1 + 1e-6), side="right")) - 1
        n = max(n, 1)
        mass = model.tables(13.0).mass[:, :n].sum(axis=0)
        profile = mass / mass.sum()
        typical = int(np.argmax(profile))
        zh = np.concatenate([model.grid.zh[:, typical, None], model.grid.zh[:, n:]], axis=1)
        n_young = model.young_nodes.stop - n + 1
        merged = cls(n, profile, NodeGrid(model.grid.log_age[n - 1 :], zh), n_young)
        if not isinstance(model, NebularModel):
            return merged
        young, old = np.split(merged_photons(model, n, profile), [n_young], axis=1)
        photons = (young.reshape(-1, young.shape[-1]), old.reshape(-1, old.shape[-1]))
        return merged._replace(gas=gas_rows(model), photons=photons)

    def tables(self, tables: HistoryTables) -> HistoryTables:
        """History tables on the merged nodes."""
        first = tables.mass[..., : self.n_merged].sum(axis=-1, keepdims=True)
        return tables._replace(mass=np.concatenate([first, tables.mass[..., self.n_merged :]], axis=-1))

    def weights(self, model: SPSModel, theta: jax.Array, tables: HistoryTables) -> tuple[jax.Array, jax.Array]:
        """Weights on `merged_spectra`, each ``(batch, nmet * nnode)``; `tables` as by `tables`, their precision."""
        single = theta.astype(jnp.asarray(tables.mass).dtype)
        smooth = model.node_masses(single.at[:, INDEX["fburst"]].set(0.0), tables, self.grid)
        masses = self._with_burst(model, theta, tables, smooth.mass)
        return self._with_gas(theta, self._spread(masses, smooth.logzsol, model))

    def basis_weights(self, model: SPSModel, theta: jax.Array, tables: HistoryTables) -> tuple[jax.Array, jax.Array]:
        """Weights of each SFH basis alone, as `weights`, ``(batch, nbasis, nmet * nnode)``; betas are ignored."""
        mass = jnp.asarray(tables.mass)
        logzsol = jnp.log10(model.metallicity(theta.astype(mass.dtype), self.grid) / model.solar_z)
        masses = self._with_burst(model, theta, tables, mass[None] if mass.ndim == 2 else mass)
        return self._with_gas(theta, self._spread(masses, logzsol, model))

    def _with_gas(self, theta: jax.Array, stars: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Weights of SSPs ``(batch, ..., nssp)`` with those of the gas that they light after them."""
        if self.gas is None or self.photons is None:
            return stars
        strengths = self.gas.strengths(theta.astype(stars[0].dtype))
        out = []
        for weights, rate in zip(stars, self.photons, strict=True):
            if not rate.any():  # old stars, which light none
                out.append(weights)
                continue
            light = jnp.einsum("b...a,ban->b...n", weights @ jnp.asarray(rate, weights.dtype), strengths)
            out.append(jnp.concatenate([weights, light], axis=-1))
        return out[0], out[1]

    def _with_burst(self, model: SPSModel, theta: jax.Array, tables: HistoryTables, smooth: jax.Array) -> jax.Array:
        """Masses on the nodes, burst included; `smooth` ``(batch, ..., nnode)`` is per unit mass of smooth history."""
        # 1 - fburst in the precision given: it decides the light of a galaxy whose burst lies before its birth
        dtype = smooth.dtype
        keep, single = (1 - theta[:, INDEX["fburst"]]).astype(dtype), theta.astype(dtype)
        burst = model.node_masses(single.at[:, INDEX["fburst"]].set(1.0), tables, self.grid).mass
        burst = single[:, INDEX["fburst"], None] * burst
        if smooth.ndim == 3:
            return keep[:, None, None] * smooth + burst[:, None, :]
        return keep[:, None] * smooth + burst

    def _spread(self, mass: jax.Array, logzsol: jax.Array, model: SPSModel) -> tuple[jax.Array, jax.Array]:
        """Masses ``(batch, ..., nnode)`` spread over metallicity, young and old: ``(batch, ..., nmet * nnode)``."""
        hats = _hats(logzsol, model.library.logzsol)
        parts = []
        for k in (slice(0, self.n_young), slice(self.n_young, None)):
            hat, m = hats[..., k], mass[..., None, k]
            weights = (hat[:, None] if m.ndim == 4 else hat) * m
            parts.append(weights.reshape(*weights.shape[:-2], -1))
        return parts[0], parts[1]


def _hats(x: jax.Array, grid: FloatArray) -> jax.Array:
    """Linear interpolation over the metallicity grid at `x` ``(batch, nnode)``: weights ``(batch, nmet, nnode)``.

    As `provabgs.sps.interpolation.hat_weights`, written so that compilers fuse it, and its gradient, into one loop.
    """
    start = jnp.asarray(grid[:-1, None], x.dtype)
    inverse = jnp.asarray(1 / np.diff(grid)[:, None], x.dtype)
    # the step function that ends each hat begins the next: beyond the ends of the grid they are 1 and 0
    begin = (jnp.concatenate([start[:1], start]), jnp.concatenate([jnp.zeros_like(inverse[:1]), inverse]))
    end = (jnp.concatenate([start, start[:1]]), jnp.concatenate([inverse, jnp.zeros_like(inverse[:1])]))
    one = jnp.zeros((len(grid), 1), x.dtype).at[0].set(1.0)
    at = x[:, None, :]
    return jnp.clip((at - begin[0]) * begin[1] + one, 0.0, 1.0) - jnp.clip((at - end[0]) * end[1], 0.0, 1.0)


@lru_cache(maxsize=4)
def merged_nodes(model: SPSModel) -> MergedNodes:
    """`MergedNodes.of`, once per model."""
    return MergedNodes.of(model)


@lru_cache(maxsize=4)
def merged_spectra(model: SPSModel) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Young and old SSPs on the merged nodes, each ``(nmet * nnode, nwave)``, Lsun/Angstrom; once per model.

    Rows of gas come after those of the stars that light it.
    """
    nodes, spectra = merged_nodes(model), model.library.spectrum
    first = np.einsum("j,kjw->kw", nodes.profile, spectra[:, : nodes.n_merged])[:, None]
    merged = np.concatenate([first.astype(np.float32), spectra[:, nodes.n_merged :]], axis=1, dtype=np.float32)
    young, old = (
        part.reshape(-1, spectra.shape[-1]) for part in (merged[:, : nodes.n_young], merged[:, nodes.n_young :])
    )
    if nodes.gas is None or nodes.photons is None:
        return young, old
    parts = zip((young, old), nodes.photons, strict=True)
    with_gas = [np.concatenate([ssps, nodes.gas.spectra]) if rate.any() else ssps for ssps, rate in parts]
    return with_gas[0], with_gas[1]


@lru_cache(maxsize=4)
def merged_spectra_by_wave(model: SPSModel) -> NDArray[np.float32]:
    """`merged_spectra`, young then old, ``(nwave, nssp)``: stretches of wavelength are contiguous."""
    return np.ascontiguousarray(np.concatenate(merged_spectra(model)).T)
