"""Exports hold the published columns and the store's numbers; the shell says the same as Python."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from astropy.table import Table
from typer.testing import CliRunner

from provabgs.catalog import Catalog, read_posteriors, write_catalog, write_posteriors
from provabgs.catalog.export import export, published_table, to_arviz
from provabgs.catalog.layout import SUMMARY_NAME, shard_paths
from provabgs.cli.query import export_command, query_command
from provabgs.core.errors import InputError, MissingDependencyError
from provabgs.core.status import Status
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.inference.standard import PARAMETERS
from provabgs.pipelines.dry_run import synthetic_posterior

PUBLISHED = {
    *("TARGETID", "RA", "DEC", "Z_HP", "ZERR", "TSNR2_BGS", "MAG_G", "MAG_R", "MAG_Z", "MAG_W1", "FIBMAG_R"),
    *("SCHLEGEL_COLOR", "HPIX_64", "PROVABGS_MCMC", "PROVABGS_THETA_BF", "PROVABGS_LOGMSTAR", "PROVABGS_LOGMSTAR_BF"),
    *("PROVABGS_Z_MAX", "PROVABGS_W_ZFAIL", "PROVABGS_W_FIBASSIGN", "IS_BGS_BRIGHT", "IS_BGS_FAINT"),
}


@pytest.fixture(scope="module")
def posteriors() -> list[Posterior]:
    rng = np.random.default_rng(0)
    made = [
        replace(synthetic_posterior(i, rng, 300), ra=10.0 + i, dec=0.5, meta={"MAG_R": 17.5, "IS_BGS_BRIGHT": 1})
        for i in range(4)
    ]
    return [
        *made,
        Posterior.without_samples(Status.CRASHED, "bad", FitConfig(), 0, targetid=99, redshift=0.3, ra=20.0, dec=0.0),
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, posteriors: list[Posterior]) -> Path:
    folder = tmp_path_factory.mktemp("catalog")
    write_catalog(folder, posteriors)
    return folder


def test_published_layout(root: Path, posteriors: list[Posterior], tmp_path: Path) -> None:
    with Catalog.open(root) as catalog:
        table = published_table(catalog)
        export(catalog, tmp_path / "a.fits", "provabgs")
        export(catalog, tmp_path / "a.h5")
    assert set(table.colnames) > PUBLISHED
    assert table["PROVABGS_MCMC"].shape == (5, 100, 13)
    by_id = {int(r["TARGETID"]): r for r in table}
    p = posteriors[2]
    np.testing.assert_allclose(by_id[2]["PROVABGS_THETA_BF"], p.best_fit)
    stored = np.asarray(by_id[2]["PROVABGS_MCMC"])
    kept = p.samples[np.linspace(0, 299, 256).round().astype(int)][np.linspace(0, 255, 100).round().astype(int)]
    np.testing.assert_allclose(stored, kept, atol=2e-5 * np.ptp(p.samples, axis=0).max())
    np.testing.assert_array_equal(stored[:, PARAMETERS.index("logmstar")], by_id[2]["LOGMSTAR_FORMED"])
    # the mass that the published catalog quotes is the surviving one
    surviving = p.derived["logmstar_surviving"][np.linspace(0, 299, 256).round().astype(int)]
    kept_surviving = surviving[np.linspace(0, 255, 100).round().astype(int)]
    np.testing.assert_allclose(by_id[2]["PROVABGS_LOGMSTAR"], kept_surviving, atol=1e-3)
    np.testing.assert_allclose(by_id[2]["PROVABGS_LOGMSTAR_BF"], p.best["logmstar_surviving"], rtol=1e-6)
    assert np.isnan(by_id[99]["PROVABGS_MCMC"]).all()
    read = Table.read(tmp_path / "a.fits")
    np.testing.assert_array_equal(read["PROVABGS_MCMC"], table["PROVABGS_MCMC"])
    assert read["RA"].unit == "deg"
    with h5py.File(tmp_path / "a.h5") as f:
        np.testing.assert_array_equal(f["PROVABGS_LOGMSTAR"][:], table["PROVABGS_LOGMSTAR"])


def test_summaries(root: Path, tmp_path: Path) -> None:
    with Catalog.open(root) as catalog:
        export(catalog.select("RA > 11"), tmp_path / "a.parquet")
        export(catalog.select("RA > 11"), tmp_path / "a.fits")
        with pytest.raises(InputError, match="empty"):
            export(catalog.select("RA > 100"), tmp_path / "b.fits")
        with pytest.raises(InputError, match=r"summary as \.fits"):
            export(catalog, tmp_path / "b.doc")
    a, b = pq.read_table(tmp_path / "a.parquet"), Table.read(tmp_path / "a.fits")
    assert a["TARGETID"].to_pylist() == list(b["TARGETID"])
    assert sorted(b["TARGETID"]) == [2, 3, 99]
    lost = np.asarray(b["TARGETID"]) == 99
    np.testing.assert_array_equal(np.ma.getmaskarray(b["LOGMSTAR_P50"]), lost)  # astropy reads NaN as masked
    assert None in pq.read_table(root / "summary.parquet")["MESSAGE"].to_pylist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # astropy guesses, and says so, where lengths of texts are missing
        by_astropy = Table.read(tmp_path / "a.parquet")
    assert list(by_astropy["TARGETID"]) == list(b["TARGETID"])
    kept = pq.read_table(root / "summary.parquet").to_pydict()
    messages = dict(zip(kept["TARGETID"], kept["MESSAGE"], strict=True))
    assert [str(text) for text in by_astropy["MESSAGE"]] == [messages[i] or "" for i in by_astropy["TARGETID"]]
    reopened = Catalog.open(tmp_path / "a.parquet")
    assert len(reopened) == 3
    reopened.close()


def test_arviz_is_an_extra(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Catalog.open(root) as catalog:
        for module in ("xarray", "h5netcdf"):
            monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
            with pytest.raises(MissingDependencyError, match=r"provabgs\[arviz\]"):
                export(catalog, tmp_path / "a.nc")
            monkeypatch.undo()
            if importlib.util.find_spec("xarray") is None:
                return
    assert not list(tmp_path.iterdir())


def test_arviz(root: Path, posteriors: list[Posterior], tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray", reason="needs the extra 'arviz'")
    pytest.importorskip("h5netcdf", reason="needs the extra 'arviz'")
    with Catalog.open(root) as catalog:
        dataset = to_arviz(catalog)
        assert dataset["LOGMSTAR"].shape == (1, 256, 4)  # the galaxy without draws is left out
        draws = catalog.samples([3], ["LOGMSTAR", "LOG_PROB"])
        np.testing.assert_array_equal(dataset["LOGMSTAR"].sel(galaxy=3)[0], draws["LOGMSTAR"][0])
        export(catalog.select("RA > 11"), tmp_path / "a.nc")
        with pytest.raises(InputError, match="no galaxy of the selection has draws"):
            to_arviz(catalog.select("STATUS == 'CRASHED'"))
    with xarray.open_dataset(tmp_path / "a.nc", group="posterior", engine="h5netcdf") as posterior:
        assert set(posterior.sizes.items()) == {("chain", 1), ("draw", 256), ("galaxy", 2)}
        assert sorted(posterior["galaxy"].values) == [2, 3]
        np.testing.assert_allclose(posterior["LOGMSTAR"].sel(galaxy=3)[0], draws["LOGMSTAR"][0], rtol=1e-6)
        assert posterior["TAU_ISM"].attrs["long_name"]
        assert posterior.attrs["inference_library"] == "provabgs"
    with xarray.open_dataset(tmp_path / "a.nc", group="sample_stats", engine="h5netcdf") as stats:
        np.testing.assert_array_equal(stats["lp"].sel(galaxy=3)[0], draws["LOG_PROB"][0])
        assert float(stats["RHAT_MAX"].sel(galaxy=2)) == pytest.approx(posteriors[2].diagnostics.rhat_max)


def test_arviz_opens_it(root: Path, tmp_path: Path) -> None:
    arviz = pytest.importorskip("arviz", reason="reading back by ArviZ needs arviz")
    pytest.importorskip("h5netcdf", reason="needs the extra 'arviz'")
    with Catalog.open(root) as catalog:
        export(catalog, tmp_path / "a.nc")
    read = arviz.from_netcdf(tmp_path / "a.nc")
    assert float(read["posterior"]["LOGMSTAR"].mean()) == pytest.approx(
        float(to_arviz(Catalog.open(root))["LOGMSTAR"].mean()), rel=1e-6
    )


@pytest.fixture
def shell() -> typer.Typer:
    app = typer.Typer()
    app.command("query")(query_command)
    app.command("export")(export_command)
    return app


def test_a_failed_save_keeps_the_file_that_was_there(
    root: Path, shell: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Table, path: Path, **options: object) -> None:
        Path(path).write_text("half a ta")
        raise OSError(28, "No space left on device")

    command = ["query", str(root), "-s", "TARGETID,Z", "-o"]
    for name in ("a.fits", "a.ecsv", "a.csv"):
        assert CliRunner().invoke(shell, [*command, str(tmp_path / name)]).exit_code == 0
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr(Table, "write", broken)
    for name in before:
        assert CliRunner().invoke(shell, [*command, str(tmp_path / name)]).exit_code != 0
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_catalog_is_never_its_own_export(root: Path, shell: typer.Typer, tmp_path: Path) -> None:
    write_posteriors(one := tmp_path / "one.h5", read_posteriors(shard_paths(root)[0]))
    (tmp_path / "link.h5").symlink_to(one)
    whole = tmp_path / "whole.parquet"
    with Catalog.open(root) as catalog:
        export(catalog, whole)
    cases = [(root, root / SUMMARY_NAME), (root, shard_paths(root)[1]), (one, tmp_path / "link.h5"), (whole, whole)]
    before = {path: path.read_bytes() for _, path in cases}
    for source, target in cases:
        with Catalog.open(source) as catalog, pytest.raises(InputError, match="write to another file"):
            export(catalog, target)
    answer = CliRunner().invoke(shell, ["query", str(whole), "-o", str(whole)])
    assert isinstance(answer.exception, InputError)
    assert {path: path.read_bytes() for path in before} == before


def test_shell(root: Path, shell: typer.Typer, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(shell, [words[0], str(root), *words[1:]], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    assert run("query", "--count", "-w", "RA > 11").strip() == "3"
    assert run("query", "--count", "--cone", "10,0.5,0.1").strip() == "1"
    printed = run("query", "-p", "LOGMSTAR > 0", "-s", "TARGETID")
    lines = [line.split() for line in printed.splitlines()[2:]]
    assert sorted(lines[:4]) == [[str(i), "1.0"] for i in range(4)]
    assert lines[4] == ["99", "nan"]
    assert "LOGSSFR_1GYR" in run("query", "--columns")
    run("query", "-s", "TARGETID,SFR_1GYR_P50", "-o", str(tmp_path / "q.csv"))
    assert Table.read(tmp_path / "q.csv").colnames == ["TARGETID", "SFR_1GYR_P50"]
    run("query", "--samples", "LOGMSTAR", "-o", str(tmp_path / "q.fits"))
    assert Table.read(tmp_path / "q.fits")["LOGMSTAR"].shape == (5, 256)
    run("export", str(tmp_path / "e.fits"), "--as", "provabgs", "-w", "STATUS = 0")
    assert len(Table.read(tmp_path / "e.fits")) == 4
    if importlib.util.find_spec("xarray") and importlib.util.find_spec("h5netcdf"):
        run("export", str(tmp_path / "e.nc"), "--format", "arviz", "-w", "STATUS = 0")
        run("query", "-w", "STATUS = 0", "-o", str(tmp_path / "q.nc"))
        assert (tmp_path / "e.nc").stat().st_size == (tmp_path / "q.nc").stat().st_size > 10_000
    with pytest.raises(InputError, match="RA,DEC,RADIUS"):
        run("query", "--cone", "10,1")
