"""Draws of derived properties from the prior on parameters.

A flat prior on the fractions of mass in each history basis is not flat in SFR, metallicity or age (Hahn et al. 2023,
arXiv:2202.01809, section 5). The induced priors are found by drawing parameters from their prior and computing the
properties with the functions that the fit uses.
"""

from __future__ import annotations

import numpy as np

from provabgs.catalog import expression
from provabgs.catalog.columns import Schema
from provabgs.catalog.evaluate import evaluate
from provabgs.catalog.names import sample_formulas
from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.dust_prior import log_ratio_of_draws
from provabgs.inference.likelihood import fit_parameters
from provabgs.inference.prior_correction import log_ratio_of_properties
from provabgs.inference.prior_draws import draw_quantities
from provabgs.inference.priors import Prior
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.nuisance import DISPERSION
from provabgs.sps.model import SPSModel

CORRECTED_EXCESS = 10
"""Uncorrected prior draws per draw of a corrected prior; as few as a twentieth of them may be effective."""
FIBER = (0.3, 0.03)
"""Mean and sigma of f_fiber in prior draws; no derived property depends on f_fiber."""


def draw_properties(config: FitConfig, redshift: float, n: int, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Draws of every parameter and property from the prior, for galaxies at one redshift.

    For a corrected prior, or a relation of the dust, `CORRECTED_EXCESS` times as many draws of the uncorrected one are
    resampled by the ratio of the two, so that some draws are repeated.

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

    Raises
    ------
    ConfigError
        When the fits were made under a learnt prior.
    """
    if config.prior is not None:
        raise ConfigError(
            f"these fits were made under a learnt prior ({config.prior.path.name}), which differs between galaxies and "
            "cannot be divided out; use the fits under the inference prior"
        )
    model = load_model(config.model)
    tables = model.tables(age_of_universe(config, redshift))
    prior, weighted = prior_of(config, model), config.prior_correction is not None or config.dust_prior != "uniform"
    drawn = CORRECTED_EXCESS * n if weighted else n
    values = draw_quantities(model, prior, tables, drawn, rng)
    if weighted:
        log_ratio = np.zeros(drawn)
        if config.prior_correction is not None:
            log_ratio += np.asarray(log_ratio_of_properties(config.prior_correction, values, tables))
        if config.dust_prior == "relation":
            log_ratio += log_ratio_of_draws(values, prior)
        weight = np.exp(log_ratio - log_ratio.max())
        chosen = rng.choice(drawn, n, p=weight / weight.sum())
        values = {name: v[chosen] for name, v in values.items()}
    schema = schema_of(model)
    out = {column: values[name] for name, column in schema.column_of.items()}
    for name, formula in sample_formulas(schema).items():
        if name.startswith("LOGSSFR"):
            out[name] = evaluate(expression.parse(formula), out)
    return out


def schema_of(model: SPSModel) -> Schema:
    """Parameters and derived properties of the fits of a model, as a catalog stores them."""
    return Schema(tuple(fit_parameters(model)), model.properties)


def prior_of(config: FitConfig, model: SPSModel) -> Prior:
    """The prior of a configuration on all parameters of a fit.

    Parameters
    ----------
    config
        Configuration of the fits, with its `prior_bounds`.
    model
        SPS model of the configuration.

    Returns
    -------
    Prior
        Over the model's parameters and those of an observation, with the velocity dispersion where every fit of a
        spectrum has it.
    """
    fitted, bounds = config.observing.vdisp_kms == "fit", config.prior_bounds
    if not fitted:  # not of all galaxies, and independent of all else
        bounds = {name: edges for name, edges in bounds.items() if name != DISPERSION.name}
    return Prior.of(fit_parameters(model, fitted), bounds, {"f_fiber": FIBER})


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
