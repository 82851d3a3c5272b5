"""Age nodes of the compressed likelihood: the youngest are merged into one, for fewer SSPs to sum."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.jax import jax, jnp
from provabgs.sps.composite import Parts
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import Values

TYPICAL_AGE_GYR = 13.0
"""Age of the universe at which the profile of the merged nodes is taken."""


class MergedNodes(NamedTuple):
    """The library's age nodes with those merged that a history does not resolve (`Histories.resolved_gyr`).

    Over these ages a history's components are constant and so is Z(t), so that one profile and one metallicity serve
    all. Emission that stars power adds rows after the SSPs of young and of old stars.
    """

    n_merged: int
    """Number of nodes merged."""
    profile: FloatArray
    """``(n_merged,)`` fraction of each merged node in the mass that star formation puts on them; sums to 1."""
    nodes: Any
    """Of `Histories.nodes`, on the merged ages."""
    n_young: int
    """Young nodes left; the others are old."""
    supplies: tuple[Parts, ...] = ()
    """Per stellar emission: supply of young and old SSPs, each ``(nmet * nnode, nchannel)``; None for no supply."""

    @classmethod
    def of(cls, model: SPSModel) -> MergedNodes:
        """Merge the nodes of a model."""
        age = model.library.age_gyr
        n = int(np.searchsorted(age, model.histories.resolved_gyr * (1 + 1e-6), side="right")) - 1
        n = max(n, 1)
        mass = np.asarray(model.tables(TYPICAL_AGE_GYR).mass)[:, :n].sum(axis=0)
        profile = mass / mass.sum() if mass.sum() > 0 else np.full(n, 1 / n)
        # Z(t) is constant over the merged ages: the age that holds most of the mass stands for all
        typical = int(np.argmax(profile))
        nodes = model.histories.nodes(age[n - 1 :], np.concatenate([age[[typical]], age[n:]]))
        n_young = model.young_nodes.stop - n + 1
        supplies = []
        for e in model.stellar_emissions:
            assert e.supply is not None
            first = np.einsum("j,kja->ka", profile, e.supply[:, :n])[:, None]
            merged = np.concatenate([first, e.supply[:, n:]], axis=1).astype(np.float32)
            pair = (part.reshape(-1, part.shape[-1]) for part in np.split(merged, [n_young], axis=1))
            supplies.append(Parts(*(part if part.any() else None for part in pair)))
        return cls(n, profile, nodes, n_young, tuple(supplies))

    def tables(self, tables: HistoryTables) -> HistoryTables:
        """History tables on the merged nodes."""
        first = tables.mass[..., : self.n_merged].sum(axis=-1, keepdims=True)
        return tables._replace(mass=np.concatenate([first, tables.mass[..., self.n_merged :]], axis=-1))

    def weights(self, model: SPSModel, values: Values, tables: HistoryTables) -> Parts:
        """Weights on `merged_spectra`.

        Parameters
        ----------
        model
            The SPS model.
        values
            Parameter values by name, each ``(batch,)``.
        tables
            History tables on the merged nodes (`MergedNodes.tables`); their precision is kept.

        Returns
        -------
        Parts
            Each ``(batch, nrow)``, mass per unit of total mass.
        """
        return self._rows(model, values, tables, model.histories.node_masses(values, tables, self.nodes))

    def component_weights(self, model: SPSModel, values: Values, tables: HistoryTables) -> Parts:
        """Weights on `merged_spectra` of a unit mass of each component.

        Parameters
        ----------
        model
            The SPS model.
        values
            Parameter values by name, each ``(batch,)``.
        tables
            History tables on the merged nodes (`MergedNodes.tables`); their precision is kept.

        Returns
        -------
        Parts
            Each ``(batch, ncomponent, nrow)``.
        """
        return self._rows(model, values, tables, model.histories.component_masses(values, tables, self.nodes))

    def _rows(self, model: SPSModel, values: Values, tables: HistoryTables, mass: jax.Array) -> Parts:
        """Masses ``(batch, ..., nnode)`` spread over metallicity, with the rows of emission after those of stars."""
        dtype = jnp.asarray(tables.mass).dtype
        logzsol = model.logzsol({k: v.astype(dtype) for k, v in values.items()}, tables, self.nodes)
        hats = _hats(logzsol, model.library.logzsol)
        out = []
        for k, nodes in enumerate((slice(0, self.n_young), slice(self.n_young, None))):
            hat, m = hats[..., nodes], mass[..., None, nodes]
            stars = (hat[:, None] if m.ndim == 4 else hat) * m
            stars = stars.reshape(*stars.shape[:-2], -1)
            rows = [stars]
            for e, supply in zip(model.stellar_emissions, self.supplies, strict=True):
                if supply[k] is not None:
                    power = stars @ jnp.asarray(supply[k], stars.dtype)
                    rows.append(jnp.einsum("b...a,ban->b...n", power, e.emission.strengths(values)))
            out.append(jnp.concatenate(rows, axis=-1) if len(rows) > 1 else stars)
        return Parts(*out)


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
def merged_spectra(model: SPSModel) -> Parts:
    """Young and old SSPs on the merged nodes, each ``(nmet * nnode, nwave)``, Lsun/Angstrom; once per model.

    Rows of emission come after those of the stars that power it.
    """
    return _merged(model, model.library.spectrum, [e.rows for e in model.stellar_emissions])


def merged_unseen(model: SPSModel) -> Parts | None:
    """Light beyond the library in the rows of `merged_spectra`, each ``(nrow, ncell)``, Lsun; None for none."""
    if model.unseen is None:
        return None
    cells = model.unseen.wave.size
    return _merged(model, model.unseen.light, [np.zeros((len(e.rows), cells)) for e in model.stellar_emissions])


def _merged(model: SPSModel, light: FloatArray | SingleArray, emitted: list[Any]) -> Parts:
    """Light of SSPs ``(nmet, nage, n)`` on the merged nodes, then that of emissions, each ``(nrow, n)``."""
    nodes = merged_nodes(model)
    first = np.einsum("j,kjw->kw", nodes.profile, light[:, : nodes.n_merged])[:, None]
    merged = np.concatenate([first.astype(np.float32), light[:, nodes.n_merged :]], axis=1, dtype=np.float32)
    out = []
    for k, part in enumerate((merged[:, : nodes.n_young], merged[:, nodes.n_young :])):
        rows = [r for r, supply in zip(emitted, nodes.supplies, strict=True) if supply[k] is not None]
        out.append(np.concatenate([part.reshape(-1, light.shape[-1]), *rows], dtype=np.float32))
    return Parts(*out)


@lru_cache(maxsize=4)
def merged_spectra_by_wave(model: SPSModel) -> SingleArray:
    """`merged_spectra`, young then old, ``(nwave, nssp)``: stretches of wavelength are contiguous."""
    return np.ascontiguousarray(np.concatenate(merged_spectra(model)).T)


@lru_cache(maxsize=4)
def reemitted_rows(model: SPSModel) -> SingleArray | None:
    """Rows of all emissions that dust powers, ``(nrow, nwave)``; None for none."""
    return np.concatenate([e.rows for e in model.dust_emissions]) if model.dust_emissions else None
