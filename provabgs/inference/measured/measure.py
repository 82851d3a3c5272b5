"""All measured quantities of one galaxy."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ProvabgsError
from provabgs.core.messages import first_line
from provabgs.inference.config import FitConfig
from provabgs.inference.measured.history import histories
from provabgs.inference.measured.index_columns import data_indices, model_indices
from provabgs.inference.measured.light import light
from provabgs.inference.measured.line_columns import line_columns
from provabgs.inference.measured.quantity import Drawn, Measured, quantiles_of
from provabgs.inference.measured.spectra import Spectra, spectra_of
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation

_LOG = logging.getLogger(__name__)
Numbers = dict[Measured, FloatArray]
"""One number for each suffix of a quantity."""


def with_measurements(posterior: Posterior, observation: Observation) -> Posterior:
    """A posterior with what its configuration asks to be measured.

    Parameters
    ----------
    posterior
        Of a fit.
    observation
        The data that were fitted.

    Returns
    -------
    Posterior
        The same draws. Where a measurement fails, the message says so and the columns are null.
    """
    try:
        numbers = measure(posterior, observation)
    except (ProvabgsError, ArithmeticError, np.linalg.LinAlgError) as error:  # the fit stands without them
        _LOG.debug("TARGETID %d: measuring raised", posterior.targetid, exc_info=True)
        said = f"nothing measured after the fit ({type(error).__name__}: {first_line(error)})"
        return replace(posterior, message="; ".join(m for m in (posterior.message, said) if m))
    return replace(
        posterior, measured_quantities=tuple(numbers), measured={q.name: values for q, values in numbers.items()}
    )


def measure(posterior: Posterior, observation: Observation | None = None) -> Numbers:
    """Measure one galaxy on draws of its posterior.

    Parameters
    ----------
    posterior
        Of a fit, with the configuration that says what to measure (`FitConfig.measure`).
    observation
        The data that were fitted; without them only what the model says is measured, in no observed band.

    Returns
    -------
    dict
        By quantity: 16, 50 and 84 % quantiles over draws, or a value and its error. Empty for a posterior without
        samples.
    """
    options = FitConfig.model_validate_json(posterior.config).measure
    if not len(posterior.samples) or not options.groups:
        return {}
    drawn: dict[Measured, list[FloatArray]] = {}
    fits = list(spectra_of(posterior, options.n_draws))
    for spectra in fits:
        for one in _of_one_fit(posterior, observation, spectra):
            drawn.setdefault(one.quantity, []).append(one.draws)
    numbers = {quantity: quantiles_of(np.concatenate(draws)) for quantity, draws in drawn.items()}
    if "indices" in options.groups:
        numbers |= dict(data_indices(observation))
    if "lines" in options.groups and observation is not None:  # under the fit that has the most draws
        numbers |= line_columns(posterior, observation, max(fits, key=lambda f: f.rows.size))
    return numbers


def _of_one_fit(posterior: Posterior, observation: Observation | None, spectra: Spectra) -> list[Drawn]:
    """Whatever follows from draws alone."""
    options, out = spectra.config.measure, []
    total = spectra.model.linear_block.total
    if "light" in options.groups:
        bands = observation.photometry.bands if observation is not None and observation.photometry is not None else ()
        mass = posterior.derived.get("logmstar_surviving")
        out += light(spectra, bands, options.band_shift, None if mass is None else mass[spectra.rows])
    if "indices" in options.groups:
        out += model_indices(spectra)
    if "history" in options.groups:
        theta = np.array(spectra.theta)
        # the masses of the posterior: an error of the library's light is in them, and not in what makes the light
        theta[:, spectra.model.parameters.index(total)] = posterior[total][spectra.rows]
        out += histories(spectra.model, theta, spectra.t_age)
    return out
