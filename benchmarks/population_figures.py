"""Figures of docs/population.md: densities of a made-up catalog, and induced priors.

    python benchmarks/population_figures.py docs/figures

The catalog's posteriors are prior draws of the real model weighted by Gaussian measurements of chosen properties
(tests/support_population.py): the induced prior is in them, and the truth is known. Prints what was recovered.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from provabgs.inference.config import FitConfig
from provabgs.plotting.induced import prior_figure
from provabgs.plotting.population import density_figure
from provabgs.plotting.style import save, style
from provabgs.population.density.infer import infer_population
from provabgs.population.density.nuts import SamplingOptions
from provabgs.population.density.reading import FlatPrior, open_population
from provabgs.population.prior.draws import age_of_universe, draw_properties
from provabgs.population.prior.max_entropy import DEFAULT, LIMITS, MaxEntropyPrior

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support_population import made_up_posteriors, write_made_up_catalog

Z = 0.2
N = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with style():
        save(_priors(), folder / "population_prior.png")
        with tempfile.TemporaryDirectory() as scratch:
            _one(Path(scratch) / "one", folder)
            _joint(Path(scratch) / "two", folder)


def _priors() -> object:
    drawn = draw_properties(FitConfig(), Z, 100_000, np.random.default_rng(0))
    made = MaxEntropyPrior.build(DEFAULT, FitConfig(), Z)
    weight = np.exp(made.log_ratio(np.stack([drawn[k] for k in DEFAULT], axis=-1)[None], np.array([Z]))[0])
    scale = {"T_AGE_MW": age_of_universe(FitConfig(), Z)}
    return prior_figure(drawn, DEFAULT, weight, {k: [v * scale.get(k, 1.0) for v in LIMITS[k]] for k in DEFAULT})


def _one(root: Path, folder: Path) -> None:
    """Two classes in log sSFR, measured to 0.35 dex."""
    rng = np.random.default_rng(1)
    quiescent = rng.uniform(size=N) < 0.4
    truth = np.where(quiescent, rng.normal(-11.9, 0.3, N), rng.normal(-10.2, 0.3, N))
    write_made_up_catalog(root, made_up_posteriors(truth, "LOGSSFR_1GYR", 0.35, rng))
    for kind, prior in (("histogram", None), ("mixture", None), ("mixture", FlatPrior())):
        data = open_population(root, ["LOGSSFR_1GYR"], prior=prior)
        found = infer_population(
            data, kind, limits=[(-13.5, -8.8)], rng=np.random.default_rng(2), options=SamplingOptions(n_draw=800)
        )
        label = f"{kind}, prior {found.meta['prior']}"
        print(f"{label}: R-hat {found.convergence.rhat_max:.3f}", found.warnings)
        if kind == "mixture":
            _print(found.parameters(), ("weight", "mean", "sigma"))
        if prior is None:
            save(density_figure(found, data.region(), truth[:, None]), folder / f"population_{kind}.png")


def _joint(root: Path, folder: Path) -> None:
    """A star-forming sequence of slope 0.8 and width 0.3 dex; masses measured to 0.1, sSFR to 0.25 dex."""
    rng = np.random.default_rng(3)
    mass = rng.normal(10.3, 0.5, N)
    sfr = 0.8 * (mass - 10.5) + 0.3 + rng.normal(0, 0.3, N)
    truth = np.stack([mass, sfr - mass + 0.2], axis=1)  # surviving mass is about 0.2 dex below the mass formed
    columns, noise = ("LOGMSTAR_FORMED", "LOGSSFR_1GYR"), (0.1, 0.25)
    posteriors = made_up_posteriors(truth, columns, noise, rng)
    write_made_up_catalog(root, posteriors)
    data = open_population(root, columns)
    found = infer_population(data, "gaussian", rng=np.random.default_rng(4), options=SamplingOptions(n_draw=400))
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


if __name__ == "__main__":
    main()
