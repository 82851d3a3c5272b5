"""Properties derived from the parameters: surviving mass, SFR, metallicity, age, and the histories as curves."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import Z_RANGE_PROVABGS
from provabgs.core.jax import jax, jnp
from provabgs.sps.histories import HistoryTables
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.model import SPSModel, basis_fractions
from provabgs.sps.parameters import INDEX

_TINY = 1e-30


def derived_properties(model: SPSModel, theta: jax.Array, tables: HistoryTables) -> dict[str, jax.Array]:
    """All of `provabgs.sps.parameters.DERIVED`, each ``(batch,)``.

    SFRs are the mass *formed* (burst included) in the last 0.1 or 1 Gyr over that time; `log_z_mw` and `t_age_mw` are
    weighted by mass formed (Hahn et al. 2023, section 3). A burst older than the galaxy never happened: it
    enters neither the averages nor the surviving mass.
    """
    masses = model.node_masses(theta, tables)
    per_node = masses.mass
    fburst, tburst = theta[:, INDEX["fburst"]], theta[:, INDEX["tburst"]]
    happened = jnp.where(tburst <= tables.t_age, fburst, 0.0)
    smooth = 1 - fburst
    beta = basis_fractions(theta, tables)
    formed = smooth + happened
    log_m = theta[:, INDEX["logmstar"]]

    surviving = jnp.einsum("bj,bjk,kj->b", per_node, _psi(model, masses.logzsol), _surviving(model))
    out = {"logmstar_surviving": log_m + jnp.log10(jnp.maximum(surviving, _TINY))}
    for name, span, fractions in (
        ("log_sfr_100myr", 0.1, tables.formed_100myr),
        ("log_sfr_1gyr", 1.0, tables.formed_1gyr),
    ):
        recent = smooth * _mean(beta, fractions) + jnp.where(tburst < span, happened, 0.0)
        out[name] = log_m + jnp.log10(jnp.maximum(recent, _TINY)) - np.log10(span * 1e9)
    z_mean = jnp.sum(per_node * model.metallicity(theta), axis=1) / jnp.maximum(formed, _TINY)
    out["log_z_mw"] = jnp.log10(jnp.maximum(z_mean, _TINY))
    out["t_age_mw"] = (smooth * _mean(beta, tables.mean_age) + happened * tburst) / jnp.maximum(formed, _TINY)
    return out


def history_curves(
    model: SPSModel, theta: ArrayLike, t_age: float, time: FloatArray, burst_width_gyr: float = 0.1
) -> tuple[FloatArray, FloatArray]:
    """SFH and ZH as curves, for plots.

    Parameters
    ----------
    theta
        ``(batch, 13)``.
    t_age
        Age of the universe at the galaxy, Gyr.
    time
        ``(n,)`` lookback times, Gyr.
    burst_width_gyr
        The burst is drawn as a top hat of this width; its area is its mass.

    Returns
    -------
    SFR in Msun/yr and absolute Z (PROVABGS convention), each ``(batch, n)``.
    """
    th = np.atleast_2d(np.asarray(theta, dtype=np.float64))
    mass = 10.0 ** th[:, INDEX["logmstar"], None]
    fburst, tburst = th[:, INDEX["fburst"], None], th[:, INDEX["tburst"], None]
    beta = np.asarray(basis_fractions(jnp.asarray(th), model.tables(t_age)))
    smooth = beta @ model.bases.sfh_bases(time, t_age)
    low = np.maximum(tburst - burst_width_gyr / 2, 0.0)
    inside = (time >= low) & (time < low + burst_width_gyr) & (tburst <= t_age)
    sfr = mass * ((1 - fburst) * smooth + fburst * inside / burst_width_gyr) / 1e9
    gamma = th[:, [INDEX["gamma1"], INDEX["gamma2"]]]
    return sfr, np.clip(gamma @ model.bases.metallicity_bases(time), *Z_RANGE_PROVABGS)


def _psi(model: SPSModel, logzsol: jax.Array) -> jax.Array:
    return hat_weights(logzsol, model.library.logzsol)


def _surviving(model: SPSModel) -> jax.Array:
    return jnp.asarray(model.library.surviving_mass)


def _mean(beta: jax.Array, per_basis: FloatArray) -> jax.Array:
    """``sum_i beta_i x_i`` for x of shape ``(nbasis,)`` or ``(batch, nbasis)``."""
    return jnp.sum(beta * jnp.asarray(per_basis), axis=-1)
