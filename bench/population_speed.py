"""Time of population inference at survey size: 1e6 galaxies x 256 draws, one property.

    python benchmarks/bench_population.py --galaxies 1000000 --store 50000 --folder /scratch/population

Prints the Markdown tables of docs/population.md. The streaming is timed on as many synthetic draws as asked for, in
chunks that come and go; reading is timed on a store written by the real writer, of `--store` galaxies.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from bench_store import make_store

from provabgs.catalog.summary import build_summary
from provabgs.core.jax import jnp
from provabgs.population.density.grid import onto_histogram, onto_nodes
from provabgs.population.density.histogram import HistogramDensity
from provabgs.population.density.importance import sample_streamed
from provabgs.population.density.likelihood import Draws
from provabgs.population.density.models import Density, GaussianDensity, MixtureDensity
from provabgs.population.density.nuts import SamplingOptions, sample_population
from provabgs.population.density.reading import FlatPrior, open_population
from provabgs.population.density.streamed import StreamedLikelihood, gridded_chunks

CHUNK, S = 4096, 256
ONE = GaussianDensity((0.0,), (3.0,))
TWO = MixtureDensity(ONE, 2)
SHORT = SamplingOptions(n_chain=2, n_warmup=200, n_draw=400, n_start=8)
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


def timed(call: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def memory() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxies", type=int, default=1_000_000)
    parser.add_argument("--store", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, default=Path("bench_population_store"))
    arguments = parser.parse_args()
    n = arguments.galaxies
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {n} galaxies x {S} draws\n")
    print("| step | s | largest memory so far, GB |\n|---|---|---|")

    def row(label: str, seconds: float) -> None:
        print(f"| {label} | {seconds:.1f} | {memory()} |", flush=True)

    t_make, _ = timed(lambda: sum(1 for _ in synthetic(n)()))
    row("making the synthetic chunks (no inference; taken off below)", t_make)
    densities: dict[str, Density] = {"Gaussian": ONE, "mixture of 2": TWO}
    for name, density in densities.items():
        streamed = StreamedLikelihood(density, synthetic(n))
        eta = np.zeros(density.n_eta)
        StreamedLikelihood(density, synthetic(CHUNK)).value_and_grad(eta)  # compile
        t, _ = timed(lambda s=streamed, e=eta: s.value_and_grad(e))
        row(f"{name}: ln L and gradient, draws streamed", t - t_make)
    for name, compress in (
        ("40 bins", lambda: onto_histogram(HISTOGRAM, synthetic(n)())),
        ("384 nodes", lambda: onto_nodes(-4.0, 4.0, synthetic(n)())),
    ):
        t, gridded = timed(compress)
        row(f"compressing onto {name}, once", t - t_make)
        for density in (HISTOGRAM,) if name == "40 bins" else (ONE, TWO):
            streamed = StreamedLikelihood(
                density, lambda g=gridded: gridded_chunks(g, 16_384), counted=lambda: synthetic(CHUNK)()
            )
            label = type(density).__name__
            streamed.value_and_grad(np.zeros(density.n_eta))
            t, _ = timed(lambda s=streamed, d=density: s.value_and_grad(np.zeros(d.n_eta)))
            row(f"{label} on {name}: ln L and gradient", t)
            if density is HISTOGRAM:
                t, found = timed(
                    lambda g=gridded: sample_population(HISTOGRAM, g, np.random.default_rng(1), options=SHORT)
                )
                row(f"{label} on {name}: **whole posterior**, NUTS, R-hat {found.convergence.rhat_max:.3f}", t)
            if density is TWO:
                t, found = timed(
                    lambda s=streamed: sample_streamed(
                        s, np.random.default_rng(1), options=SamplingOptions(n_importance=256, n_start=8)
                    )
                )
                row(f"{label} on {name}: **whole posterior**, efficiency {found.efficiency:.2f}", t)
        del gridded
    reading(arguments.store, arguments.folder)


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


if __name__ == "__main__":
    main()
