"""The error of the stellar library's light per mass: what the noise model leaves to the mass.

A factor common to the model of all data changes the mass and nothing else, since the prior on log mass is flat: the
posterior is that without the factor, with the mass divided by a draw of it. So nothing is sampled. Each draw of the
posterior gets a factor of its own, as the parameter `LIGHT_ERROR`, and the mass that belongs to it.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from provabgs.core.arrays import FloatArray
from provabgs.inference.priors import Prior
from provabgs.sps.parameters import Parameter, ParameterSet

LIGHT_ERROR = Parameter(
    name="light_error",
    column="LIGHT_ERROR",
    symbol=r"\Delta \log L/M",
    unit="dex",
    description="light per mass of the galaxy's stars over that of the SSP library",
    prior="normal",
    bounds=(-np.inf, np.inf),
    role="nuisance",
)
"""Its mean is 0; its width, that of the noise model, belongs to the galaxy (`Projection.light_error`)."""


def spread_masses(
    theta: FloatArray, prior: Prior, total: str, sigma: float, rng: np.random.Generator
) -> tuple[FloatArray, ParameterSet]:
    """Draws of the posterior with a light error each, and the masses that belong to them.

    Parameters
    ----------
    theta
        ``(n, size)`` draws without the error.
    prior
        Of these parameters; no mass leaves its edges.
    total
        Name of log10 of the total mass.
    sigma
        Of ln of the factor.
    rng
        Random generator.

    Returns
    -------
    theta
        ``(n, size + 1)``, the error last, dex.
    parameters
        With `LIGHT_ERROR` last.
    """
    width = sigma / np.log(10)
    k = prior.parameters.index(total)
    low, high = (float(e) for e in prior.edges(total))
    # the mass is log M - error, within its edges
    ends = (theta[:, k] - np.array([[high], [low]])) / width
    error = width * stats.truncnorm.ppf(rng.random(len(theta)), *ends)
    out = np.column_stack([theta, error])
    out[:, k] -= error
    return out, prior.parameters.extended(LIGHT_ERROR)


def log_density(error: FloatArray, sigma: float) -> FloatArray:
    """Ln prior density of light errors.

    Parameters
    ----------
    error
        ``(n,)`` dex.
    sigma
        Of ln of the factor.

    Returns
    -------
    numpy.ndarray
        ``(n,)``.
    """
    return np.asarray(stats.norm.logpdf(error, scale=sigma / np.log(10)))


def as_fitted(theta: FloatArray, parameters: ParameterSet, total: str, wanted: ParameterSet) -> FloatArray:
    """Parameters as likelihoods take them: the light error put back into the mass.

    Parameters
    ----------
    theta
        ``(n, size)`` of a posterior.
    parameters
        What its columns hold: those of one fit, or of several that were averaged.
    total
        Name of log10 of the total mass.
    wanted
        Parameters of the one fit whose draws they are.

    Returns
    -------
    numpy.ndarray
        ``(n, wanted.size)``, without `LIGHT_ERROR`.
    """
    out = np.array(parameters.select(theta, wanted))
    if LIGHT_ERROR.name in parameters:
        out[:, wanted.index(total)] += parameters.get(theta, LIGHT_ERROR.name)
    return out
