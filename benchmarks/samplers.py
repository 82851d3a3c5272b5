"""Samplers side by side: gate, time, evaluations, and quantiles against reference posteriors.

``python benchmarks/samplers.py --desi demo/data -o samplers`` runs the galaxies of ``benchmark_set.py`` (96 simulated
and, with ``--desi``, the real one) and keeps one file a galaxy, so that it can be interrupted, and split by ``--part
0/2`` and ``--part 1/2``; ``--report`` prints the tables and ``--figure`` draws the real galaxy's posterior.

Each galaxy has two references by different algorithms: the default sampler with six times the effective draws and
another seed, and (``--nautilus``: on every second of a kind) nautilus, importance nested sampling. Then every route of
``sampler_routes.py`` runs once: ``annealed`` on all galaxies, the routes that are known to lose on every ``--every``-th
of each kind, with ``--time-limit`` processor seconds. One thread; compilation excluded. Needs the ``bench`` extra.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np
from astropy.table import Table, vstack

sys.path.insert(0, str(Path(__file__).parent))
from benchmark_set import KINDS, REAL, galaxy, kind_of
from sampler_routes import GATE, ROUTES, Case, Outcome, by_name, warm

from provabgs.inference.collapsed import marginal_function
from provabgs.inference.compressed.columns import make_normal_equations
from provabgs.inference.config import FitConfig
from provabgs.inference.fit import load_model, make_likelihood, make_target
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.priors import Prior
from provabgs.observe.projection import project
from provabgs.sps.parameters import DERIVED_NAMES, NAMES

QUANTILES = (0.16, 0.5, 0.84)
QUANTITIES = (*NAMES, *DERIVED_NAMES)
LONG = by_name("annealed", ess=2500, rhat=1.004)
KEPT = 4000
"""Reference draws kept."""


def make_case(number: int, desi: Path | None) -> Case:
    """Target of one galaxy of the set."""
    observation, observing = galaxy(number, desi)
    model, config = load_model(FitConfig().model), FitConfig(observing=observing)
    exact = ExactLikelihood(project(observation, model.library, observing), model)
    prior = Prior.create(observation.fiber_fraction)
    likelihood = make_likelihood(exact, config)
    target = make_target(likelihood, exact, prior)
    assert target.collapsed is not None, "the benchmark compares samplers of the compressed engine"
    return Case(target, target.collapsed, marginal_function(make_normal_equations(model), likelihood.reduction, prior))


def run_galaxy(number: int, desi: Path | None, routes: list[str], limit: float, path: Path) -> None:
    """References and routes of one galaxy, written to `path`."""
    case = make_case(number, desi)
    warm(case)
    reference = LONG(case, np.random.default_rng([number, 999]), 10 * limit)
    wanted, sigma = _quantiles(reference.draws)
    rows, kept = [], {"reference": reference}
    for name in routes:
        outcome = ROUTES[name](case, np.random.default_rng([number, 1]), limit)
        shift = np.abs(_quantiles(outcome.draws)[0] - wanted)[:, sigma > 0] / sigma[sigma > 0]
        rows.append(_row(number, name, outcome) | {"shift": shift.max(), "typical": np.median(shift)})
        print(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in rows[-1].items()), flush=True)
        kept |= {name: outcome} if name in ("annealed", "nautilus-collapsed") else {}
    rows.append(_row(number, "reference", reference) | {"shift": 0.0, "typical": 0.0})
    part = path.with_suffix(".part")
    with h5py.File(part, "w") as file:
        for name, outcome in kept.items():
            take = np.linspace(0, len(outcome.draws) - 1, KEPT).astype(int)
            file[f"draws/{name}"] = outcome.draws[take].astype(np.float32)
        for column in rows[0]:
            file[f"rows/{column}"] = [r[column] for r in rows]
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


def read_rows(folder: Path) -> Table:
    """Rows of all galaxies done."""
    tables = []
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as file:
            columns = {k: v[()] for k, v in file["rows"].items()}
        tables.append(Table({k: v.astype(str) if v.dtype.kind == "O" else v for k, v in columns.items()}))
    return vstack(tables, metadata_conflicts="silent")


def report(table: Table) -> None:
    """Print Markdown: all galaxies by route, and the default route by kind."""
    columns = "galaxies|gate|s: median|95 %|evaluations: median|95 %|ESS/s|worst shift: median|95 %|max"
    print("| | " + columns.replace("|", " | ") + " |\n" + "|---" * 11 + "|")
    for name in (*ROUTES, "reference"):
        _line(name, table[table["route"] == name])
    for kind in (*KINDS, "real"):
        _line(f"annealed: {kind}", table[(table["route"] == "annealed") & (table["kind"] == kind)])


def _line(name: str, t: Table) -> None:
    if not len(t):
        return
    speed = np.median(np.nan_to_num(t["ess"]) / t["seconds"])
    seconds, n_eval, shift = ((np.median(t[c]), np.percentile(t[c], 95)) for c in ("seconds", "n_eval", "shift"))
    print(
        f"| {name} | {len(t)} | {np.mean(t['gate']):.1%} | {seconds[0]:.1f} | {seconds[1]:.1f} | {n_eval[0]:.3g} | "
        f"{n_eval[1]:.3g} | {speed:.3g} | {shift[0]:.3f} | {shift[1]:.3f} | {np.max(t['shift']):.3f} |"
    )


def draw_figure(path: Path, output: Path) -> None:
    """One galaxy's posterior by the default sampler and by nautilus, overlaid."""
    with h5py.File(path) as file:
        draws = {name: file[f"draws/{name}"][()] for name in ("annealed", "nautilus-collapsed")}
    figure, axes = plt.subplots(3, 6, figsize=(13, 6.2), layout="constrained")
    for axis, i in zip(axes.flat, range(len(QUANTITIES)), strict=False):
        both = np.concatenate([d[:, i] for d in draws.values()])
        bins = np.linspace(*np.quantile(both, [0.001, 0.999]), 41)
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


def _order(args: argparse.Namespace) -> list[int]:
    """Galaxies whose every route is run come last: an interrupted benchmark has seen all kinds."""
    numbers = range(REAL + bool(args.desi))
    return sorted(numbers, key=lambda n: n == REAL or n // len(KINDS) % args.every == 0)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--desi", type=Path, help="folder of the real galaxy's files (after `make demo`: demo/data)")
    parser.add_argument("--part", default="0/1", help="which galaxies: K/N, those of number K modulo N")
    parser.add_argument("--every", type=int, default=12, help="slow routes on every so many of a kind")
    parser.add_argument("--nautilus", type=int, default=2, help="nautilus on every so many of a kind")
    parser.add_argument("--time-limit", type=float, default=30.0, help="processor seconds per route and galaxy")
    parser.add_argument("-o", "--output", type=Path, default=Path("samplers"))
    parser.add_argument("--report", action="store_true", help="only print the tables of what is done")
    parser.add_argument("--figure", type=Path, help="draw the real galaxy's posterior by two samplers")
    args = parser.parse_args()
    args.output.mkdir(exist_ok=True, parents=True)
    part, n_part = map(int, args.part.split("/"))
    for number in _order(args) if not args.report else ():
        path = args.output / f"{number:03d}.h5"
        if number % n_part == part and not path.exists():
            turn = 0 if number == REAL else number // len(KINDS)
            routes = ["annealed"] + ["nautilus-collapsed"] * (turn % args.nautilus == 0)
            routes = list(ROUTES) if turn % args.every == 0 else routes
            run_galaxy(number, args.desi, routes, args.time_limit, path)
    report(read_rows(args.output))
    if args.figure:
        draw_figure(args.output / f"{REAL:03d}.h5", args.figure)


if __name__ == "__main__":
    main()
