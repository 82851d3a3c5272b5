"""The density that the inference prior induces on derived properties, tabulated; what population sums divide by.

Two exact symmetries make the tables small and their tails well sampled. The prior on formed mass is flat and shapes do
not depend on it: with mass among the properties, SFRs are tabulated per unit mass and mass itself stays flat (exact for
formed mass; for surviving mass but for 0.5 dex at the edges of the prior). Ages are tabulated as a fraction of the age
of the universe, in which they hardly depend on redshift; what is left of that dependence is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.catalog.columns import OPTIONAL
from provabgs.catalog.names import sample_names
from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.inference.config import FitConfig
from provabgs.observe.cosmology import Cosmology
from provabgs.population.priordraws import age_of_universe, draw_properties
from provabgs.sps.parameters import INDEX, PARAMETERS

MASSES = ("LOGMSTAR", "LOGMSTAR_FORMED")
SFRS = ("LOGSFR_100MYR", "LOGSFR_1GYR")
AGES = ("T_AGE_MW",)
NODES = (0.01, 0.15, 0.30, 0.45, 0.60)
"""Redshifts at which tables are made."""
N_DRAWS = 200_000
"""Prior draws per redshift."""
N_BIN, MIN_COUNT = 150, 150
"""Most bins of a table, and fewest prior draws in one: 8 % error where the prior is thinnest."""
N_CONDITION = 32
"""Slices of the first property in which the second is tabulated."""


class Table1D(NamedTuple):
    """ln density, linear between nodes and constant beyond: a draw in a tail cannot take over a whole sum."""

    x: FloatArray
    log_density: FloatArray
    low: float
    high: float
    """Range of the prior draws."""

    def __call__(self, value: FloatArray) -> FloatArray:
        """Ln p(value), same shape."""
        return np.interp(value, self.x, self.log_density)


def tabulate(draws: ArrayLike, n_bin: int = N_BIN, min_count: int = MIN_COUNT) -> Table1D:
    """Density of draws: even bins, joined where they hold fewer than `min_count`; nodes at the mean of each bin.

    Raises
    ------
    InputError
        For fewer than ten bins' worth of finite draws.
    """
    x = np.asarray(draws, dtype=np.float64).ravel()
    x = np.sort(x[np.isfinite(x)])
    if x.size < 10 * min_count or not x[-1] > x[0]:
        raise InputError(
            f"a prior needs at least {10 * min_count} finite, different draws to be tabulated, got {x.size}"
        )
    edges = np.linspace(x[0], x[-1], n_bin + 1)
    below = np.searchsorted(x, edges)
    below[-1] = x.size
    kept = [0]
    for k in range(1, n_bin + 1):
        if below[k] - below[kept[-1]] >= min_count:
            kept.append(k)
    kept[-1] = n_bin  # what is left over joins the last bin
    at, counts = edges[kept], np.diff(below[kept])
    sums = np.diff(np.concatenate([[0.0], np.cumsum(x)])[below[kept]])
    return Table1D(sums / counts, np.log(counts / x.size / np.diff(at)), float(x[0]), float(x[-1]))


class Table2D(NamedTuple):
    """ln p(x) + ln p(y | x), the latter tabulated in slices of x."""

    first: Table1D
    x: FloatArray
    """``(k,)`` middles of the slices."""
    y: FloatArray
    """``(m,)`` even grid."""
    log_conditional: FloatArray
    """``(k, m)``."""

    def __call__(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Ln p(x, y), same shape; constant continuation beyond the nodes."""
        u = np.interp(x, self.x, np.arange(self.x.size))
        v = np.clip((y - self.y[0]) / (self.y[1] - self.y[0]), 0, self.y.size - 1)
        i, j = np.minimum(u.astype(int), self.x.size - 2), np.minimum(v.astype(int), self.y.size - 2)
        a, b = u - i, v - j
        c = self.log_conditional
        low = (1 - b) * c[i, j] + b * c[i, j + 1]
        high = (1 - b) * c[i + 1, j] + b * c[i + 1, j + 1]
        return self.first(x) + (1 - a) * low + a * high


def tabulate_2d(x: ArrayLike, y: ArrayLike, n_slice: int = N_CONDITION, min_count: int = MIN_COUNT) -> Table2D:
    """Joint density of pairs of draws; see `Table2D`."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    good = np.isfinite(a) & np.isfinite(b)
    a, b = a[good], b[good]
    first = tabulate(a, min_count=min_count)
    grid = np.linspace(b.min(), b.max(), 2 * N_BIN)
    slices = np.array_split(np.argsort(a), n_slice)
    rows = [tabulate(b[s], N_BIN // 2, min_count // 3)(grid) for s in slices]
    return Table2D(first, np.array([a[s].mean() for s in slices]), grid, np.array(rows))


@dataclass(frozen=True)
class Reduction:
    """Properties turned into the coordinates in which their prior is tabulated."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        known = [n for n in sample_names() if n != "LOG_PROB" and n not in OPTIONAL.values()]
        for name in self.names:
            if name not in known:
                raise InputError(f"{name!r} is not a column of samples; known: {', '.join(known)}")
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
        """Coordinates ``(..., k)`` of ``values (..., d)`` and ln of the Jacobian ``(...)``; `t_age` broadcasts."""
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
    tables: tuple[Table1D | Table2D, ...]

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
        n, seed
            Of the draws.

        Raises
        ------
        InputError
            For unknown or too many properties.
        """
        config = config or FitConfig()
        reduction = Reduction(tuple(names))
        nodes = _nodes(*z_range)
        tables: list[Table1D | Table2D] = []
        for k, z in enumerate(nodes):
            drawn = draw_properties(config, z, n, np.random.default_rng([seed, k]))
            values = np.stack([_column(drawn, name) for name in reduction.names], axis=-1)
            x, _ = reduction(values, age_of_universe(config, z))
            tables.append(tabulate(x[:, 0]) if x.shape[1] == 1 else tabulate_2d(x[:, 0], x[:, 1]))
        return cls(reduction.names, config, nodes, tuple(tables))

    def log_density(self, values: ArrayLike, redshift: ArrayLike) -> FloatArray:
        """Ln p0 of ``values (n, S, d)`` of galaxies at ``redshift (n,)``, shape ``(n, S)``; NaN stays NaN."""
        v, z = np.asarray(values, dtype=np.float64), np.asarray(redshift, dtype=np.float64)
        if v.ndim != 3 or v.shape[2] != len(self.names) or z.shape != (len(v),):
            raise InputError(f"values {v.shape} and redshift {z.shape}: expected (n, S, {len(self.names)}) and (n,)")
        reduction = Reduction(self.names)
        age = np.asarray(Cosmology(self.config.observing.cosmology).age_gyr(z))
        with np.errstate(invalid="ignore"):
            x, out = reduction(v, age[:, None])
        x = np.where(np.isfinite(x), x, np.nan)
        out = out + self._mass_density(reduction)
        place = np.interp(z, self.redshifts, np.arange(len(self.redshifts)))
        for k, table in enumerate(self.tables):
            share = np.maximum(1 - np.abs(place - k), 0.0)
            rows = np.flatnonzero(share > 0)
            if rows.size:
                out[rows] += share[rows, None] * _look_up(table, x[rows])
        return out

    def outside(self, values: ArrayLike, redshift: ArrayLike) -> NDArray[np.bool_]:
        """Draws ``(n, S)`` beyond every prior draw, where the table only continues its last value."""
        v, z = np.asarray(values, dtype=np.float64), np.asarray(redshift, dtype=np.float64)
        reduction = Reduction(self.names)
        age = np.asarray(Cosmology(self.config.observing.cosmology).age_gyr(z))
        x, _ = reduction(v, age[:, None])
        firsts = [t.first if isinstance(t, Table2D) else t for t in self.tables]
        low, high = min(t.low for t in firsts), max(t.high for t in firsts)
        return (x[..., 0] < low) | (x[..., 0] > high)

    def _mass_density(self, reduction: Reduction) -> float:
        if reduction.mass is None:
            return 0.0
        low, high = self.config.prior_bounds.get("logmstar", PARAMETERS[INDEX["logmstar"]].bounds)
        return -float(np.log(high - low))


def _column(drawn: dict[str, FloatArray], name: str) -> FloatArray:
    if name not in drawn:
        raise InputError(f"{name!r}: densities are of logarithmic or stored columns; use {', '.join(drawn)}")
    return drawn[name]


def _look_up(table: Table1D | Table2D, x: FloatArray) -> FloatArray:
    """Ln density of coordinates ``(n, S, k)``; NaN in, NaN out."""
    bad = np.any(np.isnan(x), axis=-1)
    clean = np.where(bad[..., None], 0.0, x)
    value = table(clean[..., 0]) if isinstance(table, Table1D) else table(clean[..., 0], clean[..., 1])
    return np.where(bad, np.nan, value)


def _nodes(low: float, high: float) -> tuple[float, ...]:
    """The standing nodes that bracket a range, or its middle where it is narrower than 0.02."""
    if not (np.isfinite([low, high]).all() and 0 < low <= high):
        raise InputError(f"redshifts from {low} to {high}: need 0 < low <= high")
    if high - low < 0.02:
        return (0.5 * (low + high),)
    nodes = np.asarray(NODES)
    first = max(int(np.searchsorted(nodes, low, side="right")) - 1, 0)
    last = min(int(np.searchsorted(nodes, high, side="left")), nodes.size - 1)
    return tuple(nodes[first : last + 1].tolist())
