"""Distances and ages: a thin, hashable wrapper around an astropy cosmology chosen by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, overload

import astropy.cosmology as acosmo
import astropy.units as u
import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError

DEFAULT_COSMOLOGY = "Planck13"
"""The published PROVABGS catalog's cosmology (Hahn et al. 2023)."""


@lru_cache(maxsize=16)
def _realisation(name: str) -> Any:
    """The astropy cosmology called `name`."""
    if name not in acosmo.available:
        known = ", ".join(acosmo.available)
        raise InputError(f"cosmology {name!r} is not one of astropy's realisations; choose one of {known}")
    return getattr(acosmo, name)


def _positive(redshift: ArrayLike) -> FloatArray:
    """`redshift` as float64, refused unless finite and > 0."""
    z = np.asarray(redshift, dtype=np.float64)
    bad = ~(np.isfinite(z) & (z > 0))
    if np.any(bad):
        first = z[bad].ravel()[0] if z.ndim else float(z)
        raise InputError(f"redshift {first:g} is not usable ({int(bad.sum())} of {z.size}); give finite redshifts > 0")
    return z


@dataclass(frozen=True)
class Cosmology:
    """Cosmology by name; compares, hashes and serialises as its name does.

    Attributes
    ----------
    name
        Any of `astropy.cosmology.available`, for example ``"Planck13"`` (default) or ``"Planck18"``.

    Raises
    ------
    InputError
        For a name that astropy does not know.
    """

    name: str = DEFAULT_COSMOLOGY

    def __post_init__(self) -> None:
        _realisation(self.name)

    @property
    def astropy(self) -> Any:
        """The `astropy.cosmology.FLRW` behind the name."""
        return _realisation(self.name)

    @overload
    def luminosity_distance_cm(self, redshift: float) -> float: ...
    @overload
    def luminosity_distance_cm(self, redshift: FloatArray) -> FloatArray: ...
    def luminosity_distance_cm(self, redshift: ArrayLike) -> float | FloatArray:
        """Luminosity distance, cm, of one redshift or an array of them (finite, > 0, else `InputError`)."""
        z = _positive(redshift)
        distance = np.asarray(self.astropy.luminosity_distance(z).to_value(u.cm))
        return float(distance) if z.ndim == 0 else distance

    @overload
    def age_gyr(self, redshift: float) -> float: ...
    @overload
    def age_gyr(self, redshift: FloatArray) -> FloatArray: ...
    def age_gyr(self, redshift: ArrayLike) -> float | FloatArray:
        """Age of the universe, Gyr, at one redshift or an array of them (finite, > 0, else `InputError`)."""
        z = _positive(redshift)
        age = np.asarray(self.astropy.age(z).to_value(u.Gyr))
        return float(age) if z.ndim == 0 else age
