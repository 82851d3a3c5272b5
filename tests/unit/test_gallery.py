"""Galleries without a browser: chunks, folders that are left alone, what pages hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from provabgs.catalog.observed import write_fits
from provabgs.catalog.query import Catalog
from provabgs.catalog.shard import read_shard, write_shard
from provabgs.catalog.store import write_catalog
from provabgs.cli.main import app
from provabgs.core.errors import DataFileError, InputError
from provabgs.core.status import Status
from provabgs.desi.assemble import iter_observations
from provabgs.gallery.pack import pack, read_chunk, unpack, write_chunk
from provabgs.gallery.page import page_of
from provabgs.gallery.site import ENTRIES, MARKER, build_site, page_name
from provabgs.gallery.table import ROWS, drawn_range
from provabgs.inference.posterior import Posterior, identity_of
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.pipelines.dry_run import synthetic_posterior
from tests.support.desi_files import Target, source_id, write_pair
from tests.support.galleries import FIRST, HOSTILE, small_catalog, small_posteriors


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_catalog(tmp_path_factory.mktemp("gallery") / "catalog")


@pytest.fixture(scope="module")
def site(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with Catalog.open(catalog) as opened:
        return build_site(opened, tmp_path_factory.mktemp("sites") / "site", pages=5).page.parent


def chunk(site: Path, name: str) -> dict:
    """A chunk of a site."""
    found, value = read_chunk(site / "data" / f"{name}.js")
    assert found == name
    return value


def test_chunks_keep_every_value(tmp_path: Path) -> None:
    columns = {
        "A": np.array([1.5, np.nan, -np.inf, 3e38], np.float32),
        "B": np.array([1 / 3, np.pi, 0.0, -1e300]),
        "C": np.array([FIRST, -1, 2**62, 0]),
        "D": np.array([True, False, True, True]),
        "E": np.array([1, -2, 3, 4], np.int16),
    }
    write_chunk(tmp_path / "a.js", "a", pack(columns, {"T": [HOSTILE, "", "x", "y"]}))
    name, value = read_chunk(tmp_path / "a.js")
    assert (name, value["text"]["T"][0]) == ("a", HOSTILE)
    back = unpack(value)
    for key, array in columns.items():
        np.testing.assert_array_equal(back[key], array)
        assert back[key].dtype == (np.uint8 if array.dtype == bool else array.dtype)


def test_nothing_hostile_reaches_a_parser(tmp_path: Path) -> None:
    write_chunk(tmp_path / "a.js", "a", {"x": HOSTILE, "y": [float("nan"), np.float32(np.inf)]})
    written = (tmp_path / "a.js").read_bytes()
    assert b"<" not in written
    assert b"\xe2\x80\xa8" not in written  # U+2028 ends a line of older JavaScript
    assert read_chunk(tmp_path / "a.js")[1] == {"x": HOSTILE, "y": [None, None]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"A": np.zeros(2), "B": np.zeros(3)}, "lengths"),
        ({"A": np.zeros(2, dtype=complex)}, "column A: type complex128"),
        ({"A": np.array(["a"])}, "column A"),
    ],
)
def test_columns_that_pages_cannot_read_are_refused(columns: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(columns)


def test_the_overview_has_the_catalogs_numbers(site: Path, catalog: Path) -> None:
    about = chunk(site, "site")
    with Catalog.open(catalog) as opened:
        table = opened.table()
    assert about["n"] == len(table) == 13
    files = {c["name"]: c for c in about["columns"]}
    for name in ("TARGETID", "Z", "LOGMSTAR_P50", "LOGMSTAR_P16", "STATUS", "FLAG", "RA"):
        (values,) = unpack(chunk(site, f"columns/{files[name]['file']}")).values()
        np.testing.assert_array_equal(values, np.asarray(table[name]))
    assert files["PROGRAM"]["categories"] == ["", "dark", "bright"] or set(files["PROGRAM"]["categories"]) == {
        "", "dark", "bright"}  # fmt: skip
    assert (about["x"], about["y"]) == ("LOGMSTAR_P50", "LOGSFR_100MYR_P50")
    assert files["LOGMSTAR_P50"]["unit"] == "dex(Msun)"
    assert not [n for n in files if n.endswith("_RHAT")]
    counts = unpack(about["density"]["counts"])["counts"]
    assert counts.sum() == 12


def test_rows_hold_every_column_of_the_summary(site: Path, catalog: Path) -> None:
    block = chunk(site, "rows/0")
    with Catalog.open(catalog) as opened:
        table, columns = opened.table(), opened.columns
    values = unpack(block) | block["text"]
    assert set(values) == set(columns)
    np.testing.assert_array_equal(values["TARGETID"], np.asarray(table["TARGETID"]))
    np.testing.assert_allclose(values["LOGMSTAR_BF"], np.asarray(table["LOGMSTAR_BF"], dtype=float))
    assert HOSTILE in values["MESSAGE"]


def test_rows_are_cut_into_blocks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one = synthetic_posterior(1, rng, 8)
    write_shard(tmp_path / "many.h5", [replace(one, targetid=i) for i in range(ROWS + 44)])
    with Catalog.open(tmp_path / "many.h5") as opened:
        index = build_site(opened, tmp_path / "site", pages=3).page
    assert [chunk(index.parent, f"rows/{k}")["n"] for k in range(2)] == [ROWS, 44]
    assert unpack(chunk(index.parent, "rows/1"))["TARGETID"][-1] == ROWS + 43
    assert chunk(index.parent, "site")["pages"] == [0, 150, 299]


def test_pages_hold_draws_and_histories(site: Path, catalog: Path) -> None:
    about = chunk(site, "site")
    assert len(about["pages"]) == 5
    with Catalog.open(catalog) as opened:
        ids = np.asarray(opened.table(["TARGETID"])["TARGETID"])
        row = about["pages"][2]
        draws = np.asarray(opened.samples([ids[row]], ["LOGMSTAR"])["LOGMSTAR"])[0, :60]
    page = chunk(site, page_name(row))
    assert page["targetid"] == str(ids[row])
    np.testing.assert_allclose(unpack(page["draws"])["logmstar_surviving"], draws, rtol=1e-6)
    history = unpack(page["history"])
    assert np.all(history["sfr_low95"] <= history["sfr_median"])
    assert "holds no data" in page["missing"]
    key = [q["name"] for q in page["quantities"] if q["key"]]
    assert key == ["logmstar_surviving", "log_sfr_100myr", "log_z_mw", "t_age_mw", "tau_ism"]


def test_a_page_shows_spectrum_and_bands_where_the_file_keeps_them(tmp_path: Path) -> None:
    wave = np.linspace(4000, 9000, 400)
    spectrum = Spectrum("any", wave, np.full(400, 5.0), np.full(400, 4.0), sigma_aa=2.0)
    bands = Photometry(("decam2014-g", "decam2014-r"), np.array([40.0, 60.0]), np.array([1.0, 0.5]))
    data = Observation(0.1, (spectrum,), bands, fiber_fraction=(0.3, 0.1), targetid=FIRST)
    posterior = synthetic_posterior(FIRST, np.random.default_rng(0), 40)
    write_fits(tmp_path / "one.h5", [(posterior, data)])
    with Catalog.open(tmp_path / "one.h5") as opened:
        built = build_site(opened, tmp_path / "site")
    page = chunk(built.page.parent, page_name(0))
    pixels = unpack(page["spectrum"]["pixels"])
    np.testing.assert_allclose(pixels["wave"], wave, rtol=1e-6)
    np.testing.assert_allclose(pixels["flux"], 5.0, rtol=1e-6)
    assert np.any(pixels["state"] == 1)
    assert [(b["name"], b["flux"]) for b in page["bands"]] == [("g", 40.0), ("r", 60.0)]
    strong = {name for name, _, is_strong in page["lines"] if is_strong}
    assert strong == {"Halpha", "Hbeta", "[OII] 3728", "[OIII] 4960", "[OIII] 5008"}
    assert page["missing"] == ""
    root = built.page.parent
    loaded = [f for pattern in ("assets/*", "data/*.js", "data/*/*/*.js", "data/rows/0.js") for f in root.glob(pattern)]
    assert len(loaded) == 11
    assert sum(f.stat().st_size for f in loaded) < 2e6


def test_a_galaxy_without_samples_has_a_page_of_words() -> None:
    page = page_of(Posterior(7, 0.3, Status.UNOBSERVED, "no exposure"))
    assert (page["message"], page["words"]) == ("no exposure", [])
    assert "draws" not in page


def test_a_site_is_replaced_and_nothing_else(catalog: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    with Catalog.open(catalog) as opened:
        target.mkdir()
        build_site(opened, target, pages=0)
        first = (target / "data" / "site.js").stat().st_ino
        build_site(opened, target, pages=0, title="again")
        assert (target / "data" / "site.js").stat().st_ino != first
        assert chunk(target, "site")["title"] == "again"
        assert {p.name for p in target.iterdir()} == ENTRIES
        assert [p.name for p in tmp_path.iterdir()] == ["site"]
        (target / "notes.txt").write_text("mine")
        with pytest.raises(InputError, match=r"holds 'notes\.txt', which is not of the gallery"):
            build_site(opened, target, pages=0)
        assert (target / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (None, "is no gallery"),
        ('{"format": "provabgs-gallery-0"}', "format 'provabgs-gallery-0', not 'provabgs-gallery-1'"),
        ("not JSON", "a gallery of format None"),
    ],
)
def test_folders_of_others_are_left_alone(catalog: Path, tmp_path: Path, marker: str | None, message: str) -> None:
    (tmp_path / "index.html").write_text("mine")
    if marker is not None:
        (tmp_path / MARKER).write_text(marker)
    with Catalog.open(catalog) as opened, pytest.raises(InputError, match=message):
        build_site(opened, tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"


def test_a_file_is_no_folder(catalog: Path, tmp_path: Path) -> None:
    (tmp_path / "site").write_text("mine")
    with Catalog.open(catalog) as opened, pytest.raises(InputError, match="is a file"):
        build_site(opened, tmp_path / "site")


def test_a_failed_build_leaves_the_old_site(catalog: Path, tmp_path: Path) -> None:
    with Catalog.open(catalog) as opened:
        build_site(opened, tmp_path / "site", pages=0, title="old")
        empty = opened.select("Z > 5")
        with pytest.raises(InputError, match="no galaxies to show"):
            build_site(empty, tmp_path / "site")

        def stop(what: str, _done: int, _total: int) -> None:
            raise KeyboardInterrupt(what)

        with pytest.raises(KeyboardInterrupt):
            build_site(opened, tmp_path / "site", progress=stop)
    assert chunk(tmp_path / "site", "site")["title"] == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


def test_a_catalog_without_samples_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "none.h5", [p for p in small_posteriors(2) if not p.status.has_samples])
    with (
        Catalog.open(tmp_path / "none.h5") as opened,
        pytest.raises(InputError, match="none of its 1 galaxies has samples"),
    ):
        build_site(opened, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_a_damaged_shard_is_named(catalog: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(catalog, tmp_path / "catalog")
    for shard in copy.rglob("*.h5"):
        shard.write_bytes(shard.read_bytes()[:2000])
    with Catalog.open(copy) as opened, pytest.raises(DataFileError, match=r"\.h5"):
        build_site(opened, tmp_path / "site")


def test_one_page_that_fails_costs_itself(tmp_path: Path) -> None:
    good = synthetic_posterior(1, np.random.default_rng(0), 8)
    config = json.loads(good.config)
    config["model"]["library"] = "absent.h5"
    write_shard(tmp_path / "a.h5", [good, replace(good, targetid=2, config=json.dumps(config))])
    with Catalog.open(tmp_path / "a.h5") as opened:
        index = build_site(opened, tmp_path / "site").page
    assert "history" in chunk(index.parent, page_name(0))
    assert "absent.h5" in chunk(index.parent, page_name(1))["missing"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, np.nan], (0.92, 2.08)),
        ([np.nan], (0.0, 1.0)),
        ([3.0, 3.0], (2.85, 3.15)),
    ],
)
def test_plots_begin_around_the_values(values: list[float], expected: tuple[float, float]) -> None:
    assert drawn_range(np.array(values)) == pytest.approx(expected)


def test_plots_begin_without_the_farthest_values() -> None:
    low, high = drawn_range(np.append(np.random.default_rng(0).normal(0, 1, 2000), -30.0))
    assert -4 < low < high < 4


def test_the_commands_build_and_say_where(catalog: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(
        app, ["gallery", str(catalog), "-o", str(tmp_path / "site"), "-w", "STATUS == 0", "--pages", "1"]
    )
    assert done.exit_code == 0, done.output
    assert "11 galaxies, 1 of them with data and draws" in done.stdout
    assert f"open {tmp_path / 'site' / 'index.html'} in a browser" in done.stdout
    write_shard(tmp_path / "one.h5", [synthetic_posterior(FIRST, np.random.default_rng(0), 8)])
    done = runner.invoke(app, ["view", str(tmp_path / "one.h5"), "--no-open", "-o", str(tmp_path / "view")])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == (tmp_path / "view" / "index.html").as_uri()
    assert read_shard(tmp_path / "one.h5")[0].targetid == FIRST


def test_several_files_make_one_gallery(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "b").mkdir()
    files = [tmp_path / "a.h5", tmp_path / "b" / "c.h5"]
    for k, file in enumerate(files):
        write_shard(file, [synthetic_posterior(10 * k + i, rng, 8) for i in range(2)])
    options = ["-o", str(tmp_path / "site")]
    done = CliRunner().invoke(app, ["gallery", *map(str, files), *options])
    assert done.exit_code == 0, done.output
    assert unpack(chunk(tmp_path / "site", "rows/0"))["TARGETID"].tolist() == [0, 1, 10, 11]
    assert chunk(tmp_path / "site", page_name(3))["targetid"] == "11"
    assert chunk(tmp_path / "site", "site")["title"] == "2 posterior files"
    with Catalog.open_files(files) as opened:
        both = opened.samples([11, 0], ["LOGMSTAR"])
    with Catalog.open(files[1]) as opened:
        np.testing.assert_array_equal(both["LOGMSTAR"][0], opened.samples([11], ["LOGMSTAR"])["LOGMSTAR"][0])
    with pytest.raises(InputError, match="no posterior file"):
        Catalog.open_files([])


def test_fits_of_one_galaxy_are_told_apart(tmp_path: Path) -> None:
    """A TARGETID twice: the table says how many pixels each fit had."""
    made = synthetic_posterior(7, np.random.default_rng(0), 8)
    for name, posteriors in (("once", [made]), ("twice", [made, replace(made, seed=2)])):
        files = [tmp_path / f"{name}{k}.h5" for k in range(len(posteriors))]
        for file, posterior in zip(files, posteriors, strict=True):
            write_shard(file, [posterior])
        with Catalog.open_files(files) as opened:
            build_site(opened, tmp_path / name)
        assert ("DOF_SPEC" in chunk(tmp_path / name, "site")["listed"]) == (name == "twice")


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Path]:
    """A catalog of two rows of a coadd, the second with a hash of other data, and the TOML file of its run."""
    coadd = write_pair(tmp_path, [Target(source_id(1)), Target(source_id(2))])
    targets = list(iter_observations(coadd))
    rows = []
    for target in targets:
        assert target.observation is not None
        made = synthetic_posterior(target.observation.targetid, np.random.default_rng(target.row), 30)
        identity = identity_of(target.observation)
        identity["meta"] = {"INPUT": coadd.name, "ROW": target.row}
        rows.append(replace(made, **identity | {"redshift": target.observation.redshift}))
    rows[1] = replace(rows[1], data_hash="0" * 64)
    rows.append(replace(rows[0], targetid=3, meta={"INPUT": "other.fits", "ROW": 0}))
    write_catalog(tmp_path / "catalog", rows)
    settings = tmp_path / "run.toml"
    settings.write_text(f'[run]\noutput = "catalog"\n[inputs]\npaths = ["{coadd.name}"]\n')
    return tmp_path / "catalog", settings


def test_spectra_come_from_the_inputs_of_the_run(run: tuple[Path, Path], tmp_path: Path) -> None:
    catalog, settings = run
    options = ["--data", str(settings), "-o", str(tmp_path / "site")]
    done = CliRunner().invoke(app, ["gallery", str(catalog), *options])
    assert done.exit_code == 0, done.output
    pages = {page["targetid"]: page for page in (chunk(tmp_path / "site", page_name(k)) for k in range(3))}
    good, changed, foreign = (pages[str(i)] for i in (source_id(1), source_id(2), 3))
    assert good["missing"] == ""
    assert len(good["spectrum"]["cameras"]) == 3
    assert len(good["bands"]) >= 3
    assert "other data than were fitted; restore the file" in changed["missing"]
    assert "was read from 'other.fits', which is none of the run's inputs" in foreign["missing"]
    assert "spectrum" not in changed
    assert "history" in changed
