"""Samplers side by side: gate, time, evaluations, and quantiles against reference posteriors.

``python -m studies.sampler_comparison --desi demo/data`` runs the galaxies of `galaxy_set` (96 simulated and, with
``--desi``, the real one) and keeps one file a galaxy and route, so that it can be interrupted, and split by
``--part 0/2`` and ``--part 1/2``; ``--report`` prints the tables and ``--figures`` draws the real galaxy's posterior.

Routes of `sampler_routes`: ``reference`` (the default sampler with six times the effective draws and another seed) and
``annealed`` (the default) on all galaxies; nautilus, a second reference by another algorithm, on every second of
each kind (``--nautilus``); those that are known to lose on every ``--every``-th of each kind, with ``--time-limit``
processor seconds. One thread; compilation excluded. Nautilus is in the extra ``studies``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np
from astropy.table import Table

from provabgs.inference.backends import load_model, make_likelihood
from provabgs.inference.config import FitConfig
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.marginalised import marginal_function
from provabgs.inference.target import make_target
from provabgs.observe.projection import project
from studies.support.command import run_study, study_parser
from studies.support.galaxy_set import KINDS, REAL, galaxy, kind_of
from studies.support.sampler_routes import GATE, ROUTES, Case, Outcome, by_name, warm
from tests.support.parameters import QUANTITIES, prior_of

QUANTILES = (0.16, 0.5, 0.84)
LONG = by_name("annealed", ess=2500, rhat=1.004)
LONGER = 4
"""Time limits that the reference is given."""
KEPT = 8000
"""Draws kept."""


def make_case(number: int, desi: Path | None) -> Case:
    """Target of one galaxy of the set."""
    observation, observing = galaxy(number, desi)
    model, config = load_model(FitConfig().model), FitConfig(preset="published", observing=observing)
    exact = ExactLikelihood(project(observation, model.library, observing), model)
    prior = prior_of(observation)
    likelihood = make_likelihood(exact, config)
    target = make_target(likelihood, model, exact.tables, prior)
    assert target.marginal is not None, "the study compares samplers of the compressed likelihood"
    assert likelihood.linear_system is not None
    log_marginal = marginal_function(likelihood.linear_system, model.linear_block, prior)
    return Case(target, target.marginal, log_marginal)


def run(number: int, name: str, case: Case, limit: float, path: Path) -> None:
    """One route on one galaxy, written to `path`."""
    long = name == "reference"
    rng = np.random.default_rng([number, 999 if long else 1])
    outcome = LONG(case, rng, LONGER * limit) if long else ROUTES[name](case, rng, limit)
    row = _row(number, name, outcome)
    print(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)
    part = path.with_suffix(".part")
    with h5py.File(part, "w") as file:
        file.attrs.update(row)
        take = np.linspace(0, len(outcome.draws) - 1, KEPT).astype(int)
        file["draws"] = outcome.draws[take].astype(np.float32)
    part.replace(path)


def _row(number: int, name: str, outcome: Outcome) -> dict:
    judged = outcome.convergence
    row = {"galaxy": number, "kind": kind_of(number), "route": name, "seconds": outcome.seconds}
    row |= {"n_eval": outcome.n_eval, "rhat": float(judged.rhat_max), "ess": float(judged.ess_min)}
    return row | {"gate": bool(judged.passes(*GATE))}


def _quantiles(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(3, nquantity)`` and half the distance of the outer two."""
    q = np.quantile(draws, QUANTILES, axis=0)
    return q, (q[2] - q[0]) / 2


def read(folder: Path) -> tuple[Table, dict[tuple[int, str], np.ndarray]]:
    """Rows of all that is done, and draws by galaxy and route of what converged: the rest is no posterior."""
    rows, draws = [], {}
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as file:
            row = dict(file.attrs)
            if row["gate"]:
                draws[int(row["galaxy"]), str(row["route"])] = file["draws"][()]
        rows.append(row)
    return Table(rows=rows), draws


def report(table: Table, draws: dict[tuple[int, str], np.ndarray]) -> None:
    """Print Markdown: all galaxies by route, the default route by kind, and agreement of pairs of routes."""
    columns = "galaxies|gate|s: median|95 %|max|evaluations: median|95 %|ESS/s"
    print("| | " + columns.replace("|", " | ") + " |\n" + "|---" * 9 + "|")
    for name in (*ROUTES, "reference"):
        _line(name, table[table["route"] == name])
    for kind in (*KINDS, "real"):
        _line(f"annealed: {kind}", table[(table["route"] == "annealed") & (table["kind"] == kind)])
    columns = "galaxies|quantiles within 0.1 sigma|shift: median|95 %|largest difference in probability: median|max"
    print("\n| pair | " + columns.replace("|", " | ") + " |\n" + "|---" * 7 + "|")
    pairs = [(name, "reference") for name in ROUTES] + [("annealed", "nautilus-collapsed")]
    for first, second in pairs:
        _agreement(first, second, draws)


def _line(name: str, t: Table) -> None:
    if not len(t):
        return
    speed = np.median(np.nan_to_num(t["ess"]) / t["seconds"])
    seconds, n_eval = ((np.median(t[c]), np.percentile(t[c], 95)) for c in ("seconds", "n_eval"))
    print(
        f"| {name} | {len(t)} | {np.mean(t['gate']):.1%} | {seconds[0]:.1f} | {seconds[1]:.1f} | "
        f"{np.max(t['seconds']):.1f} | {n_eval[0]:.3g} | {n_eval[1]:.3g} | {speed:.3g} |"
    )


def _agreement(first: str, second: str, draws: dict[tuple[int, str], np.ndarray]) -> None:
    """How quantiles of two routes differ, in units of the second's sigma and in probability."""
    shifts, worst = [], []
    for number in sorted({n for n, name in draws if name == first} & {n for n, name in draws if name == second}):
        (wanted, sigma), found = _quantiles(draws[number, second]), _quantiles(draws[number, first])[0]
        free = sigma > 0
        shifts.append((np.abs(found - wanted)[:, free] / sigma[free]).ravel())
        below = [np.mean(draws[number, first] <= w, axis=0) - p for w, p in zip(wanted, QUANTILES, strict=True)]
        worst.append((float(np.max(np.abs(below)[:, free])), number))
    if shifts:
        every = np.concatenate(shifts)
        print(
            f"| {first}, {second} | {len(shifts)} | {np.mean(every < 0.1):.1%} | {np.median(every):.3f} | "
            f"{np.percentile(every, 95):.3f} | {np.median([w for w, _ in worst]):.3f} | "
            f"{max(worst)[0]:.3f} (galaxy {max(worst)[1]}) |"
        )


def draw_figure(draws: dict[str, np.ndarray], output: Path) -> None:
    """One galaxy's posterior by the default sampler and by nautilus, overlaid."""
    figure, axes = plt.subplots(3, 6, figsize=(13, 6.2), layout="constrained")
    for axis, i in zip(axes.flat, range(len(QUANTITIES)), strict=False):
        both = np.concatenate([d[:, i] for d in draws.values()])
        bins = np.linspace(np.quantile(both, 0.001), np.quantile(both, 0.999), 41)
        for (name, x), style in zip(
            draws.items(),
            ({"histtype": "stepfilled", "color": "0.8"}, {"histtype": "step", "color": "C3"}),
            strict=True,
        ):
            axis.hist(x[:, i], bins, density=True, label=name, **style)
        axis.set_title(QUANTITIES[i], fontsize=9)
        axis.set_yticks([])
    axes.flat[0].legend(fontsize=7)
    figure.savefig(output, dpi=90)
    plt.close(figure)


def _todo(options: argparse.Namespace) -> list[tuple[str, int]]:
    """Routes and galaxies, in an order in which an interrupted study has seen all kinds."""
    turns = {n: n // len(KINDS) for n in range(REAL)} | ({REAL: 0} if options.desi else {})
    part, n_part = map(int, options.part.split("/"))
    every = {"reference": 1, "annealed": 1, "nautilus-collapsed": options.nautilus}
    return [
        (name, number)
        for name in options.routes
        for number, turn in turns.items()
        if turn % every.get(name, options.every) == 0 and number % n_part == part
    ]


def work(options: argparse.Namespace) -> None:
    """Run what is not done yet, print the tables, draw the figure."""
    options.output.mkdir(exist_ok=True, parents=True)
    for name, number in _todo(options) if not options.report else ():
        path = options.output / f"{number:03d}-{name}.h5"
        if not path.exists():
            case = make_case(number, options.desi)
            warm(case)
            run(number, name, case, options.time_limit, path)
    table, draws = read(options.output)
    report(table, draws)
    compared = {name: draws[REAL, name] for name in ("annealed", "nautilus-collapsed") if (REAL, name) in draws}
    if options.figures and len(compared) == 2:
        draw_figure(compared, options.figures / "real_two_samplers.png")


def main() -> None:
    """Parse the command line and run."""
    routes = ("annealed", "reference", *(r for r in ROUTES if r != "annealed"))
    parser = study_parser("studies.sampler_comparison", __doc__)
    parser.add_argument("--desi", type=Path, help="folder of the real galaxy's files (after `make demo`: demo/data)")
    parser.add_argument("--part", default="0/1", help="which galaxies: K/N, those of number K modulo N")
    parser.add_argument("--routes", nargs="+", choices=routes, default=routes)
    parser.add_argument("--every", type=int, default=12, help="slow routes on every so many of a kind")
    parser.add_argument("--nautilus", type=int, default=2, help="nautilus on every so many of a kind")
    parser.add_argument("--time-limit", type=float, default=30.0, help="processor seconds per route and galaxy")
    parser.add_argument("--report", action="store_true", help="only print the tables of what is done")
    # galaxy 7 has photometry alone: the quickest
    run_study(parser, work, {"part": "7/96", "routes": ("annealed", "emcee"), "time_limit": 1.0})


if __name__ == "__main__":
    main()
