"""emcee's ensemble sampler, vectorised: several independent ensembles with differential-evolution moves.

Burn-in is what the integrated autocorrelation time says; R-hat compares walkers of independent ensembles, so that an
ensemble that fell into one mode is seen.
"""

from __future__ import annotations

import time

import emcee
import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.inference.config import SamplerOptions
from provabgs.inference.diagnostics import Convergence, convergence
from provabgs.inference.samplers.base import SamplerResult, Target, find_start

N_ENSEMBLES = 4
N_WALKERS = 64
CHUNK = 500
"""Steps between convergence checks; it doubles, so that checking stays cheap."""
BETWEEN_CLOCKS = 25
"""Steps between looks at the clock."""
MAX_KEPT = 2000
"""Draws per walker kept for diagnostics."""


def sample_emcee(target: Target, rng: np.random.Generator, options: SamplerOptions) -> SamplerResult:
    """Sample with emcee until the convergence criterion or the budget is reached.

    Parameters
    ----------
    target
        The posterior.
    rng
        Random generator.
    options
        Convergence criterion and budget.

    Returns
    -------
    SamplerResult
        The second half of every walker's chain, thinned.

    Raises
    ------
    StartError
        When the likelihood is nowhere finite.
    """
    end = time.perf_counter() + options.time_limit_s
    points, _, n_eval = find_start(target, rng)
    ensembles = [_ensemble(target, rng) for _ in range(N_ENSEMBLES)]
    states = [_initial(points, rng) for _ in range(N_ENSEMBLES)]
    n_step, chunk = 0, CHUNK
    while True:
        taken = 0
        while taken < chunk and (n_step + taken < BETWEEN_CLOCKS or time.perf_counter() < end):
            steps = min(BETWEEN_CLOCKS, chunk - taken)
            for i, ensemble in enumerate(ensembles):
                states[i] = ensemble.run_mcmc(states[i], steps, skip_initial_state_check=True)
            taken += steps
        n_step += taken
        n_eval += taken * N_WALKERS * N_ENSEMBLES
        draws, log_like, report = _judge(ensembles, target)
        late = time.perf_counter() > end
        if report.passes(options.rhat, options.ess) or n_eval >= options.max_eval or late:
            return SamplerResult(draws, log_like, report, n_eval, "emcee", message=f"{n_step} steps")
        chunk = min(n_step, max(1, (options.max_eval - n_eval) // (N_WALKERS * N_ENSEMBLES)))


def _ensemble(target: Target, rng: np.random.Generator) -> emcee.EnsembleSampler:
    moves = [(emcee.moves.DEMove(), 0.7), (emcee.moves.DEMove(gamma0=1.0), 0.1), (emcee.moves.DESnookerMove(), 0.2)]
    ensemble = emcee.EnsembleSampler(N_WALKERS, target.n_dim, target.log_prob, moves=moves, vectorize=True)
    ensemble.random_state = np.random.RandomState(int(rng.integers(2**32))).get_state()
    return ensemble


def _initial(points: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Walkers at prior draws, picked with probability by rank: the best few per cent, spread as the prior is."""
    n_best = max(2 * N_WALKERS, len(points) // 20)
    pick = rng.choice(n_best, N_WALKERS, replace=False)
    return points[pick] + 1e-3 * rng.standard_normal((N_WALKERS, points.shape[1]))


def _judge(ensembles: list[emcee.EnsembleSampler], target: Target) -> tuple[FloatArray, FloatArray, Convergence]:
    """Second half of every chain, thinned, as ``(nchain, ndraw, ndim)``, with ln L and diagnostics."""
    n_step = ensembles[0].iteration
    thin = max(1, n_step // 2 // MAX_KEPT)
    chains = np.concatenate([e.get_chain()[n_step // 2 :: thin] for e in ensembles], axis=1).swapaxes(0, 1)
    log_prob = np.concatenate([e.get_log_prob()[n_step // 2 :: thin] for e in ensembles], axis=1).T
    flat = chains.reshape(-1, chains.shape[-1])
    quantities = target.monitor(flat).reshape(*chains.shape[:2], -1)
    return chains, log_prob + 0.5 * np.sum(chains**2, axis=-1), convergence(quantities)
