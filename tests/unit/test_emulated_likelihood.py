"""The emulated likelihood against the exact one, with the weights that ship."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.data import data_path
from provabgs.emulator.component import ComponentEmulator
from provabgs.emulator.models import ComponentModel
from provabgs.emulator.weights import load_emulator
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.likelihood.base import REFERENCE_LOG_MASS
from provabgs.inference.likelihood.emulated import EmulatedLikelihood, make_log_likelihood
from provabgs.inference.standard import PARAMETERS
from provabgs.observe.projection import project
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from tests.support.engine_mocks import NO_FLOOR, draw_theta, mock, near
from tests.support.parameters import column, prior_of, put
from tests.support.small_library import BETAS


class Case(NamedTuple):
    theta: np.ndarray
    points: jax.Array
    exact: ExactLikelihood
    compressed: CompressedLikelihood
    emulated: EmulatedLikelihood


@pytest.fixture(scope="module")
def model(library: SSPLibrary) -> SPSModel:
    return SPSModel(library)


@pytest.fixture(scope="module")
def emulator() -> ComponentEmulator:
    return load_emulator(data_path("emulator_paper.h5"))


def make_case(
    model: SPSModel, emulator: ComponentEmulator, seed: int, redshift: float = 0.2, **options: object
) -> Case:
    rng = np.random.default_rng(seed)
    theta = draw_theta(rng)
    data = mock(model, theta, redshift, 20, rng, **options)
    projection = project(data, model.library, NO_FLOOR)
    compressed = CompressedLikelihood(projection, model)
    prior = prior_of(data)
    if data.fiber_fraction is None:
        put(theta, f_fiber=1.0)
    points = near(compressed, theta, prior, rng, n=24, drop=10)
    return Case(theta, points, ExactLikelihood(projection, model), compressed, EmulatedLikelihood(compressed, emulator))


@pytest.fixture(scope="module", params=[1, 5])
def case(request: pytest.FixtureRequest, model: SPSModel, emulator: ComponentEmulator) -> Case:
    return make_case(model, emulator, request.param)


def scatter(case: Case, likelihood: EmulatedLikelihood) -> float:
    return float(np.std(np.asarray(likelihood(case.points)) - np.asarray(case.exact(case.points))))


def test_agrees_with_the_exact_likelihood(case: Case) -> None:
    """S/N 20 per pixel over 8,000 pixels: 0.02 % of the flux is worth a nat; with a reference little is left."""
    assert scatter(case, case.emulated) < 3.0
    referenced = case.emulated.with_reference(case.theta)
    assert scatter(case, referenced) < 0.15
    assert scatter(case, referenced) < scatter(case, case.emulated)


def test_reference_of_many_draws(case: Case) -> None:
    draws = case.points[:16]
    referenced = case.emulated.with_reference(draws)
    assert scatter(case, referenced) < 0.3


def test_pixels_agree(case: Case, model: SPSModel, emulator: ComponentEmulator) -> None:
    mine, bands = ExactLikelihood(case.exact.projection, ComponentModel(emulator, model)).predict(case.points)
    pixels, fluxes = case.exact.predict(case.points)
    assert np.abs(mine / pixels - 1).max() < 5e-3
    assert np.abs(bands / fluxes - 1).max() < 5e-3


def test_normal_equations_are_the_likelihood(case: Case) -> None:
    """The quadratic form, at the masses of theta, is chi^2 itself; and it is near the compressed engine's."""
    theta = case.points
    mine, other = case.emulated.linear_system, case.compressed.linear_system
    q, b, constant = (np.asarray(a) for a in mine.equations(theta, mine.data))
    masses = column(theta, *BETAS) * 10.0 ** (column(theta, "logmstar")[:, None] - REFERENCE_LOG_MASS)
    chi2 = constant - 2 * np.einsum("bi,bi->b", b, masses) + np.einsum("bi,bij,bj->b", masses, q, masses)
    np.testing.assert_allclose(-0.5 * chi2, case.emulated(theta), atol=0.02)
    theirs = np.asarray(other.equations(theta, other.data).q)
    diagonal = np.diagonal(q, axis1=1, axis2=2) / np.diagonal(theirs, axis1=1, axis2=2)
    np.testing.assert_allclose(diagonal, 1.0, atol=5e-3)


@pytest.mark.parametrize("options", [{"photometry": False}, {"cameras": ""}])
def test_one_kind_of_data(model: SPSModel, emulator: ComponentEmulator, options: dict) -> None:
    case = make_case(model, emulator, 3, 0.1, **options)
    assert scatter(case, case.emulated.with_reference(case.theta)) < 0.15
    assert scatter(case, case.emulated) < 3.0


def test_gradient(case: Case, emulator: ComponentEmulator, model: SPSModel) -> None:
    log_like = make_log_likelihood(emulator, model)
    one = jnp.asarray(case.theta)
    gradient = jax.grad(lambda t: log_like(t[None], case.emulated.reduction)[0])(one)
    for name in ("tau_ism", "n_dust", "logmstar", "fburst"):
        i = PARAMETERS.index(name)
        step = jnp.zeros(one.size).at[i].set(1e-3)
        both = case.emulated(jnp.stack([one + step, one - step]))
        assert float(gradient[i]) == pytest.approx(float(both[0] - both[1]) / 2e-3, rel=0.1, abs=30)


def test_batches_are_cut_without_a_trace(case: Case) -> None:
    many = jnp.tile(case.points, (25, 1))[:590]
    np.testing.assert_allclose(case.emulated(many)[:24], case.emulated(case.points), rtol=1e-5, atol=0.01)


def test_nothing_is_extrapolated(case: Case, emulator: ComponentEmulator, model: SPSModel) -> None:
    theta = np.repeat(case.theta[None], 3, axis=0)
    put(theta[1], gamma1=2e-2)
    put(theta[2], gamma2=np.nan)
    value = np.asarray(case.emulated(theta))
    assert np.isfinite(value[0])
    np.testing.assert_array_equal(value[1:], -np.inf)
    system = case.emulated.linear_system
    assert np.isnan(np.asarray(system.equations(jnp.asarray(theta), system.data).b)[1:]).all()


def test_theta_of_another_length_is_refused(case: Case, emulator: ComponentEmulator, model: SPSModel) -> None:
    system, short = case.emulated.linear_system, case.points[:, :12]
    for call in (case.emulated, case.emulated.with_reference, lambda t: system.equations(t, system.data)):
        with pytest.raises(InputError, match=r"expected \(\.\.\., 13\) for the parameters logmstar, .*, f_fiber(\n|$)"):
            call(short)
    for wrong in (case.points, short[:, :11]):
        with pytest.raises(InputError, match=r"expected \(\.\.\., 12\) for the parameters logmstar, .*, n_dust(\n|$)"):
            emulator.spectrum(wrong, model, 11.0)
        with pytest.raises(InputError, match=r"expected \(\.\.\., 12\)"):
            ComponentModel(emulator, model).spectrum(wrong, model.tables(11.0))


def test_a_galaxy_too_far_away_is_refused(model: SPSModel, emulator: ComponentEmulator) -> None:
    rng = np.random.default_rng(1)
    data = mock(model, draw_theta(rng), 0.5, 20, rng, cameras="")
    projection = replace(project(data, model.library, NO_FLOOR), redshift=0.9, t_age=6.3)
    with pytest.raises(InputError, match=r"z = 0.9: the universe was 6.3 Gyr old, the emulator was trained on 7-13.85"):
        EmulatedLikelihood.of(projection, model, emulator)
