"""Importance weights: normalisation, effective numbers, systematic resampling and the Student-t proposal."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from provabgs.core.weights import effective_sample_size, normalised, resample_systematic, student_t_proposal


def test_effective_sample_size_is_kishs() -> None:
    w = np.array([[1.0, 1.0, 1.0, 1.0], [4.0, 0.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0]])
    with np.errstate(divide="ignore"):
        log_weight = np.log(w) + np.array([[800.0], [-800.0], [0.0]])  # only ratios matter
    np.testing.assert_allclose(effective_sample_size(log_weight), [4.0, 1.0, 16 / 10])
    np.testing.assert_allclose(normalised(log_weight), w / w.sum(axis=1, keepdims=True))


def test_weights_of_zero() -> None:
    assert normalised(np.array([np.nan, 0.0, -np.inf])).tolist() == [0.0, 1.0, 0.0]
    assert normalised(np.array([-np.inf, np.nan])).tolist() == [0.5, 0.5]  # all alike where none is known
    assert effective_sample_size(np.array([-np.inf, np.nan])) == 2


def test_systematic_resampling_keeps_expected_counts() -> None:
    """Every draw comes floor(n w) or ceil(n w) times, and n w times on average (multinomial draws scatter more)."""
    weight = np.array([0.05, 0.0, 0.45, 0.5]) * 7  # of any normalisation
    counts = np.array(
        [np.bincount(resample_systematic(weight, 30, np.random.default_rng(k)), minlength=4) for k in range(400)]
    )
    expected = 30 * weight / weight.sum()
    assert np.all(np.abs(counts - expected) < 1)
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=0.1)
    assert resample_systematic(np.full(10, 0.1), 10_000, np.random.default_rng(0)).max() == 9


def test_student_t_proposal_weighs_to_a_normal() -> None:
    rng = np.random.default_rng(1)
    factor = np.array([[0.7, 0.0], [0.3, 0.2]])
    x, log_q = student_t_proposal(np.array([1.0, -2.0]), factor, 5.0, 40_000, rng)
    exact = stats.multivariate_t([1.0, -2.0], factor @ factor.T, 5.0).logpdf(x)
    np.testing.assert_allclose(exact - log_q, exact[0] - log_q[0], atol=1e-9)
    covariance = factor @ factor.T
    w = normalised(stats.multivariate_normal([1.0, -2.0], covariance).logpdf(x) - log_q)
    centred = x - w @ x
    np.testing.assert_allclose((w[:, None] * centred).T @ centred, covariance, atol=0.02)
    assert effective_sample_size(np.log(w)) == pytest.approx(1 / np.sum(w**2))
