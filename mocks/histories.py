"""Star-formation and metallicity histories of simulated galaxies, whatever simulation they come from.

Every reader (L-GALAXIES in its several formats, a plain table) ends in a `SimulatedGalaxies`; everything that makes
mock data starts from one. Masses are Msun *formed*, ages are Gyr of lookback from the galaxy's own epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError

PER_GALAXY: tuple[str, ...] = (
    *("galaxy_id", "redshift", "lookback", "width", "cold_gas", "metals_cold_gas"),
    *("gas_radius", "disk_radius", "bulge_radius", "cos_inclination", "flags"),
)
"""Arrays of `SimulatedGalaxies` with one row per galaxy, histories of the components apart."""
LOG_FLOOR = 1e-30
"""Smallest SFR (Msun/yr) whose logarithm is given; below it the logarithm is -inf on purpose (no stars formed)."""


class RowFlag(IntFlag):
    """What is wrong with one simulated galaxy; 0 is usable."""

    OK = 0
    NO_STARS = 1
    """No stellar mass formed in any bin."""
    NEGATIVE_MASS = 2
    """A negative mass in a bin (numerical noise in some runs); set to 0, the row is not used."""
    NO_METALLICITY = 4
    """Stars with Z = 0, or 0/0; given the lowest metallicity of the SSP library. Usable."""
    BAD_NUMBER = 8
    """NaN or infinite mass, metallicity or size."""
    BINS_MISMATCH = 16
    """The galaxy uses more history bins than the bin table has for its snapshot."""
    NO_GAS_SIZE = 32
    """Cold gas in a disk of no size: its dust cannot be told."""

    @property
    def usable(self) -> bool:
        """Whether a mock can be made from this row."""
        return not self & ~RowFlag.NO_METALLICITY


@dataclass(frozen=True, eq=False)
class ComponentHistory:
    """History of one component (disk or bulge) of many galaxies.

    Attributes
    ----------
    mass_formed
        ``(ngal, nbin)`` Msun formed in each bin.
    metallicity
        ``(ngal, nbin)`` absolute metal mass fraction of those stars; 0 where no mass formed.
    """

    mass_formed: FloatArray
    metallicity: FloatArray


@dataclass(frozen=True, eq=False)
class SimulatedGalaxies:
    """Simulated galaxies with all that the mock forward model needs.

    Attributes
    ----------
    galaxy_id
        ``(n,)`` identifiers, unique, >= 0.
    redshift
        ``(n,)`` at which the galaxy is observed.
    lookback, width
        ``(n, nbin)`` centre and width of history bins, Gyr before the galaxy's own epoch; unused bins have width 0.
    disk, bulge
        Histories of the two components.
    cold_gas, metals_cold_gas
        ``(n,)`` Msun.
    gas_radius, disk_radius
        ``(n,)`` kpc, *three* exponential scale lengths, as L-GALAXIES writes them.
    bulge_radius
        ``(n,)`` kpc, half-mass radius.
    cos_inclination
        ``(n,)`` in [0, 1]; NaN where the simulation does not say (drawn by the mock).
    flags
        ``(n,)`` `RowFlag` values.
    hubble
        Hubble parameter h of the simulation (the dust recipe is written in code units).
    provenance
        Where the galaxies come from.
    """

    galaxy_id: NDArray[np.int64]
    redshift: FloatArray
    lookback: FloatArray
    width: FloatArray
    disk: ComponentHistory
    bulge: ComponentHistory
    cold_gas: FloatArray
    metals_cold_gas: FloatArray
    gas_radius: FloatArray
    disk_radius: FloatArray
    bulge_radius: FloatArray
    cos_inclination: FloatArray
    flags: NDArray[np.int32]
    hubble: float = 0.673
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = self.galaxy_id.size
        for name in ("lookback", "width"):
            if getattr(self, name).shape != (n, self.n_bin):
                raise InputError(
                    f"{name} has shape {getattr(self, name).shape}; {n} galaxies and {self.n_bin} bins need "
                    f"{(n, self.n_bin)}"
                )
        for who in ("disk", "bulge"):
            component: ComponentHistory = getattr(self, who)
            if component.mass_formed.shape != (n, self.n_bin) or component.metallicity.shape != (n, self.n_bin):
                raise InputError(
                    f"{who} history has shape {component.mass_formed.shape}; expected {(n, self.n_bin)} as the bins"
                )

    def __len__(self) -> int:
        return int(self.galaxy_id.size)

    @property
    def n_bin(self) -> int:
        """Number of history bins."""
        return int(self.lookback.shape[-1])

    @property
    def usable(self) -> NDArray[np.bool_]:
        """``(n,)`` whether a mock can be made from each row."""
        return np.array([RowFlag(int(f)).usable for f in self.flags], dtype=bool)

    def select(self, index: ArrayLike) -> SimulatedGalaxies:
        """The galaxies at `index` (integers or a mask), in that order."""
        i = np.asarray(index)
        changes: dict[str, Any] = {name: getattr(self, name)[i] for name in PER_GALAXY}
        for who in ("disk", "bulge"):
            part: ComponentHistory = getattr(self, who)
            changes[who] = ComponentHistory(part.mass_formed[i], part.metallicity[i])
        return replace(self, **changes)


def check_histories(mass: FloatArray, metals: FloatArray) -> tuple[ComponentHistory, NDArray[np.int32]]:
    """Turn masses and metal masses into a history, flagging what cannot be used.

    Parameters
    ----------
    mass, metals
        ``(n, nbin)`` mass and mass in metals of each bin, in the same unit (their ratio is what counts).

    Returns
    -------
    history
        With negative and non-finite masses set to 0, and Z = 0 where no metallicity is defined.
    flags
        ``(n,)`` `RowFlag` bits (`NO_STARS` is left to the caller: one component may be empty).
    """
    mass = np.asarray(mass, dtype=np.float64)
    metals = np.asarray(metals, dtype=np.float64)
    finite = np.isfinite(mass) & np.isfinite(np.where(mass > 0, metals, 0.0))
    flags = np.zeros(len(mass), dtype=np.int32)
    flags |= np.where(np.any(~finite, axis=1), int(RowFlag.BAD_NUMBER), 0).astype(np.int32)
    flags |= np.where(np.any(finite & (mass < 0), axis=1), int(RowFlag.NEGATIVE_MASS), 0).astype(np.int32)
    good = finite & (mass > 0)
    clean = np.where(good, mass, 0.0)
    z = np.divide(metals, mass, out=np.zeros_like(mass), where=good)
    flags |= np.where(np.any(good & (z <= 0), axis=1), int(RowFlag.NO_METALLICITY), 0).astype(np.int32)
    return ComponentHistory(clean, np.clip(z, 0.0, None)), flags


def flag_empty(disk: ComponentHistory, bulge: ComponentHistory) -> NDArray[np.int32]:
    """`RowFlag.NO_STARS` for galaxies of which neither component ever formed a star."""
    total = disk.mass_formed.sum(axis=1) + bulge.mass_formed.sum(axis=1)
    return np.where(total > 0, 0, int(RowFlag.NO_STARS)).astype(np.int32)


def flag_gas(cold_gas: FloatArray, metals: FloatArray, gas_radius: FloatArray) -> NDArray[np.int32]:
    """Flags ``(n,)`` of galaxies whose gas is not finite, negative, or without a size."""
    values = np.stack([cold_gas, metals, gas_radius])
    bad = ~np.all(np.isfinite(values), axis=0)
    flags = np.where(bad, int(RowFlag.BAD_NUMBER), 0)
    flags |= np.where(~bad & np.any(values < 0, axis=0), int(RowFlag.NEGATIVE_MASS), 0)
    flags |= np.where(~bad & (cold_gas > 0) & ~(gas_radius > 0), int(RowFlag.NO_GAS_SIZE), 0)
    return flags.astype(np.int32)


def recent_fraction(lookback: FloatArray, width: FloatArray, t_max: float) -> FloatArray:
    """Fraction of each bin younger than `t_max` Gyr, for a constant SFR inside the bin; 0 for unused bins."""
    lower = lookback - 0.5 * width
    return np.clip(np.divide(t_max - lower, width, out=np.zeros_like(width), where=width > 0), 0.0, 1.0)


def true_properties(galaxies: SimulatedGalaxies) -> dict[str, FloatArray]:
    """True properties of each galaxy, by the definitions of Hahn et al. (2023), section 2.

    Keys are the names of `provabgs.sps.parameters`: ``logmstar`` (log10 of the sum of formed mass), ``log_sfr_1gyr``
    and ``log_sfr_100myr`` (mass formed in the last 1 Gyr or 100 Myr over that time; a bin that straddles the edge
    counts by its overlap; -inf when none formed), ``log_z_mw`` and ``t_age_mw`` (weighted by formed mass). NaN where
    no star ever formed.
    """
    mass = galaxies.disk.mass_formed + galaxies.bulge.mass_formed
    metals = galaxies.disk.mass_formed * galaxies.disk.metallicity
    metals = metals + galaxies.bulge.mass_formed * galaxies.bulge.metallicity
    total = np.where(mass.sum(axis=1) > 0, mass.sum(axis=1), np.nan)
    out = {"logmstar": np.log10(total)}
    for name, t_max in (("log_sfr_1gyr", 1.0), ("log_sfr_100myr", 0.1)):
        recent = (mass * recent_fraction(galaxies.lookback, galaxies.width, t_max)).sum(axis=1) / (t_max * 1e9)
        out[name] = np.where(recent > LOG_FLOOR, np.log10(np.maximum(recent, LOG_FLOOR)), -np.inf)
    z_mw = metals.sum(axis=1) / total
    out["log_z_mw"] = np.log10(np.where(z_mw > 0, z_mw, np.nan))
    out["t_age_mw"] = (mass * galaxies.lookback).sum(axis=1) / total
    return out
