"""Galaxies whose weights collapse, fitted again under the learnt prior: by two commands, without a file by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from typer.testing import CliRunner

from provabgs.catalog import Catalog
from provabgs.cli.population import population_app
from provabgs.core.errors import ConfigError, InputError
from provabgs.inference.learnt import load_prior
from provabgs.population.learnt.apply import apply_prior
from tests.support.made_up_catalog import made_up_posteriors, write_made_up_catalog

ROOT = Path(__file__).resolve().parents[2]
NAMES, N = ("LOGSSFR_1GYR", "T_AGE_MW"), 60
RUN = """
[run]
output = "catalog"
fit = "provabgs.pipelines.dry_run:fit_observation"
[inputs]
paths = ["fluxes.fits"]
reader = "photometry"
[fit]
n_samples = 100
[cluster]
workers = 1
"""


def run(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.run_catalog", "run.toml", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=folder)


def test_from_collapsed_weights_to_posteriors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    posteriors = made_up_posteriors(rng.normal((-11.6, 8.0), (0.25, 0.5), (N, 2)), NAMES, (0.35, 0.8), rng)
    write_made_up_catalog(tmp_path / "catalog", posteriors)
    ids = np.arange(1, N + 1)
    same = {"RA": np.full(N, 10.0), "DEC": np.full(N, 10.0), "Z": np.full(N, 0.2)}
    fluxes = {f"{kind}_{band}": np.full(N, 20.0) for band in "GRZ" for kind in ("FLUX", "FLUX_IVAR")}
    Table({"TARGETID": ids, **same, **fluxes}).write(tmp_path / "fluxes.fits")
    (tmp_path / "run.toml").write_text(RUN)
    cli, file, out = CliRunner(), tmp_path / "prior.h5", tmp_path / "under-prior"
    learn = ["learn", str(tmp_path / "catalog"), "-o", str(file), "-p", NAMES[0], "-p", NAMES[1], "--members", "2"]
    assert cli.invoke(population_app, learn).exit_code == 0
    # of 200 draws nearly all galaxies keep fewer than 120, so that some are to be fitted again and some are not
    apply = ["apply", str(tmp_path / "catalog"), "--prior", str(file), "-o", str(out), "--least-effective", "60"]
    assert cli.invoke(population_app, apply).exit_code == 0
    first, again = Table.read(out / "population.fits"), Table.read(out / "collapsed.ecsv")
    assert 0 < len(again) < N
    assert not np.any(first["POP_REFITTED"])

    refused = run(tmp_path, "--targets", str(out / "collapsed.ecsv"), "--prior", "prior.h5")
    assert refused.returncode == 2
    assert "name its folder with --output" in refused.stderr
    done = run(tmp_path, "--targets", "under-prior/collapsed.ecsv", "--prior", "prior.h5", "--output", "refits")
    assert done.returncode == 0, done.stdout + done.stderr
    with Catalog.open(tmp_path / "refits") as catalog:
        stored = catalog.table(["TARGETID", "T_AGE_MW_P50"])
    assert set(stored["TARGETID"]) == set(again["TARGETID"])

    told = cli.invoke(population_app, [*apply, "--refits", str(tmp_path / "refits")])
    assert told.exit_code == 0, told.output
    assert f"{len(again)} are of refits" in told.output
    table = Table.read(out / "population.fits")
    refitted = np.asarray(table["POP_REFITTED"], dtype=bool)
    assert set(table["TARGETID"][refitted]) == set(again["TARGETID"])
    assert len(Table.read(out / "collapsed.ecsv")) == 0
    expected = dict(zip(stored["TARGETID"], stored["T_AGE_MW_P50"], strict=True))
    for row in table[refitted]:
        assert row["POP_T_AGE_MW_P50"] == pytest.approx(expected[row["TARGETID"]], abs=0.02)
        assert np.isfinite(row["POP_T_AGE_MW_ERR"])
    for name in first.colnames:  # the prior of the fits, and galaxies that kept their draws, are as before
        rows = ~refitted if name.startswith("POP_") else slice(None)
        np.testing.assert_array_equal(table[name][rows], first[name][rows], err_msg=name)

    refuse_other_refits(tmp_path, posteriors)


def refuse_other_refits(folder: Path, posteriors: list) -> None:
    """Under no prior, under another, of other galaxies."""
    prior, catalog = load_prior(folder / "prior.h5"), folder / "catalog"
    with pytest.raises(ConfigError, match=r"catalog: was fitted under the inference prior; refits need fit\.prior"):
        apply_prior(catalog, prior, refits=catalog)
    learn = ["learn", str(catalog), "-o", str(folder / "other.h5"), "-p", NAMES[0], "-p", NAMES[1], "--seed", "3"]
    assert CliRunner().invoke(population_app, learn).exit_code == 0
    with pytest.raises(ConfigError, match=r"refits: was fitted under another learnt prior \(prior\.h5\)"):
        apply_prior(catalog, load_prior(folder / "other.h5"), refits=folder / "refits")
    write_made_up_catalog(folder / "few", posteriors[:1])
    with pytest.raises(InputError, match=r"refits: .* galaxies \(TARGETID \d+, \.\.\.\) are not among those"):
        apply_prior(folder / "few", prior, refits=folder / "refits")
