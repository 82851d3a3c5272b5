"""Coverage of posteriors when the model is wrong: the table of docs/studies/honest.md.

    python -m studies.honest_posteriors --kind bc03 --stars bc03.h5 --galaxies 200 --workers 2

Galaxies of stars that the fitted model does not have (BC03, E-MILES; SSP libraries by `provabgs ssp build`), or of its
own stars with histories, dust and imperfections of the data that it does not have, are fitted with the published noise
model and with the preset ``honest``. Components of the template error are those learnt *without* the library that the
galaxies are made of. Reported per property: fraction of truths within the 68 and 95 % intervals, median offset, median
quoted sigma, and the fraction of CONVERGED fits. One file per galaxy and preset is kept in the output folder, and those
that are there are not fitted again.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.inference.config import PRESETS, FitConfig, SamplerOptions
from provabgs.inference.fit import fit_one
from provabgs.inference.posterior import Posterior
from studies.support.command import QUICK, run_study, study_parser
from studies.support.diffstar_galaxies import DIFFSTAR, DiffstarGalaxies
from studies.support.honest_galaxies import NONE, Galaxy, HonestGalaxies, of_kind
from studies.support.lgalaxies_galaxies import LGALAXIES, LGalaxies
from studies.support.model_galaxies import ModelGalaxies
from studies.support.pieces import Arrays, in_order, kept_arrays

PROPERTIES = ("logmstar", "logmstar_surviving", "log_sfr_100myr", "log_sfr_1gyr", "log_z_mw", "t_age_mw")
DISPERSION = "vdisp"
"""Of the galaxies whose velocity dispersion was fitted."""
UNSEEN = {"bc03": "without-bc03", "emiles": "without-emiles", "own": "all"}
"""Components that have not seen the library of each kind."""
MAKERS: dict[str, type[HonestGalaxies]] = {
    "foreign": HonestGalaxies,
    "prior": ModelGalaxies,
    LGALAXIES: LGalaxies,
    DIFFSTAR: DiffstarGalaxies,
}
"""Where histories and dust of the galaxies come from."""
LEVELS = (0.68, 0.95)
NO_RATE = 25.0
"""log SFRs farther from 0 stand for none."""
SEED = 1


class Sample(NamedTuple):
    """Which galaxies, and how they are fitted."""

    kind: str
    stars: str | None
    histories: str
    sampler: SamplerOptions
    observing: str = ""
    """TOML, of ``[fit.observing]``."""


@lru_cache(maxsize=1)
def galaxies_of(kind: str, stars: str | None, histories: str) -> HonestGalaxies:
    """Generator of one kind, once per process."""
    return of_kind(kind, stars, NONE if histories == LGALAXIES else None, MAKERS[histories])


def config_of(sample: Sample, preset: str) -> FitConfig:
    """Configuration of a preset, its components without the library that the galaxies are made of."""
    observing = (
        {"template_error_group": UNSEEN[sample.kind]}
        if "template-error" in FitConfig(preset=preset).observing.noise
        else {}
    )
    observing |= tomllib.loads(sample.observing)
    bounds = galaxies_of(*sample[:3]).prior_bounds
    return FitConfig(preset=preset, observing=observing, sampler=sample.sampler, prior_bounds=bounds)


def fit_galaxy(sample: Sample, number: int, preset: str) -> Arrays:
    """`row_of` one galaxy under a preset."""
    galaxy, start = galaxies_of(*sample[:3]).make(number, seed=SEED), time.process_time()
    posterior = fit_one(galaxy.observation, config_of(sample, preset), seed=SEED)
    return row_of(galaxy, posterior) | {"processor_s": np.asarray(time.process_time() - start)}


def row_of(galaxy: Galaxy, posterior: Posterior) -> Arrays:
    """What is kept of a fit: for each property truth, rank of the truth, median and half of the 68 % interval."""
    out: dict[str, object] = {"status": posterior.status.name, "n_eval": posterior.diagnostics.n_eval}
    out |= {"runtime_s": posterior.diagnostics.runtime_s, "history": galaxy.history, "sn": galaxy.truth["sn"]}
    out["chi2_per_pixel"] = posterior.chi2_spec / max(posterior.dof_spec, 1)
    told = DISPERSION in posterior.parameters and "vdisp_kms" in galaxy.truth
    fitted = {DISPERSION: galaxy.truth["vdisp_kms"]} if told else {}
    for name, truth in ({p: galaxy.truth[p] for p in PROPERTIES} | fitted).items():
        draws = posterior[name]
        low, median, high = np.quantile(draws, (0.16, 0.5, 0.84)) if draws.size else (np.nan,) * 3
        rank = float(np.mean(draws < truth)) if draws.size else float("nan")
        out[name] = np.array([truth, rank, median, 0.5 * (high - low)])
    return {k: np.asarray(v) for k, v in out.items()}


def kept_fit(folder: Path, sample: Sample, number: int, preset: str) -> Arrays:
    """`fit_galaxy`, from its file where it is there."""
    path = folder / f"{sample.kind}-{sample.histories}" / preset / f"{number}.npz"
    return kept_arrays(path, lambda: fit_galaxy(sample, number, preset))


def fits(options: argparse.Namespace, preset: str) -> Iterator[Arrays]:
    """Fits of all galaxies under one preset, with progress."""
    sampler = QUICK if options.smoke else SamplerOptions(time_limit_s=options.time_limit)
    sample = Sample(options.kind, options.stars, options.histories, sampler, "\n".join(options.observing))
    jobs = [(options.output, sample, i, preset) for i in range(options.galaxies)]
    return in_order(kept_fit, jobs, options.workers)


HEADER = "| property | 68 % | 95 % | median offset | median sigma | 90 % of pulls within |\n|---|---|---|---|---|---|"


def known(rows: list[Arrays], name: str) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Truth, rank, median and sigma of a property, ``(4, n)``, and which count: who formed nothing has no log SFR."""
    values = np.array([r[name] for r in rows], dtype=np.float64).T
    truth, _, median, _ = values
    return values, np.isfinite(median - truth) & ((name == DISPERSION) | (np.abs(truth) < NO_RATE))


def table_of(rows: list[Arrays]) -> str:
    """Markdown rows, one per property."""
    lines = []
    dispersion = [DISPERSION] if any(DISPERSION in r for r in rows) else []
    for name in (*PROPERTIES, *dispersion):
        values, counts = known([r for r in rows if name in r], name)
        truth, rank, median, sigma = values[:, counts]
        inside = [f"{100 * np.mean(np.abs(rank - 0.5) < level / 2):.0f}" for level in LEVELS]
        offset, sigma = median - truth, np.maximum(sigma, 1e-9)
        numbers = (np.median(offset), np.median(sigma), np.quantile(np.abs(offset / sigma), 0.9))
        lines.append(f"| {name} | {inside[0]} | {inside[1]} | " + " | ".join(f"{x:.2f}" for x in numbers) + " |")
    return "\n".join(lines)


def work(options: argparse.Namespace) -> None:
    """Fit, and print one table per preset."""
    for preset in options.presets.split(","):
        rows = []
        for row in fits(options, preset):
            rows.append(row)
            print(f"{preset} {len(rows)}/{options.galaxies} {row['status']} {int(row['n_eval'])}", flush=True)
        converged = np.mean([str(r["status"]) == "CONVERGED" for r in rows])
        cost = np.median([float(r["n_eval"]) for r in rows])
        processor = np.median([float(r.get("processor_s", np.nan)) for r in rows])
        print(
            f"\n{options.kind} stars, {options.histories} histories, preset {preset}: {len(rows)} galaxies, "
            f"{100 * converged:.0f} % CONVERGED, median {cost:,.0f} evaluations, {processor:.1f} s of processor time\n"
        )
        print(f"{HEADER}\n{table_of(rows)}\n")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = study_parser("studies.honest_posteriors", __doc__)
    parser.add_argument("--kind", choices=tuple(UNSEEN), default="own", help="stars that the galaxies are made of")
    parser.add_argument("--stars", help="SSP library of these stars; none for the package's own")
    parser.add_argument(
        "--histories",
        choices=tuple(MAKERS),
        default="foreign",
        help="'foreign': delayed, bursty and quenched, dust of Calzetti's shape; 'prior': drawn from the fit's prior, "
        "so that the stars and the data alone are wrong; 'lgalaxies': a simulation's, as DESI observes it; 'diffstar': "
        "TNG's, by the package diffstar",
    )
    parser.add_argument("--presets", default=",".join(PRESETS), help="presets to fit with, with commas between")
    parser.add_argument("--observing", nargs="*", default=[], help="lines of TOML, of [fit.observing]; own --output")
    parser.add_argument("--galaxies", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=120.0, help="seconds a fit")
    run_study(parser, work, {"presets": "honest,delayed", "galaxies": 1, "time_limit": 20.0}, argv)


if __name__ == "__main__":
    main()
