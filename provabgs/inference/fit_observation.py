"""One galaxy from observation to posterior. A galaxy that cannot be fitted becomes a STATUS, never an exception."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from provabgs.core.arrays import FloatArray, thin
from provabgs.core.chunks import in_chunks
from provabgs.core.errors import UnusableTargetError
from provabgs.core.jax import jnp
from provabgs.core.status import Status
from provabgs.core.versions import versions
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.config import FitConfig
from provabgs.inference.emulated import EmulatedLikelihood
from provabgs.inference.engines import Likelihood, load_model, make_likelihood
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.posterior import Diagnostics, Posterior, identity_of
from provabgs.inference.prior_correction import log_ratio_function
from provabgs.inference.priors import LATENT_NAMES, Prior
from provabgs.inference.reweighted_target import LogRatio, tilt
from provabgs.inference.samplers import SamplerResult, StartError, get_sampler
from provabgs.inference.target import (
    CHUNK,
    compiled_log_prior,
    derived_columns,
    make_target,
    to_theta,
    to_unit,
)
from provabgs.observe.observation import Observation
from provabgs.observe.projection import Projection, project
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import DERIVED_NAMES, NAMES, Parameter

N_CHECKED = 24
"""Draws at which the engine is held against the exact likelihood."""
ENGINE_TOLERANCE = 0.05
"""Scatter in ln L above which the engine is corrected at draws of the posterior, and the galaxy sampled again."""
N_REFERENCE = 64
"""Draws that such a correction learns from."""
ENGINE_LIMIT = 0.5
"""Scatter in ln L above which a posterior's STATUS is ENGINE_ERROR."""
EDGE_WIDTH = 0.01
"""Draws within this fraction of the prior's width from an edge count as at the edge."""


def fit_observation(observation: Observation, config: FitConfig | None = None, seed: int = 0) -> Posterior:
    """Fit one galaxy.

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
    """
    config = config or FitConfig()
    start = time.perf_counter()
    try:
        observation = _select(observation, config)
        model = load_model(config.model)
        projection = project(observation, model.library, config.observing)
        prior = Prior.create(observation.fiber_fraction, config.prior_bounds, model.extra)
        exact = ExactLikelihood(projection, model)
        ratio = _prior_ratio(exact, prior, config)
        result, engine_error = _sample(exact, prior, config, galaxy_rng(seed, observation.targetid), ratio)
    except UnusableTargetError as err:
        return Posterior.without_samples(Status(err.status), str(err), config, seed, **identity_of(observation))
    except StartError as err:
        return Posterior.without_samples(Status.LIKELIHOOD_FAILED, str(err), config, seed, **identity_of(observation))
    runtime = time.perf_counter() - start
    posterior = _assemble(observation, projection, exact, prior, ratio, result, config, seed, runtime)
    return _with_engine_error(posterior, engine_error)


def _prior_ratio(exact: ExactLikelihood, prior: Prior, config: FitConfig) -> LogRatio | None:
    """Ln of the corrected prior over the one on parameters; None where it is not corrected."""
    if config.prior_correction is None:
        return None
    return log_ratio_function(config.prior_correction, exact.model, prior, exact.tables)


def _sample(
    exact: ExactLikelihood, prior: Prior, config: FitConfig, rng: np.random.Generator, ratio: LogRatio | None
) -> tuple[SamplerResult, float]:
    """Sample, and hold the engine against the exact likelihood at draws of the result.

    Where the two differ by more than `ENGINE_TOLERANCE` (the scatter counts, a constant does not), the engine is
    corrected at draws of the posterior and the galaxy sampled once more.
    """

    def sample(likelihood: Likelihood) -> SamplerResult:
        target = make_target(likelihood, exact, prior)
        if ratio is None:
            return sampler(target, rng, config.sampler)
        result = sampler(tilt(target, ratio), rng, config.sampler)
        log_ratio = ratio(_flat(result)).reshape(result.log_likelihood.shape)
        return result._replace(log_likelihood=result.log_likelihood - log_ratio)

    likelihood = make_likelihood(exact, config)
    sampler = get_sampler(config.sampler.name)
    result = sample(likelihood)
    error = _engine_error(likelihood, exact, prior, result)
    if error > ENGINE_TOLERANCE and isinstance(likelihood, CompressedLikelihood | EmulatedLikelihood):
        flat = _flat(result)
        pick = thin(len(flat), N_REFERENCE)
        likelihood = likelihood.with_reference(jnp.asarray(to_theta(flat[pick], prior)))
        first, result = result, sample(likelihood)
        result = result._replace(n_eval=first.n_eval + result.n_eval)
        error = _engine_error(likelihood, exact, prior, result)
    return result, error


def _engine_error(likelihood: Likelihood, exact: ExactLikelihood, prior: Prior, result: SamplerResult) -> float:
    """Standard deviation over a few draws of ln L of the engine minus the exact one; 0 for the exact engine."""
    if likelihood is exact:
        return 0.0
    flat = _flat(result)
    pick = thin(len(flat), N_CHECKED)
    spec, phot = exact.chi2(to_theta(flat[pick], prior))
    engine = result.log_likelihood.reshape(-1)[pick]
    return float(np.std(engine + 0.5 * (spec + phot)))


def _flat(result: SamplerResult) -> FloatArray:
    """Latent coordinates of all draws, ``(n, n_latent)``."""
    return result.draws.reshape(-1, result.draws.shape[-1])


def _with_engine_error(posterior: Posterior, error: float) -> Posterior:
    """Record the engine's error; samples of a likelihood that is off by more than the limit are not passed as good."""
    posterior = replace(posterior, diagnostics=replace(posterior.diagnostics, engine_dlnl=error))
    if error <= ENGINE_LIMIT:
        return posterior
    message = f"the engine is off by {error:.2g} in ln L at the posterior; refit with engine = 'exact'"
    return replace(posterior, status=Status.ENGINE_ERROR, message=message)


def galaxy_rng(seed: int, targetid: int) -> np.random.Generator:
    """Random generator of one galaxy, a function of run seed and TARGETID alone."""
    return np.random.default_rng(np.random.SeedSequence([seed, targetid & (2**64 - 1)]))


def _select(observation: Observation, config: FitConfig) -> Observation:
    """Leave out spectrum or photometry as configured."""
    if config.use == "both":
        return observation
    keep = {k: getattr(observation, k) for k in observation.__dataclass_fields__}
    keep |= {"photometry": None} if config.use == "spectrum" else {"spectra": ()}
    return Observation(**keep)


def _assemble(
    observation: Observation,
    projection: Projection,
    likelihood: ExactLikelihood,
    prior: Prior,
    ratio: LogRatio | None,
    result: SamplerResult,
    config: FitConfig,
    seed: int,
    runtime: float,
) -> Posterior:
    model, n = likelihood.model, len(NAMES)
    names = (*NAMES, *(p.name for p in model.extra), *DERIVED_NAMES)
    report = result.convergence
    good = report.passes(config.sampler.rhat, config.sampler.ess)
    flat = _flat(result)
    log_like = result.log_likelihood.reshape(-1)
    keep = thin(len(flat), config.n_samples)
    theta_all = to_theta(flat, prior)
    log_prob = log_like + in_chunks(lambda t: compiled_log_prior(t, prior), theta_all, CHUNK)
    if ratio is not None:
        log_prob += ratio(flat)
    best = theta_all[np.argmax(log_prob)][None]
    theta = theta_all[keep]
    chi2_spec, chi2_phot = (float(c[0]) for c in likelihood.chi2(best))
    n_pix, n_band = projection.n_data
    diagnostics = Diagnostics(
        rhat=dict(zip(names, report.rhat.tolist(), strict=True)),
        ess_bulk=dict(zip(names, report.ess_bulk.tolist(), strict=True)),
        ess_tail=dict(zip(names, report.ess_tail.tolist(), strict=True)),
        n_eval=result.n_eval,
        n_divergent=result.n_divergent,
        runtime_s=runtime,
        sampler=result.sampler,
        log_evidence=result.log_evidence,
    )
    message = "" if good else f"R-hat {report.rhat_max:.3g}, ESS {report.ess_min:.3g} after {result.n_eval} evaluations"
    return Posterior(
        status=Status.CONVERGED if good else Status.NOT_CONVERGED,
        message=message,
        samples=theta[:, :n],
        log_prob=log_prob[keep],
        derived=_extra(model, theta) | derived_columns(model, theta, likelihood.tables),
        best_fit=best[0, :n],
        best_fit_derived={
            k: float(v[0]) for k, v in (_extra(model, best) | derived_columns(model, best, likelihood.tables)).items()
        },
        diagnostics=diagnostics,
        chi2_spec=chi2_spec if n_pix else float("nan"),
        chi2_phot=chi2_phot if n_band else float("nan"),
        dof_spec=n_pix,
        dof_phot=n_band,
        prior_edge=_prior_edge(theta, prior, model.extra),
        seed=seed,
        config=config.model_dump_json(),
        versions=versions(),
        **identity_of(observation),
    )


def _extra(model: SPSModel, theta: FloatArray) -> dict[str, FloatArray]:
    """Parameters beyond the thirteen, by name: stored beside the derived properties."""
    return {p.name: theta[:, len(NAMES) + k] for k, p in enumerate(model.extra)}


def _prior_edge(theta: FloatArray, prior: Prior, extra: tuple[Parameter, ...]) -> dict[str, float]:
    unit = in_chunks(lambda t: to_unit(t, prior), theta, CHUNK)
    at_edge = (unit < EDGE_WIDTH) | (unit > 1 - EDGE_WIDTH)
    names = (*LATENT_NAMES, *(p.name for p in extra))
    return dict(zip(names, at_edge.mean(axis=0).tolist(), strict=True))
