"""The noise terms of the honest preset, and the light error that they leave to the mass."""

from __future__ import annotations

import numpy as np
import pytest

from provabgs.catalog.records import to_block, to_posteriors
from provabgs.core.arrays import FloatArray
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, SamplerOptions
from provabgs.inference.fit import fit_one
from provabgs.inference.light_error import LIGHT_ERROR, as_fitted, spread_masses
from provabgs.inference.likelihood import ExactLikelihood, fit_parameters
from provabgs.inference.posterior import Posterior
from provabgs.inference.predictive import predict
from provabgs.inference.priors import Prior
from provabgs.observe.data_error import CameraCalibration, FiberColour, StellarTemplateError
from provabgs.observe.noise import FitData, Noise
from provabgs.observe.observation import Observation
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from tests.support.engine_mocks import draw_theta, mock

HONEST = FitConfig(preset="honest")
MODEL = load_model(HONEST.model)
Z = 0.12


def galaxy(seed: int, snr: float, photometry: bool = True) -> tuple[Observation, FloatArray]:
    rng = np.random.default_rng(seed)
    theta = draw_theta(rng)
    return mock(MODEL, theta, Z, snr, rng, photometry=photometry), theta


def data(n_pix: int = 400, bands: bool = True) -> FitData:
    wave = np.linspace(3700.0, 9000.0, n_pix)
    model = np.linspace(2500.0, 12000.0, 200)
    level = 2.0 + np.sin(wave / 900)
    weights = np.exp(-0.5 * ((model - np.array([[4800.0], [6400.0], [9000.0]])) / 400) ** 2)[: 3 if bands else 0]
    flux = np.array([3.0, 5.0, 8.0])[: 3 if bands else 0]
    camera = tuple(np.repeat(["b", "r"], [n_pix // 2, n_pix - n_pix // 2]))
    names = ("decam2014-g", "decam2014-r", "decam2014-z")[: 3 if bands else 0]
    return FitData(
        Z, wave, level, 0.01 * level**2, level, camera, np.zeros((n_pix, 0)),
        names, flux, 0.0004 * flux**2, flux, np.full(flux.size, 0.02), weights, model,
    )  # fmt: skip


def common_of(noise: Noise, d: FitData) -> FloatArray:
    """What factor common to all data each template holds, weighted as the data are."""
    pixels = np.zeros((d.wave.size, 0)) if noise.pixel_templates is None else noise.pixel_templates
    bands = np.zeros((d.band_flux.size, pixels.shape[1])) if noise.band_templates is None else noise.band_templates
    weight = np.concatenate([d.level / d.variance, d.band_flux / d.band_variance])
    return weight @ np.concatenate([pixels, bands])


@pytest.mark.parametrize("term", [StellarTemplateError(), CameraCalibration(), FiberColour()], ids=lambda t: t.name)
def test_no_template_is_a_change_of_mass(term) -> None:
    d = data()
    noise = term(d, ObservingOptions())
    assert noise.pixel_templates is not None
    scale = np.abs(d.level / d.variance) @ np.abs(noise.pixel_templates)
    # a term of pixels alone leaves f_fiber as it is; one of both leaves the mass
    weighed = (
        common_of(noise, d) if noise.band_templates is not None else (d.level / d.variance) @ noise.pixel_templates
    )
    np.testing.assert_allclose(weighed / scale, 0.0, atol=1e-10)


def test_the_light_error_is_that_of_the_libraries() -> None:
    whole = StellarTemplateError()(data(), ObservingOptions())
    assert 0.1 < whole.light_error < 0.3
    half = StellarTemplateError()(data(), ObservingOptions(template_error=0.5))
    np.testing.assert_allclose(half.light_error, 0.5 * whole.light_error)
    assert StellarTemplateError()(data(), ObservingOptions(template_error=0)).light_error == 0
    assert CameraCalibration()(data(), ObservingOptions()).light_error == 0


def test_calibration_acts_on_each_camera_alone() -> None:
    d = data()
    templates = CameraCalibration()(d, ObservingOptions(camera_order=2, camera_sigma=0.03)).pixel_templates
    assert templates is not None
    assert templates.shape == (d.wave.size, 6)
    relative = templates / d.level[:, None]
    for camera, own in (("b", slice(0, 3)), ("r", slice(3, 6))):
        elsewhere = np.array(d.camera) != camera
        assert np.ptp(relative[elsewhere][:, own], axis=0).max() < 1e-12  # a constant, which f_fiber takes up
        np.testing.assert_allclose(np.ptp(relative[~elsewhere][:, own], axis=0)[1], 0.06, rtol=1e-6)  # +-1 sigma
    assert CameraCalibration()(d, ObservingOptions(camera_sigma=0)).pixel_templates is None


def test_a_fiber_has_a_colour_only_where_there_are_bands() -> None:
    assert FiberColour()(data(bands=False), ObservingOptions()).pixel_templates is None
    templates = FiberColour()(data(), ObservingOptions(fiber_colour_sigma=0.05)).pixel_templates
    assert templates is not None
    assert np.ptp(templates[:, 0] / data().level) == pytest.approx(0.1, rel=1e-6)  # one sigma at each end


@pytest.mark.parametrize("photometry", [True, False])
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_noise_does_not_draw_the_mass_down(seed: int, photometry: bool) -> None:
    """At the true shape, the most probable mass is the true one: with a common template it was 0.2-0.3 dex too low."""
    observation, theta = galaxy(seed, 3.0, photometry)
    exact = ExactLikelihood(project(observation, MODEL.library, HONEST.observing), MODEL)
    shift = np.linspace(-0.5, 0.5, 201)
    rows = np.repeat(theta[None], shift.size, axis=0)
    rows[:, exact.parameters.index("logmstar")] += shift
    if not photometry:
        rows[:, exact.parameters.index("f_fiber")] = 1.0
    spec, phot = exact.chi2(rows)
    assert abs(shift[np.argmin(spec + phot)]) < 0.02


def test_masses_spread_and_come_back() -> None:
    parameters = fit_parameters(MODEL)
    prior = Prior.of(parameters)
    rng = np.random.default_rng(0)
    theta = np.tile(draw_theta(rng), (4000, 1))
    k = parameters.index("logmstar")
    theta[:2000, k], theta[2000:, k] = 10.0, 12.45  # the second half near the edge of the prior, 12.5
    out, names = spread_masses(theta, prior, "logmstar", 0.2, rng)
    assert names.names == (*parameters.names, LIGHT_ERROR.name)
    assert np.std(out[:2000, -1]) == pytest.approx(0.2 / np.log(10), rel=0.05)
    assert abs(np.mean(out[:2000, -1])) < 0.01
    assert out[:, k].max() <= 12.5
    np.testing.assert_allclose(as_fitted(out, names, "logmstar", parameters), theta, atol=1e-12)
    np.testing.assert_array_equal(as_fitted(theta, parameters, "logmstar", parameters), theta)


@pytest.fixture(scope="module")
def fitted() -> tuple[Observation, Posterior]:
    observation, _ = galaxy(8, 8.0)
    sampler = SamplerOptions(rhat=1.1, ess=100, aim_eval=0, time_limit_s=60)
    return observation, fit_one(observation, HONEST.model_copy(update={"sampler": sampler, "n_samples": 400}), seed=1)


def test_a_posterior_holds_its_light_error(fitted: tuple[Observation, Posterior]) -> None:
    _, posterior = fitted
    assert posterior.parameters.names[-1] == LIGHT_ERROR.name
    assert 0.03 < np.std(posterior["light_error"]) < 0.12
    # the mass carries the error: what was fitted is independent of it
    for mass in ("logmstar", "logmstar_surviving"):
        assert abs(np.corrcoef(posterior["light_error"], posterior[mass] + posterior["light_error"])[0, 1]) < 0.2
    assert posterior.best["light_error"] == 0.0
    assert np.all(np.isfinite(posterior.log_prob))


def test_what_is_predicted_fits_the_data(fitted: tuple[Observation, Posterior]) -> None:
    """The error is no error of the prediction: bands scatter about the data by their own noise."""
    observation, posterior = fitted
    bands = predict(posterior, observation, 40).photometry
    assert bands is not None
    assert np.std(np.log(bands.model[:, 1])) < 0.08
    assert np.std(posterior["light_error"]) * np.log(10) > 0.1


def test_the_store_keeps_it(fitted: tuple[Observation, Posterior]) -> None:
    _, posterior = fitted
    (back,) = to_posteriors(to_block([posterior], n_samples=None))
    assert back.parameters == posterior.parameters
    np.testing.assert_allclose(back["light_error"], posterior["light_error"], atol=1e-3)
