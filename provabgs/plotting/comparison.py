"""Figures of two catalogs against one another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from provabgs.catalog.offsets import Comparison
from provabgs.core.arrays import FloatArray
from provabgs.plotting.style import BAND_68, MODEL, PRIOR, new_figure, save, style

N_BINS = 8
SHOWN = 0.995
"""Share of the points that an axis shows."""


def plot_offsets(ax: Axes, x: FloatArray, offset: FloatArray, label: str) -> None:
    """Offsets of galaxies, with median and 16-84 % range in bins of equal numbers.

    Parameters
    ----------
    ax
        Where to draw.
    x, offset
        ``(n,)``.
    label
        Of x.
    """
    known = np.isfinite(x) & np.isfinite(offset)
    x, offset = x[known], offset[known]
    ax.plot(x, offset, ".", ms=2, color=PRIOR, alpha=0.5, rasterized=True)
    ax.axhline(0, color=PRIOR, lw=0.7)
    if x.size >= 2 * N_BINS:
        edges = np.quantile(x, np.linspace(0, 1, N_BINS + 1))
        place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, N_BINS - 1)
        parts = [place == k for k in range(N_BINS) if np.any(place == k)]
        middle = [float(np.median(x[p])) for p in parts]
        low, median, high = np.array([np.quantile(offset[p], [0.16, 0.5, 0.84]) for p in parts]).T
        ax.fill_between(middle, low, high, color=BAND_68, alpha=0.6, lw=0)
        ax.plot(middle, median, "o-", ms=3, lw=1, color=MODEL)
    if x.size:
        ends = np.quantile(offset, [(1 - SHOWN) / 2, (1 + SHOWN) / 2])
        margin = 0.1 * max(float(np.ptp(ends)), 0.05)
        ax.set_ylim(float(ends[0]) - margin, float(ends[1]) + margin)
    ax.set_xlabel(label)


def comparison_figure(found: list[Comparison], other: str, path: Path) -> Path:
    """A row of panels for each quantity: ours minus theirs against mass, colour and redshift.

    Parameters
    ----------
    found
        From `provabgs.catalog.offsets.compare`.
    other
        Name of the other catalog.
    path
        Figure to write.

    Returns
    -------
    pathlib.Path
        `path`.
    """
    columns = max(len(c.against) for c in found)
    with style():
        figure = new_figure(3.2 * columns, 2.5 * len(found))
        axes = figure.subplots(len(found), columns, squeeze=False)
        for row, c in zip(axes, found, strict=True):
            for ax, (name, x) in zip(row, c.against.items(), strict=False):
                plot_offsets(ax, x, c.offset, name)
            for ax in row[len(c.against) :]:
                ax.set_axis_off()
            row[0].set_ylabel(f"{c.quantity}\nours - {other}")
            median = float(np.median(c.offset)) if c.offset.size else float("nan")
            row[0].set_title(f"{c.offset.size} galaxies, median {median:+.3f}", loc="left")
        return save(figure, path)
