"""HATS: export of a catalog, questions to the export, and cross-matching it with LSDB.

    python -m bench.hats_speed --galaxies 1000000 -o /scratch/store

Prints a Markdown table for docs/studies/store.md: processor and wall time of each step. Made-up galaxies, those of
`bench.store_speed`; LSDB runs on two threads of this process. Needs the extra `hats` for the steps with LSDB.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench.store_speed import SHARD, make_store
from provabgs.catalog import Catalog
from provabgs.catalog.hats import export_hats
from provabgs.catalog.hats_layout import DATASET
from provabgs.catalog.summary import build_summary
from studies.support.command import plain_parser, run_study

DRAWS = 100
OFFSET_ARCSEC = 0.3
RADIUS_ARCSEC = 1.0


def step(text: str, call: Callable[[], Any]) -> Any:
    """Do something, print what it took as a row of the table, and return its result."""
    wall, processor = time.perf_counter(), time.process_time()
    result, about = call()
    print(
        f"| {text} | {time.process_time() - processor:.1f} | {time.perf_counter() - wall:.1f} | {about} |", flush=True
    )
    return result


def sizes(folder: Path) -> str:
    """Bytes of a galaxy, of distinct ones: those of a large store repeat one another, and would compress too well."""
    root = folder / "distinct"
    make_store(root, SHARD)
    build_summary(root)
    told = []
    for draws in (0, DRAWS):
        with Catalog.open(root) as catalog:
            export_hats(catalog, out := folder / f"distinct-{draws}", draws=draws, margin=0)
        total = sum(p.stat().st_size for p in (out / DATASET).rglob("*.parquet"))
        told.append(f"{total / SHARD / 1e3:.2f} kB a galaxy with {draws} draws")
    return ", ".join(told)


def exports(root: Path, folder: Path) -> None:
    """Export without and with draws, and ask the exports."""
    catalog = Catalog.open(root)

    def export(name: str, draws: int) -> Callable[[], Any]:
        def call() -> tuple[None, str]:
            return None, f"{export_hats(catalog, folder / name, draws=draws)} files"

        return call

    step("`provabgs export --hats`", export("plain", 0))
    step(f"the same, `--draws {DRAWS}`", export("draws", DRAWS))
    opened = step("`Catalog.open`, the export", lambda: (Catalog.open(folder / "draws"), ""))
    few = opened.select("LOGMSTAR_P50 > 10 and Z < 0.2")
    step("count of `select('LOGMSTAR_P50 > 10 and Z < 0.2')`", lambda: (None, f"{len(few):,} galaxies"))
    step(
        "`probability('LOGMSTAR > 11')` of all",
        lambda: (None, f"{len(opened.probability('LOGMSTAR > 11')):,} galaxies"),
    )


def other_catalog(root: Path, folder: Path) -> int:
    """Another catalog: every second galaxy, moved in Dec, in HATS with a margin."""
    lsdb = import_module("lsdb")
    rows = Catalog.open(root).arrow(["TARGETID", "RA", "DEC"]).to_pandas().iloc[::2]
    frame = rows.rename(columns={"TARGETID": "ID"})
    frame["DEC"] -= OFFSET_ARCSEC / 3600 * np.sign(frame["DEC"])
    made = lsdb.from_dataframe(frame, ra_column="RA", dec_column="DEC", margin_threshold=5.0, partition_rows=100_000)
    made.write_catalog(folder / "other", catalog_name="other")
    return len(frame)


def crossmatches(root: Path, folder: Path) -> None:
    """Open, filter and cross-match with LSDB on a Dask cluster in this process."""
    lsdb, distributed = import_module("lsdb"), import_module("distributed")
    n_other = other_catalog(root, folder)
    columns = ["TARGETID", "RA", "DEC", "Z", "LOGMSTAR_P50"]
    with distributed.Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None):
        bgs = step("`lsdb.open_catalog`, 5 columns", lambda: (lsdb.open_catalog(folder / "draws", columns=columns), ""))
        other = lsdb.open_catalog(folder / "other")

        def filtered() -> tuple[None, str]:
            return None, f"{len(bgs.query('LOGMSTAR_P50 > 10 and Z < 0.2').compute()):,} galaxies"

        def matched() -> tuple[None, str]:
            pairs = bgs.crossmatch(other, radius_arcsec=RADIUS_ARCSEC, suffixes=("", "_other"),
                                   suffix_method="overlapping_columns").compute()  # fmt: skip
            right = int((pairs["TARGETID"].to_numpy() == pairs["ID"].to_numpy()).sum())
            return None, f"{len(pairs):,} pairs, {right:,} of the same galaxy, of {n_other:,}"

        step("filter, computed", filtered)
        step("cross-match within 1 arcsec, computed", matched)


def work(options: argparse.Namespace) -> None:
    """Write a store, export it, cross-match it."""
    options.output.mkdir(parents=True, exist_ok=True)
    root, folder = options.output / "catalog", options.output / "hats"
    shutil.rmtree(folder, ignore_errors=True)
    if not (root / "summary.parquet").is_file():
        make_store(root, options.galaxies)
        build_summary(root)
    print(f"\n| {options.galaxies:,} galaxies | processor, s | wall, s | |\n|---|---|---|---|", flush=True)
    exports(root, folder)
    if find_spec("lsdb") is None:
        print("LSDB is not installed: pip install 'provabgs[hats]'")
    else:
        logging.getLogger("distributed").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            crossmatches(root, folder)
    print(f"\n{sizes(folder)}")
    shutil.rmtree(folder)


def main() -> None:
    """Parse the command line and run."""
    parser = plain_parser("bench.hats_speed", __doc__)
    parser.add_argument("--galaxies", type=int, default=100_000, help="a multiple of 1,000")
    run_study(parser, work, {"galaxies": 2 * SHARD})


if __name__ == "__main__":
    main()
