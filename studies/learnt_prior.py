"""Posteriors under a prior learnt from the galaxies themselves: the table of docs/studies/learnt.md.

    python -m studies.learnt_prior --galaxies 200 --others 200 --workers 2

Galaxies of L-GALAXIES as DESI observes them are fitted with the preset ``honest``. A population prior is learnt from
those that are CONVERGED with FLAG 0, each half from its own galaxies, and each galaxy's draws are reweighted by the
density of the half that it is not in: trained on one half, tested on the other. The same prior is then applied to
galaxies of another kind, which it has not seen: delayed, bursty and quenched histories of `studies.honest_posteriors`.
Reported before and after: bias and coverage of the 68 % interval, in the regimes in which the prior of the fits is
worst, and widths of distributions. One file per galaxy is kept in the output folder, and those that are there are not
fitted again. With ``--present`` the galaxies whose files are there are taken, and none is fitted.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.table import Table

from provabgs.core.arrays import BoolArray, FloatArray
from provabgs.inference.config import FitConfig, SamplerOptions
from provabgs.inference.learnt import LEAST_EFFECTIVE, LearntPrior
from provabgs.inference.learnt.coordinates import PROPERTIES
from provabgs.plotting.style import new_figure, save, style
from provabgs.population.learnt.apply import apply_to, reweight_draws
from provabgs.population.learnt.learn import LearnOptions, learn_from
from provabgs.population.prior.draws import draw_properties
from studies.support.command import QUICK, run_study, study_parser
from studies.support.drawn_fits import N_DRAWS, KeptFits, kept_fit, sample_of
from studies.support.lgalaxies_galaxies import LGALAXIES
from studies.support.pieces import in_order

FOREIGN = "foreign"


class Regime(NamedTuple):
    """Galaxies of which a bias is reported: a property, and the range of its true value."""

    label: str
    name: str
    low: float = -25.0
    high: float = 25.0


REGIMES = (
    Regime("log mass formed", "LOGMSTAR_FORMED"),
    Regime("log mass formed, below 10", "LOGMSTAR_FORMED", high=10.0),
    Regime("log SFR, 1 Gyr", "LOGSFR_1GYR"),
    Regime("log SFR, 1 Gyr, below -1", "LOGSFR_1GYR", high=-1.0),
    Regime("log metallicity", "LOGZ_MW"),
    Regime("age", "T_AGE_MW"),
    Regime("age, below 5 Gyr", "T_AGE_MW", high=5.0),
)
WIDTHS = ("LOGMSTAR_FORMED", "LOGSSFR_1GYR", "LOGZ_MW", "T_AGE_MW")
HEADER = (
    "| regime | galaxies | bias before | after | scatter before | after | 68 % before | after "
    "| sigma before | after |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def row_of(regime: Regime, table: Table, truth: FloatArray) -> str:
    """One row: median and 68 % half-width of median minus truth, coverage, median quoted sigma."""
    use = np.isfinite(truth) & (truth > regime.low) & (truth < regime.high)
    cells = [regime.label, str(int(use.sum()))]
    if use.sum() < 3:
        return f"| {' | '.join(cells)} | | | | | | | | |"
    numbers = []
    for prefix in ("", "POP_"):
        low, mid, high = (np.asarray(table[f"{prefix}{regime.name}_P{q}"])[use] for q in (16, 50, 84))
        t, off = truth[use], mid - truth[use]
        scatter = 0.5 * np.diff(np.quantile(off, (0.16, 0.84)))[0]
        inside = 100 * np.mean((t > low) & (t < high))
        numbers.append(
            (f"{np.median(off):+.2f}", f"{scatter:.2f}", f"{inside:.0f}", f"{np.median(high - low) / 2:.2f}")
        )
    for before, after in zip(*numbers, strict=True):
        cells += [before, after]
    return f"| {' | '.join(cells)} |"


def stacked(fits: KeptFits, prior: LearntPrior, name: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draws of all galaxies of one property, with weights under either prior; each galaxy's sum to 1."""
    draws = np.stack([fits.draws[n] for n in prior.names], axis=-1)
    found = reweight_draws(prior, draws, fits.columns["Z"], fits.columns["TARGETID"])
    values = fits.draws[name]
    there = np.isfinite(values)
    before = np.where(there, 1.0, 0.0) / np.maximum(there.sum(axis=1, keepdims=True), 1)
    return np.where(there, values, 0.0), before, np.where(there, found.weight, 0.0)


def width(values: FloatArray, weight: FloatArray) -> float:
    """Half of the central 68 % of a weighted sample."""
    order = np.argsort(values.ravel())
    share = np.cumsum(weight.ravel()[order])
    low, high = np.interp((0.16, 0.84), share / share[-1], values.ravel()[order])
    return float(0.5 * (high - low))


def widths_of(fits: KeptFits, prior: LearntPrior) -> str:
    """Markdown: widths of the distributions of some properties: true, of all draws before, of all draws after."""
    lines = ["| width of the distribution of | true | before | after |\n|---|---|---|---|"]
    for name in WIDTHS:
        true = fits.truth[name][np.isfinite(fits.truth[name])]
        values, before, after = stacked(fits, prior, name)
        three = (width(true, np.ones(true.size)), width(values, before), width(values, after))
        lines.append(f"| {name} | " + " | ".join(f"{x:.2f}" for x in three) + " |")
    return "\n".join(lines)


def report(fits: KeptFits, prior: LearntPrior) -> tuple[str, KeptFits, Table]:
    """Both tables of galaxies under a prior; CONVERGED with FLAG 0, collapsed weights included and counted."""
    good = (fits.columns["STATUS"] == 0) & (fits.columns["FLAG"] == 0) & prior.covers(fits.columns["Z"])
    used = fits.take(np.flatnonzero(good))
    table = apply_to(used, prior, least_effective=1.0).table
    effective = np.asarray(table["POP_N_EFFECTIVE"])
    collapsed: BoolArray = effective < LEAST_EFFECTIVE
    lines = [HEADER, *(row_of(r, table, used.truth[r.name]) for r in REGIMES), "", widths_of(used, prior), ""]
    lines.append(
        f"{len(used)} of {len(fits)} galaxies are CONVERGED with FLAG 0; median {np.median(effective):.0f} effective "
        f"draws, {int(collapsed.sum())} galaxies below {LEAST_EFFECTIVE:g}"
    )
    return "\n".join(lines), used, table


def draw(used: KeptFits, prior: LearntPrior, table: Table, path: Path) -> None:
    """Medians against truths, and the distributions, before and after."""
    with style():
        figure = new_figure(7.1, 4.4)
        for k, name in enumerate(("LOGSFR_1GYR", "LOGZ_MW", "T_AGE_MW")):
            truth = used.truth[name]
            top, bottom = figure.add_subplot(2, 3, k + 1), figure.add_subplot(2, 3, k + 4)
            for prefix, colour in (("", "0.6"), ("POP_", "C0")):
                top.plot(truth, np.asarray(table[f"{prefix}{name}_P50"]), ".", color=colour, ms=4)
            edge = np.nanquantile(truth[np.isfinite(truth)], (0.02, 0.98))
            top.plot(edge, edge, "k-", lw=0.7)
            top.set(title=name, xlabel="true", ylabel="median" if k == 0 else "")
            values, before, after = stacked(used, prior, name)
            first, last = np.quantile(values, (0.005, 0.995))
            bins = np.linspace(first, last, 25).tolist()
            known = truth[np.isfinite(truth)]
            bottom.hist(known, bins, weights=np.ones(known.size) / known.size, color="0.85", label="true")
            for weight, colour, label in ((before, "0.4", "prior of the fits"), (after, "C0", "learnt prior")):
                share = weight.ravel() / weight.sum()
                bottom.hist(values.ravel(), bins, weights=share, histtype="step", color=colour, label=label)
            bottom.set(xlabel=name, ylabel="share" if k == 0 else "")
            if k == 0:
                bottom.legend(fontsize=6, loc="upper left")
        save(figure, path)


def fits_of(options: argparse.Namespace, histories: str, n: int) -> KeptFits:
    """The galaxies of one kind, fitted where they are not kept."""
    sampler = QUICK if options.smoke else SamplerOptions(time_limit_s=options.time_limit, aim_eval=0)
    sample = sample_of(histories, sampler)
    there = {i for i in range(n) if (options.output / histories / f"{i}.npz").is_file()}
    numbers = sorted(there) if options.present else list(range(n))
    fits = []
    for fit in in_order(kept_fit, [(options.output, sample, i) for i in numbers], options.workers):
        fits.append(fit)
        if not options.present:
            print(f"{histories} {len(fits)}/{n} STATUS {int(fit['status'])} FLAG {int(fit['flag'])}", flush=True)
    return KeptFits.of(fits, histories)


def made_up(options: argparse.Namespace) -> KeptFits:
    """For ``--smoke``: one galaxy is fitted; the others are draws of its fit's prior, weighted by noisy data."""
    one, rng = fits_of(options, LGALAXIES, 1), np.random.default_rng(0)
    n = options.copies
    copies = one.take(np.zeros(n, dtype=np.int64))
    config = FitConfig.model_validate_json(one.configs[0])
    prior = draw_properties(config, float(one.columns["Z"][0]), 20_000, rng)
    values = np.stack([prior[name] for name in PROPERTIES], axis=1)
    scaled = values / values.std(axis=0)
    true = rng.choice(len(values), n)
    draws = {name: np.empty((n, N_DRAWS)) for name in copies.draws}
    for i, k in enumerate(true):
        measured = scaled[k] + 0.6 * rng.standard_normal(scaled.shape[1])
        weight = np.exp(-0.5 * np.sum(((scaled - measured) / 0.6) ** 2, axis=1))
        chosen = rng.choice(len(values), N_DRAWS, p=weight / weight.sum())
        for name in draws:
            draws[name][i] = prior[name][chosen]
    columns = dict(copies.columns) | {"TARGETID": np.arange(1, n + 1), "N_SAMPLES": np.full(n, N_DRAWS)}
    columns |= {"FLAG": np.zeros(n, dtype=int), "STATUS": np.zeros(n, dtype=int)}
    truth = {name: prior[name][true] for name in draws}
    return replace(copies, columns=columns, draws=draws, truth=truth)


def work(options: argparse.Namespace) -> None:
    """Fit, learn, apply, and print the tables."""
    fits = made_up(options) if options.smoke else fits_of(options, LGALAXIES, options.galaxies)
    n_prior = 20_000 if options.smoke else LearnOptions().n_prior
    names = tuple(options.properties.split(","))
    how = LearnOptions(names, n_draws=N_DRAWS, n_prior=n_prior, seed=options.seed)
    learnt = learn_from(fits, how, say=print)
    learnt.prior.save(options.output / "prior.h5")
    print({k: v for k, v in learnt.prior.provenance.items() if k not in ("versions", "library_sha256")})
    text, used, table = report(fits, learnt.prior)
    print(f"\nL-GALAXIES, trained on one half and tested on the other\n\n{text}\n")
    if options.figures:
        draw(used, learnt.prior, table, options.figures / "learnt_prior.png")
    if options.others:
        others = fits_of(options, FOREIGN, options.others)
        if len(others):
            print(f"\nhistories that the prior has not seen\n\n{report(others, learnt.prior)[0]}\n")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = study_parser("studies.learnt_prior", __doc__)
    parser.add_argument("--galaxies", type=int, default=200, help="of L-GALAXIES")
    parser.add_argument("--others", type=int, default=200, help="of histories that the prior has not seen; 0: none")
    parser.add_argument("--properties", default=",".join(PROPERTIES), help="that the prior is of, with commas between")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of learning")
    parser.add_argument("--time-limit", type=float, default=600.0, help="seconds a fit")
    parser.add_argument("--present", action="store_true", help="take the fits that are there, make none")
    parser.add_argument("--copies", type=int, default=60, help="galaxies of --smoke")
    run_study(parser, work, {"galaxies": 1, "others": 0}, argv)


if __name__ == "__main__":
    main()
