"""Figures of populations: densities with error bands in one and two dimensions, and how well they were reweighted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.plotting.style import BAND_68, BAND_95, MODEL, PRIOR, TRUTH, new_figure
from provabgs.population.density.posterior import FEW_DRAWS, PopulationPosterior

AXIS: dict[str, str] = {
    "LOGMSTAR": r"$\log_{10} M_\ast/M_\odot$",
    "LOGMSTAR_FORMED": r"$\log_{10} M_{\rm formed}/M_\odot$",
    "LOGSFR_1GYR": r"$\log_{10} {\rm SFR}_{1\,{\rm Gyr}}$ [$M_\odot$/yr]",
    "LOGSFR_100MYR": r"$\log_{10} {\rm SFR}_{100\,{\rm Myr}}$ [$M_\odot$/yr]",
    "LOGSSFR_1GYR": r"$\log_{10} {\rm sSFR}_{1\,{\rm Gyr}}$ [1/yr]",
    "LOGSSFR_100MYR": r"$\log_{10} {\rm sSFR}_{100\,{\rm Myr}}$ [1/yr]",
    "LOGZ_MW": r"$\log_{10} Z_{\rm MW}$",
    "T_AGE_MW": r"$t_{\rm age,MW}$ [Gyr]",
}
"""Axis labels of sample columns; others go by their name."""


def plot_density(ax: Axes, found: PopulationPosterior, name: str, n_point: int = 400) -> None:
    """Median density of one property with its 68 and 95 % bands."""
    low, high = found.meta["limits"][0]
    step = 1e-6 * (high - low)
    x = np.linspace(low + step, high - step, n_point)
    q = found.quantiles(x, [0.025, 0.16, 0.5, 0.84, 0.975])
    ax.fill_between(x, q[0], q[4], color=BAND_95, lw=0, label="95 %")
    ax.fill_between(x, q[1], q[3], color=BAND_68, lw=0, label="68 %")
    ax.plot(x, q[2], color=MODEL, lw=1.2, label=f"{found.meta.get('kind', 'density')}, median")
    ax.set(xlabel=AXIS.get(name, name), ylabel="density", xlim=(low, high), ylim=(0, None))


def plot_stack(ax: Axes, draws: ArrayLike, limits: Sequence[float], n_bin: int = 40) -> None:
    """Histogram of all draws: what a stack of posteriors says, errors and prior included."""
    values = np.asarray(draws, dtype=np.float64).ravel()
    ax.hist(
        values[np.isfinite(values)], np.linspace(limits[0], limits[1], n_bin + 1).tolist(), density=True,
        histtype="step", color=PRIOR, lw=1, label="stacked draws",
    )  # fmt: skip


def plot_truth_histogram(ax: Axes, truth: ArrayLike, limits: Sequence[float], n_bin: int = 24) -> None:
    """True values of the same galaxies, where they are known."""
    values = np.asarray(truth, dtype=np.float64).ravel()
    ax.hist(
        values[np.isfinite(values)], np.linspace(limits[0], limits[1], n_bin + 1).tolist(), density=True,
        histtype="step", color=TRUTH, lw=1.6, label="truth",
    )  # fmt: skip


def plot_joint(ax: Axes, found: PopulationPosterior, names: Sequence[str], n_point: int = 80) -> None:
    """Median joint density of two properties, with contours that hold 39, 68, 87 and 95 % of the population."""
    (x0, x1), (y0, y1) = found.meta["limits"]
    x, y = (np.linspace(a + 1e-6 * (b - a), b - 1e-6 * (b - a), n_point) for a, b in ((x0, x1), (y0, y1)))
    mesh = np.stack([c.ravel() for c in np.meshgrid(x, y, indexing="ij")], axis=1)
    density = np.median(found.evaluate(mesh, 200), axis=0).reshape(n_point, n_point)
    image = ax.pcolormesh(x, y, density.T, cmap="YlOrBr", shading="auto")
    ax.contour(x, y, density.T, levels=_levels(density, (0.95, 0.87, 0.68, 0.39)), colors=MODEL, linewidths=0.7)
    ax.figure.colorbar(image, ax=ax, label="median density")
    ax.set(xlabel=AXIS.get(names[0], names[0]), ylabel=AXIS.get(names[1], names[1]))


def plot_effective(ax: Axes, found: PopulationPosterior) -> None:
    """Effective draws per galaxy, with the limit below which reweighting is not to be trusted."""
    n = found.n_effective[np.isfinite(found.n_effective)]
    ax.hist(n, np.geomspace(1, max(float(n.max(initial=10.0)), 10.0), 30).tolist(), color=BAND_68)
    ax.axvline(FEW_DRAWS, color=MODEL, ls="--", lw=1)
    poor = float(np.mean(n < FEW_DRAWS)) if n.size else 0.0
    ax.set(xscale="log", xlabel="effective draws of a galaxy", ylabel="galaxies", title=f"{100 * poor:.1f} % below 5")


def density_figure(
    found: PopulationPosterior, draws: ArrayLike | None = None, truth: ArrayLike | None = None
) -> Figure:
    """The density of one or two properties beside the effective draws.

    Parameters
    ----------
    found
        As `infer_population` returns it.
    draws
        Draws of the galaxies, ``(m, d)``, for the stack (one property).
    truth
        ``(n, d)`` true values, where known.
    """
    names = list(found.meta["names"])
    figure = new_figure(8.0, 3.4)
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    if len(names) == 1:
        plot_density(left, found, names[0])
        if draws is not None:
            plot_stack(left, draws, found.meta["limits"][0])
        if truth is not None:
            plot_truth_histogram(left, truth, found.meta["limits"][0])
        left.legend()
    else:
        plot_joint(left, found, names)
        if truth is not None:
            t = np.asarray(truth, dtype=np.float64)
            left.plot(t[:, 0], t[:, 1], ".", ms=2, color=TRUTH, label="truth")
            left.set(xlim=found.meta["limits"][0], ylim=found.meta["limits"][1])
            left.legend()
    plot_effective(right, found)
    return figure


def _levels(density: FloatArray, shares: Sequence[float]) -> list[float]:
    """Densities above which the given shares of the population lie, ascending and different."""
    flat = np.sort(density.ravel())[::-1]
    total = np.cumsum(flat) / flat.sum()
    levels = sorted({float(flat[np.searchsorted(total, s)]) for s in shares})
    return levels or [float(flat[0])]
