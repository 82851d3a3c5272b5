"""A run over real DESI files: every row of every file ends in the catalog, with samples or with the reason why not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from astropy.io import fits

from provabgs.catalog import Catalog
from provabgs.core.status import Status

ROOT = Path(__file__).resolve().parents[2]


def test_every_row_of_the_reference_coadds_is_accounted_for(reference_dir: Path, tmp_path: Path) -> None:
    folder = reference_dir / "desi"
    config = tmp_path / "run.toml"
    config.write_text(f"""
[run]
output = "out"
fit = "provabgs.pipelines.dry_run:fit_observation"
[inputs]
paths = ["{folder}"]
duplicates = "keep"
[inputs.options]
z_max = 0.6
[cluster]
workers = 1
""")
    command = [sys.executable, "-m", "tests.support.run_catalog", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = set()
    for path in folder.glob("coadd-*.fits"):
        with fits.open(path, memmap=False) as hdus:
            ids = hdus["FIBERMAP"].data["TARGETID"].tolist()
        expected |= {(targetid, path.name, row) for row, targetid in enumerate(ids)}
    with Catalog.open(tmp_path / "out") as catalog:
        table = catalog.table(["TARGETID", "INPUT", "ROW", "STATUS", "MESSAGE", "LOGMSTAR_P50", "MAG_R", "Z"])
    keys = [(int(r["TARGETID"]), str(r["INPUT"]), int(r["ROW"])) for r in table]
    assert set(keys) == expected
    assert len(keys) == len(expected)
    fitted = np.asarray(table["STATUS"]) == Status.CONVERGED
    np.testing.assert_array_equal(np.isfinite(table["LOGMSTAR_P50"]), fitted)
    silent = [k for k, m, ok in zip(keys, np.ma.filled(table["MESSAGE"], ""), fitted, strict=True) if not ok and not m]
    assert silent == []
    bright = table[[k[:2] == (39633345008634465, "coadd-4-80613-thru20210324.fits") for k in keys]]
    assert bright["Z"][0] == np.float64(0.36874355163716493)
    assert 20 < bright["MAG_R"][0] < 21
    counts = {Status(s).name for s in set(table["STATUS"].tolist())}
    assert {"CONVERGED", "UNOBSERVED", "REDSHIFT_OUT_OF_RANGE", "REDSHIFT_WARNING", "INPUT_ERROR"} <= counts
