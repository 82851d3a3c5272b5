"""Convergence diagnostics on chains of known quality: good ones pass, bad ones must not."""

from __future__ import annotations

import numpy as np
import pytest
from arviz_stats.base import array_stats

from provabgs.inference.diagnostics import convergence


def iid(n_chain: int = 4, n_draw: int = 1000, n: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_chain, n_draw, n))


def test_independent_draws_pass():
    report = convergence(iid())
    assert report.rhat_max == pytest.approx(1.0, abs=0.01)
    assert report.ess_min > 2000  # of 4,000
    assert report.passes(1.01, 400)
    assert not report.passes(1.01, 1e6)


def test_shifted_chain_fails():
    draws = iid()
    draws[0, :, 1] += 1.5
    report = convergence(draws)
    assert report.rhat[1] > 1.1
    assert report.ess_bulk[1] < 100
    assert np.all(report.rhat[[0, 2]] < 1.01)
    assert not report.passes(1.05, 10)


def test_chain_of_other_width_fails():
    """Same mean, three times the width: seen by the folded R-hat alone."""
    draws = iid()
    draws[0, :, 0] *= 4
    assert convergence(draws).rhat[0] > 1.05


def test_drifting_chains_fail():
    """All chains drift alike: seen only because each is split in half."""
    draws = iid() + np.linspace(0, 3, 1000)[None, :, None]
    assert np.all(convergence(draws).rhat > 1.1)


def test_autocorrelated_chains_have_the_theory_s_sample_size():
    """AR(1) of coefficient rho: ESS = N (1 - rho) / (1 + rho)."""
    rho, n_draw = 0.9, 5000
    noise = iid(4, n_draw, 1, seed=3)
    draws = np.empty_like(noise)
    draws[:, 0] = noise[:, 0]
    for i in range(1, n_draw):
        draws[:, i] = rho * draws[:, i - 1] + np.sqrt(1 - rho**2) * noise[:, i]
    assert convergence(draws).ess_bulk[0] == pytest.approx(4 * n_draw * (1 - rho) / (1 + rho), rel=0.2)


def test_stuck_chain_is_infinite():
    draws = iid()
    draws[2, :, 0] = 0.3
    report = convergence(draws)
    assert report.rhat[0] == np.inf
    assert report.rhat_max == np.inf
    assert report.ess_min == 1.0
    assert not report.passes(1.5, 1)


def test_constant_quantities_are_nan_and_do_not_count():
    draws = iid()
    draws[:, :, 2] = 1.0
    report = convergence(draws)
    assert np.isnan(report.rhat[2])
    assert np.isnan(report.ess_bulk[2])
    assert np.isnan(report.ess_tail[2])
    assert report.passes(1.01, 400)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_quantities_that_are_not_finite_never_pass(bad):
    draws = iid()
    draws[1, 5, 0] = bad
    report = convergence(draws)
    assert not report.passes(1.5, 1)


@pytest.mark.parametrize("draws", [np.ones((4, 100, 2)), iid(4, 5)])
def test_nothing_to_judge_is_not_a_pass(draws):
    report = convergence(draws)
    assert np.isnan(report.rhat_max)
    assert np.isnan(report.ess_min)
    assert not report.passes(10.0, 0.1)


def autoregressive(rho: float, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    noise = iid(*shape, seed=seed)
    draws = noise.copy()
    for i in range(1, shape[1]):
        draws[:, i] = rho * draws[:, i - 1] + np.sqrt(1 - rho**2) * noise[:, i]
    return draws


def sticky(shape: tuple[int, int, int]) -> np.ndarray:
    """As Metropolis chains are: most draws repeat the one before."""
    rng = np.random.default_rng(1)
    moves = rng.random(shape[:2]) < 0.2
    moves[:, ::4] = True  # none stands still
    state = np.maximum.accumulate(np.where(moves, np.arange(shape[1]), 0), axis=1)
    return np.take_along_axis(rng.standard_normal(shape), state[:, :, None], axis=1)


@pytest.mark.parametrize("shape", [(2, 8, 2), (4, 9, 3), (8, 333, 3), (8, 4096, 2)])
@pytest.mark.parametrize(
    "kind",
    [
        lambda s: iid(*s),
        lambda s: autoregressive(0.97, s),
        lambda s: autoregressive(-0.6, s),
        lambda s: np.round(autoregressive(0.5, s), 1),
        lambda s: np.exp(4 * iid(*s)),
        lambda s: iid(*s) + np.arange(s[0])[:, None, None],
        sticky,
    ],
    ids=["independent", "slow", "antithetic", "ties", "heavy", "shifted", "sticky"],
)
def test_as_arviz(kind, shape):
    """The reference implementation: largest relative difference 1e-6, in practice 1e-14."""
    draws = kind(shape)
    report, axes = convergence(draws), {"chain_axis": 0, "draw_axis": 1}
    np.testing.assert_allclose(report.rhat, array_stats.rhat(draws, method="rank", **axes), rtol=1e-6)
    np.testing.assert_allclose(report.ess_bulk, array_stats.ess(draws, method="bulk", **axes), rtol=1e-6)
    np.testing.assert_allclose(
        report.ess_tail, array_stats.ess(draws, method="tail", prob=(0.05, 0.95), **axes), rtol=1e-6
    )


def test_quantities_are_judged_one_by_one():
    """What others are beside a quantity does not change what is said of it."""
    draws = iid(n=4)
    draws[0, :, 2] += 1.0
    together, alone = convergence(draws), convergence(draws[:, :, 2:3])
    assert [x[2] for x in together] == [x[0] for x in alone]
