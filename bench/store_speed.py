"""Size and speed of the posterior store: bytes per galaxy by encoding and filter, then queries on many galaxies.

    python -m bench.store_speed --galaxies 1000000 -o /scratch/store

Prints Markdown tables for docs/studies/store.md. The samples are synthetic (`provabgs.pipelines.dry_run`): continuous
draws, which compress as badly as real ones do. One filter more with the package hdf5plugin.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import h5py
import numpy as np
from astropy.table import Table

from provabgs.catalog import Catalog
from provabgs.catalog.block import Block
from provabgs.catalog.columns import STANDARD
from provabgs.catalog.encode import quantise
from provabgs.catalog.layout import SUMMARY_NAME, shard_name, shard_paths
from provabgs.catalog.records import healpix64, to_block
from provabgs.catalog.seal import Seal
from provabgs.catalog.shard import read_block, write_block
from provabgs.catalog.shard_file import Verified
from provabgs.catalog.summary import build_summary
from provabgs.pipelines.dry_run import synthetic_posterior
from studies.support.command import plain_parser, run_study

T = TypeVar("T")
FEW, LIKELY = "LOGMSTAR_P50 > 10.5 and Z < 0.05", "LOGMSTAR > 11 and SFR_1GYR < 0.1"
SHARD = 1000
"""Galaxies of a shard."""
FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "shuffle + gzip 1": {"shuffle": True, "compression": "gzip", "compression_opts": 1},
    "shuffle + gzip 6": {"shuffle": True, "compression": "gzip", "compression_opts": 6},
    "shuffle + lzf": {"shuffle": True, "compression": "lzf"},
}
if find_spec("hdf5plugin"):
    FILTERS["bitshuffle + zstd 3 (hdf5plugin)"] = dict(import_module("hdf5plugin").Bitshuffle(cname="zstd", clevel=3))


def processor_s(call: Callable[[], object]) -> float:
    """Processor time of a call, seconds: what it costs also where others use the machine."""
    start = time.process_time()
    call()
    return time.process_time() - start


def timed(call: Callable[[], T], repeat: int = 1) -> tuple[float, T]:
    """Best wall time of some calls, seconds, and the last result."""
    best = np.inf
    for _ in range(repeat):
        start = time.perf_counter()
        result = call()
        best = min(best, time.perf_counter() - start)
    return best, result


def prototype(n: int, n_samples: int = 256) -> Block:
    """A block of `n` made-up galaxies."""
    rng = np.random.default_rng(0)
    return to_block([synthetic_posterior(i, rng, 300) for i in range(n)], n_samples=n_samples)


def filter_table(folder: Path) -> None:
    """Bytes per galaxy, write and read speed of the sample arrays by encoding and filter."""
    block = prototype(SHARD)
    codes = np.stack([block.samples[c] for c in STANDARD.sample_columns])
    floats = np.stack([block.values(c) for c in STANDARD.sample_columns]).astype(np.float32)
    print("\n| samples as | filter | kB per galaxy | write, MB/s | read, MB/s |\n|---|---|---|---|---|")
    for name, array in (("uint16", codes), ("float32", floats)):
        for label, options in FILTERS.items():
            path = folder / "filter.h5"

            def write(path: Path = path, array: np.ndarray = array, options: dict = options) -> None:
                with h5py.File(path, "w") as f:
                    for i, column in enumerate(array):
                        f.create_dataset(str(i), data=column, chunks=(128, 256), **options)

            def read(path: Path = path, n: int = len(array)) -> list:
                with h5py.File(path) as f:
                    return [f[str(i)][:] for i in range(n)]

            t_write, _ = timed(write, 2)
            t_read, _ = timed(read, 2)
            size, megabytes = path.stat().st_size, array.nbytes / 1e6
            speeds = f"{megabytes / t_write:.0f} | {megabytes / t_read:.0f}"
            print(f"| {name} | {label} | {size / SHARD / 1e3:.2f} | {speeds} |")


def make_store(root: Path, n: int) -> float:
    """A catalog of n galaxies over the sky; shards are made from one prototype with shifted masses and positions."""
    rng = np.random.default_rng(1)
    base = prototype(SHARD)
    start = time.perf_counter()
    pixels = rng.choice(49152, n // SHARD, replace=False)
    for k, pixel in enumerate(np.sort(pixels)):
        summary = base.summary.copy()
        summary["TARGETID"] = k * SHARD + np.arange(SHARD)
        summary["RA"], summary["DEC"] = _inside(int(pixel), rng)
        summary["HPIX_64"] = healpix64(summary["RA"], summary["DEC"])
        summary["Z"] = rng.uniform(0.01, 0.6, SHARD)
        shift = rng.normal(0, 0.5, SHARD).astype(np.float32)
        samples, scale = dict(base.samples), dict(base.scale)
        for c in ("LOGMSTAR", "LOGSFR_1GYR"):
            samples[c], scale[c] = quantise(base.values(c) + shift[:, None])
            for suffix in ("P16", "P50", "P84"):
                summary[f"{c}_{suffix}"] += shift
        write_block(root / shard_name(int(pixel), 0), replace(base, summary=summary, samples=samples, scale=scale))
    return time.perf_counter() - start


def summary_size(root: Path) -> int:
    """Bytes of the Parquet summary of one shard's worth of distinct galaxies."""
    write_block(root / shard_name(0, 0), prototype(SHARD))
    build_summary(root)
    return (root / SUMMARY_NAME).stat().st_size


def _inside(pixel: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    from astropy_healpix import HEALPix

    grid = HEALPix(nside=64, order="nested")
    lon, lat = grid.healpix_to_lonlat(
        np.full(SHARD, pixel), dx=rng.uniform(0.01, 0.99, SHARD), dy=rng.uniform(0.01, 0.99, SHARD)
    )
    return lon.deg, lat.deg


def questions(root: Path, n: int) -> dict[str, Callable[[Catalog], object]]:
    """Typical questions to a catalog of `n` galaxies."""
    rng = np.random.default_rng(2)
    some = rng.choice(n, 1000, replace=False)
    with Catalog.open(root) as catalog:
        centre = catalog.table(["RA", "DEC"], limit=1)
        n_few = len(catalog.select(FEW))
    ra, dec = float(centre["RA"][0]), float(centre["DEC"][0])
    mine = Table({"TARGETID": rng.choice(2 * n, min(n, 100_000), replace=False)})
    columns = ["TARGETID", "RA", "DEC", "LOGMSTAR_P50"]
    return {
        "count of select('LOGMSTAR_P50 > 10 and Z < 0.2')": lambda c: len(c.select("LOGMSTAR_P50 > 10 and Z < 0.2")),
        "the same, 4 columns as a Table": lambda c: c.select("LOGMSTAR_P50 > 10 and Z < 0.2").table(columns),
        "cone of 1 degree, all columns": lambda c: c.cone(ra, dec, 1.0).table(),
        "samples of 1,000 random galaxies, 2 columns": lambda c: c.samples(some, ["LOGMSTAR", "SFR_1GYR"]),
        f"join with a Table of {len(mine):,} rows, 2 columns": lambda c: c.join(mine, ["Z", "LOGMSTAR_P50"]),
        f"probability(...) of {n_few:,} selected galaxies": lambda c: c.select(FEW).probability(LIKELY),
        f"probability(...) of all {n:,}": lambda c: c.probability(LIKELY),
    }


@contextmanager
def unverified() -> Iterator[None]:
    """No checksums of columns of the summary and of pieces of shards are computed meanwhile: what they cost."""
    with (
        mock.patch.object(Seal, "verify", return_value=None),
        mock.patch.object(Verified, "_check", return_value=None),
    ):
        yield


def query_table(root: Path, n: int) -> None:
    """Processor time of typical questions: to a catalog just opened, again, and without checksums."""
    open_s = processor_s(lambda: Catalog.open(root))
    print(f"\nCatalog.open: {open_s:.3f} s\n\n| question, {n:,} galaxies x 256 samples | first | again | unverified |")
    print("|---|---|---|---|")
    for text, ask in questions(root, n).items():
        with Catalog.open(root) as catalog:
            ask(catalog)  # from the page cache, as all others
        with Catalog.open(root) as catalog:
            first, again = (processor_s(partial(ask, catalog)) for _ in range(2))
        with unverified(), Catalog.open(root) as catalog:
            bare = processor_s(partial(ask, catalog))
        print(f"| {text} | {first:.2f} | {again:.2f} | {bare:.2f} |", flush=True)


def work(options: argparse.Namespace) -> None:
    """Write a store, ask it questions, print the tables."""
    options.output.mkdir(parents=True, exist_ok=True)
    filter_table(options.output)
    root = options.output / "catalog"
    shutil.rmtree(root, ignore_errors=True)
    write_s = make_store(root, options.galaxies)
    summary_s, n = timed(lambda: build_summary(root))
    shards = shard_paths(root)
    size = sum(p.stat().st_size for p in shards)
    summary = summary_size(options.output / "one") * n // SHARD
    some = shards[:20]
    read_s, _ = timed(lambda: [read_block(p) for p in some])
    print(f"\n{n} galaxies: shards {size / n / 1e3:.2f} kB, summary {summary / n / 1e3:.2f} kB a galaxy;")
    verified = len(some) * SHARD / read_s
    print(f"written {n / write_s:.0f}, summarised {n / summary_s:.0f}, verified {verified:.0f} galaxies/s")
    query_table(root, options.galaxies)
    if not options.keep:
        shutil.rmtree(options.output)


def main() -> None:
    """Parse the command line and run."""
    parser = plain_parser("bench.store_speed", __doc__)
    parser.add_argument("--galaxies", type=int, default=100_000, help="a multiple of 1,000")
    parser.add_argument("--keep", action="store_true", help="keep the store")
    run_study(parser, work, {"galaxies": 2 * SHARD, "keep": True})


if __name__ == "__main__":
    main()
