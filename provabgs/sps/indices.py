"""Spectral indices: the 4000 A break, and absorption lines in Lick's sense, of a spectrum or of many at once.

Dn4000 is the narrow break of Balogh et al. (1999, ApJ 527, 54): the mean f_nu of 4000-4100 A over that of 3850-3950 A.
HdA is that of Worthey & Ottaviani (1997, ApJS 111, 377), Mg b that of Trager et al. (1998, ApJS 116, 1): the equivalent
width below a straight line through the means of two side bands. Windows are published in air and converted to vacuum.
Nothing is broadened to Lick's resolution: an index is that of the spectrum as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import BoolArray, FloatArray
from provabgs.sps.sources.air import air_to_vacuum

COVERED = 0.9
"""Fraction of each window that must hold usable pixels."""
Window = tuple[float, float]


@dataclass(frozen=True)
class Index:
    """One index: two windows of a break, or the feature between two side bands; vacuum Angstrom."""

    name: str
    blue: Window
    red: Window
    feature: Window | None = None


def _vacuum(low: float, high: float) -> Window:
    blue, red = air_to_vacuum(np.array([low, high])).tolist()
    return blue, red


DN4000 = Index("dn4000", _vacuum(3850.0, 3950.0), _vacuum(4000.0, 4100.0))
HDELTA_A = Index("hdelta_a", _vacuum(4041.60, 4081.50), _vacuum(4128.50, 4161.00), _vacuum(4083.50, 4122.25))
MGB = Index("mgb", _vacuum(5117.700, 5142.700), _vacuum(5191.375, 5206.375), _vacuum(5160.125, 5192.625))
INDICES: tuple[Index, ...] = (DN4000, HDELTA_A, MGB)


class Measurement(NamedTuple):
    """Values ``(...)`` of an index and their errors from the pixels alone; NaN where pixels do not cover it."""

    value: FloatArray
    error: FloatArray


def measure_index(index: Index, wave: FloatArray, flux: FloatArray, ivar: FloatArray | None = None) -> Measurement:
    """One index of spectra.

    Parameters
    ----------
    index
        Which.
    wave
        ``(npix,)`` rest-frame vacuum wavelength, Angstrom, not decreasing; overlapping cameras may be merged.
    flux
        ``(..., npix)`` flux density per Angstrom.
    ivar
        ``(npix,)`` inverse variance of a pixel, 0 where it is unusable; None for spectra without noise.

    Returns
    -------
    Measurement
        Break: dimensionless. Lines: equivalent width, Angstrom, positive in absorption.
    """
    good = np.ones(wave.size, bool) if ivar is None else ivar > 0
    variance = np.zeros(wave.size) if ivar is None else 1 / np.where(good, ivar, np.inf)
    windows = [index.blue, index.red] + ([] if index.feature is None else [index.feature])
    weights = [_mean_weights(wave, good, w) for w in windows]
    shape = flux.shape[:-1]
    if any(w is None for w in weights):
        return Measurement(np.full(shape, np.nan), np.full(shape, np.nan))
    blue, red, *rest = (w for w in weights if w is not None)
    if not rest:
        return _break(wave, flux, variance, blue, red)
    assert index.feature is not None
    return _line(index, wave, flux, variance, blue, red, rest[0])


def _break(wave: FloatArray, flux: FloatArray, variance: FloatArray, blue: FloatArray, red: FloatArray) -> Measurement:
    """Mean f_nu of the red window over that of the blue one."""
    blue, red = blue * wave**2, red * wave**2
    low, high = flux @ blue, flux @ red
    with np.errstate(divide="ignore", invalid="ignore"):
        value = high / low
        gradient = red / low[..., None] - value[..., None] * blue / low[..., None]
    return Measurement(value, np.sqrt(gradient**2 @ variance))


def _line(
    index: Index,
    wave: FloatArray,
    flux: FloatArray,
    variance: FloatArray,
    blue: FloatArray,
    red: FloatArray,
    feature: FloatArray,
) -> Measurement:
    """Equivalent width below the line through the side bands' means, at their middles."""
    assert index.feature is not None
    width = index.feature[1] - index.feature[0]
    middle = np.mean(index.blue), np.mean(index.red)
    x = (wave - middle[0]) / (middle[1] - middle[0])
    low, high = (flux @ blue)[..., None], (flux @ red)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        continuum = low * (1 - x) + high * x
        inside = np.where(feature > 0, feature / continuum, 0.0)
        value = width * (1 - np.sum(inside * flux, axis=-1))
        # continuum and feature move with every pixel of their windows
        pull = np.where(feature > 0, inside * flux / continuum, 0.0)
        toward = np.sum(pull * (1 - x), axis=-1)[..., None] * blue + np.sum(pull * x, axis=-1)[..., None] * red
    return Measurement(value, width * np.sqrt((toward - inside) ** 2 @ variance))


def _mean_weights(wave: FloatArray, good: BoolArray, window: Window) -> FloatArray | None:
    """Weights ``(npix,)`` of the mean over a window; None where usable pixels do not cover it."""
    inner = 0.5 * (wave[1:] + wave[:-1])
    edges = np.concatenate([[2 * wave[0] - inner[0]], inner, [2 * wave[-1] - inner[-1]]])
    overlap = np.clip(np.minimum(edges[1:], window[1]) - np.maximum(edges[:-1], window[0]), 0.0, None) * good
    total = overlap.sum()
    return overlap / total if total >= COVERED * (window[1] - window[0]) else None
