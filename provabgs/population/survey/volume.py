"""The comoving volume of a survey: an area of sky between two redshifts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import astropy.units as u
import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import BoolArray, FloatArray
from provabgs.core.errors import InputError
from provabgs.observe.cosmology import Cosmology

FULL_SKY_DEG2 = 4 * np.pi * (180 / np.pi) ** 2
_VOLUME_NODES = 4096


@dataclass(frozen=True)
class SurveyVolume:
    """An area of sky between two redshifts.

    Attributes
    ----------
    area_deg2
        Area, square degrees.
    z_low, z_high
        Redshift range; galaxies outside it do not count.
    cosmology
        Distances; the fit's own.

    Raises
    ------
    InputError
        For an area that is not on the sky, or redshifts that are not 0 < z_low < z_high.
    """

    area_deg2: float
    z_low: float
    z_high: float
    cosmology: Cosmology = field(default_factory=Cosmology)

    def __post_init__(self) -> None:
        if not 0 < self.area_deg2 <= FULL_SKY_DEG2 * (1 + 1e-9):
            raise InputError(f"area {self.area_deg2:g} deg2 is not between 0 and the whole sky, 41253 deg2")
        if not (np.isfinite(self.z_high) and 0 < self.z_low < self.z_high):
            raise InputError(f"redshift range {self.z_low:g} to {self.z_high:g}: need 0 < z_low < z_high")

    @cached_property
    def _table(self) -> tuple[FloatArray, FloatArray]:
        z = np.geomspace(self.z_low, self.z_high, _VOLUME_NODES)
        volume = self.cosmology.astropy.comoving_volume(z).to_value(u.Mpc**3)
        return z, (volume - volume[0]) * self.area_deg2 / FULL_SKY_DEG2

    @property
    def total(self) -> float:
        """Comoving volume of the survey, Mpc^3 (no h)."""
        return float(self._table[1][-1])

    def within(self, redshift: ArrayLike) -> FloatArray:
        """Comoving volume between `z_low` and `redshift`, Mpc^3; redshifts beyond the range are clipped to it."""
        return np.interp(np.asarray(redshift, dtype=np.float64), *self._table)

    def contains(self, redshift: ArrayLike) -> BoolArray:
        """Whether ``z_low <= redshift <= z_high``; False for NaN."""
        z = np.asarray(redshift, dtype=np.float64)
        return (z >= self.z_low) & (z <= self.z_high)

    def redshift_grid(self, step: float = 0.01, log_step: float = 0.06) -> FloatArray:
        """Redshifts from `z_low` to `z_high` at which margins are computed.

        Margins are interpolated linearly in ln z in between; the default steps change z_max by 1e-4 or less.

        Parameters
        ----------
        step
            Largest step in redshift.
        log_step
            Largest step in ln z.

        Returns
        -------
        numpy.ndarray
            ``(nz,)`` increasing.
        """
        # x grows by one from one grid point to the next
        fine = np.geomspace(self.z_low, self.z_high, 4 * _VOLUME_NODES)
        x = np.concatenate([[0.0], np.cumsum(np.diff(fine) / np.minimum(step, log_step * fine[1:]))])
        grid = np.interp(np.linspace(0, x[-1], int(np.ceil(x[-1])) + 1), x, fine)
        grid[0], grid[-1] = self.z_low, self.z_high
        return grid
