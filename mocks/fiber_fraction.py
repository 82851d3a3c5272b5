"""How much of a simulated galaxy's light a DESI fiber takes.

Disks are exponential, bulges de Vaucouleurs. An inclined disk is replaced by the circular one of equal area.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from provabgs.core.arrays import FloatArray

FIBER_RADIUS_ARCSEC = 0.75
SEEING_FWHM_ARCSEC = 1.0
"""Seeing for which the Legacy Surveys quote FIBERFLUX."""
DISK_RE_PER_RADIUS = 1.678 / 3.0
"""Half-light radius of an exponential disk over three scale lengths."""
BULGE_RE_PER_HALF_MASS = 0.74
"""Projected half-light over three-dimensional half-mass radius of a de Vaucouleurs spheroid (Lima Neto et al. 1999)."""
MIN_RE_ARCSEC, MAX_RE_ARCSEC = 0.05, 15.0
"""Sizes are kept in this range: the semi-analytic model makes a few gas-poor disks of no or of absurd extent."""
_N_SHELL = 512
_QUANTILE = (np.arange(_N_SHELL) + 0.5) / _N_SHELL


def sersic_radii(index: float) -> FloatArray:
    """Radii, in half-light radii, that hold equal shares of a Sersic profile's light, ``(512,)``."""
    b = special.gammaincinv(2.0 * index, 0.5)
    return (special.gammaincinv(2.0 * index, _QUANTILE) / b) ** index


def circularised(half_light: float, cos_inclination: float, thickness: float = 0.2) -> float:
    """Half-light radius of the circle of equal area, same unit, for a disk of axis ratio max(cos i, thickness)."""
    return half_light * float(np.sqrt(max(cos_inclination, thickness)))


def aperture_fraction(
    half_light: float,
    index: float,
    radius: float = FIBER_RADIUS_ARCSEC,
    seeing_fwhm: float = SEEING_FWHM_ARCSEC,
) -> float:
    """Share of a circular Sersic profile's light inside a centred aperture, in Gaussian seeing.

    Light from radius r is spread by the seeing; the share of it that falls inside the aperture is the Rice
    distribution's cumulative function, a non-central chi-square with two degrees of freedom.

    Parameters
    ----------
    half_light, radius, seeing_fwhm
        Arcsec.
    index
        Sersic index.
    """
    sigma = seeing_fwhm / np.sqrt(8.0 * np.log(2.0))
    r = sersic_radii(index) * float(np.clip(half_light, MIN_RE_ARCSEC, MAX_RE_ARCSEC))
    return float(np.mean(special.chndtr((radius / sigma) ** 2, 2.0, (r / sigma) ** 2)))


def half_light_radius(disk_re: float, bulge_re: float, disk_share: float) -> float:
    """Radius, arcsec, inside which half the light of disk + bulge lies (no seeing), by bisection in ln r."""
    parts = [
        (share, max(re, MIN_RE_ARCSEC), index)
        for share, re, index in ((disk_share, disk_re, 1.0), (1.0 - disk_share, bulge_re, 4.0))
        if share > 0
    ]

    def inside(radius: float) -> float:
        total = 0.0
        for share, re, index in parts:
            b = special.gammaincinv(2.0 * index, 0.5)
            total += share * float(special.gammainc(2.0 * index, b * (radius / re) ** (1.0 / index)))
        return total

    low, high = np.log(1e-3), np.log(1e3)
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if inside(float(np.exp(middle))) < 0.5 else (low, middle)
    return float(np.exp(0.5 * (low + high)))
