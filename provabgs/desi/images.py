"""Wavelengths, units and shapes of the images of a DESI file, held against what DESI's spectrograph can do."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import numpy as np
from astropy import units as u

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import DataFileError
from provabgs.desi.fitsfile import FitsFile
from provabgs.desi.structure import Hdu

_FLUX_UNIT = 1e-17 * u.erg / u.s / u.cm**2 / u.AA
_UNIT_TEXT = re.compile(r"[A-Za-z0-9*/^(). +-]{1,80}")
_LONG_NUMBER = re.compile(r"\d{4}|\*\*[^ ]*\*\*|\^[^ ]*\^")
"""Powers that take astropy for ever: no unit has an exponent of four digits, or one on top of another."""
WAVE_RANGE = (2000.0, 20000.0)
"""Angstrom. DESI's spectrograph sees 3600-9824; spectra in its format that others make stay within these."""
MAX_PIXELS = 100_000
STEP_RATIO = 20.0
"""Largest over median step of one camera's wavelengths; DESI's grids are even."""
MAX_DIAGONALS = 201


def check_shapes(fits: FitsFile, cameras: Sequence[str], nrow: int) -> None:
    """Refuse a file whose images do not fit its FIBERMAP and wavelengths.

    Parameters
    ----------
    fits
        The file.
    cameras
        Upper-case names.
    nrow
        Rows of FIBERMAP.
    """
    for camera in cameras:
        npix = int(np.prod(fits[f"{camera}_WAVELENGTH"].shape))
        for kind in ("FLUX", "IVAR", "MASK"):
            hdu = fits.find(f"{camera}_{kind}")
            if hdu is not None and (hdu.is_table or hdu.shape != (nrow, npix)):
                raise DataFileError(
                    f"{fits.path}: HDU {hdu.name} has shape {hdu.shape}, but FIBERMAP and {camera}_WAVELENGTH "
                    f"ask for {(nrow, npix)}; the file is damaged"
                )
        matrix = fits.find(f"{camera}_RESOLUTION")
        if matrix is None:
            continue
        shape = matrix.shape
        odd = len(shape) == 3 and shape[1] % 2 == 1 and shape[1] <= MAX_DIAGONALS
        if not odd or (shape[0], shape[2]) != (nrow, npix):
            raise DataFileError(
                f"{fits.path}: HDU {matrix.name} has shape {shape}, but FIBERMAP and {camera}_WAVELENGTH ask for "
                f"({nrow}, an odd number of diagonals, {npix}); the file is damaged"
            )


def _unit(fits: FitsFile, hdu: Hdu) -> u.UnitBase | None:
    """BUNIT of an image, None when there is none; `DataFileError` for one that is no unit."""
    if "BUNIT" not in hdu.cards:
        return None
    text = hdu.text("BUNIT")
    try:
        if not _UNIT_TEXT.fullmatch(text) or _LONG_NUMBER.search(text):
            raise ValueError(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", u.UnitsWarning)
            return u.Unit(text)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError):
        written = hdu.cards["BUNIT"]
        raise DataFileError(f"{fits.path}: HDU {hdu.name} is in {written:.60}, which is no unit; mend BUNIT") from None


def flux_scale(fits: FitsFile, camera: str) -> float:
    """Factor from a camera's flux to 1e-17 erg/s/cm2/A, by BUNIT (1 without BUNIT).

    Parameters
    ----------
    fits
        The file.
    camera
        Upper-case name.

    Raises
    ------
    DataFileError
        When the flux is no flux density, or IVAR's unit does not fit it.
    """
    hdu, of_ivar = fits[f"{camera}_FLUX"], fits[f"{camera}_IVAR"]
    unit = _unit(fits, hdu)
    if unit is None:
        return 1.0
    try:
        scale = float(u.Quantity(1, unit).to_value(_FLUX_UNIT))
        if not 0 < scale < np.inf:
            raise ValueError(scale)
    except (u.UnitConversionError, TypeError, ValueError, OverflowError):
        raise DataFileError(
            f"{fits.path}: HDU {hdu.name} is in {hdu.cards['BUNIT']:.60}, not a flux density per Angstrom like DESI's "
            "10**-17 erg/(s cm2 Angstrom); convert it and mend BUNIT"
        ) from None
    weight = _unit(fits, of_ivar)
    if weight is not None:
        _check_weight(fits, of_ivar, weight, scale)
    return scale


def _check_weight(fits: FitsFile, hdu: Hdu, unit: u.UnitBase, scale: float) -> None:
    """Refuse an inverse variance whose unit is not that of the flux to the power of -2."""
    try:
        ratio = float(u.Quantity(1, unit).to_value(_FLUX_UNIT**-2)) * scale**2
    except (u.UnitConversionError, TypeError, ValueError, OverflowError):
        ratio = 0.0
    if not 0.999 < ratio < 1.001:
        raise DataFileError(
            f"{fits.path}: HDU {hdu.name} is in {hdu.cards['BUNIT']:.60}, which is not the inverse square of the "
            "flux's unit; mend BUNIT of one of them"
        )


def read_wavelength(fits: FitsFile, camera: str) -> FloatArray:
    """``(npix,)`` wavelengths of one camera, Angstrom, whatever length unit the file declares.

    Parameters
    ----------
    fits
        The file.
    camera
        Name in any letter case.

    Raises
    ------
    DataFileError
        When they are in no unit of length, or none that DESI's spectrograph sees.
    """
    hdu = fits[f"{camera.upper()}_WAVELENGTH"]
    if int(np.prod(hdu.shape)) > MAX_PIXELS:
        raise DataFileError(f"{fits.path}: HDU {hdu.name} has shape {hdu.shape}, which none of DESI's has")
    stored = fits.image(hdu).astype(np.float64).ravel()
    unit = _unit(fits, hdu)
    try:
        wave = stored * (1.0 if unit is None else float(u.Quantity(1, unit).to_value(u.AA)))
    except (u.UnitConversionError, TypeError, ValueError, OverflowError):
        raise DataFileError(f"{fits.path}: HDU {hdu.name} is in {hdu.cards['BUNIT']:.60}, not a length") from None
    low, high = WAVE_RANGE
    if wave.size < 2 or not np.all(np.isfinite(wave)) or wave.min() < low or wave.max() > high:
        found = f"from {wave.min():g} to {wave.max():g}" if wave.size else "absent"
        raise DataFileError(
            f"{fits.path}: wavelengths in HDU {hdu.name} are {found} A (BUNIT {hdu.text('BUNIT') or 'absent'}); "
            f"DESI's lie between {low:g} and {high:g}: mend the unit, or fetch the file again"
        )
    step = np.diff(wave)
    if step.min() <= 0 or step.max() > STEP_RATIO * np.median(step):
        worst = int(np.argmin(step) if step.min() <= 0 else np.argmax(step))
        raise DataFileError(
            f"{fits.path}: wavelengths in HDU {hdu.name} go from {wave[worst]:g} to {wave[worst + 1]:g} A at pixel "
            f"{worst + 1}; the file is damaged: fetch it again"
        )
    return wave
