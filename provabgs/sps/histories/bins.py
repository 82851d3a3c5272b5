"""Star formation in bins of lookback time, constant within each.

The last edge is the age of the universe at the galaxy. By default the first two bins end at 30 and 100 Myr, the last
begins at 85 % of that age, and the others are equally wide in log age.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError, UnusableTargetError
from provabgs.core.jax import jax, jnp
from provabgs.core.messages import suggestion
from provabgs.core.status import Status
from provabgs.sps.histories import bin_priors
from provabgs.sps.histories.base import HistoryTables
from provabgs.sps.histories.bin_priors import BinPrior
from provabgs.sps.histories.composed import Components, ComposedHistories
from provabgs.sps.histories.metallicity import ZPrior, metallicity_of
from provabgs.sps.parameters import Values

YOUNG_EDGES_GYR = (0.03, 0.1)
"""Ends of the first two bins."""
OLDEST_BEGINS = 0.85
"""Where the last bin begins, as a fraction of the age of the universe."""
N_BINS = 10
LEAST_BINS, MOST_BINS = 2, 30


class BinEdges:
    """Edges of age bins for a universe of any age.

    Parameters
    ----------
    n_bins
        Number of bins, by the rule of the module; ignored where edges are given.
    inner_gyr
        Inner edges, Gyr, without 0 and without the age of the universe.

    Raises
    ------
    ConfigError
        For fewer than two bins, more than `MOST_BINS`, or edges that do not increase from above 0.
    """

    def __init__(self, n_bins: int = N_BINS, inner_gyr: Sequence[float] | None = None) -> None:
        if inner_gyr is None and not (isinstance(n_bins, int) and LEAST_BINS + 2 <= n_bins <= MOST_BINS):
            raise ConfigError(
                f"model.history_options: n_bins = {n_bins!r} must be {LEAST_BINS + 2} to {MOST_BINS}; for fewer bins "
                "give edges_gyr, the ages between them"
            )
        self.inner: FloatArray | None = None
        if inner_gyr is not None:
            inner = np.asarray(inner_gyr, dtype=float)
            if inner.ndim != 1 or not LEAST_BINS <= inner.size + 1 <= MOST_BINS:
                raise ConfigError(
                    f"model.history_options: edges_gyr = {list(inner_gyr)} makes {inner.size + 1} bins; give "
                    f"{LEAST_BINS - 1} to {MOST_BINS - 1} inner edges, without 0 and the age of the universe"
                )
            if not (np.all(np.isfinite(inner)) and np.all(np.diff(inner, prepend=0.0) > 0)):
                raise ConfigError(
                    f"model.history_options: edges_gyr = {list(inner_gyr)} must increase from above 0; sort them"
                )
            self.inner = inner
        self.n = int(n_bins) if self.inner is None else self.inner.size + 1

    @property
    def first(self) -> float:
        """End of the youngest bin, Gyr."""
        return YOUNG_EDGES_GYR[0] if self.inner is None else float(self.inner[0])

    @property
    def oldest_inner(self) -> float:
        """No galaxy may be seen at a universe younger than this, Gyr."""
        return 2 * YOUNG_EDGES_GYR[-1] if self.inner is None else float(self.inner[-1])

    def at(self, t_age: Any) -> FloatArray:
        """Edges at ages of the universe ``(...)``, Gyr: ``(..., n + 1)``.

        Raises
        ------
        UnusableTargetError
            When an inner edge lies beyond the age of the universe.
        """
        t_age = np.asarray(t_age, dtype=float)
        if not np.all(t_age > self.oldest_inner):
            raise UnusableTargetError(
                f"age bins: the last inner edge, {self.oldest_inner:g} Gyr, lies beyond the age of the universe at the "
                f"galaxy, {np.min(t_age):.4g} Gyr; lower model.history_options.edges_gyr",
                Status.REDSHIFT_OUT_OF_RANGE,
            )
        if self.inner is not None:
            inner = np.broadcast_to(self.inner, (*t_age.shape, self.inner.size))
        else:
            n_middle = self.n - len(YOUNG_EDGES_GYR)
            middle = np.moveaxis(np.geomspace(YOUNG_EDGES_GYR[-1], OLDEST_BEGINS * t_age, n_middle), 0, -1)
            young = np.broadcast_to(YOUNG_EDGES_GYR, (*t_age.shape, len(YOUNG_EDGES_GYR)))
            inner = np.concatenate([young, middle[..., 1:]], axis=-1)
        return np.concatenate([np.zeros((*t_age.shape, 1)), inner, t_age[..., None]], axis=-1)


class BinnedStars(Components):
    """Star formation in age bins under one of the priors of `bin_priors`.

    Parameters
    ----------
    edges
        Of the bins.
    prior
        On their rates.
    """

    def __init__(self, edges: BinEdges, prior: BinPrior) -> None:
        self.edges, self.prior = edges, prior
        self.parameters, self.fractions = prior.parameters, prior.fractions
        self.log_prior_ratio = prior.log_prior_ratio
        self.resolved_gyr, self.least_t_age_gyr = edges.first, edges.oldest_inner

    def tables(self, t_age: Any, node_age: FloatArray) -> HistoryTables:
        """See `Histories.tables`; `HistoryTables.more` holds the widths of the bins and what the prior needs.

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
        edges = self.edges.at(t_age)
        low, high = edges[..., :-1], edges[..., 1:]
        recent = [np.clip((span - low) / (high - low), 0.0, 1.0) for span in (0.1, 1.0)]
        return HistoryTables(
            t_age=np.asarray(t_age, dtype=float),
            weight=np.ones_like(low),
            mass=masses_on_nodes(low, high, node_age),
            formed_100myr=recent[0],
            formed_1gyr=recent[1],
            mean_age=0.5 * (low + high),
            more=(high - low, self.prior.more(edges)),
        )

    def shares(self, values: Values, tables: HistoryTables) -> jax.Array:
        """See `Components.shares`.

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
        width, more = tables.more
        return self.prior.shares(values, jnp.asarray(width), more)

    def component_rates(self, t_age: float, time: FloatArray) -> FloatArray:
        """See `Components.component_rates`.

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
        edges = self.edges.at(t_age)
        inside = (time >= edges[:-1, None]) & (time < edges[1:, None])
        return np.asarray(inside / np.diff(edges)[:, None], dtype=np.float64)


class BinHistories(ComposedHistories):
    """Age bins with a metallicity history: ``model.history = "bins"``.

    Parameters
    ----------
    n_bins, edges_gyr
        See `BinEdges`.
    prior
        ``"dirichlet"``, ``"continuity"`` or ``"stochastic"``: see `bin_priors`.
    prior_options
        Options of that prior.
    burst
        Whether a burst of free mass and age is added.
    metallicity, z_prior, z_options
        See `metallicity_of`.

    Raises
    ------
    ConfigError
        For an unknown prior or option, and for bad edges.
    """

    def __init__(
        self,
        n_bins: int = N_BINS,
        edges_gyr: Sequence[float] | None = None,
        prior: str = "dirichlet",
        prior_options: Mapping[str, Any] | None = None,
        burst: bool = False,
        metallicity: str = "constant",
        z_prior: ZPrior = "log",
        z_options: Mapping[str, Any] | None = None,
    ) -> None:
        edges = BinEdges(n_bins, edges_gyr)
        stars = BinnedStars(edges, bin_prior(prior, edges.n, prior_options))
        super().__init__(stars, metallicity_of(metallicity, z_prior, z_options), burst)

    @property
    def bins(self) -> BinnedStars:
        """Star formation in the bins."""
        assert isinstance(self.stars, BinnedStars)
        return self.stars


def bin_prior(name: str, n_bins: int, options: Mapping[str, Any] | None = None) -> BinPrior:
    """The prior that a configuration names.

    Parameters
    ----------
    name
        Key of `bin_priors.KINDS`.
    n_bins
        Number of bins.
    options
        Of that prior.

    Returns
    -------
    BinPrior
        Of that kind.

    Raises
    ------
    ConfigError
        For an unknown prior or option.
    """
    if name not in bin_priors.KINDS:
        known = tuple(bin_priors.KINDS)
        raise ConfigError(f"model.history_options: prior = {name!r}: no such prior{suggestion(name, known)}")
    try:
        made: BinPrior = bin_priors.KINDS[name](n_bins, **(options or {}))
    except TypeError as err:
        raise ConfigError(f"model.history_options: prior_options of prior = {name!r}: {err}") from None
    return made


def masses_on_nodes(low: FloatArray, high: FloatArray, node_age: FloatArray) -> FloatArray:
    """Fraction of the mass of constant star formation that falls to each SSP age, in closed form.

    SSPs are linear in log age between nodes; what is younger than the first or older than the last falls to that node.

    Parameters
    ----------
    low, high
        ``(..., n)`` youngest and oldest age of each bin, Gyr.
    node_age
        ``(nage,)`` ages of the SSP library, Gyr.

    Returns
    -------
    FloatArray
        ``(..., n, nage)``, 1 in sum.
    """
    a, b = low[..., None], high[..., None]
    start, stop = np.clip(node_age[:-1], a, b), np.clip(node_age[1:], a, b)
    log_node = np.log(node_age)
    mass = stop - start
    moment = [t * np.log(np.maximum(t, 1e-300)) - t for t in (start, stop)]
    to_older = (moment[1] - moment[0] - log_node[:-1] * mass) / np.diff(log_node)
    out = np.zeros((*low.shape, node_age.size))
    out[..., :-1] += mass - to_older
    out[..., 1:] += to_older
    out[..., 0] += (np.clip(node_age[0], a, b) - a)[..., 0]
    out[..., -1] += (b - np.clip(node_age[-1], a, b))[..., 0]
    return np.maximum(out, 0.0) / (b - a)
