"""Orthant integrals against plain Monte Carlo, and the sequential proposal's exactness."""

from __future__ import annotations

import numpy as np
import pytest

from provabgs.core.jax import jnp
from provabgs.inference.truncated_gaussian import expectation_propagation, sample_orthant


def problems(n, seed, log_condition, dim=4):
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(n, dim, dim)))[0]
    values = 10 ** rng.uniform(0, log_condition, (n, dim))
    q = np.einsum("bij,bj,bkj->bik", axes, values, axes)
    b = np.einsum("bij,bj->bi", q, rng.uniform(-0.5, 1.5, (n, dim)))
    return q, b


def monte_carlo(q, b, n, seed):
    """log Z and mean by drawing from the untruncated Gaussian."""
    rng = np.random.default_rng(seed)
    cov = np.linalg.inv(q)
    mean = cov @ b
    x = rng.multivariate_normal(mean, cov, n)
    inside = np.all(x > 0, axis=1)
    log_norm = 2 * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(cov)[1] + 0.5 * b @ mean
    return log_norm + np.log(inside.mean()), x[inside].mean(axis=0), inside.sum()


def test_evidence_and_mean_against_monte_carlo():
    q, b = problems(12, 0, 2.0)
    log_z, _, mean, _ = (np.asarray(a) for a in _plain(expectation_propagation(jnp.asarray(q), jnp.asarray(b))))
    compared = 0
    for i in range(12):
        truth, centre, n = monte_carlo(q[i], b[i], 200_000, i)
        if n > 5000:
            assert log_z[i] == pytest.approx(truth, abs=0.08)
            np.testing.assert_allclose(mean[i], centre, rtol=0.08, atol=0.01)
            compared += 1
    assert compared >= 4


def _plain(result):
    log_z, sites, mean, covariance = result
    return log_z, sites.tau, mean, covariance


@pytest.mark.parametrize("log_condition", [2.0, 8.0])
def test_weights_are_even_and_unbiased(log_condition):
    q, b = (jnp.asarray(a) for a in problems(200, 1, log_condition))
    log_z, sites, _, _ = expectation_propagation(q, b)
    uniform = jnp.asarray(np.random.default_rng(2).random((200, 256, 4)))
    x, log_weight = sample_orthant(q, b, sites, uniform)
    assert np.all(np.asarray(x) > 0)
    w = np.exp(np.asarray(log_weight) - np.asarray(log_weight).max(axis=1, keepdims=True))
    efficiency = w.sum(axis=1) ** 2 / (w**2).sum(axis=1) / 256
    assert np.median(efficiency) > 0.7
    unbiased = np.log(w.mean(axis=1)) + np.asarray(log_weight).max(axis=1)
    assert np.median(np.abs(unbiased - np.asarray(log_z))) < 0.05


@pytest.mark.parametrize("dim", [1, 2, 8])
def test_any_number_of_masses(dim):
    """Histories have other numbers of masses than four: weights stay even, and their mean is Z."""
    q, b = (jnp.asarray(a) for a in problems(64, 3, 2.0, dim))
    log_z, sites, mean, covariance = expectation_propagation(q, b)
    assert mean.shape == (64, dim)
    assert covariance.shape == (64, dim, dim)
    uniform = jnp.asarray(np.random.default_rng(4).random((64, 512, dim)))
    x, log_weight = (np.asarray(a) for a in sample_orthant(q, b, sites, uniform))
    assert x.shape == (64, 512, dim)
    assert np.all(x > 0)
    peak = log_weight.max(axis=1, keepdims=True)
    w = np.exp(log_weight - peak)
    efficiency = w.sum(axis=1) ** 2 / (w**2).sum(axis=1) / 512
    assert np.median(efficiency) > 0.5
    assert np.median(np.abs(np.log(w.mean(axis=1)) + peak[:, 0] - np.asarray(log_z))) < 0.05
    drawn = np.einsum("bd,bdi->bi", w / w.sum(axis=1, keepdims=True), x)
    spread = np.sqrt(np.diagonal(np.asarray(covariance), axis1=1, axis2=2))
    assert np.median(np.abs(drawn - np.asarray(mean)) / spread) < 0.1


def test_independent_bounds_are_exact():
    """With independent coordinates EP and the proposal are exact: every weight is Z."""
    q = jnp.asarray(np.diag([1.0, 4.0, 9.0, 100.0])[None])
    b = jnp.asarray([[0.5, -2.0, 3.0, -40.0]])
    log_z, sites, _, _ = expectation_propagation(q, b)
    _, log_weight = sample_orthant(q, b, sites, jnp.asarray(np.random.default_rng(0).random((1, 64, 4))))
    np.testing.assert_allclose(np.asarray(log_weight), float(log_z[0]), atol=1e-6)


def test_far_beyond_the_bounds_stays_finite():
    q = jnp.asarray(np.eye(4)[None])
    b = jnp.asarray([[-1e4, -50.0, 2.0, -31.0]])
    log_z, sites, mean, _ = expectation_propagation(q, b)
    x, log_weight = sample_orthant(q, b, sites, jnp.asarray(np.random.default_rng(0).random((1, 64, 4))))
    assert np.isfinite(float(log_z[0]))
    assert np.all(np.isfinite(np.asarray(log_weight)))
    assert float(mean[0, 0]) == pytest.approx(1e-4, rel=1e-3)
    assert np.asarray(x)[0, :, 0].mean() == pytest.approx(1e-4, rel=0.5)
