"""Time of population inference at survey size: 1e6 galaxies x 256 draws, one property.

    python -m bench.population_speed --galaxies 1000000 --store 50000 -o /scratch/population

Prints the Markdown tables of docs/guide/population.md. Streaming is timed on as many synthetic draws as asked for, in
chunks that come and go; reading is timed on a store written by the real writer, of `--store` galaxies.
"""

from __future__ import annotations

import argparse
import os
import resource
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from bench.store_speed import make_store, timed
from provabgs.catalog.summary import build_summary
from provabgs.core.jax import jnp
from provabgs.population.density.grid import onto_histogram, onto_nodes
from provabgs.population.density.histogram import HistogramDensity
from provabgs.population.density.importance import sample_streamed
from provabgs.population.density.likelihood import Draws, Gridded
from provabgs.population.density.models import Density, GaussianDensity, MixtureDensity
from provabgs.population.density.nuts import SamplingOptions, sample_population
from provabgs.population.density.reading import FlatPrior, open_population
from provabgs.population.density.streamed import StreamedLikelihood, gridded_chunks
from studies.support.command import plain_parser, run_study

CHUNK, S = 4096, 256
ONE = GaussianDensity((0.0,), (3.0,))
TWO = MixtureDensity(ONE, 2)
SHORT = SamplingOptions(n_chain=2, n_warmup=200, n_draw=400, n_start=8)
SMOKE = SamplingOptions(n_chain=2, n_warmup=20, n_draw=20, n_start=2)
HISTOGRAM = HistogramDensity.uniform(-4, 4, 40)


def synthetic(n: int) -> Callable[[], Iterator[Draws]]:
    """Chunks of `n` galaxies in all, made as they are asked for: two classes, individual errors of 0.3."""

    def chunks() -> Iterator[Draws]:
        rng = np.random.default_rng(0)
        noise = rng.standard_normal((CHUNK, S)).astype(np.float32) * np.float32(0.3)
        for start in range(0, n, CHUNK):
            red = rng.uniform(size=(CHUNK, 1)) < 0.4
            truth = np.where(red, -1.2, 0.6) + rng.normal(0, 0.35, (CHUNK, 1))
            centre = (truth + 0.3 * rng.standard_normal((CHUNK, 1))).astype(np.float32)
            theta = jnp.asarray((centre + np.roll(noise, start // CHUNK, axis=0))[..., None])
            weight = (np.arange(CHUNK) + start < n).astype(np.float64)
            yield Draws(theta, jnp.full((CHUNK, S), -np.float32(np.log(S))), jnp.asarray(weight))

    return chunks


def memory() -> str:
    """Largest memory of this process so far, GB."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2:.1f}"


def work(arguments: argparse.Namespace) -> None:
    """Time step by step and print the tables."""
    n, short = arguments.galaxies, SMOKE if arguments.smoke else SHORT
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {n} galaxies x {S} draws\n")
    print("| step | s | largest memory so far, GB |\n|---|---|---|")
    t_make, _ = timed(lambda: sum(1 for _ in synthetic(n)()))
    row("making the synthetic chunks (no inference; taken off below)", t_make)
    densities: dict[str, Density] = {"Gaussian": ONE, "mixture of 2": TWO}
    for name, density in densities.items():
        eta = np.zeros(density.n_eta)
        StreamedLikelihood(density, synthetic(CHUNK)).value_and_grad(eta)  # compile
        t, _ = timed(partial(StreamedLikelihood(density, synthetic(n)).value_and_grad, eta))
        row(f"{name}: ln L and gradient, draws streamed", t - t_make)
    t, gridded = timed(lambda: onto_histogram(HISTOGRAM, synthetic(n)()))
    row("compressing onto 40 bins, once", t - t_make)
    on_grid(HISTOGRAM, gridded, "40 bins")
    t, found = timed(lambda: sample_population(HISTOGRAM, gridded, np.random.default_rng(1), options=short))
    row(f"HistogramDensity on 40 bins: **whole posterior**, NUTS, R-hat {found.convergence.rhat_max:.3f}", t)
    t, at_nodes = timed(lambda: onto_nodes(-4.0, 4.0, synthetic(n)()))
    row("compressing onto 384 nodes, once", t - t_make)
    on_grid(ONE, at_nodes, "384 nodes")
    mixture = on_grid(TWO, at_nodes, "384 nodes")
    few = (
        SamplingOptions(n_importance=32, n_start=2) if arguments.smoke else SamplingOptions(n_importance=256, n_start=8)
    )
    t, found = timed(lambda: sample_streamed(mixture, np.random.default_rng(1), options=few))
    row(f"MixtureDensity on 384 nodes: **whole posterior**, efficiency {found.efficiency:.2f}", t)
    reading(arguments.store, arguments.output / "store")


def row(label: str, seconds: float) -> None:
    """One line of the table."""
    print(f"| {label} | {seconds:.1f} | {memory()} |", flush=True)


def on_grid(density: Density, gridded: Gridded, name: str) -> StreamedLikelihood:
    """Time one evaluation on gridded draws, and return the likelihood."""
    streamed = StreamedLikelihood(density, lambda: gridded_chunks(gridded, 16_384), counted=lambda: synthetic(CHUNK)())
    eta = np.zeros(density.n_eta)
    streamed.value_and_grad(eta)  # compile
    t, _ = timed(lambda: streamed.value_and_grad(eta))
    row(f"{type(density).__name__} on {name}: ln L and gradient", t)
    return streamed


def reading(n: int, folder: Path) -> None:
    """Draws of one property from a store of the real writer."""
    n = max(n // 1000, 1) * 1000
    if not folder.exists():
        t = make_store(folder, n)
        build_summary(folder)
        print(f"\nstore of {n} galaxies written in {t:.0f} s")
    data = open_population(folder, ["LOGMSTAR"], prior=FlatPrior())
    t, _ = timed(lambda: sum(1 for _ in data.chunks()))
    print(
        f"reading one property of {len(data)} galaxies from the store: {t:.1f} s, {1e6 * t / len(data):.1f} s a million"
    )


def main() -> None:
    """Parse the command line and run."""
    parser = plain_parser("bench.population_speed", __doc__)
    parser.add_argument("--galaxies", type=int, default=1_000_000)
    parser.add_argument("--store", type=int, default=50_000)
    run_study(parser, work, {"galaxies": CHUNK, "store": 1000})


if __name__ == "__main__":
    main()
