"""Coverage of errors over synthetic surveys, mass function and sequence: the tables of docs/guide/massfunction.md.

    python -m studies.mass_function_coverage [--surveys 120] [--figures docs/figures]

Each survey has its own seed. Results are saved survey by survey: stopped, the same command goes on; finished, it
prints the tables again. About six minutes on one busy core.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from provabgs.plotting.massfunction import plot_coverage, plot_mass_function, plot_schechter
from provabgs.plotting.style import new_figure, save, style
from provabgs.population.survey.mass_function import MassFunction, mass_function, stacked_mass_function
from provabgs.population.survey.star_forming_sequence import NAMES, star_forming_sequence
from provabgs.population.survey.volume import SurveyVolume
from studies.support.command import run_study, study_parser
from tests.support.synthetic_survey import (
    SurveyRecipe,
    make_sequence,
    make_survey,
    true_mass_function,
)

EDGES = np.linspace(9.0, 11.4, 13)
RECIPE = SurveyRecipe(survey=SurveyVolume(15.0, 0.01, 0.3))
CLUMPED = replace(RECIPE, clumping=0.3)
SEQUENCE = {"slope": 0.8, "intercept": 0.0, "scatter": 0.25, "quenched_fraction": 0.3, "offset": 1.5,
            "quenched_scatter": 0.5}  # fmt: skip
ESTIMATORS = ("deconvolved", "stacked", "no Vmax", "clumped sky, Poisson errors", "clumped sky, jackknife")
LEVELS = {0.68: 0.994458, 0.95: 1.959964}


def pull(result: MassFunction, truth: np.ndarray) -> np.ndarray:
    """Deviation of ln phi from the truth ``(bin,)`` over its error."""
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
    """Markdown: coverage of the mass function's errors by estimator."""
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
    """Markdown: coverage of the sequence's parameters, and of a fit that ignores errors."""
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


def load(path: Path, surveys: int) -> tuple[np.ndarray, np.ndarray]:
    """Results so far, NaN where there are none."""
    pulls = np.full((surveys, len(ESTIMATORS), EDGES.size - 1), np.nan)
    below = np.full((surveys, 2, len(NAMES)), np.nan)
    if path.exists():
        with np.load(path) as saved:
            n = min(surveys, len(saved["pulls"]))
            pulls[:n], below[:n] = saved["pulls"][:n], saved["below"][:n]
    return pulls, below


def compute(path: Path, pulls: np.ndarray, below: np.ndarray, seed: int, seconds: float) -> bool:
    """Fill in what is missing, saving as it goes; False when time ran out first."""
    truth, start = true_mass_function(RECIPE, EDGES), time.perf_counter()
    for k in range(len(pulls)):
        if time.perf_counter() - start > seconds:
            return False
        if np.isnan(pulls[k]).all() or np.isnan(below[k]).all():
            pulls[k] = one_survey(seed, k, truth) if np.isnan(pulls[k]).all() else pulls[k]
            below[k] = one_sequence(seed, k) if np.isnan(below[k]).all() else below[k]
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part.npz")
            np.savez(partial, pulls=pulls, below=below)
            partial.replace(path)
    return True


def work(options: argparse.Namespace) -> None:
    """Make the surveys that are missing; print the tables and draw the figure once all are there."""
    path = options.output / f"seed-{options.seed}.npz"
    pulls, below = load(path, options.surveys)
    if not compute(path, pulls, below, options.seed, options.seconds):
        print(f"{int(np.isfinite(below[:, 0, 0]).sum())} of {options.surveys} done; the same command goes on")
        return
    print(mass_table(pulls))
    print(sequence_table(below))
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
        print(figure(pulls, options.figures))


def main() -> None:
    """Parse the command line and run."""
    parser = study_parser("studies.mass_function_coverage", __doc__)
    parser.add_argument("--surveys", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=np.inf, help="stop after this long; the same command goes on")
    run_study(parser, work, {"surveys": 2})


if __name__ == "__main__":
    main()
