"""SDSS spec files: what is in them, what is wrong with them, and a run's reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from provabgs.core.errors import ConfigError, DataFileError, InputError
from provabgs.core.status import Status
from provabgs.mocks.make import MockConfig, MockMaker
from provabgs.mocks.sdss_file import write_spec_file
from provabgs.observe.extinction import spectrum_transmission
from provabgs.observe.filters import band_weights
from provabgs.pipelines.config import InputOptions
from provabgs.pipelines.inputs import make_reader
from provabgs.sdss import SpecOptions, read_spec
from provabgs.sdss.spec import targetid_of

LOGLAM = 3.58 + 1e-4 * np.arange(3800)
FLUX = 5.0 + np.sin(LOGLAM * 100)
OBJECT: dict[str, Any] = {
    "PLATE": 945, "MJD": 52652, "FIBERID": 470, "Z": 0.06, "Z_ERR": 1e-5, "ZWARNING": 0, "CLASS": "GALAXY",
    "PLUG_RA": 150.2, "PLUG_DEC": 55.6, "VDISP": 130.0, "VDISP_ERR": 8.0,
}  # fmt: skip


def spec_file(path: Path, pixels: dict[str, Any] | None = None, without: str = "", **row: Any) -> Path:
    columns = {"flux": FLUX, "loglam": LOGLAM, "ivar": np.full(3800, 4.0), "and_mask": np.zeros(3800, np.int32)}
    columns |= {"or_mask": np.ones(3800, np.int32), "wdisp": np.full(3800, 1.1)} | (pixels or {})
    columns.pop(without, None)
    made = [fits.Column(n, "J" if np.asarray(v).dtype.kind == "i" else "E", array=v) for n, v in columns.items()]
    coadd = fits.BinTableHDU.from_columns(made, name="COADD")
    cells = {k: v for k, v in (OBJECT | row).items() if v is not None}
    kinds = {int: "J", float: "D", str: "6A"}
    found = [fits.Column(k, kinds[type(v)], array=[v]) for k, v in cells.items()]
    found.append(fits.Column("SPECTROFLUX", "5E", array=[np.arange(5.0)]))
    objects = fits.BinTableHDU.from_columns(found, name="SPECOBJ")
    fits.HDUList([fits.PrimaryHDU(), coadd, objects]).writeto(path, checksum=True, overwrite=True)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spec-0945-52652-0470.fits"


def test_a_galaxy(path: Path) -> None:
    target = read_spec(spec_file(path), SpecOptions(ebv=0.05))
    seen = target.observation
    assert seen is not None
    assert target.message == ""
    assert seen.targetid == 945_52652_0470 == targetid_of(945, 52652, 470)
    assert (seen.redshift, seen.ra, seen.dec) == (0.06, 150.2, 55.6)
    assert seen.meta["VDISP"] == 130.0
    spectrum = seen.spectra[0]
    np.testing.assert_allclose(spectrum.wave, 10**LOGLAM, rtol=1e-6)
    np.testing.assert_allclose(spectrum.flux, FLUX / spectrum_transmission(spectrum.wave, 0.05), rtol=1e-5)
    # 1.1 pixels of 1e-4 dex are 75.9 km/s: R of 1,677
    np.testing.assert_allclose(spectrum.sigma_aa / spectrum.wave * 299792.458, 75.94, rtol=1e-3)


def test_pixels_that_do_not_count(path: Path) -> None:
    ivar, mask, width, flux = np.full(3800, 4.0), np.zeros(3800, np.int32), np.full(3800, 1.1), FLUX.copy()
    ivar[3], mask[4], width[5], flux[6], ivar[7] = 0.0, 1 << 25, 0.0, np.nan, -1.0
    target = read_spec(spec_file(path, {"ivar": ivar, "and_mask": mask, "wdisp": width, "flux": flux}))
    assert target.observation is not None
    assert np.flatnonzero(target.observation.spectra[0].ivar == 0).tolist() == [3, 4, 5, 6, 7]
    assert "no E(B-V) known" in target.message


@pytest.mark.parametrize(
    ("row", "status", "message"),
    [
        ({"CLASS": "STAR"}, Status.NOT_A_GALAXY, "CLASS is STAR"),
        ({"ZWARNING": 4}, Status.REDSHIFT_WARNING, "ZWARNING is 4"),
        ({"Z": None}, Status.NO_REDSHIFT, "no redshift"),
        ({"Z": -0.001}, Status.REDSHIFT_OUT_OF_RANGE, "not positive"),
    ],
)
def test_galaxies_that_cannot_be_fitted(path: Path, row: dict[str, Any], status: Status, message: str) -> None:
    target = read_spec(spec_file(path, **row))
    assert (target.status, target.observation) == (status, None)
    assert message in target.message
    assert (target.ra, target.dec) == (150.2, 55.6)
    assert read_spec(path, redshift=0.1).observation is not None


def test_files_that_are_none(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"HDU COADD: column FLUX is missing"):
        read_spec(spec_file(path, without="flux"))
    with pytest.raises(DataFileError, match=r"HDU SPECOBJ: column PLATE is missing"):
        read_spec(spec_file(path, PLATE=None))
    with pytest.raises(DataFileError, match="PLATE 0 is that of no spectrum"):
        read_spec(spec_file(path, PLATE=0))
    data = bytearray(spec_file(path).read_bytes())
    data[9000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataFileError, match=r"[Cc]hecksum|CHECKSUM|DATASUM"):
        read_spec(path)
    fits.HDUList([fits.PrimaryHDU()]).writeto(tmp_path / "empty.fits")
    with pytest.raises(DataFileError, match="no HDU COADD; give spec-PLATE-MJD-FIBER"):
        read_spec(tmp_path / "empty.fits")


def test_reader_of_a_run(path: Path) -> None:
    spec_file(path, CLASS="STAR")
    given = {"allow_non_galaxy": True, "ebv": 0.02}
    reader = make_reader(InputOptions(paths=[str(path)], reader="sdss", options=given))
    scan = reader.scan(path)
    assert scan.targetid.tolist() == [targetid_of(945, 52652, 470)]
    (target,) = reader.read(path, scan.targetid.tolist(), scan.row.tolist())
    assert target.observation is not None
    assert target.observation.meta["EBV"] == 0.02
    with pytest.raises(ConfigError, match=r"options\.ebw is no option of the sdss reader"):
        make_reader(InputOptions(paths=[str(path)], reader="sdss", options={"ebw": 0.02}))


def test_a_mock_in_a_spec_file(tmp_path: Path) -> None:
    """Flux, errors, bands and identity come back; what is no signal-to-noise is refused."""
    maker = MockMaker(MockConfig(n=1, r_max=18.0))
    galaxy = maker.make(next(maker.selected()))
    path = write_spec_file(maker, galaxy, tmp_path / "spectra", snr=20.0, fiber=7)
    assert path.name == "spec-0266-51602-0007.fits"
    seen = read_spec(path).observation
    assert seen is not None
    assert seen.targetid == targetid_of(266, 51602, 7)
    assert seen.redshift == pytest.approx(galaxy.redshift, rel=1e-6)
    spectrum = seen.spectra[0]
    assert np.median(spectrum.flux * np.sqrt(spectrum.ivar)) == pytest.approx(20.0, rel=0.03)
    with fits.open(path) as hdus:
        row = hdus["SPALL"].data[0]
        # r of the spectrum, where the camera sees the whole band, is that of the bands times the fiber's share
        r_band = band_weights("sdss2010-r", spectrum.wave) @ hdus["COADD"].data["model"]
    share = galaxy.photometry.fiber_fraction
    assert r_band == pytest.approx(row["MODELFLUX"][2] * share, rel=0.1)
    assert row["FIBERFLUX"][2] / row["MODELFLUX"][2] == pytest.approx(share, rel=1e-5)
    with pytest.raises(InputError, match="snr is 0"):
        write_spec_file(maker, galaxy, tmp_path, snr=0)
