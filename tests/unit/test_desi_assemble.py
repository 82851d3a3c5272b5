from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from desiutil.dust import dust_transmission, mwdust_transmission

from provabgs.core.errors import ConfigError, DataFileError, InputError, UnusableTargetError
from provabgs.core.status import Status
from provabgs.desi import ReadOptions, healpix_paths, infer_redrock, iter_observations, read_observation, tile_paths
from provabgs.desi import read_observations as read
from provabgs.desi.fiber_fraction import PsfMode
from provabgs.desi.redrock import read_redrock
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

GOOD = Target(source_id(1))


def status_of(folder: Path, target: Target, **options: object) -> tuple[Status | None, str]:
    result = read(write_pair(folder, [target, GOOD]), options=ReadOptions(**options))  # type: ignore[arg-type]
    assert result[1].observation is not None, "a bad row stopped a good one"
    assert (result[0].observation is None) == (result[0].status is not None)
    return result[0].status, result[0].message


def test_good_row_is_free_of_dust_and_on_the_fiber_scale(tmp_path: Path) -> None:
    result = read(write_pair(tmp_path, [GOOD]))[0]
    assert (result.targetid, result.row, result.status, result.message) == (GOOD.targetid, 0, None, "")
    o = result.observation
    assert o is not None
    assert (o.redshift, o.targetid, o.ra, o.dec) == (0.2, GOOD.targetid, 150.0, 2.0)
    assert [s.camera for s in o.spectra] == ["b", "r", "z"]
    for s in o.spectra:
        t = dust_transmission(s.wave, 0.05)
        np.testing.assert_allclose(s.flux, 2.0 * 0.8 / t, rtol=1e-6)
        np.testing.assert_allclose(s.ivar, 4.0 / 0.8**2 * t**2, rtol=1e-6)
    assert o.photometry is not None
    assert o.photometry.flux[1] == pytest.approx(20.0 / mwdust_transmission(0.05, "R", "S"))
    assert o.fiber_fraction == pytest.approx((0.4, 0.4 * math.hypot(0.005, 0.1)))
    assert (o.meta["PSF_TO_FIBER"], o.meta["PHOTSYS"], o.meta["EBV"], o.meta["N_BANDS"]) == (0.8, "S", 0.05, 5)
    assert all(isinstance(v, str | int | float) for k, v in o.meta.items() if k != "SURVEY_COLUMNS")
    assert set(o.meta["SURVEY_COLUMNS"]) == {"MAG_G", "MAG_R", "MAG_Z", "MAG_W1", "FIBMAG_R", "SCHLEGEL_COLOR"}


def test_what_is_done_with_psf_to_fiber(tmp_path: Path) -> None:
    coadd = write_pair(tmp_path, [GOOD])
    modes: tuple[PsfMode, ...] = ("spectrum", "prior", "ignore")
    one = {m: read_observation(coadd, GOOD.targetid, options=ReadOptions(psf_to_fiber=m)) for m in modes}
    level = {m: o.spectra[0].flux[0] for m, o in one.items()}
    mean = {m: o.fiber_fraction[0] for m, o in one.items() if o.fiber_fraction}
    assert level["spectrum"] == pytest.approx(0.8 * level["prior"])
    assert level["prior"] == level["ignore"]
    # spectrum / prior mean, that is the total flux implied, is the same for both consistent ways.
    assert level["spectrum"] / mean["spectrum"] == pytest.approx(level["prior"] / mean["prior"])
    assert mean["ignore"] == pytest.approx(0.4)


def test_unknown_psf_to_fiber_widens_the_prior(tmp_path: Path) -> None:
    coadd = write_pair(tmp_path, [GOOD], drop_columns=["MEAN_PSF_TO_FIBER_SPECFLUX"])
    result = read(coadd)[0]
    assert result.observation is not None
    assert result.observation.fiber_fraction is not None
    mean, sigma = result.observation.fiber_fraction
    assert mean == pytest.approx(0.4)
    assert sigma > 0.3 * mean
    assert "PSF_TO_FIBER" in result.message
    assert math.isnan(result.observation.meta["PSF_TO_FIBER"])


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (Target(-17, fibermap={"OBJTYPE": ""}), Status.UNOBSERVED),
        (Target(source_id(2), fibermap={"OBJTYPE": "SKY"}), Status.UNOBSERVED),
        (Target(source_id(2), fibermap={"COADD_NUMEXP": 0}, ivar=0), Status.UNOBSERVED),
        (Target(source_id(2), z=math.nan), Status.NO_REDSHIFT),
        (Target(source_id(2), z=0.0), Status.REDSHIFT_OUT_OF_RANGE),
        (Target(source_id(2), z=-0.001), Status.REDSHIFT_OUT_OF_RANGE),
        (Target(source_id(2), zwarn=4), Status.REDSHIFT_WARNING),
        (Target(source_id(2), spectype="STAR"), Status.NOT_A_GALAXY),
        (Target(source_id(2), fibermap={"EBV": math.nan}), Status.BAD_DATA),
        (
            Target(source_id(2), ivar=0, fibermap={f"FLUX_IVAR_{b}": 0.0 for b in ("G", "R", "Z", "W1", "W2")}),
            Status.NO_VALID_PIXELS,
        ),
    ],
)
def test_every_defect_has_its_status_and_stops_no_other(tmp_path: Path, target: Target, status: Status) -> None:
    found, message = status_of(tmp_path, target)
    assert found == status
    assert message
    assert "\n" not in message


def test_options_let_rows_pass_or_refuse_them(tmp_path: Path) -> None:
    assert status_of(tmp_path, Target(source_id(2), zwarn=4), allow_zwarn=True)[0] is None
    assert status_of(tmp_path, Target(source_id(2), spectype="QSO"), allow_non_galaxy=True)[0] is None
    assert status_of(tmp_path, Target(source_id(2), z=0.9))[0] is None  # how far the model reaches is the fit's to say
    assert status_of(tmp_path, Target(source_id(2), z=0.9), z_max=0.8)[0] == Status.REDSHIFT_OUT_OF_RANGE
    assert status_of(tmp_path, Target(source_id(2), fibermap={"EBV": -1.0}), ebv=0.02)[0] is None
    dark = Target(source_id(2), fibermap={f"FLUX_IVAR_{b}": 0.0 for b in ("G", "R", "Z", "W1", "W2")})
    found, message = status_of(tmp_path, dark)
    assert found is None
    assert "no photometry" in message
    assert status_of(tmp_path, dark, require_photometry=True)[0] == Status.NO_PHOTOMETRY


def test_dead_spectrum_leaves_the_photometry(tmp_path: Path) -> None:
    result = read(write_pair(tmp_path, [Target(source_id(2), ivar=0.0)]))[0]
    assert result.observation is not None
    assert result.observation.spectra == ()
    assert result.observation.photometry is not None
    assert "photometry alone" in result.message


def test_nan_pixels_do_not_cost_the_galaxy(tmp_path: Path) -> None:
    hdus = coadd_hdus([GOOD])
    hdus["R_FLUX"].data[0, :3] = np.nan
    write(redrock_hdus([GOOD]), tmp_path / "redrock-x.fits")
    result = read(write(hdus, tmp_path / "coadd-x.fits"))[0]
    assert result.observation is not None
    assert result.observation.meta["N_BAD_PIXELS"] == 3
    assert result.observation.spectra[1].n_valid == 47
    assert "3 pixels" in result.message


def test_noise_is_flagged(tmp_path: Path) -> None:
    _, message = status_of(tmp_path, Target(source_id(2), level=0.1, ivar=4.0))
    assert "continuum hardly detected" in message


def test_redshifts_join_by_targetid_not_by_row(tmp_path: Path) -> None:
    targets = [Target(source_id(i), z=0.1 * i) for i in (1, 2, 3)]
    write(redrock_hdus(targets[::-1]), tmp_path / "redrock-x.fits")
    result = read(write(coadd_hdus(targets), tmp_path / "coadd-x.fits"))
    assert [r.observation.redshift for r in result if r.observation] == pytest.approx([0.1, 0.2, 0.3])
    write(redrock_hdus(targets[:1]), tmp_path / "redrock-x.fits")
    assert [r.status for r in read(tmp_path / "coadd-x.fits")] == [None, Status.NO_REDSHIFT, Status.NO_REDSHIFT]


def test_best_of_duplicate_redshifts(tmp_path: Path) -> None:
    worse = {"Z": 0.5, "ZWARN": 4, "DELTACHI2": 900.0}
    better = {"Z": 0.3, "ZWARN": 0, "DELTACHI2": 300.0}
    table = read_redrock(write(redrock_hdus([GOOD], [worse, better]), tmp_path / "r.fits"))
    found = table.get(GOOD.targetid)
    assert found is not None
    assert (found.z, found.n_rows) == (0.3, 3)
    assert table.get(5) is None


def test_redshift_by_hand_overrides_warnings(tmp_path: Path) -> None:
    targets = [Target(source_id(1), zwarn=4, z=0.5), Target(source_id(2), z=0.4)]
    coadd = write_pair(tmp_path, targets)
    some = read(coadd, redshifts={source_id(1): 0.11})
    assert [r.observation.redshift for r in some if r.observation] == [0.11, 0.4]
    (tmp_path / "redrock-main-bright-1.fits").unlink()
    with pytest.raises(DataFileError, match="no redrock file lies beside"):
        read(coadd)
    assert read_observation(coadd, source_id(1), redshift=0.2).redshift == 0.2
    with pytest.raises(UnusableTargetError, match=f"row 0, TARGETID {source_id(1)}.*-0.2") as caught:
        read_observation(coadd, source_id(1), redshift=-0.2)
    assert caught.value.status == Status.REDSHIFT_OUT_OF_RANGE


def test_targetids_select_and_order(tmp_path: Path) -> None:
    targets = [Target(source_id(i), level=float(i)) for i in (1, 2, 3)]
    coadd = write_pair(tmp_path, targets)
    result = read(coadd, targetids=[source_id(3), 4242, source_id(1)])
    assert [r.row for r in result] == [2, -1, 0]
    assert result[1].status == Status.INPUT_ERROR
    assert "no such TARGETID 4242" in result[1].message
    with pytest.raises(DataFileError, match="no such TARGETID 4242 among its 3 rows"):
        read(coadd, targetids=[4242])
    ratio = [r.observation.spectra[0].flux[0] for r in result if r.observation]
    assert ratio[0] == pytest.approx(3 * ratio[1])


def test_errors_of_files_come_before_the_first_row(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="no such file"):
        iter_observations(tmp_path / "coadd-none.fits")
    coadd = write_pair(tmp_path, [GOOD])
    with pytest.raises(DataFileError, match="is not a redrock file"):
        iter_observations(coadd, redrock=coadd)


def test_spectra_file_groups_exposures(tmp_path: Path) -> None:
    twice = [Target(source_id(1), level=1.0), Target(source_id(2)), Target(source_id(1), level=3.0)]
    drop = ["COADD_NUMEXP", "COADD_FIBERSTATUS"]
    write(redrock_hdus(twice[:2]), tmp_path / "redrock-x.fits")
    result = read(write(coadd_hdus(twice, drop_columns=drop), tmp_path / "spectra-x.fits"))
    assert [(r.targetid, r.row) for r in result] == [(source_id(1), 0), (source_id(2), 1)]
    first, second = (r.observation for r in result)
    assert first is not None
    assert second is not None
    assert first.meta["N_EXPOSURE_ROWS"] == 2
    assert first.spectra[0].flux[0] == pytest.approx(second.spectra[0].flux[0])  # mean of 1 and 3, and 2
    assert first.spectra[0].ivar[0] == pytest.approx(2 * second.spectra[0].ivar[0])


def test_external_photometry_wins_and_falls_back(tmp_path: Path) -> None:
    coadd = write_pair(tmp_path, [GOOD, Target(source_id(2), fibermap={"TARGET_RA": 200.0})])
    columns = {k: np.array([v]) for k, v in DEFAULTS.items() if k.startswith(("FLUX", "FIBERFLUX"))}
    columns |= {"TARGETID": np.array([GOOD.targetid]), "FLUX_R": np.array([16.0])}
    catalog = write_table(tmp_path / "sweep.fits", "SWEEP", columns)
    first, second = read(coadd, photometry=catalog)
    assert first.observation is not None
    assert second.observation is not None
    assert first.observation.fiber_fraction is not None
    assert first.observation.fiber_fraction[0] == pytest.approx(0.5)
    assert first.observation.photometry is not None
    assert first.observation.photometry.flux[1] == pytest.approx(16.0 / mwdust_transmission(0.05, "R", "S"))
    assert second.observation.meta["PHOTOMETRY"] == "FIBERMAP"
    assert "does not hold it" in second.message


def test_fastspecfit_is_not_corrected_twice(tmp_path: Path) -> None:
    coadd = write_pair(tmp_path, [GOOD])
    plain = read_observation(coadd, GOOD.targetid)
    columns: dict = {"TARGETID": np.array([GOOD.targetid]), "PHOTSYS": np.array(["S"])}
    for b in ("G", "R", "Z", "W1", "W2"):
        t = mwdust_transmission(0.05, b, "S")
        columns |= {f"FLUX_{b}": np.array([DEFAULTS[f"FLUX_{b}"] / t])}
        columns |= {f"FLUX_IVAR_{b}": np.array([DEFAULTS[f"FLUX_IVAR_{b}"] * t**2])}
    catalog = write_table(tmp_path / "fastspec.fits", "METADATA", columns, also="FASTSPEC")
    fast = read_observation(coadd, GOOD.targetid, photometry=catalog)
    assert plain.photometry is not None
    assert fast.photometry is not None
    np.testing.assert_allclose(fast.photometry.flux, plain.photometry.flux, rtol=1e-12)
    np.testing.assert_allclose(fast.photometry.ivar, plain.photometry.ivar, rtol=1e-12)
    assert fast.fiber_fraction == plain.fiber_fraction


def test_cameras_and_bands_can_be_chosen(tmp_path: Path) -> None:
    coadd = write_pair(tmp_path, [GOOD])
    red = read_observation(coadd, GOOD.targetid, options=ReadOptions(cameras=("r",), bands=()))
    assert [s.camera for s in red.spectra] == ["r"]
    assert red.photometry is None
    light = read_observation(coadd, GOOD.targetid, options=ReadOptions(cameras=()))
    assert light.spectra == ()
    assert light.photometry is not None


@pytest.mark.parametrize(
    "options",
    [{"z_max": 0.0}, {"z_min": -1.0}, {"psf_to_fiber": "maybe"}, {"fiber_sigma_floor": -1.0}, {"bands": ("Q",)}],
)
def test_senseless_options_are_refused(options: dict) -> None:
    with pytest.raises(ConfigError):
        ReadOptions(**options)


def test_paths_of_both_layouts(tmp_path: Path) -> None:
    p = healpix_paths(tmp_path, "sv3", "bright", 26065)
    assert p.coadd == tmp_path / "healpix/sv3/bright/260/26065/coadd-sv3-bright-26065.fits"
    assert p.redrock.name == "redrock-sv3-bright-26065.fits"
    t = tile_paths(tmp_path, 80613, 4, 20210324)
    assert t.coadd == tmp_path / "tiles/cumulative/80613/20210324/coadd-4-80613-thru20210324.fits"
    assert tile_paths(tmp_path, 1, 0, 2, "pernight").redrock == tmp_path / "tiles/pernight/1/2/redrock-0-1-2.fits"
    for bad in (lambda: healpix_paths(tmp_path, "a", "b", 49152), lambda: tile_paths(tmp_path, 1, 12, 2)):
        with pytest.raises(InputError):
            bad()
    p.coadd.parent.mkdir(parents=True)
    (p.coadd.parent / f"{p.coadd.name}.gz").touch()
    assert healpix_paths(tmp_path, "sv3", "bright", 26065).coadd.name.endswith(".fits.gz")


@pytest.mark.parametrize(
    "name", ["redrock-4-1.fits", "redrock-coadd-4-1.fits", "zbest-4-1.fits", "redrock-4-1.fits.gz"]
)
@pytest.mark.parametrize("coadd", ["coadd-4-1.fits", "coadd-4-1.fits.gz"])
def test_redrock_is_found_beside_the_coadd(tmp_path: Path, name: str, coadd: str) -> None:
    assert infer_redrock(tmp_path / coadd) is None
    (tmp_path / name).touch()
    assert infer_redrock(tmp_path / coadd) == tmp_path / name
    assert infer_redrock(tmp_path / "mine.fits") is None


def test_rejected_exposures_do_not_enter(tmp_path: Path) -> None:
    rows = [
        Target(source_id(1), level=50.0, fibermap={"FIBERSTATUS": 512, "PSF_TO_FIBER_SPECFLUX": 0.1}),
        Target(source_id(1), level=2.0, fibermap={"FIBERSTATUS": 8, "PSF_TO_FIBER_SPECFLUX": 0.7}),
        Target(source_id(1), level=2.0, fibermap={"FIBERSTATUS": 0, "PSF_TO_FIBER_SPECFLUX": 0.9}),
        Target(source_id(2), fibermap={"FIBERSTATUS": 4, "PSF_TO_FIBER_SPECFLUX": 0.8}),
    ]
    drop = ["COADD_NUMEXP", "COADD_FIBERSTATUS", "MEAN_PSF_TO_FIBER_SPECFLUX"]
    write(redrock_hdus([rows[0], rows[3]]), tmp_path / "redrock-x.fits")
    first, second = read(write(coadd_hdus(rows, drop_columns=drop), tmp_path / "spectra-x.fits"))
    assert first.observation is not None
    assert first.observation.meta["PSF_TO_FIBER"] == pytest.approx(0.8)
    assert first.observation.meta["N_EXPOSURE_ROWS"] == 2
    blue = first.observation.spectra[0]
    np.testing.assert_allclose(blue.flux, 2.0 * 0.8 / dust_transmission(blue.wave, 0.05), rtol=1e-6)
    assert second.status == Status.UNOBSERVED
    assert "FIBERSTATUS is 4" in second.message


def test_fluxes_of_two_sources_are_never_mixed(tmp_path: Path) -> None:
    # FIBERMAP has W1 and W2, uncorrected; the corrected catalog has only r. FIBERMAP says S, the catalog N.
    coadd = write_pair(tmp_path, [GOOD])
    columns = {
        "TARGETID": np.array([GOOD.targetid]),
        "FLUX_R": np.array([21.0]),
        "FLUX_IVAR_R": np.array([90.0]),
        "PHOTSYS": np.array(["N"]),
    }
    catalog = write_table(tmp_path / "fastspec.fits", "METADATA", columns, also="SPECPHOT")
    o = read_observation(coadd, GOOD.targetid, photometry=catalog)
    assert o.photometry is not None
    assert o.photometry.bands == ("BASS-r",)
    assert o.photometry.flux.tolist() == [21.0]


@pytest.mark.parametrize(("release", "bands"), [(9011, "BASS-r"), (9010, "decam2014-r"), (0, "decam2014-r")])
def test_release_of_the_catalog_chooses_the_filters(tmp_path: Path, release: int, bands: str) -> None:
    coadd = write_pair(tmp_path, [GOOD])  # PHOTSYS S
    columns = {"FLUX_R": np.array([21.0]), "FLUX_IVAR_R": np.array([90.0]), "RELEASE": np.array([release])}
    columns |= {"RA": np.array([150.0]), "DEC": np.array([2.0])}
    o = read_observation(coadd, GOOD.targetid, photometry=write_table(tmp_path / "t.fits", "", columns))
    assert o.photometry is not None
    assert o.photometry.bands == (bands,)
    assert o.meta["PHOTOMETRY_MATCH"].startswith("position")


def test_an_unreadable_row_does_not_end_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from provabgs.desi import coadd as module

    plain = module._CameraReader.read

    def failing(reader: module._CameraReader, row: int) -> object:
        if row == 0:
            raise OSError("bad block")
        return plain(reader, row)

    monkeypatch.setattr(module._CameraReader, "read", failing)
    first, second = read(write_pair(tmp_path, [GOOD, Target(source_id(2))]))
    assert first.status == Status.INPUT_ERROR
    assert "row 0 cannot be read (bad block)" in first.message
    assert second.observation is not None


def test_repeated_targetid_in_a_coadd_keeps_every_row(tmp_path: Path) -> None:
    rows = [GOOD, Target(GOOD.targetid, level=5.0)]
    results = read(write_pair(tmp_path, rows))
    assert [r.row for r in results] == [0, 1]
    assert [r.row for r in read(tmp_path / "coadd-main-bright-1.fits", targetids=[GOOD.targetid])] == [0]


def test_file_that_vanishes_between_tables_and_spectra(tmp_path: Path) -> None:
    coadd = write_pair(tmp_path, [GOOD, Target(source_id(2)), Target(-1)])
    results = iter_observations(coadd)
    coadd.unlink()
    assert [r.status for r in results] == [Status.INPUT_ERROR, Status.INPUT_ERROR, Status.UNOBSERVED]
