"""The evidence as a density of the data, so that fits under different noise, stars or histories can be compared.

Likelihood backends leave constants out: the normalisation of the Gaussian, which depends on the noise model, and for a
compressed backend an offset from the exact ln L. Samplers leave out that of the prior, which depends on the numbers of
masses and of other parameters. All are added here, once per fit.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from provabgs.core.arrays import FloatArray, thin
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.priors import Prior
from provabgs.inference.samplers import SamplerResult
from provabgs.inference.target import to_theta
from provabgs.observe.projection import Projection

N_CHECKED = 24
"""Draws at which a backend is compared with the exact likelihood."""


def log_normalisation(projection: Projection) -> float:
    """Ln of the normalisation of the likelihood of a galaxy's data, ``-1/2 ln det(2 pi C)``.

    C is the covariance of pixels and bands together: white noise ``1/w``, and templates N of unit prior. With
    ``det C = det(I + N^T W N) / prod w``.

    Parameters
    ----------
    projection
        The galaxy.

    Returns
    -------
    float
        For pixels in 1e-17 erg/s/cm2/A and bands in nanomaggies.
    """
    sides = [s for s in (projection.spectrum, projection.photometry) if s is not None]
    ivar = np.concatenate([s.ivar for s in sides])
    templates = np.concatenate([s.templates for s in sides])
    normal = np.eye(templates.shape[1]) + templates.T @ (ivar[:, None] * templates)
    _, log_det = np.linalg.slogdet(normal)
    return float(-0.5 * (log_det - np.log(ivar).sum() + ivar.size * np.log(2 * np.pi)))


def log_prior_normalisation(exact: ExactLikelihood, prior: Prior) -> float:
    """Ln of what makes the prior of a marginalised posterior integrate to 1.

    Samplers have ``exp(-x^2 / 2)`` in each outer coordinate, and ``M^-n da`` in the n masses, which integrates to
    ``ln(M_high / M_low) / (n - 1)!``; where components are weighted (joint normalisation), times the weights.

    Parameters
    ----------
    exact
        Knows the linear block and the history tables.
    prior
        The galaxy's prior.

    Returns
    -------
    float
        Nats.
    """
    block = exact.model.linear_block
    low, high = (float(e) for e in prior.edges(block.total))
    weight = np.asarray(exact.tables.weight, dtype=np.float64) if block.fractions else np.ones(1)
    out = gammaln(block.n) - np.log(np.log(10) * (high - low)) - np.log(weight / weight.mean()).sum()
    return float(out - 0.5 * np.log(2 * np.pi) * len(prior.parameters.nonlinear_coordinates))


def difference_of(exact: ExactLikelihood, prior: Prior, result: SamplerResult) -> FloatArray:
    """Exact ln L minus that of the backend that was sampled, at a few draws.

    Parameters
    ----------
    exact
        The galaxy's exact likelihood.
    prior
        The galaxy's prior.
    result
        Of the backend.

    Returns
    -------
    FloatArray
        ``(N_CHECKED,)`` nats.
    """
    flat, log_likelihood = result.draws.reshape(-1, result.draws.shape[-1]), result.log_likelihood.reshape(-1)
    pick = thin(len(flat), N_CHECKED)
    spectrum, bands = exact.chi2(to_theta(flat[pick], prior))
    return np.asarray(-0.5 * (spectrum + bands) - log_likelihood[pick])


def of_the_data(exact: ExactLikelihood, prior: Prior, result: SamplerResult, difference: FloatArray) -> SamplerResult:
    """A sampler's result with ln L and evidence as densities of the data.

    Parameters
    ----------
    exact
        The galaxy's exact likelihood.
    prior
        The galaxy's prior.
    result
        Of the backend that was sampled.
    difference
        Of `difference_of`.

    Returns
    -------
    SamplerResult
        With one constant added to ln L of all draws and to the evidence: the mean difference of the exact and the
        sampled ln L over draws, and `log_normalisation`. `log_prior_normalisation` is added to the evidence alone.
    """
    offset = float(np.mean(difference))
    constant = log_normalisation(exact.projection) + (offset if np.isfinite(offset) else 0.0)
    evidence = result.log_evidence + constant + log_prior_normalisation(exact, prior)
    return result._replace(log_likelihood=result.log_likelihood + constant, log_evidence=evidence)
