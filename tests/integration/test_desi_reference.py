"""The reader on real DESI files: one good galaxy, its earlier reduction, and the hostile ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from provabgs.core.errors import DataFileError
from provabgs.core.status import Status
from provabgs.desi import ReadOptions, read_observation, read_observations
from provabgs.desi.coadd import CoaddFile
from provabgs.inference.config import FitConfig
from provabgs.inference.fit import fit_one
from provabgs.observe.filters import band_weights
from provabgs.observe.observation import Observation

GALAXY = 39633345008634465


@pytest.fixture(scope="module")
def desi(reference_dir: Path) -> Path:
    return reference_dir / "desi"


@pytest.fixture(scope="module")
def galaxy(desi: Path) -> Observation:
    return read_observation(desi / "coadd-4-80613-thru20210324.fits", GALAXY)


def test_the_real_galaxy(galaxy: Observation) -> None:
    assert galaxy.redshift == pytest.approx(0.3687436, abs=1e-7)
    assert galaxy.meta["PHOTSYS"] == "N"
    assert [(s.camera, s.n_valid) for s in galaxy.spectra] == [("b", 2751), ("r", 2326), ("z", 2881)]
    assert all(s.resolution is not None and s.resolution.shape[0] == 11 for s in galaxy.spectra)
    assert galaxy.photometry is not None
    assert galaxy.photometry.bands == ("BASS-g", "BASS-r", "MzLS-z", "wise2010-W1", "wise2010-W2")
    # FIBERMAP's fluxes over the imaging pipeline's own MW_TRANSMISSION (0.8588 in g, computed for DECam's curve).
    assert galaxy.photometry.flux[0] == pytest.approx(3.2370 / 0.8588, rel=3e-3)
    assert galaxy.photometry.flux[1] == pytest.approx(5.9473 / 0.9026, rel=3e-3)
    assert galaxy.fiber_fraction == pytest.approx((0.588, 0.059), abs=0.001)
    assert galaxy.meta["PSF_TO_FIBER"] == pytest.approx(0.7794, abs=1e-4)


def test_spectrum_and_fiberflux_tell_one_story(galaxy: Observation) -> None:
    # The r filter lies wholly inside DESI: spectrum / photometry there is the fiber fraction, to the 10-20 % that
    # single objects depart from the aperture model. Left on the point-source scale it would be 0.79.
    parts = [(s.wave, s.flux) for s in galaxy.spectra]
    wave = np.arange(3600.0, 9800.0, 2.0)
    order = np.argsort(np.concatenate([w for w, _ in parts]))
    flux = np.interp(wave, np.concatenate([w for w, _ in parts])[order], np.concatenate([f for _, f in parts])[order])
    assert galaxy.photometry is not None
    assert galaxy.fiber_fraction is not None
    inside = band_weights("BASS-r", wave) @ flux / galaxy.photometry.flux[1]
    assert inside == pytest.approx(galaxy.fiber_fraction[0], rel=0.15)


def test_tractor_file_says_the_same_as_fibermap(galaxy: Observation, desi: Path) -> None:
    coadd = desi / "coadd-4-80613-thru20210324.fits"
    other = read_observation(coadd, GALAXY, photometry=desi / "tractor-1054p567.fits")
    assert other.meta["PHOTOMETRY_MATCH"] == "RELEASE,BRICKID,OBJID"
    assert other.photometry is not None
    assert galaxy.photometry is not None
    np.testing.assert_allclose(other.photometry.flux, galaxy.photometry.flux, rtol=1e-6)
    assert other.fiber_fraction == pytest.approx(galaxy.fiber_fraction)
    assert other.photometry.bands == galaxy.photometry.bands  # PHOTSYS through FIBERMAP; the file has RELEASE only


def test_two_reductions_agree_to_a_few_per_cent(galaxy: Observation, desi: Path) -> None:
    old = read_observation(
        desi / "coadd-4-80613-thru20210324_old.fits", GALAXY, redrock=desi / "redrock-4-80613-thru20210324.fits"
    )
    for new, before in zip(galaxy.spectra, old.spectra, strict=True):
        offset = np.average(new.flux - before.flux, weights=new.ivar) / np.average(before.flux, weights=new.ivar)
        assert 1e-4 < abs(offset) < 0.05
    # The old file writes -1 for the ivar of W1 and W2.
    assert old.photometry is not None
    assert (old.photometry.ivar > 0).tolist() == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("coadd-5-169-thru20210419.fits", ["UNOBSERVED"] * 4 + ["REDSHIFT_WARNING"]),
        (
            "coadd-sv3-dark-26065.fits",
            ["UNOBSERVED"] * 2 + ["REDSHIFT_OUT_OF_RANGE", "UNOBSERVED", "REDSHIFT_OUT_OF_RANGE"],
        ),
        ("coadd-special-dark-27247.fits", ["READY"]),
    ],
)
def test_every_row_of_the_hostile_files_is_accounted_for(desi: Path, name: str, expected: list[str]) -> None:
    results = read_observations(desi / name, options=ReadOptions(z_max=0.6))
    assert [r.row for r in results] == list(range(len(CoaddFile.open(desi / name).targetids)))
    assert [r.status.name if r.status is not None else "READY" for r in results] == expected
    assert all(r.message for r in results if r.status is not None)


def test_galaxies_beyond_the_default_range_on_request(desi: Path) -> None:
    path = desi / "coadd-sv3-dark-26065.fits"
    beyond = [r for r in read_observations(path, options=ReadOptions(z_max=0.6)) if r.row in (2, 4)]
    assert [r.status for r in beyond] == [Status.REDSHIFT_OUT_OF_RANGE] * 2
    results = read_observations(path)
    fitted = [fit_one(r, FitConfig()) for r in results if r.observation is not None]
    assert [p.status for p in fitted] == [Status.REDSHIFT_OUT_OF_RANGE] * 2  # the fit says how far it reaches
    assert all("z_max = 0.6" in p.message for p in fitted)
    ready = {r.row: r.observation for r in results if r.observation is not None}
    assert sorted(ready) == [2, 4]
    assert ready[2].redshift == pytest.approx(0.8365, abs=1e-4)
    assert ready[2].meta["PHOTSYS"] == "S"
    # FIBERMAP's mean (0.511) counts a rejected exposure with factor 0; the coadd does not.
    assert ready[4].meta["PSF_TO_FIBER"] == pytest.approx(0.7667, abs=1e-4)


def test_the_lyman_alpha_emitter_is_flagged(desi: Path) -> None:
    # Truly at z = 3.15; redrock says 0.0073 with ZWARN 0. Nothing in the file proves it wrong, all of it looks odd.
    (result,) = read_observations(desi / "coadd-special-dark-27247.fits")
    o = result.observation
    assert o is not None
    assert o.redshift == pytest.approx(0.00727, abs=1e-5)
    assert o.photometry is None
    assert o.fiber_fraction is None
    assert max(o.meta[f"SNR_{c}"] for c in "BRZ") < 1
    assert "no photometry" in result.message
    assert "redshift to be checked" in result.message
    (strict,) = read_observations(desi / "coadd-special-dark-27247.fits", options=ReadOptions(require_photometry=True))
    assert strict.status == Status.NO_PHOTOMETRY


def test_any_truncation_of_a_real_file_is_named(desi: Path, tmp_path: Path) -> None:
    whole = (desi / "coadd-4-80613-thru20210324.fits").read_bytes()
    for share in (0.02, 0.2, 0.5, 0.8, 0.99):
        broken = tmp_path / "coadd-broken.fits"
        broken.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataFileError, match=r"coadd-broken\.fits"):
            read_observation(broken, GALAXY, redshift=0.3687)
