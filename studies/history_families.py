"""Families of histories on galaxies that none of them made: the table of docs/studies/histories.md.

    python -m studies.history_families --galaxies 36
    python -m studies.history_families --histories diffstar --galaxies 40 --families nmf,continuity-enriching,tng6
    python -m studies.history_families --kind bc03 --stars bc03.h5 --families nmf,delayed-tau-residual

The galaxies are those of `studies.honest_posteriors`: stars of the library that ships or of another (``--kind``; the
components of the template error are those learnt without it), metallicities that rise while stars form, and imperfect
data; star formation delayed, quenched and bursty in turn (``foreign``), or that of IllustrisTNG by diffstar
(``diffstar``; needs ``pip install diffstar``). Each is fitted with the preset ``honest`` under each family and prior.
Reported per property and family: truths within the 68 and 95 % intervals, median bias, median sigma, the width of the
distribution of medians beside the true one, and truths within the intervals of the average over the families
(``model.history`` as a list); per family: evaluations and processor seconds. One file per galaxy and family is kept in
the output folder, and those that are there are not fitted again.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from provabgs.inference.config import FitConfig, ModelOptions, SamplerOptions
from provabgs.inference.fit import fit_one
from studies.honest_posteriors import (
    LEVELS,
    MAKERS,
    PROPERTIES,
    SEED,
    UNSEEN,
    Sample,
    config_of,
    galaxies_of,
    known,
    row_of,
)
from studies.support.command import QUICK, run_study, study_parser
from studies.support.pieces import Arrays, in_order, kept_arrays

BINS = 10
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "nmf": ("nmf", {}),
    "nmf-enriching": ("nmf", {"metallicity": "enriching"}),
    "dirichlet": ("bins", {"n_bins": BINS}),
    "dirichlet-enriching": ("bins", {"n_bins": BINS, "metallicity": "enriching"}),
    "continuity": ("bins", {"n_bins": BINS, "prior": "continuity"}),
    "continuity-enriching": ("bins", {"n_bins": BINS, "prior": "continuity", "metallicity": "enriching"}),
    "continuity-bins": ("bins", {"n_bins": BINS, "prior": "continuity", "metallicity": "bins"}),
    "continuity-wide": (
        "bins",
        {"n_bins": BINS, "prior": "continuity", "prior_options": {"sigma_dex": 1.0}, "metallicity": "enriching"},
    ),
    "delayed-tau-enriching": ("delayed-tau", {"burst": True, "metallicity": "enriching"}),
    "delayed-tau-residual": ("delayed-tau", {"burst": True, "residual": True, "metallicity": "enriching"}),
    "tng6": ("tng6", {}),
    "stochastic-enriching": ("bins", {"n_bins": BINS, "prior": "stochastic", "metallicity": "enriching"}),
}
"""Names of the families: history and its options."""
DEFAULT = ("nmf", "nmf-enriching", "continuity", "continuity-enriching")
EVIDENCE, CPU = "log_evidence", "cpu_s"


def family_config(sample: Sample, family: str) -> FitConfig:
    """The preset ``honest`` under another family."""
    history, options = FAMILIES[family]
    base = config_of(sample, "honest")
    return base.model_copy(update={"model": ModelOptions(history=history, history_options=options)})


def fit_galaxy(sample: Sample, number: int, family: str) -> Arrays:
    """`row_of` one galaxy under a family, with evidence and processor seconds."""
    galaxy, start = galaxies_of(*sample[:3]).make(number, seed=SEED), time.process_time()
    posterior = fit_one(galaxy.observation, family_config(sample, family), seed=SEED)
    more = {CPU: time.process_time() - start, EVIDENCE: posterior.diagnostics.log_evidence}
    return row_of(galaxy, posterior) | {k: np.asarray(v) for k, v in more.items()}


def kept_fit(folder: Path, sample: Sample, number: int, family: str) -> Arrays:
    """`fit_galaxy`, from its file where it is there."""
    kind = sample.histories if sample.stars is None else f"{sample.kind}_{sample.histories}"
    path = folder / kind / family / f"{number}.npz"
    return kept_arrays(path, lambda: fit_galaxy(sample, number, family)) | {"family": np.asarray(family)}


def cell(rows: list[Arrays], name: str) -> str:
    """One property: per cent within 68 / 95 %, median bias, median sigma."""
    values, counts = known(rows, name)  # a galaxy that formed nothing has no log SFR
    truth, rank, median, sigma = values[:, counts]
    inside = [f"{100 * np.mean(np.abs(rank - 0.5) < level / 2):.0f}" for level in LEVELS]
    return f"{inside[0]} / {inside[1]}, {np.median(median - truth):+.2f}, {np.median(sigma):.2f}"


def widths(rows: dict[str, list[Arrays]], name: str) -> str:
    """Half of the central 68 % of true values, and of medians under each family, of one property."""
    counts = np.all([known(of, name)[1] for of in rows.values()], axis=0)
    values = [known(of, name)[0][:, counts] for of in rows.values()]
    halves = [0.5 * np.ptp(np.quantile(v, (0.16, 0.84))) for v in (values[0][0], *(v[2] for v in values))]
    return f"| {name} | {' | '.join(f'{h:.2f}' for h in halves)} |"


def average(rows: dict[str, list[Arrays]]) -> str:
    """Markdown: within 68 / 95 % under the average of all families, `model.history` as a list.

    The rank of a truth among the draws of an average is the weighted mean of its ranks.
    """
    log_z = np.array([[float(r[EVIDENCE]) for r in of] for of in rows.values()])
    by_evidence = np.exp(log_z - log_z.max(axis=0))
    shares = {"equal weights": np.ones_like(log_z), "by evidence": by_evidence}
    lines = [f"| average | {' | '.join(shares)} |\n|---|{'---|' * len(shares)}"]
    for name in PROPERTIES:
        counts = np.all([known(of, name)[1] for of in rows.values()], axis=0)
        ranks = np.array([known(of, name)[0][1] for of in rows.values()])
        cells = []
        for weights in shares.values():
            off = np.abs((ranks * weights / weights.sum(axis=0)).sum(axis=0)[counts] - 0.5)
            cells.append(" / ".join(f"{100 * np.mean(off < level / 2):.0f}" for level in LEVELS))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table_of(rows: dict[str, list[Arrays]]) -> str:
    """Markdown: one row per property, one column per family, of the galaxies that are CONVERGED under all."""
    good = [all(str(r["status"]) == "CONVERGED" for r in of) for of in zip(*rows.values(), strict=True)]
    lines = [f"| property | {' | '.join(rows)} |\n|---|{'---|' * len(rows)}"]
    kept = {family: [r for r, use in zip(fits, good, strict=True) if use] for family, fits in rows.items()}
    for name in PROPERTIES if any(good) else ():
        lines.append(f"| {name} | {' | '.join(cell(fits, name) for fits in kept.values())} |")
    lines += ["", f"| width of the distribution of | true | {' | '.join(rows)} |\n|---|---|{'---|' * len(rows)}"]
    lines += [widths(kept, name) for name in PROPERTIES if any(good)]
    lines += ["", f"| | {' | '.join(rows)} |\n|---|{'---|' * len(rows)}"]
    converged = [f"{sum(str(r['status']) == 'CONVERGED' for r in fits)} of {len(fits)}" for fits in rows.values()]
    cost = [f"{np.median([float(r['n_eval']) for r in fits]):,.0f}" for fits in rows.values()]
    cpu = [f"{np.median([float(r[CPU]) for r in fits]):.1f}" for fits in rows.values()]
    for label, cells in (("CONVERGED", converged), ("evaluations, median", cost), ("CPU s, median", cpu)):
        lines.append(f"| {label} | {' | '.join(cells)} |")
    if len(rows) > 1 and any(good):
        lines += ["", average(kept)]
    return f"{sum(good)} galaxies are CONVERGED under all families\n\n" + "\n".join(lines)


def work(options: argparse.Namespace) -> None:
    """Fit, and print the table: cells are truths within 68 / 95 %, median bias, median sigma."""
    families = options.families.split(",")
    if unknown := [f for f in families if f not in FAMILIES]:
        raise SystemExit(f"no family {unknown[0]!r}; choose from {', '.join(FAMILIES)}")
    sampler = QUICK if options.smoke else SamplerOptions(time_limit_s=options.time_limit, aim_eval=options.aim_eval)
    sample = Sample(options.kind, options.stars, options.histories, sampler)
    numbers = range(options.first, options.galaxies)
    jobs = [(options.output, sample, i, f) for f in families for i in numbers]  # a model is made once
    rows: dict[str, list[Arrays]] = defaultdict(list)
    for row in in_order(kept_fit, jobs, options.workers):
        family = str(row["family"])
        rows[family].append(row)
        ages = row["t_age_mw"]
        print(
            f"{family} {len(rows[family])} {row['history']} {row['status']} {int(row['n_eval'])} "
            f"age {ages[0]:.2f}: {ages[2]:.2f} +- {ages[3]:.2f}",
            flush=True,
        )
    print(f"\n{table_of(rows)}\n")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = study_parser("studies.history_families", __doc__)
    parser.add_argument("--histories", choices=tuple(MAKERS), default="foreign", help="of the galaxies")
    parser.add_argument("--kind", choices=tuple(UNSEEN), default="own", help="stars that the galaxies are made of")
    parser.add_argument("--stars", help="SSP library of these stars; none for the package's own")
    parser.add_argument("--families", default=",".join(DEFAULT), help=f"of {', '.join(FAMILIES)}, with commas between")
    parser.add_argument("--galaxies", type=int, default=36, help="number of the last galaxy; kinds take turns")
    parser.add_argument("--first", type=int, default=0, help="number of the first galaxy")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=600.0, help="seconds a fit")
    parser.add_argument("--aim-eval", type=int, default=0, help="sampler.aim_eval; 0 stops at convergence")
    run_study(parser, work, {"galaxies": 1, "time_limit": 60.0, "families": "continuity-enriching"}, argv)


if __name__ == "__main__":
    main()
