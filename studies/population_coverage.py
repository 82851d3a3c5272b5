"""Calibration of population inference over synthetic surveys: ranks and coverage, and the faults that must fail.

    python -m studies.population_coverage --surveys 120 --minutes 20

Surveys are written a few at a time, and those that are there are not run again: call it until it says that nothing is
left. The simplest cases come first, and faults, which show early, are given fewer surveys. Prints the table of
docs/guide/population.md, with what each case has so far.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from provabgs.population.density.histogram import HistogramDensity
from provabgs.population.density.models import Density, GaussianDensity, MixtureDensity
from provabgs.population.density.nuts import SamplingOptions
from studies.support.command import run_study, study_parser
from tests.support.density_calibration import FAULTS, LEVELS, Calibration, Fault, Survey, check

ONE = GaussianDensity((0.0,), (1.5,))
DENSITIES: dict[str, Density] = {
    "Gaussian": ONE,
    "mixture of 2": MixtureDensity(ONE, 2),
    "histogram, 20 bins": HistogramDensity.uniform(-4, 4, 20),
    "Gaussian, 2-D": GaussianDensity((0.0, 0.0), (1.5, 1.5)),
    "histogram, 8 x 8": HistogramDensity.uniform([-4, -4], [4, 4], [8, 8]),
}
POINTS_2D = np.array([[0.5, 0.5], [-1.5, 0.5], [0.5, -1.5], [1.5, 1.5], [-1.5, -1.5]])
OPTIONS = SamplingOptions(n_chain=2, n_warmup=300, n_draw=1000, n_start=8)
SEED = 7
PIECE = 5
"""Surveys between two writes."""


def cases(arguments: argparse.Namespace) -> Iterator[tuple[str, Density, Fault, int]]:
    """Key, density, fault and number of surveys wanted of every case asked for; faults in one dimension only."""
    for fault in FAULTS:
        for name, density in DENSITIES.items():
            key = f"{name} | {fault}"
            if (arguments.only is None or arguments.only in key) and (fault == "none" or density.ndim == 1):
                yield key, density, fault, arguments.surveys if fault == "none" else arguments.faulty


def run(density: Density, first: int, n: int, fault: Fault) -> dict[str, Any]:
    """Surveys `first` to `first + n` of a case."""
    start = time.process_time()
    points = POINTS_2D if density.ndim == 2 else None
    found = check(density, Survey(n_galaxy=80), n, SEED, fault=fault, options=OPTIONS, points=points, first=first)
    return {
        "names": list(found.names),
        "rank": found.rank.tolist(),
        "converged": found.converged.tolist(),
        "seconds": time.process_time() - start,
    }


def joined(before: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """A case with more surveys."""
    return new if before is None else {**new, **{k: before[k] + new[k] for k in ("rank", "converged", "seconds")}}


def row(key: str, value: dict[str, Any]) -> str:
    """A line of the table: range of the coverage over all quantities."""
    name, fault = key.split(" | ")
    found = Calibration(tuple(value["names"]), np.array(value["rank"]), np.array(value["converged"]))
    n = len(found.rank)
    cells = [
        f"{c.mean():.3f} ({c.min():.2f}-{c.max():.2f}) +- {found.error(q):.3f}"
        for q, c in ((q, found.coverage(q)) for q in LEVELS)
    ]
    verdict = "yes" if found.passes() else "**no**"
    tail = f"{found.p_values().min():.2g} | {verdict} | {value['seconds'] / n:.1f} |"
    return f"| {name} | {fault} | {n} ({int(found.converged.sum())} converged) | {' | '.join(cells)} | {tail}"


def work(options: argparse.Namespace) -> None:
    """Run surveys until none is left or time is over, and print the table of what there is."""
    path = options.output / "coverage.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    done: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    end = time.process_time() + 60 * options.minutes
    for key, density, fault, wanted in cases(options):
        while (have := len(done.get(key, {}).get("rank", ()))) < wanted and time.process_time() < end:
            n = min(PIECE, wanted - have)
            done[key] = joined(done.get(key), run(density, have, n, fault))
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(done))
            temporary.replace(path)
            print(row(key, done[key]), flush=True)
    print("\n| density | fault | surveys | 68 % | 95 % | smallest KS p | passes | CPU s a survey |")
    print("|---" * 8 + "|")
    for key, value in done.items():
        print(row(key, value))
    left = sum(max(n - len(done.get(key, {}).get("rank", ())), 0) for key, _, _, n in cases(options))
    print(f"\n{left} surveys left to run" if left else "\nnothing is left to run")


def main() -> None:
    """Parse the command line and run."""
    parser = study_parser("studies.population_coverage", __doc__)
    parser.add_argument("--surveys", type=int, default=120, help="surveys of a right inference")
    parser.add_argument("--faulty", type=int, default=60, help="surveys of each fault")
    parser.add_argument("--only", help="cases whose name (density | fault) holds this")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many of processor time")
    run_study(parser, work, {"surveys": 2, "faulty": 2, "only": "Gaussian | none"})


if __name__ == "__main__":
    main()
