"""Tables joined to coadds: redshift catalogs, visual inspection, weights, FastSpecFit, sweeps with i."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from provabgs.cli import fit as cli_fit
from provabgs.cli.main import app
from provabgs.core.config import check_config
from provabgs.core.errors import ConfigError, DataFileError, InputError
from provabgs.core.status import Status
from provabgs.desi import ReadOptions, read_observations
from provabgs.desi.joins import JoinOptions, open_joins
from provabgs.desi.origin import Origin
from provabgs.desi.tables import JoinTable
from provabgs.observe.observation import Observation
from provabgs.observe.target import TargetResult
from provabgs.pipelines.config import parse_config
from provabgs.pipelines.inputs import make_reader
from provabgs.surveys import load_system
from tests.support.desi_files import Target, source_id, write, write_production, write_table, write_tiles

ONE, TWO, THREE = (Target(source_id(k)) for k in (1, 2, 3))
BIG = 2**60 + 1
"""A TARGETID whose neighbour is the same number as a float."""


@pytest.fixture
def coadd(tmp_path: Path) -> Path:
    """A coadd of main/bright without a redrock file."""
    root = write_production(tmp_path, {"healpix/main/bright/0/5/main-bright-5": [ONE, TWO, THREE]})
    (root / "healpix/main/bright/0/5/redrock-main-bright-5.fits").unlink()
    return root / "healpix/main/bright/0/5/coadd-main-bright-5.fits"


def zcatalog(path: Path, ids: list[int], header: dict[str, Any] | None = None, **columns: Any) -> Path:
    n = len(ids)
    rows = {
        "TARGETID": np.array(ids, np.int64), "Z": np.full(n, 0.25), "ZERR": np.full(n, 1e-4),
        "ZWARN": np.zeros(n, np.int64), "SPECTYPE": np.full(n, "GALAXY"), "DELTACHI2": np.full(n, 80.0),
        **{k: np.asarray(v) for k, v in columns.items() if v is not None},
    }  # fmt: skip
    for gone in [k for k, v in columns.items() if v is None]:
        del rows[gone]
    write_table(path, "ZCATALOG", rows)
    with fits.open(path, mode="update") as hdus:
        hdus["ZCATALOG"].header.update(header or {})
    return path


def read(coadd: Path, targetids: list[int] | None = None, redshifts: float | None = None, **joins: Any):
    options = ReadOptions(joins=check_config(JoinOptions, joins, "joins"))
    return read_observations(coadd, targetids=targetids, options=options, redshifts=redshifts)


def seen(result: TargetResult) -> Observation:
    assert result.observation is not None, result.message
    return result.observation


def test_redshifts_of_a_catalog_by_targetid_survey_and_program(coadd: Path, tmp_path: Path) -> None:
    ids = [ONE.targetid, ONE.targetid, TWO.targetid, BIG]
    z = zcatalog(
        tmp_path / "zall-pix-iron.fits", ids, Z=[0.2, 0.3, 0.4, 0.5], ZWARN=[0, 0, 4, 0],
        SURVEY=["sv3", "main", "main", "main"], PROGRAM=["bright", "bright", "BRIGHT ", "dark"],
    )  # fmt: skip
    first, second, third = read(coadd, zcatalog=z)
    assert seen(first).redshift == 0.3
    assert seen(first).meta["Z_SOURCE"] == "zcatalog"
    assert (seen(first).zerr, seen(first).meta["DELTACHI2"]) == (1e-4, 80.0)
    assert (second.status, second.message) == (Status.REDSHIFT_WARNING, "ZWARN is 4 (z = 0.4000)")
    assert (third.status, third.message) == (Status.NO_REDSHIFT, "no redshift: zall-pix-iron.fits has no row for it")


def test_a_catalog_of_another_program_gives_nothing(coadd: Path, tmp_path: Path) -> None:
    dark = zcatalog(tmp_path / "zpix-main-dark.fits", [ONE.targetid], {"SURVEY": "main", "PROGRAM": "dark"})
    result = read(coadd, [ONE.targetid], zcatalog=dark)[0]
    assert (result.status, result.message) == (
        Status.NO_REDSHIFT, "no redshift: zpix-main-dark.fits has it in main/dark alone",
    )  # fmt: skip
    bright = zcatalog(tmp_path / "zpix-main-bright.fits", [ONE.targetid], {"SURVEY": "main", "PROGRAM": "bright"})
    assert seen(read(coadd, [ONE.targetid], zcatalog=bright)[0]).redshift == 0.25


def test_rows_that_contradict_one_another_are_refused(coadd: Path, tmp_path: Path) -> None:
    ids = [ONE.targetid] * 2 + [TWO.targetid] * 2
    z = zcatalog(tmp_path / "z.fits", ids, Z=[0.2, 0.3, 0.4, 0.4])
    first, second, _ = read(coadd, zcatalog=z)
    assert first.status is Status.INPUT_ERROR
    assert f"z.fits has 2 rows of TARGETID {ONE.targetid} that differ in Z: keep one of them" in first.message
    assert seen(second).redshift == 0.4
    assert "2 equal rows of z.fits" in second.message


def test_columns_of_data_release_2(coadd: Path, tmp_path: Path) -> None:
    """zcatalog/v2: Redrock's columns are in another file, and those here end in _BEST."""
    ids = [ONE.targetid, TWO.targetid, THREE.targetid]
    gone = dict.fromkeys(("Z", "ZERR", "ZWARN", "SPECTYPE", "DELTACHI2"))
    best = {
        "Z_BEST": [0.21, 0.31, 0.41], "ZERR_BEST": [1e-5] * 3, "ZWARN_BEST": [0, 4, 0],
        "SPECTYPE_BEST": ["GALAXY", "GALAXY", "QSO"], "DELTACHI2_BEST": [90.0] * 3, "Z_CONF": [3, 0, 3],
    }  # fmt: skip
    z = zcatalog(tmp_path / "zpix-main-bright.fits", ids, {"SURVEY": "main", "PROGRAM": "bright"}, **gone, **best)
    first, second, third = read(coadd, zcatalog=z)
    assert (seen(first).redshift, seen(first).zerr, seen(first).meta["DELTACHI2"]) == (0.21, 1e-5, 90.0)
    assert (second.status, third.status) == (Status.REDSHIFT_WARNING, Status.NOT_A_GALAXY)


def test_rows_of_tiles_are_told_apart(tmp_path: Path) -> None:
    """ztile-main-bright-cumulative has a row for each tile of a target; a coadd of a tile takes its own."""
    root = write_production(tmp_path / "iron", {"tiles/cumulative/20/20210502/0-20-thru20210502": [ONE, TWO]})
    write_tiles(root, [(20, "main", "bright", 20210502)])
    path = root / "tiles/cumulative/20/20210502/coadd-0-20-thru20210502.fits"
    ids = [ONE.targetid] * 3 + [TWO.targetid] * 2
    z = zcatalog(
        tmp_path / "ztile.fits", ids, {"SURVEY": "main", "PROGRAM": "bright"}, Z=[0.2, 0.3, 0.4, 0.5, 0.6],
        TILEID=[10, 20, 20, 10, 11], SPGRPVAL=[20210502, 20210502, 20210501, 20210502, 20210502],
    )  # fmt: skip
    first, second = read(path, zcatalog=z)
    assert seen(first).redshift == 0.3
    assert second.status is Status.INPUT_ERROR  # of neither of its tiles is this coadd
    assert "differ in Z" in second.message


def test_a_coadd_of_unknown_survey_is_not_guessed_at(tmp_path: Path, coadd: Path) -> None:
    mine = coadd.rename(tmp_path / "mine.fits")
    with fits.open(mine, mode="update") as hdus:
        for card in ("SURVEY", "PROGRAM"):
            del hdus[0].header[card]
    ids = [ONE.targetid] * 2 + [TWO.targetid]
    z = zcatalog(tmp_path / "z.fits", ids, Z=[0.2, 0.3, 0.4], SURVEY=["sv3", "main", "main"], PROGRAM=["bright"] * 3)
    first, second, _ = read(mine, zcatalog=z)
    assert "they are of main/bright, sv3/bright, and the coadd does not say which" in first.message
    assert seen(second).redshift == 0.4


@pytest.mark.parametrize(
    ("columns", "status", "message"),
    [
        ({"Z": [np.nan]}, Status.NO_REDSHIFT, "no redshift: it is nan"),
        ({"Z": [-0.1]}, Status.REDSHIFT_OUT_OF_RANGE, "redshift -0.1000 is outside"),
        ({"SPECTYPE": ["QSO"]}, Status.NOT_A_GALAXY, "SPECTYPE is QSO"),
        ({"ZWARN": None, "SPECTYPE": None}, None, "z.fits has no ZWARN: taken as good; z.fits has no SPECTYPE"),
    ],
)
def test_odd_redshifts_cost_their_row(
    coadd: Path, tmp_path: Path, columns: dict[str, Any], status: Status | None, message: str
) -> None:
    result = read(coadd, [ONE.targetid], zcatalog=zcatalog(tmp_path / "z.fits", [ONE.targetid], **columns))[0]
    assert result.status is status
    assert message in result.message


def test_tables_that_cannot_be_joined_are_refused_by_name(coadd: Path, tmp_path: Path) -> None:
    ids = [ONE.targetid]

    def refused(match: str, **joins: Any) -> None:
        with pytest.raises(DataFileError, match=match):
            read(coadd, redshifts=0.1, **joins)

    lacking = zcatalog(tmp_path / "z.fits", ids, Z=None)
    refused(r"z\.fits: is not a redshift catalog: it has no column Z ", zcatalog=lacking)
    floats = write_table(tmp_path / "f.fits", "ZCATALOG", {"TARGETID": np.array([1.0]), "Z": np.array([0.1])})
    refused(r"f\.fits: HDU 1 \(ZCATALOG\): column TARGETID is stored as float64", zcatalog=floats)
    refused("no table has a column TARGETID", zcatalog=write_table(tmp_path / "n.fits", "Z", {"Z": np.array([0.1])}))
    refused(r"none\.fits: no such file", weights=tmp_path / "none.fits")
    refused("has neither WEIGHT_ZFAIL nor FRACZ_TILELOCID or WEIGHT_COMP", weights=zcatalog(tmp_path / "w.fits", ids))
    refused("has no column WEIGHT_SYS", weights=zcatalog(tmp_path / "w.fits", ids), columns={"W": "WEIGHT_SYS"})
    refused("is not FastSpecFit's catalog: it has no column VDISP", fastspecfit=zcatalog(tmp_path / "w.fits", ids))
    (tmp_path / "vi.csv").write_text("TARGETID,VI_Z\n1,0.1\n")
    refused("is not a table of visual inspection: it has no column VI_QUALITY", vi=tmp_path / "vi.csv")
    (tmp_path / "short.csv").write_text("TARGETID,VI_Z,VI_QUALITY,VI_SPECTYPE\n1,0.1\n")
    refused("row 2 has 2 cells, the header 4", vi=tmp_path / "short.csv")
    (tmp_path / "float.csv").write_text("TARGETID,VI_Z,VI_QUALITY,VI_SPECTYPE\n1e16,0.1,4,GALAXY\n")
    refused("TARGETID '1e16' is no integer", vi=tmp_path / "float.csv")
    refused("unknown kind of table", vi=write_table(tmp_path / "v.fit", "Z", {"Z": np.array([0.1])}))
    with pytest.raises(ConfigError, match=r"give a column of the table, or 1/COLUMN"):
        check_config(JoinOptions, {"columns": {"W": "A*B"}}, "joins")
    with pytest.raises(ConfigError, match="'weight' is no catalog column"):
        check_config(JoinOptions, {"columns": {"weight": "A"}}, "joins")


def test_targetids_are_exact(tmp_path: Path) -> None:
    z = zcatalog(tmp_path / "z.fits", [BIG + 1, BIG - 1, BIG], Z=[0.3, 0.1, 0.2])
    table = JoinTable.open(z)
    found = [table.join(t, "", "", {"Z": "number"}).row for t in (BIG - 1, BIG, BIG + 1, BIG + 2)]
    assert found == [{"Z": 0.1}, {"Z": 0.2}, {"Z": 0.3}, None]
    pq.write_table(pa.table({"TARGETID": [BIG, BIG + 1], "z": [0.2, 0.3]}), tmp_path / "z.parquet")
    assert JoinTable.open(tmp_path / "z.parquet").join(BIG + 1, "", "", {"Z": "number"}).row == {"Z": 0.3}
    (tmp_path / "z.csv").write_text(f"targetid, z\n{BIG},0.2\n{BIG + 1},\n")
    row = JoinTable.open(tmp_path / "z.csv").join(BIG + 1, "", "", {"Z": "number"}).row
    assert row is not None
    assert np.isnan(row["Z"])


def test_a_table_that_changed_is_read_again(tmp_path: Path) -> None:
    z = zcatalog(tmp_path / "z.fits", [1], Z=[0.1])
    first = JoinTable.open(z)
    assert JoinTable.open(z) is first
    zcatalog(z, [1, 2], Z=[0.1, 0.2])
    assert JoinTable.open(z).ids.tolist() == [1, 2]


def test_visual_inspection_comes_first(coadd: Path, tmp_path: Path) -> None:
    lines = ["TARGETID,RA,VI_Z,VI_QUALITY,VI_SPECTYPE", f"{ONE.targetid},1,0.31,3.5,GALAXY",
             f"{TWO.targetid},1,0.32,2.0,GALAXY"]  # fmt: skip
    (tmp_path / "EDR_VI_BGS_v1.csv").write_text("\n".join(lines) + "\n")
    z = zcatalog(tmp_path / "z.fits", [t.targetid for t in (ONE, TWO, THREE)], ZWARN=[4, 0, 0])
    first, second, third = read(coadd, zcatalog=z, vi=tmp_path / "EDR_VI_BGS_v1.csv")
    assert (seen(first).redshift, seen(first).meta["Z_SOURCE"]) == (0.31, "VI")
    assert (second.status, second.message) == (
        Status.REDSHIFT_WARNING, "EDR_VI_BGS_v1.csv: VI_QUALITY is 2, less than 2.5",
    )  # fmt: skip
    assert (seen(third).redshift, seen(third).meta["Z_SOURCE"]) == (0.25, "zcatalog")
    assert seen(read(coadd, [TWO.targetid], vi=tmp_path / "EDR_VI_BGS_v1.csv", vi_quality=2.0)[0]).redshift == 0.32
    old = [f"TARGETID,best z,best quality,best spectype\n{ONE.targetid},0.2,4,STAR\n"]
    (tmp_path / "old.csv").write_text("".join(old))
    assert read(coadd, [ONE.targetid], vi=tmp_path / "old.csv")[0].status is Status.NOT_A_GALAXY


def test_weights_fill_catalog_columns(coadd: Path, tmp_path: Path) -> None:
    lss = zcatalog(
        tmp_path / "BGS_BRIGHT_full.dat.fits", [ONE.targetid, TWO.targetid], WEIGHT_ZFAIL=[1.25, 1.0],
        FRACZ_TILELOCID=[0.5, 0.0], WEIGHT=[2.5, 3.0],
    )  # fmt: skip
    first, second, third = read(coadd, redshifts=0.1, weights=lss)
    assert (seen(first).meta["W_ZFAIL"], seen(first).meta["W_FIBASSIGN"]) == (1.25, 2.0)
    assert "W_FIBASSIGN" not in seen(second).meta
    assert "FRACZ_TILELOCID of BGS_BRIGHT_full.dat.fits is 0: W_FIBASSIGN is unknown" in second.message
    assert "BGS_BRIGHT_full.dat.fits has no weights for it" in third.message
    chosen = read(coadd, [ONE.targetid], redshifts=0.1, weights=lss, columns={"W_LSS": "weight"})[0]
    meta = seen(chosen).meta
    assert meta["W_LSS"] == 2.5
    assert "W_ZFAIL" not in meta
    assert meta["SURVEY_COLUMNS"]["W_LSS"] == {
        "dtype": "f8", "unit": "", "description": "WEIGHT of BGS_BRIGHT_full.dat.fits",
    }  # fmt: skip
    assert "MAG_R" in meta["SURVEY_COLUMNS"]


def test_weights_of_a_clustering_catalog(coadd: Path, tmp_path: Path) -> None:
    """It has WEIGHT_COMP in place of FRACZ_TILELOCID."""
    lss = zcatalog(tmp_path / "c.fits", [ONE.targetid], WEIGHT_ZFAIL=[1.0], WEIGHT_COMP=[1.5], WEIGHT_SYS=[1.1])
    meta = seen(read(coadd, [ONE.targetid], redshifts=0.1, weights=lss)[0]).meta
    assert (meta["W_ZFAIL"], meta["W_FIBASSIGN"]) == (1.0, 1.5)


def fastspec(path: Path, ids: list[int], **columns: Any) -> Path:
    """FastSpecFit's three tables, row for row; dispersion and lines in the second and third."""
    n = len(ids)
    key = {"TARGETID": np.array(ids, np.int64), "SURVEY": np.full(n, "main"), "PROGRAM": np.full(n, "bright")}
    spec = {"VDISP": np.full(n, 180.0), "VDISP_IVAR": np.full(n, 0.01)}
    line = {"HALPHA_FLUX": np.full(n, 50.0), "HALPHA_FLUX_IVAR": np.full(n, 4.0)}
    line |= {k: np.asarray(v) for k, v in columns.items() if k in line}
    spec |= {k: np.asarray(v) for k, v in columns.items() if k in spec}
    paths = [write_table(path.with_suffix(f".{name}"), name, key | more)
             for name, more in (("METADATA", {}), ("SPECPHOT", spec), ("FASTSPEC", line))]  # fmt: skip
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for part in paths:
        with fits.open(part) as one:
            hdus.append(one[1].copy())
    return write(hdus, path)


def test_dispersion_and_lines_of_fastspecfit(coadd: Path, tmp_path: Path) -> None:
    table = fastspec(
        tmp_path / "fastspec-main-bright.fits", [ONE.targetid, TWO.targetid], VDISP=[180.0, 125.0],
        VDISP_IVAR=[0.01, 0.0], HALPHA_FLUX=[50.0, np.nan],
    )  # fmt: skip
    first, second, third = read(coadd, redshifts=0.1, fastspecfit=table)
    meta = seen(first).meta
    assert (meta["FASTSPEC_VDISP"], meta["FASTSPEC_VDISP_ERR"]) == (180.0, 10.0)
    assert (meta["FASTSPEC_HALPHA_FLUX"], meta["FASTSPEC_HALPHA_FLUX_ERR"]) == (50.0, 0.5)
    assert meta["SURVEY_COLUMNS"]["FASTSPEC_VDISP"]["unit"] == "km/s"
    assert seen(first).vdisp_kms == 180.0
    assert np.isnan(seen(second).vdisp_kms)
    assert not [k for k in seen(second).meta if k.startswith("FASTSPEC")]  # 125 km/s with ivar 0 was not measured
    assert "fastspec-main-bright.fits has no row for it" in third.message


def test_photometry_of_another_release_is_found_by_place_and_said(coadd: Path, tmp_path: Path) -> None:
    n = 2
    dr10 = {
        "RELEASE": np.full(n, 10000), "BRICKID": np.full(n, 500_000), "OBJID": np.array([1, 7]),
        "RA": np.array([150.0, 150.0 + 0.2 / 3600]), "DEC": np.full(n, 2.0), "EBV": np.full(n, 0.05),
        "FLUX_R": np.array([33.0, 44.0]), "FLUX_IVAR_R": np.full(n, 9.0), "TYPE": np.full(n, "EXP"),
        "FLUX_I": np.array([25.0, 35.0]), "FLUX_IVAR_I": np.full(n, 16.0),
        "MW_TRANSMISSION_I": np.full(n, 10 ** (-0.4 * 1.592 * 0.05)),
    }  # fmt: skip
    sweep = write_table(tmp_path / "sweep-150p000-160p005.fits", "SWEEP", dr10)
    options = ReadOptions(bands=("r", "i", "z"))
    first = seen(read_observations(coadd, None, sweep, [ONE.targetid], options, 0.1)[0])
    message = read_observations(coadd, None, sweep, [ONE.targetid], options, 0.1)[0].message
    assert "catalog's source is of RELEASE 10000, the target's of 9010: found by position (0.00 arcsec)" in message
    assert first.photometry is not None
    assert first.photometry.bands == ("decam2014-r", "decam2014-i")
    # i is dereddened as the Legacy Surveys' MW_TRANSMISSION_I does it, its ivar by the square
    t = dr10["MW_TRANSMISSION_I"][0]
    assert first.photometry.flux[1] == pytest.approx(25.0 / t, rel=2e-4)
    assert first.photometry.ivar[1] == pytest.approx(16.0 * t**2, rel=4e-4)
    by_id = replace(ONE, targetid=source_id(7, release=10000))
    assert load_system("legacy").band("i").filter_at("N") is None
    other = write_production(tmp_path / "x", {"healpix/main/bright/0/6/main-bright-6": [by_id]})
    path = other / "healpix/main/bright/0/6/coadd-main-bright-6.fits"
    match = read_observations(path, None, sweep, options=options)[0]
    assert "RELEASE" not in match.message
    assert seen(match).meta["PHOTOMETRY_MATCH"] == "RELEASE,BRICKID,OBJID"


def test_a_run_reads_what_it_joins(coadd: Path, tmp_path: Path) -> None:
    z = zcatalog(tmp_path / "z.fits", [ONE.targetid])
    inputs = {"paths": [str(coadd)], "joins": {"zcatalog": str(z)}}
    config = parse_config({"run": {"output": str(tmp_path / "out")}, "inputs": inputs})
    results = list(make_reader(config.inputs).read(coadd, [ONE.targetid], [0]))
    assert [seen(r).redshift for r in results] == [0.25]
    assert parse_config(config.model_dump()) == config
    with pytest.raises(ConfigError, match="joins are for DESI's coadds"):
        parse_config({"run": {"output": "o"}, "inputs": inputs | {"reader": "photometry"}})
    assert open_joins(JoinOptions()) is None


def test_a_real_redrock_file_joins_as_a_catalog(reference_dir: Path) -> None:
    folder = reference_dir / "desi"
    result = read_observations(
        folder / "coadd-4-80613-thru20210324.fits",
        options=ReadOptions(joins=JoinOptions(zcatalog=folder / "redrock-4-80613-thru20210324.fits")),
    )[0]
    assert (round(seen(result).redshift, 4), seen(result).meta["Z_SOURCE"]) == (0.3687, "zcatalog")


@pytest.mark.parametrize("kind", ["fits", "csv", "parquet"])
def test_damaged_tables_end_in_errors_of_ours(tmp_path: Path, kind: str) -> None:
    """Bytes changed, cut off, or put in: a table is read or refused, and a row's error names the table."""
    whole = zcatalog(tmp_path / "z.fits", [1, 2, 3], SURVEY=["main"] * 3, PROGRAM=["bright"] * 3)
    if kind == "csv":
        whole = tmp_path / "z.csv"
        whole.write_text(
            "TARGETID,SURVEY,PROGRAM,Z,ZWARN,SPECTYPE\n1,main,bright,0.1,0,GALAXY\n2,main,dark,0.2,4,QSO\n"
        )
    elif kind == "parquet":
        whole = tmp_path / "z.parquet"
        pq.write_table(pa.table({"TARGETID": [1, 2, 3], "Z": [0.1, 0.2, 0.3], "SPECTYPE": ["GALAXY"] * 3}), whole)
    rng, contents, refused = np.random.default_rng(7), whole.read_bytes(), 0
    for k in range(60):
        data, place = bytearray(contents), int(rng.integers(len(contents)))
        if k % 3 == 0:
            data[place] = int(rng.integers(256))
        elif k % 3 == 1:
            data = data[:place]
        else:
            data[place:place] = bytes(rng.integers(0, 256, 9).tolist())
        damaged = tmp_path / f"{k}.{kind}"
        damaged.write_bytes(data)
        try:
            joins = open_joins(JoinOptions(zcatalog=damaged))
        except DataFileError:
            refused += 1
            continue
        assert joins is not None
        for targetid in (1, 2, 3):
            with contextlib.suppress(InputError):
                joins.redshift(targetid, Origin("main", "bright"))
    assert refused > 20


def test_the_command_joins_as_a_run_does(coadd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``provabgs fit`` hands the reader what ``[inputs.joins]`` would; the fit itself is stopped."""
    ids = [ONE.targetid, TWO.targetid]
    z = zcatalog(tmp_path / "z.fits", ids)
    lss = zcatalog(tmp_path / "lss.fits", ids, WEIGHT=[2.0, 4.0])
    fast = fastspec(tmp_path / "fast.fits", ids)
    (tmp_path / "vi.csv").write_text(f"TARGETID,VI_Z,VI_QUALITY,VI_SPECTYPE\n{TWO.targetid},0.3,2,GALAXY\n")
    read_by: list[list[TargetResult]] = []

    def stop(targets: list[TargetResult], *_: Any) -> Any:
        read_by.append(list(targets))
        raise InputError("stopped")

    monkeypatch.setattr(cli_fit, "_fit_with_progress", stop)

    def fit(*options: str) -> str:
        done = CliRunner().invoke(app, ["fit", str(coadd), "-o", str(tmp_path / "out.h5"), *options])
        return str(done.exception)

    tables = ["--zcatalog", str(z), "--weights", str(lss), "--fastspecfit", str(fast), "--vi", str(tmp_path / "vi.csv")]
    more = ["--columns", "W_LSS=WEIGHT", "--columns", "W_INV = 1/WEIGHT"]
    assert fit(*tables, *more, "--vi-quality", "2") == "stopped"
    joins = {
        "zcatalog": str(z), "weights": str(lss), "fastspecfit": str(fast), "vi": str(tmp_path / "vi.csv"),
        "vi_quality": 2, "columns": {"W_LSS": "WEIGHT", "W_INV": "1/WEIGHT"},
    }  # fmt: skip
    config = parse_config({"run": {"output": "o"}, "inputs": {"paths": [str(coadd)], "joins": joins}})
    run = list(make_reader(config.inputs).read(coadd, [*ids, THREE.targetid], [0, 1, 2]))
    assert [(r.status, r.message) for r in read_by[0]] == [(r.status, r.message) for r in run]
    assert [seen(r).meta for r in read_by[0][:2]] == [seen(r).meta for r in run[:2]]
    assert [seen(r).redshift for r in run[:2]] == [0.25, 0.3]
    assert (seen(run[1]).meta["W_INV"], seen(run[1]).vdisp_kms) == (0.25, 180.0)
    assert fit(*tables, "--columns", "WEIGHT") == "--columns 'WEIGHT': give NAME=COLUMN or NAME=1/COLUMN"
    assert "which is not given" in fit("--columns", "W=WEIGHT")
    assert "'w' is no catalog column" in fit(*tables, "--columns", "w=WEIGHT")
    assert "none.fits: no such file" in fit("--zcatalog", str(tmp_path / "none.fits"))
    (tmp_path / "out.h5").symlink_to(z)
    assert "is an input of this fit" in fit(*tables)
