"""The published histories: four NMF bases and a burst of star formation, two NMF bases of metallicity.

``SFH(t) = M [(1 - fburst) sum_i beta_i s_i(t) / int_0^t_age s_i + fburst delta(t - tburst)]`` and
``Z(t) = sum_i gamma_i z_i(t)`` with t the lookback time from the galaxy (Hahn et al. 2023, equations 2-4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError
from provabgs.core.jax import jax, jnp
from provabgs.sps.histories.base import HistoryTables
from provabgs.sps.histories.bases import Binning, HistoryBases, Normalisation
from provabgs.sps.histories.composed import (
    AGE_OF_BURST,
    BURST_RANGE_GYR,
    FRACTION_OF_BURST,
    TOTAL_MASS,
    Components,
    ComposedHistories,
)
from provabgs.sps.histories.metallicity import ZPrior, gamma, metallicity_of
from provabgs.sps.parameters import Parameter, Values


def _fraction(i: int) -> Parameter:
    text = f"weight of NMF SFH basis {i}"
    return Parameter(
        f"beta{i}", f"BETA{i}", rf"\beta_{i}", "", text, "flat-dirichlet", (0.0, 1.0), "linear", natural_edges="both"
    )


N_SFH, N_ZH = 4, 2
"""Numbers of published bases."""
PUBLISHED = (
    TOTAL_MASS,
    *(_fraction(i + 1) for i in range(N_SFH)),
    FRACTION_OF_BURST,
    AGE_OF_BURST,
    *(gamma(i + 1) for i in range(N_ZH)),
)
"""Parameters of the published histories, in the published order."""


class NMFStars(Components):
    """Star formation in NMF bases.

    Parameters
    ----------
    bases
        Star-formation bases.
    binning, normalisation
        See `HistoryBases.tables`.
    """

    resolved_gyr = BURST_RANGE_GYR[0]
    """Below, the published bases are constant to 1e-4 and Z(t) to 3e-4."""

    def __init__(self, bases: HistoryBases, binning: Binning, normalisation: Normalisation) -> None:
        self.bases, self.binning, self.normalisation = bases, binning, normalisation
        self.parameters = tuple(_fraction(i + 1) for i in range(len(bases.sfh)))
        self.fractions = tuple(p.name for p in self.parameters)
        self.least_t_age_gyr = bases.least_t_age_gyr

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
        return self.bases.tables(t_age, node_age, self.binning, self.normalisation)

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
        share = jnp.stack([values[n] for n in self.fractions], axis=-1)
        share = share * jnp.asarray(tables.weight, dtype=share.dtype)
        return share / jnp.sum(share, axis=1, keepdims=True)

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
        return self.bases.sfh_bases(time, t_age)


class NMFHistories(ComposedHistories):
    """Bases of star formation and metallicity with one burst; see the module's equations.

    Parameters
    ----------
    bases
        Star-formation and metallicity bases; the published ones when None.
    binning
        ``"exact"`` or the ``"published"`` 42-bin sum; see `HistoryBases.tables`.
    normalisation
        Of the SFH bases, ``"per-basis"`` or ``"joint"``; see `HistoryBases.tables`.
    metallicity, z_prior, z_options
        Another metallicity history than the bases'; see `metallicity_of`.

    Raises
    ------
    ConfigError
        For another word than these.
    """

    def __init__(
        self,
        bases: HistoryBases | None = None,
        binning: Binning = "exact",
        normalisation: Normalisation = "per-basis",
        metallicity: str = "nmf",
        z_prior: ZPrior = "log",
        z_options: Mapping[str, Any] | None = None,
    ) -> None:
        for key, value, known in (("binning", binning, Binning), ("normalisation", normalisation, Normalisation)):
            if value not in get_args(known):
                words = " or ".join(repr(w) for w in get_args(known))
                raise ConfigError(f"model.history_options: {key} = {value!r}; use {words}")
        self.bases = bases if bases is not None else HistoryBases.published()
        self.binning: Binning = binning
        self.normalisation: Normalisation = normalisation
        options = dict(z_options or {}) | ({"bases": self.bases} if metallicity == "nmf" else {})
        metals = metallicity_of(metallicity, z_prior, options)
        super().__init__(NMFStars(self.bases, binning, normalisation), metals, burst=True)

    @classmethod
    def tng(cls, **options: Any) -> NMFHistories:
        """Six bases of IllustrisTNG histories in place of the published four: ``model.history = "tng6"``."""
        return cls(HistoryBases.tng(), **options)

    @property
    def is_published(self) -> bool:
        """Whether the parameters are those of Hahn et al. (2023)."""
        return self.parameters == PUBLISHED
