"""From parameters to factors on the emulator's basis functions: all of the model but wavelengths and dust."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from provabgs.core.constants import Z_RANGE_PROVABGS
from provabgs.core.jax import jax, jnp
from provabgs.emulator.encoding import Encoding, encode, gammas
from provabgs.emulator.network import Network, apply_network
from provabgs.emulator.training_spectra import Parts, part_masses
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import Values


class BurstTable(NamedTuple):
    """Bursts: SSPs in the burst basis, on the library's own nodes."""

    log_age: jax.Array
    """``(nnode,)`` ln of age in Gyr, increasing."""
    zh: jax.Array
    """``(2, nnode)`` metallicity bases at the nodes."""
    log_z: jax.Array
    """``(nmet,)`` log10 of metallicity, quoted convention."""
    young: jax.Array
    """``(nnode,)`` 1 for nodes in birth clouds, else 0."""
    table: jax.Array
    """``(nmet * nnode, 1 + ncomponent)`` factors on the basis functions, per Msun formed."""


class EmulatorArrays(NamedTuple):
    """All that evaluation needs besides basis functions; a pytree, single precision."""

    encoding: Encoding
    network: Network
    shift: jax.Array
    """``(noutput,)`` and `scale`: outputs are ``scale * network + shift``, amplitude and components of each part."""
    scale: jax.Array
    burst: BurstTable


class GalaxyMasses(NamedTuple):
    """What depends on the age of the universe at the galaxy; leading axes, if any, are the batch's."""

    t_age: jax.Array
    """``(...)`` Gyr."""
    weight: jax.Array
    """``(..., nbasis)`` `HistoryTables.weight`."""
    young: jax.Array
    """``(..., nbasis)`` share of each basis's mass in young stars, and in `old` ones."""
    old: jax.Array

    @classmethod
    def of(cls, model: SPSModel, t_age: float | np.ndarray) -> GalaxyMasses:
        """Masses of a model's bases for galaxies seen at age `t_age`, Gyr."""
        tables = model.tables(t_age)
        young, old = part_masses(model, tables)
        return cls(*(jnp.asarray(a, jnp.float32) for a in (tables.t_age, tables.weight, young, old)))


class Layout(NamedTuple):
    """Shape of the network's output."""

    parts: Parts
    n_young: int
    """Numbers per young part: amplitude and components."""
    n_old: int
    n_basis: int = 4

    @property
    def n_output(self) -> int:
        """Length of the output vector."""
        return len(self.parts.young) * self.n_young + len(self.parts.old) * self.n_old


class Columns(NamedTuple):
    """Factors on the basis functions per unit mass of each SFH basis, and of the burst."""

    young: jax.Array
    """``(batch, nbasis, n_young)``."""
    old: jax.Array
    """``(batch, nbasis, n_old)``."""
    burst_young: jax.Array
    """``(batch, n_burst)``."""
    burst_old: jax.Array


class Mixed(NamedTuple):
    """Factors on the basis functions of the whole galaxy, per Msun formed."""

    young: jax.Array
    """``(batch, n_young)``."""
    old: jax.Array
    burst_young: jax.Array
    burst_old: jax.Array


def columns(values: Values, masses: GalaxyMasses, arrays: EmulatorArrays, layout: Layout) -> Columns:
    """Evaluate the network and look bursts up; fractions, fburst, dust and mass do not enter.

    Parameters
    ----------
    values
        Parameter values, each ``(batch,)``.
    masses, arrays, layout
        Of the galaxy and of the emulator.

    Returns
    -------
    Columns
        Single precision.
    """
    single = {k: v.astype(jnp.float32) for k, v in values.items()}
    t_age = jnp.broadcast_to(masses.t_age, single["gamma1"].shape)
    x = jnp.concatenate([jnp.log10(gammas(single)), t_age[:, None]], axis=1)
    outputs = arrays.scale * apply_network(arrays.network, encode(x, arrays.encoding)) + arrays.shift
    cut = len(layout.parts.young) * layout.n_young
    young = _spread(outputs[:, :cut], layout.parts.young, layout.n_young, layout.n_basis)
    old = _spread(outputs[:, cut:], layout.parts.old, layout.n_old, layout.n_basis)
    bursts = burst_factors(single, t_age, arrays.burst)
    return Columns(young * masses.young[..., None], old * masses.old[..., None], *bursts)


def mix(values: Values, masses: GalaxyMasses, per_basis: Columns) -> Mixed:
    """Add the bases up by their fractions of the mass, and the burst; values ``(batch,)`` by name."""
    fburst = values["fburst"][:, None]
    keep, fburst = (1 - fburst).astype(jnp.float32), fburst.astype(jnp.float32)
    beta = jnp.stack([values[f"beta{i + 1}"] for i in range(per_basis.young.shape[1])], axis=-1)
    share = beta.astype(jnp.float32) * masses.weight
    share = keep * share / jnp.sum(share, axis=1, keepdims=True)
    young, old = (jnp.sum(share[..., None] * c, axis=1) for c in (per_basis.young, per_basis.old))
    return Mixed(young, old, fburst * per_basis.burst_young, fburst * per_basis.burst_old)


def _spread(outputs: jax.Array, members: tuple[int, ...], size: int, n_basis: int) -> jax.Array:
    """Outputs of the parts that exist to factors for all bases, ``(batch, nbasis, size)``."""
    parts = outputs.reshape(len(outputs), len(members), size)
    factor = jnp.exp(parts[..., :1])
    factors = jnp.concatenate([factor, factor * parts[..., 1:]], axis=-1)
    if members == tuple(range(n_basis)):
        return factors
    return jnp.zeros((len(outputs), n_basis, size), factors.dtype).at[:, jnp.array(members, int)].set(factors)


def burst_factors(values: Values, t_age: jax.Array, burst: BurstTable) -> tuple[jax.Array, jax.Array]:
    """Factors of young and old spectra of one Msun of burst, each ``(batch, n_burst)``: linear between four SSPs."""
    n_node = burst.log_age.shape[0]
    tburst, gamma = values["tburst"], gammas(values)
    node, fraction = _cell(jnp.log(tburst), burst.log_age)
    happened = (tburst <= t_age).astype(fraction.dtype)
    young = old = jnp.zeros((), fraction.dtype)
    for step, weight in ((0, 1 - fraction), (1, fraction)):
        j = node + step
        z = jnp.sum(gamma * burst.zh.T[j], axis=1)
        metal, up = _cell(jnp.log10(jnp.clip(z, *Z_RANGE_PROVABGS)), burst.log_z)
        rows = (1 - up)[:, None] * burst.table[metal * n_node + j] + up[:, None] * burst.table[(metal + 1) * n_node + j]
        light = (happened * weight)[:, None] * rows
        young += burst.young[j][:, None] * light
        old += (1 - burst.young[j])[:, None] * light
    return young, old


def _cell(x: jax.Array, nodes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Interval of increasing `nodes` that holds `x` (clamped at the ends), and the position in it from 0 to 1."""
    index = jnp.sum(x[:, None] >= nodes[1:-1], axis=1)
    low, high = nodes[index], nodes[index + 1]
    return index, jnp.clip((x - low) / (high - low), 0.0, 1.0)
