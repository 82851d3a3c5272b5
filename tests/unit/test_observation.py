"""Arrays as users hand them over: masks are honoured, units converted or refused, identifiers exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn
from astropy.utils.masked import Masked

import provabgs
from provabgs import Observation, Photometry, Spectrum
from provabgs.core.errors import InputError, UnusableTargetError
from provabgs.core.identity import exact_id, exact_ids
from provabgs.core.status import Status

WAVE = np.arange(4000.0, 9000.0, 2.0)
ONE = np.ones(WAVE.size)
FLAM = 1e-17 * u.erg / u.s / u.cm**2 / u.AA
BIG = 39627783185368041


def refused(*args: Any, kind: Any = Photometry, **more: Any) -> str:
    with pytest.raises(UnusableTargetError) as found:
        kind(*args, **more)
    assert found.value.status == Status.BAD_DATA
    return str(found.value)


@pytest.mark.parametrize("where", ["flux", "ivar", "both"])
@pytest.mark.parametrize("kind", ["numpy", "column", "astropy"])
def test_masked_pixels_and_bands_have_no_weight(where: str, kind: str) -> None:
    mask = WAVE < 4200

    def masked(values: np.ndarray, hidden: np.ndarray) -> Any:
        if kind == "numpy":
            return np.ma.array(values, mask=hidden)
        return MaskedColumn(values, mask=hidden) if kind == "column" else Masked(values, mask=hidden)

    flux = masked(5 * ONE, mask) if where != "ivar" else 5 * ONE
    ivar = masked(ONE, mask) if where != "flux" else ONE
    spectrum = Spectrum("a", WAVE, flux, ivar)
    assert spectrum.n_valid == 2400
    assert not spectrum.flux[:100].any()
    bands = Photometry(("a-g", "a-r"), masked(np.array([1e20, 3.0]), np.array([True, False])), [1.0, 1.0])
    assert bands.flux.tolist() == [0.0, 3.0]
    assert bands.ivar.tolist() == [0.0, 1.0]


def test_nan_under_a_mask_is_no_error() -> None:
    flux = np.ma.array([np.nan, 3.0], mask=[True, False])
    assert Photometry(("a-g", "a-r"), flux, np.ma.array([np.nan, 1.0], mask=[True, False])).n_valid == 1


def test_units_are_converted() -> None:
    spectrum = Spectrum("a", (WAVE * u.AA).to(u.nm), (5 * ONE * FLAM).to(u.W / u.m**2 / u.um), ONE / FLAM**2)
    np.testing.assert_allclose(spectrum.wave, WAVE)
    np.testing.assert_allclose(spectrum.flux, 5.0)
    np.testing.assert_allclose(spectrum.ivar, 1.0)
    light = Photometry(("a-g",), [0.0726] * u.mJy, [1e6] / u.mJy**2)
    assert light.flux[0] == pytest.approx(0.0726e-3 / 3.631e-6)
    assert light.flux[0] * np.sqrt(light.ivar[0]) == pytest.approx(0.0726 * 1e3)
    assert Photometry(("a-g",), [2.0] * u.nmgy, [4.0] / u.nmgy**2).flux[0] == pytest.approx(2.0)
    masked = Photometry(("a-g", "a-r"), Masked([1.0, 2.0] * u.uJy, mask=[True, False]), [1.0, 1.0] / u.uJy**2)
    assert masked.ivar[0] == 0
    assert masked.flux[1] == pytest.approx(2 / 3.631)


def test_units_that_are_none_of_ours_are_refused() -> None:
    assert "flux is in K" in refused(("a-g",), [1.0] * u.K, [1.0] / u.K**2)
    assert "mag" in refused(("a-g",), [20.0] * u.ABmag, [1.0])
    assert "ivar has none" in refused(("a-g",), [1.0] * u.mJy, [1.0])
    assert "wave is in s" in refused("a", WAVE * u.s, ONE, ONE, kind=Spectrum)
    assert "no numbers" in refused(("a-g",), ["bright"], [1.0])


@pytest.mark.parametrize("wave", [WAVE / 10, WAVE / 1e4, WAVE * 1e12])
def test_plain_wavelengths_in_another_unit_are_noticed(wave: np.ndarray) -> None:
    assert "must be in Angstrom" in refused("a", wave, ONE, ONE, kind=Spectrum)


def test_one_wrong_wavelength_is_noticed() -> None:
    wave = WAVE.copy()
    wave[-1] = 1e30
    assert f"at pixel {WAVE.size - 1}" in refused("a", wave, ONE, ONE, kind=Spectrum)
    wave[-1] = np.nan
    assert "strictly increasing" in refused("a", wave, ONE, ONE, kind=Spectrum)
    assert "masked" in refused("a", np.ma.array(WAVE, mask=WAVE > 8000), ONE, ONE, kind=Spectrum)


def test_impossible_weights_are_refused() -> None:
    assert "2.8e+34" in refused("a", WAVE, ONE, np.where(WAVE > 8000, 2.8e34, 1.0), kind=Spectrum)
    assert "resolution matrix holds 2e+34" in refused("a", WAVE, ONE, ONE, np.full((3, WAVE.size), 2e34), kind=Spectrum)


def test_a_band_given_twice_is_refused_unless_one_is_unmeasured() -> None:
    assert "a-g is given twice" in refused(("a-g", "a-r", "a-g"), [1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    assert Photometry(("a-g", "a-g"), [1.0, 1.0], [1.0, 0.0]).n_valid == 1


@pytest.mark.parametrize(
    "value", [BIG, np.int64(BIG), np.uint64(BIG), str(BIG), f" {BIG} ", np.array(BIG), str(BIG).encode()]
)
def test_identifiers_are_exact(value: Any) -> None:
    assert exact_id(value) == BIG
    assert type(exact_id(value)) is int


@pytest.mark.parametrize(
    "value", [float(BIG), np.float64(3), 3.0, "3.0", "3e16", True, None, np.ma.masked, 2**63, [3], "9" * 40]
)
def test_other_identifiers_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="TARGETID"):
        exact_id(value)


def test_columns_of_identifiers() -> None:
    assert exact_ids(np.array([str(BIG), "-3"])).tolist() == [BIG, -3]
    assert exact_ids(np.array([BIG], dtype=">i8")).tolist() == [BIG]
    for column, why in (
        (np.array([float(BIG)]), "float64, which holds 53 bits"),
        (np.ma.array([1, 2], mask=[True, False]), "blank in 1 rows"),
        (np.array([2**63], dtype=np.uint64), "64 bits"),
        (np.zeros((2, 2), dtype=int), "shape"),
    ):
        with pytest.raises(InputError, match=why):
            exact_ids(column)


def test_observations_take_what_they_say() -> None:
    spectrum = Spectrum("a", WAVE, ONE, ONE)
    assert Observation(0.1, spectrum, targetid=np.int64(BIG)).targetid == BIG  # type: ignore[arg-type]
    with pytest.raises(InputError, match="floating-point"):
        Observation(0.1, (spectrum,), targetid=float(BIG))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="spectra takes"):
        Observation(0.1, (WAVE,))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="photometry takes"):
        Observation(0.1, (spectrum,), photometry=spectrum)  # type: ignore[arg-type]


def test_fit_says_what_it_takes() -> None:
    observation = Observation(0.1, (Spectrum("a", WAVE, ONE, ONE),))
    with pytest.raises(InputError, match="config takes a FitConfig"):
        provabgs.fit(observation, config={})  # type: ignore[call-overload]
    with pytest.raises(InputError, match=r"give Observation\(redshift, spectra="):
        provabgs.fit(observation.spectra[0])  # type: ignore[call-overload]
    with pytest.raises(InputError, match="fit takes an Observation"):
        provabgs.fit(3)  # type: ignore[call-overload]
