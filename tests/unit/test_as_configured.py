"""Observations as a configuration takes them, and the preset that repeats the production of the released catalog."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from provabgs.core.errors import UnusableTargetError
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.fit_observation import fit_observation, prior_of
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.priors import log_prior
from provabgs.observe.as_configured import as_configured
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from tests.support.small_library import theta

BANDS = ("BASS-g", "BASS-r", "MzLS-z", "wise2010-W1")
RELEASED = FitConfig(preset="released-edr")


def galaxy() -> Observation:
    wave = np.arange(4000.0, 7000.0, 2.0)
    resolution = np.repeat([[0.2], [0.6], [0.2]], wave.size, axis=1)
    spectrum = Spectrum("b", wave, np.full(wave.size, 3.0), np.full(wave.size, 4.0), resolution)
    bands = Photometry(BANDS, [10.0, 20.0, 30.0, 40.0], [100.0, 400.0, 25.0, 1.0], [0.02, 0.02, 0.02, 0.05])
    return Observation(0.2, (spectrum,), bands, fiber_fraction=(0.4, 0.03), targetid=5)


def test_nothing_changes_by_default() -> None:
    data = galaxy()
    assert as_configured(data, ObservingOptions()) is data


def test_what_the_production_did() -> None:
    """g, r, z alone, under decam2014's curves; no resolution matrix; sigma of f_fiber is f_fiber times sigma(F_r)."""
    made = as_configured(galaxy(), RELEASED.observing)
    assert made.photometry is not None
    assert made.photometry.bands == ("decam2014-g", "decam2014-r", "decam2014-z")
    np.testing.assert_array_equal(made.photometry.flux, [10.0, 20.0, 30.0])
    assert made.spectra[0].resolution is None
    assert made.fiber_fraction == (0.4, pytest.approx(0.4 * 400.0**-0.5))
    again = as_configured(made, RELEASED.observing)
    assert again.digest() == made.digest()


def test_the_fit_sees_it() -> None:
    """No floor, no mask, no dispersion: the projection is that of bare pixels and bands."""
    config, data = RELEASED, galaxy()
    model = load_model(config.model)
    exact = ExactLikelihood(project(data, model.library, config.observing), model)
    spectrum, photometry = exact.projection.spectrum, exact.projection.photometry
    assert spectrum is not None
    assert photometry is not None
    np.testing.assert_allclose(spectrum.ivar, 4.0)
    np.testing.assert_allclose(photometry.ivar, [100.0, 400.0, 25.0])
    assert spectrum.flux.size == data.spectra[0].wave.size
    assert spectrum.templates.shape[1] == 0
    truth = theta(f_fiber=0.5)
    pixels, _ = exact.predict(truth)
    assert pixels is not None
    rest = np.asarray(model.spectrum(truth[:, :12], exact.tables))[0] * exact.projection.flux_factor
    wave = model.library.wave * 1.2
    fine = np.linspace(-1, 1, 41)
    by_hand = 0.5 * np.interp(spectrum.wave[:, None] + fine, wave, rest)
    np.testing.assert_allclose(pixels[0], np.trapezoid(by_hand, fine, axis=1) / 2, rtol=1e-3)
    prior = prior_of(exact, as_configured(data, config.observing), config)
    at = np.repeat(truth, 2, axis=0)
    at[:, -1] = [0.4 + 0.4 / 20, 0.4]
    one_sigma, centre = np.asarray(log_prior(at, prior))
    assert centre - one_sigma == pytest.approx(0.5, rel=1e-3)


def test_choices_of_the_configuration_win() -> None:
    config = FitConfig.model_validate({"preset": "released-edr", "observing": {"bands": ["r"], "vdisp_kms": 100}})
    made = as_configured(galaxy(), config.observing)
    assert made.photometry is not None
    assert made.photometry.bands == ("decam2014-r",)
    assert config.observing.vdisp_kms == 100
    assert config.observing.line_mask == "none"
    assert config.model.conventions == "published-code"


def test_a_galaxy_without_these_bands_says_so() -> None:
    bands = Photometry(("wise2010-W1",), [40.0], [1.0])
    alone = Observation(0.2, (), bands, targetid=5)
    with pytest.raises(UnusableTargetError, match=r"has none of the bands g, r, z of observing\.bands"):
        as_configured(alone, RELEASED.observing)
    assert "none of the bands" in fit_observation(alone, RELEASED).message
    spectrum = replace(galaxy(), photometry=bands)
    assert as_configured(spectrum, RELEASED.observing).photometry is None
