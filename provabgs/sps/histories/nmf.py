"""The published histories: four NMF bases and a burst of star formation, two NMF bases of metallicity.

``SFH(t) = M [(1 - fburst) sum_i beta_i s_i(t) / int_0^t_age s_i + fburst delta(t - tburst)]`` and
``Z(t) = sum_i gamma_i z_i(t)`` with t the lookback time from the galaxy (Hahn et al. 2023, equations 2-4).
"""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import Z_RANGE_PROVABGS
from provabgs.core.errors import ConfigError
from provabgs.core.jax import jax, jnp
from provabgs.sps.histories.base import HistoryTables, LinearBlock, Moments, fractions, mean, mix
from provabgs.sps.histories.bases import Binning, HistoryBases, Normalisation
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.parameters import Parameter, Values

BURST_RANGE_GYR = (0.01, 13.27)
"""Range of the burst's age in the published prior."""
GAMMA_RANGE = (4.5e-5, 1.5e-2)
"""Range of each metallicity coefficient in the published prior, absolute Z."""
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


def _fraction(i: int) -> Parameter:
    text = f"weight of NMF SFH basis {i}"
    return Parameter(
        f"beta{i}", f"BETA{i}", rf"\beta_{i}", "", text, "flat-dirichlet", (0.0, 1.0), "linear", natural_edges="both"
    )


def _gamma(i: int) -> Parameter:
    text = f"weight of NMF metallicity-history basis {i}, absolute Z"
    return Parameter(f"gamma{i}", f"GAMMA{i}", rf"\gamma_{i}", "", text, "log-uniform", GAMMA_RANGE)


FRACTION_OF_BURST = Parameter(
    name="fburst",
    column="FBURST",
    symbol=r"f_{\rm burst}",
    unit="",
    description="fraction of the formed mass in one burst",
    prior="uniform",
    bounds=(0.0, 1.0),
    natural_edges="both",
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
)


N_SFH, N_ZH = 4, 2
"""Numbers of published bases."""


def parameters_of(n_sfh: int, n_zh: int) -> tuple[Parameter, ...]:
    """Parameters of a history of NMF bases, in the published order.

    Parameters
    ----------
    n_sfh
        Number of star-formation bases.
    n_zh
        Number of metallicity bases.

    Returns
    -------
    tuple of Parameter
        Total mass, fractions of the bases, fraction and age of the burst, metallicity coefficients.
    """
    betas, gammas = (_fraction(i + 1) for i in range(n_sfh)), (_gamma(i + 1) for i in range(n_zh))
    return (TOTAL_MASS, *betas, FRACTION_OF_BURST, AGE_OF_BURST, *gammas)


PUBLISHED = parameters_of(N_SFH, N_ZH)
"""Parameters of the published histories."""


class NMFNodes(NamedTuple):
    """The age nodes that masses fall on."""

    log_age: FloatArray
    """``(nage,)`` ln of age in Gyr."""
    zh: FloatArray
    """``(nzbasis, nage)`` metallicity bases at the nodes."""


class NMFHistories:
    """Bases of star formation and metallicity with one burst; see the module's equations.

    Parameters
    ----------
    bases
        Star-formation and metallicity bases; the published ones when None.
    binning
        ``"exact"`` or the ``"published"`` 42-bin sum; see `HistoryBases.tables`.
    normalisation
        Of the SFH bases, ``"per-basis"`` or ``"joint"``; see `HistoryBases.tables`.

    Raises
    ------
    ConfigError
        For another word than these.
    """

    resolved_gyr = BURST_RANGE_GYR[0]
    """No burst is younger; below, the published bases are constant to 1e-4 and Z(t) to 3e-4."""

    def __init__(
        self, bases: HistoryBases | None = None, binning: Binning = "exact", normalisation: Normalisation = "per-basis"
    ) -> None:
        for key, value, known in (("binning", binning, Binning), ("normalisation", normalisation, Normalisation)):
            if value not in get_args(known):
                words = " or ".join(repr(w) for w in get_args(known))
                raise ConfigError(f"model.history_options: {key} = {value!r}; use {words}")
        self.bases = bases if bases is not None else HistoryBases.published()
        self.binning: Binning = binning
        self.normalisation: Normalisation = normalisation
        n_sfh, n_zh = len(self.bases.sfh), len(self.bases.zh)
        self.parameters = parameters_of(n_sfh, n_zh)
        self.linear_block = LinearBlock(TOTAL_MASS.name, tuple(f"beta{i + 1}" for i in range(n_sfh)))
        self._gammas = tuple(f"gamma{i + 1}" for i in range(n_zh))

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
        return self.bases.tables(t_age, node_age, self.binning, self.normalisation)

    def nodes(self, age: FloatArray, metallicity_age: FloatArray) -> NMFNodes:
        """See `Histories.nodes`.

        Parameters
        ----------
        age
            ``(nage,)`` ages that masses fall on, Gyr.
        metallicity_age
            ``(nage,)`` ages at which Z(t) is taken, Gyr.

        Returns
        -------
        NMFNodes
            Double precision.
        """
        return NMFNodes(np.log(age), self.bases.metallicity_bases(metallicity_age))

    def component_masses(self, values: Values, tables: HistoryTables, nodes: NMFNodes) -> jax.Array:
        """See `Histories.component_masses`: each basis carries its own part of the burst.

        Parameters
        ----------
        values
            ``fburst`` and ``tburst`` (Gyr), each ``(batch,)``.
        tables
            From `tables`.
        nodes
            From `nodes`.

        Returns
        -------
        jax.Array
            ``(batch, nbasis, nage)``.
        """
        mass = jnp.asarray(tables.mass)
        keep, burst = self._burst(values, tables, nodes, mass.dtype)
        return keep[:, None, None] * (mass[None] if mass.ndim == 2 else mass) + burst[:, None, :]

    def node_masses(self, values: Values, tables: HistoryTables, nodes: NMFNodes) -> jax.Array:
        """See `Histories.node_masses`; below 1 in sum if the burst lies before the galaxy's birth.

        Parameters
        ----------
        values
            The betas, ``fburst`` and ``tburst`` (Gyr), each ``(batch,)``.
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
        keep, burst = self._burst(values, tables, nodes, dtype)
        single = {n: values[n].astype(dtype) for n in self.linear_block.fractions}
        return keep[:, None] * mix(fractions(self.linear_block, single, tables), tables.mass) + burst

    def _burst(self, values: Values, tables: HistoryTables, nodes: NMFNodes, dtype: Any) -> tuple[jax.Array, jax.Array]:
        """Fraction of the smooth part ``(batch,)``, and the burst on the nodes ``(batch, nage)``."""
        # 1 - fburst in the precision given: it decides the flux of a galaxy whose burst lies before its birth
        keep = (1 - values["fburst"]).astype(dtype)
        fburst, tburst = values["fburst"].astype(dtype), values["tburst"].astype(dtype)
        burst = fburst[:, None] * hat_weights(jnp.log(tburst), nodes.log_age)
        return keep, jnp.where((tburst <= tables.t_age)[:, None], burst, 0.0)

    def metallicity(self, values: Values, nodes: NMFNodes) -> jax.Array:
        """See `Histories.metallicity`: ``sum_i gamma_i z_i(t)``, clipped to the published range.

        Parameters
        ----------
        values
            The gammas, absolute Z, each ``(batch,)``.
        nodes
            From `nodes`.

        Returns
        -------
        jax.Array
            ``(batch, nage)`` absolute Z.
        """
        gammas = jnp.stack([values[n] for n in self._gammas], axis=-1)
        return jnp.clip(gammas @ jnp.asarray(nodes.zh, dtype=gammas.dtype), *Z_RANGE_PROVABGS)

    def moments(self, values: Values, tables: HistoryTables) -> Moments:
        """See `Histories.moments`. A burst older than the galaxy never happened and counts nowhere.

        Parameters
        ----------
        values
            The betas, ``fburst`` and ``tburst`` (Gyr), each ``(batch,)``.
        tables
            From `tables`.

        Returns
        -------
        Moments
            Each ``(batch,)``, per unit of total mass.
        """
        fburst, tburst = values["fburst"], values["tburst"]
        happened = jnp.where(tburst <= tables.t_age, fburst, 0.0)
        smooth, share = 1 - fburst, fractions(self.linear_block, values, tables)
        recent = [
            smooth * mean(share, table) + jnp.where(tburst < span, happened, 0.0)
            for span, table in ((0.1, tables.formed_100myr), (1.0, tables.formed_1gyr))
        ]
        age = smooth * mean(share, tables.mean_age) + happened * tburst
        return Moments(smooth + happened, recent[0], recent[1], age)

    def curves(
        self, values: Values, t_age: float, time: FloatArray, burst_width_gyr: float = 0.2
    ) -> tuple[FloatArray, FloatArray]:
        """See `Histories.curves`. The burst is drawn as a top hat whose area is its mass.

        Parameters
        ----------
        values
            The betas, gammas, ``fburst`` and ``tburst`` (Gyr), each ``(batch,)``.
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
        fburst, tburst = np.asarray(values["fburst"])[:, None], np.asarray(values["tburst"])[:, None]
        tables = self.tables(t_age, np.array([1e-3, OLDEST_GYR]))
        share = np.asarray(fractions(self.linear_block, {k: jnp.asarray(v) for k, v in values.items()}, tables))
        smooth = share @ self.bases.sfh_bases(time, t_age)
        low = np.maximum(tburst - burst_width_gyr / 2, 0.0)
        inside = (time >= low) & (time < low + burst_width_gyr) & (tburst <= t_age)
        sfr = ((1 - fburst) * smooth + fburst * inside / burst_width_gyr) / 1e9
        gammas = np.stack([np.asarray(values[n]) for n in self._gammas], axis=-1)
        return sfr, np.clip(gammas @ self.bases.metallicity_bases(time), *Z_RANGE_PROVABGS)


OLDEST_GYR = 20.0
"""Older than any galaxy: closes the two-node grid on which the curves' fractions are computed."""
