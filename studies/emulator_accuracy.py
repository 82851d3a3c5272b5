"""Errors of the emulators that ship, on galaxies over the full prior: tables and figures of docs/studies/emulator.md.

    python -m studies.emulator_accuracy --galaxies 10000 --figures docs/figures [--reference FOLDER]

(b) Dust-free components in the conventions of the paper: attenuated composites, redshifts 0.01-0.6, against the exact
model, 2500-11000 A; in sigmas of a DESI spectrum of S/N 20 per pixel; in magnitudes. (a) The same in the conventions of
the published code, as rest-frame ln L against the exact model, with the published networks beside it (FOLDER holds
their arrays). No composite took part in any training. About four minutes on one core; each of the three
sets of spectra is kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.data import data_path
from provabgs.emulator.models import ComponentModel
from provabgs.emulator.published import PublishedEmulator, nmf_inputs
from provabgs.emulator.rest_frame import RestFrameEmulator
from provabgs.emulator.weights import load_emulator, training_curve
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.standard import label
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.filters import band_weights, short_name
from provabgs.observe.projection import project
from provabgs.plotting.style import new_figure, save, style
from provabgs.sps.model import SPSModel
from provabgs.surveys import load_system
from studies.support.command import run_study, study_parser
from studies.support.pieces import kept_arrays
from tests.support.engine_mocks import GRIDS, NO_FLOOR, mock
from tests.support.parameters import column, prior_draws, put, stars_of, values_of

WAVE_RANGE = (2500.0, 11000.0)
REDSHIFTS = np.linspace(0.01, 0.6, 50)
BANDS = load_system("legacy").filters("S")
LEVELS = (50.0, 99.0, 99.9)
BLOCK = 250
PLOTTED = ("beta4", "fburst", "tburst", "gamma1", "gamma2", "tau_bc", "tau_ism", "n_dust")


class Errors(NamedTuple):
    """Relative errors of composites."""

    theta: FloatArray
    redshift: FloatArray
    wave: FloatArray
    relative: NDArray[np.float32]
    """``(n, nwave)``."""
    magnitude: FloatArray
    """``(n, nband)``."""


def components(n: int) -> Errors:
    """Composites of `n` galaxies, `REDSHIFTS` in turn."""
    model = SPSModel()
    emulated = ComponentModel(load_emulator(data_path("emulator_paper.h5")), model)
    exact, mine = jax.jit(model.spectrum), jax.jit(emulated.spectrum)
    rng, wave = np.random.default_rng(20231123), model.library.wave
    inside = (wave >= WAVE_RANGE[0]) & (wave <= WAVE_RANGE[1])
    pieces: list[tuple[NDArray, ...]] = []
    for z in REDSHIFTS:
        theta, tables = prior_draws(n // len(REDSHIFTS), rng), model.tables(float(Cosmology().age_gyr(z)))
        bands = np.array([band_weights(b, wave * (1 + z)) for b in BANDS])
        for i in range(0, len(theta), BLOCK):
            part = theta[i : i + BLOCK]
            a = np.asarray(mine(jnp.asarray(stars_of(part)), tables, emulated.flat_spectra), np.float64)
            b = np.asarray(exact(jnp.asarray(stars_of(part)), tables, model.flat_spectra), np.float64)
            relative = (a[:, inside] / b[:, inside] - 1).astype(np.float32)
            pieces.append((part, np.full(len(part), z), relative, -2.5 * np.log10((a @ bands.T) / (b @ bands.T))))
    theta, redshift, relative, magnitude = (np.concatenate(p) for p in zip(*pieces, strict=True))
    return Errors(theta, redshift, wave[inside], relative, magnitude)


def in_sigmas(n: int) -> FloatArray:
    """Errors of `n` DESI spectra of S/N 20 per pixel, sigma: ``(n, 2)`` median and 99.9 % of single pixels."""
    model = SPSModel()
    emulated = ComponentModel(load_emulator(data_path("emulator_paper.h5")), model)
    rng, out = np.random.default_rng(7), []
    noise = np.concatenate([np.full(npix, relative) for _, npix, relative in GRIDS.values()])
    for theta in prior_draws(n, rng):
        data = mock(model, theta, float(rng.uniform(0.01, 0.6)), 20, rng, photometry=False)
        projection = project(data, model.library, NO_FLOOR)
        put(theta, f_fiber=1.0)
        assert projection.spectrum is not None
        a, b = (np.asarray(ExactLikelihood(projection, m).predict(theta[None])[0])[0] for m in (emulated, model))
        assert noise.size == a.size
        sigma = 1 / np.sqrt(projection.spectrum.ivar)
        out.append(np.percentile(np.abs(a - b) / sigma, [50.0, 99.9]))
    return np.array(out)


def rest_frame(n: int, reference: Path | None) -> dict[str, NDArray[np.float32]]:
    """Ln L of smooth histories less the exact model's, ``(n, nwave)``: ours, and the published network's."""
    model = SPSModel.published()
    ours = RestFrameEmulator(load_emulator(data_path("emulator_published.h5")), model)
    emulators: dict[str, RestFrameEmulator | PublishedEmulator] = {"ours": ours}
    if reference is not None:
        emulators["published"] = PublishedEmulator(reference / "emulator_nmf_v0.1.npz")
    rng, wave = np.random.default_rng(20231124), model.library.wave
    inside = (wave >= WAVE_RANGE[0]) & (wave <= WAVE_RANGE[1])
    theta, t_age = prior_draws(n, rng), rng.uniform(7.75, 13.8, n)
    put(theta, fburst=0.0, logmstar=0.0)
    exact = jax.jit(model.spectrum)
    out: dict[str, list[NDArray[np.float32]]] = {name: [] for name in emulators}
    for i in range(0, n, BLOCK):
        part, age = jnp.asarray(theta[i : i + BLOCK]), t_age[i : i + BLOCK]
        truth = np.log(np.asarray(exact(stars_of(part), model.tables(age), model.flat_spectra), np.float64))
        for name, emulator in emulators.items():
            ln = np.asarray(emulator.ln_luminosity(nmf_inputs(values_of(part), jnp.asarray(age))), np.float64)
            out[name].append((ln - truth)[:, inside].astype(np.float32))
    return {name: np.concatenate(p) for name, p in out.items()}


# ---- tables and figures -------------------------------------------------------------------------------------------


def row(name: str, values: NDArray, scale: float = 100.0) -> str:
    """One line of a table: percentiles of the absolute value."""
    cells = " | ".join(f"{scale * p:.4f}" for p in np.percentile(np.abs(values), LEVELS))
    return f"| {name} | {cells} |"


def report(errors: Errors, sigmas: FloatArray, parity: dict[str, NDArray[np.float32]]) -> None:
    """Print the tables."""
    print(f"\n| relative error, {len(errors.theta)} spectra | median, % | 99 %, % | 99.9 %, % |\n|---|---|---|---|")
    print(row("(b) components, 2500-11000 A", errors.relative))
    for low, high in ((2500, 3600), (3600, 5500), (5500, 7410), (7410, 11000)):
        print(row(f"(b) {low}-{high} A", errors.relative[:, (errors.wave >= low) & (errors.wave < high)]))
    for name, difference in parity.items():
        who = "(a) rest-frame ln L" if name == "ours" else "published network, against our exact model"
        print(row(f"{who}, {len(difference)} spectra", difference))
        if name != "ours":
            print(row(f"{who}, mean offset at each wavelength removed", difference - difference.mean(axis=0)))
    print("\n| magnitude | median, mmag | 99 %, mmag | 99.9 %, mmag |\n|---|---|---|---|")
    for band, error in zip(BANDS, errors.magnitude.T, strict=True):
        print(row(short_name(band), error, 1000.0))
    typical, worst = np.median(sigmas, axis=0)
    print(
        f"\n{len(sigmas)} DESI spectra of S/N 20 per pixel: error of a pixel {typical:.4f} sigma (median), {worst:.4f} "
        f"(99.9 % of a spectrum's pixels; of the worst spectrum in a hundred {np.percentile(sigmas[:, 1], 99):.4f})"
    )


def figure_errors(errors: Errors, path: Path) -> None:
    """Error against wavelength and against each parameter."""
    with style():
        figure = new_figure(8.0, 7.5)
        grid = figure.add_gridspec(4, 3, height_ratios=[1.5, 1, 1, 1])
        ax = figure.add_subplot(grid[0, :])
        size = 100 * np.abs(errors.relative)
        for level, colour in zip(LEVELS, ("#111111", "#3a78b5", "#c8553d"), strict=True):
            ax.plot(errors.wave, np.percentile(size, level, axis=0), lw=0.6, color=colour, label=f"{level:g} %")
        ax.set(xlabel="rest wavelength [A]", ylabel="|error| [%]", yscale="log", xlim=WAVE_RANGE, ylim=(3e-3, 2))
        ax.legend(ncol=3, title="percentile over galaxies", loc="upper right")
        rms = 100 * np.sqrt(np.mean(errors.relative.astype(np.float64) ** 2, axis=1))
        panels = [*PLOTTED, "redshift"]
        for k, name in enumerate(panels):
            ax = figure.add_subplot(grid[1 + k // 3, k % 3])
            x = errors.redshift if name == "redshift" else column(errors.theta, name)
            figure_binned(ax, np.log10(x) if name.startswith("gamma") else x, rms)
            title = name if name == "redshift" else label(name)
            ax.set(xlabel=f"log10 {title}" if name.startswith("gamma") else title, yscale="log", ylim=(3e-3, 2))
            if k % 3 == 0:
                ax.set_ylabel("rms error [%]")
        save(figure, path)


def figure_binned(ax: Axes, x: FloatArray, y: FloatArray) -> None:
    """Median and 99th percentile of y in bins of x of equal number."""
    edges = np.quantile(x, np.linspace(0, 1, 21))
    index = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, 19)
    centre = 0.5 * (edges[1:] + edges[:-1])
    for level, colour in ((50.0, "#111111"), (99.0, "#3a78b5")):
        ax.plot(centre, [np.percentile(y[index == i], level) for i in range(20)], color=colour, lw=1.0)


def figure_training(path: Path) -> None:
    """Training curves of both weights."""
    with style():
        figure = new_figure(7.0, 3.0)
        axes = figure.subplots(1, 2, sharey=True)
        for ax, name in zip(axes, ("paper", "published"), strict=True):
            step, train, held_out = training_curve(data_path(f"emulator_{name}.h5")).T
            ax.plot(step, 100 * train, lw=1.0, color="#8a8a8a", label="training")
            ax.plot(step, 100 * held_out, lw=1.0, color="#c8553d", label="held out")
            ax.set(xlabel="step", yscale="log", title=f"emulator_{name}.h5")
        axes[0].set_ylabel("rms relative error of a part [%]")
        axes[0].legend()
        save(figure, path)


def work(options: argparse.Namespace) -> None:
    """Compare what is not done yet, print the tables, draw the figures."""
    n, folder = options.galaxies, options.output
    errors = Errors(**kept_arrays(folder / f"components-{n}.npz", lambda: components(n)._asdict()))
    who = "with-published" if options.reference else "alone"
    parity = kept_arrays(folder / f"rest-frame-{n}-{who}.npz", lambda: rest_frame(n, options.reference))
    sigmas = kept_arrays(folder / f"sigmas-{options.spectra}.npz", lambda: {"sigmas": in_sigmas(options.spectra)})
    report(errors, sigmas["sigmas"], parity)
    if options.figures:
        figure_errors(errors, options.figures / "emulator_errors.png")
        figure_training(options.figures / "emulator_training.png")


def main() -> None:
    """Parse the command line and run."""
    parser = study_parser("studies.emulator_accuracy", __doc__)
    parser.add_argument("--galaxies", type=int, default=10_000, help="a multiple of 50, the number of redshifts")
    parser.add_argument("--spectra", type=int, default=100, help="DESI spectra, for errors in sigmas")
    parser.add_argument("--reference", type=Path, help="folder of the published networks' arrays")
    run_study(parser, work, {"galaxies": len(REDSHIFTS), "spectra": 2})


if __name__ == "__main__":
    main()
