"""The projection onto one galaxy's data, on observations made here: fluxes, masks, floors, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.cosmology import Planck13
from pydantic import ValidationError

from provabgs.core.constants import FSPS_LSUN_CGS
from provabgs.core.errors import UnusableTargetError
from provabgs.core.status import Status
from provabgs.observe.masks import PUBLISHED_LINES, WEAK_LINES, emission_line_mask, lines_seen
from provabgs.observe.noise import smooth_flux
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import bands_left_out, project
from tests.support.small_library import small_library

Z = 0.12
WAVE = {"b": np.arange(3600.0, 5800.0, 0.8), "r": np.arange(5760.0, 7620.0, 0.8), "z": np.arange(7520.0, 9824.0, 0.8)}
GRZ = ("decam2014-g", "decam2014-r", "decam2014-z")
NO_FLOOR = ObservingOptions(floor_spectrum=0, floor_optical=0, floor_infrared=0, line_mask="none")


@pytest.fixture(scope="module")
def library():
    return small_library()


def camera(name: str, flux: float = 3.0, ivar: float = 4.0, **more) -> Spectrum:
    wave = WAVE[name]
    return Spectrum(name, wave, np.full(wave.size, flux), np.full(wave.size, ivar), **more)


def photometry(bands=GRZ, flux: float = 50.0, ivar: float = 4.0) -> Photometry:
    return Photometry(bands, np.full(len(bands), flux), np.full(len(bands), ivar))


def galaxy(cameras: str = "brz", phot: Photometry | None = None, redshift: float = Z, **more) -> Observation:
    return Observation(redshift, tuple(camera(c) for c in cameras), phot, targetid=77, **more)


# ---- fluxes --------------------------------------------------------------------------------------------------------


def test_flux_factor_is_inverse_square_law_and_redshift(library):
    """L_lambda / (4 pi d_L^2 (1 + z)), in 1e-17 erg/s/cm2/A."""
    projection = project(galaxy(), library)
    distance = Planck13.luminosity_distance(Z).to_value("cm")
    expected = FSPS_LSUN_CGS / (4 * np.pi * distance**2 * (1 + Z)) / 1e-17
    assert projection.flux_factor == pytest.approx(expected, rel=1e-12)
    assert projection.t_age == pytest.approx(Planck13.age(Z).to_value("Gyr"), rel=1e-12)
    np.testing.assert_allclose(projection.wave_model, library.wave * (1 + Z))


def test_flat_spectrum_stays_flat(library):
    projection = project(galaxy(), library, NO_FLOOR)
    pixels = projection.spectrum.operator @ np.full(library.wave.size, 7.0)
    np.testing.assert_allclose(pixels, 7.0, rtol=1e-10)


def test_straight_line_is_seen_at_each_pixel(library):
    """Symmetric broadening and averaging leave a straight line as it is."""
    projection = project(galaxy(), library, NO_FLOOR)
    pixels = projection.spectrum.operator @ (projection.wave_model / 1000)
    np.testing.assert_allclose(pixels, projection.spectrum.wave / 1000, rtol=1e-9)


def test_flat_f_nu_source_has_equal_magnitudes(library):
    """1 microjansky per band is 1e-6 / 3631e-9 nanomaggies; f_lambda = f_nu c / lambda^2."""
    projection = project(galaxy("", photometry()), library, NO_FLOOR)
    f_lambda = 1e-29 * 2.99792458e18 / projection.wave_model**2 / 1e-17  # 1 uJy = 1e-29 erg/s/cm2/Hz
    got = projection.photometry.operator @ f_lambda
    np.testing.assert_allclose(got, 1 / 3.631, rtol=2e-4)  # the model is linear in lambda between nodes 22 A apart


def test_resolution_matrix_is_applied(library):
    """A matrix that takes a third of each neighbour: the operator is the running mean of that without it."""
    bands = np.full((3, WAVE["r"].size), 1 / 3)
    with_matrix = Observation(Z, (camera("r", resolution=bands),))
    without = project(galaxy("r"), library, NO_FLOOR).spectrum.operator
    got = project(with_matrix, library, NO_FLOOR).spectrum.operator
    source = np.random.default_rng(0).random(library.wave.size)
    plain = without @ source
    np.testing.assert_allclose((got @ source)[1:-1], (plain[2:] + plain[1:-1] + plain[:-2]) / 3, rtol=1e-10)


def test_velocity_dispersion_broadens():
    """The second moment of what a pixel sees grows by (lambda sigma / c)^2."""
    library = small_library(np.arange(4900.0, 7000.0, 1.0))
    widths = []
    for vdisp in (0.0, 300.0):
        options = NO_FLOOR.model_copy(update={"vdisp_kms": vdisp})
        operator = project(galaxy("r"), library, options).spectrum.operator
        wave = project(galaxy("r"), library, options).wave_model
        pixel = 1000
        row = operator[pixel].toarray()[0]
        centre = row @ wave
        widths.append(row @ (wave - centre) ** 2)
        at = WAVE["r"][pixel]
    assert widths[1] - widths[0] == pytest.approx((at * 300 / 299792.458) ** 2, rel=0.02)


# ---- what enters ---------------------------------------------------------------------------------------------------


def test_noise_floors_add_in_quadrature(library):
    bands = ("decam2014-r", "decam2014-z")
    options = ObservingOptions(floor_spectrum=0.05, floor_optical=0.1, line_mask="none")
    projection = project(galaxy("b", photometry(bands)), library, options)
    np.testing.assert_allclose(projection.spectrum.ivar, 1 / (1 / 4.0 + (0.05 * 3.0) ** 2), rtol=1e-12)
    np.testing.assert_allclose(projection.photometry.ivar, 1 / (1 / 4.0 + (0.1 * 50.0) ** 2), rtol=1e-12)


def test_infrared_bands_have_their_own_floor():
    wide = small_library(np.geomspace(2000.0, 60000.0, 800))
    options = ObservingOptions(floor_optical=0.0, floor_infrared=0.2)
    projection = project(galaxy("", photometry(("decam2014-r", "wise2010-W1"))), wide, options)
    np.testing.assert_allclose(projection.photometry.ivar, [4.0, 1 / (1 / 4.0 + (0.2 * 50.0) ** 2)], rtol=1e-12)


def test_smoothed_flux_ignores_bad_pixels():
    n = WAVE["r"].size
    flux, ivar = np.full(n, 2.0), np.ones(n)
    flux[500:520], ivar[500:520] = 1e6, 0.0
    np.testing.assert_allclose(smooth_flux(flux, ivar), 2.0, rtol=1e-9)


@pytest.mark.parametrize(("kind", "half_width"), [("published", 40.0), ("extended", 40.0), ("published", 10.0)])
def test_masked_pixels_leave(library, kind, half_width):
    options = ObservingOptions(line_mask=kind, line_mask_half_width_aa=half_width)
    seen = project(galaxy(), library, options).spectrum.wave
    for line in PUBLISHED_LINES.values():
        assert np.abs(seen - line * (1 + Z)).min() >= half_width
    weak = np.array([np.abs(seen - line * (1 + Z)).min() for line in WEAK_LINES.values() if line * (1 + Z) < 9800])
    assert np.all(weak >= half_width / 2) == (kind == "extended")
    everything = sum(w.size for w in WAVE.values())
    assert everything - seen.size > 2 * half_width / 0.8 * 3


def with_line(width_aa: float, noise: float, line: str = "[OIII] 5008", z: float = 0.08) -> Observation:
    """A flat spectrum with a line of that equivalent width (rest), noise per pixel of 0.8 A."""
    wave = np.arange(3800.0, 7600.0, 0.8)
    centre, sigma = PUBLISHED_LINES[line] * (1 + z), 2.5
    profile = np.exp(-0.5 * ((wave - centre) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    flux = 1 + width_aa * (1 + z) * profile + noise * np.random.default_rng(1).standard_normal(wave.size)
    return Observation(z, (Spectrum("b", wave, flux, np.full(wave.size, noise**-2)),))


@pytest.mark.parametrize(
    ("observation", "seen"),
    [
        (with_line(15.0, 0.05), True),
        (with_line(15.0, 0.05, "Halpha"), True),
        (with_line(5.0, 0.05), False),  # seen at S/N 50, too weak to matter
        (with_line(15.0, 1.5), False),  # strong, lost in the noise
        (with_line(30.0, 0.05, "Hbeta"), False),  # not one of the two
        (with_line(0.0, 0.05), False),
    ],
)
def test_the_automatic_mask_follows_the_lines(library, observation, seen):
    """It is the extended one where [O III] or H alpha stands out, else the default one, to the pixel."""
    auto, default, extended = (
        project(observation, library, ObservingOptions(line_mask=kind)).spectrum.wave
        for kind in ("auto", "default", "extended")
    )
    assert default.size > extended.size
    np.testing.assert_array_equal(auto, extended if seen else default)


def test_a_cosmic_ray_is_no_line(library):
    observation = with_line(0.0, 0.05)
    (s,) = observation.spectra
    at = np.abs(s.wave - PUBLISHED_LINES["[OIII] 5008"] * 1.08).argmin()
    flux = s.flux.copy()
    flux[at : at + 2] += 100.0
    assert not lines_seen(Observation(0.08, (replace(s, flux=flux),)))
    flux[at - 1 : at + 3] += 100.0
    assert lines_seen(Observation(0.08, (replace(s, flux=flux),)))


def test_mask_of_two_lines():
    wave = np.arange(5000.0, 5360.0, 1.0)
    masked = emission_line_mask(wave, 0.08, "published", 40.0)  # Hbeta at 5251.7, [OIII] 4960 at 5357.1
    np.testing.assert_array_equal(masked, (np.abs(wave - 5251.716) < 40) | (np.abs(wave - 5357.124) < 40))
    assert not emission_line_mask(wave, 0.08, "none", 40.0).any()


def test_zero_ivar_and_empty_resolution_columns_leave(library):
    bands = np.zeros((3, WAVE["r"].size))
    bands[1] = 1.0
    bands[:, 10:20] = 0.0
    wave = WAVE["r"]
    ivar = np.ones(wave.size)
    ivar[30:50] = 0.0
    spectrum = Spectrum("r", wave, np.ones(wave.size), ivar, bands)
    projection = project(Observation(Z, (spectrum,)), library, NO_FLOOR)
    assert projection.spectrum.flux.size == wave.size - 30
    assert not np.isin(projection.spectrum.wave, wave[10:20]).any()
    assert not np.isin(projection.spectrum.wave, wave[30:50]).any()


def test_cameras_come_in_order_of_wavelength_whatever_the_input(library):
    projection = project(Observation(Z, (camera("z"), camera("b"), camera("r"))), library, NO_FLOOR)
    assert projection.n_data == (sum(w.size for w in WAVE.values()), 0)
    np.testing.assert_allclose(projection.spectrum.wave, np.concatenate(list(WAVE.values())))
    assert list(dict.fromkeys(projection.spectrum.camera)) == ["b", "r", "z"]


def test_missing_and_dead_cameras(library):
    dead = camera("z", ivar=0.0)
    projection = project(Observation(Z, (camera("b"), dead)), library, NO_FLOOR)
    assert set(projection.spectrum.camera) == {"b"}


def test_photometry_only_and_spectrum_only(library):
    only = project(galaxy("", photometry()), library)
    assert only.spectrum is None
    assert only.n_data == (0, 3)
    only = project(galaxy("r"), library)
    assert only.photometry is None
    assert only.n_data[1] == 0
    unmeasured = project(galaxy("r", photometry(ivar=0.0)), library)
    assert unmeasured.photometry is None


def test_unmeasured_band_leaves(library):
    phot = Photometry(GRZ, np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 1.0]))
    projection = project(galaxy("", phot), library)
    assert projection.photometry.bands == ("decam2014-g", "decam2014-z")
    np.testing.assert_array_equal(projection.photometry.flux, [1.0, 3.0])


def test_fiber_fraction_is_handed_on(library):
    assert project(galaxy(fiber_fraction=(0.4, 0.02)), library).fiber_fraction == (0.4, 0.02)


def test_calibration_templates_are_legendre_polynomials_of_the_level(library):
    options = ObservingOptions(calibration_order=2, calibration_sigma=0.2, line_mask="none")
    data = project(galaxy(), library, options).spectrum
    x = 2 * (data.wave - data.wave.min()) / (data.wave.max() - data.wave.min()) - 1
    expected = 0.2 * 3.0 * np.stack([np.ones_like(x), x, 1.5 * x**2 - 0.5], axis=1)
    np.testing.assert_allclose(data.templates, expected, atol=1e-10)
    assert project(galaxy(), library, NO_FLOOR).spectrum.templates.shape == (data.flux.size, 0)


# ---- what is refused -----------------------------------------------------------------------------------------------


def refused(observation: Observation, library, options=None) -> UnusableTargetError:
    with pytest.raises(UnusableTargetError) as error:
        project(observation, library, options)
    assert "\n" not in str(error.value)
    assert "77" in str(error.value)
    return error.value


def test_redshift_beyond_the_model(library):
    error = refused(galaxy(redshift=0.61), library)
    assert error.status == Status.REDSHIFT_OUT_OF_RANGE
    assert "z_max = 0.6" in str(error)
    assert project(galaxy("r", redshift=0.61), library, ObservingOptions(z_max=0.7)).redshift == 0.61


def test_band_beyond_the_library(library):
    error = refused(galaxy("", photometry(("wise2010-W1",))), library)
    assert error.status == Status.REDSHIFT_OUT_OF_RANGE
    assert "wise2010-W1" in str(error)


def test_spectrum_beyond_the_library():
    short = small_library(np.arange(3000.0, 8000.0, 20.0))
    error = refused(galaxy("z"), short)
    assert error.status == Status.REDSHIFT_OUT_OF_RANGE
    assert "cut the spectrum" in str(error)


def test_band_without_a_filter_is_an_input_error(library):
    error = refused(galaxy("", photometry(("decam2014-q",))), library)
    assert error.status == Status.INPUT_ERROR
    assert "decam2014-q" in str(error)


def test_everything_masked(library):
    wave = np.arange(7300.0, 7400.0, 0.8)  # around Halpha at z = 0.12
    spectrum = Spectrum("r", wave, np.ones(wave.size), np.ones(wave.size))
    error = refused(Observation(Z, (spectrum,), targetid=77), library, ObservingOptions(line_mask_half_width_aa=80.0))
    assert error.status == Status.NO_VALID_PIXELS
    assert "line_mask_half_width_aa" in str(error)


def test_a_band_that_the_model_does_not_reach_is_left_out_and_said(library):
    observation = galaxy("r", photometry((*GRZ, "wise2010-W3", "galex-fuv")))
    projection = project(observation, library)
    assert projection.photometry.bands == GRZ
    said = bands_left_out(observation, projection)
    assert "wise2010-W3 (100% of it)" in said
    assert "galex-fuv" in said
    assert bands_left_out(galaxy("r"), project(galaxy("r"), library)) == ""
    alone = project(galaxy("r", photometry(("wise2010-W3",))), library)
    assert alone.photometry is None
    assert alone.spectrum is not None


def test_an_unknown_cosmology_is_refused_with_the_configuration():
    with pytest.raises(ValidationError, match="astropy has no cosmology"):
        ObservingOptions(cosmology="Planck99")
    assert ObservingOptions(cosmology="Planck18").cosmology == "Planck18"
