"""Processor time of building one galaxy's projection and reduction, dispersion fixed and free.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m bench.reduction_speed --galaxies 5

Galaxies of studies/support/honest_galaxies.py: three DESI cameras and five bands, the package's own stars. Tables that
galaxies share are built first and not timed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from provabgs.inference.backends import load_model
from provabgs.inference.compressed.reduction import reduce_projection
from provabgs.inference.config import FitConfig
from provabgs.observe.projection import Projection, project
from provabgs.observe.spectrum_fraction import with_spectrum_fraction
from studies.support.command import plain_parser, run_study
from studies.support.honest_galaxies import of_kind

SEED = 1


def milliseconds(work: Callable[[], object], repeats: int) -> list[float]:
    """Processor time of each call, after one that is not counted."""
    work()
    out = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        out.append(1e3 * (time.process_time() - start))
    return out


def work(options: argparse.Namespace) -> None:
    """Time, and print the table."""
    galaxies = of_kind("own")
    fitted = [with_spectrum_fraction(galaxies.make(i, seed=SEED).observation)[0] for i in range(options.galaxies)]
    print("| dispersion | pixels | projection, ms | reduction, ms |\n|---|---|---|---|")
    for vdisp in (150.0, "fit"):
        config = FitConfig.model_validate({"observing": {"vdisp_kms": vdisp}})
        model = load_model(config.model)
        projections: list[Projection] = []
        spent: list[list[float]] = [[], []]
        for galaxy in fitted:
            projections.append(project(galaxy, model.library, config.observing))
            spent[0] += milliseconds(partial(project, galaxy, model.library, config.observing), options.repeats)
        for projection in projections:
            spent[1] += milliseconds(partial(reduce_projection, projection, model), options.repeats)
        pixels = np.median([p.n_data[0] for p in projections])
        print(f"| {vdisp} | {pixels:.0f} | {np.median(spent[0]):.0f} | {np.median(spent[1]):.0f} |")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = plain_parser("bench.reduction_speed", __doc__)
    parser.add_argument("--galaxies", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=8, help="calls that are timed, per galaxy")
    run_study(parser, work, {"galaxies": 1, "repeats": 1}, argv)


if __name__ == "__main__":
    main()
