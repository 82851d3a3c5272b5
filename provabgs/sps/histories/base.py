"""What a star-formation and metallicity history must offer: the protocol, and the containers that it fills.

A history is linear in the masses of its components (NMF bases, age bins, ...) and anything but linear in its other
parameters (bursts, metallicities). Samplers and the marginalisation of masses know a history by its `LinearBlock`
alone: how many masses there are and what the prior on them is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.sps.parameters import Parameter, Values


class HistoryTables(NamedTuple):
    """All that depends on the age of the universe at the galaxy, per component; leading axes are those of `t_age`.

    Masses are fractions of the mass formed by that component: each component sums to 1 over the nodes.
    """

    t_age: FloatArray
    """``(...,)`` age of the universe at the galaxy, Gyr."""
    weight: FloatArray
    """``(..., ncomponent)`` factor on the fractions before they are renormalised to sum to 1; ones as a rule."""
    mass: FloatArray
    """``(..., ncomponent, nage)`` mass on each age node of the SSP library."""
    formed_100myr: FloatArray
    """``(..., ncomponent)`` fraction formed in the last 0.1 Gyr."""
    formed_1gyr: FloatArray
    """``(..., ncomponent)`` fraction formed in the last 1 Gyr."""
    mean_age: FloatArray
    """``(..., ncomponent)`` mass-weighted age, Gyr."""
    more: Any = ()
    """What else a family needs: a pytree of arrays with the leading axes."""


class Moments(NamedTuple):
    """Integrals of a history per unit of total mass, each ``(batch,)``."""

    formed: jax.Array
    """Mass formed; below 1 where a part of the history lies before the galaxy's birth."""
    formed_100myr: jax.Array
    """Mass formed in the last 0.1 Gyr."""
    formed_1gyr: jax.Array
    """Mass formed in the last 1 Gyr."""
    age: jax.Array
    """Integral of age over the mass formed, Gyr."""


@dataclass(frozen=True)
class LinearBlock:
    """The masses in which spectra are linear, ``a_i = M f_i >= 0``, and their prior.

    The base prior is flat in ln M within its bounds and flat on the simplex of fractions: a density ``M^-n`` in the
    masses. Any other prior enters as an importance weight.

    Attributes
    ----------
    total
        Name of the parameter log10 M (Msun formed).
    fractions
        Names of the fractions f_i, which sum to 1.
    log_prior_ratio
        Ln of the prior over the base prior, as a function of fractions ``(..., n)``; None for the base prior.
    """

    total: str
    fractions: tuple[str, ...]
    log_prior_ratio: Callable[[jax.Array], jax.Array] | None = None

    @property
    def n(self) -> int:
        """Number of masses; one where there are no fractions."""
        return max(1, len(self.fractions))


@runtime_checkable
class Histories(Protocol):
    """Star-formation and metallicity histories of one family.

    `docs/extend.md` has a worked example. Methods that take `values` get arrays by parameter name, each ``(batch,)``,
    and must be traceable by JAX; their precision is that of `tables`.
    """

    parameters: tuple[Parameter, ...]
    """In order: log10 of the total mass, the fractions of the linear block, then the others."""
    linear_block: LinearBlock
    resolved_gyr: float
    """Below this age a history has one profile over the SSP ages whatever its parameters: likelihood backends may
    merge the library's nodes there. 0 merges nothing."""
    least_t_age_gyr: float
    """No galaxy may be seen at a universe younger than this; 0 where any age will do."""

    def tables(self, t_age: Any, node_age: FloatArray) -> HistoryTables:
        """Tables of the quantities that depend on the age of the universe at the galaxy.

        Parameters
        ----------
        t_age
            ``(...)`` age of the universe at the galaxy, Gyr.
        node_age
            ``(nage,)`` ages of the SSP library, Gyr.

        Returns
        -------
        HistoryTables
            With the leading axes of `t_age`.
        """
        ...

    def nodes(self, age: FloatArray, metallicity_age: FloatArray) -> Any:
        """What the methods below need of a set of age nodes.

        Parameters
        ----------
        age
            ``(nage,)`` ages that masses fall on, Gyr.
        metallicity_age
            ``(nage,)`` ages at which Z(t) is taken for these nodes, Gyr.

        Returns
        -------
        Any
            A pytree, handed to the methods below as `nodes`.
        """
        ...

    def component_masses(self, values: Values, tables: HistoryTables, nodes: Any) -> jax.Array:
        """Mass on the nodes that a unit mass of each component brings.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        tables
            From `tables`, for one galaxy or one per batch entry.
        nodes
            From `nodes`.

        Returns
        -------
        jax.Array
            ``(batch, ncomponent, nage)``.
        """
        ...

    def node_masses(self, values: Values, tables: HistoryTables, nodes: Any) -> jax.Array:
        """Mass on the nodes per unit of total mass.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        tables
            From `tables`, for one galaxy or one per batch entry.
        nodes
            From `nodes`.

        Returns
        -------
        jax.Array
            ``(batch, nage)``.
        """
        ...

    def metallicity(self, values: Values, tables: HistoryTables, nodes: Any) -> jax.Array:
        """Absolute metallicity of the stars of each node's age.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``. Those of the linear block must not matter.
        tables
            From `tables`, for one galaxy or one per batch entry.
        nodes
            From `nodes`.

        Returns
        -------
        jax.Array
            ``(batch, nage)`` absolute Z, quoted convention (PROVABGS: solar is 0.0190).
        """
        ...

    def moments(self, values: Values, tables: HistoryTables) -> Moments:
        """Integrals from which SFR and mean age follow.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        tables
            From `tables`, for one galaxy or one per batch entry.

        Returns
        -------
        Moments
            Each ``(batch,)``, per unit of total mass.
        """
        ...

    def curves(self, values: Values, t_age: float, time: FloatArray) -> tuple[FloatArray, FloatArray]:
        """SFR and metallicity against lookback time, for plots.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        t_age
            Age of the universe at the galaxy, Gyr.
        time
            ``(n,)`` lookback times from the galaxy, Gyr.

        Returns
        -------
        sfr
            ``(batch, n)`` Msun/yr per Msun formed.
        z
            ``(batch, n)`` absolute Z.
        """
        ...


def fractions(block: LinearBlock, values: Values, tables: HistoryTables) -> jax.Array:
    """Fraction of each component in the mass, ``(batch, ncomponent)``, summing to 1.

    Parameters
    ----------
    block
        The linear block.
    values
        Parameter values, each ``(batch,)``.
    tables
        For one galaxy, or one per batch entry.

    Returns
    -------
    jax.Array
        ``(batch, ncomponent)``.
    """
    if not block.fractions:
        return jnp.ones((*jnp.shape(values[block.total]), 1), jnp.asarray(values[block.total]).dtype)
    share = jnp.stack([values[n] for n in block.fractions], axis=-1)
    share = share * jnp.asarray(tables.weight, dtype=share.dtype)
    return share / jnp.sum(share, axis=1, keepdims=True)


def mix(share: jax.Array, per_component: Any) -> jax.Array:
    """Sum over components.

    Parameters
    ----------
    share
        ``(batch, ncomponent)`` fraction of each component in the mass.
    per_component
        One table ``(ncomponent, n)``, or one per batch entry ``(batch, ncomponent, n)``.

    Returns
    -------
    jax.Array
        ``(batch, n)``.
    """
    table = jnp.asarray(per_component, dtype=share.dtype)
    return share @ table if table.ndim == 2 else jnp.einsum("bi,bij->bj", share, table)


def mean(share: jax.Array, per_component: Any) -> jax.Array:
    """Mass-weighted mean over components, ``sum_i f_i x_i``.

    Parameters
    ----------
    share
        ``(batch, ncomponent)`` fraction of each component in the mass.
    per_component
        x, ``(ncomponent,)`` or ``(batch, ncomponent)``.

    Returns
    -------
    jax.Array
        ``(batch,)``, the unit of x.
    """
    return jnp.sum(share * jnp.asarray(per_component), axis=-1)


class SmoothHistories:
    """Default methods of a history that is nothing but its linear components and a metallicity history.

    A subclass gives `parameters`, `linear_block`, `tables`, `nodes`, `metallicity` and `curves`.
    """

    linear_block: LinearBlock
    resolved_gyr: float = 0.0
    least_t_age_gyr: float = 0.0

    def component_masses(self, values: Values, tables: HistoryTables, nodes: Any) -> jax.Array:
        """See `Histories.component_masses`.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``; give the batch size.
        tables
            From `tables`.
        nodes
            Not used.

        Returns
        -------
        jax.Array
            ``(batch, ncomponent, nage)``.
        """
        del nodes
        mass = jnp.asarray(tables.mass)
        batch = len(values[self.linear_block.total])
        return jnp.broadcast_to(mass, (batch, *mass.shape[-2:]))

    def node_masses(self, values: Values, tables: HistoryTables, nodes: Any) -> jax.Array:
        """See `Histories.node_masses`.

        Parameters
        ----------
        values
            The fractions of the linear block, each ``(batch,)``.
        tables
            From `tables`.
        nodes
            Not used.

        Returns
        -------
        jax.Array
            ``(batch, nage)``.
        """
        del nodes
        return mix(fractions(self.linear_block, values, tables), tables.mass)

    def moments(self, values: Values, tables: HistoryTables) -> Moments:
        """See `Histories.moments`; all mass is formed after the galaxy's birth.

        Parameters
        ----------
        values
            The fractions of the linear block, each ``(batch,)``.
        tables
            From `tables`.

        Returns
        -------
        Moments
            Each ``(batch,)``, per unit of total mass.
        """
        share = fractions(self.linear_block, values, tables)
        within = (mean(share, x) for x in (tables.formed_100myr, tables.formed_1gyr, tables.mean_age))
        return Moments(jnp.ones(len(share), share.dtype), *within)
