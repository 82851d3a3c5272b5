"""Figures of recovered against true properties: the counterparts of the mock challenge's figures.

Every function draws one thing on the Axes it is given and returns nothing; arrays in, no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from provabgs.inference.standard import label
from provabgs.population.accuracy_bins import BinAccuracy, PlaneAccuracy

MODE_STYLE: dict[str, tuple[str, str]] = {
    "both": ("C0", "spectrum + photometry"),
    "spectrum": ("C2", "spectrum"),
    "photometry": ("C1", "photometry"),
}
"""Colour and label of each set of data."""
LIMITS: dict[str, tuple[float, float]] = {
    "logmstar": (8.8, 12.3),
    "log_sfr_1gyr": (-4.0, 2.5),
    "log_z_mw": (-3.3, -1.2),
    "t_age_mw": (0.0, 13.0),
}
"""Axis ranges by property."""
DELTA_LIMITS: dict[str, float] = {"logmstar": 0.6, "log_sfr_1gyr": 2.0, "log_z_mw": 1.0, "t_age_mw": 5.0}
"""Half range of the difference axis by property."""


def plot_truth(ax: Axes, name: str, truth: ArrayLike, draws: ArrayLike, mode: str) -> None:
    """Posterior medians and 68 % intervals against truth, with the line of equality.

    Parameters
    ----------
    name
        Property, by which label and range are chosen.
    truth
        ``(n,)``; -inf (no stars formed) is drawn at the left edge.
    draws
        ``(n, nsample)`` posterior draws.
    mode
        Key of `MODE_STYLE`.
    """
    low, high = LIMITS[name]
    x = np.clip(np.asarray(truth, dtype=np.float64), low, high)
    q = np.nanquantile(np.asarray(draws, dtype=np.float64), [0.16, 0.5, 0.84], axis=1)
    colour, text = MODE_STYLE[mode]
    inside = (q[1] >= low) & (q[1] <= high)
    ax.errorbar(
        x[inside],
        q[1, inside],
        yerr=((q[1] - q[0])[inside], (q[2] - q[1])[inside]),
        fmt=".",
        ms=3,
        lw=0.6,
        color=colour,
        ecolor=colour,
        alpha=0.6 if len(x) < 200 else 0.25,
    )
    ax.plot([low, high], [low, high], "k--", lw=1)
    ax.set(xlim=(low, high), ylim=(low, high), xlabel=f"true {label(name)}", ylabel=f"inferred {label(name)}")
    ax.set_title(f"{text} (n = {len(x)})", fontsize="small")


def plot_delta(ax: Axes, truth: ArrayLike, draws: ArrayLike, mode: str) -> None:
    """Posterior medians minus truth, with 68 % intervals, against truth; parameters as of `plot_truth`."""
    x = np.asarray(truth, dtype=np.float64)
    known = np.isfinite(x)
    q = np.nanquantile(np.asarray(draws, dtype=np.float64)[known], [0.16, 0.5, 0.84], axis=1) - x[known]
    ax.errorbar(
        x[known], q[1], yerr=(q[1] - q[0], q[2] - q[1]), fmt=".", ms=3, lw=0.5, color=MODE_STYLE[mode][0],
        alpha=0.4 if len(x) < 200 else 0.12,
    )  # fmt: skip


def plot_accuracy(ax: Axes, name: str, bins: Sequence[BinAccuracy], mode: str, published: bool = True) -> None:
    """Bias mu (line) and mu +- sigma (band) against the true property; thin bars are 68 % intervals of mu.

    `published` adds the published band of spectrum + photometry as a grey hatch, where it was quoted.
    """
    colour, text = MODE_STYLE[mode]
    if bins:
        x = np.array([b.median_by for b in bins])
        peak = np.array([b.posterior.peak for b in bins])
        mu = np.array([b.posterior.quantile("mu", [0.16, 0.84]) for b in bins])
        ax.fill_between(x, peak[:, 0] - peak[:, 1], peak[:, 0] + peak[:, 1], color=colour, alpha=0.2, lw=0)
        ax.plot(x, peak[:, 0], "o-", ms=3, color=colour, label=text)
        ax.vlines(x, mu[:, 0], mu[:, 1], color=colour, lw=1.5)
    if published and name in PUBLISHED_SIGMA:
        sigma = PUBLISHED_SIGMA[name]
        ax.axhspan(-sigma, sigma, fill=False, hatch="///", ec="0.7", lw=0, label="published scatter")
    ax.axhline(0.0, color="k", ls="--", lw=1)
    ax.set(
        xlim=LIMITS[name],
        ylim=(-DELTA_LIMITS[name], DELTA_LIMITS[name]),
        xlabel=f"true {label(name)}",
        ylabel=rf"$\Delta$ {label(name)}",
    )


PUBLISHED_SIGMA: dict[str, float] = {"logmstar": 0.1, "log_sfr_1gyr": 0.1, "log_z_mw": 0.15, "t_age_mw": 0.5}
"""Scatter quoted by Hahn et al. (2023) for spectrum + photometry: dex, Gyr for the age."""


def plot_plane(ax: Axes, plane: PlaneAccuracy, what: str, limit: float) -> None:
    """Bias (``what = "mu"``) or scatter (``"sigma"``) over a plane, with a colour bar; empty cells stay white."""
    values = plane.mu if what == "mu" else plane.sigma
    low = -limit if what == "mu" else 0.0
    mesh = ax.pcolormesh(
        plane.x_edges, plane.y_edges, values.T, vmin=low, vmax=limit, cmap="RdBu_r" if what == "mu" else "viridis"
    )
    ax.figure.colorbar(mesh, ax=ax, label=rf"$\{what}$")


def plot_colours(
    ax: Axes, r_minus_z: ArrayLike, g_minus_r: ArrayLike, real: Mapping[str, Sequence[float]] | None
) -> None:
    """Mock galaxies in (r - z, g - r); `real` holds 16, 50 and 84 % quantiles under ``"r-z"`` and ``"g-r"``."""
    ax.plot(r_minus_z, g_minus_r, ".", ms=2, color="C0", alpha=0.5, label="mock")
    if real:
        x, y = np.asarray(real["r-z"]), np.asarray(real["g-r"])
        dx, dy = ([[v[1] - v[0]], [v[2] - v[1]]] for v in (x, y))
        ax.errorbar(x[1], y[1], yerr=dy, xerr=dx, fmt="s", color="k", capsize=3, label="BGS targets, 16-84 %")
    ax.set(xlabel="$r - z$", ylabel="$g - r$", xlim=(-0.1, 1.5), ylim=(-0.1, 2.3))
    ax.legend(fontsize="x-small")


def plot_snr(ax: Axes, fiber_mag: ArrayLike, snr: Mapping[str, ArrayLike]) -> None:
    """Median S/N per 0.8 A pixel against r-band fiber magnitude, per camera."""
    for camera, colour in zip(snr, ("C0", "C2", "C3"), strict=False):
        ax.semilogy(fiber_mag, snr[camera], ".", ms=2, color=colour, label=camera)
    ax.set(xlabel="$r_{fiber}$", ylabel="median S/N per 0.8 Å pixel")
    ax.legend(fontsize="x-small")


def plot_histogram(ax: Axes, samples: Mapping[str, ArrayLike], bins: Sequence[float], xlabel: str) -> None:
    """Normalised histograms of several samples, in outline."""
    for name, values in samples.items():
        v = np.asarray(values, dtype=np.float64)
        ax.hist(v[np.isfinite(v)], bins=bins, density=True, histtype="step", label=f"{name} (n = {v.size})")
    ax.set(xlabel=xlabel, ylabel="density")
    ax.legend(fontsize="x-small")


def grid_figure(n_rows: int, n_columns: int, size: float = 3.2) -> tuple[Figure, NDArray[np.object_]]:
    """A figure without a window, and its Axes ``(n_rows, n_columns)``."""
    figure = Figure(figsize=(size * n_columns, size * 0.9 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    return figure, axes
