"""Time and memory of learning a population prior: N galaxies x 256 draws, five properties.

    python -m bench.learn_speed --galaxies 10000,100000

The galaxies are made up in the coordinates of a learnt prior: two classes, the prior standard normal, the data normal,
so that posteriors are exact. Draws above ``--in-memory`` GiB lie in a scratch file, as those of a catalog do. Printed
for each size, which has a process of its own: processor and wall seconds of learning both halves with five bootstraps
each and of judging them, and the largest memory. Reading a catalog is not part of it. ``--workers 2`` has Dask workers
sum over the galaxies, from scratch files; processor time is then that of all processes, and the largest memory of a
worker is named, too. ``--folder`` is where scratch files go.
"""

from __future__ import annotations

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.inference.learnt import half_of
from provabgs.pipelines.cluster_options import ClusterOptions
from provabgs.pipelines.labour import EachOnWorkers, labour_of
from provabgs.population.learnt.draws import DrawTable
from provabgs.population.learnt.learn import LearnOptions, judge_half, learn_half
from provabgs.population.learnt.pieces import Scratch
from studies.support.command import plain_parser, run_study

CHUNK, S = 4096, 256
CLASSES = np.array([[-0.2, 0.5, -0.3, -0.4, 0.2], [0.3, -1.5, 0.5, 1.0, -0.5]])
SIGMA, RED = 0.4, 0.4
NOISE = np.array([0.2, 0.5, 0.6, 0.7, 0.5])
HEADER = (
    "| galaxies | workers | making, wall s | learning, CPU s | wall s | judging, CPU s | memory before, GB | most, GB "
    "| most of a worker, GB | gain |\n|---|---|---|---|---|---|---|---|---|---|"
)


def made_up(n: int, scratch: Scratch) -> DrawTable:
    """Posteriors of galaxies of two classes.

    Parameters
    ----------
    n
        Galaxies.
    scratch
        Where the draws go.
    """
    rng, d = np.random.default_rng(0), len(NOISE)
    ids = np.sort(rng.choice(10**15, n, replace=False))
    y, log_weight = scratch.array((n, S, d + 1)), scratch.array((n, S))
    shrink = 1 / (1 + 1 / NOISE**2)
    for first in range(0, n, CHUNK):
        m = min(CHUNK, n - first)
        centre = CLASSES[(rng.random(m) < RED).astype(int)] + SIGMA * rng.standard_normal((m, d))
        data = centre + NOISE * rng.standard_normal((m, d))
        u: FloatArray = (shrink * data / NOISE**2)[:, None] + np.sqrt(shrink) * rng.standard_normal((m, S, d))
        rows = slice(first, first + m)
        y[rows, :, :d], y[rows, :, d] = u, rng.standard_normal((m, 1))
        log_weight[rows] = 0.5 * (u**2).sum(axis=-1) + 0.5 * d * np.log(2 * np.pi) - np.log(S)
    return DrawTable(y, log_weight, np.ones(n), ids[np.lexsort((ids, half_of(ids)))])


def memory() -> float:
    """Largest memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def row_of(n: int, in_memory: int, workers: int, folder: Path | None) -> str:
    """Learn from `n` galaxies; a row of the table.

    Parameters
    ----------
    n
        Galaxies.
    in_memory
        Bytes of draws above which they go to a file; with workers all do.
    workers
        Dask workers; 0 for this process.
    folder
        Of scratch files.
    """
    options, cluster = LearnOptions(n_draws=S), ClusterOptions(workers=workers) if workers else None
    here = Path.cwd() if folder is None else folder
    with labour_of(cluster, here, folder) as labour, Scratch(0 if workers else in_memory, labour.folder) as scratch:
        start = time.perf_counter()
        table, before = made_up(n, scratch), memory()
        made = time.perf_counter() - start
        cpu, wall = time.process_time(), time.perf_counter()
        halves = [learn_half(table.half(k), k, options, each=labour.each) for k in (0, 1)]
        learnt, wall = time.process_time(), time.perf_counter() - wall
        gain = np.mean([judge_half(table.half(k), halves[1 - k]).gain for k in (0, 1)])
        judged, theirs, most = time.process_time() - learnt, 0.0, 0.0
        if isinstance(labour.each, EachOnWorkers):
            theirs = sum(labour.each.client.run(time.process_time).values())
            most = max(labour.each.client.run(memory).values())
    seconds = f"{made:.0f} | {learnt - cpu + theirs:,.0f} | {wall:,.0f} | {judged:.0f}"
    return f"| {n:,} | {workers} | {seconds} | {before:.2f} | {memory():.2f} | {most:.2f} | {gain:+.3f} |"


def work(options: argparse.Namespace) -> None:
    """One process for each size, so that memory is its own."""
    print(HEADER)
    for n in options.galaxies.split(","):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            asked = int(n), int(options.in_memory * 2**30), options.workers, options.folder
            print(pool.submit(row_of, *asked).result(), flush=True)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = plain_parser("bench.learn_speed", __doc__)
    parser.add_argument("--galaxies", default="10000,100000", help="sizes, with commas between")
    parser.add_argument("--in-memory", type=float, default=1.0, help="GiB of draws above which they go to a file")
    parser.add_argument("--workers", type=int, default=0, help="Dask workers; 0: this process")
    parser.add_argument("--folder", type=Path, help="of scratch files; the system's place for such if left out")
    run_study(parser, work, {"galaxies": "600"}, argv)


if __name__ == "__main__":
    main()
