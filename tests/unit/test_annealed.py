"""The annealed sampler on posteriors of known answer, through the same interface that galaxies use."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp

from provabgs.core.weights import normalised
from provabgs.inference.config import SamplerOptions
from provabgs.inference.diagnostics import convergence
from provabgs.inference.samplers import annealed
from provabgs.inference.samplers.annealed import sample_annealed
from provabgs.inference.samplers.base import MarginalPosterior, StartError, Target
from provabgs.inference.samplers.mixture import combine, fit_mixture
from provabgs.inference.samplers.pool import ProposalPool
from provabgs.inference.samplers.populations import anneal
from provabgs.inference.samplers.weights import truncated
from provabgs.inference.standard import PARAMETERS
from tests.support.parameters import N_FREE

OUTER = PARAMETERS.nonlinear_coordinates
N_OUTER = len(OUTER)

CENTRES = np.array([np.full(N_OUTER, -0.8), np.full(N_OUTER, 0.8)])
SHARES = np.array([0.3, 0.7])
SIGMA = 0.3


def two_modes(x):
    """Two modes with nothing between them: log density normalised to 1 (so that the evidence is known)."""
    terms = [
        np.log(s) - 0.5 * np.sum(((x - c) / SIGMA) ** 2, axis=1) - N_OUTER * np.log(SIGMA * np.sqrt(2 * np.pi))
        for s, c in zip(SHARES, CENTRES, strict=True)
    ]
    return logsumexp(terms, axis=0)


def target_of(log_marginal, log_ratio=lambda outer: np.zeros(len(outer))):
    def draw_linear(outer, uniforms):
        latent = np.zeros((len(outer), N_FREE))
        latent[:, OUTER] = outer
        return latent, log_marginal(outer) + log_ratio(outer)

    marginal = MarginalPosterior(log_marginal, draw_linear, N_OUTER, N_FREE, N_FREE - N_OUTER + 1)
    return Target(N_FREE, lambda z: log_marginal(z[:, OUTER]), lambda z: z[:, OUTER], marginal)


def test_two_separated_modes_with_their_weights_and_evidence():
    result = sample_annealed(target_of(two_modes), np.random.default_rng(0), SamplerOptions())
    assert result.convergence.passes(1.01, 400)
    x = result.draws.reshape(-1, N_FREE)[:, OUTER]
    assert np.mean(x[:, 0] > 0) == pytest.approx(SHARES[1], abs=0.04)
    assert x[x[:, 0] > 0].std(axis=0) == pytest.approx(np.full(N_OUTER, SIGMA), rel=0.1)
    assert result.log_evidence == pytest.approx(0.0, abs=0.15)


def test_weights_of_the_masses_correct_the_marginal():
    """A marginal that is wrong by a known factor, corrected by the ratio that comes with the masses."""
    tilt = 0.6
    target = target_of(lambda x: two_modes(x) + tilt * x[:, 0], lambda outer: -tilt * outer[:, 0])
    result = sample_annealed(target, np.random.default_rng(1), SamplerOptions())
    x = result.draws.reshape(-1, N_FREE)[:, OUTER]
    assert np.mean(x[:, 0] > 0) == pytest.approx(SHARES[1], abs=0.06)


def test_same_seed_same_draws():
    one, two = (sample_annealed(target_of(two_modes), np.random.default_rng(5), SamplerOptions()) for _ in range(2))
    np.testing.assert_array_equal(one.draws, two.draws)


def test_impossible_likelihood_is_a_start_error():
    with pytest.raises(StartError, match="0 or NaN"):
        sample_annealed(target_of(lambda x: np.full(len(x), -np.inf)), np.random.default_rng(0), SamplerOptions())


def test_budget_ends_unconverged_and_says_so():
    options = SamplerOptions(ess=1e9, max_eval=100_000)
    result = sample_annealed(target_of(two_modes), np.random.default_rng(0), options)
    assert not result.convergence.passes(options.rhat, options.ess)
    assert result.n_eval < 200_000


def two_proposals():
    rng = np.random.default_rng(3)
    wide = fit_mixture(CENTRES[1] + 0.5 * rng.standard_normal((2000, N_OUTER)), 1, rng)
    one_mode = fit_mixture(CENTRES[0] + SIGMA * rng.standard_normal((2000, N_OUTER)), 1, rng)
    return wide, one_mode


def test_pool_weights_by_the_density_of_all_its_proposals():
    wide, one_mode = two_proposals()
    pool = ProposalPool(target_of(two_modes).marginal)
    rng = np.random.default_rng(4)
    alone = [pool.add(p, n, rng) for p, n in ((wide, 5000), (one_mode, 3000))]
    density = (5000 * np.exp(wide.log_density(pool.outer)) + 3000 * np.exp(one_mode.log_density(pool.outer))) / 8000
    np.testing.assert_allclose(pool.log_weights(), two_modes(pool.outer) - np.log(density))
    # the second proposal misses a mode: its own weights say nothing of that, the pool's do
    assert np.exp(alone[1]).mean() == pytest.approx(SHARES[0], abs=0.02)
    assert np.exp(pool.log_weights()).mean() == pytest.approx(1.0, abs=0.15)
    assert normalised(pool.log_weights())[pool.outer[:, 0] > 0].sum() == pytest.approx(SHARES[1], abs=0.05)


def test_merged_pools_are_one_pool():
    wide, one_mode = two_proposals()
    posterior = target_of(two_modes).marginal
    rng = np.random.default_rng(4)
    both, one, two = (ProposalPool(posterior) for _ in range(3))
    both.add(wide, 3000, rng)
    both.add(one_mode, 2000, rng)
    rng = np.random.default_rng(4)
    one.add(wide, 3000, rng)
    two.add(one_mode, 2000, rng)
    one.merge(two)
    np.testing.assert_array_equal(one.outer, both.outer)
    np.testing.assert_allclose(one.log_weights(), both.log_weights(), rtol=1e-12)


def test_weights_without_a_finite_one_are_equal_and_truncation_caps():
    np.testing.assert_array_equal(normalised(np.array([-np.inf, np.nan])), [0.5, 0.5])
    np.testing.assert_array_equal(normalised(np.array([-np.inf, 0.0])), [0.0, 1.0])
    heavy = truncated(normalised(np.append(np.zeros(99), 10.0)))
    assert heavy[-1] == pytest.approx(0.1 / (0.1 + 99 / (99 + np.exp(10))))


def test_mixture_density_is_normalised():
    rng = np.random.default_rng(0)
    mixture = fit_mixture(rng.standard_normal((2000, 2)) @ np.array([[1.0, 0.8], [0.0, 0.3]]), 3, rng)
    both = combine(mixture, fit_mixture(rng.standard_normal((500, 2)), 2, rng))
    edges = np.linspace(-30, 30, 1201)
    centre = 0.5 * (edges[1:] + edges[:-1])
    grid = np.stack(np.meshgrid(centre, centre), axis=-1).reshape(-1, 2)
    assert np.exp(both.log_density(grid)).sum() * (edges[1] - edges[0]) ** 2 == pytest.approx(1.0, abs=2e-3)
    assert convergence(both.sample(4000, rng).reshape(4, 1000, 2)).rhat_max < 1.01


@pytest.mark.parametrize(("limit", "said"), [(0.3, "on its way from the prior"), (3.0, "on its way|one of 2 starts")])
def test_time_ends_a_slow_fit_wherever_it_is(limit: float, said: str):
    """A likelihood of 0.2 s a batch: 4,096 prior draws alone take 0.8 s, two populations 8 s."""

    def slow(x):
        time.sleep(0.2)
        return two_modes(x)

    start = time.perf_counter()
    result = sample_annealed(target_of(slow), np.random.default_rng(0), SamplerOptions(time_limit_s=limit))
    # what began before the end is finished: a stage, the first batch at the posterior, its diagnostics
    assert time.perf_counter() - start < limit + 8.0
    assert re.search(said, result.reason)
    assert np.all(np.isfinite(result.draws))


def test_a_limit_that_is_not_reached_changes_nothing():
    limits = (SamplerOptions(), SamplerOptions(time_limit_s=1e6))
    one, two = (sample_annealed(target_of(two_modes), np.random.default_rng(5), o) for o in limits)
    np.testing.assert_array_equal(one.draws, two.draws)
    assert one.reason == two.reason == ""


def test_a_mode_that_one_start_found_gets_no_further_draws(monkeypatch):
    """Such a posterior is NOT_CONVERGED whatever is drawn; with a second start that agrees, sampling goes on."""
    found = []

    def starts(target, posterior, rng, end, misfit_eval):
        first = anneal(posterior, rng, end)
        found[:] = [first, *(replace(first, log_evidence=first.log_evidence - gap) for gap in gaps)]
        return found

    monkeypatch.setattr(annealed, "_populations", starts)
    hard = target_of(two_modes, lambda outer: 1.5 * np.sin(40 * outer[:, 0]))  # weights that need many draws
    gaps = (9.0, 8.0, 7.0, 12.0, 30.0)
    lonely = sample_annealed(hard, np.random.default_rng(0), SamplerOptions())
    assert re.match(r"one of 6 starts found the best mode; log evidence of the starts -?\d", lonely.reason)
    assert lonely.n_eval <= sum(p.n_eval for p in found) + annealed.MAX_FIRST
    gaps = (0.5,)
    agreed = sample_annealed(hard, np.random.default_rng(0), SamplerOptions())
    assert agreed.reason == ""
    assert agreed.convergence.passes(1.01, 400)


def test_a_draw_that_comes_often_is_evaluated_once():
    """ln L belongs to its draw; the ten thousand returned are fewer different ones."""
    target, rows = target_of(two_modes), []

    def log_likelihood(z):
        rows.append(z)
        return two_modes(z[:, OUTER])

    result = sample_annealed(replace(target, log_likelihood=log_likelihood), np.random.default_rng(0), SamplerOptions())
    flat = result.draws.reshape(-1, N_FREE)
    np.testing.assert_allclose(result.log_likelihood.reshape(-1), two_modes(flat[:, OUTER]), rtol=1e-12)
    evaluated = np.concatenate(rows)
    assert len(np.unique(flat, axis=0)) <= len(evaluated) < 0.8 * len(flat)


def test_what_the_data_refuse_ends_early_and_says_why():
    """The best draw is judged; a target that nothing is said against goes on as if nobody had asked."""
    hard = target_of(two_modes, lambda outer: 1.5 * np.sin(40 * outer[:, 0]))
    limit = SamplerOptions(misfit_eval=30_000, ess=2000)
    asked = []

    def misfit(latent):
        asked.append(latent)
        return "chi^2 9000 for 7000 pixels"

    free, good, bad = (
        sample_annealed(replace(hard, misfit=m), np.random.default_rng(0), limit)
        for m in (None, lambda latent: "", misfit)
    )
    np.testing.assert_array_equal(free.draws, good.draws)
    assert not good.gave_up
    assert good.reason == ""
    assert bad.gave_up
    assert re.match(r"chi\^2 9000 for 7000 pixels; sampling ended after \d+ evaluations at R-hat", bad.reason)
    assert bad.n_eval <= limit.misfit_eval < good.n_eval
    x = asked[-1][OUTER]
    assert min(np.linalg.norm(x - c) for c in CENTRES) < 3 * SIGMA * np.sqrt(N_OUTER)  # a draw of the posterior


def test_what_the_data_refuse_and_converges_is_converged():
    target = replace(target_of(two_modes), misfit=lambda latent: "chi^2 9000 for 7000 pixels")
    result = sample_annealed(target, np.random.default_rng(0), SamplerOptions(misfit_eval=0))
    assert result.convergence.passes(1.01, 400)
    assert not result.gave_up
    assert result.reason == ""
