"""Precision of the compressed engine over mock galaxies: figure and table of docs/studies/likelihood.md.

    python -m studies.engine_precision --galaxies 510 --figures docs/figures

Galaxies cover the prior, redshifts 0.01-0.6, S/N 5, 20 and 100 per pixel, both photometric systems, missing cameras,
photometry alone, spectrum alone and calibration polynomials. For each, ln L at points within 30 nats of the truth, and
the spectrum in every pixel, are compared with the exact likelihood: of the engine as built, and corrected at draws near
the truth that are none of the points compared. About fifteen minutes on one core; one file per
galaxy is kept.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from provabgs.core.errors import InputError
from provabgs.inference.backends import load_model
from provabgs.inference.compressed import CompressedLikelihood, size_of
from provabgs.inference.config import ModelOptions
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from studies.support.command import run_study, study_parser, tracked
from studies.support.pieces import kept_arrays
from tests.support.engine_mocks import draw_theta, mock, near
from tests.support.parameters import prior_of, put

SNRS = (5, 20, 100)
CASES: dict[str, dict[str, Any]] = {
    "all data": {},
    "BASS + MzLS": {"photsys": "N"},
    "b, r only": {"cameras": "br"},
    "r, z only": {"cameras": "rz"},
    "spectrum alone": {"photometry": False},
    "photometry alone": {"cameras": ""},
    "calibration order 3": {},
}
N_LOCAL = 64
LOCAL_DROP = 12.0
"""Nats below the truth of the draws at which the engine is corrected: those of a posterior in twelve dimensions."""
TOLERANCES = {5: 0.05, 20: 0.05, 100: 0.5}


class Result(NamedTuple):
    """Comparison of one galaxy."""

    case: str
    snr: int
    redshift: float
    points: int
    rows: int
    measured: float
    """The reduction's own estimate of its error, sigmas; NaN where it was refused."""
    d_log_like: NDArray[np.float64]
    d_corrected: NDArray[np.float64]
    """The same after `with_reference` at `N_LOCAL` other points, within `LOCAL_DROP` nats."""
    local_error: float
    """What the corrected engine says of itself, nats."""
    relative: NDArray[np.float64]
    """|error| over flux of every pixel of four spectra."""
    sigmas: NDArray[np.float64]
    """|error| over the noise."""


def compare(i: int, seed: int) -> Result:
    """Draw galaxy `i` and compare."""
    model = load_model(ModelOptions())
    rng = np.random.default_rng([seed, i])
    case, snr = list(CASES)[i % len(CASES)], SNRS[(i // len(CASES)) % len(SNRS)]
    theta, redshift = draw_theta(rng), float(rng.uniform(0.01, 0.6))
    options = ObservingOptions(calibration_order=3) if case.startswith("calibration") else ObservingOptions()
    data = mock(model, theta, redshift, snr, rng, **CASES[case])
    projection = project(data, model.library, options)
    if data.fiber_fraction is None:
        put(theta, f_fiber=1.0)
    empty = np.zeros(0)
    try:
        engine = CompressedLikelihood(projection, model)
    except InputError:
        return Result(case, snr, redshift, 0, 0, float("nan"), empty, empty, float("nan"), empty, empty)
    prior = prior_of(data)
    points = near(engine, theta, prior, rng)
    corrected = engine.with_reference(near(engine, theta, prior, rng, N_LOCAL, LOCAL_DROP))
    exact = ExactLikelihood(projection, model)
    truth = -0.5 * np.asarray(sum(exact.chi2(points)))
    ours, after = (np.asarray(e(points)) - truth for e in (engine, corrected))
    size = size_of(engine.reduction) or (0, 0)
    relative = sigmas = empty
    pixels = engine.predict(points[:4])
    if pixels is not None:
        expected = np.asarray(exact.predict(points[:4])[0])
        error = np.abs(pixels - expected)
        assert projection.spectrum is not None
        relative, sigmas = (error / np.abs(expected)).ravel(), (error * np.sqrt(projection.spectrum.ivar)).ravel()
    told = float("nan") if corrected.local_error is None else corrected.local_error
    return Result(case, snr, redshift, *size, engine.error, ours, after, told, relative, sigmas)


def table(results: list[Result]) -> str:
    """Markdown: one row per case and S/N, then per S/N.

    "within": share of galaxies with every point inside the tolerance of `TOLERANCES`; "either": the 99.9th percentile
    over pixels of min(relative error / 0.5 %, error in sigmas / 0.05).
    """
    lines = [
        "| case | S/N | galaxies | points: median, range | \\|d lnL\\|: median | 99 % | max | within | "
        "corrected: 99 % | max | within | spectrum: median | either | refused |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups = [(c, s) for c in CASES for s in SNRS] + [("all", s) for s in SNRS]
    for case, snr in groups:
        mine = [r for r in results if r.snr == snr and case in (r.case, "all")]
        good = [r for r in mine if r.d_log_like.size]
        if not good:
            continue
        d, after = (np.abs(np.concatenate([getattr(r, f) for r in good])) for f in ("d_log_like", "d_corrected"))
        within, within_after = (
            np.mean([np.abs(getattr(r, f)).max() <= TOLERANCES[snr] for r in good])
            for f in ("d_log_like", "d_corrected")
        )
        n = [r.points for r in good]
        row = f"| {case} | {snr} | {len(mine)} | {np.median(n):.0f}, {min(n)}-{max(n)} | {np.median(d):.4f} | "
        row += f"{np.percentile(d, 99):.3f} | {d.max():.3f} | {within:.1%} | "
        row += f"{np.percentile(after, 99):.4f} | {after.max():.3f} | {within_after:.1%} | "
        spectra = [r for r in good if r.relative.size]
        if spectra:
            relative, sigmas = (np.concatenate([getattr(r, f) for r in spectra]) for f in ("relative", "sigmas"))
            either = np.percentile(np.minimum(relative / 0.005, sigmas / 0.05), 99.9)
            row += f"{100 * np.median(relative):.4f} % | {either:.3f} | "
        else:
            row += "- | - | "
        lines.append(row + f"{len(mine) - len(good)} |")
    return "\n".join(lines)


def figure(results: list[Result], path: Path) -> None:
    """Distributions of d ln L and of the spectrum's error; the corrected engine's own estimate against the outcome."""
    good = [r for r in results if r.d_log_like.size]
    fig, axes = plt.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    colors = dict(zip(SNRS, ("tab:blue", "tab:orange", "tab:red"), strict=True))
    for snr in SNRS:
        mine = [r for r in good if r.snr == snr]
        if not any(r.points for r in mine):
            continue
        for ax, values in (
            (axes[0], np.concatenate([np.abs(r.d_log_like) for r in mine])),
            (axes[1], np.concatenate([r.relative for r in mine])[::7]),
        ):
            ordered = np.sort(values)
            ax.plot(ordered, 1 - np.arange(ordered.size) / ordered.size, color=colors[snr], label=f"S/N {snr}")
        ordered = np.sort(np.abs(np.concatenate([r.d_corrected for r in mine])))
        axes[0].plot(ordered, 1 - np.arange(ordered.size) / ordered.size, "--", color=colors[snr], lw=1)
        worst = [np.abs(r.d_corrected).max() for r in mine]
        axes[2].plot([r.local_error for r in mine], worst, ".", color=colors[snr], ms=4)
    for ax, name, low in ((axes[0], r"$|\Delta\ln L|$", 1e-4), (axes[1], "|error| / flux, all pixels", 1e-7)):
        ax.set(xscale="log", yscale="log", xlabel=name, xlim=(low, None), ylim=(1e-4, 1.1))
        ax.set_ylabel("fraction above")
        ax.legend(frameon=False)
    axes[0].axvline(0.05, color="0.5", ls="--", lw=1)
    axes[0].axvline(0.5, color="0.5", ls=":", lw=1)
    axes[1].axvline(0.005, color="0.5", ls="--", lw=1)
    axes[2].set(xscale="log", yscale="log", xlabel=r"scatter on held-out draws, measured by the engine")
    axes[2].set_ylabel(r"largest $|\Delta\ln L|$ within 30 nats, corrected")
    axes[2].xaxis.set_major_locator(LogLocator(10, numticks=12))
    axes[2].xaxis.set_minor_formatter(NullFormatter())
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=130)
    plt.close(fig)


def compared(i: int, seed: int, folder: Path) -> Result:
    """Galaxy `i` from its file, or compared now."""
    found = kept_arrays(folder / f"seed-{seed}-galaxy-{i:04d}.npz", lambda: compare(i, seed)._asdict())
    fields: dict[str, Any] = {name: value.item() if value.ndim == 0 else value for name, value in found.items()}
    return Result(**fields)


def work(options: argparse.Namespace) -> None:
    """Compare what is not done yet; print the table, draw the figure."""
    one = partial(compared, seed=options.seed, folder=options.output)
    if options.workers == 1:
        results = [said(i, r) for i, r in enumerate(tracked(map(one, range(options.galaxies)), options.galaxies))]
    else:
        with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
            done = pool.map(one, range(options.galaxies), chunksize=1)
            results = [said(i, r) for i, r in enumerate(tracked(done, options.galaxies))]
    print(table(results))
    if options.figures:
        figure(results, options.figures / "engine_precision.png")


def said(i: int, r: Result) -> Result:
    """One line per galaxy on stderr."""
    worst, after = (np.abs(d).max() if d.size else float("nan") for d in (r.d_log_like, r.d_corrected))
    line = f"{i} {r.case}, z {r.redshift:.3f}, S/N {r.snr}: {r.points} points, {r.rows} rows, error {r.measured:.4f}"
    print(f"{line}, max |d lnL| {worst:.4f}, corrected {after:.4f} ({r.local_error:.4f})", file=sys.stderr, flush=True)
    return r


def main() -> None:
    """Parse the command line and run."""
    parser = study_parser("studies.engine_precision", __doc__)
    parser.add_argument("--galaxies", type=int, default=510)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=3)
    run_study(parser, work, {"galaxies": 1})


if __name__ == "__main__":
    main()
