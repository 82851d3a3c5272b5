"""Simulation-based calibration: galaxies drawn from the prior, data from the exact model, fitted with the defaults.

``python benchmarks/calibration.py --galaxies 500 --workers 2 -o calibration.h5`` draws parameters from the prior,
makes a DESI-like spectrum and five bands with noise, fits, and records truth and draws of every parameter and derived
property, with STATUS, diagnostics and run time. Interrupted, it goes on where it was. It prints, per quantity, tests of
uniform ranks and the coverage of central intervals (binomial error beside it), and TARP over all parameters; and the
same for fixtures that are wrong on purpose. Galaxies that did not converge are left out of the tests and counted.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from astropy.table import Table, vstack

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
from provabgs.inference.config import FitConfig
from provabgs.inference.fit_observation import fit_observation, load_model
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.priors import N_LATENT, Prior, theta_from_unit
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from provabgs.sps.derived import derived_properties
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import DERIVED_NAMES, NAMES

CAMERAS = {"b": (3600.0, 2751), "r": (5760.0, 2326), "z": (7520.0, 2881)}
LSF_SIGMA_AA = {"b": 0.67, "r": 0.64, "z": 0.74}
BANDS = ("decam2014-g", "decam2014-r", "decam2014-z", "wise2010-W1", "wise2010-W2")
BAND_SIGMA = np.array([0.03, 0.04, 0.08, 0.7, 1.6])
"""nanomaggies; what the Legacy Surveys reach on compact galaxies (docs/mocks.md)."""
BAND_FLOOR = np.array([0.02, 0.02, 0.02, 0.05, 0.05])
"""Of the flux: what a fit's default floors stand for, here as noise that is really there."""
N_DRAWS = 400
"""Kept per galaxy."""
SAVE_EVERY = 5
QUANTITIES = (*NAMES, *DERIVED_NAMES)


def simulate(seed: int) -> tuple[Observation, np.ndarray]:
    """One galaxy of the prior as data."""
    rng = np.random.default_rng([seed, 77])
    z, snr = rng.uniform(0.02, 0.55), 10 ** rng.uniform(0, 1.5)
    fraction = rng.uniform(0.2, 0.8)
    prior = Prior.create((fraction, 0.1 * fraction))
    theta = np.array(theta_from_unit(jnp.asarray(rng.random((1, N_LATENT))), prior))
    return observe(theta, z, snr, fraction, rng, seed), theta


def observe(
    theta: np.ndarray, z: float, snr: float, fraction: float, rng: np.random.Generator, targetid: int
) -> Observation:
    """Data of one galaxy: no noise floor, so that the likelihood is the one the noise was drawn from."""
    blank = [_camera(c, None, None) for c in CAMERAS]
    empty = Observation(z, tuple(blank), Photometry(BANDS, np.ones(5), np.ones(5)))
    options = ObservingOptions(line_mask="none", floor_spectrum=0, floor_optical=0, floor_infrared=0)
    model = _model()
    pixels, bands = ExactLikelihood(project(empty, model.library, options), model).predict(theta)
    pixels, bands = np.asarray(pixels)[0], np.asarray(bands)[0]
    sigma = np.median(pixels) / snr
    spectra, start = [], 0
    for name, (_, n) in CAMERAS.items():
        flux = pixels[start : start + n]
        spectra.append(_camera(name, flux + sigma * rng.standard_normal(n), np.full(n, sigma**-2)))
        start += n
    band_sigma = np.hypot(BAND_SIGMA, BAND_FLOOR * bands)
    photometry = Photometry(BANDS, bands + band_sigma * rng.standard_normal(5), band_sigma**-2.0)
    meta = {"SNR": float(snr)}
    return Observation(z, tuple(spectra), photometry, (fraction, 0.1 * fraction), targetid=targetid, meta=meta)


def _camera(name: str, flux: np.ndarray | None, ivar: np.ndarray | None) -> Spectrum:
    first, n = CAMERAS[name]
    wave = first + 0.8 * np.arange(n)
    ones = np.ones(n)
    flux, ivar = (ones, ones) if flux is None or ivar is None else (flux, ivar)
    return Spectrum(name, wave, flux, ivar, sigma_aa=LSF_SIGMA_AA[name])


def _model() -> SPSModel:
    return load_model(FitConfig().model)


def one(seed: int) -> dict[str, Any]:
    """Simulate and fit."""
    observation, theta = simulate(seed)
    none = {"floor_spectrum": 0.0, "floor_optical": 0.0, "floor_infrared": 0.0, "line_mask": "none"}
    config = FitConfig(observing=ObservingOptions(**none), n_samples=N_DRAWS)
    posterior = fit_observation(observation, config, seed=1)
    model = _model()
    t_age = project(observation, model.library, config.observing).t_age
    rng = np.random.default_rng([seed, 78])
    prior = Prior.create(observation.fiber_fraction)
    other = np.array(theta_from_unit(jnp.asarray(rng.random((1, N_LATENT))), prior))
    d = posterior.diagnostics
    row = {"seed": seed, "z": observation.redshift, "snr": observation.meta["SNR"], "status": int(posterior.status)}
    row |= {"rhat_max": d.rhat_max, "ess_min": d.ess_min, "n_eval": d.n_eval, "runtime_s": d.runtime_s}
    row["engine_error"] = posterior.diagnostics.engine_dlnl
    row["truth"], row["reference"] = _quantities(model, theta, t_age), _quantities(model, other, t_age)
    draws = np.full((N_DRAWS, len(QUANTITIES)), np.nan, np.float32)
    if posterior["logmstar"].size:
        draws[:] = np.stack([posterior[name] for name in QUANTITIES], axis=1)
    return row | {"draws": draws}


def _quantities(model: SPSModel, theta: np.ndarray, t_age: float) -> np.ndarray:
    derived = derived_properties(model, jnp.asarray(theta), model.tables(t_age))
    return np.array([*theta[0], *(float(derived[n][0]) for n in DERIVED_NAMES)])


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
        scale = np.std(truth, axis=0) * np.array([name in NAMES for name in QUANTITIES])
        _line("TARP, all parameters", tarp_ranks(x, truth, reference, scale))


def _line(name: str, rank: np.ndarray) -> None:
    test = uniformity(rank)
    cells = ["{:.3f} ± {:.3f}".format(*central_coverage(rank, c)) for c in LEVELS]
    print(f"| {name} | {test.p_chi2:.2g} | {test.p_ks:.2g} | " + " | ".join(cells) + " |")


def draw_figure(table: Table, path: Path) -> None:
    """Distribution of ranks less uniform, per quantity, for the posteriors and for fixtures that have to fail."""
    good = table[table["status"] == int(Status.CONVERGED)]
    truth, reference, draws = (np.asarray(good[c], dtype=np.float64) for c in ("truth", "reference", "draws"))
    scale = np.std(truth, axis=0) * np.array([name in NAMES for name in QUANTITIES])
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


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxies", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=Path("calibration.h5"))
    parser.add_argument("--figure", type=Path, help="draw the ranks")
    args = parser.parse_args()
    done = Table.read(args.output, path="calibration") if args.output.exists() else Table()
    todo = [s for s in range(args.galaxies) if s not in set(done["seed"] if len(done) else [])]
    start = time.perf_counter()
    with mp.get_context("spawn").Pool(args.workers) as pool:
        for i, row in enumerate(pool.imap_unordered(one, todo), start=1):
            done = vstack([done, Table([row])])
            if i % SAVE_EVERY == 0 or i == len(todo):
                _save(done, args.output)
            left = (time.perf_counter() - start) / i * (len(todo) - i)
            print(f"\r{i}/{len(todo)}, {left / 60:.0f} min left ", end="", flush=True)
    report(done)
    if args.figure:
        draw_figure(done, args.figure)


def _save(table: Table, path: Path) -> None:
    """Never leave half a file."""
    part = path.with_suffix(".part.h5")
    table.write(part, path="calibration", overwrite=True)
    part.replace(path)


if __name__ == "__main__":
    main()
