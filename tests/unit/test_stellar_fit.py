"""The first stellar fit: light without the data's noise, whatever data there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from provabgs.core.arrays import FloatArray
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, SamplerOptions
from provabgs.inference.fit import fit_one
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.observe.noise import smooth_flux
from provabgs.observe.observation import Observation
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from provabgs.observe.stellar_fit import NO_STARS, LightData, stellar_light
from tests.support.engine_mocks import draw_theta, mock

HONEST = FitConfig(preset="honest")
MODEL = load_model(HONEST.model)
LIBRARY = MODEL.library
Z = 0.12


def galaxy(seed: int, snr: float) -> tuple[Observation, FloatArray]:
    rng = np.random.default_rng(seed)
    theta = draw_theta(rng)
    return mock(MODEL, theta, Z, snr, rng), theta


def seen(observation: Observation) -> LightData:
    """What the fit sees of a galaxy."""
    projection = project(observation, LIBRARY, ObservingOptions(line_mask="none", noise=()))
    none = np.zeros(0)
    s, b = projection.spectrum, projection.photometry
    empty = (none, none, none, none, np.zeros((0, LIBRARY.wave.size)))
    level = none if s is None else smooth_flux(s.flux, s.ivar)
    pixels = empty if s is None else (s.wave / (1 + Z), s.flux, 1 / s.ivar, level, s.operator)
    bands = empty[2:] if b is None else (b.flux, 1 / b.ivar, b.operator)
    return LightData(*pixels, *bands, observation.fiber_fraction or (1.0, 0.0))


def true_light(observation: Observation, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    exact = ExactLikelihood(project(observation, LIBRARY, ObservingOptions(line_mask="none", noise=())), MODEL)
    pixels, bands = exact.predict(theta[None])
    return np.asarray(pixels)[0], np.zeros(0) if bands is None else np.asarray(bands)[0]


def off(light: FloatArray, truth: FloatArray) -> float:
    """Error of light, averaged over 25 pixels, as a fraction of the brightest tenth's."""
    mean = np.convolve(light - truth, np.full(25, 0.04), "valid")
    return float(np.std(mean) / np.quantile(truth, 0.9))


@pytest.mark.parametrize("seed", range(4))
def test_light_holds_no_noise_of_the_data(seed: int) -> None:
    observation, theta = galaxy(seed, 2.0)
    data, (pixels, bands) = seen(observation), true_light(observation, theta)
    light = stellar_light(data, LIBRARY)
    assert off(light.level, pixels) < 0.03
    assert off(light.level, pixels) < 0.4 * off(data.level, pixels)
    np.testing.assert_allclose(light.band_level, bands, rtol=0.2)
    again = stellar_light(data, LIBRARY)
    assert np.array_equal(again.level, light.level)
    assert light.note == ""


def test_light_of_part_of_the_data() -> None:
    """Masked pixels, one camera, a spectrum alone, bands alone: whatever is there is fitted."""
    observation, theta = galaxy(1, 10.0)
    _, bands = true_light(observation, theta)
    camera = observation.spectra[1]
    gap = replace(camera, ivar=np.where(np.arange(camera.wave.size) % 700 < 350, 0.0, camera.ivar))
    for part in (replace(observation, spectra=(gap,)), observation.part("spectrum")):
        data = seen(part)
        truth, _ = true_light(part, theta)
        light = stellar_light(data, LIBRARY)
        assert np.median(np.abs(light.level / truth - 1)) < 0.03
        assert light.band_level.shape == data.band_flux.shape
    alone = stellar_light(seen(observation.part("photometry")), LIBRARY)
    assert alone.level.size == 0
    np.testing.assert_allclose(alone.band_level, bands, rtol=0.2)


def test_bands_of_noise_do_not_move_the_light() -> None:
    """Where bands say nothing, the light in them is that of the spectrum, f_fiber that of its prior."""
    observation, theta = galaxy(2, 10.0)
    _, bands = true_light(observation, theta)
    data = seen(observation)._replace(band_flux=-3 * bands, band_variance=(100 * bands) ** 2)
    np.testing.assert_allclose(stellar_light(data, LIBRARY).band_level[:3], bands[:3], rtol=0.35)


def test_a_band_of_other_light_keeps_its_own() -> None:
    """W2 of an active nucleus is no stars'."""
    data = seen(galaxy(3, 10.0)[0])
    flux = data.band_flux.copy()
    flux[-1] *= 20
    light = stellar_light(data._replace(band_flux=flux, band_variance=(0.02 * flux) ** 2), LIBRARY)
    assert light.band_level[-1] == flux[-1]
    assert np.all(light.band_level[:-1] != flux[:-1])


def test_data_without_light_stay_as_they_are() -> None:
    data = seen(galaxy(0, 5.0)[0])
    dark = data._replace(flux=-data.flux, level=-data.level, band_flux=-data.band_flux)
    light = stellar_light(dark, LIBRARY)
    assert light.note == NO_STARS
    assert light.level is dark.level
    assert light.band_level is dark.band_flux


def test_presets_say_what_errors_are_relative_to() -> None:
    assert HONEST.observing.relative_to == "stars"
    published = FitConfig(preset="published").observing
    assert published.relative_to == "data"
    observation, _ = galaxy(0, 5.0)
    flux = observation.photometry.flux  # type: ignore[union-attr]
    floor = np.array([0.02, 0.02, 0.02, 0.05, 0.05]) * flux
    bands = project(observation, LIBRARY, published).photometry
    assert bands is not None
    np.testing.assert_allclose(1 / bands.ivar, 1 / observation.photometry.ivar + floor**2)  # type: ignore[union-attr]


def test_a_fit_says_where_no_stars_were_found() -> None:
    observation, _ = galaxy(0, 5.0)
    spectra = tuple(replace(s, flux=-s.flux) for s in observation.spectra)
    sampler = SamplerOptions(rhat=1.3, ess=50, aim_eval=0, time_limit_s=10)
    config = HONEST.model_copy(update={"sampler": sampler, "n_samples": 20})
    posterior = fit_one(replace(observation, spectra=spectra, photometry=None, fiber_fraction=None), config, seed=1)
    assert NO_STARS in posterior.message
