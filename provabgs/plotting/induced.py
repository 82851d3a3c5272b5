"""Figures of priors: what the priors on parameters say of derived properties, and what a corrected prior says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from provabgs.core.arrays import FloatArray
from provabgs.plotting.population import AXIS
from provabgs.plotting.style import MODEL, PRIOR, TRUTH, new_figure


def plot_marginal(
    ax: Axes, values: FloatArray, name: str, weight: FloatArray | None = None, limits: Sequence[float] | None = None
) -> None:
    """Histogram of prior draws of one property (grey), and with weights (line); `limits` marks where it is flat."""
    finite = np.isfinite(values)
    low, high = np.quantile(values[finite], [0.0005, 0.9995])
    bins = np.linspace(low, high, 61).tolist()
    ax.hist(values[finite], bins, density=True, color=PRIOR, alpha=0.5, label="induced")
    if weight is not None:
        ax.hist(values[finite], bins, weights=weight[finite], density=True, histtype="step", color=MODEL, lw=1.3,
                label="corrected")  # fmt: skip
    if limits is not None:
        for edge in limits:
            ax.axvline(edge, color=TRUTH, ls=":", lw=1)
    ax.set(xlabel=AXIS.get(name, name), ylabel="density", xlim=(low, high))


def plot_pair(ax: Axes, x: FloatArray, y: FloatArray, names: Sequence[str], weight: FloatArray | None = None) -> None:
    """Joint prior of two properties on a logarithmic scale."""
    good = np.isfinite(x) & np.isfinite(y)
    ranges = [np.quantile(v[good], [0.001, 0.999]) for v in (x, y)]
    density, ex, ey = np.histogram2d(
        x[good], y[good], bins=60, range=ranges, weights=None if weight is None else weight[good], density=True
    )
    shown = np.log10(np.where(density > 0, density, np.nan))
    ax.pcolormesh(ex, ey, shown.T, cmap="Greys" if weight is None else "YlOrBr", vmin=np.nanmax(shown) - 3)
    ax.set(xlabel=AXIS.get(names[0], names[0]), ylabel=AXIS.get(names[1], names[1]))


def prior_figure(
    drawn: Mapping[str, FloatArray],
    names: Sequence[str],
    weight: FloatArray | None = None,
    limits: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Marginals of each property above, pairs below: before correction, and after where weights are given.

    Parameters
    ----------
    drawn
        ``(n,)`` prior draws per property.
    names
        Properties to show, two or more for the pairs.
    weight
        ``(n,)`` weights of the corrected prior.
    limits
        Ranges in which properties are made flat, in the unit of `drawn`.
    """
    n = len(names)
    pairs = [(names[i], names[j]) for i in range(n) for j in range(i + 1, n)]
    rows = 1 + (1 if weight is None else 2) * bool(pairs)
    figure = new_figure(3.1 * max(n, 2), 2.6 * rows)
    axes = figure.subplots(rows, max(n, len(pairs), 1), squeeze=False)
    for ax in axes.ravel():
        ax.set_visible(False)
    for ax, name in zip(axes[0], names, strict=False):
        ax.set_visible(True)
        plot_marginal(ax, drawn[name], name, weight, (limits or {}).get(name))
    axes[0, 0].legend()
    for row in range(1, rows):
        for ax, (a, b) in zip(axes[row], pairs, strict=False):
            ax.set_visible(True)
            plot_pair(ax, drawn[a], drawn[b], (a, b), None if row == 1 else weight)
            ax.set_title("induced" if row == 1 else "corrected", fontsize="small")
    return figure
