"""The default sampler: annealed adaptive importance sampling of the collapsed posterior, judged by Metropolis chains.

1. From the prior to the posterior through tempered targets: each stage draws from a Student-t mixture fitted to the
   reweighted draws of the last, and goes as far as its effective sample size allows. Two independent populations do
   this; a mode that one of them misses shows in their evidence and in R-hat.
2. At the posterior, mixtures are refitted until their efficiency settles.
3. Independence Metropolis chains walk over fresh proposals from both populations' mixtures, with masses drawn from
   their exact conditional (`collapsed`). The chains are draws of the exact posterior; the gate is held against them.
   While it fails, the proposal learns from them and longer chains start afresh, until the budget ends.

Everything is evaluated in large batches; nothing is trained beforehand.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from provabgs.inference.collapsed import N_OUTER, OUTER_INDEX, CollapsedPosterior
from provabgs.inference.config import SamplerOptions
from provabgs.inference.diagnostics import Convergence, convergence
from provabgs.inference.priors import N_LATENT
from provabgs.inference.samplers.base import SamplerResult, StartError, Target
from provabgs.inference.samplers.mixture import Mixture, combine, fit_mixture

FloatArray = NDArray[np.float64]

N_POPULATIONS = 2
N_PRIOR = 4096
"""Prior draws that start each population."""
N_STAGE = 2048
"""Draws per annealing stage and population."""
STAGE_EFFICIENCY = 0.05
"""Effective fraction at which a stage stops."""
N_COMPONENTS = 4
"""Mixture components while annealing."""
POLISH = ((2048, 8), (3072, 12), (4096, 16))
"""Draws and components of the refits at the posterior."""
GOOD_EFFICIENCY = 0.10
"""Refitting stops once this fraction of draws is effective."""
MAX_STAGES = 60
N_CHAINS = 8
FIRST_CHAIN = 2048
MAX_CHAIN = 16384
"""Steps per chain at the first look at the gate, and at most; they double."""
FIRST_COMPONENTS, MAX_COMPONENTS = 12, 28
"""Mixture components of the refits from chains."""
MAX_REFIT = 16384
MAX_JUDGED = 4096
"""Steps per chain that diagnostics look at."""
N_MASSES = 8
"""Mass draws per outer draw."""
BATCH = 1024


@dataclass
class Population:
    """One annealed population: its proposal and what it has cost."""

    proposal: Mixture
    efficiency: float
    log_evidence: float
    n_eval: int


def sample_annealed(target: Target, rng: np.random.Generator, options: SamplerOptions) -> SamplerResult:
    """Sample by annealed importance sampling of `target.collapsed`.

    Raises
    ------
    StartError
        When the likelihood is nowhere finite, or the target has no collapsed form.
    """
    if target.collapsed is None:
        raise StartError("the annealed sampler needs the collapsed posterior; use sampler.name = 'emcee'")
    start = time.perf_counter()
    posterior = target.collapsed
    populations = [_anneal(posterior, rng) for _ in range(N_POPULATIONS)]
    n_eval = sum(p.n_eval for p in populations)
    proposal = combine(populations[0].proposal, populations[1].proposal)
    n_step, n_components = FIRST_CHAIN, FIRST_COMPONENTS
    while True:
        draws, cost = _walk(posterior, proposal, n_step, rng)
        n_eval += cost
        report = _judge(draws, target)
        spent = time.perf_counter() - start
        if report.passes(options.rhat, options.ess) or n_eval + 2 * cost > options.max_eval:
            break
        if spent > options.time_limit_s:
            break
        # where chains stuck the proposal was too thin: learn from the chains themselves, and walk again for longer
        flat = draws.reshape(-1, draws.shape[-1])[:, OUTER_INDEX]
        keep = rng.choice(len(flat), min(len(flat), MAX_REFIT), replace=False)
        proposal = combine(fit_mixture(flat[keep], n_components, rng), proposal)
        n_step, n_components = min(2 * n_step, MAX_CHAIN), min(n_components + 4, MAX_COMPONENTS)
    log_like = _batched(target.log_likelihood, draws.reshape(-1, draws.shape[-1])).reshape(draws.shape[:2])
    evidence = [p.log_evidence for p in populations]
    efficiency = np.mean([p.efficiency for p in populations])
    return SamplerResult(
        draws,
        log_like,
        report,
        n_eval,
        "annealed",
        log_evidence=float(np.mean(evidence)),
        message=f"efficiency {efficiency:.3f}, evidence differs by {np.ptp(evidence):.2f} between populations",
    )


def _anneal(posterior: CollapsedPosterior, rng: np.random.Generator) -> Population:
    """Carry one population from the prior to a good proposal for the posterior."""
    x = rng.standard_normal((N_PRIOR, N_OUTER))
    log_target = _batched(posterior.log_marginal, x)
    log_prior = _log_normal(x)
    log_proposal = log_prior.copy()
    n_eval, power = len(x), 0.0
    if not np.any(np.isfinite(log_target)):
        raise StartError(f"the likelihood is 0 or NaN at all of {N_PRIOR} draws from the prior")
    proposal = None
    for _ in range(MAX_STAGES):
        log_like = np.where(np.isfinite(log_target), log_target - log_prior, -np.inf)
        power = _next_power(log_like, log_prior - log_proposal, power)
        weights = _normalised(_tempered(log_like, log_prior - log_proposal, power))
        proposal = fit_mixture(_resample(x, weights, N_STAGE, rng), N_COMPONENTS, rng)
        if power >= 1.0:
            break
        x = proposal.sample(N_STAGE, rng)
        log_target, log_prior, log_proposal = (
            _batched(posterior.log_marginal, x),
            _log_normal(x),
            proposal.log_density(x),
        )
        n_eval += len(x)
    return _polish(posterior, proposal, n_eval, rng)


def _polish(
    posterior: CollapsedPosterior, proposal: Mixture | None, n_eval: int, rng: np.random.Generator
) -> Population:
    """Refit at the posterior itself, keeping the best proposal met."""
    assert proposal is not None
    best: Population | None = None
    for n, k in POLISH:
        x = proposal.sample(n, rng)
        log_weight = _batched(posterior.log_marginal, x) - proposal.log_density(x)
        n_eval += n
        weights = _normalised(log_weight)
        efficiency = 1 / np.sum(weights**2) / n
        peak = np.max(log_weight)
        evidence = float(peak + np.log(np.mean(np.exp(log_weight - peak))))
        if best is None or efficiency > best.efficiency:
            best = Population(proposal, float(efficiency), evidence, n_eval)
        if efficiency > GOOD_EFFICIENCY and n > POLISH[0][0]:
            break
        proposal = fit_mixture(_resample(x, weights, n, rng), k, rng)
    assert best is not None
    return Population(best.proposal, best.efficiency, best.log_evidence, n_eval)


def _walk(
    posterior: CollapsedPosterior, proposal: Mixture, n_step: int, rng: np.random.Generator
) -> tuple[FloatArray, int]:
    """Independence Metropolis chains ``(N_CHAINS, n_step, 12)`` and the evaluations that they cost."""
    n = N_CHAINS * n_step
    x = proposal.sample(n, rng)
    uniforms = rng.random((n, N_MASSES, 5))
    latent = np.empty((n, N_LATENT))
    log_weight = _batched(posterior.log_marginal, x) - proposal.log_density(x)
    for i in range(0, n, BATCH):
        latent[i : i + BATCH], ratio = posterior.draw_masses(x[i : i + BATCH], uniforms[i : i + BATCH])
        log_weight[i : i + BATCH] += np.where(np.isfinite(ratio), ratio, -np.inf)
    log_weight = log_weight.reshape(N_CHAINS, n_step)
    log_uniform = np.log(rng.random((N_CHAINS, n_step)))
    steps = np.empty((N_CHAINS, n_step), dtype=np.int64)
    for c in range(N_CHAINS):
        # start where the weights say: stationary from the first step
        state = int(rng.choice(n_step, p=_normalised(log_weight[c])))
        for s in range(n_step):
            if log_weight[c, s] - log_weight[c, state] > log_uniform[c, s]:
                state = s
            steps[c, s] = state
    chains = latent.reshape(N_CHAINS, n_step, -1)
    return np.take_along_axis(chains, steps[:, :, None], axis=1), 2 * n


def _judge(draws: FloatArray, target: Target) -> Convergence:
    """Diagnostics of every monitored quantity; long chains are thinned first, which can only lower the numbers."""
    thinned = draws[:, :: max(1, draws.shape[1] // MAX_JUDGED)]
    quantities = _batched(target.monitor, thinned.reshape(-1, draws.shape[-1]))
    return convergence(quantities.reshape(*thinned.shape[:2], -1))


# ---- weights -----------------------------------------------------------------------------------------------------


def _log_normal(x: FloatArray) -> FloatArray:
    """Prior in standard-normal coordinates, in the normalisation of `Target.log_prob` (constant left out)."""
    return -0.5 * np.sum(x * x, axis=1)


def _tempered(log_like: FloatArray, log_ratio: FloatArray, power: float) -> FloatArray:
    return np.where(np.isfinite(log_like), power * log_like, -np.inf) + log_ratio


def _next_power(log_like: FloatArray, log_ratio: FloatArray, power: float) -> float:
    """Largest power of the likelihood at which the draws keep `STAGE_EFFICIENCY`; at least a hair above `power`."""

    def efficiency(p: float) -> float:
        w = _normalised(_tempered(log_like, log_ratio, p))
        return float(1 / np.sum(w * w) / len(w))

    if efficiency(1.0) >= STAGE_EFFICIENCY:
        return 1.0
    low, high = power, 1.0
    for _ in range(40):
        middle = np.sqrt(max(low, 1e-9) * high)
        low, high = (middle, high) if efficiency(middle) >= STAGE_EFFICIENCY else (low, middle)
    return min(1.0, max(low, power * 1.05, 1e-8))


def _normalised(log_weight: FloatArray) -> FloatArray:
    w = np.exp(log_weight - np.max(log_weight))
    w = np.where(np.isfinite(w), w, 0.0)
    return w / w.sum()


def _resample(x: FloatArray, weights: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """Systematic resampling, ``(n, d)``."""
    positions = (rng.random() + np.arange(n)) / n
    return x[np.minimum(np.searchsorted(np.cumsum(weights), positions), len(x) - 1)]


def _batched(function, x: FloatArray) -> FloatArray:  # type: ignore[no-untyped-def]
    """Evaluate in batches of one size, so that one shape is compiled; the last is padded."""
    n = len(x)
    padded = np.concatenate([x, np.repeat(x[:1], -n % BATCH, axis=0)])
    return np.concatenate([function(padded[i : i + BATCH]) for i in range(0, len(padded), BATCH)])[:n]
