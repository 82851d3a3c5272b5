"""Observations as a configuration takes them, and the preset that repeats the production of the released catalog."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from provabgs.catalog.observed import read_fitted, write_fits
from provabgs.core.errors import UnusableTargetError
from provabgs.core.status import Status
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.fit import Fitted
from provabgs.inference.fit_observation import fit_observation, prior_of
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.posterior import Posterior, identity_of
from provabgs.inference.priors import log_prior
from provabgs.observe.as_configured import as_configured, assumed_dispersion
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


def test_a_given_dispersion_is_that_of_the_galaxy(tmp_path: Path) -> None:
    """`vdisp_kms = "given"`: the pixels' operator is that of the number, 150 km/s where there is none."""
    library = load_model(FitConfig().model).library
    given, plain = ObservingOptions(vdisp_kms="given"), galaxy()
    known = replace(plain, vdisp_kms=220.0)

    def operator(data: Observation, options: ObservingOptions) -> np.ndarray:
        spectrum = project(data, library, options).spectrum
        assert spectrum is not None
        return spectrum.operator.toarray()

    np.testing.assert_array_equal(operator(known, given), operator(plain, ObservingOptions(vdisp_kms=220.0)))
    np.testing.assert_array_equal(operator(plain, given), operator(plain, ObservingOptions()))
    np.testing.assert_array_equal(operator(known, ObservingOptions()), operator(plain, ObservingOptions()))
    assert assumed_dispersion(known, given) == ""
    assert assumed_dispersion(plain, given) == "no velocity dispersion is given: 150 km/s"
    assert assumed_dispersion(plain, ObservingOptions()) == ""
    assert known.digest() != plain.digest()
    assert plain.digest() == replace(plain, vdisp_kms=float("nan")).digest()
    assert identity_of(known)["meta"]["VDISP_GIVEN"] == 220.0
    failed = Posterior.without_samples(Status.BAD_DATA, "", FitConfig(), 0, **identity_of(known))
    write_fits(tmp_path / "out.h5", [Fitted(failed, known)])
    kept = read_fitted(tmp_path / "out.h5", 0)
    assert kept is not None
    assert (kept.vdisp_kms, kept.digest()) == (220.0, known.digest())
    with pytest.raises(UnusableTargetError, match="vdisp_kms is -5; give 0 to 1000"):
        replace(plain, vdisp_kms=-5.0)
