"""Posteriors under a prior learnt from the galaxies themselves: the tables of docs/studies/learnt.md.

    python -m studies.learnt_prior --galaxies 200 --others 100 --workers 2

Galaxies of L-GALAXIES as DESI observes them are fitted (``--preset``, ``honest`` by default). A population prior is
learnt from those that are CONVERGED with FLAG 0, each half from its own galaxies, and each galaxy's draws are
reweighted by the density of the half that it is not in: trained on one half, tested on the other. Galaxies whose
weights collapse are fitted again under that prior (``[fit] prior``), as the product asks for. The same prior is then
applied to galaxies of other kinds, which it has not seen (``--unseen``). With ``--histories foreign`` the prior is
learnt from delayed, bursty and quenched histories of `studies.honest_posteriors` instead, in halves too. Reported
before and after: bias and coverage, in the regimes in which the prior of the fits is worst, and widths of
distributions. One file per galaxy is kept in the output folder, and those that are there are not fitted again. With
``--present`` the galaxies whose files are there are taken, and none is fitted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from provabgs.core.weights import weighted_quantiles
from provabgs.inference.config import DEFAULT_PRESET, PRESETS, FitConfig, SamplerOptions
from provabgs.inference.learnt import LearntPrior
from provabgs.inference.learnt.coordinates import PROPERTIES
from provabgs.plotting.style import new_figure, save, style
from provabgs.population.learnt.learn import LearnOptions, learn_from
from provabgs.population.prior.draws import draw_properties
from studies.honest_posteriors import MAKERS
from studies.support.command import QUICK, run_study, study_parser
from studies.support.drawn_fits import N_DRAWS, KeptFits, folder_of, kept_fit, kept_refit, sample_of
from studies.support.learnt_tables import Stages, pooled, stages_of, tables_of, with_refits
from studies.support.lgalaxies_galaxies import LGALAXIES
from studies.support.pieces import in_order

FOREIGN = "foreign"
LEARNT_DRAWS = 512
"""Draws of a galaxy that a prior is learnt from."""
PRIOR_FILE = "prior-{}.h5"
"""By the histories that it was learnt from."""


def sampler_of(options: argparse.Namespace) -> SamplerOptions:
    """Of all fits."""
    return QUICK if options.smoke else SamplerOptions(time_limit_s=options.time_limit, aim_eval=0)


def fits_of(options: argparse.Namespace, histories: str, n: int) -> KeptFits:
    """The galaxies of one kind, fitted where they are not kept."""
    sample = sample_of(histories, sampler_of(options))
    folder = folder_of(options.output, histories, options.preset)
    there = {i for i in range(n) if (folder / f"{i}.npz").is_file()}
    numbers = sorted(there) if options.present else list(range(n))
    fits = []
    for fit in in_order(kept_fit, [(options.output, sample, i, options.preset) for i in numbers], options.workers):
        fits.append(fit)
        if not options.present:
            print(f"{histories} {len(fits)}/{n} STATUS {int(fit['status'])} FLAG {int(fit['flag'])}", flush=True)
    return KeptFits.of(fits, histories)


def refits_of(options: argparse.Namespace, histories: str, numbers: Sequence[int]) -> KeptFits:
    """Galaxies of one kind fitted under the prior of the output folder, and what these fits cost."""
    sample, path = sample_of(histories, sampler_of(options)), options.output / PRIOR_FILE.format(options.histories)
    jobs = [(options.output, sample, i, options.preset, path) for i in numbers]
    fits = []
    for fit in in_order(kept_refit, jobs, options.workers):
        fits.append(fit)
        print(f"refit {len(fits)}/{len(numbers)} STATUS {int(fit['status'])} {int(fit['n_eval'])}", flush=True)
    cost = np.array([[float(f[k]) for k in ("n_eval", "cpu_s")] for f in fits])
    (n_eval, cpu), most = np.median(cost, axis=0), cost[:, 0].max()
    done = sum(int(f["status"]) == 0 for f in fits)
    print(
        f"\nunder the prior: {done} of {len(fits)} CONVERGED, median {n_eval:,.0f} evaluations (most {most:,.0f}), "
        f"{cpu:.1f} CPU s"
    )
    return KeptFits.of(fits, f"{histories} under the learnt prior")


def report(options: argparse.Namespace, histories: str, fits: KeptFits, prior: LearntPrior) -> tuple[KeptFits, Stages]:
    """Print the tables of galaxies under a prior: CONVERGED with FLAG 0; collapsed weights fitted again.

    Parameters
    ----------
    options
        Of the command line.
    histories
        Kind of the galaxies.
    fits
        Of them.
    prior
        That the output folder's file holds.

    Returns
    -------
    used, stages
        The galaxies, and their posteriors before and after.
    """
    good = (fits.columns["STATUS"] == 0) & (fits.columns["FLAG"] == 0) & prior.covers(fits.columns["Z"])
    used = fits.take(np.flatnonzero(good))
    found = stages_of(used, prior)
    rows = [int(i) for i in np.flatnonzero(found.collapsed)[: options.refits]]
    if rows:
        numbers = [int(used.columns["TARGETID"][i]) - 1 for i in rows]
        found = with_refits(found, refits_of(options, histories, numbers), rows)
    print(f"{len(used)} of {len(fits)} galaxies are CONVERGED with FLAG 0\n\n{tables_of(found, used.truth)}\n")
    kinds = used.columns["HISTORY"]
    for kind in np.unique(kinds) if len(np.unique(kinds)) > 1 else ():
        some = np.flatnonzero(kinds == kind)
        print(f"{kind}\n\n{tables_of(found.take(some), used.take(some).truth)}\n")
    return used, found


def draw(used: KeptFits, found: Stages, path: Path) -> None:
    """Medians against truths, and the distributions, under the prior of the fits and at the last stage."""
    with style():
        figure = new_figure(7.1, 4.4)
        ends = ((found.stages[0], "0.6", "prior of the fits"), (found.stages[-1], "C0", "learnt prior"))
        for k, name in enumerate(("LOGSFR_1GYR", "LOGZ_MW", "T_AGE_MW")):
            truth = used.truth[name]
            known = truth[np.isfinite(truth)]
            top, bottom = figure.add_subplot(2, 3, k + 1), figure.add_subplot(2, 3, k + 4)
            edge = np.quantile(known, (0.02, 0.98))
            top.plot(edge, edge, "k-", lw=0.7)
            top.set(title=name, xlabel="true", ylabel="median" if k == 0 else "")
            first, last = np.quantile(pooled(ends[0][0], name)[0], (0.005, 0.995))
            bins = np.linspace(first, last, 25).tolist()
            bottom.hist(known, bins, weights=np.ones(known.size) / known.size, color="0.85", label="true")
            for stage, colour, label in ends:
                median = weighted_quantiles(np.asarray(stage.draws[name]), stage.weight, (0.5,))[:, 0]
                top.plot(truth, median, ".", color=colour, ms=4)
                values, weight = pooled(stage, name)
                share = weight.ravel() / weight.sum()
                bottom.hist(values.ravel(), bins, weights=share, histtype="step", color=colour, label=label)
            bottom.set(xlabel=name, ylabel="share" if k == 0 else "")
            if k == 0:
                bottom.legend(fontsize=6, loc="upper left")
        save(figure, path)


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
    """Fit, learn, apply, fit again, and print the tables."""
    learnt_of = options.histories
    fits = made_up(options) if options.smoke else fits_of(options, learnt_of, options.galaxies)
    n_prior = 20_000 if options.smoke else LearnOptions().n_prior
    names = tuple(options.properties.split(","))
    how = LearnOptions(names, n_draws=LEARNT_DRAWS, n_prior=n_prior, seed=options.seed)
    prior = learn_from(fits, how, say=print).prior
    prior.save(options.output / PRIOR_FILE.format(learnt_of))
    print({k: v for k, v in prior.provenance.items() if k not in ("versions", "library_sha256")})
    print(f"\n{learnt_of}, trained on one half and tested on the other\n")
    used, found = report(options, learnt_of, fits, prior)
    if options.figures:
        draw(used, found, options.figures / "learnt_prior.png")
    for histories in options.unseen.split(",") if options.others else ():
        others = fits_of(options, histories, options.others)
        if len(others):
            print(f"\n{histories}, which the prior has not seen\n")
            report(options, histories, others, prior)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = study_parser("studies.learnt_prior", __doc__)
    parser.add_argument("--histories", choices=tuple(MAKERS), default=LGALAXIES, help="of the galaxies learnt from")
    parser.add_argument("--galaxies", type=int, default=200, help="their number")
    parser.add_argument("--preset", choices=tuple(PRESETS), default=DEFAULT_PRESET, help="of the fits")
    parser.add_argument("--unseen", default=FOREIGN, help="histories that the prior has not seen, with commas between")
    parser.add_argument("--others", type=int, default=0, help="galaxies of each kind that the prior has not seen")
    parser.add_argument("--refits", type=int, help="most fits under the prior, of collapsed weights; 0: none")
    parser.add_argument("--properties", default=",".join(PROPERTIES), help="that the prior is of, with commas between")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of learning")
    parser.add_argument("--time-limit", type=float, default=600.0, help="seconds a fit")
    parser.add_argument("--present", action="store_true", help="take the fits that are there, make none")
    parser.add_argument("--copies", type=int, default=60, help="galaxies of --smoke")
    run_study(parser, work, {"galaxies": 1, "refits": 1}, argv)


if __name__ == "__main__":
    main()
