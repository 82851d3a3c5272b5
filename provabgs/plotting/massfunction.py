"""Figures of mass functions, visible volumes, the star-forming sequence and coverage.

Every function draws one thing on the Axes it is given and returns nothing; results in, no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.plotting.style import BAND_68, BAND_95, MODEL, TRUTH
from provabgs.population.survey.mass_function import MassFunction, Schechter
from provabgs.population.survey.star_forming_sequence import SequencePosterior

STACKED = "#3a78b5"
_MASS_LABEL = r"$\log_{10} M_\ast/M_\odot$"
_PHI_LABEL = r"$\Phi$ [Mpc$^{-3}$ dex$^{-1}$]"


def plot_mass_function(
    ax: Axes,
    result: MassFunction,
    label: str | None = None,
    colour: str = MODEL,
    band: bool = True,
    complete_above: float | None = None,
) -> None:
    """Binned mass function with 68 % bars; for a deconvolved one also the density behind it, with 68 and 95 % bands.

    Parameters
    ----------
    result
        Bins that rest on few galaxies are drawn open.
    band
        Draw the density.
    complete_above
        Masses below are shaded: some spectral types are invisible there.
    """
    if band and result.spline is not None:
        x = np.linspace(result.edges[0], result.edges[-1], 200)
        ln_phi, sigma = result.spline.log_density(x), result.spline.log_sigma(x)
        for width, shade in ((1.96, BAND_95), (1.0, BAND_68)):
            ax.fill_between(x, np.exp(ln_phi - width * sigma), np.exp(ln_phi + width * sigma), color=shade, lw=0)
    low, high = result.interval(0.68)
    for chosen, fill in ((~result.few, colour), (result.few & np.isfinite(result.phi), "white")):
        if chosen.any():
            ax.errorbar(
                result.centre[chosen],
                result.phi[chosen],
                yerr=((result.phi - low)[chosen], (high - result.phi)[chosen]),
                fmt="o",
                ms=4,
                mfc=fill,
                color=colour,
                lw=1,
                capsize=2,
                label=label if fill == colour else None,
            )
    if complete_above is not None:
        ax.axvspan(result.edges[0], max(complete_above, result.edges[0]), color="0.92", lw=0, zorder=-5)
    ax.set(yscale="log", xlabel=_MASS_LABEL, ylabel=_PHI_LABEL, xlim=(result.edges[0], result.edges[-1]))
    top, bottom = np.nanmax(result.phi), np.nanmin(result.phi)
    ax.set_ylim(0.2 * bottom, 4 * top)


def plot_schechter(ax: Axes, function: Schechter, colour: str = TRUTH, label: str | None = None) -> None:
    """A Schechter function over the range of the axes."""
    x = np.linspace(*ax.get_xlim(), 300)
    ax.plot(x, function(x), color=colour, lw=1.2, ls="--", label=label or function.label, zorder=5)


def plot_tracks(
    ax: Axes, redshift: ArrayLike, magnitude: ArrayLike, faint: float, observed: tuple[float, float]
) -> None:
    """Magnitudes of draws of one galaxy against redshift, the limit, and where the galaxy was observed.

    Parameters
    ----------
    magnitude
        ``(ndraw, nz)``.
    observed
        Redshift and magnitude.
    """
    z = np.asarray(redshift, dtype=np.float64)
    ax.plot(z, np.asarray(magnitude).T, color=BAND_68, lw=0.6, alpha=0.6)
    ax.axhline(faint, color=MODEL, lw=1, ls="--")
    ax.plot(*observed, "o", color=TRUTH, ms=6, zorder=5)
    ax.set(xlabel="redshift", ylabel="r [mag]", xlim=(z[0], z[-1]))
    ax.invert_yaxis()


def plot_sequence(
    ax: Axes,
    log_mass: ArrayLike,
    log_sfr: ArrayLike,
    posterior: SequencePosterior,
    truth: tuple[float, float] | None = None,
) -> None:
    """Posterior medians of the galaxies, the ridge line with its 68 % band, and the intrinsic scatter about it.

    Parameters
    ----------
    log_mass, log_sfr
        ``(n, ndraw)``.
    truth
        True slope, and intercept at the pivot.
    """
    mx, my = np.nanmedian(np.asarray(log_mass), axis=1), np.nanmedian(np.asarray(log_sfr), axis=1)
    ax.plot(mx, my, ".", ms=2, color="0.6", zorder=0)
    low, high = np.quantile(mx, [0.005, 0.995])
    x = np.linspace(low, high, 60)
    ridge, scatter = posterior.ridge(x), float(np.median(posterior["scatter"]))
    middle = np.median(ridge, axis=0)
    ax.fill_between(x, middle - scatter, middle + scatter, color=BAND_95, lw=0, alpha=0.8, label="intrinsic scatter")
    ax.fill_between(x, *np.quantile(ridge, [0.16, 0.84], axis=0), color=BAND_68, lw=0)
    ax.plot(x, middle, color=MODEL, lw=1.2, label="ridge")
    if truth is not None:
        ax.plot(x, truth[1] + truth[0] * (x - posterior.pivot), color=TRUTH, lw=1.2, ls="--", label="true ridge")
    ax.set(xlabel=_MASS_LABEL, ylabel=r"$\log_{10}$ SFR$_{1\,{\rm Gyr}}$ [$M_\odot$/yr]")
    ax.set_ylim(max(float(my.min()), float(middle.min()) - 4) - 0.3, float(my.max()) + 0.3)


def plot_coverage(
    ax: Axes, labels: Sequence[str], rows: Mapping[str, tuple[FloatArray, FloatArray]], level: float
) -> None:
    """Share of surveys whose interval holds the truth, per bin or parameter, against the nominal level.

    Parameters
    ----------
    labels
        Names along the axis.
    rows
        By estimator: share and its standard error, each of the length of `labels`.
    level
        Nominal, 0 to 1.
    """
    x = np.arange(len(labels))
    for i, (name, (share, error)) in enumerate(rows.items()):
        ax.errorbar(x + 0.12 * (i - (len(rows) - 1) / 2), share, yerr=error, fmt="o", ms=3.5, lw=1, label=name)
    ax.axhline(level, color=MODEL, lw=1, ls="--", zorder=0)
    ax.set_xticks(x, labels, rotation=60 if len(labels) > 8 else 0)
    ax.tick_params(axis="x", which="minor", bottom=False, top=False)
    ax.set(ylim=(-0.03, 1.03), ylabel=f"surveys within their {100 * level:.0f} % interval")
