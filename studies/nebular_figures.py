"""Figures of docs/studies/nebular.md: the grid that ships, and a real starburst fitted with its lines.

    python -m studies.nebular_figures --figures docs/figures             # the grid and a model galaxy
    python -m studies.nebular_figures --figures docs/figures --galaxy    # and the starburst: three fits, minutes

The galaxy and the FSPS population that photon rates are held against are reference data (../shared/reference).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from provabgs.catalog import read_posteriors, write_posteriors
from provabgs.core.jax import jnp
from provabgs.desi import read_observation
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, ModelOptions
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.posterior import Posterior
from provabgs.observe.linespread import spread_matrix, velocity_sigma
from provabgs.observe.observation import Observation
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from provabgs.plotting.style import save, style
from provabgs.sps.model import SPSModel
from provabgs.sps.nebular import NebularGrid, ionising_photon_rate
from studies.support.command import REFERENCE, run_study, study_parser
from tests.support.parameters import named, stars_of

COADD = REFERENCE / "desi" / "coadd-4-80613-thru20210324.fits"
TARGET = 39633345008634465
FSPS = REFERENCE / "ssp" / "fsps_ref_padova_basel_Z0.0020.npz"
GALAXY = {"logmstar": 10.0, "beta1": 0.6, "beta2": 0.2, "beta3": 0.1, "beta4": 0.1, "tburst": 5.0, "gamma1": 5e-3}
GALAXY |= {"gamma2": 3e-3, "tau_bc": 0.4, "tau_ism": 0.3, "n_dust": -0.7, "f_fiber": 1.0}
CONFIGS = {
    "stars, lines masked": FitConfig(observing=ObservingOptions(line_mask="extended")),
    "stars and gas, no mask": FitConfig(
        model=ModelOptions(nebular=True, log_u=-2.5), observing=ObservingOptions(line_mask="none", gas_vdisp_kms=88.0)
    ),
    "gas free": FitConfig(
        model=ModelOptions(nebular=True, gas_free=True),
        observing=ObservingOptions(line_mask="none", gas_vdisp_kms=88.0),
    ),
}
WINDOWS = {"[O II], [Ne III]": (3700.0, 3990.0), "H beta, [O III]": (4830.0, 5040.0), "H alpha": (6500.0, 6760.0)}
SHOWN = ("logmstar_surviving", "log_sfr_100myr", "log_sfr_1gyr", "log_z_mw", "t_age_mw")


def work(options: argparse.Namespace) -> None:
    """Draw the figures; fits that the output folder holds are not made again."""
    folder = options.figures or options.output
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        fig, axes = plt.subplots(2, 2, figsize=(10, 7), constrained_layout=True)
        grid = NebularGrid.default()
        photons(grid, axes[0, 0])
        diagram(grid, axes[0, 1])
        model_spectrum(axes[1, 0], (2300.0, 10000.0))
        model_spectrum(axes[1, 1], (6480.0, 6780.0))
        save(fig, folder / "nebular_grid.png")
        if options.galaxy:
            save(galaxy(options.output), folder / "nebular_galaxy.png")


def photons(grid: NebularGrid, ax: Axes) -> None:
    """Ionising photons against age; FSPS's own for one metallicity."""
    log_age = np.linspace(5.0, 7.9, 200)
    for z, colour in zip((0.0002, 0.002, 0.008, 0.02, 0.04), plt.cm.viridis(np.linspace(0, 0.9, 5)), strict=True):
        rate = grid.photon_rate([np.log10(z)], log_age)[0]
        ax.plot(log_age, np.log10(rate), color=colour, label=f"Z = {z:g}")
    if FSPS.exists():
        with np.load(FSPS, allow_pickle=False) as f:
            density = f["lnu"] * 2.99792458e18 / f["wave"] ** 2
            theirs = ionising_photon_rate(f["wave"], density, 3.839e33)
            ax.plot(f["logage"], np.log10(theirs), "k.", ms=4, label="FSPS (Padova), Z = 0.002")
    ax.set(xlabel="log age / yr", ylabel="log photons / s / Msun formed", xlim=(5, 7.95), ylim=(42, 47.2))
    ax.legend(fontsize=7)


def diagram(grid: NebularGrid, ax: Axes) -> None:
    """[O III]/H beta against [N II]/H alpha over the grid, with the two usual curves."""
    at = {n: grid.lines[:, 0, :, grid.line_names.index(n)].astype(float) for n in grid.line_names}
    x = np.log10(at["NII6583"] / at["Halpha"])
    y = np.log10(np.maximum(at["OIII5007"], 1e-20) / at["Hbeta"])
    for j in range(0, grid.log_u.size, 2):
        ax.plot(x[:, j], y[:, j], color=plt.cm.plasma(j / 9), label=f"log U = {grid.log_u[j]:g}")
    for i in range(0, grid.gas_logz.size, 2):
        ax.plot(x[i], y[i], color="0.6", lw=0.7)
        ax.annotate(f"{grid.gas_logz[i]:+.2f}", (x[i, -1], y[i, -1]), fontsize=6)
    k = np.linspace(-2.4, 0.25, 100)
    ax.plot(k, 0.61 / (k - 0.47) + 1.19, "k--", lw=1, label="Kewley et al. 2001")
    k = np.linspace(-1.28, -0.1, 100)
    ax.plot(k, 0.61 / (k - 0.05) + 1.3, "k:", lw=1, label="Kauffmann et al. 2003")
    ax.set(xlabel="log [N II] 6585 / H alpha", ylabel="log [O III] 5008 / H beta", xlim=(-2.5, 0.3), ylim=(-3.1, 1.2))
    ax.legend(fontsize=6, loc="lower left", ncols=2)


def model_spectrum(ax: Axes, window: tuple[float, float]) -> None:
    """A star-forming galaxy as DESI's pixels would have it, with and without gas."""
    theta = named(**GALAXY)
    wave = np.arange(*window, 0.8)
    for name, options in (("stars and gas", ModelOptions(nebular=True, log_u=-2.5)), ("stars", ModelOptions())):
        model: SPSModel = load_model(options)
        light = np.asarray(model.spectrum(jnp.asarray(stars_of(theta)), model.tables(12.0)))[0]
        operator = spread_matrix(model.library.wave, wave, velocity_sigma(wave, 80.0, 0.7))
        ax.plot(wave, operator @ light / 1e5, lw=0.8, label=name)
    ax.set(xlabel="rest wavelength / Angstrom", ylabel="1e5 Lsun / Angstrom")
    ax.set_ylim(0, None)
    if window[1] > 9000:
        ax.set_yscale("log")
        ax.set_ylim(3, None)
    ax.legend(fontsize=7)


def galaxy(folder: Path) -> Figure:
    """The starburst about its lines, with the best fit of either configuration; prints what the fits say."""
    data = read_observation(COADD, TARGET)
    fig, axes = plt.subplots(2, 3, figsize=(12, 6), constrained_layout=True, height_ratios=(3, 1), sharex="col")
    for i, (name, config) in enumerate(CONFIGS.items()):
        path = folder / f"{name.replace(', ', '-').replace(' ', '-')}.h5"
        if not path.exists():
            write_posteriors(path, [fit_observation(data, config, seed=1)])
        posterior = next(iter(read_posteriors(path)))
        report(name, posterior)
        draw_fit(axes, data, config, posterior, f"C{i}", name)
    for (title, window), ax, below in zip(WINDOWS.items(), axes[0], axes[1], strict=True):
        ax.set(title=title, xlim=window, yscale="log")
        below.set(ylim=(-0.5, 0.5), xlabel="rest wavelength / Angstrom")
        below.axhline(0, color="0.7", lw=0.7)
    axes[0, 0].set_ylabel("flux / 1e-17 erg/s/cm2/A")
    axes[1, 0].set_ylabel("data / model - 1")
    axes[0, 0].legend(fontsize=7)
    return fig


def draw_fit(axes: np.ndarray, data: Observation, config: FitConfig, p: Posterior, colour: str, name: str) -> None:
    """Data and one best fit in each window; nuisance templates, at their best amplitude, are part of the fit."""
    model = load_model(config.model)
    projection = project(data, model.library, config.observing)
    spectrum = projection.spectrum
    assert spectrum is not None
    pixels, _ = ExactLikelihood(projection, model).predict(p.best_fit[None])
    assert pixels is not None
    best, n, w = pixels[0], spectrum.templates, spectrum.ivar
    c = np.linalg.solve(np.eye(n.shape[1]) + n.T @ (w[:, None] * n), n.T @ (w * (spectrum.flux - best)))
    fitted = best + n @ c
    rest = spectrum.wave / (1 + data.redshift)
    for window, ax, below in zip(WINDOWS.values(), axes[0], axes[1], strict=True):
        inside = (rest > window[0]) & (rest < window[1])
        for camera in sorted(set(spectrum.camera)):
            k = np.flatnonzero(inside & (np.array(spectrum.camera) == camera))
            if k.size < 5:
                continue
            gaps = np.where(np.diff(rest[k], prepend=rest[k[0]]) > 3, np.nan, 1.0)
            if config.model.nebular:
                ax.plot(rest[k], spectrum.flux[k], color="0.2", lw=0.7, drawstyle="steps-mid")
                ax.plot(rest[k], best[k], color=colour, lw=0.7, ls="--", alpha=0.7)
            ax.plot(rest[k], fitted[k] * gaps, color=colour, lw=1, label=name if camera == "b" else None)
            below.plot(rest[k], (spectrum.flux[k] / fitted[k] - 1) * gaps, color=colour, lw=0.6)


def report(name: str, p: Posterior) -> None:
    """One line: status, chi^2 and the 16, 50 and 84 % of derived properties."""
    shown = [k for k in (*SHOWN, "log_u", "gas_logz") if k in p.derived or k in p.parameters]
    values = {k: np.percentile(p[k], [16, 50, 84]).round(3).tolist() for k in shown}
    print(
        f"{name}: {p.status.name} {p.message} chi2 {p.chi2_spec:.0f} / {p.dof_spec}, {p.chi2_phot:.1f} / {p.dof_phot}"
    )
    print(f"  engine error {p.diagnostics.engine_dlnl:.3f}, {values}")


def main() -> None:
    """Parse the command line and run."""
    parser = study_parser("studies.nebular_figures", __doc__)
    parser.add_argument("--galaxy", action="store_true", help="fit the real starburst, too")
    run_study(parser, work, {})


if __name__ == "__main__":
    main()
