"""Coadds of a production by survey, program, pixel, tile and night; what survey and program a row is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from provabgs.cli.main import app
from provabgs.core.config import check_config
from provabgs.core.errors import ConfigError, InputError
from provabgs.core.status import Status
from provabgs.desi import ReadOptions, infer_redrock, read_observations
from provabgs.desi.coadd import CoaddFile
from provabgs.desi.paths import split_uniqpix, uniqpix_overlaps, uniqpix_paths
from provabgs.desi.production import production_root, readonly
from provabgs.desi.selection import DesiSelection, find_coadds
from provabgs.desi.target_bits import column_and_bit
from provabgs.pipelines.config import RunConfig, parse_config
from provabgs.pipelines.plan import make_plan
from tests.support.desi_files import Target, coadd_hdus, source_id, write, write_production, write_tiles

ONE, TWO, THREE = (Target(source_id(k)) for k in (1, 2, 3))


@pytest.fixture
def iron(tmp_path: Path) -> Path:
    """A production of DR1's layout; target 1 has a bright and a dark coadd, and one of a tile."""
    root = write_production(
        tmp_path / "redux/iron",
        {
            "healpix/main/bright/100/10016/main-bright-10016": [ONE, TWO],
            "healpix/main/bright/99/9999/main-bright-9999": [THREE],
            "healpix/main/dark/100/10016/main-dark-10016": [ONE],
            "healpix/sv3/bright/100/10016/sv3-bright-10016": [ONE],
            "tiles/cumulative/1000/20210401/0-1000-thru20210401": [ONE],
            "tiles/cumulative/1000/20210503/0-1000-thru20210503": [ONE],
            "tiles/cumulative/1000/20210503/3-1000-thru20210503": [TWO],
            "tiles/cumulative/2000/20210601/7-2000-thru20210601": [THREE],
            "tiles/pernight/1000/20210401/0-1000-20210401": [ONE],
        },
    )
    return write_tiles(root, [(1000, "main", "bright", 20210503), (2000, "sv3", "dark", 20210601)])


@pytest.fixture
def matterhorn(tmp_path: Path) -> Path:
    """A production that groups by uniqpix: 26400 is nside 64, pixel 10016; 6503 is nside 32, pixel 2407."""
    return write_production(
        tmp_path / "redux/matterhorn",
        {
            "spectra/main/bright/264/26400/main-bright-26400": [ONE],
            "spectra/main/bright/65/6503/main-bright-6503": [TWO],
        },
    )


def found(root: Path, **selection: Any) -> list[str]:
    """Names of the coadds that a selection takes."""
    chosen = check_config(DesiSelection, {"specprod": root.name, "redux": root.parent, **selection}, "test")
    return [f.coadd.name for f in find_coadds(chosen)]


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        ({"survey": "main", "program": "bright"}, ["main-bright-9999", "main-bright-10016"]),
        ({"survey": "main", "program": ["bright", "dark"], "healpix": 10016}, ["main-bright-10016", "main-dark-10016"]),
        (
            {"survey": ["sv3", "main"], "program": "bright"},
            ["sv3-bright-10016", "main-bright-9999", "main-bright-10016"],
        ),
        ({"tile": 1000}, ["0-1000-thru20210503", "3-1000-thru20210503"]),
        ({"tile": 1000, "night": 20210401}, ["0-1000-thru20210401"]),
        ({"tile": 1000, "petal": 3}, ["3-1000-thru20210503"]),
        ({"tile": 1000, "group": "pernight"}, ["0-1000-20210401"]),
        ({"group": "cumulative", "survey": "sv3", "program": "dark"}, ["7-2000-thru20210601"]),
        ({"group": "cumulative"}, ["0-1000-thru20210503", "3-1000-thru20210503", "7-2000-thru20210601"]),
    ],
)  # fmt: skip
def test_what_a_selection_takes(iron: Path, selection: dict[str, Any], names: list[str]) -> None:
    assert found(iron, **selection) == [f"coadd-{name}.fits" for name in names]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"survey": "main", "program": "backup"}, r"main/backup: no such folder; iron has main/bright, main/dark"),
        ({"survey": "main", "program": "bright", "healpix": [10016, 7, 8]}, r"has no coadd of healpix 7, 8 \(2 of 3\)"),
        ({"survey": "main", "program": "bright", "uniqpix": 26400}, r"has no folder spectra/, where coadds by uniqpix"),
        ({"tile": 1001}, r"cumulative/1001: no such tile"),
        ({"tile": 1000, "night": 20200101}, r"has no night 20200101 \(it has 20210401, 20210503\)"),
        ({"tile": 1000, "petal": 4}, r"coadd-4-1000-thru20210503\.fits: no such file; leave its petal out"),
        ({"tile": 2000, "survey": "main"}, r"tile 2000 is of sv3/dark, not of the survey"),
        ({"group": "cumulative", "survey": "cmx"}, r"no coadd of the selection \(survey cmx, group cumulative\)"),
    ],
)  # fmt: skip
def test_what_is_asked_for_is_there_or_named(iron: Path, selection: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        found(iron, **selection)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"survey": "main"}, "give survey and program, or tiles"),
        ({"healpix": 1, "tile": 2}, "healpix and tile are different groupings"),
        ({"healpix": 1, "group": "pernight"}, "does not go with healpix"),
        ({"survey": "main", "program": "dark", "night": 20210401}, "choose among coadds of tiles"),
        ({"tile": 1, "petal": 10}, "petals are 0 to 9"),
        ({"tile": 1.5}, "tile"),
        ({"tile": 1, "nigth": "last"}, "did you mean night"),
    ],
)
def test_selections_that_contradict_themselves(selection: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(DesiSelection, selection, "test")


def test_pixels_of_several_sizes(matterhorn: Path) -> None:
    names = ["coadd-main-bright-6503.fits", "coadd-main-bright-26400.fits"]
    assert found(matterhorn, survey="main", program="bright") == names
    assert found(matterhorn, survey="main", program="bright", uniqpix=26400) == names[1:]
    with pytest.raises(InputError, match=r"groups spectra by uniqpix.*give uniqpix = \[26400\], which cover them"):
        found(matterhorn, survey="main", program="bright", healpix=10016)
    with pytest.raises(InputError, match=r"give uniqpix = \[6503\]"):  # nside 32, pixel 2407, holds 9628 to 9631
        found(matterhorn, survey="main", program="bright", healpix=9630)
    file = CoaddFile.open(uniqpix_paths(matterhorn, "main", "bright", 6503).coadd)
    assert file.origin[:4] == ("main", "bright", "uniqpix", 6503)


def test_uniqpix_numbers() -> None:
    # examples of https://desidatamodel.readthedocs.io, spectra/SURVEY/PROGRAM/uniqpix-SURVEY-PROGRAM
    assert [split_uniqpix(u) for u in (4, 5, 15, 16, 699669)] == [(1, 0), (1, 1), (1, 11), (2, 0), (256, 437525)]
    for nside in (1, 2, 64, 256):
        assert split_uniqpix(4 * nside**2) == (nside, 0)
        assert split_uniqpix(16 * nside**2 - 1) == (nside, 12 * nside**2 - 1)
    assert uniqpix_overlaps(699669, 437525 // 16)
    assert not uniqpix_overlaps(699669, 437525 // 16 + 1)
    with pytest.raises(InputError, match="uniqpix 3 does not exist"):
        split_uniqpix(3)


def test_production_is_found_as_desispec_finds_it(iron: Path, tmp_path: Path) -> None:
    redux = iron.parent
    assert production_root("iron", env={"DESI_SPECTRO_REDUX": str(redux)}) == iron
    assert production_root(None, env={"DESI_SPECTRO_REDUX": str(redux), "SPECPROD": "iron"}) == iron
    below = tmp_path / "desi/spectro/redux/loa"
    mounted = tmp_path / "mount/spectro/redux/loa"
    for folder in (below, mounted):
        folder.mkdir(parents=True)
    env = {"DESI_ROOT": str(tmp_path / "desi")}
    assert production_root("loa", env=env) == below
    assert production_root("loa", env=env | {"DESI_ROOT_READONLY": str(tmp_path / "mount")}) == mounted
    assert production_root("loa", env=env | {"DESI_ROOT_READONLY": str(tmp_path / "gone")}) == below
    assert production_root("loa", env={"DESI_ROOT_READONLY": str(tmp_path / "mount")}) == mounted
    elsewhere = tmp_path / "other/file.fits"
    assert readonly(elsewhere, env | {"DESI_ROOT_READONLY": str(tmp_path / "mount")}) == elsewhere
    with pytest.raises(InputError, match=r"SPECPROD is not set"):
        production_root(None, env=env)
    with pytest.raises(InputError, match=r"set \$DESI_SPECTRO_REDUX or \$DESI_ROOT"):
        production_root("iron", env={})
    with pytest.raises(InputError, match=r"fuji: no such production"):
        production_root("fuji", env=env)


def test_nothing_is_written_to_a_production(iron: Path) -> None:
    folders = [iron, *(p for p in iron.rglob("*") if p.is_dir())]
    before = {p: p.stat().st_mtime_ns for p in iron.rglob("*")}
    for folder in folders:
        folder.chmod(0o555)
    try:
        make_plan(run_config(iron, survey="main", program="bright"))
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert {p: p.stat().st_mtime_ns for p in iron.rglob("*")} == before


def run_config(root: Path, duplicates: str = "apart", **selection: Any) -> RunConfig:
    desi = {"specprod": root.name, "redux": str(root.parent), **selection}
    inputs = {"desi": desi, "duplicates": duplicates}
    return parse_config({"run": {"output": str(root.parent.parent / "out")}, "inputs": inputs})


def test_one_target_in_two_programs_is_two_rows(iron: Path) -> None:
    config = run_config(iron, survey="main", program=["bright", "dark"], healpix=10016)
    plan = make_plan(config)
    assert sorted(zip(plan.targetid.tolist(), plan.sample.tolist(), strict=True)) == [
        (ONE.targetid, "main/bright"), (ONE.targetid, "main/dark"), (TWO.targetid, "main/bright"),
    ]  # fmt: skip
    assert (plan.n_apart, plan.n_left_out) == (1, 0)
    assert make_plan(config).sample.tolist() == plan.sample.tolist()  # from the cache of the first
    first = make_plan(run_config(iron, "first", survey="main", program=["bright", "dark"], healpix=10016))
    assert (len(first), first.n_left_out) == (2, 1)
    with pytest.raises(InputError, match=r"coadd-main-bright-10016\.fits \(row 0\) and .*main-dark"):
        make_plan(run_config(iron, "error", survey="main", program=["bright", "dark"], healpix=10016))
    assert parse_config(config.model_dump()) == config
    assert not parse_config({"run": {"output": "o"}, "inputs": {"paths": ["x"]}}).inputs.desi.is_asked_for


def test_one_target_twice_in_one_program_is_refused(iron: Path) -> None:
    with pytest.raises(InputError, match=rf"TARGETID {ONE.targetid} is in .*20210503\.fits .* both of main/bright; 1"):
        make_plan(run_config(iron, tile=1000, night=[20210401, 20210503]))


def test_rows_say_their_survey_and_program(iron: Path) -> None:
    for result in read_observations(iron / "healpix/main/dark/100/10016/coadd-main-dark-10016.fits"):
        assert result.observation is not None
        meta = result.observation.meta
        assert (meta["SURVEY"], meta["PROGRAM"], meta["SPGRP"], meta["SPGRPVAL"]) == ("main", "dark", "healpix", 10016)
    tile = iron / "tiles/cumulative/2000/20210601/coadd-7-2000-thru20210601.fits"
    bad = read_observations(tile, redshifts=float("nan"))[0]
    assert bad.status is Status.NO_REDSHIFT
    assert (bad.place["SURVEY"], bad.place["PROGRAM"], bad.place["TILEID"]) == ("sv3", "dark", 2000)
    assert infer_redrock(tile) is not None


def test_header_and_name_that_differ_are_said(tmp_path: Path) -> None:
    hdus = coadd_hdus([ONE])
    hdus[0].header.update({"SURVEY": "main", "PROGRAM": "dark"})
    result = read_observations(write(hdus, tmp_path / "coadd-sv3-bright-5.fits"), redshifts=0.1)[0]
    assert "header says main/dark and its name sv3/bright" in result.message
    assert result.place["PROGRAM"] == "dark"
    plain = CoaddFile.open(write(coadd_hdus([ONE]), tmp_path / "coadd-sv3-bright-6.fits"))
    assert plain.origin.label == "sv3/bright"
    unknown = CoaddFile.open(write(coadd_hdus([ONE]), tmp_path / "mine.fits"))
    assert (unknown.origin.label, unknown.origin.columns) == ("", {})


def test_real_coadds_say_where_they_are_from(reference_dir: Path) -> None:
    labels = {p.name: CoaddFile.open(p).origin.label for p in (reference_dir / "desi").glob("coadd-*.fits")}
    assert labels["coadd-special-dark-27247.fits"] == "special/dark"  # FIBERMAP's own PROGRAM is tertiary38
    assert labels["coadd-sv3-dark-26065.fits"] == "sv3/dark"
    assert labels["coadd-4-80613-thru20210324.fits"] == "sv1/"
    assert labels["coadd-5-169-thru20210419.fits"] == "sv3/"


def test_the_command_lists_what_a_run_would_take(iron: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    options = ["desi", "list", "--specprod", "iron", "--redux", str(iron.parent), "--program", "bright"]
    done = runner.invoke(app, [*options, "--survey", "main", "--survey", "sv3", "--healpix", "10016", "--count"])
    assert done.exit_code == 0, done.output
    assert [Path(line).name for line in done.stdout.splitlines()] == [
        "coadd-main-bright-10016.fits", "coadd-sv3-bright-10016.fits",
    ]  # fmt: skip
    assert "1 coadds of main/bright by healpix" in done.stderr
    assert "3 rows, 2 targets; 1 of them in several surveys or programs" in done.stderr
    run = tmp_path / "run.toml"
    run.write_text(
        '[run]\noutput = "out"\n[inputs.desi]\nspecprod = "iron"\nredux = "redux"\nsurvey = "main"\nprogram = "dark"\n'
    )
    done = runner.invoke(app, ["desi", "list", str(run)])
    assert [Path(line).name for line in done.stdout.splitlines()] == ["coadd-main-dark-10016.fits"]
    assert isinstance(runner.invoke(app, ["desi", "list"]).exception, ConfigError)


def test_bits_are_those_of_the_survey() -> None:
    assert column_and_bit("BGS_BRIGHT", "main") == ("BGS_TARGET", 1)
    assert column_and_bit("bgs_faint_hip", "sv3") == ("SV3_BGS_TARGET", 3)
    assert column_and_bit("BGS_WISE_SOUTH", "special") == ("BGS_TARGET", 18)
    assert column_and_bit("BGS_FIBMAG_NORTH", "sv1") == ("SV1_BGS_TARGET", 12)
    assert column_and_bit("LRG", "sv2") == ("SV2_DESI_TARGET", 0)
    with pytest.raises(ConfigError, match=r"BGS_WISE is no bit of SV1_BGS_TARGET .*leave out sv1"):
        column_and_bit("BGS_WISE", "sv1")
    with pytest.raises(ConfigError, match="survey 'unknown' are not known"):
        column_and_bit("BGS_ANY", "")
    with pytest.raises(ConfigError, match="did you mean BGS_BRIGHT"):
        check_config(DesiSelection, {"targets": "BGS_BRIGTH"}, "test")


def test_targets_are_chosen_by_name(iron: Path) -> None:
    bits = (0b01, 0b10, 0b11, 0)
    rows = [Target(source_id(k), fibermap={"BGS_TARGET": b, "SV3_BGS_TARGET": 0}) for k, b in enumerate(bits)]
    write_production(iron, {"healpix/main/bright/0/50/main-bright-50": rows})
    coadd = iron / "healpix/main/bright/0/50/coadd-main-bright-50.fits"
    for names, expected in ((("BGS_BRIGHT",), [1, 2]), (("BGS_FAINT", "BGS_BRIGHT"), [0, 1, 2]), ((), [0, 1, 2, 3])):
        read = read_observations(coadd, options=ReadOptions(targets=names))
        assert [r.row for r in read] == expected
        plan = make_plan(run_config(iron, survey="main", program="bright", healpix=50, targets=names))  # one cache
        assert sorted(plan.row.tolist()) == expected
    plan = make_plan(run_config(iron, survey="main", program="bright", healpix=[50, 9999], targets="BGS_BRIGHT"))
    assert len(plan) == 2
    assert [why for _, why in plan.unreadable if "9999.fits: FIBERMAP has no column BGS_TARGET" in why]
    done = CliRunner().invoke(
        app,
        ["desi", "list", "--specprod", "iron", "--redux", str(iron.parent), "--survey", "main", "--program", "bright",
         "--healpix", "50", "--targets", "BGS_BRIGHT", "--count"],
    )  # fmt: skip
    assert "2 rows, 2 targets; 0 of them" in done.stderr


def test_targets_of_a_real_coadd(reference_dir: Path) -> None:
    coadd = reference_dir / "desi" / "coadd-4-80613-thru20210324.fits"
    assert len(read_observations(coadd, options=ReadOptions(targets=("BGS_ANY",)))) == 1
    assert not read_observations(coadd, options=ReadOptions(targets=("QSO",)))
