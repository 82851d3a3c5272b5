"""Photometry from a folder of sweeps: which file, which row, and what damage costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provabgs.core.errors import DataFileError
from provabgs.core.status import Status
from provabgs.desi import ReadOptions, read_observations
from provabgs.desi import sweeps as module
from provabgs.desi.catalogs import PhotometryCatalog
from provabgs.desi.sweeps import SweepFolder, open_photometry, parse_sweep
from provabgs.desi.targetid import encode_targetid
from provabgs.observe.observation import Observation
from provabgs.observe.target import TargetResult
from provabgs.pipelines.config import parse_config
from provabgs.pipelines.plan import make_plan
from tests.support.desi_files import Target, source_id, write_pair, write_table

Source = tuple[int, float, float, float]
"""OBJID, RA, Dec, flux in r."""


def sweep(path: Path, sources: list[Source], release: int = 9010, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    n = len(sources)
    objid, ra, dec, flux = (np.array(v) for v in zip(*sources, strict=True))
    rows: dict[str, Any] = {
        "RELEASE": np.full(n, release), "BRICKID": np.full(n, 500_000), "BRICKNAME": np.full(n, "1500p020"),
        "OBJID": objid, "TYPE": np.full(n, "SER"), "RA": ra, "DEC": dec, "EBV": np.full(n, 0.05),
        **{f"FLUX_{b}": flux for b in ("G", "R", "Z")}, **{f"FLUX_IVAR_{b}": np.full(n, 25.0) for b in ("G", "R", "Z")},
        "FIBERFLUX_R": 0.5 * flux,
    }  # fmt: skip
    return write_table(path, "SWEEP", rows | more)


def target(objid: int, ra: float, dec: float, release: int = 9010, photsys: str = "S", **more: Any) -> Target:
    place = {"TARGET_RA": ra, "TARGET_DEC": dec, "RELEASE": release, "PHOTSYS": photsys}
    return Target(source_id(objid, release=release), fibermap=place | more)


def seen(result: TargetResult) -> Observation:
    assert result.observation is not None, result.message
    return result.observation


def flux_r(result: TargetResult) -> float:
    """Flux in r as the file has it."""
    found = seen(result).photometry
    assert found is not None
    row = next(k for k, name in enumerate(found.bands) if name.endswith("-r"))
    plain = {"decam2014-r": 2.165, "BASS-r": 2.165}
    return float(found.flux[row] * 10 ** (-0.4 * plain[found.bands[row]] * 0.05))


@pytest.mark.parametrize(
    ("name", "sky"),
    [
        ("sweep-240p005-250p010.fits", ((240.0, 250.0), (5.0, 10.0))),
        ("sweep-000m005-005p000.fits.gz", ((0.0, 5.0), (-5.0, 0.0))),
        ("sweep-350m090-360m085.fits", ((350.0, 360.0), (-90.0, -85.0))),
        ("sweep-240p005-250p010-pz.fits", None),  # photometric redshifts
        ("sweep-250p005-240p010.fits", None),  # from right to left
        ("sweep-240p010-250p005.fits", None),
        ("sweep-240p005-400p010.fits", None),
        ("sweep-24p005-250p010.fits", None),
    ],
)
def test_names_say_the_sky(name: str, sky: Any) -> None:
    found = parse_sweep(Path("/data/dr9/north/sweep/9.0") / name)
    assert (found and (found.ra, found.dec)) == sky
    assert found is None or found.photsys == "N"


def test_edges_and_the_meridian() -> None:
    first, last = (parse_sweep(Path(f"sweep-{n}.fits")) for n in ("000m005-010p000", "350m005-360p000"))
    assert first is not None
    assert last is not None
    assert first.covers(0.0, -5.0)
    assert not first.covers(10.0, -1.0)
    assert not first.covers(1.0, 0.0)
    assert last.covers(359.999999, -1.0)
    assert not last.covers(0.0, -1.0)
    assert last.covers(0.0, -1.0, margin=1e-4)
    assert first.covers(359.99999, 0.00001, margin=1e-4)
    assert not first.overlaps(last)


def test_each_galaxy_has_its_file_and_its_row(tmp_path: Path) -> None:
    """DR9's layout, two regions; the row is that of RELEASE, BRICKID and OBJID, not the nearest."""
    root = tmp_path / "dr9"
    near = 0.3 / 3600
    sweep(root / "south/sweep/9.0/sweep-150p000-160p005.fits", [(7, 150.0, 2.0, 50.0), (1, 150.0 + near, 2.0, 33.0)])
    sweep(root / "south/sweep/9.0/sweep-140p000-150p005.fits", [(2, 149.5, 2.0, 44.0)])
    sweep(root / "north/sweep/9.0/sweep-150p030-160p035.fits", [(3, 155.0, 33.0, 55.0)], 9011)
    sweep(root / "south/sweep/9.0/sweep-150p030-160p035.fits", [(3, 155.0, 33.0, 66.0), (4, 155.0, 33.1, 77.0)])
    (root / "south/sweep/9.1-photo-z").mkdir()
    sweep(root / "south/sweep/9.0/sweep-150p000-160p005-pz.fits", [(1, 150.0, 2.0, 99.0)])
    (root / "south/tractor/sweep").mkdir(parents=True)
    (root / "south/tractor/sweep/sweep-150p000-160p005.fits").touch()  # not looked at
    wanted = [
        target(1, 150.0, 2.0), target(2, 149.5, 2.0), target(3, 155.0, 33.0, 9011, "N"), target(3, 155.0, 33.0),
        target(4, 155.0, 33.1, 9011, "N"),
    ]  # fmt: skip
    got = read_observations(write_pair(tmp_path, wanted), photometry=root)
    assert [round(flux_r(r)) for r in got] == [33, 44, 55, 66, 77]
    assert [seen(r).meta["PHOTOMETRY"] for r in got[:2]] == [
        "sweep-150p000-160p005.fits", "sweep-140p000-150p005.fits"]  # fmt: skip
    assert {seen(r).meta["PHOTOMETRY_MATCH"] for r in got[:4]} == {"RELEASE,BRICKID,OBJID"}
    assert seen(got[2]).meta["PHOTSYS"] == "N"
    assert seen(got[3]).meta["PHOTSYS"] == "S"
    # the other region's, where its own does not hold it, and said
    assert seen(got[4]).meta["PHOTSYS"] == "S"
    assert "catalog's photometry is S's (RELEASE 9010), FIBERMAP says PHOTSYS N" in got[4].message
    assert "sweep" not in got[0].message


def test_i_of_dr10_by_position_across_an_edge(tmp_path: Path) -> None:
    """A DR9 target just outside the DR10 file that holds its source: places of two reductions differ."""
    root = tmp_path / "dr10" / "south" / "sweep" / "10.1"
    i = {"FLUX_I": np.array([25.0]), "FLUX_IVAR_I": np.array([16.0])}
    sweep(root / "sweep-150p000-155p005.fits", [(9, 150.0 + 0.1 / 3600, 2.0, 33.0)], 10000, **i)
    sweep(root / "sweep-145p000-150p005.fits", [(8, 149.0, 2.0, 22.0)], 10000, **i)
    coadd = write_pair(tmp_path, [target(1, 150.0 - 0.1 / 3600, 2.0)])
    (found,) = read_observations(coadd, photometry=tmp_path / "dr10", options=ReadOptions(bands=("r", "i", "z")))
    photometry = seen(found).photometry
    assert photometry is not None
    assert photometry.bands == ("decam2014-r", "decam2014-i", "decam2014-z")
    assert seen(found).meta["PHOTOMETRY_MATCH"] == "position (0.20 arcsec)"
    assert "catalog's source is of RELEASE 10000, the target's of 9010" in found.message


def test_what_no_file_covers_falls_back_and_is_said(tmp_path: Path) -> None:
    sweep(tmp_path / "sweeps/sweep-150p000-160p005.fits", [(1, 150.0, 2.0, 33.0)])
    (tmp_path / "sweeps/sweep-150p005-16p010.fits").touch()
    far = target(5, 151.0, 2.0)
    coadd = write_pair(tmp_path, [target(1, 150.0, 2.0), target(2, 155.0, 7.0), far])
    first, outside, lacking = read_observations(coadd, photometry=tmp_path / "sweeps")
    assert round(flux_r(first)) == 33
    assert (round(flux_r(outside)), seen(outside).meta["PHOTOMETRY"]) == (20, "FIBERMAP")
    assert "no sweep of sweeps covers RA 155.0000, Dec 7.0000 (sweep-150p005-16p010.fits says no place)" in (
        outside.message
    )
    assert "sweeps does not hold it, photometry from FIBERMAP" in lacking.message
    unplaced = write_pair(tmp_path, [target(1, np.nan, 2.0)])
    (found,) = read_observations(unplaced, photometry=tmp_path / "sweeps")
    assert "which sweep holds it cannot be told without RA and Dec" in found.message


def test_a_truncated_file_costs_its_own_rows_and_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sweeps"
    good = sweep(folder / "sweep-150p000-160p005.fits", [(1, 150.0, 2.0, 33.0)])
    bad = sweep(folder / "sweep-160p000-170p005.fits", [(2, 165.0, 2.0, 44.0), (3, 165.0, 2.1, 44.0)])
    whole = bad.read_bytes()
    bad.write_bytes(whole[:6000])
    coadd = write_pair(tmp_path, [target(1, 150.0, 2.0), target(2, 165.0, 2.0), target(3, 165.0, 2.1)])
    opened: list[str] = []
    real = module.open_fits
    monkeypatch.setattr(module, "open_fits", lambda path, **kw: opened.append(path.name) or real(path, **kw))
    first, *lost = read_observations(coadd, photometry=folder)
    assert round(flux_r(first)) == 33
    assert [r.status for r in lost] == [Status.INPUT_ERROR] * 2
    assert all(f"{bad.name}: " in r.message and "truncated" in r.message for r in lost)
    assert opened.count(bad.name) == 1
    assert opened.count(good.name) == 2  # its index, and one row
    bad.write_bytes(whole)  # fetched again
    assert [round(flux_r(r)) for r in read_observations(coadd, photometry=folder)] == [33, 44, 44]
    bad.unlink()
    assert "no sweep of sweeps covers" in read_observations(coadd, photometry=folder)[1].message


def test_a_file_that_is_no_sweep_inside_costs_its_rows(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps"
    sweep(folder / "sweep-150p000-160p005.fits", [(1, 150.0, 2.0, 33.0)])
    sweep(folder / "sweep-160p000-170p005.fits", [(2, 165.0, 2.0, 44.0)], OBJID=np.array([2.5]))
    write_table(folder / "sweep-170p000-180p005.fits", "PZ", {"Z_PHOT": np.array([0.1])})
    coadd = write_pair(tmp_path, [target(1, 150.0, 2.0), target(2, 165.0, 2.0), target(3, 175.0, 2.0)])
    first, second, third = read_observations(coadd, photometry=folder)
    assert round(flux_r(first)) == 33
    assert "is no sweep: column OBJID holds numbers that are no integers; fetch it again" in second.message
    assert "no table has FLUX_* and FLUX_IVAR_*" in third.message
    assert {second.status, third.status} == {Status.INPUT_ERROR}


def test_two_files_of_one_sky_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "dr10/south/sweep"
    sweep(root / "10.0/sweep-150p000-155p005.fits", [(1, 150.0, 2.0, 33.0)])
    sweep(root / "10.1/sweep-150p000-155p005.fits", [(1, 150.0, 2.0, 34.0)])
    sweep(tmp_path / "dr10/north/sweep/9.0/sweep-150p000-160p005.fits", [(1, 150.0, 2.0, 34.0)], 9011)
    coadd = write_pair(tmp_path, [target(1, 150.0, 2.0)])
    with pytest.raises(DataFileError, match=r"10.0/sweep.*and.*10.1/sweep.*cover the same sky.*of one release"):
        read_observations(coadd, photometry=tmp_path / "dr10")
    assert round(flux_r(read_observations(coadd, photometry=root / "10.1")[0])) == 34
    sweep(root / "10.1/sweep-140p000-160p005.fits", [(1, 150.0, 2.0, 34.0)])
    with pytest.raises(DataFileError, match="cover the same sky"):
        SweepFolder.open(root / "10.1")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataFileError, match="holds no sweep file; give a file, or a folder"):
        SweepFolder.open(tmp_path / "none")
    (tmp_path / "none/sweep-1.fits").touch()
    with pytest.raises(DataFileError, match=r"holds no sweep file \(sweep-1.fits says no place\)"):
        SweepFolder.open(tmp_path / "none")


def test_a_run_looks_at_its_photometry_before_it_begins(tmp_path: Path) -> None:
    coadd = write_pair(tmp_path, [target(1, 150.0, 2.0)])
    (tmp_path / "sweeps").mkdir()

    def plan(where: str) -> Any:
        inputs = {"paths": [str(coadd)], "photometry": str(tmp_path / where)}
        return make_plan(parse_config({"run": {"output": str(tmp_path / "out")}, "inputs": inputs}))

    with pytest.raises(DataFileError, match="holds no sweep file"):
        plan("sweeps")
    with pytest.raises(DataFileError, match="no such file"):
        plan("sweep.fits")
    sweep(tmp_path / "sweeps/sweep-150p000-160p005.fits", [(1, 150.0, 2.0, 33.0)])
    assert len(plan("sweeps")) == 1


def test_the_index_finds_what_the_whole_table_finds(tmp_path: Path) -> None:
    """Against the catalog that is read whole: by source, by place, at the pole, at RA 0, with duplicates and NaN."""
    rng = np.random.default_rng(0)
    n = 3000
    dec = np.concatenate([rng.uniform(89.99, 90.0, n // 2), rng.uniform(-0.01, 0.01, n // 2)])
    ra = np.concatenate([rng.uniform(0, 360, n // 2), rng.uniform(-0.01, 0.01, n // 2) % 360])
    ra[5] = np.nan
    columns = {
        "RELEASE": np.full(n, 9010), "BRICKID": rng.integers(1, 5, n), "OBJID": rng.integers(-1, 800, n), "RA": ra,
        "DEC": dec, "TYPE": np.where(rng.uniform(size=n) < 0.1, "DUP", "SER"), "FLUX_R": np.arange(n) * 1.0,
        "FLUX_IVAR_R": np.ones(n),
    }  # fmt: skip
    path = write_table(tmp_path / "sweep-000m090-360p090.fits", "SWEEP", columns)
    whole, index = PhotometryCatalog.open(path), open_photometry(path)
    assert isinstance(index, SweepFolder)
    found = 0
    for k in rng.integers(0, n, 120).tolist():
        given = int(encode_targetid(9010, int(columns["BRICKID"][k]), abs(int(columns["OBJID"][k]))))
        place = (float(ra[k]) + 1e-4 * rng.normal(), float(np.clip(dec[k] + 1e-4 * rng.normal(), -90, 90)))
        for targetid in (given, source_id(4_000_000), -1):
            one, two = whole.find(targetid, *place, 2.0), index.find(targetid, *place, 2.0)
            if not np.isfinite(place[0]):
                continue
            assert (one is None) == (two is None)
            if one is not None and two is not None:
                assert (two.row.get("FLUX_R"), two.how, two.note) == (one.row.get("FLUX_R"), one.how, one.note)
                found += bool(one.row)
    assert found > 120
