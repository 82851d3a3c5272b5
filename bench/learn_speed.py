"""Time and memory of learning a population prior: N galaxies x 256 draws, five properties.

    python -m bench.learn_speed --galaxies 10000,100000

The galaxies are made up in the coordinates of a learnt prior: two classes, the prior standard normal, the data normal,
so that posteriors are exact. Draws above ``--in-memory`` GiB lie in a scratch file, as those of a catalog do. Printed
for each size, which has a process of its own: processor and wall seconds of learning both halves with five bootstraps
each and of judging them, and the largest memory. Reading a catalog is not part of it.
"""

from __future__ import annotations

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.inference.learnt import half_of
from provabgs.population.learnt.draws import DrawTable, Scratch
from provabgs.population.learnt.learn import LearnOptions, judge_half, learn_half
from studies.support.command import plain_parser, run_study

CHUNK, S = 4096, 256
CLASSES = np.array([[-0.2, 0.5, -0.3, -0.4, 0.2], [0.3, -1.5, 0.5, 1.0, -0.5]])
SIGMA, RED = 0.4, 0.4
NOISE = np.array([0.2, 0.5, 0.6, 0.7, 0.5])
HEADER = (
    "| galaxies | learning, CPU s | wall s | judging, CPU s | memory before, GB | most, GB | gain |\n"
    "|---|---|---|---|---|---|---|"
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


def row_of(n: int, in_memory: int) -> str:
    """Learn from `n` galaxies; a row of the table."""
    options = LearnOptions(n_draws=S)
    with Scratch(in_memory) as scratch:
        table, before = made_up(n, scratch), memory()
        cpu, wall = time.process_time(), time.perf_counter()
        halves = [learn_half(table.half(k), k, options) for k in (0, 1)]
        learnt, wall = time.process_time(), time.perf_counter() - wall
        gain = np.mean([judge_half(table.half(k), halves[1 - k]).gain for k in (0, 1)])
        judged = time.process_time() - learnt
    seconds = f"{learnt - cpu:,.0f} | {wall:,.0f} | {judged:.0f}"
    return f"| {n:,} | {seconds} | {before:.2f} | {memory():.2f} | {gain:+.3f} |"


def work(options: argparse.Namespace) -> None:
    """One process for each size, so that memory is its own."""
    print(HEADER)
    for n in options.galaxies.split(","):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            print(pool.submit(row_of, int(n), int(options.in_memory * 2**30)).result(), flush=True)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = plain_parser("bench.learn_speed", __doc__)
    parser.add_argument("--galaxies", default="10000,100000", help="sizes, with commas between")
    parser.add_argument("--in-memory", type=float, default=1.0, help="GiB of draws above which they go to a file")
    run_study(parser, work, {"galaxies": "600"}, argv)


if __name__ == "__main__":
    main()
