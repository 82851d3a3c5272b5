"""Annealed populations: from first draws (`start`) to proposals that fit the posterior.

Each stage draws from a Student-t mixture fitted to the reweighted draws of the last few, and raises the likelihood to
the highest power at which enough of them stay effective. At the posterior itself mixtures are refitted until their
efficiency settles; the draws of these refits are kept as draws of the posterior.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import logsumexp

from provabgs.core.arrays import FloatArray
from provabgs.core.chunks import in_chunks
from provabgs.core.weights import effective_sample_size, normalised, resample_systematic
from provabgs.inference.samplers.base import MarginalPosterior, StartError
from provabgs.inference.samplers.mixture import Mixture, refit
from provabgs.inference.samplers.pool import BATCH, ProposalPool
from provabgs.inference.samplers.start import draw_start, log_start
from provabgs.inference.samplers.weights import next_power, tempered

N_PRIOR = 4096
"""First draws of each population (`provabgs.inference.samplers.start`)."""
N_EARLY, N_STAGE = 4096, 1024
"""Draws per annealing stage: while the power of the likelihood is below `EARLY`, and later.

A narrow mode that wins by tens of nats in the end holds a thousandth of the mass while the power is small: with 1,024
draws a stage a known case was found by 1 population of 14, with 4,096 early on by 6 of 8 (docs/studies/sampler.md).
"""
EARLY = 0.1
N_KEPT = 4
"""Stages whose draws are used together, weighted by the density of all their proposals."""
STAGE_EFFICIENCY = 0.05
"""Effective fraction at which a stage stops."""
N_COMPONENTS = 4
"""Mixture components while annealing."""
POLISH = ((2048, 8), (3072, 12), (4096, 16))
"""Draws and components of the refits at the posterior."""
GOOD_EFFICIENCY = 0.10
"""Refitting stops once this fraction of draws is effective."""
MAX_STAGES = 200
"""Most fits need 10 to 30; fourteen age bins at S/N 100 over 3,300 pixels, 80."""


@dataclass
class Population:
    """One annealed population: its draws at the posterior, its best proposal, and what it has cost."""

    pool: ProposalPool
    proposal: Mixture
    efficiency: float
    log_evidence: float
    n_eval: int
    power: float = 1.0
    """Power of the likelihood that it came to; below 1 where time ended first."""


@dataclass
class Window:
    """Draws of the last stages with the target at them, to be used as draws of the mixture of their proposals.

    The same weights as `ProposalPool`, over a sliding window. A proposal of None is the first draws' density.
    """

    draws: list[FloatArray] = field(default_factory=list)
    log_target: list[FloatArray] = field(default_factory=list)
    proposals: list[Mixture | None] = field(default_factory=list)
    small: tuple[int, ...] = ()

    def add(self, x: FloatArray, log_target: FloatArray, proposal: Mixture | None) -> None:
        """Take in a stage and forget the oldest.

        Parameters
        ----------
        x
            ``(n, n_outer)`` draws.
        log_target
            ``(n,)`` log target at them.
        proposal
            Density that they were drawn from; None for the first draws'.
        """
        self.draws = [*self.draws, x][-N_KEPT:]
        self.log_target = [*self.log_target, log_target][-N_KEPT:]
        self.proposals = [*self.proposals, proposal][-N_KEPT:]

    def together(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """All draws ``(n, n_outer)``, log target at them, and log density of the mixture they were drawn from."""
        x = np.concatenate(self.draws)
        counts = np.array([len(d) for d in self.draws])
        shares = np.log(counts / counts.sum())
        terms = [s + self._log_density(p, x) for s, p in zip(shares, self.proposals, strict=True)]
        return x, np.concatenate(self.log_target), logsumexp(terms, axis=0)

    def _log_density(self, proposal: Mixture | None, x: FloatArray) -> FloatArray:
        """Of a proposal; of the first draws, normalised, for None."""
        if proposal is not None:
            return proposal.log_density(x)
        return log_start(x, self.small) - 0.5 * x.shape[1] * np.log(2 * np.pi)


def anneal(posterior: MarginalPosterior, rng: np.random.Generator, end: float = math.inf) -> Population:
    """Carry one population from the prior to the posterior.

    Parameters
    ----------
    posterior
        With its linear coordinates integrated out.
    rng
        Random generator.
    end
        When to stop wherever it is, in seconds of `time.perf_counter`.

    Returns
    -------
    Population
        Draws at the posterior and the proposal that fits them best.

    Raises
    ------
    StartError
        When the likelihood is nowhere finite.
    """
    window, small = Window(small=posterior.small), posterior.small
    x = draw_start(N_PRIOR, posterior.n_outer, small, rng)
    window.add(x, in_chunks(posterior.log_marginal, x, BATCH), None)
    n_eval, power = len(x), 0.0
    if not np.any(np.isfinite(window.log_target[0])):
        raise StartError(f"the likelihood is 0 or NaN at all of {N_PRIOR} draws from the prior")
    for _ in range(MAX_STAGES):
        x, log_target, log_proposal = window.together()
        log_first = log_start(x, small)
        log_like = np.where(np.isfinite(log_target), log_target - log_first, -np.inf)
        # draws of earlier stages count too, at the density of the mixture that all were drawn from
        power = next_power(log_like, log_first - log_proposal, power, STAGE_EFFICIENCY)
        weights = normalised(tempered(log_like, log_first - log_proposal, power))
        n = N_EARLY if power < EARLY else N_STAGE
        proposal = refit(x, resample_systematic(weights, 2 * n, rng), N_COMPONENTS, rng)
        if power >= 1.0 or time.perf_counter() > end:
            break
        x = proposal.sample(n, rng)
        window.add(x, in_chunks(posterior.log_marginal, x, BATCH), proposal)
        n_eval += len(x)
    reached = _polish(ProposalPool(posterior), proposal, n_eval, rng, end)
    return replace(reached, power=power)


def _polish(pool: ProposalPool, proposal: Mixture, n_eval: int, rng: np.random.Generator, end: float) -> Population:
    """Refit at the posterior itself, remembering the best proposal met."""
    best, efficiency, log_evidence = proposal, 0.0, -np.inf
    for n, k in POLISH:
        log_weight = pool.add(proposal, n, rng)
        n_eval += n
        reached = float(effective_sample_size(log_weight)) / n
        if reached > efficiency:
            best, efficiency, log_evidence = proposal, reached, float(logsumexp(log_weight) - np.log(n))
        if (efficiency > GOOD_EFFICIENCY and n > POLISH[0][0]) or time.perf_counter() > end:
            break
        chosen = resample_systematic(normalised(pool.log_weights()), n, rng)
        proposal = refit(pool.outer, chosen, k, rng)
    return Population(pool, best, efficiency, log_evidence, n_eval)
