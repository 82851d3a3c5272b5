"""The density that the inference prior induces on derived properties, tabulated: population sums divide by it.

Two symmetries keep the tables small and their tails well sampled.

- The prior on log formed mass is flat, and the shape of a history does not depend on mass. When a mass is among the
  properties, SFRs are tabulated per unit mass and the density of the mass is a constant. The constant is exact for the
  formed mass; for the surviving mass it fails within 0.5 dex of the edges of the prior.
- Ages are tabulated as a fraction of the age of the universe. The density of the fraction varies slowly with redshift
  and is interpolated between tables at a few redshifts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.catalog import expression
from provabgs.catalog.columns import LOG_PROB
from provabgs.catalog.names import sample_names
from provabgs.core.arrays import FloatArray, draws_and_redshifts
from provabgs.core.errors import InputError
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.learnt.coordinates import AGES
from provabgs.observe.cosmology import Cosmology
from provabgs.population.prior.density_table import DensityTable, JointTable, tabulate, tabulate_joint
from provabgs.population.prior.draws import age_of_universe, draw_properties, prior_of, schema_of

MASSES = ("LOGMSTAR", "LOGMSTAR_FORMED")
SFRS = ("LOGSFR_100MYR", "LOGSFR_1GYR")
NODES = (0.01, 0.15, 0.30, 0.45, 0.60)
"""Redshifts at which tables are made."""
N_DRAWS = 200_000
"""Prior draws per redshift."""


@dataclass(frozen=True)
class PriorCoordinates:
    """The coordinates in which the prior of some properties is tabulated.

    Attributes
    ----------
    names
        Sample columns, one to three.

    Raises
    ------
    InputError
        For repeated names, or more properties than can be tabulated.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or not 1 <= len(self.names) <= 3:
            raise InputError(f"properties {self.names}: give one to three different ones")
        if len(self.rest) > 2:
            raise InputError(f"properties {self.names}: three are possible only with a mass among them")

    @property
    def mass(self) -> int | None:
        """Position of a mass that is flat by symmetry: one that does not stand alone."""
        found = [i for i, n in enumerate(self.names) if n in MASSES]
        return found[0] if len(found) == 1 and len(self.names) > 1 else None

    @property
    def rest(self) -> tuple[int, ...]:
        """Positions of the others."""
        return tuple(i for i in range(len(self.names)) if i != self.mass)

    def __call__(self, values: FloatArray, t_age: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Coordinates of properties.

        Parameters
        ----------
        values
            ``(..., d)`` properties, in the order of `names`.
        t_age
            Age of the universe, Gyr; broadcasts to ``(...)``.

        Returns
        -------
        coordinates
            ``(..., k)``; a mass that is flat by symmetry is not among them.
        log_jacobian
            ``(...)`` ln |d coordinates / d properties|.
        """
        age = np.broadcast_to(np.asarray(t_age, dtype=np.float64), values.shape[:-1])
        columns, jacobian = [], np.zeros(values.shape[:-1])
        for i in self.rest:
            v = values[..., i]
            if self.mass is not None and self.names[i] in SFRS:
                v = v - values[..., self.mass]
            elif self.names[i] in AGES:
                v, jacobian = v / age, jacobian - np.log(age)
            columns.append(v)
        return np.stack(columns, axis=-1), jacobian


@dataclass(frozen=True, eq=False)
class InducedPrior:
    """p0 of some properties, as a function of redshift.

    Attributes
    ----------
    names
        Sample columns, one to three.
    config
        Whose prior it is.
    redshifts
        Nodes.
    tables
        One per node.
    """

    names: tuple[str, ...]
    config: FitConfig
    redshifts: tuple[float, ...]
    tables: tuple[DensityTable | JointTable, ...]

    @classmethod
    def build(
        cls,
        names: tuple[str, ...] | list[str],
        config: FitConfig | None = None,
        *,
        z_range: tuple[float, float] = (NODES[0], NODES[-1]),
        n: int = N_DRAWS,
        seed: int = 0,
    ) -> InducedPrior:
        """Tabulate from `n` prior draws per redshift node; some seconds.

        Parameters
        ----------
        names
            Sample columns.
        config
            Of the fits; the default configuration when None.
        z_range
            Redshifts that will be asked for; fewer nodes are made for narrow ranges.
        n
            Prior draws per redshift node.
        seed
            Seed of the draws.

        Returns
        -------
        InducedPrior
            Tables at redshift nodes that bracket `z_range`.

        Raises
        ------
        InputError
            For unknown or too many properties.
        """
        config = config or FitConfig()
        known = sample_names(schema_of(load_model(config.model)))
        expression.check_names(list(names), [n for n in known if n != LOG_PROB], "among the samples")
        coordinates = PriorCoordinates(tuple(names))
        nodes = _nodes(*z_range)
        tables: list[DensityTable | JointTable] = []
        for k, z in enumerate(nodes):
            drawn = draw_properties(config, z, n, np.random.default_rng([seed, k]))
            values = np.stack([_column(drawn, name) for name in coordinates.names], axis=-1)
            x, _ = coordinates(values, age_of_universe(config, z))
            tables.append(tabulate(x[:, 0]) if x.shape[1] == 1 else tabulate_joint(x[:, 0], x[:, 1]))
        return cls(coordinates.names, config, nodes, tuple(tables))

    def log_density(self, values: ArrayLike, redshift: ArrayLike) -> FloatArray:
        """Ln p0 of posterior draws.

        Parameters
        ----------
        values
            ``(n, S, d)`` draws of the properties; NaN gives NaN.
        redshift
            ``(n,)`` of the galaxies.

        Returns
        -------
        numpy.ndarray
            ``(n, S)`` ln density per unit of each property.

        Raises
        ------
        InputError
            For arrays of other shapes.
        """
        v, z = draws_and_redshifts(values, redshift, len(self.names))
        coordinates = PriorCoordinates(self.names)
        age = np.asarray(Cosmology(self.config.observing.cosmology).age_gyr(z))
        with np.errstate(invalid="ignore"):
            x, out = coordinates(v, age[:, None])
        x = np.where(np.isfinite(x), x, np.nan)
        out = out + self._mass_density(coordinates)
        place = np.interp(z, self.redshifts, np.arange(len(self.redshifts)))
        for k, table in enumerate(self.tables):
            fraction = np.maximum(1 - np.abs(place - k), 0.0)  # linear between redshift nodes
            rows = np.flatnonzero(fraction > 0)
            if rows.size:
                out[rows] += fraction[rows, None] * _look_up(table, x[rows])
        return out

    def outside(self, values: ArrayLike, redshift: ArrayLike) -> NDArray[np.bool_]:
        """Posterior draws beyond every prior draw, where the table is continued by a constant.

        Parameters
        ----------
        values
            ``(n, S, d)`` draws.
        redshift
            ``(n,)``.

        Returns
        -------
        numpy.ndarray
            ``(n, S)`` True where the first coordinate lies outside the prior draws.
        """
        v, z = np.asarray(values, dtype=np.float64), np.asarray(redshift, dtype=np.float64)
        coordinates = PriorCoordinates(self.names)
        age = np.asarray(Cosmology(self.config.observing.cosmology).age_gyr(z))
        x, _ = coordinates(v, age[:, None])
        firsts = [t.first if isinstance(t, JointTable) else t for t in self.tables]
        low, high = min(t.low for t in firsts), max(t.high for t in firsts)
        return (x[..., 0] < low) | (x[..., 0] > high)

    def _mass_density(self, coordinates: PriorCoordinates) -> float:
        if coordinates.mass is None:
            return 0.0
        low, high = prior_of(self.config, load_model(self.config.model)).edges("logmstar")
        return -float(np.log(high - low))


def _column(drawn: dict[str, FloatArray], name: str) -> FloatArray:
    if name not in drawn:
        raise InputError(f"{name!r}: densities are of logarithmic or stored columns; use {', '.join(drawn)}")
    return drawn[name]


def _look_up(table: DensityTable | JointTable, x: FloatArray) -> FloatArray:
    """Ln density of coordinates ``(n, S, k)``; NaN in, NaN out."""
    bad = np.any(np.isnan(x), axis=-1)
    clean = np.where(bad[..., None], 0.0, x)
    value = table(clean[..., 0]) if isinstance(table, DensityTable) else table(clean[..., 0], clean[..., 1])
    return np.where(bad, np.nan, value)


def _nodes(low: float, high: float) -> tuple[float, ...]:
    """The redshifts of `NODES` that bracket a range, or the middle of a range narrower than 0.02."""
    if not (np.isfinite([low, high]).all() and 0 < low <= high):
        raise InputError(f"redshifts from {low} to {high}: need 0 < low <= high")
    if high - low < 0.02:
        return (0.5 * (low + high),)
    nodes = np.asarray(NODES)
    first = max(int(np.searchsorted(nodes, low, side="right")) - 1, 0)
    last = min(int(np.searchsorted(nodes, high, side="left")), nodes.size - 1)
    return tuple(nodes[first : last + 1].tolist())
