from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from desiutil.dust import mwdust_transmission

from provabgs.core.errors import DataFileError, InputError, UnusableTargetError
from provabgs.core.status import Status
from provabgs.desi.catalogs import PhotometryCatalog
from provabgs.desi.fiber_fraction import fiber_fraction, psf_to_fiber
from provabgs.desi.photometry import checked_ebv, find_photsys, target_photometry
from provabgs.desi.targetid import decode_targetid, encode_targetid
from tests.support.desi_files import DEFAULTS, source_id, write_table

NORTH = ("BASS-g", "BASS-r", "MzLS-z", "wise2010-W1", "wise2010-W2")
SOUTH = ("decam2014-g", "decam2014-r", "decam2014-z", "wise2010-W1", "wise2010-W2")
ROW = {**DEFAULTS, "TARGETID": source_id(7)}


def test_targetid_of_a_real_galaxy() -> None:
    # A BGS galaxy whose FIBERMAP says RELEASE 9011, BRICKID 607466, BRICK_OBJID 2657.
    assert int(encode_targetid(9011, 607466, 2657)) == 39633345008634465
    assert decode_targetid(39633345008634465)[:3] == (9011, 607466, 2657)
    assert decode_targetid(616088619186127404).sky  # a real sky fiber
    with pytest.raises(InputError, match="negative"):
        decode_targetid(-5)
    with pytest.raises(InputError, match="OBJID"):
        encode_targetid(9010, 1, 2**22)


@pytest.mark.parametrize(("photsys", "names"), [("N", NORTH), ("S", SOUTH)])
def test_dust_is_taken_out_once_with_the_right_filters(photsys: str, names: tuple[str, ...]) -> None:
    found = target_photometry({**ROW, "PHOTSYS": photsys, "RELEASE": {"N": 9011, "S": 9010}[photsys]}, 0.05)
    assert found.photsys == photsys
    assert found.photometry is not None
    assert found.photometry.bands == names
    for i, band in enumerate(("G", "R", "Z", "W1", "W2")):
        t = mwdust_transmission(0.05, band, photsys)
        assert found.photometry.flux[i] == pytest.approx(ROW[f"FLUX_{band}"] / t, rel=1e-12)
        assert found.photometry.ivar[i] == pytest.approx(ROW[f"FLUX_IVAR_{band}"] * t**2, rel=1e-12)


def test_corrected_photometry_is_left_alone() -> None:
    found = target_photometry(ROW, 0.05, corrected=True)
    assert found.photometry is not None
    np.testing.assert_array_equal(found.photometry.flux, [10.0, 20.0, 30.0, 40.0, 25.0])


def test_impossible_bands_are_unmeasured_and_said_so() -> None:
    row = {**ROW, "FLUX_IVAR_W1": -1.0, "FLUX_R": np.nan, "FLUX_IVAR_Z": np.nan, "FLUX_IVAR_G": 0.0}
    found = target_photometry(row, 0.05)
    assert found.photometry is not None
    assert (found.photometry.ivar > 0).tolist() == [False, False, False, False, True]
    assert sorted(n.split(":")[0] for n in found.notes) == ["FLUX_R", "FLUX_W1", "FLUX_Z"]


def test_no_measured_band_needs_no_photsys() -> None:
    row = {f"FLUX_{b}": 0.0 for b in "GRZ"} | {f"FLUX_IVAR_{b}": 0.0 for b in "GRZ"}
    found = target_photometry(row, 0.05)
    assert (found.photometry, found.photsys) == (None, "")
    assert "no photometry" in found.notes[-1]


def test_bands_chosen_and_bands_without_filter() -> None:
    row = {**ROW, "FLUX_I": 25.0, "FLUX_IVAR_I": 30.0}
    south = target_photometry(row, 0.0, ("g", "I"))
    assert south.photometry is not None
    assert south.photometry.bands == ("decam2014-g", "decam2014-i")
    north = target_photometry({**row, "PHOTSYS": "N", "RELEASE": 9011}, 0.0, ("G", "I"))
    assert north.photometry is not None
    assert north.photometry.bands == ("BASS-g",)
    assert "FLUX_I has no filter at PHOTSYS N" in north.notes[0]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"PHOTSYS": "N", "RELEASE": 9011}, "N"),
        ({"PHOTSYS": " S "}, "S"),
        ({"PHOTSYS": "", "RELEASE": 9011}, "N"),
        ({"PHOTSYS": "", "RELEASE": 9010, "TARGET_RA": 180.0, "TARGET_DEC": 60.0}, "S"),
        ({"RELEASE": 0, "TARGET_RA": 180.0, "TARGET_DEC": 60.0}, "N"),
        ({"RA": 180.0, "DEC": 32.3}, "S"),
        ({"RA": 10.0, "DEC": 33.0}, "S"),  # north of 32.375 deg but south of the Galactic plane
    ],
)
def test_photsys_is_inferred(row: dict, expected: str) -> None:
    assert find_photsys(row).name == expected


def test_unknown_photsys_names_the_mend() -> None:
    with pytest.raises(UnusableTargetError, match="set PHOTSYS to N or S") as caught:
        find_photsys({"PHOTSYS": "U"})
    assert caught.value.status == Status.BAD_DATA


@pytest.mark.parametrize("row", [{}, {"EBV": np.nan}, {"EBV": -0.1}])
def test_unusable_ebv(row: dict) -> None:
    with pytest.raises(UnusableTargetError, match="EBV"):
        checked_ebv(row)
    assert checked_ebv(row, 0.03) == 0.03


def test_fiber_fraction() -> None:
    found = fiber_fraction(ROW, 0.1)
    assert found is not None
    assert found.mean == pytest.approx(0.4)
    assert found.sigma == pytest.approx(0.4 * np.hypot(0.1 / 20.0, 0.1))
    no_r = fiber_fraction({**ROW, "FLUX_IVAR_R": 0.0}, 0.0)
    assert no_r is not None
    assert (no_r.band, no_r.mean) == ("Z", pytest.approx(0.4))
    assert no_r.sigma == pytest.approx(0.4 * 0.2 / 30.0)
    above = fiber_fraction({**ROW, "FIBERFLUX_R": 25.0}, 0.1)
    assert above is not None
    assert above.mean == 1.0
    assert fiber_fraction({**ROW, **{f"FIBERFLUX_{b}": 0.0 for b in "GRZ"}}, 0.1) is None
    assert fiber_fraction({"FLUX_R": 3.0}, 0.1) is None


def test_half_corrected_fiberflux_is_mended() -> None:
    t = mwdust_transmission(0.2, "R", "S")
    half = {**ROW, "FLUX_R": ROW["FLUX_R"] / t}
    found = fiber_fraction(half, 0.1, ebv=0.2, half_corrected=True)
    assert found is not None
    assert found.mean == pytest.approx(0.4)


def test_psf_to_fiber_ignores_rejected_exposures() -> None:
    # As in a real coadd: one exposure of two rejected with factor 0, FIBERMAP's mean halved.
    row = {"MEAN_PSF_TO_FIBER_SPECFLUX": 0.383}
    exposures = {
        "TARGETID": np.array([1, 1, 2]),
        "PSF_TO_FIBER_SPECFLUX": np.array([0.0, 0.766, 0.5]),
        "FIBERSTATUS": np.array([512, 0, 0]),
    }
    assert psf_to_fiber(row, 1, exposures) == pytest.approx(0.766)
    assert psf_to_fiber(row, 3, exposures) == pytest.approx(0.383)
    assert psf_to_fiber({}, 3, exposures) is None
    assert psf_to_fiber({"MEAN_PSF_TO_FIBER_SPECFLUX": 0.0}, 3, {}) is None
    # A rejected exposure with a factor of its own does not count either, a restricted positioner does.
    exposures = {
        "TARGETID": np.array([1, 1, 1]),
        "PSF_TO_FIBER_SPECFLUX": np.array([0.2, 0.7, 0.8]),
        "FIBERSTATUS": np.array([512, 0, 8]),
    }
    assert psf_to_fiber(row, 1, exposures) == pytest.approx(0.75)
    exposures |= {f"IN_COADD_{c}": np.array([False, True, False]) for c in "BRZ"}
    assert psf_to_fiber(row, 1, exposures) == pytest.approx(0.7)


def tractor(n: int = 3) -> dict:
    columns = {
        "RELEASE": np.full(n, 9010),
        "BRICKID": np.full(n, 500_000),
        "OBJID": np.arange(n) + 5,
        "RA": 150.0 + np.arange(n) * 0.01,
        "DEC": np.full(n, 60.0),
    }
    for i, b in enumerate(("G", "R", "Z")):
        columns |= {f"FLUX_{b}": 10.0 * (i + 1) + np.arange(n), f"FLUX_IVAR_{b}": np.full(n, 50.0)}
    return columns


def test_tractor_is_matched_by_encoded_targetid(tmp_path: Path) -> None:
    catalog = PhotometryCatalog.open(write_table(tmp_path / "t.fits", "", tractor()))
    match = catalog.find(source_id(6))
    assert match is not None
    assert (match.how, match.row["FLUX_R"]) == ("RELEASE,BRICKID,OBJID", 21.0)
    assert not catalog.flux_corrected
    assert catalog.find(source_id(99)) is None


def test_position_is_the_last_resort_and_has_a_limit(tmp_path: Path) -> None:
    catalog = PhotometryCatalog.open(write_table(tmp_path / "t.fits", "", tractor()))
    # 0.9 arcsec in right ascension on the sky at dec 60 is 1.8 in coordinate.
    match = catalog.find(123, 150.02 + 1.8 / 3600, 60.0)
    assert match is not None
    assert match.row["OBJID"] == 7
    assert match.how == "position (0.90 arcsec)"
    assert catalog.find(123, 150.02 + 2.2 / 3600, 60.0) is None
    assert catalog.find(123, 150.02 + 2.2 / 3600, 60.0, radius_arcsec=2.0) is not None
    assert catalog.find(123, np.nan, np.nan) is None


def test_neighbour_bricks_duplicates_do_not_count(tmp_path: Path) -> None:
    columns = tractor()
    columns["TARGETID"] = np.array([1, 1, 2])
    columns["BRICK_PRIMARY"] = np.array([False, True, True])
    match = PhotometryCatalog.open(write_table(tmp_path / "s.fits", "SWEEP", columns)).find(1)
    assert match is not None
    assert (match.row["OBJID"], match.how) == (6, "TARGETID")


@pytest.mark.parametrize(
    ("version", "fiber"), [("3.6.1", True), ("3.3.0", True), ("3.2.1", False), ("2.5.2", False), (None, False)]
)
def test_fastspecfit_is_known_by_its_version(tmp_path: Path, version: str | None, fiber: bool) -> None:
    header = {"DEPNAM00": "numpy", "DEPVER00": "2.0"}
    if version:
        header |= {"DEPNAM01": "fastspecfit", "DEPVER01": version}
    columns = tractor() | {"TARGETID": np.array([1, 2, 3])}
    catalog = PhotometryCatalog.open(write_table(tmp_path / "f.fits", "METADATA", columns, header, also="FASTSPEC"))
    assert (catalog.kind, catalog.flux_corrected, catalog.fiberflux_corrected) == ("fastspecfit", True, fiber)


def test_catalogs_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="no table has FLUX"):
        PhotometryCatalog.open(write_table(tmp_path / "a.fits", "CAT", {"RA": np.array([1.0])}))
    with pytest.raises(DataFileError, match="has no METADATA"):
        PhotometryCatalog.open(write_table(tmp_path / "b.fits", "FASTSPEC", {"FLUX_SYNTH_G": np.array([1.0])}))
    with pytest.raises(DataFileError, match="no such file"):
        PhotometryCatalog.open(tmp_path / "c.fits")


def test_compressed_catalog(tmp_path: Path) -> None:
    plain = write_table(tmp_path / "t.fits", "", tractor())
    packed = tmp_path / "t.fits.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    match = PhotometryCatalog.open(packed).find(source_id(6))
    assert match is not None
    assert match.row["FLUX_R"] == 21.0
