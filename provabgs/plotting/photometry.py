"""Photometry against the model."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, NullFormatter, NullLocator, StrMethodFormatter

from provabgs.core.arrays import FloatArray
from provabgs.inference.predictive import PhotometryPrediction, bands_of
from provabgs.observe.filters import load_filter, short_name
from provabgs.plotting.style import BAND_68, BAND_95, MODEL

POINT = "#1f4e79"
TICKS = (2000, 3000, 5000, 10_000, 20_000, 50_000)


def plot_photometry(ax: Axes, data: PhotometryPrediction, sed_wave: FloatArray, sed: FloatArray) -> None:
    """Measured bands with errors (noise floors included), the model's bands, and its spectrum with 68 and 95 % bands.

    Parameters
    ----------
    data
        Bands.
    sed_wave, sed
        ``(nwave,)`` observed Angstrom and ``(ndraw, nwave)`` nanomaggies of the whole galaxy.
    """
    low, high = (0.8 * _edges(data.bands)[0], 1.2 * _edges(data.bands)[1])
    seen = (sed_wave > low) & (sed_wave < high)
    low95, low68, median, high68, high95 = bands_of(sed[:, seen])
    ax.fill_between(sed_wave[seen], low95, high95, color=BAND_95, lw=0, label="model, 95 %")
    ax.fill_between(sed_wave[seen], low68, high68, color=BAND_68, lw=0, label="model, 68 %")
    ax.plot(sed_wave[seen], median, lw=0.5, color=MODEL)
    b95, b68, middle, t68, t95 = bands_of(data.model)
    ax.vlines(data.wave, b95, t95, color=MODEL, lw=1.0, zorder=4)
    ax.vlines(data.wave, b68, t68, color=MODEL, lw=3.0, zorder=4)
    ax.plot(data.wave, middle, "s", ms=7, mfc="none", mec=MODEL, label="model in the band", zorder=4)
    ax.errorbar(data.wave, data.flux, data.sigma, fmt="o", ms=4, color=POINT, capsize=2, label="measured", zorder=5)
    for band, wave in zip(data.bands, data.wave, strict=True):
        ax.text(
            wave, 0.03, short_name(band), transform=ax.get_xaxis_transform(), ha="center", color=POINT, weight="bold"
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(low, high)
    ax.xaxis.set_major_locator(FixedLocator([t for t in TICKS if low < t < high]))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{t / 1e4:g}" for t in TICKS if low < t < high]))
    ax.xaxis.set_minor_locator(NullLocator())
    positive = np.concatenate([middle, data.flux[data.flux > 0], np.quantile(median, [0.02, 0.98])])
    ax.set_ylim(0.4 * positive.min(), 3.0 * positive.max())
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(r"observed wavelength [$\mu$m]")
    ax.set_ylabel("flux, corrected for Galactic dust [nmgy]")
    ax.legend(loc="upper left", ncols=2)


def plot_band_residuals(ax: Axes, data: PhotometryPrediction) -> None:
    """(data - model) / sigma per band, with the spread of the model's draws."""
    pulls = (data.flux - data.model) / data.sigma
    low95, low68, median, high68, high95 = bands_of(pulls)
    x = np.arange(len(data.bands))
    ax.axhline(0, lw=0.6, color=MODEL)
    ax.axhspan(-1, 1, color="0.93", lw=0, zorder=0)
    ax.vlines(x, low95, high95, color=BAND_95, lw=7)
    ax.vlines(x, low68, high68, color=BAND_68, lw=7)
    ax.plot(x, median, "o", ms=4, color=POINT)
    ax.set_xticks(x, [short_name(b) for b in data.bands])
    ax.tick_params(axis="x", which="minor", bottom=False, top=False)
    ax.set_xlim(-0.6, len(x) - 0.4)
    limit = max(3.0, 1.15 * float(np.abs([low95, high95]).max()))
    ax.set_ylim(-limit, limit)
    ax.set_ylabel(r"residual / $\sigma$")


def _edges(bands: tuple[str, ...]) -> tuple[float, float]:
    """Shortest and longest wavelength that any of the bands sees, Angstrom."""
    curves = [load_filter(b) for b in bands]
    inside = [c.wave[c.response > 0.02 * c.response.max()] for c in curves]
    return min(float(w[0]) for w in inside), max(float(w[-1]) for w in inside)
