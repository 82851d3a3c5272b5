"""Spectra of other instruments and packages: units, masks, air, widths, uncertainties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import InverseVariance, StdDevUncertainty, VarianceUncertainty

from provabgs import Observation, Spectrum
from provabgs.catalog.observed import read_fitted, write_fits
from provabgs.core.errors import InputError, UnusableTargetError
from provabgs.core.status import Status
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.observe.extinction import spectrum_transmission
from provabgs.observe.linespread import spread_matrix, velocity_sigma
from provabgs.observe.other_spectra import line_spread, make_spectrum
from provabgs.observe.projection import camera_operator
from provabgs.sps.resolution import FWHM_PER_SIGMA

WAVE = np.arange(4000.0, 8000.0, 1.5)
FLUX = 3.0 + np.sin(WAVE / 300.0)
ERROR = 0.05 * FLUX
POWER = np.linspace(1500, 2500, WAVE.size)
PER_AA = u.Unit("1e-17 erg / (s cm2 Angstrom)")


def test_errors_masks_and_dust() -> None:
    error = ERROR.copy()
    error[[3, 4, 5]] = [0.0, -1.0, np.nan]
    mask = np.zeros(WAVE.size, bool)
    mask[10:12] = True
    made = make_spectrum(WAVE, FLUX, error=error, mask=mask, ebv=0.1)
    assert np.flatnonzero(made.ivar == 0).tolist() == [3, 4, 5, 10, 11]
    good = made.ivar > 0
    arrives = spectrum_transmission(WAVE, 0.1)
    np.testing.assert_allclose(made.flux[good], (FLUX / arrives)[good], rtol=1e-12)
    np.testing.assert_allclose((made.flux * np.sqrt(made.ivar))[good], 20.0, rtol=1e-12)


def test_units_are_converted() -> None:
    jansky = (FLUX * PER_AA).to(u.W / u.m**2 / u.um)
    error = (ERROR * PER_AA).to(u.W / u.m**2 / u.um)
    made = make_spectrum((WAVE * u.AA).to(u.um), jansky, error=error, fwhm_aa=0.25 * u.nm)
    np.testing.assert_allclose(made.flux, FLUX, rtol=1e-9)
    np.testing.assert_allclose(made.ivar, ERROR**-2, rtol=1e-9)
    assert made.sigma_aa == pytest.approx(2.5 / FWHM_PER_SIGMA)


def test_air_is_converted_to_vacuum() -> None:
    """[O III]: 5006.843 A in air is 5008.240 A in vacuum."""
    wave = 5006.843 + 0.5 * np.arange(-20, 21)
    made = make_spectrum(wave, np.ones(41), ivar=np.ones(41), air=True)
    assert made.wave[20] == pytest.approx(5008.240, abs=0.005)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 0.0),
        ({"sigma_aa": 1.2}, 1.2),
        ({"fwhm_aa": np.full(WAVE.size, FWHM_PER_SIGMA)}, np.ones(WAVE.size)),
        ({"resolving_power": 2000.0}, WAVE / 2000 / FWHM_PER_SIGMA),
        ({"resolving_power": POWER}, WAVE / POWER / 2.354820045),
    ],
)
def test_widths(given: dict[str, Any], expected: Any) -> None:
    np.testing.assert_allclose(line_spread(WAVE, **given), expected)
    made = make_spectrum(WAVE, FLUX, error=ERROR, **given)
    np.testing.assert_allclose(made.sigma_aa, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigma_aa": 1.0, "fwhm_aa": 2.0}, "sigma_aa and fwhm_aa say the same thing"),
        ({"fwhm_aa": -1.0}, "fwhm_aa is -1 somewhere"),
        ({"resolving_power": 0.0}, "resolving_power is 0"),
        ({"fwhm_aa": 1.0 * u.km / u.s}, "fwhm_aa is in km / s; give Angstrom"),
    ],
)
def test_widths_that_are_none(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_spectrum(WAVE, FLUX, error=ERROR, **given)


def test_one_of_ivar_and_error() -> None:
    with pytest.raises(InputError, match="give ivar or error, one of the two"):
        make_spectrum(WAVE, FLUX)
    with pytest.raises(UnusableTargetError, match=r"mask has shape \(3,\)"):
        make_spectrum(WAVE, FLUX, ivar=np.ones(WAVE.size), mask=[True, False, True])


# ---- a width for each pixel ------------------------------------------------------------------------------------------


def test_operator_with_a_width_for_each_pixel() -> None:
    """Each pixel's row is that of an operator with the pixel's own width throughout."""
    widths = np.linspace(0.8, 3.0, WAVE.size)
    model = np.arange(3800.0, 8200.0, 0.9)
    spectrum = Spectrum("b", WAVE, FLUX, np.ones(WAVE.size), sigma_aa=widths)
    matrix = camera_operator(spectrum, model, 100.0)
    for row in (0, 1000, 2500):
        alone = spread_matrix(model, WAVE, velocity_sigma(WAVE, 100.0, widths[row]))
        np.testing.assert_allclose(matrix[row].toarray(), alone[row].toarray(), atol=1e-9)


@pytest.mark.parametrize(
    ("width", "message"),
    [
        (np.r_[1.0, -0.5, np.ones(WAVE.size - 2)], r"sigma_aa is -0.5 at pixel 1 \(1 of"),
        (np.ones(3), r"sigma_aa has shape \(3,\); give a number, or one for each of"),
        (np.nan, "sigma_aa is nan; give Angstrom >= 0"),
    ],
)
def test_a_wrong_width_is_bad_data(width: Any, message: str) -> None:
    with pytest.raises(UnusableTargetError, match=message) as caught:
        Spectrum("b", WAVE, FLUX, np.ones(WAVE.size), sigma_aa=width)
    assert caught.value.status == Status.BAD_DATA


def test_widths_are_kept_with_the_posterior(tmp_path: Path) -> None:
    widths = np.linspace(0.8, 3.0, WAVE.size)
    galaxy = Observation(0.1, (Spectrum("b", WAVE, FLUX, np.ones(WAVE.size), sigma_aa=widths),), targetid=3)
    plain = Observation(0.1, (Spectrum("b", WAVE, FLUX, np.ones(WAVE.size), sigma_aa=1.0),), targetid=3)
    assert galaxy.digest() != plain.digest()
    empty = Posterior.without_samples(Status.TIMED_OUT, "too slow", FitConfig(), 0, targetid=3, redshift=0.1)
    write_fits(tmp_path / "fit.h5", [(empty, galaxy), (empty, plain)])
    np.testing.assert_array_equal(read_fitted(tmp_path / "fit.h5", 0).spectra[0].sigma_aa, widths)
    assert read_fitted(tmp_path / "fit.h5", 1).spectra[0].sigma_aa == 1.0


# ---- specutils -------------------------------------------------------------------------------------------------------


def spectrum_of(**changes: Any) -> Any:
    specutils = pytest.importorskip("specutils", reason="specutils is not installed (extra dev)")
    given = {
        "spectral_axis": WAVE * u.AA,
        "flux": FLUX * PER_AA,
        "uncertainty": StdDevUncertainty(ERROR),
        "redshift": 0.1,
    }
    kind = getattr(specutils, "Spectrum", None) or specutils.Spectrum1D
    return kind(**(given | changes))


def test_specutils_spectrum() -> None:
    made = Observation.from_specutils(spectrum_of(), targetid=5, line_width={"resolving_power": 2000.0})
    assert made.redshift == pytest.approx(0.1)
    assert made.targetid == 5
    np.testing.assert_allclose(made.spectra[0].flux, FLUX, rtol=1e-12)
    np.testing.assert_allclose(made.spectra[0].ivar, ERROR**-2, rtol=1e-12)
    np.testing.assert_allclose(made.spectra[0].sigma_aa, WAVE / 2000 / FWHM_PER_SIGMA)


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_specutils_by_frequency_and_with_any_uncertainty(kind: Any) -> None:
    """f_nu against frequency, the other way round, is the same spectrum."""
    axis = (WAVE * u.AA).to(u.THz, u.spectral())[::-1]
    flux = (FLUX * PER_AA).to(u.mJy, u.spectral_density(WAVE * u.AA))[::-1]
    error = (ERROR * PER_AA).to(u.mJy, u.spectral_density(WAVE * u.AA))[::-1].value
    power = {StdDevUncertainty: 1, VarianceUncertainty: 2, InverseVariance: -2}[kind]
    mask = np.zeros(WAVE.size, bool)
    mask[-1] = True  # the shortest wavelength
    given = spectrum_of(spectral_axis=axis, flux=flux, uncertainty=kind(error**power), mask=mask)
    made = Observation.from_specutils(given).spectra[0]
    assert made.ivar[0] == 0
    np.testing.assert_allclose(made.wave, WAVE, rtol=1e-10)
    np.testing.assert_allclose(made.flux[1:], FLUX[1:], rtol=1e-9)
    np.testing.assert_allclose(made.ivar[1:], ERROR[1:] ** -2, rtol=1e-9)


def test_specutils_spectra_that_cannot_be_fitted() -> None:
    with pytest.raises(InputError, match="uncertainty is missing"):
        Observation.from_specutils(spectrum_of(uncertainty=None))
    with pytest.raises(InputError, match="has no redshift; give redshift="):
        Observation.from_specutils(spectrum_of(redshift=0.0))
    with pytest.raises(InputError, match="units are none of a spectrum's"):
        Observation.from_specutils(spectrum_of(flux=FLUX * u.count))
    two = spectrum_of(flux=np.stack([FLUX, FLUX]) * u.Jy, uncertainty=StdDevUncertainty(np.stack([ERROR, ERROR])))
    with pytest.raises(InputError, match=r"shape \(2, .*give one of its rows"):
        Observation.from_specutils(two)
