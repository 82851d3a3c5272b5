"""Student-t mixtures: their density, and expectation maximisation of weighted draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_t

from provabgs.inference.samplers.mixture import (
    DEFENSIVE,
    DEGREES,
    INFLATION,
    Mixture,
    expectation_maximisation,
    fit_mixture,
    refit,
)

MEANS = np.array([[-3.0, 0.0, 1.0], [2.0, 1.0, -1.0]])
SIGMAS = np.array([[0.3, 0.02, 1.0], [1.0, 0.5, 0.2]])
SHARES = np.array([0.3, 0.7])


def two_clusters(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    k = (rng.random(n) > SHARES[0]).astype(int)
    return MEANS[k] + SIGMAS[k] * rng.standard_normal((n, 3))


def test_density_is_scipy_s():
    """Far out too, where products of coordinates cancel."""
    rng = np.random.default_rng(0)
    factors = np.tril(rng.standard_normal((2, 3, 3)), -1) * 0.05 + np.eye(3) * [[[0.02]], [[1.0]]]
    mixture = Mixture(SHARES, MEANS, factors)
    x = np.concatenate([mixture.sample(1500, rng), 30 * rng.standard_normal((100, 3))])
    terms = [
        np.log(w) + multivariate_t(m, f @ f.T, DEGREES).logpdf(x)
        for w, m, f in zip(SHARES, MEANS, factors, strict=True)
    ]
    np.testing.assert_allclose(mixture.log_density(x), logsumexp(terms, axis=0), atol=1e-7)


def test_clusters_are_found():
    mixture = fit_mixture(two_clusters(4000), 2, np.random.default_rng(1))
    order = np.argsort(mixture.means[:2, 0])
    np.testing.assert_allclose(mixture.weights[:2][order] / (1 - DEFENSIVE), SHARES, atol=0.03)
    np.testing.assert_allclose(mixture.means[:2][order], MEANS, atol=0.08)
    covariance = mixture.factors[:2][order] @ mixture.factors[:2][order].transpose(0, 2, 1) / INFLATION
    np.testing.assert_allclose(np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)), SIGMAS, rtol=0.15)
    # the component that is as wide as everything
    np.testing.assert_allclose(mixture.means[2], two_clusters(4000).mean(axis=0), atol=1e-10)
    assert mixture.weights[2] == pytest.approx(DEFENSIVE)
    assert mixture.weights.sum() == pytest.approx(1.0)


def test_draws_of_weight_two_are_draws_that_come_twice():
    x = two_clusters(500)
    counts = np.random.default_rng(2).integers(1, 4, 500)
    starts, metric = x[:2], np.cov(x.T)
    repeated = np.repeat(x, counts, axis=0)
    ones = np.full(len(repeated), 1 / len(repeated))
    for one, two in zip(
        expectation_maximisation(x, counts / counts.sum(), starts, metric),
        expectation_maximisation(repeated, ones, starts, metric),
        strict=True,
    ):
        np.testing.assert_allclose(one, two, rtol=1e-9)


def test_draws_of_weight_zero_are_padding():
    x = two_clusters(500)
    padded = np.concatenate([x, np.full((100, 3), 7.0)])
    weights = np.full(500, 1 / 500)
    for one, two in zip(
        expectation_maximisation(x, weights, x[:2], np.eye(3)),
        expectation_maximisation(padded, np.append(weights, np.zeros(100)), x[:2], np.eye(3)),
        strict=True,
    ):
        np.testing.assert_allclose(one, two, rtol=1e-9)


def test_refit_counts_what_was_chosen():
    """Draws that resampling left out do not count; fewer different ones allow fewer components."""
    x = two_clusters(300)
    left = np.flatnonzero(x[:, 0] < 0)
    mixture = refit(x, np.repeat(left, 3), 12, np.random.default_rng(0))
    assert mixture.means[-1] == pytest.approx(x[left].mean(axis=0))
    assert len(mixture.weights) == len(left) // 12 + 1


def test_one_draw_many_times_is_still_a_proposal():
    """All weight on one draw: as wide as the regularisation, and finite."""
    x = two_clusters(50)
    mixture = refit(x, np.zeros(100, np.intp), 4, np.random.default_rng(0))
    assert np.all(np.isfinite(mixture.log_density(mixture.sample(100, np.random.default_rng(1)))))
