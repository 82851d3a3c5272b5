"""Galactic (Milky Way) dust: what it takes from spectra and bands, through `desiutil.dust`.

E(B-V) is always that of the Schlegel, Finkbeiner & Davis (1998, SFD) map as DESI files quote it. desiutil applies the
Fitzpatrick (1999) curve, R_V = 3.1, normalised at 1 um to A = 1.029 E(B-V)_SFD (Schlafly & Finkbeiner 2011, who find
that SFD's E(B-V) must be multiplied by 0.86). Do not rescale E(B-V) before handing it over.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from desiutil.dust import dust_transmission, mwdust_transmission
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.observe.filters import is_legacy_band, load_filter

_TABULATED = {"g", "r", "z", "W1", "W2", "W3", "W4"}
"""Bands for which desiutil holds A(band)/E(B-V); any other is averaged over its filter curve."""


def check_ebv(ebv: float) -> float:
    """`ebv` as a float; `InputError` unless finite and >= 0."""
    value = float(ebv)
    if not np.isfinite(value) or value < 0:
        raise InputError(f"EBV {value:g} is not usable; give a finite SFD E(B-V) >= 0 (magnitudes)")
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


def band_transmission(name: str, ebv: float, photsys: str | None = None) -> float:
    """Galactic transmission (0-1) in one band.

    Legacy Surveys and WISE bands take desiutil's tabulated A(band)/E(B-V). Every other one (GALEX, SDSS, ...) takes
    the transmission averaged over the filter curve for a spectrum flat in f_nu, ``int T R / lam dlam / int R / lam
    dlam``, which for g, r, z comes within 1 % in A of the tabulated numbers; the curve at the effective wavelength
    alone would miss the 2175 A bump inside GALEX NUV.

    Parameters
    ----------
    name
        Filter, see `provabgs.observe.filters`.
    ebv
        SFD E(B-V), magnitudes.
    photsys
        ``"N"`` or ``"S"``; checked against the filter when both say something, needed for none.

    Raises
    ------
    InputError
        For an unusable `ebv`, an unknown filter, or a filter of the other photometric system.
    """
    value = check_ebv(ebv)
    curve = load_filter(name)
    legacy = is_legacy_band(curve.name)
    if legacy is None or legacy[0] not in _TABULATED:
        weight = curve.response / curve.wave
        mean = np.trapezoid(weight * spectrum_transmission(curve.wave, value), curve.wave)
        return float(mean / np.trapezoid(weight, curve.wave))
    band, system = legacy
    if system and photsys and system != photsys.upper():
        raise InputError(
            f"filter {curve.name} belongs to PHOTSYS {system} but PHOTSYS is {photsys!r}; mend one of them"
        )
    return float(mwdust_transmission(value, band.upper(), system or photsys or "S"))


def deredden_spectrum(wave: ArrayLike, flux: ArrayLike, ivar: ArrayLike, ebv: float) -> tuple[FloatArray, FloatArray]:
    """Correct a spectrum for Galactic dust: ``(flux / T, ivar * T^2)``, arrays of shape ``(npix,)``."""
    t = spectrum_transmission(wave, ebv)
    return np.asarray(flux, dtype=np.float64) / t, np.asarray(ivar, dtype=np.float64) * t**2


def deredden_bands(
    bands: Sequence[str], flux: ArrayLike, ivar: ArrayLike, ebv: float, photsys: str | None = None
) -> tuple[FloatArray, FloatArray]:
    """Correct band fluxes (any flux unit) for Galactic dust: ``(flux / T, ivar * T^2)``, shape ``(nband,)``."""
    t = np.array([band_transmission(name, ebv, photsys) for name in bands], dtype=np.float64)
    return np.asarray(flux, dtype=np.float64) / t, np.asarray(ivar, dtype=np.float64) * t**2
