"""Simulation-based calibration: galaxies drawn from the prior, data from the exact model, fitted with the defaults.

``python -m studies.posterior_calibration --galaxies 500 --workers 2`` draws parameters of the prior,
makes a DESI-like spectrum and five bands with noise, fits, and records truth and draws of every parameter and derived
property, with STATUS, diagnostics and run time. Interrupted, it goes on where it was. It prints, per quantity, tests of
uniform ranks and the coverage of central intervals (binomial error beside it), and TARP over all parameters; and the
same for fixtures that are wrong on purpose. ``--preset honest`` draws errors of stars, calibration and fiber from that
preset's noise model and fits with it. Galaxies that did not converge are left out of the tests and counted.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from astropy.table import Table, vstack

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jnp
from provabgs.core.status import Status
from provabgs.inference.calibration import (
    LEVELS,
    biased,
    central_coverage,
    overconfident,
    ranks,
    tarp_ranks,
    uniformity,
)
from provabgs.inference.config import FitConfig, Preset, SamplerOptions
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.standard import PARAMETERS
from provabgs.observe.projection import project
from provabgs.sps.derived import derived_properties
from provabgs.sps.model import SPSModel
from studies.support.command import QUICK, run_study, study_parser, tracked
from studies.support.pieces import save_table
from studies.support.prior_galaxies import default_model, options_of, simulate
from tests.support.parameters import QUANTITIES, prior_draws, stars_of

N_DRAWS = 400
"""Kept per galaxy."""
SAVE_EVERY = 5
FIGURES = {"published": "calibration.png", "honest": "calibration_honest.png"}


def one(seed: int, sampler: SamplerOptions, preset: Preset = "published") -> dict[str, Any]:
    """Simulate and fit."""
    observation, theta = simulate(seed, preset)
    config = FitConfig(preset=preset, observing=options_of(preset), sampler=sampler, n_samples=N_DRAWS)
    posterior = fit_observation(observation, config, seed=1)
    model = default_model()
    t_age = project(observation, model.library, config.observing).t_age
    rng = np.random.default_rng([seed, 78])
    other = prior_draws(1, rng, observation.fiber_fraction)
    d = posterior.diagnostics
    row = {"seed": seed, "z": observation.redshift, "snr": observation.meta["SNR"], "status": int(posterior.status)}
    row |= {"rhat_max": d.rhat_max, "ess_min": d.ess_min, "n_eval": d.n_eval, "runtime_s": d.runtime_s}
    row["engine_error"] = posterior.diagnostics.engine_dlnl
    row["truth"], row["reference"] = _quantities(model, theta, t_age), _quantities(model, other, t_age)
    draws = np.full((N_DRAWS, len(QUANTITIES)), np.nan, np.float32)
    if posterior["logmstar"].size:
        draws[:] = np.stack([posterior[name] for name in QUANTITIES], axis=1)
    return row | {"draws": draws}


def _quantities(model: SPSModel, theta: FloatArray, t_age: float) -> FloatArray:
    derived = derived_properties(model, jnp.asarray(stars_of(theta)), model.tables(t_age))
    return np.array([*theta[0], *(float(values[0]) for values in derived.values())])


def report(table: Table) -> None:
    """Print the tests as Markdown: the posteriors', and those of fixtures that have to fail."""
    good = table[table["status"] == int(Status.CONVERGED)]
    n = len(good)
    print(f"\n{len(table)} galaxies, {n} converged ({n / len(table):.1%}); run time, compilation included:", end=" ")
    print(f"median {np.median(table['runtime_s']):.1f} s, 95 % {np.percentile(table['runtime_s'], 95):.1f} s;", end=" ")
    print(f"evaluations: median {np.median(table['n_eval']):.0f}, 95 % {np.percentile(table['n_eval'], 95):.0f}\n")
    truth, reference, draws = (np.asarray(good[c], dtype=np.float64) for c in ("truth", "reference", "draws"))
    cases = {"posteriors": draws, "narrowed to 0.7": overconfident(draws), "shifted by 0.4 sigma": biased(draws)}
    for case, x in cases.items():
        rank = ranks(x, truth)
        print(f"\n{case}\n\n| quantity | p (chi2) | p (KS) |" + "".join(f" within {c:.0%} |" for c in LEVELS))
        print("|---|---|---|" + "---|" * len(LEVELS))
        for i, name in enumerate(QUANTITIES):
            _line(name, rank[:, i])
        scale = np.std(truth, axis=0) * np.array([name in PARAMETERS for name in QUANTITIES])
        _line("TARP, all parameters", tarp_ranks(x, truth, reference, scale))


def _line(name: str, rank: FloatArray) -> None:
    test = uniformity(rank)
    cells = ["{:.3f} ± {:.3f}".format(*central_coverage(rank, c)) for c in LEVELS]
    print(f"| {name} | {test.p_chi2:.2g} | {test.p_ks:.2g} | " + " | ".join(cells) + " |")


def draw_figure(table: Table, path: Path) -> None:
    """Distribution of ranks less uniform, per quantity, for the posteriors and for fixtures that have to fail."""
    good = table[table["status"] == int(Status.CONVERGED)]
    truth, reference, draws = (np.asarray(good[c], dtype=np.float64) for c in ("truth", "reference", "draws"))
    scale = np.std(truth, axis=0) * np.array([name in PARAMETERS for name in QUANTITIES])
    cases = {"posteriors": draws, "narrowed to 0.7": overconfident(draws), "shifted by 0.4 sigma": biased(draws)}
    shown = [i for i, name in enumerate(QUANTITIES) if not name.startswith("beta")]
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
        axis.set_title("TARP, all parameters" if i is None else QUANTITIES[i], fontsize=9)
    axes.flat[0].legend(fontsize=7, loc="upper left")
    axes.flat[0].set_ylim(-0.22, 0.22)
    figure.supxlabel(f"rank of the truth ({len(good)} galaxies)")
    figure.supylabel("fraction at or below, less the uniform expectation; grey: 95 % of calibrated samples")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def fitted(seeds: list[int], workers: int, sampler: SamplerOptions, preset: Preset) -> Iterator[dict[str, Any]]:
    """Rows in the order in which they are done, by processes where there are to be several."""
    fit = partial(one, sampler=sampler, preset=preset)
    if workers == 1:
        yield from map(fit, seeds)
        return
    with mp.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(fit, seeds)


def work(options: argparse.Namespace) -> None:
    """Fit what is not done yet, print the tests, draw the figure."""
    path = options.output / f"calibration-{options.preset}.h5"
    done = Table.read(path, path="calibration") if path.exists() else Table()
    todo = [s for s in range(options.galaxies) if s not in set(done["seed"] if len(done) else [])]
    sampler = QUICK if options.smoke else SamplerOptions()
    found = tracked(fitted(todo, options.workers, sampler, options.preset), len(todo))
    for i, row in enumerate(found, start=1):
        done = vstack([done, Table([row])])
        if i % SAVE_EVERY == 0 or i == len(todo):
            save_table(done, path, "calibration")
    report(done)
    if options.figures:
        draw_figure(done, options.figures / FIGURES[options.preset])


def main() -> None:
    """Parse the command line and run."""
    parser = study_parser("studies.posterior_calibration", __doc__)
    parser.add_argument("--galaxies", type=int, default=500)
    parser.add_argument("--preset", choices=tuple(FIGURES), default="published", help="noise of the data and of fits")
    parser.add_argument("--workers", type=int, default=2)
    run_study(parser, work, {"galaxies": 1, "workers": 1})


if __name__ == "__main__":
    main()
