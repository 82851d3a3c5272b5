"""The mock challenge's figures, put together from scores: one function per figure, each returns a Figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from provabgs.core.arrays import FloatArray
from provabgs.inference.posterior import Posterior
from provabgs.inference.predictive import Predictive
from provabgs.inference.standard import label
from provabgs.mocks.challenge import Mode
from provabgs.mocks.score import TRUTH_COLUMNS, Scored
from provabgs.plotting import accuracy as plots
from provabgs.plotting.corner import plot_corner
from provabgs.plotting.photometry import plot_photometry
from provabgs.plotting.spectrum import plot_residuals, plot_spectrum
from provabgs.plotting.style import style
from provabgs.plotting.summary import title_of
from provabgs.population.accuracy_bins import BinAccuracy, accuracy_in_bins, accuracy_over_plane

BGS_COLOURS: dict[str, list[float]] = {"g-r": [0.70, 1.12, 1.53], "r-z": [0.45, 0.69, 0.89]}
"""16, 50 and 84 % quantiles of BGS targets of r = 19-20, from the Gaussian mixtures of the Legacy Surveys DR9 BGS
sample in desitarget 4.4.0 (``mock/data/dr9``), shape types mixed by its own fractions."""
BGS_SIZES: dict[str, list[float]] = {
    "17-18": [1.49, 2.37, 3.84],
    "18-19": [1.06, 1.65, 2.67],
    "19-20": [0.76, 1.19, 1.89],
}
"""16, 50 and 84 % quantiles of half-light radius, arcsec, by r magnitude; same source."""


def sample_figure(truth: Table) -> Figure:
    """What was observed: colours against real ones, S/N against fiber magnitude, redshifts, sizes."""
    figure, axes = plots.grid_figure(2, 2, 3.8)
    faint = (truth["MAG_R"] > 19) & (truth["MAG_R"] < 20)
    shown = truth[faint] if faint.any() else truth
    plots.plot_colours(axes[0, 0], shown["MAG_R"] - shown["MAG_Z"], shown["MAG_G"] - shown["MAG_R"], BGS_COLOURS)
    axes[0, 0].set_title("19 < r < 20", fontsize="small")
    plots.plot_snr(axes[0, 1], truth["FIBMAG_R"], {c: truth[f"SNR_{c.upper()}"] for c in "brz"})
    plots.plot_histogram(axes[1, 0], {"mock": truth["Z"]}, np.linspace(0, 0.6, 25).tolist(), "redshift")
    axes[1, 1].semilogy(truth["MAG_R"], truth["HALF_LIGHT"], ".", ms=2, alpha=0.5, label="mock")
    for name, (low, middle, high) in BGS_SIZES.items():
        centre = 0.5 * sum(float(x) for x in name.split("-"))
        label = "BGS targets, 16-84 %" if name == "19-20" else None
        axes[1, 1].errorbar(centre, middle, [[middle - low], [high - middle]], fmt="sk", capsize=3, label=label)
    axes[1, 1].set(xlabel="$r$", ylabel="half-light radius [arcsec]", xlim=(16.5, 20.5))
    axes[1, 1].legend(fontsize="x-small")
    return figure


def truth_figure(scored: dict[Mode, Scored]) -> Figure:
    """Inferred against true, a row per set of data and a column per property; red lines: published floor and cap."""
    figure, axes = plots.grid_figure(len(scored), len(TRUTH_COLUMNS))
    for row, (mode, s) in zip(axes, scored.items(), strict=True):
        for ax, (name, column) in zip(row, TRUTH_COLUMNS.items(), strict=True):
            if len(s):
                plots.plot_truth(ax, name, np.asarray(s.truth[column]), s.draws[name], mode)
            if (name, mode) in PUBLISHED_WALLS:
                ax.axhline(PUBLISHED_WALLS[name, mode], color="r", ls=":", lw=1)
    return figure


def delta_figure(scored: dict[Mode, Scored], by_mode: dict[Mode, dict[str, list[BinAccuracy]]]) -> Figure:
    """Inferred minus true against true: every galaxy, and the hierarchical mu and sigma of each bin."""
    figure, axes = plots.grid_figure(len(scored), len(TRUTH_COLUMNS))
    for row, (mode, s) in zip(axes, scored.items(), strict=True):
        for ax, (name, column) in zip(row, TRUTH_COLUMNS.items(), strict=True):
            if len(s):
                plots.plot_delta(ax, np.asarray(s.truth[column]), s.draws[name], mode)
            plots.plot_accuracy(ax, name, by_mode[mode][name], mode)
            ax.set_title(f"{plots.MODE_STYLE[mode][1]} (n = {len(s)})", fontsize="small")
    return figure


def accuracy_figure(by_mode: dict[Mode, dict[str, list[BinAccuracy]]]) -> Figure:
    """Bias and scatter against the true property, all sets of data together."""
    figure, axes = plots.grid_figure(1, len(TRUTH_COLUMNS), 3.6)
    for ax, name in zip(axes[0], TRUTH_COLUMNS, strict=True):
        for k, (mode, properties) in enumerate(by_mode.items()):
            plots.plot_accuracy(ax, name, properties[name], mode, published=k == 0)
    _legend(axes[0, 0])
    return figure


def observables(truth: Table) -> dict[str, FloatArray]:
    """Fiber magnitude, magnitude and colours of mock galaxies, by axis label."""
    g, r, z = (np.asarray(truth[f"MAG_{band}"], dtype=np.float64) for band in "GRZ")
    return {"$r_{fiber}$": np.asarray(truth["FIBMAG_R"]), "$r$": r, "$g - r$": g - r, "$r - z$": r - z}


def dependence_figure(scored: dict[Mode, Scored], n_bin: int = 6, min_count: int = 10) -> Figure:
    """Bias and scatter of each property against fiber magnitude, magnitude and colours, in equal-count bins."""
    columns = observables(next(iter(scored.values())).truth)
    figure, axes = plots.grid_figure(len(TRUTH_COLUMNS), len(columns))
    for row, (name, column) in zip(axes, TRUTH_COLUMNS.items(), strict=True):
        for ax, (title, values) in zip(row, columns.items(), strict=True):
            edges = np.unique(np.nanquantile(values, np.linspace(0, 1, n_bin + 1)))
            edges[-1] = np.nextafter(edges[-1], np.inf)
            for mode, s in scored.items():
                by = observables(s.truth)[title]
                bins = accuracy_in_bins(
                    s.draws[name], np.asarray(s.truth[column]), by=by, edges=edges, min_count=min_count
                )
                plots.plot_accuracy(ax, name, bins, mode, published=False)
            ax.set(xlabel=title, xlim=np.nanquantile(values, [0.002, 0.998]).tolist())
    _legend(axes[0, 0])
    return figure


def plane_figure(scored: Scored, min_count: int = 10) -> Figure:
    """Bias and scatter of each property over the plane of true mass and SFR."""
    mass, sfr = (np.asarray(scored.truth[TRUTH_COLUMNS[n]], dtype=np.float64) for n in ("logmstar", "log_sfr_1gyr"))
    figure, axes = plots.grid_figure(2, len(TRUTH_COLUMNS))
    for j, (name, column) in enumerate(TRUTH_COLUMNS.items()):
        plane = accuracy_over_plane(
            scored.draws[name],
            np.asarray(scored.truth[column]),
            mass,
            sfr,
            np.arange(9.0, 12.3, 0.4),
            np.arange(-3.0, 2.3, 0.75),
            min_count=min_count,
        )
        for i, what in enumerate(("mu", "sigma")):
            plots.plot_plane(axes[i, j], plane, what, plots.DELTA_LIMITS[name] / 2)
            axes[i, j].set(xlabel="true log M [dex]", ylabel="true log SFR [dex]", title=label(name))
    return figure


def prior_figure(prior: dict[str, FloatArray], scored: dict[Mode, Scored]) -> Figure:
    """Priors that the priors on parameters induce on properties, beside the truth and all draws of all galaxies.

    Parameters
    ----------
    prior
        ``(n,)`` prior draws of each scored property.
    scored
        Fits.
    """
    prior = {**prior, SPECIFIC: prior["log_sfr_1gyr"] - prior["logmstar"]}
    figure, axes = plots.grid_figure(1, len(prior), 3.4)
    first = next(iter(scored.values()))
    for ax, (name, values) in zip(axes[0], prior.items(), strict=True):
        finite = values[np.isfinite(values)]
        bins = np.linspace(float(np.quantile(finite, 0.002)), float(finite.max()), 41).tolist()
        ax.hist(finite, bins, density=True, color="0.8", label="induced prior")
        truth = _truth(first, name)
        ax.hist(truth, bins, density=True, histtype="step", color="k", ls="--", label="truth")
        for mode, s in scored.items():
            colour, text = plots.MODE_STYLE[mode]
            draws = s.draws["log_sfr_1gyr"] - s.draws["logmstar"] if name == SPECIFIC else s.draws[name]
            ax.hist(draws[np.isfinite(draws)], bins, density=True, histtype="step", color=colour, label=text)
        ax.set(
            xlabel=r"$\log_{10}$ SFR$_{1\,Gyr}$ / M$_{formed}$ [1/yr]" if name == SPECIFIC else label(name), yticks=[]
        )
    axes[0, 0].legend(fontsize="x-small")
    return figure


def _truth(scored: Scored, name: str) -> FloatArray:
    """True values of a scored property or of the specific SFR, finite ones only."""
    columns = [TRUTH_COLUMNS[n] for n in (("log_sfr_1gyr", "logmstar") if name == SPECIFIC else (name,))]
    value = np.asarray(scored.truth[columns[0]], dtype=np.float64)
    for column in columns[1:]:
        value = value - np.asarray(scored.truth[column], dtype=np.float64)
    return value[np.isfinite(value)]


SPECIFIC = "log_ssfr_1gyr"
"""SFR over 1 Gyr per mass formed, log10 1/yr: shown beside the scored properties."""
PUBLISHED_WALLS: dict[tuple[str, Mode], float] = {
    ("log_sfr_1gyr", "both"): -1.0,
    ("log_sfr_1gyr", "spectrum"): -1.0,
    ("log_sfr_1gyr", "photometry"): 0.0,
    ("t_age_mw", "both"): 8.0,
    ("t_age_mw", "spectrum"): 8.0,
}
"""Floor of inferred log SFR and cap of inferred age that Hahn et al. (2023) report."""


def posterior_figure(posterior: Posterior, predictive: Predictive, truth: dict[str, float]) -> Figure:
    """Posterior of the main properties with the truth (blue), and above it the data with their best models.

    Parameters
    ----------
    posterior, predictive
        A fit and what it says of its data.
    truth
        True values by property or parameter; those that are not known have no line.
    """
    names = ("logmstar", "log_sfr_1gyr", "log_z_mw", "t_age_mw", "tau_ism", "f_fiber")
    with style():
        figure = Figure(figsize=(11, 11))
        plot_corner(figure, posterior, names)
        grid = np.array(figure.axes).reshape(len(names), len(names))
        for i, row in enumerate(names):
            for j, column in enumerate(names[: i + 1]):
                if column in truth:
                    grid[i, j].axvline(truth[column], color="C0", lw=1)
                if i != j and row in truth:
                    grid[i, j].axhline(truth[row], color="C0", lw=1)
        if predictive.spectrum is not None:
            plot_spectrum(figure.add_axes((0.47, 0.80, 0.50, 0.145)), predictive.spectrum)
            plot_residuals(figure.add_axes((0.47, 0.735, 0.50, 0.05)), predictive.spectrum)
        if predictive.photometry is not None:
            plot_photometry(
                figure.add_axes((0.69, 0.48, 0.28, 0.19)),
                predictive.photometry,
                predictive.sed_wave,
                predictive.sed,
            )
        figure.suptitle(title_of(posterior), x=0.5, y=0.985)
    return figure


def save(figure: Figure, path: str | Path, dpi: int = 130) -> Path:
    """Write a figure; makes its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    return path


def _legend(ax: Axes) -> None:
    """Where there is something to name: bins of too few galaxies draw nothing."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize="x-small")
