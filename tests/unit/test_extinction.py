from __future__ import annotations

import numpy as np
import pytest
from desiutil.dust import dust_transmission, mwdust_transmission

from provabgs.core.errors import InputError
from provabgs.observe import extinction
from provabgs.observe.filters import short_name
from provabgs.surveys import load_system

LEGACY = load_system("legacy")

WAVE = np.array([3600.0, 4500.0, 6500.0, 9800.0])


def test_spectrum_is_desiutils() -> None:
    np.testing.assert_allclose(extinction.spectrum_transmission(WAVE, 0.08), dust_transmission(WAVE, 0.08), rtol=1e-14)


# A(band)/E(B-V)_SFD at R_V = 3.1, Schlafly & Finkbeiner (2011, ApJ 737, 103) table 6, SDSS: Fitzpatrick (1999) with
# SFD's E(B-V) rescaled by 0.86, computed for a 7000 K star on their own filter curves.
SCHLAFLY_2011 = {"u": 4.239, "g": 3.303, "r": 2.285, "i": 1.698, "z": 1.263}


@pytest.mark.parametrize("band", SCHLAFLY_2011)
def test_sdss_bands_match_the_published_table(band: str) -> None:
    ratio = -2.5 * np.log10(extinction.band_transmission(f"sdss2010-{band}", 0.01)) / 0.01
    assert ratio == pytest.approx(SCHLAFLY_2011[band], rel=0.02)


def test_not_rescaling_would_be_noticed() -> None:
    # Without the 0.86, A(r) would be 16 % larger: far outside the 2 % above.
    ratio = -2.5 * np.log10(extinction.band_transmission("sdss2010-r", 0.01)) / 0.01
    assert abs(ratio / 0.86 / SCHLAFLY_2011["r"] - 1) > 0.1


@pytest.mark.parametrize("photsys", ["N", "S"])
def test_legacy_bands_are_desiutils_by_photsys(photsys: str) -> None:
    for name in LEGACY.filters(photsys):
        expected = mwdust_transmission(0.1, short_name(name).upper(), photsys)
        assert LEGACY.transmission(name, 0.1, photsys) == pytest.approx(expected, rel=1e-14)
    assert LEGACY.transmission("BASS-g", 0.1) != LEGACY.transmission("decam2014-g", 0.1)


@pytest.mark.parametrize("name", [f for v in "NS" for f in LEGACY.filters(v, "grz")])
def test_tabulated_coefficients_are_near_the_filter_curves(name: str) -> None:
    table, curve = (np.log(t) for t in (LEGACY.transmission(name, 0.05), extinction.band_transmission(name, 0.05)))
    assert table == pytest.approx(curve, rel=0.01)
    assert table != curve


def test_galex_feels_the_2175_bump() -> None:
    nuv = -2.5 * np.log10(extinction.band_transmission("galex-nuv", 0.05)) / 0.05
    fuv = -2.5 * np.log10(extinction.band_transmission("galex-fuv", 0.05)) / 0.05
    # Fitzpatrick (1999) at R_V = 3.1 has A/E(B-V) = 8.2-8.3 in both bands; with the 0.86 that is 7.1.
    assert nuv == pytest.approx(7.1, rel=0.05)
    assert fuv == pytest.approx(7.1, rel=0.05)


def test_dereddening_keeps_signal_to_noise_and_inverts() -> None:
    flux, ivar = np.full(4, 2.0), np.full(4, 9.0)
    f, w = extinction.deredden_spectrum(WAVE, flux, ivar, 0.1)
    np.testing.assert_allclose(f * np.sqrt(w), flux * np.sqrt(ivar), rtol=1e-14)
    np.testing.assert_allclose(f * dust_transmission(WAVE, 0.1), flux, rtol=1e-14)
    assert np.all(np.diff(f) < 0)
    phot = LEGACY.photometry(LEGACY.filters("S"), np.ones(5), np.ones(5), 0.1)
    np.testing.assert_allclose(phot.flux * np.sqrt(phot.ivar), 1.0, rtol=1e-14)
    assert np.all(np.diff(phot.flux) < 0)
    same, _ = extinction.deredden_spectrum(WAVE, flux, ivar, 0.0)
    np.testing.assert_array_equal(same, flux)


@pytest.mark.parametrize("ebv", [np.nan, -0.01, np.inf])
def test_unusable_ebv_is_named(ebv: float) -> None:
    with pytest.raises(InputError, match="EBV"):
        extinction.spectrum_transmission(WAVE, ebv)
    with pytest.raises(InputError, match="EBV"):
        extinction.band_transmission("decam2014-r", ebv)


def test_filter_of_the_other_system_is_refused() -> None:
    with pytest.raises(InputError, match="belongs to PHOTSYS N"):
        LEGACY.transmission("BASS-r", 0.1, "S")
