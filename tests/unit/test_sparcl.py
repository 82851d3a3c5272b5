"""Records of SPARCL: DESI, SDSS and BOSS spectra as sparclclient 1.3 hands them over.

`RECORDED` has the fields, types and units of a retrieval (sparclclient's Results and documentation); numbers are made
up. Where sparclclient is installed, its own classes hold the same records.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from provabgs import Observation
from provabgs.core.errors import InputError, UnusableTargetError
from provabgs.core.status import Status
from provabgs.observe.extinction import spectrum_transmission
from provabgs.observe.sparcl import PIXEL_DEX, from_sparcl, read_sparcl

N = 600
DESI_WAVE = 3600.0 + 0.8 * np.arange(N)
SDSS_WAVE = 10 ** (3.58 + PIXEL_DEX * np.arange(N))
FLUX = 3.0 + np.sin(np.arange(N) / 30.0)
TARGETID = 39627652591521181
UNITS = {
    release: {"flux": "1e-17 erg cm-2 s-1 AA-1", "wavelength": "AA", "wave_sigma": sigma, "ra": "deg", "spectype": None}
    for release, sigma in (("DESI-DR1", "AA"), ("SDSS-DR17", "pixel"), ("BOSS-DR17", "pixel"))
}


def record(release: str = "DESI-DR1", **changes: Any) -> dict[str, Any]:
    """One record; a change to None leaves the field out."""
    desi = release.startswith("DESI")
    fields = {
        "sparcl_id": "00001658-460c-4da1-987d-e493d8c9b89b", "data_release": release, "_dr": release,
        "specid": TARGETID if desi else 1506516519029336064, "redshift": 0.21, "redshift_err": 2e-5,
        "redshift_warning": 0, "spectype": "GALAXY", "ra": 246.7, "dec": 35.98,
        "wavelength": DESI_WAVE if desi else SDSS_WAVE, "flux": FLUX.copy(), "ivar": np.full(N, 4.0),
        "mask": np.zeros(N, np.int64), "wave_sigma": np.full(N, 0.7 if desi else 1.1),
        **({"targetid": TARGETID, "survey": "main", "program": "bright"} if desi else {"plate": 1337}),
    }  # fmt: skip
    return {k: v for k, v in (fields | changes).items() if v is not None}


class Retrieved:
    """As sparcl.Results.Retrieved: a header and records."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self.hdr = {"status": {"success": True, "info": [], "warnings": []}, "UNITS": UNITS}
        self.recs = records

    @property
    def records(self) -> list[dict[str, Any]]:
        return self.recs


RECORDED = [record(), record("SDSS-DR17"), record("BOSS-DR17", specid=-6444647351317147648)]


def test_a_record_of_desi() -> None:
    seen = Observation.from_sparcl(record(), ebv=0.1)
    assert (seen.redshift, seen.targetid, seen.ra, seen.dec, seen.zerr) == (0.21, TARGETID, 246.7, 35.98, 2e-5)
    (spectrum,) = seen.spectra
    t = spectrum_transmission(DESI_WAVE, 0.1)
    np.testing.assert_allclose(spectrum.flux, FLUX / t, rtol=1e-12)
    np.testing.assert_allclose(spectrum.ivar, 4.0 * t**2, rtol=1e-12)
    np.testing.assert_allclose(spectrum.sigma_aa, 0.7)
    about = {"SURVEY": "main", "PROGRAM": "bright", "DATA_RELEASE": "DESI-DR1", "SPECID": str(TARGETID), "EBV": 0.1}
    assert about.items() <= seen.meta.items()


def test_widths_of_sdss_are_in_pixels() -> None:
    (spectrum,) = from_sparcl(record("SDSS-DR17")).spectra
    np.testing.assert_allclose(spectrum.sigma_aa, 1.1 * SDSS_WAVE * np.log(10) * PIXEL_DEX)
    (other,) = from_sparcl(record("SDSS-DR17"), units={"wave_sigma": "AA"}).spectra
    np.testing.assert_allclose(other.sigma_aa, 1.1)
    with pytest.raises(InputError, match="wave_sigma of LAMOST-DR9 is in None"):
        from_sparcl(record("LAMOST-DR9"))


def test_a_retrieval_of_three_surveys() -> None:
    found = read_sparcl(Retrieved(RECORDED), ebv=0.02)
    assert [t.row for t in found] == [0, 1, 2]
    assert [t.targetid for t in found] == [TARGETID, 1506516519029336064, -1]  # BOSS's number has 64 bits, no sign
    assert all(t.observation is not None and not t.message for t in found)
    assert found[2].observation is not None
    assert found[2].observation.meta["SPECID"] == "-6444647351317147648"
    assert found[0].input == f"sparcl {RECORDED[0]['sparcl_id']}"
    assert "no E(B-V) known" in read_sparcl(RECORDED)[0].message
    dust = {RECORDED[0]["sparcl_id"]: 0.3}
    assert read_sparcl([record()], ebv=dust)[0].observation.meta["EBV"] == 0.3  # type: ignore[union-attr]


def test_masked_and_impossible_pixels_are_not_used() -> None:
    mask = np.zeros(N, np.int64)
    mask[3] = 16777216
    flux, ivar, sigma = FLUX.copy(), np.full(N, 4.0), np.full(N, 0.7)
    flux[5], ivar[6], ivar[7], sigma[8] = np.nan, np.nan, -1.0, 0.0
    (spectrum,) = from_sparcl(record(mask=mask, flux=flux, ivar=ivar, wave_sigma=sigma)).spectra
    assert np.flatnonzero(spectrum.ivar == 0).tolist() == [3, 5, 6, 7, 8]


def test_units_of_the_header_are_converted() -> None:
    units = {"flux": "1e-16 erg cm-2 s-1 AA-1", "wavelength": "nm"}
    (spectrum,) = from_sparcl(record(wavelength=DESI_WAVE / 10), units=units).spectra
    np.testing.assert_allclose(spectrum.flux, 10 * FLUX)
    np.testing.assert_allclose(spectrum.ivar, 0.04)
    np.testing.assert_allclose(spectrum.wave, DESI_WAVE)
    with pytest.raises(InputError, match="flux is in 'Jy', which cannot be converted"):
        from_sparcl(record(), units={"flux": "Jy"})


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"redshift": np.nan}, Status.NO_REDSHIFT, "redshift is nan"),
        ({"redshift": None}, Status.NO_REDSHIFT, "the record has no redshift"),
        ({"redshift_warning": 4}, Status.REDSHIFT_WARNING, "redshift_warning is 4"),
        ({"spectype": "QSO"}, Status.NOT_A_GALAXY, "spectype is QSO"),
        ({"ivar": np.full(N - 1, 4.0)}, Status.BAD_DATA, f"wavelength has {N} values, ivar {N - 1}"),
        ({"mask": np.zeros(3)}, Status.BAD_DATA, "mask 3"),
        ({"wave_sigma": np.full(2, 1.0)}, Status.BAD_DATA, "wave_sigma 2"),
        ({"flux": np.ones((2, N))}, Status.BAD_DATA, "flux has shape"),
        ({"flux": ["x"] * N}, Status.BAD_DATA, "flux holds what is no number"),
        ({"wavelength": DESI_WAVE[::-1]}, Status.BAD_DATA, "strictly increasing"),
        ({"ivar": np.zeros(N)}, Status.NO_VALID_PIXELS, "no pixel or band"),
        ({"ivar": None}, Status.INPUT_ERROR, r"the record has no ivar; retrieve it with include=[wavelength, flux"),
        ({"targetid": 3.9e16}, Status.INPUT_ERROR, "targetid 3.9e+16 is a floating-point number"),
    ],
)
def test_what_is_wrong_with_a_record(changes: dict[str, Any], status: Status, message: str) -> None:
    bad, good = read_sparcl([record(**changes), record()], ebv=0.0)
    assert good.observation is not None
    assert bad.observation is None
    assert bad.status is status
    assert message in bad.message
    assert (bad.ra, bad.dec) == (246.7, 35.98)


def test_records_that_were_not_found_and_what_is_no_record() -> None:
    dummy = {"sparcl_id": None, "specid": None, "_dr": "SDSS-DR17"}  # of Results.reorder
    assert read_sparcl([dummy])[0].status is Status.BAD_DATA
    with pytest.raises(UnusableTargetError, match="did not find the record"):
        from_sparcl(dummy)
    with pytest.raises(InputError, match="holds no records"):
        read_sparcl(record())
    with pytest.raises(InputError, match="is a dictionary of fields"):
        from_sparcl([1, 2])  # type: ignore[arg-type]
    assert from_sparcl(record(redshift_warning=4, spectype="QSO"), redshift=0.5).redshift == 0.5
    assert from_sparcl(record(redshift_warning=4), allow_warning=True).redshift == 0.21


def test_records_of_the_client_itself() -> None:
    results = pytest.importorskip("sparcl.Results", reason="sparclclient (the extra 'sparcl') is not installed")

    class Client:
        class fields:
            @staticmethod
            def _science_name(name: str, _release: str) -> str:
                return name

    retrieved = results.Retrieved([Retrieved([]).hdr, *(dict(r) for r in RECORDED)], client=Client())
    assert retrieved.unit_for("wave_sigma") == {"DESI-DR1": "AA", "SDSS-DR17": "pixel", "BOSS-DR17": "pixel"}
    assert [t.message for t in read_sparcl(retrieved, ebv=0.0)] == ["", "", ""]
    assert Observation.from_sparcl(retrieved.records[0], ebv=0.0).targetid == TARGETID
