"""Calibration of population inference over synthetic surveys: ranks and coverage, and the faults that must fail.

    python benchmarks/population_coverage.py --surveys 120 --output coverage.json

Each case is written when it is done and not run again; prints the table of docs/population.md. About 25 minutes on one
core for everything.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from provabgs.population.coverage import FAULTS, LEVELS, Calibration, Fault, Survey, check
from provabgs.population.densities import Density, GaussianDensity, MixtureDensity
from provabgs.population.histogram import HistogramDensity
from provabgs.population.sampling import SamplingOptions

ONE = GaussianDensity((0.0,), (1.5,))
DENSITIES: dict[str, Density] = {
    "Gaussian": ONE,
    "mixture of 2": MixtureDensity(ONE, 2),
    "histogram, 20 bins": HistogramDensity.uniform(-4, 4, 20),
    "Gaussian, 2-D": GaussianDensity((0.0, 0.0), (1.5, 1.5)),
    "histogram, 8 x 8": HistogramDensity.uniform([-4, -4], [4, 4], [8, 8]),
}
POINTS_2D = np.array([[0.5, 0.5], [-1.5, 0.5], [0.5, -1.5], [1.5, 1.5], [-1.5, -1.5]])
OPTIONS = SamplingOptions(n_chain=2, n_warmup=200, n_draw=300, n_start=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surveys", type=int, default=120, help="surveys of a right inference")
    parser.add_argument("--faulty", type=int, default=60, help="surveys of each fault")
    parser.add_argument("--output", type=Path, default=Path("coverage.json"))
    parser.add_argument("--only", help="densities whose name holds this")
    arguments = parser.parse_args()
    done = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    for name, density in DENSITIES.items():
        for fault in FAULTS:
            n = arguments.surveys if fault == "none" else arguments.faulty
            key = f"{name} | {fault} | {n}"
            wanted = (arguments.only is None or arguments.only in name) and (fault == "none" or density.ndim == 1)
            if wanted and key not in done:
                done[key] = run(density, n, fault)
                arguments.output.write_text(json.dumps(done))
                print(row(key, done[key]), flush=True)
    print("\n| density | fault | surveys | 68 % | 95 % | smallest KS p | passes | s a survey |\n" + "|---" * 8 + "|")
    for key, value in done.items():
        print(row(key, value))


def run(density: Density, n: int, fault: Fault) -> dict:
    start = time.perf_counter()
    points = POINTS_2D if density.ndim == 2 else None
    found = check(density, Survey(n_galaxy=80), n, 7, fault=fault, options=OPTIONS, points=points)
    return {
        "names": list(found.names),
        "rank": found.rank.tolist(),
        "converged": found.converged.tolist(),
        "seconds": (time.perf_counter() - start) / n,
    }


def row(key: str, value: dict) -> str:
    """A line of the table: range of the coverage over all quantities."""
    name, fault, n = key.split(" | ")
    found = Calibration(tuple(value["names"]), np.array(value["rank"]), np.array(value["converged"]))
    cells = [
        f"{c.mean():.3f} ({c.min():.2f}-{c.max():.2f}) +- {found.error(q):.3f}"
        for q, c in ((q, found.coverage(q)) for q in LEVELS)
    ]
    verdict = "yes" if found.passes() else "**no**"
    tail = f"{found.p_values().min():.2g} | {verdict} | {value['seconds']:.1f} |"
    return f"| {name} | {fault} | {n} | {' | '.join(cells)} | {tail}"


if __name__ == "__main__":
    main()
