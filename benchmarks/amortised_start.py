"""The default sampler with its populations started from a flow in place of the prior."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from amortised_flow import FlowProposal
from scipy.special import logsumexp

from provabgs.core.chunks import in_chunks
from provabgs.core.weights import effective_sample_size, normalised, resample_systematic
from provabgs.inference.config import SamplerOptions
from provabgs.inference.marginalised import CollapsedPosterior
from provabgs.inference.samplers import annealed
from provabgs.inference.samplers.base import SamplerResult, StartError, Target
from provabgs.inference.samplers.mixture import Mixture, combine, fit_mixture
from provabgs.inference.samplers.pool import BATCH, ProposalPool
from provabgs.inference.samplers.populations import (
    MAX_STAGES,
    N_COMPONENTS,
    N_STAGE,
    STAGE_EFFICIENCY,
    Population,
    Window,
    _polish,
)
from provabgs.inference.samplers.weights import next_power, tempered

N_START = 2048
"""Draws of the flow that start a population."""
ENOUGH = 0.01
"""Effective share of them from which on the flow itself goes on as the proposal, and nothing is annealed."""
BUDGET = SamplerOptions(max_eval=1_000_000, time_limit_s=300)


class Counter:
    """A collapsed posterior that counts what it is asked for."""

    def __init__(self, posterior: CollapsedPosterior) -> None:
        self.n_marginal = self.n_masses = 0
        self.posterior = CollapsedPosterior(self._marginal, self._masses)
        self._inner = posterior

    def _marginal(self, outer: np.ndarray) -> np.ndarray:
        self.n_marginal += len(outer)
        return self._inner.log_marginal(outer)

    def _masses(self, outer: np.ndarray, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.n_masses += len(outer)
        return self._inner.draw_masses(outer, uniforms)


def start_from(flow: FlowProposal, posterior: CollapsedPosterior, rng: np.random.Generator) -> Population:
    """A population of the flow's own draws where enough of them are effective, else one annealed from the flow.

    Raises
    ------
    StartError
        When the likelihood is nowhere finite.
    """
    pool = ProposalPool(posterior)
    log_weight = pool.add(flow, N_START, rng)
    efficiency = effective_sample_size(log_weight) / N_START
    if efficiency >= ENOUGH:
        log_evidence = float(logsumexp(log_weight) - np.log(N_START))
        return Population(pool, flow, efficiency, log_evidence, N_START)
    population = _anneal_from(flow, posterior, rng)
    return replace(population, n_eval=population.n_eval + N_START)


def _anneal_from(flow: FlowProposal, posterior: CollapsedPosterior, rng: np.random.Generator) -> Population:
    """`populations.anneal` with the flow in the prior's place: along q^(1-p) posterior^p to the posterior."""
    window, power = Window(), 0.0
    x = flow.sample(N_START, rng)
    window.add(x, in_chunks(posterior.log_marginal, x, BATCH), flow)
    n_eval = len(x)
    if not np.any(np.isfinite(window.log_target[0])):
        raise StartError(f"the likelihood is 0 or NaN at all of {N_START} draws of the flow")
    for _ in range(MAX_STAGES):
        x, log_target, log_proposal = window.together()
        log_flow = flow.log_density(x)
        log_ratio = np.where(np.isfinite(log_target), log_target - log_flow, -np.inf)
        power = next_power(log_ratio, log_flow - log_proposal, power, STAGE_EFFICIENCY)
        weights = normalised(tempered(log_ratio, log_flow - log_proposal, power))
        proposal = fit_mixture(x[resample_systematic(weights, 2 * N_STAGE, rng)], N_COMPONENTS, rng)
        if power >= 1.0:
            break
        x = proposal.sample(N_STAGE, rng)
        window.add(x, in_chunks(posterior.log_marginal, x, BATCH), proposal)
        n_eval += len(x)
    return _polish(ProposalPool(posterior), proposal, n_eval, rng)


def run(target: Target, start: FlowProposal | None, seed: int) -> tuple[SamplerResult, dict]:
    """The default sampler, its populations started from a flow where there is one; what it gave and what it took."""
    assert target.collapsed is not None
    counter = Counter(target.collapsed)
    usual, evidence = annealed.anneal, []

    def population(posterior: CollapsedPosterior, rng: np.random.Generator) -> Population:
        made = usual(posterior, rng) if start is None else start_from(start, posterior, rng)
        evidence.append(made.log_evidence)
        return made

    def together(first: Mixture, second: Mixture) -> Mixture:
        return start if first is start or second is start else combine(first, second)

    annealed.anneal, annealed.combine = population, together
    try:
        begin = time.process_time()
        counted = replace(target, collapsed=counter.posterior)
        result = annealed.sample_annealed(counted, np.random.default_rng([seed, 3]), BUDGET)
        seconds = time.process_time() - begin
    finally:
        annealed.anneal, annealed.combine = usual, combine
    report = result.convergence
    row = {"seconds": seconds, "n_eval": result.n_eval, "n_stage": counter.n_marginal}
    row |= {"gate": report.passes(BUDGET.rhat, BUDGET.ess), "rhat": report.rhat_max, "ess": report.ess_min}
    # a population that misses the main mode has the lower evidence
    return result, row | {"log_evidence": max(evidence), "apart": np.ptp(evidence)}
