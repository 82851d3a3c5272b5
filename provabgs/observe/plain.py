"""Arrays as users hand them over: masked, with units, as columns of tables; what of it counts, in our units."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from provabgs.core.arrays import BoolArray, FloatArray
from provabgs.core.errors import InputError

WAVE_UNIT = "Angstrom"
SPECTRUM_UNIT = "1e-17 erg / (s cm2 Angstrom)"
SPECTRUM_IVAR_UNIT = "1e34 s2 cm4 Angstrom2 / erg2"
NANOMAGGY_JY = 3.631e-6
"""Flux density of one nanomaggy, Jy."""


class Plain(NamedTuple):
    """Numbers of a user's array.

    Attributes
    ----------
    values
        float64, in the unit asked for; masked entries hold whatever the array does.
    masked
        Of the same shape: which entries are masked.
    has_unit
        Whether the array came with a unit.
    """

    values: FloatArray
    masked: BoolArray
    has_unit: bool


def plain(values: Any, unit: str, what: str) -> Plain:
    """A float64 copy of an array, masked array, Quantity or table column in a unit of ours.

    Parameters
    ----------
    values
        What the user gave; numbers without a unit are taken to be in `unit`.
    unit
        astropy's name of the unit wanted; ``"nmgy"`` and ``"nmgy-2"`` for nanomaggies and their inverse square, to
        which Jy and its kin are converted.
    what
        Named in errors.

    Returns
    -------
    Plain
        Numbers, mask and whether there was a unit.

    Raises
    ------
    InputError
        For another kind of unit, and for what is no array of numbers.
    """
    mask = getattr(values, "mask", False)
    masked = np.array(False if callable(mask) else mask, dtype=bool)  # a pandas Series has a method of this name
    own_unit = getattr(values, "unit", None)
    if hasattr(values, "unmasked"):  # astropy's Masked arrays and quantities
        values = values.unmasked
    try:
        if own_unit is not None:
            values = np.ma.getdata(getattr(values, "value", values)) * _factor(own_unit, unit, what)
        array = np.array(np.ma.getdata(values), dtype=np.float64)
    except InputError:
        raise
    except (TypeError, ValueError):
        raise InputError(f"{what}: these are no numbers ({type(values).__name__}); give an array of them") from None
    if masked.ndim == 0 or masked.shape != array.shape:
        masked = np.broadcast_to(masked if masked.ndim == 0 else False, array.shape).copy()
    return Plain(array, masked, own_unit is not None)


def _factor(given: Any, unit: str, what: str) -> float:
    """How many of `unit` one of `given` is."""
    from astropy import units as u  # only where there are units

    try:
        own = u.Unit(given)
        if isinstance(own, u.function.FunctionUnitBase):  # magnitudes
            raise TypeError(given)
        if unit == "nmgy":
            return _nanomaggies(own)
        if unit == "nmgy-2":
            return _nanomaggies(own**-0.5) ** -2
        return float(own.to(u.Unit(unit)))
    except (u.UnitConversionError, u.UnitTypeError, TypeError, ValueError, AttributeError):
        names = {"nmgy": "nanomaggies, or a flux density such as Jy", "nmgy-2": "nanomaggies^-2, or Jy^-2"}
        raise InputError(f"{what} is in {given}; give {names.get(unit, unit)}") from None


def _nanomaggies(unit: Any) -> float:
    from astropy import units as u

    if unit.is_equivalent(u.mgy):
        return float(unit.to(u.mgy)) * 1e9
    return float(unit.to(u.Jy)) / NANOMAGGY_JY
