"""The default sampler: annealed importance sampling of the marginalised posterior, judged by Metropolis chains.

1. Independent populations go from the prior to the posterior (`populations`): two, and more until the two best agree on
   the evidence. A mode that one of them misses shows there.
2. Their draws and proposals are pooled (`pool`), with the linear coordinates drawn from their exact conditional.
3. Independence Metropolis chains walk over the pool, and the convergence criterion is applied to them. While it fails,
   a proposal fitted to the pool adds to it, until the budget ends. After convergence is first reached, sampling
   continues to a stricter criterion (`AIM`), because poorly covered regions show up only later as large importance
   weights. The criterion is then applied again. A mode that one of six populations alone found is no posterior to be
   believed, and gets no further draws; nor does one whose best draw the data refuse, after `SamplerOptions.misfit_eval`
   evaluations.
4. What is returned is resampled from the weighted pool: the same posterior with less Monte Carlo error than the chains,
   which stand still where weights are heavy and so are the stricter judges.

Everything is evaluated in large batches; nothing is trained beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.chunks import in_chunks
from provabgs.core.threads import one_thread
from provabgs.core.weights import effective_sample_size, normalised, resample_systematic
from provabgs.inference.config import SamplerOptions
from provabgs.inference.diagnostics import Convergence, convergence
from provabgs.inference.samplers.base import MarginalPosterior, SamplerResult, StartError, Target
from provabgs.inference.samplers.mixture import combine, refit
from provabgs.inference.samplers.pool import BATCH, ProposalPool
from provabgs.inference.samplers.populations import MAX_STAGES, Population, anneal
from provabgs.inference.samplers.weights import truncated

N_POPULATIONS, MAX_POPULATIONS = 2, 6
EVIDENCE_TOLERANCE = 1.0
"""Populations whose log evidence is farther than this below the best missed a mode: they are dropped, others sent."""
N_CHAINS = 8
TARGET_ESS = 1600
"""Effective draws that the pool aims at: R-hat of eight chains is below 1.01 from about 1000 on."""
AIM = (1.005, 1500.0)
"""R-hat and ESS that sampling continues to after convergence, within `SamplerOptions.aim_eval`."""
MIN_FIRST, MAX_FIRST = 4096, 32768
"""Draws added to those of the populations before the first convergence check; one batch where they have plenty."""
PLENTY = 2 * TARGET_ESS
GROWTH = 0.4
"""By how much the pool grows between convergence checks, at least."""
FIRST_COMPONENTS, MAX_COMPONENTS = 12, 28
"""Mixture components of the proposals fitted to the pool."""
N_FITTED = 16384
"""Draws that they are fitted to."""
MAX_LENGTH = 4096
"""Steps per chain that diagnostics look at, and draws per chain that are returned."""


def sample_annealed(target: Target, rng: np.random.Generator, options: SamplerOptions) -> SamplerResult:
    """Sample by annealed importance sampling of `target.marginal`.

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
        Metropolis chains over the weighted draws, with the log evidence.

    Raises
    ------
    StartError
        When the likelihood is nowhere finite, or the target has no marginal form.
    """
    if target.marginal is None:
        raise StartError("this likelihood has no normal equations of the masses; use sampler.name = 'emcee'")
    with one_thread():
        return _sample(target, target.marginal, rng, options)


def _sample(
    target: Target, marginal: MarginalPosterior, rng: np.random.Generator, options: SamplerOptions
) -> SamplerResult:
    """See `sample_annealed`."""
    start = time.perf_counter()
    end = start + options.time_limit_s
    populations = _populations(target, marginal, rng, end, options.misfit_eval)
    n_eval = sum(p.n_eval for p in populations)
    evidence = np.array([p.log_evidence for p in populations])
    if not np.isfinite(evidence.max()):
        raise StartError(
            "the data have no finite likelihood anywhere in the prior: fluxes, their unit or the redshift are far off"
        )
    agreeing = [p for p in populations if evidence.max() - p.log_evidence <= EVIDENCE_TOLERANCE]
    pool, proposal = ProposalPool(marginal), agreeing[0].proposal
    for p in agreeing:
        pool.merge(p.pool)
    if len(agreeing) > 1:
        proposal = combine(agreeing[0].proposal, agreeing[1].proposal)
    n_more, n_components = _in_time(_first(pool), n_eval, start, end), FIRST_COMPONENTS
    lonely, refused = _lonely(evidence, len(agreeing)), ""
    while True:
        pool.add(proposal, n_more, rng)
        n_eval += n_more
        report = _judge(pool, target, rng)
        if lonely:  # NOT_CONVERGED whatever follows: data that the model cannot describe would take minutes
            break
        n_more = _whole_batches(GROWTH * len(pool))
        if report.passes(options.rhat, options.ess) and (report.passes(*AIM) or n_eval + n_more > options.aim_eval):
            break
        if n_eval + n_more > options.max_eval:
            break
        if n_eval + n_more > options.misfit_eval and (refused := _refused(target, pool)):
            break
        # the next round takes at least the fraction of the time so far that the pool grows by
        now = time.perf_counter()
        if now + GROWTH * (now - start) > end:
            break
        weights = truncated(normalised(pool.log_weights()))
        proposal = refit(pool.outer, resample_systematic(weights, N_FITTED, rng), n_components, rng)
        n_components = min(n_components + 4, MAX_COMPONENTS)
    gave_up = ""
    if refused and not report.passes(options.rhat, options.ess):
        gave_up = f"{refused}; sampling ended after {n_eval} evaluations at R-hat {report.rhat_max:.3g}"
    drawn = _drawn(pool, rng)
    efficiency = float(effective_sample_size(pool.log_weights())) / len(pool)
    return SamplerResult(
        pool.latent[drawn],
        _at_different(target.log_likelihood, pool, drawn),
        report,
        n_eval,
        "annealed",
        log_evidence=float(np.mean([p.log_evidence for p in agreeing])),
        evidence_spread=_spread(evidence),
        reason=_unfinished(populations, options.time_limit_s, time.perf_counter() > end) or lonely or gave_up,
        gave_up=bool(gave_up),
        message=f"efficiency {efficiency:.3f}, log evidence of the populations {_listed(evidence)}",
    )


def _listed(evidence: FloatArray) -> str:
    return ", ".join(f"{e:.2f}" for e in evidence)


def _spread(evidence: FloatArray) -> float:
    """Log evidence of the best population over the second best; infinite for a single one."""
    best, *rest = sorted(evidence.tolist(), reverse=True)
    return float(best - rest[0]) if rest else float("inf")


def _lonely(evidence: FloatArray, n_agreeing: int) -> str:
    """Why a posterior that only one population found is not converged; empty where two did."""
    if n_agreeing > 1:
        return ""
    return f"one of {len(evidence)} starts found the best mode; log evidence of the starts {_listed(evidence)}"


def _unfinished(populations: list[Population], limit_s: float, late: bool) -> str:
    """Why the draws of populations that were stopped are not the posterior; empty where all arrived."""
    power = min(p.power for p in populations)
    if power >= 1.0 and len(populations) >= N_POPULATIONS:
        return ""
    if power >= 1.0:
        return f"time_limit_s = {limit_s:g} ended after one of {N_POPULATIONS} starts"
    ended = f"time_limit_s = {limit_s:g} ended" if late else f"{MAX_STAGES} stages ended"
    return f"{ended} while sampling was on its way from the prior, at likelihood^{power:.2g}"


def _refused(target: Target, pool: ProposalPool) -> str:
    """Why the data refuse the best draw; empty where they do not."""
    return "" if target.misfit is None else target.misfit(pool.best)


def _populations(
    target: Target, posterior: MarginalPosterior, rng: np.random.Generator, end: float, misfit_eval: int
) -> list[Population]:
    """Two populations, and more while the best evidence was found by one alone; none begins after the end."""
    populations = [anneal(posterior, rng, end)]
    while len(populations) < MAX_POPULATIONS and time.perf_counter() < end:
        evidence = np.array([p.log_evidence for p in populations])
        if len(populations) >= N_POPULATIONS and _spread(evidence) <= EVIDENCE_TOLERANCE:
            break
        best = populations[int(np.argmax(evidence))].pool
        tried = len(populations) >= N_POPULATIONS and sum(p.n_eval for p in populations) > misfit_eval
        if tried and _refused(target, best):
            break
        populations.append(anneal(posterior, rng, end))
    return populations


def _first(pool: ProposalPool) -> int:
    """Draws to add before the first convergence check, to reach `TARGET_ESS` at the efficiency of the pool so far."""
    effective = float(effective_sample_size(pool.log_weights()))
    if effective >= PLENTY:
        return BATCH
    wanted = (TARGET_ESS / effective - 1) * len(pool)
    return _whole_batches(float(np.clip(wanted, MIN_FIRST, MAX_FIRST)))


def _in_time(n: int, n_eval: int, start: float, end: float) -> int:
    """As many of `n` draws as the time that is left allows at the rate so far; one batch at least."""
    now = time.perf_counter()
    affordable = n_eval * (end - now) / max(now - start, 1e-9)
    return n if affordable >= n else max(int(affordable) // BATCH, 1) * BATCH


def _whole_batches(n: float) -> int:
    return int(-(-n // BATCH)) * BATCH


def _judge(pool: ProposalPool, target: Target, rng: np.random.Generator) -> Convergence:
    """Diagnostics of chains over the pool; long ones are thinned first, which can only lower the numbers."""
    steps = pool.walk(N_CHAINS, rng)
    return convergence(_at_different(target.monitor, pool, steps[:, :: -(-steps.shape[1] // MAX_LENGTH)]))


def _drawn(pool: ProposalPool, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draws of the posterior from the weighted pool, in no order, ``(N_CHAINS, n)``."""
    n = N_CHAINS * min(len(pool) // N_CHAINS, MAX_LENGTH)
    drawn = resample_systematic(normalised(pool.log_weights()), n, rng)
    return rng.permutation(drawn).reshape(N_CHAINS, -1)


def _at_different(
    function: Callable[[FloatArray], FloatArray], pool: ProposalPool, drawn: NDArray[np.intp]
) -> FloatArray:
    """A function at drawn members of the pool, evaluated once for each however often it was drawn."""
    different, place = np.unique(drawn.reshape(-1), return_inverse=True)
    values = in_chunks(function, pool.latent[different], BATCH)[place]
    return values.reshape(*drawn.shape, *values.shape[1:])
