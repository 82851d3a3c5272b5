"""One galaxy from observation to posterior. A galaxy that cannot be fitted becomes a STATUS, never an exception."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import stats

from provabgs.core.arrays import FloatArray, thin
from provabgs.core.chunks import in_chunks
from provabgs.core.errors import ConfigError, UnusableTargetError
from provabgs.core.identity import NO_ID, stream_of
from provabgs.core.jax import jnp
from provabgs.core.registry import load_plugins
from provabgs.core.status import Status
from provabgs.core.versions import versions
from provabgs.inference.alternatives import alternatives
from provabgs.inference.backends import make_likelihood, model_for
from provabgs.inference.config import FitConfig
from provabgs.inference.dust_prior import dust_ratio
from provabgs.inference.evidence import difference_of, of_the_data
from provabgs.inference.flags import SIGNIFICANCE
from provabgs.inference.learnt.target import learnt_ratio
from provabgs.inference.light_error import log_density, spread_masses
from provabgs.inference.likelihood import ExactLikelihood, Likelihood
from provabgs.inference.likelihood.exact import has_dispersion
from provabgs.inference.posterior import Diagnostics, Posterior, identity_of
from provabgs.inference.prior_correction import log_ratio_function
from provabgs.inference.prior_edge import edge_fractions
from provabgs.inference.priors import Prior
from provabgs.inference.quality import assess
from provabgs.inference.reweighted_target import LogRatio, reweight
from provabgs.inference.samplers import SAMPLERS, SamplerResult, StartError
from provabgs.inference.target import (
    CHUNK,
    compiled_log_prior,
    derived_columns,
    make_target,
    to_theta,
    to_unit,
)
from provabgs.observe.as_configured import as_configured, assumed_dispersion, dispersion_kms
from provabgs.observe.data_error import stand_in
from provabgs.observe.observation import Observation
from provabgs.observe.projection import bands_left_out, project
from provabgs.observe.spectrum_fraction import with_spectrum_fraction
from provabgs.sps.parameters import ParameterSet

HOPELESS = 1.3
"""chi^2 per pixel from which a slow fit is given up. Spectra at a wrong redshift have 1.35 to 1.5 at S/N 20; a bright
starburst at the right one (`make demo`) 1.15, which is flagged, but sampled to the end."""
ENGINE_TOLERANCE = 0.05
"""Scatter in ln L above which the backend is corrected at draws of the posterior, and the galaxy sampled again."""
N_REFERENCE = 64
"""Draws that such a correction is fitted to."""
ENGINE_LIMIT = 0.5
"""Scatter in ln L above which a posterior's STATUS is ENGINE_ERROR."""
LEAST_TIME_S = 0.1
"""What a sampler is given when the time of the galaxy has gone before it begins: one stage."""


def fit_observation(observation: Observation, config: FitConfig | None = None, seed: int = 0) -> Posterior:
    """Fit one galaxy under one library and family; `provabgs.inference.fit.fit_one` averages over several.

    Parameters
    ----------
    observation
        The galaxy's data.
    config
        Configuration; defaults when None.
    seed
        Seed of the run; the galaxy's random numbers derive from it and the TARGETID, so that the result does not depend
        on which worker runs it, or when.

    Returns
    -------
    Posterior
        With samples, or with a STATUS and message that say why there are none.

    Raises
    ------
    ConfigError
        When the configuration names several libraries, families of histories or amplitudes.
    """
    config = config or FitConfig()
    if len(alternatives(config)) > 1:
        raise ConfigError(
            "several libraries, families of histories or amplitudes of the template error are several fits; "
            "`fit_one`, `provabgs fit` and `provabgs run` make them and average"
        )
    start = time.perf_counter()
    try:
        load_plugins(config.plugins)
        observation = as_configured(observation.part(config.use), config.observing)
        fitted, assumed = with_spectrum_fraction(observation)
        model = model_for(config.model, fitted, config.engine)
        projection = project(fitted, model.library, config.observing)
        exact = ExactLikelihood(projection, model)
        prior = prior_of(exact, fitted, config)
        data_hash = observation.digest() if observation.targetid == NO_ID else ""  # milliseconds, for those alone
        stream = stream_of(observation.targetid, data_hash)
        ratio = _prior_ratio(exact, prior, config, observation.redshift, stream)
        rng = galaxy_rng(seed, stream)
        result, difference = _sample(exact, prior, config, rng, ratio, start + config.sampler.time_limit_s)
        engine_error = 0.0 if config.engine == "exact" else float(np.std(difference))
        result = of_the_data(exact, prior, result, difference)
        fit = _Fit(observation, exact, prior, ratio, config, seed, rng)
    except UnusableTargetError as err:
        return Posterior.without_samples(Status(err.status), str(err), config, seed, **identity_of(observation))
    except StartError as err:
        return Posterior.without_samples(Status.LIKELIHOOD_FAILED, str(err), config, seed, **identity_of(observation))
    posterior = _assemble(fit, result, engine_error, time.perf_counter() - start)
    left_out, others = bands_left_out(observation, projection), stand_in(config.observing, model.library)
    dispersion = assumed_dispersion(observation, config.observing)
    notes = (posterior.message, assumed, dispersion, left_out, others, projection.note)
    return replace(posterior, message="; ".join(m for m in notes if m))


class _Fit(NamedTuple):
    """What one galaxy's fit consists of."""

    observation: Observation
    exact: ExactLikelihood
    prior: Prior
    ratio: LogRatio | None
    config: FitConfig
    seed: int
    rng: np.random.Generator


def prior_of(exact: ExactLikelihood, observation: Observation, config: FitConfig) -> Prior:
    """The galaxy's prior: what model and observation declare, with the configuration's edges and the fiber's fraction.

    Parameters
    ----------
    exact
        Knows the parameters of the fit.
    observation
        Gives mean and sigma of f_fiber; f_fiber is held at 1 where it has none (spectrum or bands alone).
    config
        Gives `prior_bounds`.

    Returns
    -------
    Prior
        Over the parameters of the fit.
    """
    fiber, bounds = observation.fiber_fraction, config.prior_bounds
    if config.observing.may_fit_dispersion and not has_dispersion(exact.projection):
        bounds = {name: edges for name, edges in bounds.items() if name != "vdisp"}  # bands alone, spectra of low S/N
    return Prior.of(exact.parameters, bounds, {} if fiber is None else {"f_fiber": fiber})


def _prior_ratio(
    exact: ExactLikelihood, prior: Prior, config: FitConfig, redshift: float, stream: int
) -> LogRatio | None:
    """Ln of the dust's, the corrected and the learnt prior over the uniform one; None where there is none of them."""
    found: list[LogRatio] = []
    if config.dust_prior == "relation":
        found.append(dust_ratio(prior))
    if config.prior_correction is not None:
        found.append(log_ratio_function(config.prior_correction, exact.model, prior, exact.tables))
    if config.prior is not None:
        learnt = config.prior.load()
        learnt.check(config)
        found.append(learnt_ratio(learnt, exact.model, prior, exact.tables, redshift, stream))
    if len(found) < 2:
        return found[0] if found else None
    return lambda latent: np.sum([ratio(latent) for ratio in found], axis=0)


def _sample(
    exact: ExactLikelihood,
    prior: Prior,
    config: FitConfig,
    rng: np.random.Generator,
    ratio: LogRatio | None,
    end: float,
) -> tuple[SamplerResult, FloatArray]:
    """Sample, and compare the likelihood backend with the exact likelihood at draws of the result.

    Where the two differ by more than `ENGINE_TOLERANCE` (the scatter counts, a constant does not), the backend is
    corrected at draws of the posterior and the galaxy sampled once more, in what is left of the time.
    """
    sampler = SAMPLERS[config.sampler.name]

    def sample(likelihood: Likelihood) -> SamplerResult:
        target = replace(
            make_target(likelihood, exact.model, exact.tables, prior), misfit=lambda z: _misfit(exact, prior, z)
        )
        options = config.sampler.model_copy(update={"time_limit_s": max(end - time.perf_counter(), LEAST_TIME_S)})
        if ratio is None:
            return sampler(target, rng, options)
        result = sampler(reweight(target, ratio), rng, options)
        log_ratio = ratio(_flat(result)).reshape(result.log_likelihood.shape)
        return result._replace(log_likelihood=result.log_likelihood - log_ratio)

    likelihood = make_likelihood(exact, config)
    result = sample(likelihood)
    difference = difference_of(exact, prior, result)
    if float(np.std(difference)) > ENGINE_TOLERANCE and time.perf_counter() < end and not result.gave_up:
        flat = _flat(result)
        likelihood = likelihood.with_reference(jnp.asarray(to_theta(flat[thin(len(flat), N_REFERENCE)], prior)))
        first, result = result, sample(likelihood)
        result = result._replace(n_eval=first.n_eval + result.n_eval)
        difference = difference_of(exact, prior, result)
    return result, difference


def _misfit(exact: ExactLikelihood, prior: Prior, latent: FloatArray) -> str:
    """Why the spectrum refuses a draw ``(n_latent,)``; empty where it does not."""
    n_pix = exact.projection.n_data[0]
    if not n_pix:
        return ""
    chi2 = float(exact.chi2(to_theta(latent[None], prior))[0][0])
    if chi2 < HOPELESS * n_pix or stats.chi2.sf(chi2, n_pix) > SIGNIFICANCE:
        return ""
    return f"no model describes the spectrum (chi^2 {chi2:.0f} for {n_pix} pixels; is the redshift right?)"


def _flat(result: SamplerResult) -> FloatArray:
    """Latent coordinates of all draws, ``(n, n_latent)``."""
    return result.draws.reshape(-1, result.draws.shape[-1])


def galaxy_rng(seed: int, targetid: int) -> np.random.Generator:
    """Random generator of one galaxy, a function of run seed and TARGETID alone.

    Parameters
    ----------
    seed
        Seed of the run.
    targetid
        DESI TARGETID; negative ones (sky fibers) are taken modulo 2^64.

    Returns
    -------
    np.random.Generator
        Independent of those of other galaxies.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, targetid & (2**64 - 1)]))


def _assemble(fit: _Fit, result: SamplerResult, engine_error: float, runtime: float) -> Posterior:
    """Everything that is kept of a sampled galaxy."""
    exact, config = fit.exact, fit.config
    flat = _flat(result)
    theta_all = to_theta(flat, fit.prior)
    log_prob = _log_posterior(fit, flat, theta_all, result)
    keep, best = thin(len(flat), config.n_samples), theta_all[np.argmax(log_prob)][None]
    theta, best_fit, log_prob, parameters = _with_light_error(fit, theta_all[keep], best, log_prob[keep])
    quality, (chi2_spec, chi2_phot) = assess(exact, theta_all[keep], best[0])
    n_pix, n_band = exact.projection.n_data
    unit = in_chunks(lambda t: to_unit(t, fit.prior), theta_all[keep], CHUNK)
    status, message = _verdict(result, config, engine_error)
    return Posterior(
        status=status,
        message=message,
        parameters=parameters,
        properties=exact.model.properties,
        samples=theta,
        log_prob=log_prob,
        derived=_derived(exact, theta, parameters),
        best_fit=best_fit[0],
        best_fit_derived={k: float(v[0]) for k, v in _derived(exact, best_fit, parameters).items()},
        diagnostics=replace(_diagnostics(exact, result, engine_error, runtime), vdisp_fixed=_fixed_dispersion(fit)),
        chi2_spec=chi2_spec if n_pix else float("nan"),
        chi2_phot=chi2_phot if n_band else float("nan"),
        dof_spec=n_pix,
        dof_phot=n_band,
        prior_edge=edge_fractions(unit, fit.prior.parameters),
        quality=quality,
        seed=fit.seed,
        config=config.model_dump_json(),
        versions=versions(),
        **identity_of(fit.observation),
    )


def _with_light_error(
    fit: _Fit, theta: FloatArray, best: FloatArray, log_prob: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, ParameterSet]:
    """Draws, best fit, log posterior and parameters with the error of the library's light, where there is one."""
    sigma, total = fit.exact.projection.light_error, fit.exact.model.linear_block.total
    if sigma == 0:
        return theta, best, log_prob, fit.exact.parameters
    theta, parameters = spread_masses(theta, fit.prior, total, sigma, fit.rng)
    log_prob = log_prob + log_density(theta[:, -1], sigma)
    return theta, np.append(best, [[0.0]], axis=1), log_prob, parameters


def _derived(exact: ExactLikelihood, theta: FloatArray, parameters: ParameterSet) -> dict[str, FloatArray]:
    """Derived properties of parameter vectors ``(n, size)`` of the fit."""
    return derived_columns(exact.model, parameters.select(theta, exact.model.parameters), exact.tables)


def _log_posterior(fit: _Fit, flat: FloatArray, theta: FloatArray, result: SamplerResult) -> FloatArray:
    """Ln of likelihood times prior in theta at all draws, ``(n,)``."""
    log_prior = in_chunks(lambda t: compiled_log_prior(t, fit.prior), theta, CHUNK)
    log_prob = result.log_likelihood.reshape(-1) + log_prior
    return log_prob if fit.ratio is None else log_prob + fit.ratio(flat)


def _diagnostics(exact: ExactLikelihood, result: SamplerResult, engine_error: float, runtime: float) -> Diagnostics:
    names = (*exact.parameters.names, *(p.name for p in exact.model.properties))
    report = result.convergence
    return Diagnostics(
        rhat=dict(zip(names, report.rhat.tolist(), strict=True)),
        ess_bulk=dict(zip(names, report.ess_bulk.tolist(), strict=True)),
        ess_tail=dict(zip(names, report.ess_tail.tolist(), strict=True)),
        n_eval=result.n_eval,
        n_divergent=result.n_divergent,
        runtime_s=runtime,
        sampler=result.sampler,
        log_evidence=result.log_evidence,
        engine_dlnl=engine_error,
        evidence_spread=result.evidence_spread,
    )


def _fixed_dispersion(fit: _Fit) -> float:
    """Velocity dispersion at which the spectrum's was held, km/s; NaN where it is a parameter or nothing has one."""
    if fit.exact.projection.spectrum is None or has_dispersion(fit.exact.projection):
        return float("nan")
    return dispersion_kms(fit.observation, fit.config.observing)


def _verdict(result: SamplerResult, config: FitConfig, engine_error: float) -> tuple[Status, str]:
    """STATUS and the reason of one that is not CONVERGED."""
    report = result.convergence
    if engine_error > ENGINE_LIMIT:
        return Status.ENGINE_ERROR, (
            f"the {config.engine} likelihood is off by {engine_error:.2g} in ln L at the posterior; refit with "
            "engine = 'exact'"
        )
    if result.reason:
        return Status.NOT_CONVERGED, result.reason
    if report.passes(config.sampler.rhat, config.sampler.ess):
        return Status.CONVERGED, ""
    reached = f"R-hat {report.rhat_max:.3g}, ESS {report.ess_min:.3g} after {result.n_eval} evaluations"
    return Status.NOT_CONVERGED, reached
