"""The exact likelihood against direct numpy arithmetic on dense operators, and its marginalisation by brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special

from provabgs.core.jax import jax, jnp
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from provabgs.sps.model import SPSModel
from tests.support.parameters import column, put, stars_of
from tests.support.small_library import draws, small_library

Z = 0.15
MODEL = SPSModel(small_library())
THETA = draws(6, np.random.default_rng(0))
put(THETA, logmstar=np.random.default_rng(1).uniform(9.5, 11, 6))
put(THETA, tburst=np.random.default_rng(2).uniform(0.01, 11, 6))


def observation(spectra: bool = True, photometry: bool = True) -> Observation:
    rng = np.random.default_rng(4)
    cameras = []
    for name, wave in (("b", np.arange(3700.0, 4400.0, 1.7)), ("r", np.arange(5800.0, 6300.0, 1.7))):
        ivar = rng.uniform(0.5, 3, wave.size)
        ivar[rng.integers(0, wave.size, 20)] = 0.0
        bands = np.array([[0.2], [0.6], [0.2]]) * np.ones(wave.size)
        cameras.append(Spectrum(name, wave, rng.uniform(5, 9, wave.size), ivar, bands))
    phot = Photometry(("decam2014-g", "decam2014-r"), np.array([40.0, 80.0]), np.array([9.0, 4.0]))
    return Observation(Z, tuple(cameras) if spectra else (), phot if photometry else None, (0.5, 0.1))


def likelihood(options: ObservingOptions | None = None, **which: bool) -> ExactLikelihood:
    return ExactLikelihood(project(observation(**which), MODEL.library, options), MODEL)


def with_flux(engine: ExactLikelihood, flux: np.ndarray) -> ExactLikelihood:
    """The same galaxy with other pixels."""
    spectrum = replace(engine.projection.spectrum, flux=flux)
    return ExactLikelihood(replace(engine.projection, spectrum=spectrum), MODEL)


def by_hand(engine: ExactLikelihood) -> tuple[np.ndarray, np.ndarray]:
    """chi^2 of spectrum and photometry with dense matrices in numpy."""
    p = engine.projection
    light = np.asarray(MODEL.spectrum(jnp.asarray(stars_of(THETA)), MODEL.tables(p.t_age))) * p.flux_factor
    spec = phot = np.zeros(len(THETA))
    if p.spectrum is not None:
        pixels = column(THETA, "f_fiber")[:, None] * (light @ p.spectrum.operator.toarray().T)
        spec = np.sum(p.spectrum.ivar * (p.spectrum.flux - pixels) ** 2, axis=1)
    if p.photometry is not None:
        phot = np.sum(p.photometry.ivar * (p.photometry.flux - light @ p.photometry.operator.T) ** 2, axis=1)
    return spec, phot


@pytest.mark.parametrize("which", [{}, {"spectra": False}, {"photometry": False}])
def test_equals_direct_arithmetic(which):
    engine = likelihood(**which)
    spec, phot = by_hand(engine)
    got_spec, got_phot = engine.chi2(THETA)
    np.testing.assert_allclose(got_spec, spec, rtol=1e-6)
    np.testing.assert_allclose(got_phot, phot, rtol=1e-6)
    np.testing.assert_allclose(engine(THETA), -0.5 * (spec + phot), rtol=1e-6)
    assert engine(THETA).dtype == np.float64
    assert np.ptp(engine(THETA)) > 1  # the comparison is not of constants


def test_padding_rows_carry_no_weight():
    """The operator is padded to whole blocks; neither chi^2 nor predictions know of it."""
    engine = likelihood()
    n_pix = engine.projection.n_data[0]
    assert engine.arrays.spectrum.flux.size > n_pix
    assert np.all(np.asarray(engine.arrays.spectrum.ivar)[n_pix:] == 0)
    spoilt = engine.arrays.spectrum._replace(flux=engine.arrays.spectrum.flux.at[n_pix:].set(1e9))
    before = engine(THETA)
    engine.arrays = engine.arrays._replace(spectrum=spoilt)
    np.testing.assert_array_equal(engine(THETA), before)


def test_predictions_and_chi2_belong_together():
    engine = likelihood()
    p = engine.projection
    pixels, bands = engine.predict(THETA)
    assert pixels.shape == (len(THETA), p.spectrum.flux.size)
    assert bands.shape == (len(THETA), 2)
    spec, phot = engine.chi2(THETA)
    np.testing.assert_allclose(spec, np.sum(p.spectrum.ivar * (p.spectrum.flux - pixels) ** 2, axis=1), rtol=1e-10)
    np.testing.assert_allclose(phot, np.sum(p.photometry.ivar * (p.photometry.flux - bands) ** 2, axis=1), rtol=1e-10)


@pytest.mark.parametrize(("which", "missing"), [({"spectra": False}, 0), ({"photometry": False}, 1)])
def test_absent_data_predict_nothing_and_cost_nothing(which, missing):
    engine = likelihood(**which)
    assert engine.predict(THETA)[missing] is None
    assert np.all(np.asarray(engine.chi2(THETA)[missing]) == 0)


def test_f_fiber_scales_the_spectrum_and_not_the_photometry():
    engine = likelihood()
    halved = THETA.copy()
    put(halved, f_fiber=column(THETA, "f_fiber") / 2)
    pixels, bands = engine.predict(THETA)
    half_pixels, same_bands = engine.predict(halved)
    np.testing.assert_allclose(2 * half_pixels, pixels, rtol=1e-12)
    np.testing.assert_array_equal(bands, same_bands)


def test_own_prediction_has_zero_chi2():
    """Data made from the model itself: chi^2 is 0 there and nowhere else."""
    engine = likelihood()
    pixels, bands = engine.predict(THETA)
    original = observation()
    spectra, start = [], 0
    for s, name in zip(original.spectra, "br", strict=True):
        good = np.isin(s.wave, engine.projection.spectrum.wave)
        flux = np.zeros(s.wave.size)
        flux[good] = np.asarray(pixels)[0, start : start + good.sum()]
        start += int(good.sum())
        spectra.append(Spectrum(name, s.wave, flux, np.where(good, s.ivar, 0.0), s.resolution))
    phot = Photometry(original.photometry.bands, np.asarray(bands)[0], original.photometry.ivar)
    made = Observation(Z, tuple(spectra), phot, (0.5, 0.1))
    value = np.asarray(ExactLikelihood(project(made, MODEL.library), MODEL)(THETA))
    assert value[0] == pytest.approx(0.0, abs=1e-6)
    assert np.all(value[1:] < -1)


def test_calibration_marginalisation_is_the_gaussian_integral():
    """ln of the integral of exp(-chi^2(c)/2) N(c; 0, 1) over two coefficients, summed on a grid of them."""
    options = ObservingOptions(calibration_order=1, calibration_sigma=0.05, floor_spectrum=0.5)
    engine = likelihood(options, photometry=False)
    data = engine.projection.spectrum
    theta = np.repeat(THETA[:1], 3, axis=0)
    put(theta, f_fiber=column(theta, "f_fiber") * [1.0, 1.2, 1.2])
    put(theta[2], tau_ism=column(theta[2], "tau_ism") + 0.3)
    pixels = np.asarray(engine.predict(theta)[0])
    flux = pixels[0] * 1.08 + np.random.default_rng(0).normal(0, 0.3, data.flux.size)
    engine = with_flux(engine, flux)

    side = np.linspace(-8, 8, 161)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    calibration = grid @ data.templates.T
    by_sum = []
    for model in pixels:
        chi2 = ((flux - model - calibration) ** 2) @ data.ivar + np.sum(grid**2, axis=1)
        assert chi2.min() < chi2.reshape(161, 161)[:, [0, -1]].min() - 30  # the grid holds the integrand
        by_sum.append(special.logsumexp(-0.5 * chi2))
    np.testing.assert_allclose(np.diff(engine(theta)), np.diff(by_sum), atol=1e-4)
    plain = np.sum(data.ivar * (flux - pixels) ** 2, axis=1)
    assert np.all(np.asarray(engine.chi2(theta)[0]) < plain)


def test_calibration_forgives_a_tilt():
    """A 10 % tilt across the spectrum costs much without templates and little with them."""
    chi2 = []
    for order in (None, 1):
        options = ObservingOptions(calibration_order=order, floor_spectrum=0.0)
        engine = likelihood(options, photometry=False)
        pixels = np.asarray(engine.predict(THETA[:1])[0])[0]
        data = engine.projection.spectrum
        x = 2 * (data.wave - data.wave.min()) / np.ptp(data.wave) - 1
        bent = with_flux(engine, pixels + 0.02 * data.flux * x)
        chi2.append(float(bent.chi2(THETA[:1])[0][0]))
    assert chi2[1] < 0.5 * chi2[0]


def test_gradient_is_finite_and_right():
    engine = likelihood()
    theta = jnp.asarray(THETA[:1])
    gradient = jax.grad(lambda t: engine(t)[0])(theta)
    assert np.all(np.isfinite(gradient))
    i, step = engine.parameters.index("tau_ism"), 1e-3
    up, down = (float(engine(theta.at[0, i].add(s))[0]) for s in (step, -step))
    assert float(gradient[0, i]) == pytest.approx((up - down) / (2 * step), rel=1e-3)
