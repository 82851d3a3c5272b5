"""Coverage of the mass function's and the sequence's errors over synthetic surveys: the tables of docs/massfunction.md.

    python benchmarks/mass_function_coverage.py [--surveys 120] [--output docs/figures] [--load FILE.npz]

Each survey has its own seed; results go to OUTPUT/mass_function_coverage.npz as well, so that `--load` draws the tables
and the figure again without computing (the file is not part of the repository). About six minutes on one
busy core.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from provabgs.plotting.massfunction import plot_coverage, plot_mass_function, plot_schechter
from provabgs.plotting.style import new_figure, save, style
from provabgs.population.massfunction import MassFunction, mass_function, stacked_mass_function
from provabgs.population.sequence import NAMES, star_forming_sequence
from provabgs.population.syntheticsurvey import (
    SurveyRecipe,
    make_sequence,
    make_survey,
    true_mass_function,
)
from provabgs.population.volume import SurveyVolume

EDGES = np.linspace(9.0, 11.4, 13)
RECIPE = SurveyRecipe(survey=SurveyVolume(15.0, 0.01, 0.3))
CLUMPED = replace(RECIPE, clumping=0.3)
SEQUENCE = {"slope": 0.8, "intercept": 0.0, "scatter": 0.25, "quenched_fraction": 0.3, "offset": 1.5,
            "quenched_scatter": 0.5}  # fmt: skip
ESTIMATORS = ("deconvolved", "stacked", "no Vmax", "clumped sky, Poisson errors", "clumped sky, jackknife")
LEVELS = {0.68: 0.994458, 0.95: 1.959964}


def pull(result: MassFunction, truth: np.ndarray) -> np.ndarray:
    return np.log(result.phi / truth) / result.log_sigma


def one_survey(seed: int, k: int, truth: np.ndarray) -> np.ndarray:
    """Pulls, ``(estimator, bin)``."""
    s = make_survey(RECIPE, np.random.default_rng([seed, k]))
    c = make_survey(CLUMPED, np.random.default_rng([seed, k, 1]))
    w, wc = s.volumes.inverse, c.volumes.inverse
    blind = np.full(len(s), 1 / RECIPE.survey.total)
    return np.array(
        [
            pull(mass_function(s.log_mass, w, EDGES), truth),
            pull(stacked_mass_function(s.log_mass, w, EDGES), truth),
            pull(mass_function(s.log_mass, blind, EDGES), truth),
            pull(mass_function(c.log_mass, wc, EDGES), truth),
            pull(mass_function(c.log_mass, wc, EDGES, regions=c.cell), truth),
        ]
    )


def one_sequence(seed: int, k: int) -> np.ndarray:
    """Posterior probability below the truth, ``(2, parameter)``: of the posterior, and of a fit that ignores errors."""
    rng = np.random.default_rng([seed, k, 2])
    x, y = make_sequence(400, rng, SEQUENCE)
    result = star_forming_sequence(x, y, rng, n_proposal=600)
    true = np.array([SEQUENCE[n] for n in NAMES])
    # the biased fixture: every galaxy at its posterior mean, errors ignored
    naive = star_forming_sequence(x.mean(axis=1)[:, None], y.mean(axis=1)[:, None], rng, n_proposal=600)
    return np.array([(r.draws < true).mean(axis=0) for r in (result, naive)])


def mass_table(pulls: np.ndarray) -> str:
    lines = ["| estimator | within 68 % | within 95 % | mean pull | worst bin: mean pull | worst bin: within 68 % |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    n = len(pulls)
    for j, name in enumerate(ESTIMATORS):
        z = pulls[:, j]
        cells = []
        for half in LEVELS.values():
            inside = (np.abs(z) < half).mean(axis=1)  # bins of one survey are correlated: errors from survey to survey
            cells.append(f"{100 * inside.mean():.1f} +- {100 * inside.std(ddof=1) / np.sqrt(n):.1f} %")
        mean = z.mean(axis=0)
        inside = (np.abs(z) < LEVELS[0.68]).mean(axis=0)
        worst = inside[np.argmax(np.abs(inside - 0.68))]
        lines.append(f"| {name} | {' | '.join(cells)} | {z.mean():+.2f} | {mean[np.argmax(np.abs(mean))]:+.2f} | "
                     f"{100 * worst:.0f} +- {100 * np.sqrt(0.68 * 0.32 / n):.0f} % |")  # fmt: skip
    return "\n".join(lines)


def sequence_table(below: np.ndarray) -> str:
    lines = ["| parameter | within 68 % | within 95 % | at posterior means: within 68 % | within 95 % |",
             "|---|---|---|---|---|"]  # fmt: skip
    n = len(below)
    for p, name in enumerate(NAMES):
        cells = []
        for j in range(2):
            for level in LEVELS:
                share = (np.abs(below[:, j, p] - 0.5) < level / 2).mean()
                cells.append(f"{100 * share:.0f} +- {100 * np.sqrt(level * (1 - level) / n):.0f} %")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(pulls: np.ndarray, output: Path) -> Path:
    """One survey next to the truth; coverage per bin."""
    s = make_survey(RECIPE, np.random.default_rng([0, 0]))
    with style():
        fig = new_figure(10.0, 4.0)
        left, right = fig.subplots(1, 2)
        plot_mass_function(left, mass_function(s.log_mass, s.volumes.inverse, EDGES), "deconvolved")
        stacked = stacked_mass_function(s.log_mass, s.volumes.inverse, EDGES)
        plot_mass_function(left, stacked, "stacked posteriors", "#3a78b5", band=False)
        left.set_ylim(1e-4, 3e-2)
        plot_schechter(left, RECIPE.truth, label="truth")
        left.legend(loc="lower left")
        left.set_title(f"one survey of {len(s)} galaxies")
        rows = {}
        for j in range(3):
            share = (np.abs(pulls[:, j]) < LEVELS[0.68]).mean(axis=0)
            rows[ESTIMATORS[j]] = (share, np.sqrt(np.maximum(share * (1 - share), 1 / len(pulls)) / len(pulls)))
        plot_coverage(right, [f"{c:.1f}" for c in 0.5 * (EDGES[1:] + EDGES[:-1])], rows, 0.68)
        right.set_xlabel(r"bin, $\log_{10} M_\ast/M_\odot$")
        right.set_title(f"{len(pulls)} surveys")
        right.legend(loc="center left", bbox_to_anchor=(0.0, 0.42))
        return save(fig, output / "mass_function_coverage.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--surveys", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("docs/figures"))
    parser.add_argument("--load", type=Path, help="results of an earlier run")
    parser.add_argument("--redo", choices=["sequence"], help="compute this part anew, load the other")
    args = parser.parse_args()
    if args.load:
        with np.load(args.load) as saved:
            pulls, below = saved["pulls"], saved["below"]
    else:
        truth, start = true_mass_function(RECIPE, EDGES), time.perf_counter()
        pulls = np.array([one_survey(args.seed, k, truth) for k in range(args.surveys)])
        below = np.array([one_sequence(args.seed, k) for k in range(args.surveys)])
        args.output.mkdir(parents=True, exist_ok=True)
        np.savez(args.output / "mass_function_coverage.npz", pulls=pulls, below=below)
        print(f"{args.surveys} surveys of each kind in {time.perf_counter() - start:.0f} s")
    if args.redo:
        below = np.array([one_sequence(args.seed, k) for k in range(args.surveys)])
        np.savez(args.output / "mass_function_coverage.npz", pulls=pulls, below=below)
    print(mass_table(pulls))
    print(sequence_table(below))
    print(figure(pulls, args.output))


if __name__ == "__main__":
    main()
