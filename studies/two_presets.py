"""Two presets against one another: `provabgs compare --layout own` on the same galaxies, and the parts of the offset.

    python -m studies.two_presets --galaxies 40

Simulated galaxies with a draw of the honest noise model's errors are fitted under ``honest`` (ours) and ``published``
(the other's). Printed: offsets and scatter, and the parts of the offset between the presets. As the other is a fit of
this package, the part that is left (``rest``) must be zero within its error.
"""

from __future__ import annotations

import argparse
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from provabgs import Observation
from provabgs.catalog import Catalog
from provabgs.catalog.conventions import LAYOUTS, Refit
from provabgs.catalog.explain import REST, Step, refit, sample, split, steps_of
from provabgs.catalog.export import export
from provabgs.catalog.offsets import compare, read_other, statistics
from provabgs.core.arrays import IntArray
from provabgs.core.atomic import atomic_path
from provabgs.core.progress import Display
from provabgs.inference.config import PRESETS, FitConfig, SamplerOptions
from provabgs.observe.options import ObservingOptions
from studies.support.command import QUICK, plain_parser, run_study
from studies.support.prior_galaxies import simulate

MASKS = ("line_mask", "clip_sigma")
"""Options of the honest preset that leave pixels out; its others are of the noise model."""


def published(keys: tuple[str, ...]) -> dict[str, Any]:
    """Options of the observing layer as the published preset has them."""
    return {"observing": {key: ObservingOptions.model_fields[key].default for key in keys}}


NOISE = tuple(key for key in PRESETS["honest"]["observing"] if key not in MASKS)
LAYOUT = LAYOUTS["own"].model_copy(
    update={
        "refit": (
            Refit(part="masks", changes=published(MASKS)),
            Refit(part="noise model", changes={"preset": "published", **published(NOISE)}),
        )
    }
)


@lru_cache(maxsize=64)
def galaxy(number: int) -> Observation:
    """Data of one galaxy."""
    return simulate(number, "honest")[0]


def fits(part: str, preset: str, numbers: IntArray, folder: Path, sampler: SamplerOptions) -> Path:
    """A catalog of the galaxies under one preset, as one file."""
    config = FitConfig(preset=preset, sampler=sampler)
    with Display(part, unit="fits") as show:
        files = list(refit([Step(part, config)], numbers, galaxy, folder, seed=0, progress=show))
    with Catalog.open_files(files) as catalog:
        path = folder / f"{part}.parquet"
        export(catalog, path)
    return path


def work(options: argparse.Namespace) -> None:
    """Fit, compare, split."""
    numbers = np.arange(1, options.galaxies + 1)
    sampler = QUICK if options.smoke else SamplerOptions()
    ours, theirs = (fits(p, p, numbers, options.output / p, sampler) for p in ("honest", "published"))
    with Catalog.open(ours) as catalog:
        found = compare(catalog, read_other(theirs, LAYOUT), LAYOUT)
    offsets = statistics(found, 1)
    steps = steps_of(FitConfig(sampler=sampler), LAYOUT)
    with Display("fits", unit="fits") as show:
        chosen = sample(found, options.galaxies)
        files = list(refit(steps, chosen, galaxy, options.output / "steps", progress=show))
    parts = split(found, steps, chosen, files)
    show_tables(offsets, parts)
    with atomic_path(options.output / "parts.ecsv") as temporary:
        parts.write(temporary, format="ascii.ecsv")


def show_tables(offsets: Table, parts: Table) -> None:
    """The tables of the page."""
    print("\n| quantity | galaxies | offset | its error | scatter |\n|---|---|---|---|---|")
    for r in offsets[offsets["AGAINST"] == "all"]:
        print(f"| {r['QUANTITY']} | {r['N']} | {r['OFFSET']:+.3f} | {r['OFFSET_ERR']:.3f} | {r['SCATTER']:.3f} |")
    print("\n| quantity | part | mean | its error | galaxies |\n|---|---|---|---|---|")
    for r in parts:
        print(f"| {r['QUANTITY']} | {r['PART']} | {r['MEAN']:+.3f} | {r['MEAN_ERR']:.3f} | {r['N']} |")
    rest = parts[parts["PART"] == REST]
    worst = float(np.nanmax(np.abs(rest["MEAN"] / rest["MEAN_ERR"]))) if len(rest) else float("nan")
    print(f"\nlargest rest: {worst:.1f} of its errors")


def main() -> None:
    """Parse the command line and run."""
    parser = plain_parser("studies.two_presets", __doc__)
    parser.add_argument("--galaxies", type=int, default=40)
    run_study(parser, work, {"galaxies": 2})


if __name__ == "__main__":
    main()
