"""Properties derived from the parameters: surviving mass, SFR, metallicity, age; and the histories as curves.

A model has a list of `DerivedProperty`: a number by name, column and label, with the function that computes it. The
published five are `DERIVED`; `docs/extend.md` shows how to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.sps.histories.base import HistoryTables, Moments
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.parameters import Quantity, Values

if TYPE_CHECKING:
    from provabgs.sps.model import NodeMasses, SPSModel

TINY = 1e-30
"""Mass formed, over all of it, that stands for none in a logarithm."""


class State(NamedTuple):
    """What a derived property may be computed from; arrays of ``(batch,)`` unless said otherwise."""

    model: SPSModel
    values: Values
    """Parameters of the model by name."""
    tables: HistoryTables
    masses: NodeMasses
    """Mass and metallicity on the SSP ages."""
    moments: Moments
    log_mass: jax.Array
    """log10 of the mass formed, Msun."""


@dataclass(frozen=True)
class DerivedProperty(Quantity):
    """One property computed from the parameters.

    Attributes
    ----------
    compute
        `State` to ``(batch,)``; None for a property read from a catalog, which is known by its draws alone.
    """

    compute: Callable[[State], jax.Array] | None = field(default=None, compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The fields that describe it, for JSON."""
        return {k: v for k, v in asdict(self).items() if k != "compute"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DerivedProperty:
        """Inverse of `as_dict`."""
        name, column, symbol, unit, text = (str(data[k]) for k in ("name", "column", "symbol", "unit", "description"))
        return cls(name, column, symbol, unit, text)


def _surviving(state: State) -> jax.Array:
    library = state.model.library
    psi = hat_weights(state.masses.logzsol, library.logzsol)
    surviving = jnp.einsum("bj,bjk,kj->b", state.masses.mass, psi, jnp.asarray(library.surviving_mass))
    return state.log_mass + jnp.log10(jnp.maximum(surviving, TINY))


def _sfr(name: str, span_gyr: float) -> Callable[[State], jax.Array]:
    def compute(state: State) -> jax.Array:
        recent = getattr(state.moments, name)
        return state.log_mass + jnp.log10(jnp.maximum(recent, TINY)) - np.log10(span_gyr * 1e9)

    return compute


def _metallicity(state: State) -> jax.Array:
    z = state.model.histories.metallicity(state.values, state.tables, state.model.nodes)
    mean = jnp.sum(state.masses.mass * z, axis=1) / jnp.maximum(state.moments.formed, TINY)
    return jnp.log10(jnp.maximum(mean, TINY))


def _age(state: State) -> jax.Array:
    return state.moments.age / jnp.maximum(state.moments.formed, TINY)


DERIVED: tuple[DerivedProperty, ...] = (
    DerivedProperty(
        "logmstar_surviving",
        "LOGMSTAR",
        r"\log_{10} M_\ast/M_\odot",
        "dex(Msun)",
        "log10 of the surviving stellar mass (living stars and remnants)",
        _surviving,
    ),
    DerivedProperty(
        "log_sfr_100myr",
        "LOGSFR_100MYR",
        r"\log_{10} {\rm SFR}_{100\,{\rm Myr}}",
        "dex(Msun / yr)",
        "log10 of the SFR averaged over the last 100 Myr",
        _sfr("formed_100myr", 0.1),
    ),
    DerivedProperty(
        "log_sfr_1gyr",
        "LOGSFR_1GYR",
        r"\log_{10} {\rm SFR}_{1\,{\rm Gyr}}",
        "dex(Msun / yr)",
        "log10 of the SFR averaged over the last 1 Gyr",
        _sfr("formed_1gyr", 1.0),
    ),
    DerivedProperty(
        "log_z_mw",
        "LOGZ_MW",
        r"\log_{10} Z_{\rm MW}",
        "dex",
        "log10 of the mass-weighted metallicity, absolute, PROVABGS convention (solar = 0.0190)",
        _metallicity,
    ),
    DerivedProperty("t_age_mw", "T_AGE_MW", r"t_{\rm age,MW}", "Gyr", "mass-weighted stellar age", _age),
)
"""The published properties. SFRs are the mass *formed*, bursts included, in the last 0.1 or 1 Gyr over that time;
metallicity and age are weighted by mass formed (Hahn et al. 2023, section 3)."""


def derived_properties(model: SPSModel, theta: jax.Array, tables: HistoryTables) -> dict[str, jax.Array]:
    """All properties of a model, each ``(batch,)``.

    Parameters
    ----------
    model
        The SPS model; its `properties` are computed.
    theta
        ``(batch, nparameter)`` in the order of ``model.parameters``.
    tables
        From ``model.tables``.

    Returns
    -------
    dict
        By name. A burst older than the galaxy never happened: it enters neither the averages nor the surviving mass.

    Raises
    ------
    InputError
        When theta has another number of columns.
    """
    values = model.parameters.values(theta)
    masses, moments = model.node_masses(values, tables), model.histories.moments(values, tables)
    state = State(model, values, tables, masses, moments, values[model.linear_block.total])
    return {p.name: p.compute(state) for p in model.properties if p.compute is not None}


def history_curves(model: SPSModel, theta: ArrayLike, t_age: float, time: FloatArray) -> tuple[FloatArray, FloatArray]:
    """SFH and ZH as curves, for plots.

    Parameters
    ----------
    model
        The SPS model.
    theta
        ``(batch, nparameter)``.
    t_age
        Age of the universe at the galaxy, Gyr.
    time
        ``(n,)`` lookback times, Gyr.

    Returns
    -------
    sfr, z
        SFR in Msun/yr and absolute Z (PROVABGS convention), each ``(batch, n)``.
    """
    values = model.parameters.values(np.atleast_2d(np.asarray(theta, dtype=np.float64)))
    sfr, z = model.histories.curves(values, t_age, time)
    return 10.0 ** values[model.linear_block.total][:, None] * sfr, z
