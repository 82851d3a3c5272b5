"""Are posterior-predictive p-values uniform where the model is right? The table of docs/studies/honest.md.

    python -m studies.predictive_p --galaxies 40

Galaxies of the prior with data from the exact model and a draw of the honest noise model are fitted with the preset
``honest``. Printed per number: the Kolmogorov-Smirnov p-value against a uniform distribution, how many lie below 0.01
and above 0.99. Per galaxy: chi^2 per bin (p-value) for bins of several widths, largest residual and FLAG. ``--data
FOLDER`` adds the real spectra of studies/real_spectra.py.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import numpy as np
from scipy import stats

from provabgs.core.arrays import FloatArray, thin
from provabgs.inference.backends import load_model
from provabgs.inference.binned_spectrum import BIN_PIXELS, binned_chi2
from provabgs.inference.config import FitConfig, SamplerOptions
from provabgs.inference.fit import fit_one
from provabgs.inference.flags import Flag, flags_of, names_of
from provabgs.inference.light_error import as_fitted
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.posterior import Posterior
from provabgs.inference.quality import N_DRAWS
from provabgs.observe.as_configured import as_configured
from provabgs.observe.observation import Observation
from provabgs.observe.projection import project
from provabgs.observe.spectrum_fraction import with_spectrum_fraction
from studies.support.command import QUICK, run_study, study_parser, tracked
from studies.support.pieces import Arrays, in_order, kept_arrays
from studies.support.prior_galaxies import simulate
from studies.support.real_galaxies import GALAXIES

NUMBERS = ("p_spec", "p_spec_binned", "p_phot", "template_p", "calibration_p", "fiber_colour_p")
WIDTHS = (4, BIN_PIXELS, 16, 32)
"""Pixels of a bin."""


def fit(name: str, options: argparse.Namespace) -> Arrays:
    """p-values of one galaxy: a number for a mock, a name of `studies.support.real_galaxies` for a real one."""
    real = not name.isdigit()
    observation = GALAXIES[name](options.data).observation if real else simulate(int(name), "honest")[0]
    observation = observation.part(options.use)
    observing = {"z_max": 1.0} | tomllib.loads("\n".join(options.observing))
    sampler = QUICK if options.smoke else SamplerOptions(time_limit_s=options.time_limit)
    config = FitConfig(use=options.use, sampler=sampler, observing=observing, measure={"groups": ()})
    posterior = fit_one(observation, config, seed=0)
    out = {name: getattr(posterior.quality, name) for name in NUMBERS}
    out["widths"] = by_width(posterior, observation, config)
    out["chi2"] = np.array([posterior.chi2_spec / max(posterior.dof_spec, 1), posterior.quality.residual])
    return {k: np.asarray(v) for k, v in (out | {"flag": int(flags_of(posterior))}).items()}


def by_width(posterior: Posterior, observation: Observation, config: FitConfig) -> FloatArray:
    """chi^2 per bin and its p-value, ``(nwidth, 2)``: mean over draws of the posterior."""
    seen = as_configured(observation, config.observing)
    model = load_model(config.model)
    exact = ExactLikelihood(project(with_spectrum_fraction(seen)[0], model.library, config.observing), model)
    rows = posterior.samples[thin(len(posterior.samples), N_DRAWS)]
    pixels, _ = exact.predict(as_fitted(rows, posterior.parameters, model.linear_block.total, exact.parameters))
    data = exact.projection.spectrum
    assert data is not None
    assert pixels is not None
    found = [binned_chi2(data, data.flux - pixels, width) for width in WIDTHS]
    return np.array([[np.mean(chi2) / n, np.mean(stats.chi2.sf(chi2, n))] for chi2, n in found])


def kept(name: str, options: argparse.Namespace) -> Arrays:
    """`fit`, from its file where it is there."""
    return kept_arrays(options.output / options.use / f"{name}.npz", lambda: fit(name, options))


def line(name: str, row: Arrays) -> str:
    """A galaxy's row of the table of widths."""
    widths = " | ".join(f"{ratio:.2f} ({p:.1g})" for ratio, p in row["widths"])
    chi2, residual = row["chi2"]
    flags = names_of(Flag(int(row["flag"])))
    return f"| {name} | {chi2:.2f} ({row['p_spec']:.1g}) | {widths} | {residual:+.1f} | {flags} |"


def uniformity(values: FloatArray) -> str:
    """Cells of a number: KS p-value, shares below 0.01 and above 0.99."""
    values = values[np.isfinite(values)]
    if not values.size:
        return "- | - | -"
    ks = stats.kstest(values, "uniform").pvalue
    return f"{ks:.2f} | {np.sum(values < 0.01)} | {np.sum(values > 0.99)} of {values.size}"


def work(options: argparse.Namespace) -> None:
    """Fit, and print the tables."""
    names = [str(i) for i in range(options.galaxies)]
    names += list(GALAXIES) if options.data is not None else []
    rows = list(tracked(in_order(kept, [(n, options) for n in names], options.workers), len(names)))
    mocks = rows[: options.galaxies]
    if mocks:
        print_mocks(mocks)
    head = " | ".join(["galaxy", "pixels", *(f"bins of {w}" for w in WIDTHS), "residual", "FLAG"])
    print(f"| {head} |\n|{'---|' * (len(WIDTHS) + 4)}")
    for name, row in zip(names, rows, strict=True):
        print(line(name, row))


def print_mocks(mocks: list[Arrays]) -> None:
    """How uniform the p-values of mocks are."""
    print("\n| number | KS p-value | below 0.01 | above 0.99 |\n|---|---|---|---|")
    for name in NUMBERS:
        print(f"| {name} | {uniformity(np.array([float(r[name]) for r in mocks]))} |")
    for k, width in enumerate(WIDTHS):
        print(f"| means of {width} | {uniformity(np.array([r['widths'][k, 1] for r in mocks]))} |")
    print(f"\nFLAG 0: {sum(int(r['flag']) == 0 for r in mocks)} of {len(mocks)} mocks\n")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = study_parser("studies.predictive_p", __doc__)
    parser.add_argument("--galaxies", type=int, default=40, help="mocks")
    parser.add_argument("--data", type=Path, help="folder of real spectra, as of studies.real_spectra")
    parser.add_argument("--use", choices=("both", "spectrum"), default="both", help="which data to fit")
    parser.add_argument("--observing", nargs="*", default=[], help="lines of TOML, of [fit.observing]; own --output")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=120.0, help="seconds a fit")
    run_study(parser, work, {"galaxies": 2, "time_limit": 20.0}, argv)


if __name__ == "__main__":
    main()
