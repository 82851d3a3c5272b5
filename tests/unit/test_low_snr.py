"""Masses of galaxies with low S/N: against closed forms, and against the orthant integrals where both hold."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest
from scipy import integrate, stats

from provabgs.core.jax import jnp
from provabgs.inference.config import SamplerOptions
from provabgs.inference.likelihood import LinearSystem, NormalEquations
from provabgs.inference.low_snr import amplitude, fractions_of, log_evidence, sample_masses
from provabgs.inference.marginalised import marginalise
from provabgs.inference.samplers.annealed import sample_annealed
from provabgs.inference.samplers.base import Target
from provabgs.inference.standard import PARAMETERS
from provabgs.inference.truncated_gaussian import expectation_propagation, sample_orthant
from provabgs.sps.histories import NMFHistories
from tests.support.parameters import N_FREE, prior_of

RANGE = jnp.log(jnp.asarray([1e-3, 10**2.5]))
"""1e7 to 10^12.5 Msun in units of 1e10."""


def equations(templates, flux):
    """Normal equations of ``templates (n, 4)`` with unit noise."""
    return jnp.asarray(templates.T @ templates)[None], jnp.asarray(templates.T @ flux)[None]


def test_without_data_the_prior_comes_back():
    q, b = jnp.zeros((1, 4, 4)), jnp.zeros((1, 4))
    width = float(RANGE[1] - RANGE[0])
    assert float(log_evidence(q, b, RANGE)[0]) == pytest.approx(np.log(width / 6), abs=1e-12)
    uniform = jnp.asarray(np.random.default_rng(0).random((1, 20_000, 4)))
    masses, log_weight = (np.asarray(v)[0] for v in sample_masses(q, b, RANGE, uniform))
    total = masses.sum(axis=1)
    # weights without the prior's M^-4; with it all the same, and their mean the evidence
    np.testing.assert_allclose(log_weight - 4 * np.log(total), np.log(width / 6), atol=1e-9)
    edges = np.asarray(RANGE)
    assert stats.kstest((np.log(total) - edges[0]) / width, "uniform").pvalue > 1e-3
    # a share of a flat Dirichlet of four is Beta(1, 3)
    for share in (masses / total[:, None]).T:
        assert stats.kstest(share, stats.beta(1, 3).cdf).pvalue > 1e-3


@pytest.mark.parametrize("n", [1, 2, 8])
def test_without_data_the_prior_of_any_number_of_masses_comes_back(n):
    q, b = jnp.zeros((1, n, n)), jnp.zeros((1, n))
    evidence = np.log(float(RANGE[1] - RANGE[0]) / factorial(n - 1))
    assert float(log_evidence(q, b, RANGE)[0]) == pytest.approx(evidence, abs=1e-12)
    uniform = jnp.asarray(np.random.default_rng(n).random((1, 5000, n)))
    masses, log_weight = (np.asarray(v)[0] for v in sample_masses(q, b, RANGE, uniform))
    total = masses.sum(axis=1)
    np.testing.assert_allclose(log_weight - n * np.log(total), evidence, atol=1e-9)
    if n > 1:
        assert stats.kstest(masses[:, -1] / total, stats.beta(1, n - 1).cdf).pvalue > 1e-3


@pytest.mark.parametrize("snr", [-2.0, 1.0, 3.0, 8.0])
def test_alike_histories_leave_a_one_dimensional_integral(snr):
    """Four equal templates: the evidence is an integral over the total mass alone."""
    templates = np.ones((1, 4))
    q, b = equations(templates, np.array([snr]))
    along = lambda t: np.exp(snr * np.exp(t) - 0.5 * np.exp(2 * t))  # noqa: E731
    exact = integrate.quad(along, *np.asarray(RANGE), limit=500)[0] / 6
    assert float(log_evidence(q, b, RANGE)[0]) == pytest.approx(np.log(exact), abs=5e-3)
    uniform = jnp.asarray(np.random.default_rng(1).random((1, 20_000, 4)))
    masses, log_weight = (np.asarray(v)[0] for v in sample_masses(q, b, RANGE, uniform))
    total = masses.sum(axis=1)
    weights = np.exp(log_weight) / total**4
    assert np.log(weights.mean()) == pytest.approx(np.log(exact), abs=0.01)
    assert weights.sum() ** 2 / np.sum(weights**2) > 0.9 * len(weights)


@pytest.mark.parametrize("snr", [5.0, 9.0])
def test_agrees_with_the_orthant_integral(snr):
    """Two proposals that share nothing: their weights have the same mean, and the same masses."""
    rng = np.random.default_rng(2)
    templates = rng.uniform(0.3, 1.0, (5, 4))
    flux = templates @ np.array([0.2, 0.3, 0.1, 0.4])
    scale = snr / np.linalg.norm(flux)
    q, b = equations(scale * templates, scale * flux)
    _, sites, _, _ = expectation_propagation(q, b)
    uniform = jnp.asarray(rng.random((1, 400_000, 4)))
    found = []
    for masses, log_weight in (sample_orthant(q, b, sites, uniform), sample_masses(q, b, RANGE, uniform)):
        total = np.asarray(masses)[0].sum(axis=1)
        inside = (np.log(total) > RANGE[0]) & (np.log(total) < RANGE[1])
        weights = np.where(inside, np.exp(np.asarray(log_weight)[0]) / total**4, 0.0)
        found.append((weights.mean(), np.average(np.log(total), weights=weights)))
    assert found[0][0] == pytest.approx(found[1][0], rel=0.1)
    assert found[0][1] == pytest.approx(found[1][1], abs=0.03)
    assert float(log_evidence(q, b, RANGE)[0]) == pytest.approx(np.log(found[1][0]), abs=0.1)


def test_amplitude_is_of_the_best_history_and_survives_nan():
    q = np.tile(np.diag([4.0, 1.0, 1.0, 0.0]), (3, 1, 1))
    b = np.array([[6.0, -9.0, 1.0, 0.0], [np.nan, 2.0, 0.0, 1.0], [-1.0, -1.0, -1.0, -1.0]])
    assert amplitude(q, b) == pytest.approx(3.0)
    assert amplitude(q[2:], b[2:]) == 0.0


def test_fractions_are_positive_and_sum_to_one():
    shares = np.asarray(fractions_of(jnp.asarray(np.random.default_rng(3).random((50, 3)))))
    assert np.all(shares > 0)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-12)


def test_a_galaxy_lost_in_the_noise_converges_at_once():
    """Five bands of noise took 3 million evaluations and did not converge; the posterior is little but the prior."""
    rng = np.random.default_rng(4)
    templates, flux = jnp.asarray(rng.uniform(0.01, 0.1, (5, 4))), jnp.asarray(rng.standard_normal(5))

    def equations(theta, data):
        depth = PARAMETERS.get(theta, "tau_bc")[:, None, None]
        reddened = jnp.exp(-depth * jnp.linspace(1.0, 0.2, 5)[:, None]) * data
        return NormalEquations(
            jnp.einsum("bki,bkj->bij", reddened, reddened), reddened.swapaxes(1, 2) @ flux, jnp.zeros(())
        )

    block = NMFHistories().linear_block
    posterior = marginalise(LinearSystem(equations, templates), block, prior_of(), np.ones(4))
    target = Target(N_FREE, lambda z: np.zeros(len(z)), lambda z: z, posterior)
    result = sample_annealed(target, np.random.default_rng(0), SamplerOptions())
    assert result.convergence.passes(1.01, 400)
    assert result.n_eval < 40_000
    outer = result.draws.reshape(-1, N_FREE)[:, PARAMETERS.nonlinear_coordinates]
    np.testing.assert_allclose(outer.std(axis=0), np.ones(len(PARAMETERS.nonlinear_coordinates)), atol=0.1)
