"""Delayed exponential star formation: ``SFR ~ (a - t) exp(-(a - t) / tau)``, a the lookback time of the first stars.

A parametric history. Its rate falls without end, so that quiescent galaxies may have a log SFR of -30: with `residual`,
a part of the mass forms at a constant rate from the first stars on, as stars may do of the gas that stars give back
(0.5 % of the mass of massive early types is younger than 2 Gyr: Salvador-Rusinol et al. 2020, Nature Astronomy 4, 252).
The rate is taken at knots 50 Myr apart, 10 Myr below 1 Gyr, and linear between them, so that the mass on the SSP ages
is a product of matrices. Moments and curves are those of the formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.sps.histories.base import HistoryTables
from provabgs.sps.histories.bases import HistoryBases
from provabgs.sps.histories.bins import masses_on_nodes
from provabgs.sps.histories.composed import ComposedHistories
from provabgs.sps.histories.metallicity import ZPrior, metallicity_of
from provabgs.sps.parameters import Parameter, Values

KNOTS_GYR = np.concatenate([[1e-3], np.arange(1, 100) * 0.01, np.arange(20, 281) * 0.05])
"""Lookback times at which the rate is taken."""
STEP_GYR = 0.01
"""Their least distance."""
TAU_RANGE_GYR = (0.1, 30.0)
TAU = Parameter(
    name="tau",
    column="TAU",
    symbol=r"\tau",
    unit="Gyr",
    description="e-folding time of the delayed exponential SFR",
    prior="log-uniform",
    bounds=TAU_RANGE_GYR,
)
FIRST_STARS = Parameter(
    name="first_stars",
    column="FIRST_STARS",
    symbol=r"t_{\rm first}/t_{\rm universe}",
    unit="",
    description="lookback time of the first stars over the age of the universe at the galaxy",
    prior="uniform",
    bounds=(0.05, 1.0),
    natural_edges="high",
)


RESIDUAL = Parameter(
    name="residual",
    column="RESIDUAL_SF",
    symbol=r"f_{\rm residual}",
    unit="",
    description="fraction of the mass formed at a constant rate since the first stars, beside the delayed exponential",
    prior="log-uniform",
    bounds=(1e-4, 0.03),
)


class DelayedTau:
    """Star formation of the formula; implements `StarFormation`.

    Parameters
    ----------
    residual
        Whether a free part of the mass forms at a constant rate.
    """

    fractions: tuple[str, ...] = ()
    log_prior_ratio: Callable[[jax.Array], jax.Array] | None = None
    least_t_age_gyr = 0.0
    resolved_gyr = 0.003
    """The rate changes by 3 % over it for the shortest tau."""

    def __init__(self, residual: bool = False) -> None:
        self.parameters: tuple[Parameter, ...] = (TAU, FIRST_STARS, RESIDUAL) if residual else (TAU, FIRST_STARS)

    def tables(self, t_age: Any, node_age: FloatArray) -> HistoryTables:
        """See `Histories.tables`: of constant star formation, since nothing but `t_age` is read.

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
        t_age = np.asarray(t_age, dtype=float)
        start, stop = np.zeros((*t_age.shape, 1)), t_age[..., None]
        recent = [np.minimum(span / stop, 1.0) for span in (0.1, 1.0)]
        mass = masses_on_nodes(start, stop, node_age)
        return HistoryTables(t_age, np.ones_like(stop), mass, recent[0], recent[1], 0.5 * stop)

    def nodes(self, age: FloatArray) -> FloatArray:
        """Mass on each age from a unit rate at each knot, ``(nknot, nage)`` Gyr."""
        tables = _hats().tables(np.asarray(20.0), age, normalisation="joint")
        return tables.mass * tables.weight[:, None]

    @staticmethod
    def _since(values: Values, t_age: Any, time: Any) -> tuple[jax.Array, jax.Array]:
        """Time since the first stars ``(batch, n)`` and tau ``(batch, 1)``, Gyr."""
        first = values["first_stars"] * jnp.asarray(t_age, values["first_stars"].dtype)
        time = jnp.asarray(time, first.dtype)
        return jnp.maximum(first[:, None] - time, 0.0), values["tau"][:, None]

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
        since, tau = self._since(values, tables.t_age, KNOTS_GYR)
        onto = jnp.asarray(nodes, since.dtype)
        delayed = (since * jnp.exp(-since / tau)) @ onto
        delayed = delayed / jnp.sum(delayed, axis=1, keepdims=True)
        if RESIDUAL not in self.parameters:
            return delayed
        constant = jnp.minimum(since / STEP_GYR, 1.0) @ onto  # it begins over a step, as the knots do
        constant = constant / jnp.sum(constant, axis=1, keepdims=True)
        share = values["residual"].astype(since.dtype)[:, None]
        return (1 - share) * delayed + share * constant

    def moments(self, values: Values, tables: HistoryTables) -> tuple[jax.Array, jax.Array, jax.Array]:
        """See `StarFormation.moments`; in closed form.

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
        since, tau = self._since(values, tables.t_age, np.array([0.0, 0.1, 1.0]))
        formed = tau**2 * _gamma2(since / tau)
        total = formed[:, 0]
        x = since[:, 0] / tau[:, 0]
        after = tau[:, 0] * _gamma3(x) / _gamma2(x)  # mean time from the first stars to the others
        delayed = (1 - formed[:, 1] / total, 1 - formed[:, 2] / total, since[:, 0] - after)
        if RESIDUAL not in self.parameters:
            return delayed
        first, share = since[:, 0], values["residual"]
        constant = (jnp.minimum(0.1 / first, 1.0), jnp.minimum(1.0 / first, 1.0), 0.5 * first)
        recent, later, age = ((1 - share) * d + share * c for d, c in zip(delayed, constant, strict=True))
        return recent, later, age

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
        since, tau = self._since({k: jnp.asarray(v) for k, v in values.items()}, t_age, time)
        first = jnp.asarray(values["first_stars"])[:, None] * t_age
        delayed = since * jnp.exp(-since / tau) / (tau**2 * _gamma2(first / tau))
        if RESIDUAL not in self.parameters:
            return np.asarray(delayed)
        share = jnp.asarray(values["residual"])[:, None]
        return np.asarray((1 - share) * delayed + share * (since > 0) / first)


def _gamma2(x: jax.Array) -> jax.Array:
    """Integral of ``y exp(-y)`` from 0 to x; series where the closed form cancels."""
    series = x**2 * (0.5 - x / 3 + x**2 / 8 - x**3 / 30)
    return jnp.where(x < 0.03, series, 1 - (1 + x) * jnp.exp(-x))


def _gamma3(x: jax.Array) -> jax.Array:
    """Integral of ``y^2 exp(-y)`` from 0 to x."""
    series = x**3 * (1 / 3 - x / 4 + x**2 / 10 - x**3 / 36)
    return jnp.where(x < 0.03, series, 2 - (2 + 2 * x + x**2) * jnp.exp(-x))


@lru_cache(maxsize=1)
def _hats() -> HistoryBases:
    """One triangle around each knot."""
    n = KNOTS_GYR.size
    return HistoryBases(KNOTS_GYR, np.eye(n), np.zeros((0, n)))


class DelayedTauHistories(ComposedHistories):
    """Delayed exponential with a metallicity history: ``model.history = "delayed-tau"``.

    Parameters
    ----------
    burst
        Whether a burst of free mass and age is added.
    residual
        Whether a free part of the mass forms at a constant rate: quiescent galaxies then have a log SFR that is known.
    metallicity, z_prior, z_options
        See `metallicity_of`.

    Raises
    ------
    ConfigError
        For an unknown metallicity history or option.
    """

    def __init__(
        self,
        burst: bool = False,
        residual: bool = False,
        metallicity: str = "constant",
        z_prior: ZPrior = "log",
        z_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(DelayedTau(residual), metallicity_of(metallicity, z_prior, z_options), burst)
