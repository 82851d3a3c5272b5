"""Star-formation and metallicity histories."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import SOLAR_Z_PROVABGS
from provabgs.inference.predictive import bands_of
from provabgs.plotting.style import BAND_68, BAND_95, MODEL, PRIOR


def plot_sfh(ax: Axes, time: FloatArray, sfr: FloatArray) -> None:
    """Star-formation rate over lookback time: median, 68 and 95 % bands.

    Parameters
    ----------
    time
        ``(n,)`` lookback time from the galaxy, Gyr.
    sfr
        ``(ndraw, n)`` Msun/yr; bursts are drawn 0.2 Gyr wide.
    """
    low95, *_, high95 = _bands(ax, time, sfr)
    ax.set_yscale("log")
    top = float(np.max(high95))
    bottom = float(np.min(low95[low95 > 0])) if np.any(low95 > 0) else 1e-3 * top
    ax.set_ylim(max(bottom / 2, 1e-4 * top, 1e-5), 3 * top)
    ax.set_ylabel(r"SFR [$M_\odot$ yr$^{-1}$]")


def plot_zh(ax: Axes, time: FloatArray, zh: FloatArray) -> None:
    """Metallicity of the stars formed over lookback time: median, 68 and 95 % bands; `zh` is ``(ndraw, n)``."""
    _bands(ax, time, zh)
    ax.set_yscale("log")
    ax.axhline(SOLAR_Z_PROVABGS, ls=":", lw=0.8, color=PRIOR)
    ax.annotate("solar", (0.98, SOLAR_Z_PROVABGS), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                color=PRIOR, fontsize=8)  # fmt: skip
    ax.set_ylim(4e-5, 6e-2)
    ax.set_ylabel(r"$Z$ (solar = 0.0190)")


def _bands(ax: Axes, time: FloatArray, draws: FloatArray) -> tuple[FloatArray, ...]:
    bands = bands_of(draws)
    low95, low68, median, high68, high95 = bands
    ax.fill_between(time, low95, high95, color=BAND_95, lw=0, label="95 %")
    ax.fill_between(time, low68, high68, color=BAND_68, lw=0, label="68 %")
    ax.plot(time, median, lw=1.0, color=MODEL, label="median")
    ax.set_xlim(0, time[-1])
    ax.set_xlabel("lookback time from the galaxy [Gyr]")
    return bands
