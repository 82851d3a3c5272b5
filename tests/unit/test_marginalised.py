"""Masses integrated out, for one mass and for two, against sums over a grid of total mass and fraction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy.special import logsumexp

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jnp
from provabgs.inference.likelihood import LinearSystem, NormalEquations
from provabgs.inference.likelihood.base import REFERENCE_LOG_MASS
from provabgs.inference.marginalised import marginalise
from provabgs.inference.priors import Prior, theta_from_latent
from provabgs.inference.samplers import MarginalPosterior
from provabgs.sps.histories import LinearBlock
from tests.unit.test_parameters import simplex

N_DATA = 6
REDDENING = np.linspace(1.0, 0.2, N_DATA)
LOG_MASS = np.linspace(7.0, 12.5, 2001)
"""The prior's whole range, log10 Msun."""
OUTER = np.array([[-1.0], [-0.3], [0.4], [1.5]])
"""Latent coordinates of the one parameter that is not linear, an optical depth."""


class Case(NamedTuple):
    posterior: MarginalPosterior
    prior: Prior
    shapes: FloatArray
    flux: FloatArray

    def depth(self, outer: FloatArray) -> FloatArray:
        """Optical depths at outer coordinates."""
        latent = np.concatenate([np.zeros((len(outer), self.prior.n_coordinate - 1)), outer], axis=1)
        return np.asarray(self.prior.parameters.get(theta_from_latent(jnp.asarray(latent), self.prior), "tau"))

    def on_grid(self, depth: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Grids of log10 M and of the first fraction, which the prior is flat in, and ln L on them."""
        first = np.linspace(0.0, 1.0, 201) if self.shapes.shape[1] == 2 else np.ones(1)
        fractions = np.stack([first, 1 - first], axis=1)[:, : self.shapes.shape[1]]
        light = fractions @ (np.exp(-depth * REDDENING)[:, None] * self.shapes).T
        mass = 10 ** (LOG_MASS - REFERENCE_LOG_MASS)
        residual = self.flux - mass[:, None, None] * light
        return LOG_MASS, first, -0.5 * np.sum(residual**2, axis=-1)


def case(n: int, snr: float) -> Case:
    """Six data of unit noise, made of n shapes of light behind dust."""
    rng = np.random.default_rng(10 * n)
    shapes = rng.uniform(0.3, 1.0, (N_DATA, n))
    truth = np.exp(-0.8 * REDDENING) * (shapes @ np.full(n, 1 / n))
    shapes *= snr / np.linalg.norm(truth)
    flux = snr * truth / np.linalg.norm(truth) + rng.standard_normal(N_DATA)

    def equations(theta: jnp.ndarray, data: jnp.ndarray) -> NormalEquations:
        dusty = jnp.exp(-parameters.get(theta, "tau")[:, None, None] * REDDENING[:, None]) * data
        q = jnp.einsum("bki,bkj->bij", dusty, dusty)
        return NormalEquations(q, dusty.swapaxes(1, 2) @ flux, jnp.asarray(flux @ flux))

    parameters = simplex(n)
    prior = Prior.of(parameters)
    block = LinearBlock("logmstar", tuple(f"f{i}" for i in range(1, n + 1)))
    return Case(
        marginalise(LinearSystem(equations, jnp.asarray(shapes)), block, prior, np.ones(n)), prior, shapes, flux
    )


CASES = [(1, 30.0), (1, 4.0), (2, 30.0), (2, 4.0)]
"""Numbers of masses, and S/N on either side of the one below which fractions are drawn from the prior."""


@pytest.mark.parametrize(("n", "snr"), CASES)
def test_the_marginal_is_the_sum_over_a_grid(n: int, snr: float) -> None:
    """Up to a constant: `draw_linear` without bias, `log_marginal` as well as it must for annealing."""
    c = case(n, snr)
    assert (c.posterior.n_outer, c.posterior.n_latent, c.posterior.n_uniform) == (1, n + 1, n + 1)
    expected = np.array([logsumexp(c.on_grid(d)[2]) for d in c.depth(OUTER)]) - 0.5 * OUTER[:, 0] ** 2
    assert np.ptp(expected) > 1
    uniforms = np.random.default_rng(0).random((len(OUTER), 8_000, n + 1))
    _, log_target = c.posterior.draw_linear(OUTER, uniforms)
    np.testing.assert_allclose(log_target - log_target[0], expected - expected[0], atol=0.03)
    approximate = c.posterior.log_marginal(OUTER)
    np.testing.assert_allclose(approximate - approximate[0], expected - expected[0], atol=0.3)


@pytest.mark.parametrize(("n", "snr"), CASES)
def test_masses_are_draws_of_their_conditional(n: int, snr: float) -> None:
    c, outer = case(n, snr), np.full((4096, 1), 0.4)
    latent, log_target = c.posterior.draw_linear(outer, np.random.default_rng(1).random((len(outer), 6, n + 1)))
    theta = np.asarray(theta_from_latent(jnp.asarray(latent), c.prior))
    c.prior.parameters.check(theta)
    np.testing.assert_allclose(latent[:, -1], 0.4)
    weights = np.exp(log_target - log_target.max())
    assert weights.sum() ** 2 / np.sum(weights**2) > 0.5 * len(weights)
    log_mass, first, log_like = c.on_grid(float(c.depth(outer[:1])[0]))
    density = np.exp(log_like - log_like.max())
    for name, grid, axis in (("logmstar", log_mass, 1), ("f1", first, 0)):
        margin = density.sum(axis=axis)
        mean = np.average(grid, weights=margin)
        spread = np.sqrt(np.average((grid - mean) ** 2, weights=margin))
        drawn = c.prior.parameters.get(theta, name)
        assert np.average(drawn, weights=weights) == pytest.approx(mean, abs=max(0.05 * spread, 1e-9)), name
        scatter = np.sqrt(np.average((drawn - mean) ** 2, weights=weights))
        assert scatter == pytest.approx(spread, rel=0.1, abs=1e-9), name
