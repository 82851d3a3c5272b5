"""Priors: maps that invert each other, the distributions they make, and the edges of the support."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from provabgs.core.errors import ConfigError, InputError
from provabgs.core.jax import jax, jnp
from provabgs.inference.priors import (
    Prior,
    latent_from_unit,
    log_prior,
    theta_from_latent,
    theta_from_unit,
    unit_from_latent,
    unit_from_theta,
)
from provabgs.inference.standard import PARAMETERS
from tests.support.parameters import N_FREE, column, prior_of, put
from tests.unit.test_parameters import simplex

PRIOR = prior_of((0.5, 0.1))
BETAS = PARAMETERS.indices(f"beta{i}" for i in range(1, 5))
unit_points = st.lists(st.floats(0.001, 0.999), min_size=N_FREE, max_size=N_FREE)


def draw(prior: Prior, n: int = 20_000, seed: int = 5) -> np.ndarray:
    unit = np.random.default_rng(seed).random((n, N_FREE))
    return np.asarray(theta_from_unit(jnp.asarray(unit), prior))


# ---- maps ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(unit=unit_points)
def test_unit_cube_round_trip(unit):
    theta = theta_from_unit(jnp.asarray(unit), PRIOR)
    np.testing.assert_allclose(unit_from_theta(theta, PRIOR), unit, rtol=1e-8, atol=1e-9)
    assert np.sum(np.asarray(theta)[BETAS]) == pytest.approx(1.0, abs=1e-12)
    assert np.isfinite(log_prior(theta, PRIOR))


@settings(deadline=None, max_examples=60)
@given(latent=st.lists(st.floats(-5, 5), min_size=N_FREE, max_size=N_FREE))
def test_latent_round_trip(latent):
    unit = unit_from_latent(jnp.asarray(latent))
    np.testing.assert_allclose(latent_from_unit(unit), latent, rtol=1e-6, atol=1e-6)
    theta = theta_from_latent(jnp.asarray(latent), PRIOR)
    np.testing.assert_allclose(theta, theta_from_unit(unit, PRIOR), rtol=1e-12)


@pytest.mark.parametrize("latent", [-40.0, 40.0])
def test_far_out_in_latent_space_stays_finite_and_inside(latent):
    theta = theta_from_latent(jnp.full(N_FREE, latent), PRIOR)
    assert np.all(np.isfinite(theta))
    assert np.isfinite(log_prior(theta, PRIOR))


def test_gradients_are_finite_inside():
    latent = jnp.asarray(np.random.default_rng(0).standard_normal((8, N_FREE)))
    gradient = jax.jacobian(lambda z: jnp.sum(theta_from_latent(z, PRIOR), axis=0))(latent)
    assert np.all(np.isfinite(gradient))


# ---- distributions -------------------------------------------------------------------------------------------------


def test_betas_are_flat_on_the_simplex():
    """Flat Dirichlet of four: every marginal is Beta(1, 3), every pair sums to a Beta(2, 2)."""
    betas = draw(PRIOR)[:, BETAS]
    np.testing.assert_allclose(betas.mean(axis=0), 0.25, atol=0.005)
    for i in range(4):
        assert stats.kstest(betas[:, i], stats.beta(1, 3).cdf).pvalue > 1e-3
    for i, j in ((0, 1), (1, 2), (2, 3), (0, 3)):
        assert stats.kstest(betas[:, i] + betas[:, j], stats.beta(2, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", ["logmstar", "fburst", "tburst", "tau_bc", "tau_ism", "n_dust"])
def test_box_parameters_are_uniform(name):
    low, high = PARAMETERS[name].bounds
    values = column(draw(PRIOR), name)
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", ["gamma1", "gamma2"])
def test_gammas_are_log_uniform(name):
    values = column(draw(PRIOR), name)
    assert stats.kstest(values, stats.loguniform(4.5e-5, 1.5e-2).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("mean", "sigma"), [(0.5, 0.1), (0.1, 0.2)])
def test_f_fiber_is_a_normal_truncated_at_zero(mean, sigma):
    values = column(draw(prior_of((mean, sigma))), "f_fiber")
    assert values.min() >= 0
    truncated = stats.truncnorm(-mean / sigma, np.inf, loc=mean, scale=sigma)
    assert stats.kstest(values, truncated.cdf).pvalue > 1e-3


@pytest.mark.parametrize(("fiber", "value"), [(None, 1.0), ((0.4, 0.0), 0.4)])
def test_f_fiber_without_a_width_is_fixed(fiber, value):
    prior = prior_of(fiber)
    theta = draw(prior, 100)
    np.testing.assert_array_equal(column(theta, "f_fiber"), value)
    np.testing.assert_array_equal(unit_from_theta(jnp.asarray(theta), prior)[:, -1], 0.5)


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_a_simplex_of_any_size(n):
    """Flat Dirichlet of n: round trip, fractions that sum to 1, every marginal Beta(1, n - 1), and its corners."""
    parameters = simplex(n)
    prior, fractions = Prior.of(parameters), parameters.indices(f"f{i}" for i in range(1, n + 1))
    assert prior.n_coordinate == n + 1
    unit = jnp.asarray(np.random.default_rng(n).uniform(0.001, 0.999, (4000, n + 1)))
    theta = theta_from_unit(unit, prior)
    assert theta.shape == (4000, n + 2)
    np.testing.assert_allclose(unit_from_theta(theta, prior), unit, rtol=1e-8, atol=1e-9)
    drawn = np.asarray(theta)[:, fractions]
    np.testing.assert_allclose(drawn.sum(axis=1), 1.0, rtol=1e-12)
    for column_of_one in drawn.T if n > 1 else []:
        assert stats.kstest(column_of_one, stats.beta(1, n - 1).cdf).pvalue > 1e-3
    assert np.ptp(np.asarray(log_prior(theta, prior))) == 0  # flat
    moved = np.repeat(np.asarray(theta)[:1], n + 1, axis=0)
    moved[:n, fractions], moved[n, fractions] = np.eye(n), 1.1 / n
    np.testing.assert_array_equal(np.isfinite(log_prior(jnp.asarray(moved), prior)), [True] * n + [False])


# ---- density -------------------------------------------------------------------------------------------------------


def test_log_density_is_that_of_the_draws():
    """Ratios of log_prior: -ln gamma for each gamma, Gaussian in f_fiber, flat in all else."""
    base = np.asarray(theta_from_unit(jnp.full(N_FREE, 0.5), PRIOR))
    moved = base.copy()
    at = {name: base[PARAMETERS.index(name)] for name in ("gamma1", "f_fiber", "logmstar")}
    put(moved, gamma1=3 * at["gamma1"], f_fiber=at["f_fiber"] + 0.15, logmstar=at["logmstar"] + 1)
    moved[BETAS] = [0.1, 0.2, 0.3, 0.4]
    got = float(log_prior(jnp.asarray(moved), PRIOR) - log_prior(jnp.asarray(base), PRIOR))
    assert got == pytest.approx(-np.log(3) - 0.5 * 1.5**2, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logmstar", 6.9),
        ("logmstar", 12.6),
        ("fburst", -0.01),
        ("fburst", 1.01),
        ("tburst", 0.009),
        ("tburst", 13.3),
        ("gamma1", 4e-5),
        ("gamma2", 2e-2),
        ("tau_bc", -0.1),
        ("tau_ism", 3.1),
        ("n_dust", 1.1),
        ("n_dust", -2.1),
        ("f_fiber", -0.01),
        ("gamma1", float("nan")),
    ],
)
def test_outside_the_box_is_impossible(name, value):
    theta = np.array(theta_from_unit(jnp.full(N_FREE, 0.5), PRIOR))
    put(theta, **{name: value})
    assert log_prior(jnp.asarray(theta), PRIOR) == -np.inf


@pytest.mark.parametrize(
    "betas",
    [
        (-0.1, 0.4, 0.4, 0.3),
        (0.4, -0.1, 0.4, 0.3),
        (0.4, 0.4, -0.1, 0.3),
        (0.4, 0.4, 0.3, -0.1),
        (0.5, 0.8, 0, -0.3),
        (0.5, 0.5, 0.5, -0.5),
        (0.2, 0.2, 0.2, 0.9),
        (0.2, 0.2, 0.2, 0.2),
    ],
)
def test_off_the_simplex_is_impossible(betas):
    theta = np.array(theta_from_unit(jnp.full(N_FREE, 0.5), PRIOR))
    theta[BETAS] = betas
    assert log_prior(jnp.asarray(theta), PRIOR) == -np.inf


@pytest.mark.parametrize("betas", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)])
def test_corners_of_the_simplex_are_possible(betas):
    theta = np.array(theta_from_unit(jnp.full(N_FREE, 0.5), PRIOR))
    theta[BETAS] = betas
    assert np.isfinite(log_prior(jnp.asarray(theta), PRIOR))


@pytest.mark.parametrize("function", [unit_from_theta, log_prior])
@pytest.mark.parametrize("size", [1, N_FREE, 14])
def test_theta_of_another_length_is_refused(function, size):
    with pytest.raises(InputError, match=r"expected \(\.\.\., 13\) for the parameters logmstar, beta1"):
        function(jnp.ones((3, size)), PRIOR)


@pytest.mark.parametrize("function", [theta_from_unit, theta_from_latent])
@pytest.mark.parametrize("size", [1, 11, 13])
def test_another_number_of_coordinates_is_refused(function, size):
    with pytest.raises(InputError, match=r"expected \(\.\.\., 12\) for logmstar, x_beta1"):
        function(jnp.full((3, size), 0.5), PRIOR)


# ---- bounds --------------------------------------------------------------------------------------------------------


def test_bounds_replace_the_published_edges():
    prior = Prior.of(PARAMETERS, {"tau_ism": (0.0, 1.0), "gamma1": (1e-3, 1e-2)}, {"f_fiber": (0.5, 0.1)})
    theta = draw(prior, 2000)
    assert column(theta, "tau_ism").max() <= 1.0
    assert stats.kstest(column(theta, "gamma1"), stats.loguniform(1e-3, 1e-2).cdf).pvalue > 1e-3
    assert column(theta, "tau_bc").max() > 2.9  # the others stay
    outside = np.array(theta_from_unit(jnp.full(N_FREE, 0.5), prior))
    put(outside, tau_ism=1.5)
    assert log_prior(jnp.asarray(outside), prior) == -np.inf


@pytest.mark.parametrize(
    ("name", "edges", "says"),
    [
        ("beta1", (0.0, 0.5), "no such prior with edges; .*known: logmstar"),
        ("f_fiber", (0.0, 0.5), "no such prior with edges; .*known: logmstar"),
        ("tau", (0.0, 0.5), "no such prior with edges; did you mean 'tau_bc'.* known: logmstar"),
        ("tau_ism", (1.0, 0.5), "finite and increasing"),
        ("tau_ism", (0.0, float("inf")), "finite and increasing"),
        ("gamma1", (0.0, 0.01), "finite and increasing"),
    ],
)
def test_impossible_bounds_are_refused(name, edges, says):
    with pytest.raises(ConfigError, match=says) as error:
        Prior.of(PARAMETERS, {name: edges})
    assert str(error.value).startswith(f"prior_bounds.{name}: ")


def test_coordinates_are_parameters_or_of_the_simplex():
    coordinates = PARAMETERS.coordinates
    assert {n for n in coordinates if n not in PARAMETERS} == {"x_beta1", "x_beta2", "x_beta3"}
    assert {n for n in PARAMETERS.names if n not in coordinates} == {"beta1", "beta2", "beta3", "beta4"}
    assert PRIOR.n_coordinate == len(coordinates) == N_FREE
