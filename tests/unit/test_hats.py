"""A HATS export holds the catalog's rows and draws, in the layout of hats-import; lsdb and `Catalog` read the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from typer.testing import CliRunner

from provabgs.catalog import Catalog, write_catalog
from provabgs.catalog.hats import export_hats
from provabgs.catalog.hats_layout import INDEX, Pixel, healpix29, partition, read_properties, tiling
from provabgs.catalog.hats_margin import Margin
from provabgs.cli.main import app
from provabgs.core.errors import DataFileError, InputError
from provabgs.core.status import Status
from provabgs.gallery.site import build_site
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.pipelines.dry_run import synthetic_posterior
from provabgs.population.sources import open_source

N, DRAWS, ROWS = 260, 20, 60
MOVED = {"SHARD", "SHARD_ROW", "N_SAMPLES"}
"""Columns that say where and how many the draws are: the export's own."""


@pytest.fixture(scope="module")
def posteriors() -> list[Posterior]:
    """Galaxies over the poles and RA 0, of which one failed and one has fewer draws."""
    rng = np.random.default_rng(0)
    ra = np.concatenate([rng.uniform(-1, 1, N // 2) % 360, rng.uniform(0, 360, N - N // 2)])
    dec = np.concatenate([rng.uniform(-1, 1, N // 2), rng.uniform(89, 90, N - N // 2)])
    made = [
        replace(synthetic_posterior(i + 1, rng, 10 if i == 7 else 40), ra=float(ra[i]), dec=float(dec[i]))
        for i in range(N)
    ]
    made[5] = replace(made[5], meta={"MAG_R": 17.25, "IS_BGS_BRIGHT": 1})
    failed = Posterior.without_samples(
        Status.CRASHED, "bad", FitConfig(), 0, targetid=999, redshift=0.3, ra=1.0, dec=1.0
    )
    return [*made, failed]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, posteriors: list[Posterior]) -> Path:
    folder = tmp_path_factory.mktemp("store") / "catalog"
    write_catalog(folder, posteriors, n_samples=30, allow_mixed=True)
    return folder


@pytest.fixture(scope="module")
def hats(root: Path) -> Path:
    """The export that tests read."""
    with Catalog.open(root) as catalog:
        export_hats(catalog, root.parent / "bgs", draws=DRAWS, rows=ROWS, margin=0)
    return root.parent / "bgs"


def by_id(catalog: Catalog) -> Any:
    """All rows as an Arrow table, by TARGETID, less where draws are."""
    table = catalog.arrow().sort_by("TARGETID")
    return table.select([c for c in table.column_names if c not in MOVED])


# -- the layout ---------------------------------------------------------------------------------------------------


def test_pixels_are_the_coarsest_that_are_not_too_full() -> None:
    rng = np.random.default_rng(1)
    index = healpix29(rng.uniform(0, 40, 5000), rng.uniform(-5, 5, 5000))
    parts = partition(index, 300)
    for pixel, n in parts:
        shift = 2 * (29 - pixel.order)
        assert n == np.sum(index >> shift == pixel.number)
        assert n <= 300
        parent = np.sum(index >> shift + 2 == pixel.number // 4)
        assert pixel.order == 0 or parent > 300
    assert sum(n for _, n in parts) == 5000
    # galaxies at one place cannot be told apart by any pixel
    assert partition(np.full(10, index[0]), 3) == [(Pixel(18, int(index[0]) >> 22), 10)]


def test_the_order_of_the_sky_is_that_of_other_codes() -> None:
    """Against the definition: base pixel 4 holds RA 0, Dec 0; the children of pixel p are 4 p ... 4 p + 3."""
    assert healpix29(np.array([0.0]), np.array([0.0]))[0] >> 58 == 4
    spatial_index = pytest.importorskip("hats.pixel_math.spatial_index", reason="needs hats: pip install lsdb")
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(0, 360, 50_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 50_000)))
    np.testing.assert_array_equal(healpix29(ra, dec), spatial_index.compute_spatial_index(ra, dec))


def test_files_rows_and_metadata(root: Path, hats: Path) -> None:
    said = read_properties((hats / "hats.properties").read_text())
    assert (hats / "properties").read_text() == (hats / "hats.properties").read_text()
    assert said["obs_collection"] == "bgs"
    assert said["hats_nrows"] == str(N + 1)
    lines = (hats / "partition_info.csv").read_text().split()
    files = sorted((hats / "dataset").rglob("*.parquet"))
    assert lines[0] == "Norder,Npix"
    assert len(lines) - 1 == len(files) > 4
    assert int(said["hats_max_rows"]) <= ROWS
    ours = pq.read_schema(root / "summary.parquet")
    for path in files:
        table = pq.read_table(path, partitioning=None)
        pixel, order = int(path.stem.split("=")[1]), int(path.parent.parent.name.split("=")[1])
        assert path.parent.name == f"Dir={pixel // 10_000 * 10_000}"
        index = table[INDEX].to_numpy()
        np.testing.assert_array_equal(index, healpix29(table["RA"].to_numpy(), table["DEC"].to_numpy()))
        assert set(index >> 2 * (29 - order)) == {pixel}
        assert (np.diff(index) >= 0).all()
        for field in table.schema:
            if field.name in ours.names:
                assert field.metadata == ours.field(field.name).metadata, field.name
    drawn = table.schema.field("DRAWS")
    assert drawn.metadata[b"null"]
    assert {f.name: f.metadata[b"unit"] for f in drawn.type}["LOGMSTAR_FORMED"] == b"dex(Msun)"
    whole = pq.read_metadata(hats / "dataset" / "_metadata")
    assert whole.num_rows == N + 1
    assert pq.read_schema(hats / "dataset" / "_common_metadata").equals(table.schema)


# -- read by ourselves ----------------------------------------------------------------------------------------------


def test_catalog_answers_as_the_store_does(root: Path, hats: Path) -> None:
    store, opened = Catalog.open(root), Catalog.open(hats)
    assert len(opened) == N + 1
    assert opened.columns == store.columns
    assert by_id(opened).equals(by_id(store))
    query = "LOGMSTAR_P50 > 10 and Z < 0.3 and STATUS == 'CONVERGED'"
    assert 0 < len(opened.select(query)) < N
    assert by_id(opened.select(query)).equals(by_id(store.select(query)))
    assert by_id(opened.cone(0.5, 0.5, 0.5)).equals(by_id(store.cone(0.5, 0.5, 0.5)))
    assert len(opened.cone(0.5, 0.5, 0.5)) > 5
    assert opened.table(["Z", "SFR_1GYR_P50"]).columns["Z"].description


def test_draws_are_those_of_the_store_thinned(root: Path, hats: Path) -> None:
    names, ids = ["LOGMSTAR", "SFR_1GYR", "LOG_PROB"], [999, 8, 250, 1]
    theirs, ours = Catalog.open(hats).samples(ids, names), Catalog.open(root).samples(ids, names)
    places = np.linspace(0, 29, DRAWS).round().astype(int)
    for name in names:
        assert theirs[name].shape == (4, DRAWS)
        np.testing.assert_allclose(theirs[name][2:], ours[name][2:, places], rtol=1e-6)
        np.testing.assert_allclose(theirs[name][1, :10], ours[name][1, :10], rtol=1e-6)
        assert np.isnan(theirs[name][1, 10:]).all()
        assert np.isnan(theirs[name][0]).all()
    found = Catalog.open(hats).probability("LOGMSTAR > 10")
    draws = Catalog.open(hats).samples(found["TARGETID"], ["LOGMSTAR"])["LOGMSTAR"]
    known = found["N_SAMPLES"] > 0
    expected = (draws[known] > 10).sum(axis=1) / np.asarray(found["N_SAMPLES"][known])
    np.testing.assert_allclose(found["PROBABILITY"][known], expected)
    assert np.isnan(found["PROBABILITY"][~known]).all()


def test_a_selection_of_an_export_is_exported_again(hats: Path, tmp_path: Path) -> None:
    chosen = Catalog.open(hats).select("Z < 0.3")
    export_hats(chosen, tmp_path / "near", draws=5)
    again = Catalog.open(tmp_path / "near")
    assert by_id(again).equals(by_id(chosen))
    ids = np.sort(np.asarray(again.table(["TARGETID"])["TARGETID"]))
    places = np.linspace(0, DRAWS - 1, 5).round().astype(int)
    mine, theirs = (c.samples(ids[20:30], ["LOGMSTAR"])["LOGMSTAR"] for c in (again, chosen))
    np.testing.assert_array_equal(mine, theirs[:, places])


def test_through_fsspec(hats: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(hats), "/remote/bgs", recursive=True)
    try:
        local, remote = Catalog.open(hats), Catalog.open("memory://remote/bgs")
        assert by_id(remote.select("Z < 0.3")).equals(by_id(local.select("Z < 0.3")))
        mine, theirs = (c.samples([3, 4], ["LOGMSTAR"])["LOGMSTAR"] for c in (local, remote))
        np.testing.assert_array_equal(mine, theirs)
    finally:
        memory.rm("/remote", recursive=True)
    with pytest.raises(DataFileError, match="cannot be read as a HATS catalog"):
        Catalog.open("memory://remote/none")


# -- read by lsdb -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A Dask cluster of two threads."""
    pytest.importorskip("lsdb", reason="needs lsdb: pip install 'provabgs[hats]'")
    from dask.distributed import Client

    with (
        warnings.catch_warnings(),
        Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as client,
    ):
        warnings.simplefilter("ignore")
        yield client


@pytest.mark.filterwarnings("ignore")
def test_lsdb_opens_filters_and_crossmatches(client: Any, root: Path, hats: Path) -> None:
    import lsdb
    from hats.io.validation import is_valid_catalog

    store = Catalog.open(root)
    rows = store.arrow().sort_by("TARGETID").to_pandas().set_index("TARGETID")
    assert is_valid_catalog(hats, strict=True)
    opened = lsdb.open_catalog(hats)
    assert len(opened) == N + 1
    far = opened.query("Z > 0.3 and LOGMSTAR_P50 > 10").compute()
    expected = rows[(rows["Z"] > 0.3) & (rows["LOGMSTAR_P50"] > 10)]
    assert sorted(far["TARGETID"]) == sorted(expected.index)
    # every column of every row, null for null
    whole = opened.compute().set_index("TARGETID").sort_index()
    for name in rows.columns.difference(list(MOVED)):
        mine, theirs = rows[name], whole[name]
        np.testing.assert_array_equal(mine.isna(), theirs.isna(), err_msg=name)
        assert (mine[mine.notna()].to_numpy() == theirs[theirs.notna()].to_numpy()).all(), name
    # draws
    drawn = whole.loc[250, "DRAWS"]
    np.testing.assert_array_equal(drawn["LOGMSTAR"], Catalog.open(hats).samples([250], ["LOGMSTAR"])["LOGMSTAR"][0])
    chosen = opened.query("DRAWS.LOGMSTAR > 10")[["TARGETID", "DRAWS"]].compute().set_index("TARGETID")["DRAWS"]
    above = chosen.loc[250]
    assert (0 if above is None else len(above)) == np.sum(drawn["LOGMSTAR"] > 10)
    # against a small catalog of every third galaxy, 0.3 arcsec off
    some = rows.iloc[::3][["RA", "DEC"]].copy()
    some["DEC"] -= 0.3 / 3600 * np.sign(some["DEC"])
    some["NAME"] = some.index.to_numpy()
    other = lsdb.from_dataframe(some.reset_index(drop=True), ra_column="RA", dec_column="DEC", margin_threshold=5.0)
    found = opened.crossmatch(other, radius_arcsec=1.0, suffixes=("", "_other"), suffix_method="overlapping_columns")
    matched = found.compute()
    assert sorted(matched["NAME"]) == sorted(rows.index[::3])
    np.testing.assert_array_equal(matched["NAME"].to_numpy(), matched["TARGETID"].to_numpy())
    np.testing.assert_allclose(matched["_dist_arcsec"].to_numpy(dtype=float), 0.3, atol=1e-4)
    assert (
        matched.set_index("TARGETID")["LOGMSTAR_P50"]
        .sort_index()
        .equals(whole["LOGMSTAR_P50"].loc[sorted(rows.index[::3])])
    )


# -- margins ------------------------------------------------------------------------------------------------------


def test_margins_are_complete_and_near() -> None:
    """Against rings of points around each galaxy: every pixel within 5 arcsec has it, none beyond 40."""
    rng = np.random.default_rng(4)
    n = 1600
    ra = np.concatenate([rng.uniform(0, 360, n // 2), 90 + rng.uniform(-0.003, 0.003, n // 2)])
    dec = np.concatenate([rng.uniform(89.9, 90, n // 2), rng.uniform(60, 60.5, n // 2)])
    index = healpix29(ra, dec)
    margin = Margin(index, 40, 5.0)
    first = np.array([p.number << 2 * (29 - p.order) for p in margin.pixels])
    assert (np.diff(first) > 0).all()
    rows, pixels = margin.pairs(index)
    have = set(zip(rows.tolist(), pixels.tolist(), strict=True))
    home = np.searchsorted(first, index, side="right") - 1
    assert len(have) > 80
    assert not any(home[row] == pixel for row, pixel in have)
    assert any(n == 0 for _, n in tiling(index, 40))  # and margins of empty sky are there

    def ringed(radii: np.ndarray) -> set[tuple[int, int]]:
        place = SkyCoord(ra, dec, unit="deg")
        found = set()
        for radius in radii:
            for angle in np.arange(0, 360, 15):
                there = place.directional_offset_by(angle * u.deg, radius * u.arcsec)
                hit = np.searchsorted(first, healpix29(there.ra.deg, there.dec.deg), side="right") - 1
                away = np.flatnonzero(hit != home)
                found |= set(zip(away.tolist(), hit[away].tolist(), strict=True))
        return found

    assert ringed(np.array([1.0, 3.0, 5.0])) <= have
    assert have <= ringed(np.linspace(2, 40, 12))


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with galaxies on both sides of an edge of base pixels, exported with its margin."""
    rng = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("edges")
    dec = np.linspace(60, 70, 80)
    made = [
        replace(synthetic_posterior(i + 1, rng, 12), ra=90 + (-1) ** i * 0.4 / 3600 / np.cos(np.radians(d)), dec=d)
        for i, d in enumerate(dec.tolist())
    ]
    far = [replace(synthetic_posterior(1000 + i, rng, 12), ra=100.0 + i, dec=65.0) for i in range(10)]
    write_catalog(folder / "c", [*made, *far])
    export_hats(Catalog.open(folder / "c"), folder / "h", draws=6, rows=30)
    return folder


def test_a_collection_is_read_as_the_catalog_is(edges: Path) -> None:
    store, opened = Catalog.open(edges / "c"), Catalog.open(edges / "h")
    assert sorted(p.name for p in (edges / "h").iterdir()) == ["collection.properties", "h", "h_5arcs"]
    assert by_id(opened).equals(by_id(store))
    assert by_id(Catalog.open(f"file://{edges / 'h'}")).equals(by_id(store))
    assert opened.samples([1, 1001], ["LOGMSTAR"])["LOGMSTAR"].shape == (2, 6)
    assert by_id(Catalog.open(edges / "h" / "h")).equals(by_id(store))
    with pytest.raises(DataFileError, match="is the margin of a catalog; open h beside it"):
        Catalog.open(edges / "h" / "h_5arcs")
    margin = read_properties((edges / "h/h_5arcs/hats.properties").read_text())
    assert (margin["dataproduct_type"], margin["hats_margin_threshold"]) == ("margin", "5")
    assert int(margin["hats_nrows"]) >= 80
    with pytest.raises(InputError, match="nothing is overwritten"):
        export_hats(opened, edges / "h")
    for wrong in (-1.0, 1e5, float("nan")):
        with pytest.raises(InputError, match=r"need 0 \(none\) to 3600 arcsec"):
            export_hats(opened, edges / "x", margin=wrong)


def test_a_collection_that_names_nothing_is_told(tmp_path: Path) -> None:
    for text in ("obs_collection=h\n", "hats_primary_table_url=../h\n"):
        (tmp_path / "collection.properties").write_text(text)
        with pytest.raises(DataFileError, match=r"collection.properties names no catalog beside it"):
            Catalog.open(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_lsdb_needs_no_warning_on_the_right(client: Any, edges: Path) -> None:
    """Each galaxy's counterpart lies across the edge: found through the margin, as without pixels."""
    import lsdb
    from hats.io.validation import is_valid_catalog

    rows = Catalog.open(edges / "c").arrow(["TARGETID", "RA", "DEC"]).to_pandas()
    assert is_valid_catalog(edges / "h" / "h", strict=True)
    assert is_valid_catalog(edges / "h" / "h_5arcs", strict=True)
    mirrored = rows.assign(RA=np.where(rows["TARGETID"] < 1000, 180.0 - rows["RA"], rows["RA"]), NAME=rows["TARGETID"])
    other = lsdb.from_dataframe(mirrored[["NAME", "RA", "DEC"]], ra_column="RA", dec_column="DEC")
    names: dict[str, Any] = {"suffixes": ("_other", ""), "suffix_method": "overlapping_columns"}
    opened = lsdb.open_catalog(edges / "h")
    assert opened.margin is not None
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*margin.*")
        found = other.crossmatch(opened, radius_arcsec=2.0, **names)
    matched = found.compute()
    np.testing.assert_array_equal(np.sort(matched["NAME"]), np.sort(rows["TARGETID"]))
    np.testing.assert_array_equal(matched["NAME"].to_numpy(), matched["TARGETID"].to_numpy())
    export_hats(Catalog.open(edges / "c"), edges / "bare", rows=30, margin=0)
    with pytest.warns(RuntimeWarning, match="margin"):
        bare = other.crossmatch(lsdb.open_catalog(edges / "bare"), radius_arcsec=2.0, **names)
    assert len(bare.compute()) == 10  # what the margin is for


# -- what cannot be, and what breaks --------------------------------------------------------------------------------


def test_no_position_is_named_and_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    made = [replace(synthetic_posterior(i + 1, rng, 20), ra=10.0 + i, dec=1.0) for i in range(5)]
    made[2], made[3] = replace(made[2], ra=float("nan")), replace(made[3], dec=float("nan"))
    write_catalog(tmp_path / "c", made)
    catalog = Catalog.open(tmp_path / "c")
    with pytest.raises(InputError, match=r"2 of 5 galaxies have no position .*TARGETID [34]\)"):
        export_hats(catalog, tmp_path / "h")
    assert not (tmp_path / "h").exists()
    export_hats(catalog.select("not isnull(RA) and abs(DEC) <= 90"), tmp_path / "h")
    assert sorted(Catalog.open(tmp_path / "h").table(["TARGETID"])["TARGETID"]) == [1, 2, 5]


def test_nothing_is_overwritten(root: Path, hats: Path, tmp_path: Path) -> None:
    catalog = Catalog.open(root)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for folder in (hats, tmp_path / "mine", root):
        with pytest.raises(InputError, match="nothing is overwritten"):
            export_hats(catalog, folder)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    with pytest.raises(InputError, match="selection is empty"):
        export_hats(catalog.select("Z > 99"), tmp_path / "h")
    with pytest.raises(InputError, match="rows >= 1"):
        export_hats(catalog, tmp_path / "h", rows=0)


def test_a_failed_write_leaves_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_metadata", full)
    with pytest.raises(OSError, match="No space left"):
        export_hats(Catalog.open(root), tmp_path / "h", rows=ROWS)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_write_leaves_no_catalog(root: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; from provabgs.catalog import Catalog, hats\n"
        "hats._write_rest = lambda *a: (print('now', flush=True), time.sleep(60))\n"
        "hats.export_hats(Catalog.open(sys.argv[1]), sys.argv[2])"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(root), str(tmp_path / "h")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"now\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "h").exists()
    export_hats(Catalog.open(root), tmp_path / "h")
    assert len(Catalog.open(tmp_path / "h")) == N + 1


def test_damage_is_told(hats: Path, root: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        memory = fsspec.filesystem("file")
        memory.put(str(hats), str(tmp_path / name), recursive=True)
        return tmp_path / name

    flipped = copy("flipped")
    path = max((flipped / "dataset").rglob("*.parquet"), key=lambda p: p.stat().st_size)
    raw = bytearray(path.read_bytes())
    for place in range(len(raw) // 10, len(raw) * 8 // 10, 997):
        raw[place] ^= 16
    path.write_bytes(raw)
    with pytest.raises(DataFileError, match="cannot be read"):
        Catalog.open(flipped).table()
    footer = copy("footer") / "dataset" / "_metadata"
    footer.write_bytes(footer.read_bytes()[:-20] + b"x" * 20)
    with pytest.raises(DataFileError, match="does not match its checksum"):
        Catalog.open(tmp_path / "footer")
    missing = copy("missing")
    next((missing / "dataset").rglob("*.parquet")).unlink()
    with pytest.raises(DataFileError, match="cannot be read"):
        Catalog.open(missing).table(["Z"])
    other = copy("other")
    for name in ("properties", "hats.properties"):
        lines = [x for x in (other / name).read_text().splitlines() if "provabgs" not in x]
        (other / name).write_text("\n".join(lines))
    with pytest.raises(DataFileError, match="not one that provabgs wrote"):
        Catalog.open(other)


def test_without_draws(root: Path, tmp_path: Path) -> None:
    export_hats(Catalog.open(root), tmp_path / "h")
    catalog = Catalog.open(tmp_path / "h")
    with pytest.raises(InputError, match="without draws"):
        catalog.probability("LOGMSTAR > 10")
    with pytest.raises(InputError, match="holds no posteriors"):
        next(catalog.posteriors([1]))
    with pytest.raises(InputError, match="holds no posteriors"):
        open_source(tmp_path / "h")
    with pytest.raises(InputError, match="holds no posteriors"):
        build_site(catalog, tmp_path / "site")


def test_the_command(root: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["export", str(root), str(tmp_path / "h"), "--hats", "--draws", "5", "--rows", "90", "-w", "Z < 0.3"]
    )
    assert done.exit_code == 0, done.output
    assert "galaxies to" in done.output
    queried = CliRunner().invoke(app, ["query", str(tmp_path / "h"), "--count"])
    assert int(queried.output) == len(Catalog.open(root).select("Z < 0.3"))
    refused = CliRunner().invoke(app, ["export", str(root), str(tmp_path / "x.fits"), "--draws", "5"])
    assert refused.exit_code != 0
