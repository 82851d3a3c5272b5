"""Figures of docs/guide/population.md: densities of a made-up catalog, and induced priors.

    python -m studies.population_figures --figures docs/figures

The catalog's posteriors are prior draws of the real model weighted by Gaussian measurements of chosen properties
(`tests.support.made_up_catalog`): the induced prior is in them, and the truth is known. Prints what was recovered.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure

from provabgs.inference.config import FitConfig
from provabgs.plotting.induced import prior_figure
from provabgs.plotting.population import density_figure
from provabgs.plotting.style import save, style
from provabgs.population.density.infer import infer_population
from provabgs.population.density.nuts import SamplingOptions
from provabgs.population.density.reading import FlatPrior, open_population
from provabgs.population.prior.draws import age_of_universe, draw_properties
from provabgs.population.prior.max_entropy import DEFAULT, LIMITS, MaxEntropyPrior
from studies.support.command import run_study, study_parser
from tests.support.made_up_catalog import made_up_posteriors, write_made_up_catalog

Z = 0.2
FIGURES = ("priors", "one", "joint")


def work(options: argparse.Namespace) -> None:
    """Draw all figures, and print what was recovered; catalogs that the output folder holds are not made again."""
    folder = options.figures or options.output
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        if "priors" in options.only:
            save(_priors(options.prior_draws), folder / "population_prior.png")
        if "one" in options.only:
            _one(options, folder)
        if "joint" in options.only:
            _joint(options, folder)


def _priors(n: int) -> Figure:
    drawn = draw_properties(FitConfig(), Z, n, np.random.default_rng(0))
    made = MaxEntropyPrior.build(DEFAULT, FitConfig(), Z)
    weight = np.exp(made.log_ratio(np.stack([drawn[k] for k in DEFAULT], axis=-1)[None], np.array([Z]))[0])
    scale = {"T_AGE_MW": age_of_universe(FitConfig(), Z)}
    return prior_figure(drawn, DEFAULT, weight, {k: [v * scale.get(k, 1.0) for v in LIMITS[k]] for k in DEFAULT})


def _sampling(options: argparse.Namespace, n_draw: int) -> SamplingOptions:
    return (
        SamplingOptions(n_chain=2, n_warmup=50, n_draw=50, n_start=4)
        if options.smoke
        else SamplingOptions(n_draw=n_draw)
    )


def _one(options: argparse.Namespace, folder: Path) -> None:
    """Two classes in log sSFR, measured to 0.35 dex."""
    rng, n = np.random.default_rng(1), options.galaxies
    quiescent = rng.uniform(size=n) < 0.4
    truth = np.where(quiescent, rng.normal(-11.9, 0.3, n), rng.normal(-10.2, 0.3, n))
    root = options.output / f"one-{n}"
    if not root.exists():
        write_made_up_catalog(root, made_up_posteriors(truth, "LOGSSFR_1GYR", 0.35, rng, n_pool=options.pool))
    cases: list[tuple[Literal["histogram", "mixture"], FlatPrior | None]] = [
        ("histogram", None),
        ("mixture", None),
        ("mixture", FlatPrior()),
    ]
    for kind, prior in cases:
        data = open_population(root, ["LOGSSFR_1GYR"], prior=prior)
        found = infer_population(
            data, kind, limits=[(-13.5, -8.8)], rng=np.random.default_rng(2), options=_sampling(options, 800)
        )
        label = f"{kind}, prior {found.meta['prior']}"
        print(f"{label}: R-hat {found.convergence.rhat_max:.3f}", found.warnings)
        if kind == "mixture":
            _print(found.parameters(), ("weight", "mean", "sigma"))
        if prior is None:
            save(density_figure(found, data.region(), truth[:, None]), folder / f"population_{kind}.png")


def _joint(options: argparse.Namespace, folder: Path) -> None:
    """A star-forming sequence of slope 0.8 and width 0.3 dex; masses measured to 0.1, sSFR to 0.25 dex."""
    rng, n = np.random.default_rng(3), options.galaxies
    mass = rng.normal(10.3, 0.5, n)
    sfr = 0.8 * (mass - 10.5) + 0.3 + rng.normal(0, 0.3, n)
    truth = np.stack([mass, sfr - mass + 0.2], axis=1)  # surviving mass is about 0.2 dex below the mass formed
    columns, noise = ("LOGMSTAR_FORMED", "LOGSSFR_1GYR"), (0.1, 0.25)
    root = options.output / f"joint-{n}"
    if not root.exists():
        write_made_up_catalog(root, made_up_posteriors(truth, columns, noise, rng, n_pool=options.pool))
    data = open_population(root, columns)
    found = infer_population(data, "gaussian", rng=np.random.default_rng(4), options=_sampling(options, 400))
    print("joint: R-hat", found.convergence.rhat_max, found.warnings)
    _print(found.parameters(), ("mean", "sigma"))
    rho = found.parameters()["correlation"][:, 0, 1]
    print(f"correlation {rho.mean():.3f} +- {rho.std():.3f}")
    print("truth of the sample:", truth.mean(axis=0), truth.std(axis=0), np.corrcoef(truth.T)[0, 1])
    save(density_figure(found, truth=truth), folder / "population_joint.png")


def _print(parameters: dict[str, np.ndarray], names: tuple[str, ...]) -> None:
    for name in names:
        flat = parameters[name].reshape(len(parameters[name]), -1)
        print(" ", name, np.round(flat.mean(axis=0), 3), "+-", np.round(flat.std(axis=0), 3))


def main() -> None:
    """Parse the command line and run."""
    parser = study_parser("studies.population_figures", __doc__)
    parser.add_argument("--galaxies", type=int, default=400)
    parser.add_argument("--prior-draws", type=int, default=100_000, help="of the figure of induced priors")
    parser.add_argument("--pool", type=int, default=400_000, help="prior draws that made-up posteriors are drawn from")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=FIGURES)
    run_study(parser, work, {"galaxies": 20, "prior_draws": 5000, "pool": 20_000, "only": ("priors", "joint")})


if __name__ == "__main__":
    main()
