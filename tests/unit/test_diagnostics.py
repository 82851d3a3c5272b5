"""Convergence diagnostics on chains of known quality: good ones pass, bad ones must not."""

from __future__ import annotations

import numpy as np
import pytest

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
