"""A run over a survey that the package does not know: its TOML and filter curve reach the fit processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from astropy.table import Table

from provabgs.catalog import Catalog

ROOT = Path(__file__).resolve().parents[2]
SURVEY = """
name = "mine"
[bands.blue]
filter = "blue.dat"
floor = 0.04
flux = "F_BLUE"
ivar = "W_BLUE"
magnitude = "MAG_MINE_BLUE"
[bands.red]
filter = "sdss2010-r"
floor = 0.03
flux = "F_RED"
ivar = "W_RED"
"""
RUN = """
[run]
output = "out"
fit = "tests.support.survey_fits:fit_observation"
[inputs]
paths = ["fluxes.fits"]
reader = "photometry"
options = { survey = "mine.toml" }
[cluster]
workers = 1
"""


def test_fit_processes_know_a_surveys_own_filters(tmp_path: Path) -> None:
    (tmp_path / "blue.dat").write_text("4000 0\n4500 1\n5000 0\n")
    (tmp_path / "mine.toml").write_text(SURVEY)
    (tmp_path / "run.toml").write_text(RUN)
    columns = {"TARGETID": [1, 2], "RA": [150.0, 150.0], "DEC": [2.0, 2.0], "Z": [0.1, 0.2]}
    fluxes = {"F_BLUE": [10.0, 20.0], "F_RED": [10.0, 20.0], "W_BLUE": [1.0, 1.0], "W_RED": [1.0, 1.0]}
    Table({**columns, **fluxes}).write(tmp_path / "fluxes.fits")
    command = [sys.executable, "-m", "tests.support.run_catalog", str(tmp_path / "run.toml")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    with Catalog.open(tmp_path / "out") as catalog:
        table = catalog.table(["TARGETID", "MESSAGE", "META", "MAG_R", "MAG_MINE_BLUE"])
        assert len(catalog.select("MAG_MINE_BLUE < 19.5")) == 1
    table.sort("TARGETID")
    assert table["MESSAGE"].tolist() == ["mine-blue 4491, sdss2010-r 6168"] * 2
    np.testing.assert_allclose(table["MAG_MINE_BLUE"], [20.0, 19.2474], atol=1e-4)
    assert {json.loads(m)["PHOTOMETRIC_SYSTEM"] for m in table["META"]} == {"mine"}
    assert np.isnan(np.ma.filled(table["MAG_R"].astype(float), np.nan)).all()
