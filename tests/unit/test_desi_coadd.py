from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from provabgs.core.errors import DataFileError
from provabgs.desi.coadd import CameraData, CoaddFile, combine_exposures
from tests.support.desi_files import NDIAG, NPIX, Target, coadd_hdus, source_id, wavelength, write

A, B = Target(source_id(1), level=2.0), Target(source_id(2), level=3.0)


def read(path: Path, row: int = 0) -> tuple:
    return next(CoaddFile.open(path).iter_spectra([[row]]))


def test_reads_by_name_whatever_the_order(tmp_path: Path) -> None:
    hdus = coadd_hdus([A, B])
    shuffled = fits.HDUList([hdus[0], *reversed(hdus[1:])])
    path = write(shuffled, tmp_path / "coadd-x.fits")
    file = CoaddFile.open(path)
    assert file.targetids.tolist() == [A.targetid, B.targetid]
    assert sorted(file.cameras) == ["b", "r", "z"]
    for camera in read(path, 1):
        name = camera.camera.upper()
        assert camera.wave.dtype.isnative
        assert camera.resolution is not None
        assert camera.resolution.shape == (NDIAG, NPIX[name])
        np.testing.assert_array_equal(camera.wave, wavelength(name))
        np.testing.assert_array_equal(camera.flux, 3.0)
        np.testing.assert_array_equal(camera.ivar, 4.0)


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u1"])
def test_mask_of_any_integer_type(tmp_path: Path, dtype: str) -> None:
    hdus = coadd_hdus([A], mask_dtype=dtype)
    mask = np.zeros((1, NPIX["B"]), dtype)
    mask[0, 7] = 64
    hdus["B_MASK"].data = mask
    blue = read(write(hdus, tmp_path / "c.fits"))[0]
    assert np.flatnonzero(blue.ivar == 0).tolist() == [7]
    assert blue.n_masked == 1


def test_impossible_pixels_are_taken_out_and_counted(tmp_path: Path) -> None:
    hdus = coadd_hdus([A, B])
    hdus["R_FLUX"].data[0, 3] = np.nan
    hdus["R_IVAR"].data[0, 4] = -1.0
    hdus["R_IVAR"].data[0, 5] = np.inf
    hdus["R_FLUX"].data[0, 6], hdus["R_IVAR"].data[0, 6] = np.nan, 0.0  # already unused: not counted
    path = write(hdus, tmp_path / "c.fits")
    red = read(path)[1]
    assert np.flatnonzero(red.ivar == 0).tolist() == [3, 4, 5, 6]
    assert red.n_bad == 3
    assert np.all(np.isfinite(red.flux))
    assert read(path, 1)[1].n_bad == 0


def test_missing_cameras_mask_resolution_and_exposures(tmp_path: Path) -> None:
    hdus = coadd_hdus([A], cameras="RZ")
    keep = [h for h in hdus if not h.name.endswith(("_MASK", "_RESOLUTION"))]
    path = write(fits.HDUList(keep), tmp_path / "c.fits")
    file = CoaddFile.open(path)
    assert file.cameras == ("r", "z")
    assert file.exp_fibermap == {}
    assert all(c.resolution is None for c in read(path))


def test_units_are_read_not_assumed(tmp_path: Path) -> None:
    hdus = coadd_hdus([A])
    for c in "BRZ":
        hdus[f"{c}_FLUX"].header["BUNIT"] = "10**-15 erg/(s cm2 nm)"  # 10 times 1e-17 per Angstrom
        hdus[f"{c}_IVAR"].header["BUNIT"] = "10**+30 (s2 cm4 nm2) / erg2"
        hdus[f"{c}_WAVELENGTH"].data /= 10
        hdus[f"{c}_WAVELENGTH"].header["BUNIT"] = "nm"
    blue = read(write(hdus, tmp_path / "c.fits"))[0]
    np.testing.assert_allclose(blue.flux, 20.0)
    np.testing.assert_allclose(blue.ivar, 0.04)
    np.testing.assert_allclose(blue.wave, wavelength("B"))
    hdus["R_FLUX"].header["BUNIT"] = "electron"
    with pytest.raises(DataFileError, match=r"R_FLUX is in 'electron'.*convert"):
        CoaddFile.open(write(hdus, tmp_path / "d.fits"))


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="no such file"):
        CoaddFile.open(tmp_path / "nowhere.fits")
    with pytest.raises(DataFileError, match="folder"):
        CoaddFile.open(tmp_path)
    text = tmp_path / "text.fits"
    text.write_text("TARGETID,FLUX\n1,2\n")
    with pytest.raises(DataFileError, match="not a readable FITS"):
        CoaddFile.open(text)
    (tmp_path / "empty.fits").touch()
    with pytest.raises(DataFileError, match="not a readable FITS"):
        CoaddFile.open(tmp_path / "empty.fits")
    image = write(fits.HDUList([fits.PrimaryHDU(np.zeros((4, 4)))]), tmp_path / "image.fits")
    with pytest.raises(DataFileError, match=r"not a DESI coadd.*FIBERMAP are missing \(it has: none\)"):
        CoaddFile.open(image)
    only_table = write(coadd_hdus([A], cameras=""), tmp_path / "table.fits")
    with pytest.raises(DataFileError, match="B_WAVELENGTH, B_FLUX"):
        CoaddFile.open(only_table)
    hdus = coadd_hdus([A])
    del hdus["Z_IVAR"]
    with pytest.raises(DataFileError, match=r"HDUs Z_IVAR are missing"):
        CoaddFile.open(write(hdus, tmp_path / "noivar.fits"))
    hdus = coadd_hdus([A, B])
    hdus["R_FLUX"].data = hdus["R_FLUX"].data[:1]
    with pytest.raises(DataFileError, match=r"R_FLUX has shape \(1, 50\).*\(2, 50\)"):
        CoaddFile.open(write(hdus, tmp_path / "rows.fits"))
    hdus = coadd_hdus([A])
    hdus["FIBERMAP"].columns.change_name("TARGETID", "ID")
    with pytest.raises(DataFileError, match="no column TARGETID"):
        CoaddFile.open(write(hdus, tmp_path / "noid.fits"))


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("packed", [False, True])
def test_truncation_anywhere_is_named(tmp_path: Path, share: float, packed: bool) -> None:
    whole = write(coadd_hdus([A, B]), tmp_path / "whole.fits").read_bytes()
    data = gzip.compress(whole) if packed else whole
    broken = tmp_path / ("coadd.fits.gz" if packed else "coadd.fits")
    broken.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataFileError, match=r"coadd\.fits"):
        read(broken)


def test_compressed_file_reads_the_same(tmp_path: Path) -> None:
    plain = write(coadd_hdus([A, B]), tmp_path / "c.fits")
    packed = tmp_path / "c.fits.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for p, q in zip(read(plain, 1), read(packed, 1), strict=True):
        np.testing.assert_array_equal(p.flux, q.flux)


def test_absent_targetid_says_how_many_and_the_nearest(tmp_path: Path) -> None:
    file = CoaddFile.open(write(coadd_hdus([A, B, Target(-(2**62))]), tmp_path / "c.fits"))
    with pytest.raises(
        DataFileError, match=rf"TARGETID {B.targetid + 5} among its 3 rows; the nearest is {B.targetid}"
    ):
        file.check_targetid(B.targetid + 5)
    file.check_targetid(A.targetid)
    with pytest.raises(DataFileError, match="nearest"):
        file.check_targetid(2**62)  # int64 arithmetic on the difference would overflow


def test_exposures_are_combined_by_inverse_variance(tmp_path: Path) -> None:
    twice = [Target(A.targetid, level=1.0, ivar=1.0), Target(A.targetid, level=4.0, ivar=3.0)]
    drop = ["COADD_NUMEXP", "COADD_FIBERSTATUS"]
    hdus = coadd_hdus(twice, drop_columns=drop)
    hdus["B_IVAR"].data[1, 9] = 0.0
    hdus["B_RESOLUTION"].data[1] *= 0.5
    file = CoaddFile.open(write(hdus, tmp_path / "spectra-x.fits"))
    assert not file.coadded
    assert file.groups() == {A.targetid: [0, 1]}
    blue = next(file.iter_spectra([[0, 1]]))[0]
    assert blue.flux[0] == pytest.approx((1 * 1 + 3 * 4) / 4)
    assert blue.ivar[0] == 4.0
    assert (blue.flux[9], blue.ivar[9]) == (1.0, 1.0)
    kernel = np.array([0.05, 0.2, 0.5, 0.2, 0.05])
    assert blue.resolution is not None
    np.testing.assert_allclose(blue.resolution[:, 0], kernel * (1 + 3 * 0.5) / 4, rtol=1e-6)
    np.testing.assert_allclose(blue.resolution[:, 9], kernel, rtol=1e-6)


def test_combining_equal_exposures_gains_what_statistics_promise() -> None:
    rng = np.random.default_rng(0)
    wave = np.arange(4000.0, 4400.0, 0.8)
    sigma = np.array([1.0, 2.0, 0.5])
    exposures = [
        CameraData("b", wave, 5 + s * rng.standard_normal(wave.size), np.full(wave.size, s**-2), None, 1, 2)
        for s in sigma
    ]
    mean = combine_exposures(exposures)
    pull = (mean.flux - 5) * np.sqrt(mean.ivar)
    assert np.std(pull) == pytest.approx(1.0, abs=0.12)
    assert abs(np.mean(pull)) < 4 / np.sqrt(wave.size)
    assert (mean.n_masked, mean.n_bad, mean.resolution) == (3, 6, None)
