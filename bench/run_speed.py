"""A survey run end to end: `provabgs run` over mock galaxies in healpix files, and what it costs besides sampling.

    python -m bench.run_speed --galaxies 2000 --workers 2 -o FOLDER

L-GALAXIES mocks as DESI would observe them (``provabgs mock make``) are written as coadds and fitted by ``provabgs
run`` with the defaults, in processes of its own. Printed: galaxies per hour, STATUS of the rows, the share of the
workers' time that went into fits once the first was done (efficiency), and core-hours of a survey at this rate. The
run goes on where it was stopped; times are then of its last start, as the terminal's are.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from provabgs.catalog import Catalog
from provabgs.core.status import Status
from provabgs.mocks.challenge import ChallengeConfig, make_mocks
from provabgs.mocks.make import MockConfig
from studies.support.command import plain_parser, run_study

SURVEY = 13_000_000
"""Bright-time targets of DESI, Hahn et al. (2023b)."""
CONFIG = """
[run]
output = "catalog"
seed = 7

[inputs]
paths = ["mocks"]

[cluster]
workers = {workers}

[fit]
use = "{use}"
{sampler}
"""
QUICK = "[fit.sampler]\naim_eval = 0\nrhat = 1.2\ness = 50\n"


def make_inputs(folder: Path, galaxies: int) -> None:
    """Coadds of mock galaxies, once."""
    if not (folder / "mocks").is_dir():
        mock = MockConfig(n=galaxies)
        make_mocks(ChallengeConfig(output=folder / "mocks", mock=mock, modes=("both",)))


def table(catalog: Catalog, wall_s: float, workers: int) -> str:
    """What the run did, from its rows and its wall time."""
    rows = catalog.table(["STATUS", "RUNTIME_S", "N_EVAL"])
    runtime, n_eval = (np.array(rows[name], dtype=np.float64) for name in ("RUNTIME_S", "N_EVAL"))
    status = Counter(Status(int(s)).name for s in rows["STATUS"])
    hours = wall_s / 3600
    lines = {
        "galaxies": f"{len(rows):,}: " + ", ".join(f"{n:,} {name}" for name, n in status.most_common()),
        "wall time": f"{wall_s:.0f} s, {workers} workers",
        "galaxies an hour": f"{len(rows) / hours:,.0f}",
        "a fit": f"{np.median(runtime):.2f} s in the median, {np.quantile(runtime, 0.95):.2f} s in 95 %, "
        f"{np.median(n_eval):,.0f} evaluations",
        "efficiency": f"{100 * runtime.sum() / (wall_s * workers):.0f} % of the workers' wall time is in fits",
        "a survey": f"{SURVEY * wall_s * workers / len(rows) / 3600:,.0f} core-hours for {SURVEY:,} galaxies",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in lines.items())])


def work(options: argparse.Namespace) -> None:
    """Make, run, print."""
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    make_inputs(folder, options.galaxies)
    config = folder / "run.toml"
    sampler = QUICK if options.smoke else ""
    config.write_text(CONFIG.format(workers=options.workers, use=options.use, sampler=sampler))
    subprocess.run([sys.executable, "-m", "provabgs.cli.main", "cluster", "warmup", str(config)], check=True)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "provabgs.cli.main", "run", str(config)], check=True)
    print(table(Catalog.open(folder / "catalog"), time.perf_counter() - start, options.workers))


def main() -> None:
    """Parse the command line and run."""
    parser = plain_parser("bench.run_speed", __doc__)
    parser.add_argument("--galaxies", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--use", choices=("both", "spectrum", "photometry"), default="both", help="data that are fitted"
    )
    run_study(parser, work, {"galaxies": 4, "workers": 1})


if __name__ == "__main__":
    main()
