"""Prospector's three parametric mocks beside its posteriors: tables and figures of docs/studies/prospector.md.

    python -m studies.prospector_parametric --figures docs/figures

One galaxy that Prospector's authors made with FSPS (delayed exponential, gas, Kriek & Conroy's dust) and fitted with
dynesty (Johnson et al. 2021, arXiv:2012.01426; repository bd-j/exspect): ten bands from GALEX to 2MASS (``phot``), a
spectrum of which the calibration is wrong by a smooth factor of two (``spec``), and both (``specphot``). Fitted here
with ``delayed-tau``, one metallicity, free gas, free dispersion, and Prospector's priors, twice: with the errors of the
mock alone (``pixels``) and with the preset ``honest``. The calibration is taken out as a polynomial of order 12 about a
fixed history that is not the truth's, then about the medians of a first fit, and stays free in both fits. Prospector's
draws of stars older than the universe are left out. One file per mock and variant is kept in the output folder.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter

from provabgs import Observation
from provabgs.core.arrays import FloatArray
from provabgs.core.constants import SOLAR_Z_PROVABGS
from provabgs.core.weights import weighted_quantiles
from provabgs.inference.backends import model_for
from provabgs.inference.config import FitConfig, MeasureOptions, ModelOptions, SamplerOptions
from provabgs.inference.fit import fit_one
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.posterior import Posterior
from provabgs.inference.predictive import predict
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from studies.support.command import run_study
from studies.support.parametric_mocks import (
    COSMOLOGY,
    MOCKS,
    ORDER,
    T_AGE,
    has_spectrum,
    made_up,
    metallicity_bounds,
    observation_of,
    read_mock,
    smooth_ratio,
    theirs,
    truth_of,
    with_derived,
)
from studies.support.pieces import Arrays, kept_arrays
from studies.support.prospector_runs import comparison_parser, fit_all

SEED = 1
VARIANTS = ("pixels", "honest")
FIRST = {"tau": 3.0, "first_stars": 0.7, "metallicity": SOLAR_Z_PROVABGS, "tau_bc": 0.0, "tau_ism": 0.0, "n_dust": 0.0}
FIRST |= {"logmstar": 10.0, "log_u": -3.0, "gas_logz": 0.0, "f_fiber": 1.0, "vdisp": 150.0}
"""Of the spectrum about which the calibration is taken out first."""
QUANTITIES = {
    "logmass": "log mass formed",
    "logzsol": "log Z/Zsun",
    "age": "age, Gyr",
    "tage": "first stars, Gyr",
    "tau": "tau, Gyr",
    "logsfr": "log SFR, 100 Myr",
    "dust2": "optical depth",
}
OF_CALIBRATION = ("logmass", "logsfr")
"""What a spectrum of unknown calibration does not say."""
Q = (0.16, 0.5, 0.84)


def config_of(variant: str, spectrum: bool, sampler: SamplerOptions) -> FitConfig:
    """Prospector's model and priors.

    Parameters
    ----------
    variant
        One of `VARIANTS`.
    spectrum
        Whether there is one.
    sampler
        Budget and convergence criterion.
    """
    free: dict[str, Any] = {"vdisp_kms": "fit" if spectrum else 150.0, "line_mask": "none", "cosmology": COSMOLOGY}
    free |= {"camera_order": ORDER, "camera_sigma": 0.3}
    if variant == "pixels":
        free |= {"noise": ("floor", "camera-calibration", "emission-lines"), "floor_spectrum": 0.0}
        free |= {"floor_optical": 0.0, "floor_infrared": 0.0, "floor_ultraviolet": 0.0, "relative_to": "stars"}
    return FitConfig(
        preset="honest" if variant == "honest" else "published",
        model=ModelOptions(
            history="delayed-tau", history_options={"metallicity": "constant"}, nebular=True, gas_free=True
        ),
        observing=ObservingOptions(**free),
        prior_bounds={
            "metallicity": metallicity_bounds(),
            "tau_ism": (0.0, 2.0),
            "tau_bc": (0.0, 1e-4),
            "n_dust": (-1e-3, 1e-3),
        },
        sampler=sampler,
        measure=MeasureOptions(groups=()),
    )


def calibrated(data: Arrays, config: FitConfig, values: dict[str, float]) -> Observation:
    """The mock, its spectrum divided by the polynomial by which it differs from a model.

    Parameters
    ----------
    data
        Of the mock.
    config
        Of the fit.
    values
        Parameters of the model by name.
    """
    observation = observation_of(data)
    if not has_spectrum(data):
        return observation
    model = model_for(config.model, observation)
    options = config.observing.model_copy(update={"clip_sigma": None})
    exact = ExactLikelihood(project(observation, model.library, options), model)
    theta = np.array([[values[name] for name in exact.parameters.names]])
    pixels = np.asarray(exact.predict(theta)[0], dtype=np.float64)[0]
    assert exact.projection.spectrum is not None
    wave = observation.spectra[0].wave
    on_pixels = np.interp(wave, exact.projection.spectrum.wave, pixels)
    ratio = smooth_ratio(observation.spectra[0], on_pixels)
    return observation_of(data, ratio)


def ours(name: str, variant: str, folder: Path | None, sampler: SamplerOptions) -> Arrays:
    """Fit, and keep draws of what is compared and predictions of the data."""
    data = made_up(name) if folder is None else read_mock(name, folder)
    config, start = config_of(variant, has_spectrum(data), sampler), time.process_time()
    observation = calibrated(data, config, FIRST)
    posterior = fit_one(observation, config, seed=SEED)
    if has_spectrum(data):
        medians = {n: float(np.median(posterior[n])) for n in posterior.parameters.names}
        observation = calibrated(data, config, FIRST | medians)
        posterior = fit_one(observation, config, seed=SEED)
    out: dict[str, Any] = {"status": posterior.status.name, "message": posterior.message}
    out |= {"cpu": time.process_time() - start, "n_eval": posterior.diagnostics.n_eval}
    out |= {"chi2": posterior.chi2_spec, "pixels": posterior.dof_spec}
    draws = {"logmass": posterior["logmstar"], "dust2": posterior["tau_ism"], "tau": posterior["tau"]}
    draws["tage"] = posterior["first_stars"] * T_AGE
    draws["logzsol"] = np.log10(posterior["metallicity"] / SOLAR_Z_PROVABGS)
    return {k: np.asarray(v) for k, v in (out | with_derived(draws) | shown(posterior, observation)).items()}


def shown(posterior: Posterior, observation: Observation) -> dict[str, FloatArray]:
    """Data and predictions for the figure."""
    made = predict(posterior, observation, 100)
    out: dict[str, FloatArray] = {}
    if made.spectrum is not None:
        out |= {"wave": made.spectrum.wave, "flux": made.spectrum.flux, "sigma": made.spectrum.sigma}
        out["model"] = np.quantile(made.spectrum.model, Q, axis=0)
    if made.photometry is not None:
        out |= {"band_wave": made.photometry.wave, "band_flux": made.photometry.flux}
        out |= {"band_sigma": made.photometry.sigma, "band_model": np.quantile(made.photometry.model, Q, axis=0)}
    return out


def kept(folder: Path, name: str, variant: str, reference: Path | None, sampler: SamplerOptions) -> Arrays:
    """`ours`, from its file where it is there."""
    return kept_arrays(folder / name / f"{variant}.npz", lambda: ours(name, variant, reference, sampler))


def cell_of(draws: FloatArray, weight: FloatArray | None = None) -> str:
    """Median and distances to 16 and 84 %."""
    low, median, high = weighted_quantiles(draws[None], (np.ones(draws.size) if weight is None else weight)[None], Q)[0]
    return f"{median:.2f} +{high - median:.2f} -{median - low:.2f}"


def table_of(name: str, data: Arrays, fits: dict[str, Arrays]) -> str:
    """Markdown: truth, ours and Prospector's of each quantity; then what the fits cost."""
    other, truth = theirs(data), truth_of()
    known = [q for q in QUANTITIES if name != "spec" or q not in OF_CALIBRATION]
    lines = [f"| {name} | truth | Prospector | {' | '.join(fits)} |\n|---|---|---|{'---|' * len(fits)}"]
    for q in known:
        cells = [cell_of(other[q], other["weight"]), *(cell_of(fit[q]) for fit in fits.values())]
        lines.append(f"| {QUANTITIES[q]} | {truth[q]:.2f} | {' | '.join(cells)} |")
    cost = [f"{fit['status']}, {int(fit['n_eval']):,}, {float(fit['cpu']):.0f} s" for fit in fits.values()]
    lines.append(f"| STATUS, evaluations, CPU | | {float(data['sampling_duration_s']):,.0f} s | {' | '.join(cost)} |")
    if "flux" in next(iter(fits.values())):
        chi2 = [f"{float(fit['chi2']):.0f} of {int(fit['pixels'])}" for fit in fits.values()]
        lines.append(f"| chi2 of pixels | | | {' | '.join(chi2)} |")
    return "\n".join(lines)


COLOURS = {"pixels": "#0072B2", "honest": "#009E73"}
"""Of Okabe and Ito."""


def figure(name: str, data: Arrays, fits: dict[str, Arrays], path: Path) -> None:
    """Data with predictions above, marginal posteriors below.

    Parameters
    ----------
    name, data
        Of the mock.
    fits
        By variant.
    path
        Folder of the figure.
    """
    fit = fits["honest"] if "honest" in fits else next(iter(fits.values()))
    panels = [k for k in ("flux", "band_flux") if k in fit]
    figure_ = plt.figure(figsize=(9, 7), layout="constrained")
    rows: Any = figure_.subfigures(2, 1, height_ratios=(1, 1.35))
    above, below = rows
    for axis, key in zip(np.atleast_1d(above.subplots(1, len(panels))), panels, strict=True):
        _data_panel(axis, fit, key)
    other, truth = theirs(data), truth_of()
    axes = below.subplots(2, 4).flat
    for axis, (q, label) in zip(axes, QUANTITIES.items(), strict=False):
        values = [other[q], *(f[q] for f in fits.values())]
        first, last = np.quantile(np.concatenate(values), (0.002, 0.998))
        edges = np.linspace(first, last, 40).tolist()
        axis.hist(other[q], edges, weights=other["weight"], density=True, color="0.8", label="Prospector")
        for variant, of in fits.items():
            axis.hist(of[q], edges, density=True, histtype="step", color=COLOURS[variant], label=variant, lw=1.4)
        axis.axvline(truth[q], color="k", ls=":", label="truth")
        axis.set(xlabel=label, yticks=[])
        if name == "spec" and q in OF_CALIBRATION:
            axis.set_title("set by the calibration", fontsize=8)
    last = below.axes[-1]
    last.axis("off")
    last.legend(*below.axes[0].get_legend_handles_labels(), loc="center", frameon=False)
    figure_.savefig(path / f"prospector_{name}.png", dpi=100)
    plt.close(figure_)


def _data_panel(axis: plt.Axes, fit: Arrays, key: str) -> None:
    if key == "flux":
        low, median, high = fit["model"]
        axis.plot(fit["wave"], fit["flux"], color="0.6", lw=0.5, label="mock, recalibrated")
        axis.plot(fit["wave"], median, color="#D55E00", lw=0.7, label="median of draws")
        axis.set(ylim=(0, 1.6 * np.quantile(fit["flux"], 0.98)), xlabel="observed wavelength (A)")
        axis.set_ylabel(r"10$^{-17}$ erg/s/cm$^2$/A")
    else:
        low, median, high = fit["band_model"]
        x = fit["band_wave"] / 1e4
        axis.errorbar(x, fit["band_flux"], fit["band_sigma"], fmt="o", color="k", ms=4, label="mock")
        axis.errorbar(1.03 * x, median, (median - low, high - median), fmt="s", color="#D55E00", ms=4, label="draws")
        axis.set(xscale="log", yscale="log", xlabel="observed wavelength (um)", ylabel="nanomaggies")
        axis.set_xticks([0.2, 0.5, 1.0, 2.0], ["0.2", "0.5", "1", "2"])
        axis.set_yticks([5, 10, 20, 50], ["5", "10", "20", "50"])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.legend(fontsize=8, frameon=False)


def work(options: argparse.Namespace) -> None:
    """Fit, print the tables, draw the figures."""
    folder = None if options.smoke else options.data
    fits = fit_all(kept, options, options.mocks.split(","), VARIANTS)
    for name, of in fits.items():
        data = made_up(name) if folder is None else read_mock(name, folder)
        print(f"\n{table_of(name, data, of)}")
        if options.figures:
            figure(name, data, of, options.figures)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = comparison_parser("studies.prospector_parametric", __doc__, VARIANTS, 600.0)
    parser.add_argument("--mocks", default=",".join(MOCKS), help=f"of {', '.join(MOCKS)}")
    run_study(parser, work, {"variants": "pixels", "mocks": "specphot"}, argv)


if __name__ == "__main__":
    main()
