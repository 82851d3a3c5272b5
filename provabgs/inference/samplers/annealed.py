"""The default sampler: annealed adaptive importance sampling of the collapsed posterior, judged by Metropolis chains.

1. From the prior to the posterior through tempered targets: each stage draws from a Student-t mixture fitted to the
   reweighted draws of the last few, and goes as far as their effective sample size allows. Two independent populations
   do this; a mode that one of them misses shows in their evidence and in R-hat.
2. At the posterior, mixtures are refitted until their efficiency settles.
3. Independence Metropolis chains walk over fresh proposals from both populations' mixtures, with masses drawn from
   their exact conditional (`collapsed`). The chains are draws of the exact posterior; the gate is held against them.
   While it fails, they go on; where they stick, the proposal learns from them and longer chains start afresh, until the
   budget ends.

Everything is evaluated in large batches; nothing is trained beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from provabgs.inference.batches import in_chunks
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
N_STAGE = 1024
"""Draws per annealing stage and population."""
N_POOLED = 4
"""Stages whose draws are used together, weighted by the density of all their proposals."""
N_FITTED = 2048
"""Draws that a stage's mixture is fitted to."""
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
TARGET_ESS = 1600
"""Effective draws that the first chains aim at: R-hat of eight chains is below 1.01 from about 1000 on."""
MIN_CHAIN, FIRST_CHAIN, MAX_CHAIN = 512, 4096, 16384
"""Steps per chain: at least and at most at the first look, and at most ever."""
STUCK_ESS = 200
"""Chains of fewer effective draws at a look start afresh with a new proposal; others go on."""
FIRST_COMPONENTS, MAX_COMPONENTS = 12, 28
"""Mixture components of the refits from chains."""
MAX_REFIT = 16384
MAX_JUDGED = 4096
"""Steps per chain that diagnostics look at."""
N_MASSES = 6
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
    efficiency = float(np.mean([p.efficiency for p in populations]))
    n_step, n_components = _first_length(efficiency), FIRST_COMPONENTS
    chains = Chains(posterior, proposal)
    while True:
        n_eval += chains.extend(n_step, rng)
        report = _judge(chains.draws, target)
        if report.passes(options.rhat, options.ess) or n_eval + 2 * chains.cost > options.max_eval:
            break
        if time.perf_counter() - start > options.time_limit_s:
            break
        if report.ess_min >= STUCK_ESS and chains.length < MAX_CHAIN:
            n_step = chains.length
            continue
        # where chains stuck the proposal was too thin: learn from the chains themselves, and walk again for longer
        flat = chains.draws.reshape(-1, N_LATENT)[:, OUTER_INDEX]
        keep = rng.choice(len(flat), min(len(flat), MAX_REFIT), replace=False)
        proposal = combine(fit_mixture(flat[keep], n_components, rng), proposal)
        n_step, n_components = min(2 * chains.length, MAX_CHAIN), min(n_components + 4, MAX_COMPONENTS)
        chains = Chains(posterior, proposal)
    draws = chains.draws
    log_like = _batched(target.log_likelihood, draws.reshape(-1, draws.shape[-1])).reshape(draws.shape[:2])
    evidence = [p.log_evidence for p in populations]
    return SamplerResult(
        draws,
        log_like,
        report,
        n_eval,
        "annealed",
        log_evidence=float(np.mean(evidence)),
        message=f"efficiency {efficiency:.3f}, evidence differs by {np.ptp(evidence):.2f} between populations",
    )


def _first_length(efficiency: float) -> int:
    """Steps per chain that should do, in whole batches."""
    n = TARGET_ESS / max(efficiency, 1e-3) / N_CHAINS
    step = BATCH // N_CHAINS
    return int(np.clip(-(-n // step) * step, MIN_CHAIN, FIRST_CHAIN))


# ---- populations -------------------------------------------------------------------------------------------------


@dataclass
class Pool:
    """Draws of the last stages with the target at them, to be used as draws of the mixture of their proposals.

    Mixture weights are those of Veach & Guibas's balance heuristic; adaptive multiple importance sampling (Cornuet et
    al. 2012) over a sliding window. A proposal of None is the prior.
    """

    draws: list[FloatArray] = field(default_factory=list)
    log_target: list[FloatArray] = field(default_factory=list)
    proposals: list[Mixture | None] = field(default_factory=list)

    def add(self, x: FloatArray, log_target: FloatArray, proposal: Mixture | None) -> None:
        """Take in a stage and forget the oldest."""
        self.draws = [*self.draws, x][-N_POOLED:]
        self.log_target = [*self.log_target, log_target][-N_POOLED:]
        self.proposals = [*self.proposals, proposal][-N_POOLED:]

    def together(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """All draws ``(n, 8)``, log target at them, and log density of the mixture they were drawn from."""
        x = np.concatenate(self.draws)
        counts = np.array([len(d) for d in self.draws])
        shares = np.log(counts / counts.sum())
        terms = [s + _log_density(p, x) for s, p in zip(shares, self.proposals, strict=True)]
        return x, np.concatenate(self.log_target), logsumexp(terms, axis=0)


def _anneal(posterior: CollapsedPosterior, rng: np.random.Generator) -> Population:
    """Carry one population from the prior to a good proposal for the posterior."""
    pool = Pool()
    x = rng.standard_normal((N_PRIOR, N_OUTER))
    pool.add(x, _batched(posterior.log_marginal, x), None)
    n_eval, power = len(x), 0.0
    if not np.any(np.isfinite(pool.log_target[0])):
        raise StartError(f"the likelihood is 0 or NaN at all of {N_PRIOR} draws from the prior")
    for _ in range(MAX_STAGES):
        x, log_target, log_proposal = pool.together()
        log_prior = _log_normal(x)
        log_like = np.where(np.isfinite(log_target), log_target - log_prior, -np.inf)
        power = _next_power(log_like, log_prior - log_proposal, power)
        weights = _normalised(_tempered(log_like, log_prior - log_proposal, power))
        proposal = fit_mixture(_resample(x, weights, N_FITTED, rng), N_COMPONENTS, rng)
        if power >= 1.0:
            break
        x = proposal.sample(N_STAGE, rng)
        pool.add(x, _batched(posterior.log_marginal, x), proposal)
        n_eval += len(x)
    return _polish(posterior, pool, proposal, n_eval, rng)


def _polish(
    posterior: CollapsedPosterior, pool: Pool, proposal: Mixture, n_eval: int, rng: np.random.Generator
) -> Population:
    """Refit at the posterior itself, keeping the best proposal met."""
    best: Population | None = None
    for n, k in POLISH:
        x = proposal.sample(n, rng)
        log_target = _batched(posterior.log_marginal, x)
        log_weight = log_target - proposal.log_density(x)
        n_eval += n
        efficiency = 1 / np.sum(_normalised(log_weight) ** 2) / n
        if best is None or efficiency > best.efficiency:
            best = Population(proposal, float(efficiency), float(logsumexp(log_weight) - np.log(n)), n_eval)
        if efficiency > GOOD_EFFICIENCY and n > POLISH[0][0]:
            break
        pool.add(x, log_target, proposal)
        x, log_target, log_proposal = pool.together()
        proposal = fit_mixture(_resample(x, _normalised(log_target - log_proposal), n, rng), k, rng)
    assert best is not None
    return Population(best.proposal, best.efficiency, best.log_evidence, n_eval)


# ---- chains ------------------------------------------------------------------------------------------------------


class Chains:
    """Independence Metropolis chains of the exact posterior, all from one proposal; they can be extended."""

    def __init__(self, posterior: CollapsedPosterior, proposal: Mixture) -> None:
        self.posterior = posterior
        self.proposal = proposal
        self.draws = np.empty((N_CHAINS, 0, N_LATENT))
        self._last: list[tuple[FloatArray, float]] = []

    @property
    def length(self) -> int:
        """Steps so far."""
        return self.draws.shape[1]

    @property
    def cost(self) -> int:
        """Evaluations so far."""
        return N_CHAINS * self.length

    def extend(self, n_step: int, rng: np.random.Generator) -> int:
        """Walk on by `n_step` steps; the evaluations that they cost."""
        latent, log_weight = self._propose(n_step, rng)
        log_uniform = np.log(rng.random((N_CHAINS, n_step)))
        walked = []
        for c in range(N_CHAINS):
            points, weights = latent[c], log_weight[c]
            if self._last:
                points = np.concatenate([points, self._last[c][0][None]])
                weights = np.append(weights, self._last[c][1])
                state = n_step
            else:
                # start where the weights say: stationary from the first step
                state = int(rng.choice(n_step, p=_normalised(weights)))
            steps = np.empty(n_step, dtype=np.int64)
            for s in range(n_step):
                if weights[s] - weights[state] > log_uniform[c, s]:
                    state = s
                steps[s] = state
            walked.append((points[steps], (points[state], float(weights[state]))))
        self.draws = np.concatenate([self.draws, np.stack([w[0] for w in walked])], axis=1)
        self._last = [w[1] for w in walked]
        return N_CHAINS * n_step

    def _propose(self, n_step: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Proposals ``(N_CHAINS, n_step, 12)`` and their log weights."""
        n = N_CHAINS * n_step
        x = self.proposal.sample(n, rng)
        uniforms = rng.random((n, N_MASSES, 5))
        latent, log_weight = np.empty((n, N_LATENT)), -self.proposal.log_density(x)
        for i in range(0, n, BATCH):
            latent[i : i + BATCH], log_target = self.posterior.draw_masses(x[i : i + BATCH], uniforms[i : i + BATCH])
            log_weight[i : i + BATCH] += np.where(np.isfinite(log_target), log_target, -np.inf)
        return latent.reshape(N_CHAINS, n_step, -1), log_weight.reshape(N_CHAINS, n_step)


def _judge(draws: FloatArray, target: Target) -> Convergence:
    """Diagnostics of every monitored quantity; long chains are thinned first, which can only lower the numbers."""
    thinned = draws[:, :: max(1, draws.shape[1] // MAX_JUDGED)]
    quantities = _batched(target.monitor, thinned.reshape(-1, draws.shape[-1]))
    return convergence(quantities.reshape(*thinned.shape[:2], -1))


# ---- weights -----------------------------------------------------------------------------------------------------


def _log_density(proposal: Mixture | None, x: FloatArray) -> FloatArray:
    """Of a proposal; of the prior, normalised, for None."""
    return _log_normal(x) - 0.5 * N_OUTER * np.log(2 * np.pi) if proposal is None else proposal.log_density(x)


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


def _batched(function: Callable[[FloatArray], FloatArray], x: FloatArray) -> FloatArray:
    """Evaluate in batches of one size, so that one shape is compiled."""
    return in_chunks(function, x, BATCH)
