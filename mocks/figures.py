"""The mock challenge's figures, put together from scores: one function per figure, each returns a Figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure
from numpy.typing import NDArray

from provabgs.mocks.challenge import Mode
from provabgs.mocks.score import TRUTH_COLUMNS, Scored
from provabgs.plotting import accuracy as plots
from provabgs.population.accuracy import BinAccuracy, accuracy_in_bins, accuracy_over_plane

FloatArray = NDArray[np.float64]

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
    """Inferred against true, a row per set of data and a column per property."""
    figure, axes = plots.grid_figure(len(scored), len(TRUTH_COLUMNS))
    for row, (mode, s) in zip(axes, scored.items(), strict=True):
        for ax, (name, column) in zip(row, TRUTH_COLUMNS.items(), strict=True):
            if len(s):
                plots.plot_truth(ax, name, np.asarray(s.truth[column]), s.draws[name], mode)
    return figure


def accuracy_figure(by_mode: dict[Mode, dict[str, list[BinAccuracy]]]) -> Figure:
    """Bias and scatter against the true property, all sets of data together."""
    figure, axes = plots.grid_figure(1, len(TRUTH_COLUMNS), 3.6)
    for ax, name in zip(axes[0], TRUTH_COLUMNS, strict=True):
        for k, (mode, properties) in enumerate(by_mode.items()):
            plots.plot_accuracy(ax, name, properties[name], mode, published=k == 0)
    axes[0, 0].legend(fontsize="x-small")
    return figure


def dependence_figure(scored: Scored, n_bin: int = 6, min_count: int = 10) -> Figure:
    """Bias and scatter of each property against fiber magnitude, magnitude and colours, in equal-count bins."""
    t = scored.truth
    quantities = {
        "$r_{fiber}$": np.asarray(t["FIBMAG_R"]),
        "$r$": np.asarray(t["MAG_R"]),
        "$g - r$": np.asarray(t["MAG_G"] - t["MAG_R"]),
        "$r - z$": np.asarray(t["MAG_R"] - t["MAG_Z"]),
    }
    figure, axes = plots.grid_figure(len(TRUTH_COLUMNS), len(quantities))
    for row, (name, column) in zip(axes, TRUTH_COLUMNS.items(), strict=True):
        for ax, (title, by) in zip(row, quantities.items(), strict=True):
            edges = np.unique(np.nanquantile(by, np.linspace(0, 1, n_bin + 1)))
            edges[-1] = np.nextafter(edges[-1], np.inf)
            bins = accuracy_in_bins(scored.draws[name], np.asarray(t[column]), by=by, edges=edges, min_count=min_count)
            plots.plot_accuracy(ax, name, bins, scored.mode, published=False)
            ax.set(xlabel=title, xlim=(edges[0], edges[-1]))
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
            axes[i, j].set(xlabel="true log M [dex]", ylabel="true log SFR [dex]", title=name)
    return figure


def save(figure: Figure, path: str | Path, dpi: int = 130) -> Path:
    """Write a figure; makes its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    return path
