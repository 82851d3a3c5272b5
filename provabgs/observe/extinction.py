"""Galactic (Milky Way) dust: what it takes from spectra and bands, through `desiutil.dust`.

E(B-V) is always that of the Schlegel, Finkbeiner & Davis (1998, SFD) map as DESI files quote it. desiutil applies the
Fitzpatrick (1999) curve, R_V = 3.1, normalised at 1 um to A = 1.029 E(B-V)_SFD (Schlafly & Finkbeiner 2011, who find
that SFD's E(B-V) must be multiplied by 0.86). Do not rescale E(B-V) before handing it over.
"""

from __future__ import annotations

import numpy as np
from desiutil.dust import dust_transmission
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.observe.filters import load_filter

EBV_MAX = 10.0
"""Magnitudes. Through more dust than this one part in 1e13 of the g band arrives; no galaxy is seen there."""


def check_ebv(ebv: float) -> float:
    """`ebv` as a float; `InputError` unless it is in 0..`EBV_MAX`."""
    value = float(ebv)
    if not 0 <= value <= EBV_MAX:
        raise InputError(f"EBV {value:g} is not usable; give an SFD E(B-V) from 0 to {EBV_MAX:g} (magnitudes)")
    return value


def spectrum_transmission(wave: ArrayLike, ebv: float) -> FloatArray:
    """Galactic transmission (0-1) at observed vacuum wavelengths.

    Parameters
    ----------
    wave
        ``(npix,)`` Angstrom.
    ebv
        SFD E(B-V), magnitudes.

    Returns
    -------
    transmission
        ``(npix,)``.
    """
    lam = np.atleast_1d(np.asarray(wave, dtype=np.float64))
    return np.asarray(dust_transmission(lam, check_ebv(ebv)), dtype=np.float64)


def band_transmission(name: str, ebv: float, coefficient: float | None = None) -> float:
    """Galactic transmission (0-1) in one band.

    Without a coefficient, the transmission is averaged over the filter curve for a spectrum flat in f_nu, ``int T R /
    lam dlam / int R / lam dlam``, which for the Legacy Surveys' g, r, z comes within 1 % in A of the tabulated
    coefficients; the curve at the effective wavelength alone would miss the 2175 A bump inside GALEX NUV. Surveys
    with tabulated coefficients hold them in their `provabgs.surveys.PhotometricSystem`, whose ``transmission`` calls
    this function.

    Parameters
    ----------
    name
        Filter, see `provabgs.observe.filters`.
    ebv
        SFD E(B-V), magnitudes.
    coefficient
        A(band)/E(B-V)_SFD; the transmission is then ``10^(-0.4 coefficient ebv)``.

    Returns
    -------
    float
        Fraction of the flux that arrives.

    Raises
    ------
    InputError
        For an unusable `ebv` or an unknown filter.
    """
    value = check_ebv(ebv)
    if coefficient is not None:
        return float(10 ** (-(coefficient * value) / 2.5))
    curve = load_filter(name)
    weight = curve.response / curve.wave
    mean = np.trapezoid(weight * spectrum_transmission(curve.wave, value), curve.wave)
    return float(mean / np.trapezoid(weight, curve.wave))


def deredden_spectrum(wave: ArrayLike, flux: ArrayLike, ivar: ArrayLike, ebv: float) -> tuple[FloatArray, FloatArray]:
    """Correct a spectrum for Galactic dust.

    Parameters
    ----------
    wave
        ``(npix,)`` observed vacuum wavelength, Angstrom.
    flux
        ``(npix,)`` flux density, any unit.
    ivar
        ``(npix,)`` inverse variance of `flux`.
    ebv
        SFD E(B-V), magnitudes.

    Returns
    -------
    flux, ivar
        ``flux / T`` and ``ivar * T^2``, each ``(npix,)``, with T of `spectrum_transmission`.

    Raises
    ------
    InputError
        For an unusable `ebv`.
    """
    t = spectrum_transmission(wave, ebv)
    return np.asarray(flux, dtype=np.float64) / t, np.asarray(ivar, dtype=np.float64) * t**2
