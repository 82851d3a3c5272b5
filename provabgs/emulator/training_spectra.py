"""What the emulator learns: spectra of one SFH basis at a time, young and old stars apart, without dust.

The model is linear in mass and analytic in dust. What is left to learn is, for each SFH basis, the spectrum of its
young and of its old stars as a function of (gamma1, gamma2, t_age), and that of a burst as a function of (tburst, Z).
The second is a table already: SSPs are linear in log age and log Z between the nodes of the library.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.emulator.encoding import PARAMETERS
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel

NEGLIGIBLE_MASS = 1e-12
"""A basis whose young (old) mass fraction never exceeds this is given no young (old) output in the network."""


class Parts(NamedTuple):
    """Which SFH bases have young and old stars: the blocks of the network's output, young ones first."""

    young: tuple[int, ...]
    old: tuple[int, ...]

    @classmethod
    def of(cls, model: SPSModel, t_age: tuple[float, float]) -> Parts:
        """Parts of a model between two ages of the universe, Gyr."""
        mass = part_masses(model, model.tables(np.linspace(*t_age, 16)))
        young, old = (np.flatnonzero(m.max(axis=0) > NEGLIGIBLE_MASS) for m in mass)
        return cls(tuple(int(i) for i in young), tuple(int(i) for i in old))


def part_masses(model: SPSModel, tables: HistoryTables) -> tuple[FloatArray, FloatArray]:
    """Share of each basis's mass in young and old stars, each ``(..., nbasis)``."""
    mass = np.asarray(tables.mass)
    return mass[..., model.young_nodes].sum(axis=-1), mass[..., model.old_nodes].sum(axis=-1)


def draw_inputs(n: int, low: FloatArray, high: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Inputs of the network over its range, ``(n, 3)``: the prior, flat in log gamma and in t_age."""
    return rng.uniform(low, high, (n, len(low)))


def smooth_ranges(t_age: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """Training range of `SMOOTH_INPUTS`: the published prior's, and ages of the universe in Gyr."""
    edges = [np.log10(PARAMETERS[n].bounds) for n in ("gamma1", "gamma2")] + [np.asarray(t_age)]
    return np.array([e[0] for e in edges]), np.array([e[1] for e in edges])


def smooth_spectra(model: SPSModel, parts: Parts, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Spectra per unit mass of each part.

    Parameters
    ----------
    x
        ``(n, 3)`` inputs.

    Returns
    -------
    young, old
        ``(n, npart, nwave)`` Lsun/Angstrom per Msun formed *in that part*.
    """
    tables = model.tables(x[:, 2])
    masses = part_masses(model, tables)
    out: list[list[FloatArray]] = [[], []]
    for i in sorted({*parts.young, *parts.old}):
        metals = {"gamma1": 10.0 ** x[:, 0], "gamma2": 10.0 ** x[:, 1]}
        theta = model.parameters.theta({f"beta{i + 1}": 1.0, "tburst": 1.0, **metals}, default=0.0)
        spectra = _unattenuated(model)(jnp.asarray(theta), tables, model.flat_spectra)
        for k, members in enumerate(parts):
            if i in members:
                out[k].append(np.asarray(spectra[k], np.float64) / masses[k][:, i, None])
    young, old = (np.stack(s, axis=1) if s else np.zeros((len(x), 0, model.library.wave.size)) for s in out)
    return young, old


@lru_cache(maxsize=4)
def _unattenuated(model: SPSModel) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """`SPSModel.unattenuated`, compiled once per model."""
    return jax.jit(model.unattenuated)


def burst_nodes(model: SPSModel, youngest_gyr: float) -> tuple[slice, FloatArray]:
    """Age nodes that bursts older than `youngest_gyr` reach, and their SSPs ``(nmet, nnode, nwave)``."""
    first = int(np.searchsorted(model.library.age_gyr, youngest_gyr * (1 + 1e-6), side="right")) - 1
    nodes = slice(max(first, 0), model.library.log_age.size)
    return nodes, model.library.spectrum[:, nodes].astype(np.float64)
