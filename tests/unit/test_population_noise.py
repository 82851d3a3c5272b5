"""The noise of finite draws: predicted against what fresh draws do, and posteriors stretched by it."""

from __future__ import annotations

import numpy as np
import pytest

from provabgs.core.jax import jax, jnp
from provabgs.population.density.histogram import HistogramDensity
from provabgs.population.density.likelihood import Draws, log_likelihood, log_sum, sum_bias
from provabgs.population.density.models import Density, GaussianDensity, MixtureDensity
from provabgs.population.density.nuts import SamplingOptions, sample_population
from provabgs.population.density.sampling_noise import can_inflate, gradient_noise, inflated
from provabgs.population.density.streamed import in_chunks
from tests.support.density_calibration import Survey

ONE = GaussianDensity((0.0,), (1.5,))
TWO = GaussianDensity((0.0, 0.0), (1.5, 1.5))
SURVEY = Survey(n_galaxy=60, n_draw=200)
ETA = {1: np.array([0.2, -1.6]), 2: np.array([0.2, -0.1, -1.7, -1.4, 0.5])}


@pytest.mark.parametrize("density", [ONE, TWO, HistogramDensity.uniform(-3, 3, 6)], ids=["1-D", "2-D", "histogram"])
def test_noise_of_the_gradient_is_that_of_fresh_draws(density: Density) -> None:
    rng = np.random.default_rng(0)
    eta = ETA[density.ndim] if isinstance(density, GaussianDensity) else density.sample_prior(rng)
    truth = density.sample(eta, rng, SURVEY.n_galaxy)
    # the same measurements each time, other draws of their posteriors
    many = SURVEY.__class__(n_galaxy=60, n_draw=200 * 150).draws(truth, rng)
    gradient = jax.jit(jax.grad(lambda e, d: log_likelihood(density, e, d)))
    gradients, predicted = [], []
    for k in range(150):
        part = slice(200 * k, 200 * (k + 1))
        draws = Draws(many.theta[:, part], many.log_weight[:, part] + np.log(150), many.weight)
        gradients.append(np.asarray(gradient(jnp.asarray(eta), draws)))
        predicted.append(gradient_noise(density, eta, [draws])[0])
    found, expected = np.cov(np.array(gradients).T), np.mean(predicted, axis=0)
    strong = np.diag(found) > 1e-6
    assert np.allclose(np.diag(expected)[strong], np.diag(found)[strong], rtol=0.4)
    assert strong.any()


def test_weights_and_chunks() -> None:
    rng = np.random.default_rng(1)
    draws = SURVEY.draws(ONE.sample(ETA[1], rng, 60), rng)
    whole, weight = gradient_noise(ONE, ETA[1], [draws])
    assert weight == 60
    assert np.allclose(gradient_noise(ONE, ETA[1], in_chunks(draws, 16))[0], whole, rtol=1e-6)
    twice = draws._replace(weight=draws.weight * 2)
    assert np.allclose(gradient_noise(ONE, ETA[1], [twice])[0], 4 * whole, rtol=1e-6)
    cut = draws._replace(log_weight=draws.log_weight.at[:, ::2].set(-jnp.inf))
    assert np.all(np.isfinite(gradient_noise(ONE, ETA[1], [cut])[0]))


def test_stretched_draws_have_the_covariance_asked_for() -> None:
    rng = np.random.default_rng(2)
    mixing = rng.standard_normal((4, 4))
    chains = 3.0 + rng.standard_normal((2, 3000, 4)) @ mixing.T
    noise = np.diag([0.0, 2.0, 0.1, 0.0])
    out, factor = inflated(chains, noise)
    before, after = (np.cov(c.reshape(-1, 4).T) for c in (chains, out))
    assert np.allclose(after, before + before @ noise @ before, rtol=1e-6, atol=1e-8)
    assert np.allclose(out.mean(axis=(0, 1)), chains.mean(axis=(0, 1)))
    assert factor > 1.0
    same, none = inflated(chains, np.zeros((4, 4)))
    assert np.allclose(same, chains)
    assert none == pytest.approx(1.0)


def test_few_draws_widen_a_posterior_and_are_said() -> None:
    rng = np.random.default_rng(3)
    truth = TWO.sample(np.array([0.2, -0.1, -2.3, -2.3, 0.0]), rng, 60)
    options = SamplingOptions(n_chain=2, n_warmup=200, n_draw=500, n_start=4)
    few = Survey(n_galaxy=60, n_draw=24).draws(truth, np.random.default_rng(4))
    found = sample_population(TWO, few, rng, options=options, quiet=True)
    assert found.meta["inflation"] > 1.25
    assert any("Monte Carlo noise of the draws inflates" in w for w in found.warnings)
    many = Survey(n_galaxy=60, n_draw=2000).draws(truth, np.random.default_rng(4))
    assert sample_population(TWO, many, rng, options=options, quiet=True).meta["inflation"] < 1.1


def test_mixtures_are_left_alone() -> None:
    assert not can_inflate(MixtureDensity(ONE, 2))
    assert can_inflate(TWO)


@pytest.mark.parametrize("n_draw", [30, 200])
def test_the_logarithm_of_a_noisy_mean_is_not_biased(n_draw: int) -> None:
    rng = np.random.default_rng(5)
    n_set = 1000
    eta = jnp.asarray([0.2, -0.1, -2.6, -2.6, 0.0])  # 0.11 wide, the galaxy's own posterior 0.3
    theta = TWO.sample(eta, rng, 1)
    once = Survey(n_galaxy=1, n_draw=n_draw * n_set)
    many = once.draws(theta, rng)
    each = Draws(
        many.theta.reshape(n_set, n_draw, 2), many.log_weight.reshape(n_set, n_draw) + np.log(n_set), jnp.ones(n_set)
    )
    right = float(log_sum(TWO, eta, many)[0])
    found = np.asarray(log_sum(TWO, eta, each) + sum_bias(TWO, eta, each))
    plain = np.log(np.exp(np.asarray(TWO.log_prob(eta, each.theta) + each.log_weight)).sum(axis=1))
    error = plain.std() / np.sqrt(n_set)
    assert abs(found.mean() - right) < 0.35 * abs(plain.mean() - right) + 2 * error
    if n_draw == 30:
        assert plain.mean() - right < -2.5 * error
