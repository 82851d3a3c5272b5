"""Absolute magnitudes and luminosities: bands of a spectrum in its rest frame, band-shifted where asked for.

The magnitude in a band shifted to redshift s is that of the galaxy at 10 pc through the band's curve with its
wavelengths divided by (1 + s); AB (Blanton & Roweis 2007, AJ 133, 734; Hogg et al. 2002, astro-ph/0210394). So a galaxy
at redshift s has an observed magnitude of M + distance modulus - 2.5 log10(1 + s) in it, whatever its spectrum.
"""

from __future__ import annotations

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import MPC_CM, SPECTRUM_UNIT
from provabgs.observe.filters import MISSING_TOLERANCE, band_weights, missing_fraction

TEN_PARSEC_AREA = 4 * np.pi * (1e-5 * MPC_CM) ** 2
"""Area of a sphere of 10 pc, cm2."""
ZERO_POINT = 22.5
"""AB magnitude of one nanomaggy."""
SOLAR_MAGNITUDES: dict[str, float] = {"sdss2010-g": 5.11, "sdss2010-r": 4.65, "sdss2010-i": 4.53}
"""Absolute AB magnitudes of the Sun (Willmer 2018, ApJS 236, 47, table 3; the apparent ones there, -26.47, -26.93 and
-27.05 mag, are 31.57 mag brighter)."""


def absolute_weights(name: str, wave: FloatArray, lsun_cgs: float, shift: float = 0.0) -> FloatArray | None:
    """Weights that turn a luminosity density into the flux in one band at 10 pc.

    Parameters
    ----------
    name
        Filter.
    wave
        ``(nwave,)`` rest-frame wavelengths of the model, Angstrom.
    lsun_cgs
        Luminosity of the Sun in the model's spectra, erg/s.
    shift
        Redshift to which the band is shifted.

    Returns
    -------
    numpy.ndarray or None
        ``(nwave,)``, such that ``weights @ L`` is in nanomaggies for L in Lsun/Angstrom; None where the model does not
        reach the band (`uncovered` says by how much).
    """
    shifted = wave * (1 + shift)
    if uncovered(name, wave, shift) > MISSING_TOLERANCE:
        return None
    per_luminosity = lsun_cgs / TEN_PARSEC_AREA / SPECTRUM_UNIT / (1 + shift) ** 2
    return band_weights(name, shifted) * per_luminosity


def uncovered(name: str, wave: FloatArray, shift: float = 0.0) -> float:
    """Fraction of a band's response beyond the model.

    Parameters
    ----------
    name
        Filter.
    wave
        ``(nwave,)`` rest-frame wavelengths of the model, Angstrom.
    shift
        Redshift to which the band is shifted.

    Returns
    -------
    float
        Between 0 and 1.
    """
    return missing_fraction(name, float(wave[0]) * (1 + shift), float(wave[-1]) * (1 + shift))


def magnitude(nanomaggies: FloatArray) -> FloatArray:
    """AB magnitude of fluxes in nanomaggies; NaN where a flux is not positive."""
    positive = np.where(nanomaggies > 0, nanomaggies, np.nan)
    return np.asarray(ZERO_POINT - 2.5 * np.log10(positive))


def distance_modulus(luminosity_distance_cm: float) -> float:
    """Magnitudes between 10 pc and a luminosity distance in cm."""
    return float(5 * np.log10(luminosity_distance_cm / MPC_CM) + 25)


def log_nu_luminosity(wave: FloatArray, luminosity: FloatArray, at_aa: float, width_aa: float = 100.0) -> FloatArray:
    """log10 of lambda L_lambda (equal to nu L_nu), the mean over a window.

    Parameters
    ----------
    wave
        ``(nwave,)`` rest-frame wavelengths, Angstrom.
    luminosity
        ``(n, nwave)`` Lsun/Angstrom.
    at_aa, width_aa
        Middle and width of the window, Angstrom.

    Returns
    -------
    numpy.ndarray
        ``(n,)`` log10(L/Lsun); NaN where the model does not reach the window.
    """
    low, high = at_aa - width_aa / 2, at_aa + width_aa / 2
    if low < wave[0] or high > wave[-1]:
        return np.full(len(luminosity), np.nan)
    grid = np.union1d(wave[(wave > low) & (wave < high)], [low, high])
    inside = np.array([np.interp(grid, wave, row) for row in luminosity])
    mean = np.trapezoid(inside, grid, axis=1) / width_aa
    return np.asarray(np.log10(np.where(mean > 0, at_aa * mean, np.nan)))
