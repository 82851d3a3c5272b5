"""Simulation-based calibration: galaxies drawn from the prior, data from the exact model, fitted with the defaults.

``python -m studies.posterior_calibration --galaxies 500 --workers 2`` draws parameters of the prior,
makes a DESI-like spectrum and five bands with noise, fits, and records truth and draws of every parameter and derived
property, with STATUS, diagnostics and run time. Interrupted, it goes on where it was. It prints, per quantity, tests of
uniform ranks and the coverage of central intervals (binomial error beside it), and TARP over all parameters; and the
same for fixtures that are wrong on purpose. ``--family NAME`` does so for a family of histories of
`studies.history_families`, on galaxies of its own prior. ``--preset honest`` draws errors of stars, calibration and
fiber from that preset's noise model and fits with it. Galaxies that did not converge are left out of the tests and
counted.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from astropy.table import Table, vstack

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jnp
from provabgs.core.status import Status
from provabgs.inference.backends import load_model
from provabgs.inference.calibration import (
    LEVELS,
    biased,
    central_coverage,
    overconfident,
    ranks,
    tarp_ranks,
    uniformity,
)
from provabgs.inference.config import FitConfig, ModelOptions, Preset, SamplerOptions
from provabgs.inference.fit_observation import fit_observation
from provabgs.observe.projection import project
from provabgs.sps.derived import derived_properties
from provabgs.sps.model import SPSModel
from studies.history_families import FAMILIES
from studies.support.command import QUICK, run_study, study_parser, tracked
from studies.support.pieces import save_table
from studies.support.prior_galaxies import draw_theta, options_of, parameters_of, simulate

N_DRAWS = 400
"""Kept per galaxy."""
SAVE_EVERY = 5
AIM = SamplerOptions().aim_eval
FIGURES = {"published": "calibration.png", "honest": "calibration_honest.png"}


class Quantities(NamedTuple):
    """Names of what is ranked."""

    parameters: tuple[str, ...]
    derived: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters, then derived properties."""
        return (*self.parameters, *self.derived)

    @property
    def is_parameter(self) -> FloatArray:
        """``(n,)`` 1 for parameters, which TARP is of."""
        return np.array([1.0] * len(self.parameters) + [0.0] * len(self.derived))


def model_options(family: str) -> ModelOptions:
    """The model of a family of histories."""
    history, options = FAMILIES[family]
    return ModelOptions(history=history, history_options=options)


def quantities_of(family: str) -> Quantities:
    """All that a posterior of a family holds."""
    model = load_model(model_options(family))
    return Quantities(parameters_of(model).names, tuple(p.name for p in model.properties))


def one(seed: int, sampler: SamplerOptions, preset: Preset = "published", family: str = "nmf") -> dict[str, Any]:
    """Simulate and fit."""
    options, names = model_options(family), quantities_of(family).names
    observation, theta = simulate(seed, preset, options)
    config = FitConfig(preset=preset, model=options, observing=options_of(preset), sampler=sampler, n_samples=N_DRAWS)
    start = time.process_time()
    posterior = fit_observation(observation, config, seed=1)
    cpu, model = time.process_time() - start, load_model(options)
    t_age = project(observation, model.library, config.observing).t_age
    assert observation.fiber_fraction is not None
    other = draw_theta(model, observation.fiber_fraction[0], np.random.default_rng([seed, 78]))
    d = posterior.diagnostics
    row = {"seed": seed, "z": observation.redshift, "snr": observation.meta["SNR"], "status": int(posterior.status)}
    row |= {"rhat_max": d.rhat_max, "ess_min": d.ess_min, "n_eval": d.n_eval, "cpu_s": cpu}
    row["engine_error"] = posterior.diagnostics.engine_dlnl
    row["truth"], row["reference"] = _values(model, theta, t_age), _values(model, other, t_age)
    draws = np.full((N_DRAWS, len(names)), np.nan, np.float32)
    if posterior["logmstar"].size:
        draws[:] = np.stack([posterior[name] for name in names], axis=1)
    return row | {"draws": draws}


def _values(model: SPSModel, theta: FloatArray, t_age: float) -> FloatArray:
    stars = parameters_of(model).select(jnp.asarray(theta), model.parameters)
    derived = derived_properties(model, stars, model.tables(t_age))
    return np.array([*theta[0], *(float(values[0]) for values in derived.values())])


def report(table: Table, of: Quantities) -> None:
    """Print the tests as Markdown: the posteriors', and those of fixtures that have to fail."""
    good = table[table["status"] == int(Status.CONVERGED)]
    n = len(good)
    print(
        f"\n{len(table)} galaxies, {n} converged ({n / len(table):.1%}); processor time, compilation included:", end=" "
    )
    print(f"median {np.median(table['cpu_s']):.1f} s, 95 % {np.percentile(table['cpu_s'], 95):.1f} s;", end=" ")
    print(f"evaluations: median {np.median(table['n_eval']):.0f}, 95 % {np.percentile(table['n_eval'], 95):.0f}\n")
    truth, reference, draws = (np.asarray(good[c], dtype=np.float64) for c in ("truth", "reference", "draws"))
    cases = {"posteriors": draws, "narrowed to 0.7": overconfident(draws), "shifted by 0.4 sigma": biased(draws)}
    for case, x in cases.items():
        rank = ranks(x, truth)
        print(f"\n{case}\n\n| quantity | p (chi2) | p (KS) |" + "".join(f" within {c:.0%} |" for c in LEVELS))
        print("|---|---|---|" + "---|" * len(LEVELS))
        for i, name in enumerate(of.names):
            _line(name, rank[:, i])
        scale = np.std(truth, axis=0) * of.is_parameter
        _line("TARP, all parameters", tarp_ranks(x, truth, reference, scale))


SUMMARY = (
    "| family | CONVERGED | evaluations | CPU s | within "
    + " / ".join(f"{c:.0%}" for c in LEVELS)
    + ", all | mass | SFR, 1 Gyr | Z | age | smallest p (KS) | TARP, p (KS) |\n|"
    + "---|" * 11
)


def summary_of(table: Table, of: Quantities, family: str) -> str:
    """One row: cost, coverage over all quantities and of four, the smallest p-value, TARP."""
    good = table[table["status"] == int(Status.CONVERGED)]
    truth, reference, draws = (np.asarray(good[c], dtype=np.float64) for c in ("truth", "reference", "draws"))
    rank = ranks(draws, truth)
    inside = np.array([[central_coverage(r, c)[0] for c in LEVELS] for r in rank.T])

    def shown(fractions: FloatArray) -> str:
        return " / ".join(f"{100 * f:.0f}" for f in fractions)

    four = ("logmstar", "log_sfr_1gyr", "log_z_mw", "t_age_mw")
    cells = [shown(inside.mean(axis=0)), *(shown(inside[of.names.index(name)]) for name in four)]
    p_ks = [uniformity(r).p_ks for r in rank.T]
    worst = int(np.argmin(p_ks))
    tarp = uniformity(tarp_ranks(draws, truth, reference, np.std(truth, axis=0) * of.is_parameter)).p_ks
    cost = f"{len(good)} of {len(table)} | {np.median(table['n_eval']):,.0f} | {np.median(table['cpu_s']):.1f}"
    last = f"{p_ks[worst]:.2g} of {len(p_ks)} ({of.names[worst]}) | {tarp:.2g}"
    return f"| {family} | {cost} | {' | '.join(cells)} | {last} |"


def _line(name: str, rank: FloatArray) -> None:
    test = uniformity(rank)
    cells = ["{:.3f} ± {:.3f}".format(*central_coverage(rank, c)) for c in LEVELS]
    print(f"| {name} | {test.p_chi2:.2g} | {test.p_ks:.2g} | " + " | ".join(cells) + " |")


def draw_figure(table: Table, of: Quantities, path: Path) -> None:
    """Distribution of ranks less uniform, per quantity, for the posteriors and for fixtures that have to fail."""
    good = table[table["status"] == int(Status.CONVERGED)]
    truth, reference, draws = (np.asarray(good[c], dtype=np.float64) for c in ("truth", "reference", "draws"))
    scale = np.std(truth, axis=0) * of.is_parameter
    cases = {"posteriors": draws, "narrowed to 0.7": overconfident(draws), "shifted by 0.4 sigma": biased(draws)}
    shown = [i for i, name in enumerate(of.names) if not name.startswith(("beta", "logsfr_ratio"))]
    figure, axes = plt.subplots(3, 5, figsize=(13, 7.5), sharex=True, sharey=True, layout="constrained")
    expected = np.linspace(0, 1, 201)
    # 95 % of uniform samples stay inside everywhere (Kolmogorov)
    band = 1.358 / np.sqrt(len(good))
    for axis, i in zip(axes.flat, [*shown, None], strict=False):
        axis.axhspan(-band, band, color="0.88")
        for (case, x), colour in zip(cases.items(), ("C0", "C1", "C3"), strict=True):
            rank = tarp_ranks(x, truth, reference, scale) if i is None else ranks(x, truth)[:, i]
            found = np.searchsorted(np.sort(rank), expected, side="right") / len(rank)
            axis.plot(expected, found - expected, color=colour, label=case, lw=1.6 if case == "posteriors" else 1)
        axis.set_title("TARP, all parameters" if i is None else of.names[i], fontsize=9)
    axes.flat[0].legend(fontsize=7, loc="upper left")
    axes.flat[0].set_ylim(-0.22, 0.22)
    figure.supxlabel(f"rank of the truth ({len(good)} galaxies)")
    figure.supylabel("fraction at or below, less the uniform expectation; grey: 95 % of calibrated samples")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def fitted(
    seeds: list[int], workers: int, sampler: SamplerOptions, preset: Preset, family: str
) -> Iterator[dict[str, Any]]:
    """Rows in the order in which they are done, by processes where there are to be several."""
    fit = partial(one, sampler=sampler, preset=preset, family=family)
    if workers == 1:
        yield from map(fit, seeds)
        return
    with mp.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(fit, seeds)


def work(options: argparse.Namespace) -> None:
    """Fit what is not done yet, print the tests, draw the figure."""
    if options.family not in FAMILIES:
        raise SystemExit(f"no family {options.family!r}; choose from {', '.join(FAMILIES)}")
    path, of = options.output / f"calibration-{options.preset}-{options.family}.h5", quantities_of(options.family)
    done = Table.read(path, path="calibration") if path.exists() else Table()
    todo = [s for s in range(options.galaxies) if s not in set(done["seed"] if len(done) else [])]
    sampler = QUICK if options.smoke else SamplerOptions(aim_eval=options.aim_eval)
    found = tracked(fitted(todo, options.workers, sampler, options.preset, options.family), len(todo))
    for i, row in enumerate(found, start=1):
        done = vstack([done, Table([row])])
        if i % SAVE_EVERY == 0 or i == len(todo):
            save_table(done, path, "calibration")
    report(done, of)
    print(f"\n{SUMMARY}\n{summary_of(done, of, options.family)}")
    if options.figures and options.family == "nmf":
        draw_figure(done, of, options.figures / FIGURES[options.preset])


def main() -> None:
    """Parse the command line and run."""
    parser = study_parser("studies.posterior_calibration", __doc__)
    parser.add_argument("--galaxies", type=int, default=500)
    parser.add_argument("--preset", choices=tuple(FIGURES), default="published", help="noise of the data and of fits")
    parser.add_argument("--family", default="nmf", help=f"histories of galaxies and fits: {', '.join(FAMILIES)}")
    parser.add_argument("--aim-eval", type=int, default=AIM, help="sampler.aim_eval; 0 stops at convergence")
    parser.add_argument("--workers", type=int, default=2)
    run_study(parser, work, {"galaxies": 1, "workers": 1})


if __name__ == "__main__":
    main()
