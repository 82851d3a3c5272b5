from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
import speclite.filters

from provabgs.core.errors import InputError
from provabgs.observe import filters
from provabgs.surveys import load_system

LEGACY = load_system("legacy")

ALL = [
    *dict.fromkeys((*LEGACY.filters("N"), *LEGACY.filters("S"))),
    *(f"sdss2010-{b}" for b in "ugriz"),
    *("galex-fuv", "galex-nuv"),
]
FINE = np.arange(1000.0, 60000.0, 1.0)


def galaxy(wave: np.ndarray) -> np.ndarray:
    """A red galaxy in shape: power law, 4000 A break, slow waves; smooth over 20 A."""
    step = 1.0 + 0.8 / (1.0 + np.exp(-(wave - 5400.0) / 80.0))
    return 3.0 * (wave / 5000.0) ** -1.2 * step * (1.0 + 0.05 * np.sin(wave / 300.0))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("grid", [FINE, np.arange(1000.0, 60000.0, 0.9), np.arange(1000.0, 60000.0, 20.0)])
def test_agrees_with_speclite(name: str, grid: np.ndarray) -> None:
    flux = galaxy(FINE) * 1e-17 * u.erg / u.s / u.cm**2 / u.AA
    expected = 1e9 * float(speclite.filters.load_filter(name).get_ab_maggies(flux, FINE * u.AA))
    assert filters.band_weights(name, grid) @ galaxy(grid) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ["decam2014-r", "galex-nuv", "wise2010-W1"])
def test_flat_fnu_is_its_own_ab_flux(name: str) -> None:
    # f_nu = 1 nanomaggy = 3.631e-29 erg/s/cm2/Hz, so f_lambda = f_nu c / lambda^2.
    f_lambda = 3.631e-29 * 2.99792458e18 / FINE**2 / 1e-17
    assert filters.band_weights(name, FINE) @ f_lambda == pytest.approx(1.0, rel=1e-5)


def test_integral_is_exact_on_a_coarse_irregular_grid() -> None:
    # The model is by definition linear between its nodes: refining the grid must change nothing at all.
    rng = np.random.default_rng(5)
    coarse = np.sort(rng.uniform(2500.0, 12000.0, 60))
    values = rng.uniform(0.0, 5.0, 60)
    dense = np.unique(np.concatenate([coarse, np.arange(coarse[0], coarse[-1], 0.37)]))
    a = filters.band_weights("decam2014-r", coarse) @ values
    b = filters.band_weights("decam2014-r", dense) @ np.interp(dense, coarse, values)
    assert a == pytest.approx(b, rel=1e-12)


def test_weights_vanish_outside_the_band_and_are_not_negative() -> None:
    w = filters.band_weights("BASS-g", FINE)
    curve = filters.load_filter("BASS-g")
    assert w.shape == FINE.shape
    assert np.all(w >= 0)
    assert np.all(w[(curve.wave[0] - 1 > FINE) | (curve.wave[-1] + 1 < FINE)] == 0)


def test_uncovered_band_names_band_ranges_and_mend() -> None:
    with pytest.raises(InputError, match=r"wise2010-W1 .*3000-9800 A.*leave this band out"):
        filters.band_weights("wise2010-W1", np.arange(3000.0, 9801.0))


def test_negligible_tails_may_be_cut() -> None:
    curve = filters.load_filter("decam2014-r")
    cut = np.arange(3400.0, 10500.0, 2.0)  # the curve's red leak is tabulated to 10990 A
    assert cut[-1] < curve.wave[-1]
    assert filters.missing_fraction("decam2014-r", cut[0], cut[-1]) < filters.MISSING_TOLERANCE
    full = np.arange(3000.0, 12000.0, 2.0)
    short, long = filters.band_weights("decam2014-r", cut), filters.band_weights("decam2014-r", full)
    assert short @ galaxy(cut) == pytest.approx(long @ galaxy(full), rel=3e-4)


@pytest.mark.parametrize("grid", [[3000.0], [5000.0, 4000.0], [[3000.0, 9000.0]], [3000.0, np.nan]])
def test_bad_grid_is_refused(grid: list) -> None:
    with pytest.raises(InputError, match="increasing"):
        filters.band_weights("decam2014-r", grid)


def test_names() -> None:
    assert LEGACY.filters("N")[0] == "BASS-g"
    assert LEGACY.filters(" s ")[2] == "decam2014-z"
    assert [filters.short_name(b) for b in LEGACY.filters("S")] == ["g", "r", "z", "W1", "W2"]
    assert filters.load_filter("galex-NUV").name == "galex-nuv"
    with pytest.raises(InputError, match="PHOTSYS 'U'"):
        LEGACY.filters("U")
    with pytest.raises(InputError, match="galex-fuv, galex-nuv"):
        filters.load_filter("galex-xuv")
    for unknown in ("nonsense-g", "decam2014", ""):
        with pytest.raises(InputError, match="GROUP-BAND"):
            filters.load_filter(unknown)


def test_effective_wavelength_is_the_flat_fnu_mean() -> None:
    curve = filters.load_filter("decam2014-r")
    dense = np.linspace(curve.wave[0], curve.wave[-1], 200001)
    r = np.interp(dense, curve.wave, curve.response)
    assert filters.effective_wavelength("decam2014-r") == pytest.approx(np.sum(r) / np.sum(r / dense), rel=1e-5)
    order = [filters.effective_wavelength(b) for b in ("galex-fuv", "galex-nuv", *LEGACY.filters("S"))]
    assert order == sorted(order)
