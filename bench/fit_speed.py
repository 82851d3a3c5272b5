"""Processor time of whole fits: joint, spectrum alone and bands alone, under several presets.

    python -m bench.fit_speed --galaxies 24

Galaxies of the shipped stars with foreign histories and imperfect data (docs/studies/honest.md), S/N 3-30. Every fit is
made twice, one after another in one process: the first compiles what a galaxy of its size needs, the second is timed.
Fits of the kinds and presets take turns. For each: how many converged, evaluations, processor time and its ratio to
the joint fit of the published noise model on the same galaxy, median with 16-84 % and 95 %.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.inference.config import SamplerOptions
from provabgs.inference.fit import fit_one
from provabgs.observe.observation import Observation
from studies.honest_posteriors import Sample, config_of, galaxies_of
from studies.support.command import QUICK, plain_parser, run_study, tracked
from studies.support.pieces import Arrays, kept_arrays

SEED = 1
FITS = (
    ("published", "both"), ("delayed", "both"), ("honest", "both"), ("honest", "spectrum"), ("honest", "photometry"),
)  # fmt: skip
"""Preset and data; the first is what the others are compared with."""


def timed(observation: Observation, sample: Sample, preset: str, use: str) -> tuple[float, int, bool]:
    """Processor time of the second of two fits, seconds; evaluations; whether it converged."""
    config = config_of(sample, preset).model_copy(update={"use": use})
    fit_one(observation, config, seed=SEED)
    start = time.process_time()
    posterior = fit_one(observation, config, seed=SEED)
    return time.process_time() - start, posterior.diagnostics.n_eval, posterior.status.name == "CONVERGED"


def row_of(sample: Sample, number: int) -> Arrays:
    """`timed` for each of `FITS`, ``(nfit, 3)``."""
    observation = galaxies_of(*sample[:3]).make(number, seed=SEED).observation
    return {"times": np.array([timed(observation, sample, *fit) for fit in FITS], dtype=float)}


def spread(values: FloatArray) -> str:
    """Median and 16-84 %."""
    low, median, high = np.quantile(values, (0.16, 0.5, 0.84))
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def table_of(times: FloatArray) -> str:
    """Markdown, from ``(ngalaxy, nfit, 3)``."""
    lines = [
        "| fit | galaxies | CONVERGED | evaluations | processor time, s | 95 % | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for i, (preset, use) in enumerate(FITS):
        cpu, n_eval, converged = times[:, i].T
        lines.append(
            f"| {preset}, {use} | {len(cpu)} | {int(converged.sum())} | {np.median(n_eval):,.0f} | {spread(cpu)} "
            f"| {np.quantile(cpu, 0.95):.1f} | {spread(cpu / times[:, 0, 0])} |"
        )
    return "\n".join(lines)


def work(options: argparse.Namespace) -> None:
    """Fit, and print the table."""
    sample = Sample("own", None, "foreign", QUICK if options.smoke else SamplerOptions())
    numbers = range(options.galaxies)
    kept = (kept_arrays(options.output / f"{i}.npz", partial(row_of, sample, i)) for i in numbers)
    rows = [row["times"] for row in tracked(kept, len(numbers))]
    print(table_of(np.array(rows)))


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = plain_parser("bench.fit_speed", __doc__)
    parser.add_argument("--galaxies", type=int, default=24)
    run_study(parser, work, {"galaxies": 1}, argv)


if __name__ == "__main__":
    main()
