"""Draws of derived properties from the prior on parameters.

A flat prior on the fractions of mass in each history basis is not flat in SFR, metallicity or age (Hahn et al. 2023,
arXiv:2202.01809, section 5). The induced priors are found by drawing parameters from their prior and computing the
properties with the functions that the fit uses.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from provabgs.catalog import expression
from provabgs.catalog.columns import SAMPLED
from provabgs.catalog.names import SAMPLE_FORMULAS
from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.inference.config import FitConfig
from provabgs.inference.engines import load_model
from provabgs.inference.prior_correction import log_ratio_of_properties
from provabgs.inference.priors import Prior, theta_from_unit
from provabgs.observe.cosmology import Cosmology
from provabgs.sps.derived import derived_properties
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import NAMES

CHUNK = 20_000
"""Prior draws per call of the model."""
CORRECTED_EXCESS = 10
"""Uncorrected prior draws per draw of a corrected prior; as few as a twentieth of them may be effective."""
FIBER = (0.3, 0.03)
"""Mean and sigma of f_fiber in prior draws; no derived property depends on f_fiber."""


def draw_properties(config: FitConfig, redshift: float, n: int, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Draws of every parameter and property from the prior, for galaxies at one redshift.

    For a corrected prior, `CORRECTED_EXCESS` times as many draws of the uncorrected one are resampled by the ratio of
    the two, so that some draws are repeated.

    Parameters
    ----------
    config
        Configuration of the fits; its prior, model and cosmology are used.
    redshift
        Of the galaxies.
    n
        Number of draws; a million take 4 s.
    rng
        Source of randomness.

    Returns
    -------
    dict
        ``(n,)`` per sample column (LOGMSTAR, LOGSFR_1GYR, ...) and the specific SFRs.
    """
    model = load_model(config.model)
    tables = model.tables(age_of_universe(config, redshift))
    prior = prior_of(config, model)
    n_unit = prior.low.shape[0]
    drawn = n if config.prior_correction is None else CORRECTED_EXCESS * n
    pieces = [
        _evaluate(model)(jnp.asarray(rng.uniform(size=(min(CHUNK, drawn), n_unit))), prior, tables)
        for _ in range(-(-drawn // CHUNK))
    ]
    by_name = {name: np.concatenate([np.asarray(p[name]) for p in pieces])[:drawn] for name in SAMPLED}
    if config.prior_correction is not None:
        log_ratio = np.asarray(log_ratio_of_properties(config.prior_correction, by_name, tables))
        weight = np.exp(log_ratio - log_ratio.max())
        chosen = rng.choice(drawn, n, p=weight / weight.sum())
        by_name = {name: values[chosen] for name, values in by_name.items()}
    out = {SAMPLED[name]: values for name, values in by_name.items()}
    for name, formula in SAMPLE_FORMULAS.items():
        if name.startswith("LOGSSFR"):
            out[name] = expression.evaluate(expression.parse(formula), out)
    return out


def prior_of(config: FitConfig, model: SPSModel) -> Prior:
    """The prior of a configuration on all parameters of its model.

    Parameters
    ----------
    config
        Configuration of the fits, with its `prior_bounds`.
    model
        Its SPS model, which may have more parameters than the published one (free gas).
    """
    return Prior.create(FIBER, config.prior_bounds, model.extra)


def age_of_universe(config: FitConfig, redshift: float) -> float:
    """Age of the universe in the cosmology of the fits.

    Parameters
    ----------
    config
        Configuration of the fits.
    redshift
        Of the galaxies.

    Returns
    -------
    float
        Gyr.
    """
    return float(Cosmology(config.observing.cosmology).age_gyr(redshift))


@lru_cache(maxsize=4)
def _evaluate(model: SPSModel) -> Any:
    """Unit cube to all parameters and properties, compiled once per model."""

    @jax.jit
    def call(unit: jax.Array, prior: Prior, tables: HistoryTables) -> dict[str, jax.Array]:
        theta = theta_from_unit(unit, prior)
        parameters = {name: theta[:, i] for i, name in enumerate(NAMES)}
        return {**parameters, **derived_properties(model, theta, tables)}

    return call
