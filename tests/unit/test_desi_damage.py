"""Damaged and odd DESI files: one line with file, HDU, column or card; or a note, where only a column is lost."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from provabgs.core.errors import DataFileError, InputError
from provabgs.core.status import Status
from provabgs.desi import ReadOptions, read_observations
from provabgs.desi.catalogs import PhotometryCatalog
from provabgs.desi.coadd import FIBERMAP_COLUMNS, CoaddFile
from provabgs.desi.fitsfile import open_fits
from provabgs.desi.redrock import read_redrock
from provabgs.desi.targetid import encode_targetid
from provabgs.observe.target import TargetResult
from tests.support.desi_files import (
    DEFAULTS,
    Target,
    coadd_hdus,
    redrock_hdus,
    source_id,
    write,
    write_pair,
    write_table,
)

A, B, C = (Target(source_id(k), z=0.1 * k) for k in (1, 2, 3))


def refusal(hdus: fits.HDUList | bytes, folder: Path) -> str:
    """The line that a coadd is refused with."""
    path = folder / "coadd-bad.fits"
    if isinstance(hdus, bytes):
        path.write_bytes(hdus)
    else:
        write(hdus, path)
    write(redrock_hdus([A]), folder / "redrock-bad.fits")
    with pytest.raises(DataFileError) as found:
        read_observations(path)
    assert "\n" not in str(found.value)
    assert "coadd-bad.fits" in str(found.value)
    return str(found.value)


def with_card(whole: bytes, extname: bytes, old: bytes, new: bytes) -> bytes:
    """A file with the card `old` of the HDU called `extname` replaced by `new`."""
    start = whole.rindex(b"XTENSION", 0, whole.index(b"EXTNAME = '" + extname.ljust(8)))
    at = whole.index(old.ljust(8) + b"=", start)
    return whole[:at] + new.ljust(80) + whole[at + 80 :]


@pytest.mark.parametrize(
    ("old", "new", "after", "why"),
    [
        (b"TFIELDS", b"TFIELDS =        1099511627776", b"", "TFIELDS = 1099511627776 is no integer from 0 to 999"),
        (b"TFIELDS", b"TFIELDS =               1.5E30", b"", "TFIELDS = 1.5E30"),
        (b"TFORM3", b"TFORM3  = '99999999999D'", b"", "TFORM3 = '99999999999D' is no column format"),
        (b"TFORM3", b"TFORM3  = '9999D'", b"", "columns take"),
        (b"TTYPE3", b"TTYPE3  = 'TARGETID'", b"", "column TARGETID is there twice"),
        (b"NAXIS1", b"NAXIS1  =       99999999999999", b"B_FLUX", "NAXIS1 = 99999999999999 is no integer"),
        (b"NAXIS2", b"NAXIS2  =            999999999", b"B_FLUX", "truncated"),
        (b"BITPIX", b"BITPIX  =                   33", b"B_FLUX", "BITPIX = 33"),
        (b"BUNIT", b"BUNIT   = '10**99999999 erg'", b"B_FLUX", "B_FLUX is in '10**99999999 erg', which is no unit"),
        (b"BUNIT", b"BUNIT   =                    0", b"B_FLUX", "B_FLUX is in 0, which is no unit"),
        (b"BUNIT", b"BUNIT   = '0 Angstrom'", b"B_WAVELENGTH", "B_WAVELENGTH is in '0 Angstrom'"),
        (b"BUNIT", b"BUNIT   = 'nm'", b"R_WAVELENGTH", "R_WAVELENGTH are from 60000 to 60392 A (BUNIT nm)"),
        (b"BUNIT", b"BUNIT   = '10**-17 erg/(s cm2 nm)'", b"B_FLUX", "not the inverse square of the flux's unit"),
        (b"EXTNAME", b"EXTNAME = 'R_FLUX'", b"B_IVAR", "HDUs B_IVAR are missing"),
        (b"EXTNAME", b"EXTNAME \xd7 'B_IVAR'", b"B_IVAR", "bytes that are no text"),
    ],
)  # fmt: skip
def test_damaged_headers_name_hdu_and_card(tmp_path: Path, old: bytes, new: bytes, after: bytes, why: str) -> None:
    whole = write(coadd_hdus([A]), tmp_path / "whole.fits").read_bytes()
    assert why in refusal(with_card(whole, after or b"FIBERMAP", old, new), tmp_path)


def test_rescaled_floating_point_data_are_refused(tmp_path: Path) -> None:
    path = write_pair(tmp_path, [A])
    data = path.read_bytes()
    at = data.index(b"BUNIT", data.index(b"EXTNAME = 'B_FLUX"))
    path.write_bytes(data[:at] + b"BSCALE  =           2147483648".ljust(80) + data[at + 80 :])
    result = read_observations(path)[0]
    assert result.status == Status.INPUT_ERROR
    assert "HDU 3 (B_FLUX): cards BSCALE = 2.14748e+09" in result.message


def test_a_lost_or_an_inserted_block_is_noticed(tmp_path: Path) -> None:
    data = write(coadd_hdus([A]), tmp_path / "whole.fits").read_bytes()
    flux = data.index(b"XTENSION", data.index(b"EXTNAME = 'B_WAVELENGTH"))
    assert "no HDU" in refusal(data[: flux - 2880] + data[flux:], tmp_path)
    assert "no HDU" in refusal(data[:flux] + bytes(2880) + data[flux:], tmp_path)
    assert "no HDU" in refusal(data + b"@\xb8" * 1440, tmp_path)
    assert "no HDU" in refusal(data + bytes(1 << 20), tmp_path)


def test_one_flipped_bit_is_noticed_where_there_are_checksums(tmp_path: Path) -> None:
    write(redrock_hdus([A]), tmp_path / "redrock-x.fits")
    path = tmp_path / "coadd-x.fits"
    coadd_hdus([A]).writeto(path, checksum=True)
    assert read_observations(path)[0].observation is not None
    whole = path.read_bytes()
    with open_fits(path) as file:
        places = {h.name: (h.start, h.data, h.stop) for h in file.hdus}
    rng = np.random.default_rng(1)
    for name, (start, data, stop) in places.items():
        if not name:
            continue
        for low, high in ((start, data), (data, stop)):
            damaged = bytearray(whole)
            at = int(rng.integers(low, high))
            damaged[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            try:
                result = read_observations(path)[0]
            except DataFileError:
                continue
            assert result.status == Status.INPUT_ERROR, f"{name} byte {at}"
            assert "CHECKSUM" in result.message
    path.write_bytes(whole)
    with open_fits(path) as file:
        at = file["B_FLUX"].data
    path.write_bytes(whole[:at] + b"\x41" + whole[at + 1 :])
    assert read_observations(path)[0].status == Status.INPUT_ERROR
    assert read_observations(path, options=ReadOptions(verify=False))[0].observation is not None


@pytest.mark.parametrize("name", ["Z_WAVELENGTH", "R_MASK", "B_RESOLUTION"])
def test_a_damaged_name_does_not_pass_for_an_hdu_that_is_not_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / "good.fits"
    coadd_hdus([A]).writeto(path, checksum=True)
    card = b"EXTNAME = '" + name.encode().ljust(8) + b"'"
    for other in (b"IMAGE   ", b"Y_FLUX  ", b"NOTHING "):
        damaged = path.read_bytes().replace(card, (b"EXTNAME = '" + other + b"'").ljust(len(card)))
        assert f"({other.decode().strip()})" in (said := refusal(damaged, tmp_path))
        assert "CHECKSUM" in said


def test_impossible_numbers_without_checksums(tmp_path: Path) -> None:
    hdus = coadd_hdus([A, B])
    hdus["B_IVAR"].data[0, 3] = 2.8e34
    hdus["B_FLUX"].data[0, 4] = -1e30
    hdus["R_RESOLUTION"].data[1, 2, 5] = 2e34
    write(redrock_hdus([A, B]), tmp_path / "redrock-x.fits")
    first, second = read_observations(write(hdus, tmp_path / "coadd-x.fits"))
    assert first.observation is not None
    assert np.flatnonzero(first.observation.spectra[0].ivar == 0).tolist() == [3, 4]
    assert "2 pixels with NaN or impossible flux or ivar" in first.message
    assert second.status == Status.INPUT_ERROR
    assert "row 1: HDU R_RESOLUTION holds 2e+34" in second.message
    hdus["B_WAVELENGTH"].data[7] = 1e30
    assert "B_WAVELENGTH are from 4000 to 1e+30" in refusal(hdus, tmp_path)
    hdus["B_WAVELENGTH"].data[7] = 4001.0
    assert "go from 4004.8 to 4001 A at pixel 7" in refusal(hdus, tmp_path)


ODD: dict[str, Any] = {
    "vector": ("3D", np.ones((3, 3))),
    "nothing": ("0D", None),
    "text": ("5A", np.array(["hello"] * 3)),
    "complex": ("M", np.full(3, 1j)),
    "ragged": ("PD()", np.array([np.ones(k) for k in (1, 2, 3)], dtype=object)),
    "whole": ("K", np.array([-(2**62), 0, 2**62])),
    "logical": ("L", np.array([True, False, True])),
    "not a number": ("D", np.full(3, np.nan)),
    "bytes": ("B", np.array([255, 0, 7], dtype=np.uint8)),
}


def with_odd(table: fits.BinTableHDU, name: str, odd: str) -> fits.BinTableHDU:
    """A table with a column replaced by an odd one of the same name."""
    fmt, values = ODD[odd]
    columns = [c for c in table.columns if c.name != name]
    return fits.BinTableHDU.from_columns([*columns, fits.Column(name, fmt, array=values)], name=table.name)


def check(results: list[TargetResult]) -> None:
    for result in results:
        assert (result.observation is None) == (result.status is not None)
        assert result.observation is not None or result.message


def shared(names: list[str], odd: str) -> list[str]:
    """A third of the columns, another third for each oddity."""
    return names[list(ODD).index(odd) % 3 :: 3]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_column_of_fibermap_costs_itself(tmp_path: Path, odd: str) -> None:
    hdus = coadd_hdus([A, B, C], cameras="B")
    table = hdus["FIBERMAP"]
    write(redrock_hdus([A, B, C]), tmp_path / "redrock-x.fits")
    for name in shared([n for n in FIBERMAP_COLUMNS if n in DEFAULTS], odd):
        hdus["FIBERMAP"] = with_odd(table, name, odd)
        results = read_observations(write(hdus, tmp_path / "coadd-x.fits"))
        assert len(results) == 3, name
        check(results)
        if odd in ("vector", "complex", "ragged"):
            assert all(f"FIBERMAP column {name} has" in r.message for r in results if r.observation), name


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_column_of_redrock(tmp_path: Path, odd: str) -> None:
    coadd = write(coadd_hdus([A, B, C], cameras="B"), tmp_path / "coadd-x.fits")
    table = redrock_hdus([A, B, C])["REDSHIFTS"]
    for name in ("TARGETID", "Z", "ZERR", "ZWARN", "SPECTYPE", "DELTACHI2"):
        changed = fits.HDUList([fits.PrimaryHDU(), with_odd(table, name, odd)])
        path = write(changed, tmp_path / "redrock-x.fits")
        try:
            results = read_observations(coadd)
        except DataFileError as error:
            assert name in ("TARGETID", "Z"), error  # noqa: PT017 - other columns may not raise
            assert f"column {name} " in str(error)  # noqa: PT017
            continue
        assert len(results) == 3, name
        check(results)
        if odd in ("vector", "complex", "ragged"):
            assert f"REDSHIFTS column {name}" in read_redrock(path).notes[0]


def catalog_columns() -> dict[str, Any]:
    light = {k: np.full(3, v) for k, v in DEFAULTS.items() if k.startswith(("FLUX_", "FIBERFLUX_"))}
    return {
        "RELEASE": np.full(3, 9010),
        "BRICKID": np.full(3, 500_000),
        "OBJID": np.array([1, 2, 3]),
        "RA": np.full(3, 150.0),
        "DEC": np.full(3, 2.0),
        "EBV": np.full(3, 0.05),
        "TYPE": np.array(["SER"] * 3),
        "BRICK_PRIMARY": np.array([True] * 3),
        **light,
    }


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_column_of_a_catalog(tmp_path: Path, odd: str) -> None:
    coadd = write_pair(tmp_path, [A, B, C], cameras="B")
    path = write_table(tmp_path / "tractor.fits", "CATALOG", catalog_columns())
    with fits.open(path) as hdus:
        for name in shared(list(catalog_columns()), odd):
            changed = fits.HDUList([hdus[0].copy(), with_odd(hdus[1], name, odd)])
            write(changed, tmp_path / "odd.fits")
            results = read_observations(coadd, photometry=tmp_path / "odd.fits")
            assert len(results) == 3, name
            check(results)


def test_identifiers_in_tables_are_integers_or_refused(tmp_path: Path) -> None:
    coadd = write_pair(tmp_path, [A, B, C])
    floats = redrock_hdus([A, B, C])
    columns = {c.name: floats["REDSHIFTS"].data[c.name] for c in floats["REDSHIFTS"].columns}
    columns["TARGETID"] = columns["TARGETID"].astype(float)
    path = write_table(tmp_path / "floats.fits", "REDSHIFTS", columns)
    with pytest.raises(DataFileError, match=r"floats.fits: HDU REDSHIFTS: column TARGETID is stored as float64"):
        read_observations(coadd, path)
    columns["TARGETID"] = np.array([str(t.targetid) for t in (A, B, C)])
    assert set(read_redrock(write_table(tmp_path / "text.fits", "REDSHIFTS", columns)).entries) == {
        A.targetid, B.targetid, C.targetid}  # fmt: skip
    light = {**catalog_columns(), "TARGETID": np.array([float(t.targetid) for t in (A, B, C)])}
    with pytest.raises(DataFileError, match="column TARGETID is stored as float64"):
        read_observations(coadd, photometry=write_table(tmp_path / "light.fits", "CATALOG", light))
    hdus = coadd_hdus([A])
    hdus["FIBERMAP"] = with_odd(hdus["FIBERMAP"], "TARGETID", "not a number")
    assert "FIBERMAP column TARGETID is stored as float64" in refusal(hdus, tmp_path)
    for wrong in (float(A.targetid), [float(A.targetid)], ["x"]):
        with pytest.raises(InputError, match="TARGETID"):
            read_observations(coadd, targetids=wrong if isinstance(wrong, list) else [wrong])  # type: ignore[list-item]
    one = read_observations(coadd, targetids=[np.int64(B.targetid)])[0]
    assert one.observation is not None
    assert one.observation.redshift == 0.2
    with pytest.raises(InputError, match="redshift 'far' is no number"):
        read_observations(coadd, redshifts={A.targetid: "far"})  # type: ignore[dict-item]


def test_one_source_that_cannot_be_one_costs_no_other(tmp_path: Path) -> None:
    columns = {**catalog_columns(), "OBJID": np.array([1, -1, 3]), "RA": np.array([150.0, 10.0, 150.0])}
    catalog = PhotometryCatalog.open(write_table(tmp_path / "sweep.fits", "SWEEP", columns))
    for target in (A, C):
        match = catalog.find(target.targetid)
        assert match is not None
        assert match.how == "RELEASE,BRICKID,OBJID"
    assert catalog.find(B.targetid) is None


def test_a_catalog_row_far_from_its_target_is_not_its_own(tmp_path: Path) -> None:
    columns = {**catalog_columns(), "RA": np.array([150.0, 151.3, 150.0])}
    catalog = PhotometryCatalog.open(write_table(tmp_path / "sweep.fits", "SWEEP", columns))
    match = catalog.find(B.targetid, 151.3, 2.0)
    assert match is not None
    assert match.row["RA"] == 151.3
    far = catalog.find(B.targetid, 120.0, 2.0)
    assert far is not None
    assert not far.row
    assert "arcsec away, not used" in far.note
    twice = {k: np.concatenate([v, v[:1]]) for k, v in columns.items()}
    twice["RA"][3], twice["FLUX_R"][3] = 151.0, 99.0
    match = PhotometryCatalog.open(write_table(tmp_path / "twice.fits", "SWEEP", twice)).find(A.targetid, 151.0, 2.0)
    assert match is not None
    assert match.row["FLUX_R"] == 99.0
    assert "2 rows of twice.fits" in match.note


def test_one_targetid_for_two_objects_is_refused(tmp_path: Path) -> None:
    star = Target(A.targetid, z=0.0001, spectype="STAR")
    galaxy = Target(A.targetid, z=0.13, fibermap={"TARGET_RA": 151.3})
    first, other, third = read_observations(write_pair(tmp_path, [star, B, galaxy]))
    assert other.observation is not None
    for result in (first, third):
        assert result.status == Status.INPUT_ERROR
        assert "stands for objects 4.68e+03 arcsec apart (rows 0, 2)" in result.message


def test_disagreeing_redshifts_of_one_target_are_said(tmp_path: Path) -> None:
    coadd = write(coadd_hdus([A]), tmp_path / "coadd-x.fits")
    redrock = write(redrock_hdus([A], [{"Z": 0.13, "DELTACHI2": 5.0}]), tmp_path / "r.fits")
    assert "best of 2 redshift rows, which differ by 0.027" in read_observations(coadd, redrock)[0].message
    redrock = write(redrock_hdus([A], [{"Z": 0.1001, "DELTACHI2": 5.0}]), tmp_path / "r.fits")
    assert read_observations(coadd, redrock)[0].message == "best of 2 redshift rows"


@pytest.mark.parametrize(
    ("status", "cameras", "exposures"),
    [
        ([1 << 24] * 2, "br", 2),
        ([1 << 24, 0], "brz", 2),
        ([1 << 10], "brz", 1),
        ([1032, 0], "brz", 2),
        ([2], "brz", 1),
        ([1 << 22 | 1 << 23 | 1 << 24], "", 0),
        *[([1 << bit], "", 0) for bit in (2, 8, 9, 16, 17, 18, 19, 20, 21)],
    ],
)
def test_exposures_are_taken_as_desispec_takes_them(
    tmp_path: Path, status: list[int], cameras: str, exposures: int
) -> None:
    rows = [Target(A.targetid, z=0.1, level=2.0 + k, fibermap={"FIBERSTATUS": s}) for k, s in enumerate(status)]
    write(redrock_hdus(rows[:1]), tmp_path / "redrock-x.fits")
    drop = ["COADD_NUMEXP", "COADD_FIBERSTATUS"]
    result = read_observations(write(coadd_hdus(rows, drop_columns=drop), tmp_path / "spectra-x.fits"))[0]
    if not cameras:
        assert result.status == Status.UNOBSERVED
        return
    assert result.observation is not None
    assert "".join(s.camera for s in result.observation.spectra) == cameras
    assert result.observation.meta["N_EXPOSURE_ROWS"] == exposures


def test_what_is_assumed_is_said(tmp_path: Path) -> None:
    target = Target(
        A.targetid,
        z=0.1,
        fibermap={"EBV": 0.0, "RELEASE": 11010, "FIBERFLUX_R": 0.0, "FIBERFLUX_G": 0.0, "FIBERFLUX_Z": 0.0},
    )
    hdus = coadd_hdus([target])
    del hdus["B_RESOLUTION"]
    write(redrock_hdus([target]), tmp_path / "redrock-x.fits")
    said = read_observations(write(hdus, tmp_path / "coadd-x.fits"))[0].message
    for note in (
        "EBV is 0: nothing is corrected for Galactic dust",
        "RELEASE 11010 is not known, filters by PHOTSYS S",
        "no RESOLUTION of b: the instrument's blur is left out",
        "the fiber fraction is unknown",
    ):
        assert note in said
    del hdus["FIBERMAP"]
    bare = coadd_hdus([target], drop_columns=["PHOTSYS", "RELEASE"])
    said = read_observations(write(bare, tmp_path / "coadd-x.fits"))[0].message
    assert "neither PHOTSYS nor RELEASE is given, filters of S by the position" in said


def test_photsys_and_release_must_agree(tmp_path: Path) -> None:
    contradiction = Target(A.targetid, z=0.1, fibermap={"PHOTSYS": "N"})
    first, second = read_observations(write_pair(tmp_path, [contradiction, B]))
    assert first.status == Status.BAD_DATA
    assert "PHOTSYS is N and RELEASE 9010, which is S's" in first.message
    assert second.observation is not None


@pytest.mark.parametrize(
    ("release", "filters"), [(9012, "decam2014-r"), (7000, "decam2014-r"), (5000, "decam2014-r"), (11010, "BASS-r")]
)
def test_filters_follow_the_photometry(tmp_path: Path, release: int, filters: str) -> None:
    targetid = int(encode_targetid(9011, 500_000, 1))
    north = Target(targetid, z=0.1, fibermap={"PHOTSYS": "N", "RELEASE": 9011})
    coadd = write_pair(tmp_path, [north])
    columns = {k: v[:1] for k, v in catalog_columns().items()} | {"RELEASE": np.array([release])}
    result = read_observations(coadd, photometry=write_table(tmp_path / "sweep.fits", "SWEEP", columns))[0]
    assert result.observation is not None
    assert result.observation.photometry is not None
    assert filters in result.observation.photometry.bands
    if release == 11010:
        assert "RELEASE 11010 is not known, filters by PHOTSYS N" in result.message
    else:
        assert f"catalog's photometry is S's (RELEASE {release}), FIBERMAP says PHOTSYS N" in result.message


def test_pipes_devices_and_folders_are_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "coadd-pipe.fits"
    os.mkfifo(pipe)
    (tmp_path / "gone.fits").symlink_to(tmp_path / "nowhere")
    for path, why in (
        (pipe, "pipe or a device"),
        (Path("/dev/zero"), "pipe or a device"),
        (tmp_path, "is a folder"),
        (tmp_path / "gone.fits", "link to a file that is not there"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ):
        with pytest.raises(DataFileError, match=why):
            CoaddFile.open(path)


def test_sizes_are_limited_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(coadd_hdus([A]), tmp_path / "whole.fits").read_bytes()
    sparse = tmp_path / "coadd-sparse.fits"
    with sparse.open("wb") as file:
        file.write(data)
        file.truncate(1 << 40)
    with pytest.raises(DataFileError, match="no HDU"):
        CoaddFile.open(sparse)
    bomb = tmp_path / "coadd-bomb.fits.gz"
    packed = gzip.compress(bytes(1 << 20))
    bomb.write_bytes(gzip.compress(data) + packed * 4096)  # four gigabytes
    with pytest.raises(DataFileError, match="no HDU"):
        CoaddFile.open(bomb)
    at = data.index(b"NAXIS2", data.index(b"EXTNAME = 'B_WAVELENGTH"))
    wide = data[:at] + b"NAXIS2  =           3000000000".ljust(80) + data[at + 80 :]
    bomb.write_bytes(gzip.compress(wide) + packed * 40)
    monkeypatch.setattr("provabgs.desi.packed.MAX_UNPACKED", 1 << 25)
    with pytest.raises(DataFileError, match="unpacks to more than 32 MiB"):
        CoaddFile.open(bomb)


def test_the_redrock_file_is_found_beside_links_and_compressed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "links").mkdir()
    coadd = write_pair(tmp_path / "real", [A])
    link = tmp_path / "links" / "coadd-other.fits"
    link.symlink_to(coadd)
    assert read_observations(link)[0].observation is not None
    packed = [
        fits.CompImageHDU(h.data, h.header, compression_type="GZIP_1", quantize_level=0)
        if isinstance(h, fits.ImageHDU)
        else h
        for h in coadd_hdus([A])
    ]
    fz = write(fits.HDUList(packed), tmp_path / "coadd-y.fits.fz")
    write(redrock_hdus([A]), tmp_path / "redrock-y.fits")
    found = read_observations(fz)[0]
    assert found.observation is not None
    plain = read_observations(coadd)[0].observation
    assert plain is not None
    for a, b in zip(found.observation.spectra, plain.spectra, strict=True):
        np.testing.assert_array_equal(a.flux, b.flux)
        np.testing.assert_array_equal(a.resolution, b.resolution)


def test_tables_read_as_astropy_reads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    columns = [
        fits.Column(
            "A",
            "7A",
            array=np.array(["x", "Å?", "longer "])[:3].astype("S7") if False else np.array(["x", "", "longer"]),
        ),
        fits.Column("U", "J", bzero=2**31, array=np.array([0, 1, 2**32 - 1], dtype=np.uint32)),
        fits.Column("V", "K", bzero=2**63, array=np.array([0, 1, 2**64 - 1], dtype=np.uint64)),
        fits.Column("S", "D", bscale=0.5, bzero=3.0, array=np.array([3.0, 3.5, 4.0])),
        fits.Column("F", "E", array=rng.normal(size=3)),
        fits.Column("L", "L", array=np.array([True, False, True])),
        fits.Column("B", "B", array=np.array([0, 255, 3], dtype=np.uint8)),
    ]
    path = write(
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="T")]), tmp_path / "t.fits"
    )
    kinds: Any = {"A": "text", **dict.fromkeys("UVBL", "whole"), **dict.fromkeys("SF", "number")}
    with open_fits(path) as file, fits.open(path) as hdus:
        found, odd = file.read_columns(file["T"], kinds)
        assert not odd
        for name in kinds:
            np.testing.assert_array_equal(found[name], hdus["T"].data[name])
            assert found[name].dtype.isnative
