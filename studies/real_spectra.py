"""Do fits of real spectra agree with each other? Seeds, presets, spectrum against bands: docs/studies/honest.md.

    python -m studies.real_spectra --data FOLDER --seeds 5 --workers 2

FOLDER holds the unpacked packages that the head of studies/support/real_galaxies.py names. Each galaxy is fitted with
several seeds; where it has bands, to spectrum, bands and both. Printed per galaxy, preset and data: STATUS of the
seeds, range of their log evidence, chi2 per pixel and of the bands with their predictive p-values, and medians and
errors of the first seed with the largest shift of another seed's median in sigmas of the first. A sampler that misses
modes shows as a shift of CONVERGED seeds. ``--observing 'template_error_floor = 1'`` changes ``[fit.observing]`` of all
fits; give it another ``--output``.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from provabgs import Observation
from provabgs.inference.config import PRESETS, FitConfig, SamplerOptions
from provabgs.inference.fit import fit_one
from studies.support.command import QUICK, run_study, study_parser, tracked
from studies.support.pieces import Arrays, in_order, kept_arrays
from studies.support.prior_galaxies import simulate
from studies.support.real_galaxies import GALAXIES

PROPERTIES = ("logmstar_surviving", "log_sfr_1gyr", "log_z_mw", "t_age_mw", "tau_ism")
QUALITY = (
    *("p_spec", "p_spec_binned", "p_phot", "tension", "residual", "residual_wave"),
    *("template_rms", "calibration_rms", "noise_rms"),
)
"""Kept of `provabgs.inference.quality.Quality`."""
MEASURED = ("logml_sdss_r",)
"""Measured after the fit: log10 of the surviving mass over the r-band luminosity, dust included."""


class Fit(NamedTuple):
    """One fit."""

    name: str
    preset: str
    use: str
    seed: int


@lru_cache(maxsize=8)
def observation_of(name: str, data: Path | None) -> Observation:
    """The galaxy's data; without a folder (``--smoke``) a simulated one of the package's own stars."""
    return simulate(0)[0] if data is None else GALAXIES[name](data).observation


class Setup(NamedTuple):
    """What all fits have in common."""

    data: Path | None
    sampler: SamplerOptions
    observing: str = ""
    """TOML, of ``[fit.observing]``."""


def fit_of(fit: Fit, setup: Setup) -> Arrays:
    """Summary of one fit."""
    observing = {"z_max": 1.0} | tomllib.loads(setup.observing)
    config = FitConfig(preset=fit.preset, use=fit.use, observing=observing, sampler=setup.sampler)
    posterior = fit_one(observation_of(fit.name, setup.data), config, seed=fit.seed)
    d = posterior.diagnostics
    out: dict[str, object] = {"status": posterior.status.name, "message": posterior.message, "n_eval": d.n_eval}
    out |= {"log_evidence": d.log_evidence, "runtime_s": d.runtime_s}
    out["chi2"] = np.array([posterior.chi2_spec, posterior.dof_spec, posterior.chi2_phot, posterior.dof_phot])
    out |= {q: getattr(posterior.quality, q) for q in QUALITY}
    out |= {p: posterior.quantiles(p) for p in PROPERTIES}
    out |= {m: posterior.measured.get(m, np.full(3, np.nan)) for m in MEASURED}
    return {k: np.asarray(v) for k, v in out.items()}


def kept(folder: Path, fit: Fit, setup: Setup) -> Arrays:
    """`fit_of`, from its file where it is there."""
    path = folder / fit.name / fit.preset / f"{fit.use}-{fit.seed}.npz"
    return kept_arrays(path, lambda: fit_of(fit, setup))


def fits_of(options: argparse.Namespace) -> list[Fit]:
    """All fits of the study."""
    out = []
    for name in options.galaxies.split(","):
        joint = observation_of(name, options.data).photometry is not None
        for preset in options.presets.split(","):
            for use in ("both", "spectrum", "photometry") if joint else ("spectrum",):
                out += [Fit(name, preset, use, seed) for seed in range(options.seeds)]
    return out


def results(options: argparse.Namespace, jobs: list[Fit]) -> Iterator[Arrays]:
    """Results in the order of the fits."""
    sampler = QUICK if options.smoke else SamplerOptions(time_limit_s=options.time_limit)
    setup = Setup(options.data, sampler, "\n".join(options.observing))
    return in_order(kept, [(options.output, job, setup) for job in jobs], options.workers)


def line_of(rows: list[Arrays]) -> str:
    """One row of the table: seeds of one galaxy, preset and kind of data."""
    status = [str(r["status"]) for r in rows]
    converged = [r for r, s in zip(rows, status, strict=True) if s == "CONVERGED"] or rows
    evidence = np.array([float(r["log_evidence"]) for r in converged])
    chi2 = converged[0]["chi2"]
    p = ", ".join(f"{converged[0][name]:.2g}" for name in ("p_spec", "p_spec_binned"))
    spec = f"{chi2[0] / chi2[1]:.2f} ({p})" if chi2[1] else "-"
    phot = f"{chi2[2]:.1f}/{chi2[3]:.0f} ({converged[0]['p_phot']:.2g})" if chi2[3] else "-"
    cells = [f"{status.count('CONVERGED')}/{len(rows)}", f"{np.ptp(evidence):.1f}", spec, phot]
    for p in (*PROPERTIES, *MEASURED):
        low, median, high = converged[0][p]
        sigma = max(0.5 * (high - low), 1e-9)
        shift = max(abs(float(r[p][1]) - median) / sigma for r in converged)
        cells.append(f"{median:.2f} +- {sigma:.2f} ({shift:.1f})")
    cells.append(f"{np.median([float(r['n_eval']) for r in rows]):,.0f}")
    return " | ".join(cells)


def work(options: argparse.Namespace) -> None:
    """Fit, and print the table."""
    jobs = fits_of(options)
    rows: dict[tuple[str, str, str], list[Arrays]] = {}
    for job, row in zip(jobs, tracked(results(options, jobs), len(jobs), "fits"), strict=True):
        rows.setdefault(job[:3], []).append(row)
        print(f"{job.name} {job.preset} {job.use} seed {job.seed}: {row['status']}", flush=True)
    head = ["galaxy", "preset", "data", "CONVERGED", "range of ln Z", "chi2/pixel (p, p of bins)", "chi2 of bands (p)"]
    head += [*PROPERTIES, *MEASURED, "evaluations"]
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for key, group in rows.items():
        print(f"| {' | '.join(key)} | {line_of(group)} |")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = study_parser("studies.real_spectra", __doc__)
    parser.add_argument("--data", type=Path, help="folder of the unpacked packages")
    parser.add_argument("--galaxies", default=",".join(GALAXIES), help="which, with commas between")
    parser.add_argument("--presets", default=",".join(PRESETS), help="presets to fit with, with commas between")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--observing", nargs="*", default=[], help="lines of TOML, of [fit.observing]")
    parser.add_argument("--time-limit", type=float, default=300.0, help="seconds a fit")
    smoke = {"galaxies": "simulated", "presets": "honest", "seeds": 1, "time_limit": 20.0}
    run_study(parser, work, smoke, argv, needs=("data",))


if __name__ == "__main__":
    main()
