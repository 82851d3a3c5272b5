"""Spectrum against model, and what is left over."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.inference.predictive import SpectrumPrediction, bands_of
from provabgs.plotting.style import BAND_68, BAND_95, CLIPPED, MASK, MODEL, camera_colour

BIN = 8
"""Pixels averaged in the line drawn over the single ones."""


def plot_spectrum(ax: Axes, data: SpectrumPrediction) -> None:
    """Pixels by camera, their average over `BIN` pixels, and the model with 68 and 95 % bands; masks and outliers."""
    shade_masks(ax, data)
    for camera, part in _cameras(data):
        colour = camera_colour(camera)
        ax.plot(data.wave[part], data.flux[part], lw=0.3, color=colour, alpha=0.35, rasterized=True, zorder=1)
        wave, mean, _ = binned(data.wave[part], data.flux[part], data.sigma[part])
        ax.plot(wave, mean, lw=0.9, color=colour, label=f"camera {camera}", zorder=2)
        low95, low68, median, high68, high95 = bands_of(data.model[:, part])
        ax.fill_between(data.wave[part], low95, high95, color=BAND_95, lw=0, zorder=3)
        ax.fill_between(data.wave[part], low68, high68, color=BAND_68, lw=0, zorder=4)
        ax.plot(data.wave[part], median, lw=0.6, color=MODEL, zorder=5)
    _scale(ax, data)
    ax.set_ylabel(r"$f_\lambda$ [$10^{-17}$ erg s$^{-1}$ cm$^{-2}$ $\mathrm{\AA}^{-1}$]")
    handles, _ = ax.get_legend_handles_labels()
    outliers = mark_outliers(ax, data, data.flux)
    model = [Patch(color=BAND_68, label="model, 68 %"), Patch(color=BAND_95, label="model, 95 %")]
    mask = [Patch(color=MASK, label="not fitted")] if data.masked.any() else []
    ax.legend(
        handles=[*handles, *model, *mask, *outliers],
        ncols=7,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        borderaxespad=0.2,
        columnspacing=1.2,
        handlelength=1.4,
    )


def plot_residuals(ax: Axes, data: SpectrumPrediction, limit: float = 5.0) -> None:
    """(data - median model) / sigma of the pixels fitted, and the mean over `BIN` pixels in its own sigma."""
    shade_masks(ax, data)
    residual = data.flux - np.median(data.model, axis=0)
    for camera, part in _cameras(data):
        colour = camera_colour(camera)
        ax.plot(data.wave[part], (residual / data.sigma)[part], ".", ms=0.8, color=colour, alpha=0.4, rasterized=True)
        wave, mean, sigma = binned(data.wave[part], residual[part], data.sigma[part])
        ax.plot(wave, mean / sigma, lw=0.8, color=colour)
    ax.axhline(0, lw=0.6, color=MODEL)
    ax.set_ylim(-limit, limit)
    mark_outliers(ax, data, residual / data.sigma)
    ax.set_xlim(data.wave.min(), data.wave.max())
    ax.set_xlabel(r"observed wavelength, vacuum [$\mathrm{\AA}$]")
    ax.set_ylabel(r"residual / $\sigma$")


def mark_outliers(ax: Axes, data: SpectrumPrediction, value: FloatArray) -> list[Line2D]:
    """Mark pixels that the fit left out as outliers, at the axes' edge where they lie beyond it.

    Parameters
    ----------
    data
        Pixels.
    value
        ``(npix,)`` what the axes show of them.

    Returns
    -------
    list
        Handles for a legend; none without outliers.
    """
    if not data.clipped.any():
        return []
    inside = np.clip(value[data.clipped], *ax.get_ylim())
    n = int(data.clipped.sum())
    return ax.plot(
        data.wave[data.clipped], inside, "x", ms=4, mew=0.8, color=CLIPPED, zorder=6, clip_on=False,
        label=f"{n} outliers, not fitted",
    )  # fmt: skip


def shade_masks(ax: Axes, data: SpectrumPrediction) -> None:
    """Shade the wavelengths that the fit left out."""
    order = np.argsort(data.wave)
    masked, wave = data.masked[order], data.wave[order]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], masked.astype(int), [0]])))
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        ax.axvspan(wave[first], wave[end - 1], color=MASK, lw=0, zorder=0)


def binned(wave: FloatArray, flux: FloatArray, sigma: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Inverse-variance mean over groups of `BIN` pixels, with its sigma; the remainder is left out."""
    n = len(wave) // BIN
    w = (1 / sigma[: n * BIN] ** 2).reshape(n, BIN)
    total = w.sum(axis=1)
    mean = (w * flux[: n * BIN].reshape(n, BIN)).sum(axis=1) / total
    return wave[: n * BIN].reshape(n, BIN).mean(axis=1), mean, 1 / np.sqrt(total)


def _cameras(data: SpectrumPrediction) -> list[tuple[str, NDArray[np.bool_]]]:
    names = dict.fromkeys(data.camera.tolist())
    return [(name, data.camera == name) for name in names]


def _scale(ax: Axes, data: SpectrumPrediction) -> None:
    """Limits that follow the continuum, not the noisiest pixel or the brightest line."""
    median = np.median(data.model, axis=0)
    typical = np.median(data.sigma)
    low, high = np.quantile(data.flux, [0.005, 0.995])
    top = max(float(median.max()) * 1.25, min(float(high), 2.0 * float(median.max()))) + typical
    ax.set_ylim(min(0.0, max(float(low), -2 * typical)), top * 1.12)
    ax.set_xlim(data.wave.min(), data.wave.max())
