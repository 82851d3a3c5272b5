"""A history put together: star formation, a burst on top of it or none, and a metallicity history.

Spectra are linear in the masses of the components of star formation (bases, age bins), which are then the linear block,
unless the metallicity follows the masses: the fractions of the components are sampled in that case, and so are those of
a prior that draws them from other parameters. The total mass is always linear.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError
from provabgs.core.jax import jax, jnp
from provabgs.sps.histories.base import HistoryTables, LinearBlock, Moments, mean, mix
from provabgs.sps.histories.metallicity import Metallicity
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.parameters import Parameter, Values

BURST_RANGE_GYR = (0.01, 13.27)
"""Range of the burst's age in the published prior."""
ENRICHED_GYR = 0.003
"""Z that follows the masses is not constant in starbursts: over 30 Myr it errs by nats of ln L, over this by 0.02."""
TOTAL_MASS = Parameter(
    name="logmstar",
    column="LOGMSTAR_FORMED",
    symbol=r"\log_{10} M_{\rm formed}/M_\odot",
    unit="dex(Msun)",
    description="log10 of the stellar mass formed",
    prior="uniform",
    bounds=(7.0, 12.5),
    role="linear",
)
FRACTION_OF_BURST = Parameter(
    name="fburst",
    column="FBURST",
    symbol=r"f_{\rm burst}",
    unit="",
    description="fraction of the formed mass in one burst",
    prior="uniform",
    bounds=(0.0, 1.0),
    natural_edges="both",
    matters_when_small=True,
)
AGE_OF_BURST = Parameter(
    name="tburst",
    column="TBURST",
    symbol=r"t_{\rm burst}",
    unit="Gyr",
    description="lookback time of the burst",
    prior="uniform",
    bounds=BURST_RANGE_GYR,
    natural_edges="low",
    matters_when_small=True,
)


class StarFormation(Protocol):
    """Smooth star formation of one family, per unit of mass; see `Components` for one of linear components."""

    parameters: tuple[Parameter, ...]
    """The fractions of the components first, where there are such."""
    fractions: tuple[str, ...]
    """Names of parameters that are the components' fractions; none where other parameters decide about them."""
    log_prior_ratio: Callable[[jax.Array], jax.Array] | None
    """See `LinearBlock`."""
    resolved_gyr: float
    """See `Histories`."""
    least_t_age_gyr: float
    """See `Histories`."""

    def tables(self, t_age: Any, node_age: FloatArray) -> HistoryTables:
        """See `Histories.tables`.

        Parameters
        ----------
        t_age
            Age of the universe at the galaxy, Gyr; any shape.
        node_age
            ``(nage,)`` ages of the SSP library, Gyr.

        Returns
        -------
        HistoryTables
            With the leading axes of `t_age`.
        """
        ...

    def nodes(self, age: FloatArray) -> Any:
        """What `masses` needs of the ages ``(nage,)``, Gyr, that masses fall on."""
        ...

    def masses(self, values: Values, tables: HistoryTables, nodes: Any) -> jax.Array:
        """Mass on the nodes ``(batch, nage)``, 1 in sum.

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
            ``(batch, nage)``, 1 in sum.
        """
        ...

    def moments(self, values: Values, tables: HistoryTables) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Fractions formed in the last 0.1 and 1 Gyr, and mean age in Gyr, each ``(batch,)``.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        tables
            From `tables`, for one galaxy or one per batch entry.

        Returns
        -------
        tuple of jax.Array
            Fractions formed in the last 0.1 and 1 Gyr, and mean age in Gyr, each ``(batch,)``.
        """
        ...

    def rate(self, values: Values, t_age: float, time: FloatArray) -> FloatArray:
        """Star-formation rate ``(batch, n)`` at lookback times ``(n,)``, 1/Gyr.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        t_age
            Age of the universe at the galaxy, Gyr; any shape.
        time
            ``(n,)`` lookback times from the galaxy, Gyr.

        Returns
        -------
        FloatArray
            ``(batch, n)`` 1/Gyr.
        """
        ...


class Components:
    """Default methods of star formation in linear components: a subclass gives `shares` and `component_rates`."""

    log_prior_ratio: Callable[[jax.Array], jax.Array] | None = None
    least_t_age_gyr: float = 0.0

    def shares(self, values: Values, tables: HistoryTables) -> jax.Array:
        """Fraction of each component in the mass, ``(batch, ncomponent)``, 1 in sum.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        tables
            From `tables`, for one galaxy or one per batch entry.

        Returns
        -------
        jax.Array
            ``(batch, n)``, 1 in sum.
        """
        raise NotImplementedError

    def component_rates(self, t_age: float, time: FloatArray) -> FloatArray:
        """Rate of each component per unit of its mass, ``(ncomponent, n)``, 1/Gyr.

        Parameters
        ----------
        t_age
            Age of the universe at the galaxy, Gyr; any shape.
        time
            ``(n,)`` lookback times from the galaxy, Gyr.

        Returns
        -------
        FloatArray
            ``(ncomponent, n)`` 1/Gyr.
        """
        raise NotImplementedError

    def tables(self, t_age: Any, node_age: FloatArray) -> HistoryTables:
        """See `Histories.tables`.

        Parameters
        ----------
        t_age
            Age of the universe at the galaxy, Gyr; any shape.
        node_age
            ``(nage,)`` ages of the SSP library, Gyr.

        Returns
        -------
        HistoryTables
            With the leading axes of `t_age`.
        """
        raise NotImplementedError

    def nodes(self, age: FloatArray) -> None:
        """Nothing: tables hold the masses on the nodes."""
        del age

    def masses(self, values: Values, tables: HistoryTables, nodes: Any) -> jax.Array:
        """See `StarFormation.masses`.

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
            ``(batch, nage)``, 1 in sum.
        """
        del nodes
        return mix(self.shares(values, tables), tables.mass)

    def moments(self, values: Values, tables: HistoryTables) -> tuple[jax.Array, jax.Array, jax.Array]:
        """See `StarFormation.moments`.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        tables
            From `tables`, for one galaxy or one per batch entry.

        Returns
        -------
        tuple of jax.Array
            Fractions formed in the last 0.1 and 1 Gyr, and mean age in Gyr, each ``(batch,)``.
        """
        share = self.shares(values, tables)
        return (
            mean(share, tables.formed_100myr),
            mean(share, tables.formed_1gyr),
            mean(share, tables.mean_age),
        )

    def rate(self, values: Values, t_age: float, time: FloatArray) -> FloatArray:
        """See `StarFormation.rate`.

        Parameters
        ----------
        values
            Parameter values by name, each ``(batch,)``.
        t_age
            Age of the universe at the galaxy, Gyr; any shape.
        time
            ``(n,)`` lookback times from the galaxy, Gyr.

        Returns
        -------
        FloatArray
            ``(batch, n)`` 1/Gyr.
        """
        tables = self.tables(t_age, np.array([1e-3, 20.0]))
        share = self.shares({k: jnp.asarray(v) for k, v in values.items()}, tables)
        return np.asarray(share) @ self.component_rates(t_age, time)


class Nodes(NamedTuple):
    """Age nodes as the parts of a history need them."""

    log_age: FloatArray
    """``(nage,)`` ln of the age in Gyr that masses fall on."""
    stars: Any
    metallicity: Any


class ComposedHistories:
    """Star formation, a burst or none, and metallicities; implements `Histories`.

    Parameters
    ----------
    stars
        Smooth star formation.
    metallicity
        Metallicity history.
    burst
        Whether a burst of free mass and age is added.

    Raises
    ------
    ConfigError
        For a prior on fractions that enters as a weight, where the fractions are sampled.
    """

    def __init__(self, stars: StarFormation, metallicity: Metallicity, burst: bool) -> None:
        self.stars, self.metals, self.burst = stars, metallicity, burst
        sampled = metallicity.follows_masses
        if sampled and stars.log_prior_ratio is not None:
            raise ConfigError(
                "model.history_options: a metallicity that follows the masses goes with a flat prior on the fractions, "
                "or with 'continuity' or 'stochastic'"
            )
        own = tuple(replace(p, role="shape") if sampled and p.role == "linear" else p for p in stars.parameters)
        more = (FRACTION_OF_BURST, AGE_OF_BURST) if burst else ()
        self.parameters = (TOTAL_MASS, *own, *more, *metallicity.parameters)
        self.linear_block = LinearBlock(
            TOTAL_MASS.name, () if sampled else stars.fractions, None if sampled else stars.log_prior_ratio
        )
        self.least_t_age_gyr = stars.least_t_age_gyr
        resolved = (
            stars.resolved_gyr,
            *((BURST_RANGE_GYR[0],) if burst else ()),
            *((ENRICHED_GYR,) if sampled else ()),
        )
        self.resolved_gyr = min(resolved)

    def tables(self, t_age: Any, node_age: FloatArray) -> HistoryTables:
        """See `Histories.tables`; computed on the host in double precision.

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
        return self.stars.tables(t_age, node_age)

    def nodes(self, age: FloatArray, metallicity_age: FloatArray) -> Nodes:
        """See `Histories.nodes`.

        Parameters
        ----------
        age
            ``(nage,)`` ages that masses fall on, Gyr.
        metallicity_age
            ``(nage,)`` ages at which Z(t) is taken, Gyr.

        Returns
        -------
        Nodes
            Double precision.
        """
        return Nodes(np.log(age), self.stars.nodes(age), self.metals.nodes(metallicity_age))

    def component_masses(self, values: Values, tables: HistoryTables, nodes: Nodes) -> jax.Array:
        """See `Histories.component_masses`: each component carries its own part of the burst.

        Parameters
        ----------
        values
            Parameter values, each ``(batch,)``.
        tables
            From `tables`.
        nodes
            From `nodes`.

        Returns
        -------
        jax.Array
            ``(batch, ncomponent, nage)``; one component where the fractions are sampled.
        """
        if not self.linear_block.fractions:
            return self.node_masses(values, tables, nodes)[:, None]
        mass = jnp.asarray(tables.mass)
        table = mass[None] if mass.ndim == 2 else mass
        if not self.burst:
            return jnp.broadcast_to(table, (len(values[TOTAL_MASS.name]), *table.shape[1:]))
        keep, burst = self._burst(values, tables, nodes, mass.dtype)
        return keep[:, None, None] * table + burst[:, None, :]

    def node_masses(self, values: Values, tables: HistoryTables, nodes: Nodes) -> jax.Array:
        """See `Histories.node_masses`; below 1 in sum if the burst lies before the galaxy's birth.

        Parameters
        ----------
        values
            Parameter values, each ``(batch,)``.
        tables
            From `tables`.
        nodes
            From `nodes`.

        Returns
        -------
        jax.Array
            ``(batch, nage)``.
        """
        dtype = jnp.asarray(tables.mass).dtype
        single = {p.name: values[p.name].astype(dtype) for p in self.stars.parameters}
        smooth = self.stars.masses(single, tables, nodes.stars)
        if not self.burst:
            return smooth
        keep, burst = self._burst(values, tables, nodes, dtype)
        return keep[:, None] * smooth + burst

    def _burst(self, values: Values, tables: HistoryTables, nodes: Nodes, dtype: Any) -> tuple[jax.Array, jax.Array]:
        """Fraction of the smooth part ``(batch,)``, and the burst on the nodes ``(batch, nage)``."""
        # 1 - fburst in the precision given: it decides the flux of a galaxy whose burst lies before its birth
        keep = (1 - values["fburst"]).astype(dtype)
        fburst, tburst = values["fburst"].astype(dtype), values["tburst"].astype(dtype)
        burst = fburst[:, None] * hat_weights(jnp.log(tburst), nodes.log_age)
        return keep, jnp.where((tburst <= tables.t_age)[:, None], burst, 0.0)

    def metallicity(self, values: Values, tables: HistoryTables, nodes: Nodes) -> jax.Array:
        """See `Histories.metallicity`.

        Parameters
        ----------
        values
            Parameter values, each ``(batch,)``.
        tables
            From `tables`.
        nodes
            From `nodes`.

        Returns
        -------
        jax.Array
            ``(batch, nage)`` absolute Z.
        """
        formed = formed_before(self.node_masses(values, tables, nodes)) if self.metals.follows_masses else None
        return self.metals.at(values, nodes.metallicity, formed)

    def moments(self, values: Values, tables: HistoryTables) -> Moments:
        """See `Histories.moments`. A burst older than the galaxy never happened and counts nowhere.

        Parameters
        ----------
        values
            Parameter values, each ``(batch,)``.
        tables
            From `tables`.

        Returns
        -------
        Moments
            Each ``(batch,)``, per unit of total mass.
        """
        young, recent, age = self.stars.moments(values, tables)
        if not self.burst:
            return Moments(jnp.ones_like(age), young, recent, age)
        fburst, tburst = values["fburst"], values["tburst"]
        happened = jnp.where(tburst <= tables.t_age, fburst, 0.0)
        smooth = 1 - fburst
        young, recent = (
            smooth * within + jnp.where(tburst < span, happened, 0.0) for span, within in ((0.1, young), (1.0, recent))
        )
        return Moments(smooth + happened, young, recent, smooth * age + happened * tburst)

    def curves(
        self, values: Values, t_age: float, time: FloatArray, burst_width_gyr: float = 0.2
    ) -> tuple[FloatArray, FloatArray]:
        """See `Histories.curves`. The burst is drawn as a top hat whose area is its mass.

        Parameters
        ----------
        values
            Parameter values, each ``(batch,)``.
        t_age
            Age of the universe at the galaxy, Gyr.
        time
            ``(n,)`` lookback times from the galaxy, Gyr.
        burst_width_gyr
            Width of the top hat, Gyr.

        Returns
        -------
        sfr
            ``(batch, n)`` Msun/yr per Msun formed.
        z
            ``(batch, n)`` absolute Z.
        """
        values = {k: np.asarray(v) for k, v in values.items()}
        rate = self.stars.rate(values, t_age, time)
        if self.burst:
            fburst, tburst = values["fburst"][:, None], values["tburst"][:, None]
            low = np.maximum(tburst - burst_width_gyr / 2, 0.0)
            inside = (time >= low) & (time < low + burst_width_gyr) & (tburst <= t_age)
            rate = (1 - fburst) * rate + fburst * inside / burst_width_gyr
        formed = None
        if self.metals.follows_masses:
            fine = np.geomspace(1e-4, t_age, 500)
            masses = self.node_masses(
                {k: jnp.asarray(v) for k, v in values.items()}, self.tables(t_age, fine), self.nodes(fine, fine)
            )
            on_fine = np.asarray(formed_before(masses))
            formed = jnp.asarray(np.stack([np.interp(time, fine, row) for row in on_fine]))
        z = self.metals.at({k: jnp.asarray(v) for k, v in values.items()}, self.metals.nodes(time), formed)
        return rate / 1e9, np.asarray(z)


def formed_before(masses: jax.Array) -> jax.Array:
    """Fraction of the mass that is older than the stars of each node, half of their own included.

    Parameters
    ----------
    masses
        ``(batch, nage)`` on nodes of increasing age.

    Returns
    -------
    jax.Array
        ``(batch, nage)``, 0 to 1.
    """
    younger = jnp.cumsum(masses, axis=-1)
    total = jnp.maximum(younger[..., -1:], 1e-30)
    return jnp.clip(1.0 - (younger - 0.5 * masses) / total, 0.0, 1.0)
