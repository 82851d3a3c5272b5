"""Emission of ionised gas per ionising photon, tabulated: lines and continuum over log U and gas metallicity.

Gas absorbs every ionising photon of the stars in it and gives the energy back as recombination and forbidden lines and
as a continuum. What it gives per photon depends on the ionisation parameter, on the metallicity of the gas and (through
the shape of the ionising spectrum) on the age of the stars; how many photons there are depends on the stars alone. A
`NebularGrid` holds both tables. `provabgs.sps.nebular` puts them together with an SSP library.

What ships is made by ``data/build_nebular.py`` (docs/guide/nebular.md); ``data/build_nebular_fsps.py`` makes one
from FSPS.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.hdf5 import Contents
from provabgs.core.jax import jax, jnp
from provabgs.sps.gridfile import load_grid, save_grid
from provabgs.sps.interpolation import hat_weights

FORMAT = "provabgs-nebular-1"
LOG_U_RANGE = (-4.0, -1.0)
"""Widest range of log U that a configuration may ask for (FSPS's); a grid may cover less."""
GAS_LOGZ_RANGE = (-2.0, 0.5)
"""Likewise, of the gas metallicity."""
FLOOR = 1e-35
"""Stands in for no emission at all where logarithms are interpolated; erg per ionising photon."""
LYMAN_LIMIT_AA = 911.753
"""Ionisation threshold of hydrogen, vacuum Angstrom (CODATA: h c / 13.598 eV)."""
_HC = 6.62607015e-27 * 2.99792458e18
"""h c, erg Angstrom."""
_BOUNDS = {
    "log_u": (-10.0, 5.0), "gas_logz": (-6.0, 3.0), "gas_log_age": (2.0, 10.5), "line_wave": (1.0, 1e9),
    "wave": (1.0, 1e9), "star_log_z": (-10.0, 0.0), "star_log_age": (2.0, 10.5), "log_photon_rate": (-300.0, 60.0),
}  # fmt: skip
"""What the axes may be: wide, and narrow enough that other units lie outside."""
_AXES = ("log_u", "gas_logz", "gas_log_age", "wave", "star_log_z", "star_log_age")
_UNITS = {
    "log_u": "log10 of ionising photons per hydrogen atom",
    "gas_logz": "log10 of O/H of the gas over the grid's solar value",
    "gas_log_age": "log10(yr), age of the ionising stars",
    "line_wave": "Angstrom, vacuum",
    "lines": "erg per ionising photon",
    "wave": "Angstrom, vacuum",
    "continuum": "erg/Angstrom per ionising photon",
    "star_log_z": "log10 of absolute stellar Z",
    "star_log_age": "log10(yr)",
    "log_photon_rate": "log10 of ionising photons per second per Msun formed",
}


class GasEmission(NamedTuple):
    """Energy emitted per ionising photon, for stars on ``NebularGrid.gas_log_age``."""

    lines: jax.Array
    """``(batch, nage, nline)`` erg per photon."""
    continuum: jax.Array
    """``(batch, nage, nwave)`` erg/Angstrom per photon."""


@dataclass(frozen=True, eq=False)
class NebularGrid:
    """Tables of nebular emission.

    Attributes
    ----------
    log_u, gas_logz
        ``(nu,)`` ionisation parameter and ``(ngas,)`` log10(O/H over the grid's solar O/H).
    gas_log_age
        ``(ngasage,)`` log10 yr of the ionising stars; a single age stands for all.
    line_names, line_wave
        ``(nline,)`` names and vacuum wavelengths, Angstrom.
    lines
        ``(ngas, ngasage, nu, nline)`` erg per ionising photon.
    wave, continuum
        ``(nwave,)`` vacuum Angstrom, ``(ngas, ngasage, nu, nwave)`` erg/Angstrom per ionising photon, without lines.
    star_log_z, star_log_age
        ``(nz,)`` log10 of the stars' absolute Z, ``(nage,)`` log10 yr; stars older than the last do not ionise.
    log_photon_rate
        ``(nz, nage)`` log10 of ionising photons per second and Msun formed.
    provenance
        Sources, licences, command, known errors.

    Raises
    ------
    InputError
        When shapes, order or values cannot be such tables.
    """

    log_u: FloatArray
    gas_logz: FloatArray
    gas_log_age: FloatArray
    line_names: tuple[str, ...]
    line_wave: FloatArray
    lines: NDArray[np.float32]
    wave: FloatArray
    continuum: NDArray[np.float32]
    star_log_z: FloatArray
    star_log_age: FloatArray
    log_photon_rate: FloatArray
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _AXES:
            axis = getattr(self, name)
            if axis.ndim != 1 or axis.size < (1 if name == "gas_log_age" else 2) or not np.all(np.diff(axis) > 0):
                raise InputError(f"nebular grid: axis {name!r} must be one-dimensional and strictly increasing")
        shape = (self.gas_logz.size, self.gas_log_age.size, self.log_u.size)
        for name, last in (("lines", self.line_wave.size), ("continuum", self.wave.size)):
            values = getattr(self, name)
            if values.shape != (*shape, last):
                raise InputError(f"nebular grid: {name!r} has shape {values.shape}, its axes say {(*shape, last)}")
            if not np.all(np.isfinite(values)) or values.min() < 0:
                raise InputError(f"nebular grid: {name!r} holds NaN, infinite or negative luminosities")
        for name, (low, high) in _BOUNDS.items():
            values = getattr(self, name)
            if not np.all((values >= low) & (values <= high)):
                raise InputError(
                    f"nebular grid: {name!r} spans {values.min():g} to {values.max():g}, expected {low:g} to {high:g}"
                )
        if len(self.line_names) != self.line_wave.size or not np.all(self.line_wave > 0):
            raise InputError(f"nebular grid: {len(self.line_names)} line names for {self.line_wave.size} wavelengths")
        expected = (self.star_log_z.size, self.star_log_age.size)
        if self.log_photon_rate.shape != expected or not np.all(np.isfinite(self.log_photon_rate)):
            raise InputError(f"nebular grid: 'log_photon_rate' must be finite and of shape {expected}")

    # ---- use -----------------------------------------------------------------------------------------------------

    def require_range(self, log_u: ArrayLike, gas_logz: ArrayLike) -> None:
        """Refuse gas parameters that are not tabulated: nothing is extrapolated.

        Parameters
        ----------
        log_u
            Log10 of the ionisation parameter, any shape.
        gas_logz
            Log10 of the gas metallicity over solar, any shape.

        Raises
        ------
        InputError
            When either lies outside the grid; names which, and the grid's range.
        """
        for name, value, axis in (("log_u", log_u, self.log_u), ("gas_logz", gas_logz, self.gas_logz)):
            v = np.asarray(value, np.float64)
            if not np.all((v >= axis[0] - 1e-9) & (v <= axis[-1] + 1e-9)):
                raise InputError(
                    f"{name} = {v.min():g}..{v.max():g} is outside the nebular grid's {axis[0]:g}..{axis[-1]:g}; stay "
                    "within, or use a grid that reaches there (docs/guide/nebular.md)"
                )

    def emission(self, log_u: ArrayLike, gas_logz: ArrayLike) -> GasEmission:
        """Lines and continuum per ionising photon; logarithms are linear in both gas parameters, as in FSPS.

        A pure function in JAX, held at the edges of the grid: check with `require_range`.

        Parameters
        ----------
        log_u
            ``(batch,)`` log10 of the ionisation parameter.
        gas_logz
            ``(batch,)`` log10 of the gas metallicity over solar.

        Returns
        -------
        GasEmission
            ``lines (batch, nage, nline)`` erg and ``continuum (batch, nage, nwave)`` erg/Angstrom per photon.
        """
        wu = hat_weights(jnp.asarray(log_u, jnp.float64), self.log_u)
        wz = hat_weights(jnp.asarray(gas_logz, jnp.float64), self.gas_logz)
        out = []
        for table in (self.lines, self.continuum):
            logs = jnp.log(jnp.maximum(jnp.asarray(table, jnp.float64), FLOOR))
            out.append(jnp.exp(jnp.einsum("bz,bu,zaun->ban", wz, wu, logs)))
        return GasEmission(*out)

    def photon_rate(self, log_z: ArrayLike, log_age: ArrayLike) -> FloatArray:
        """Ionising photons of stars per second.

        Logarithms are linear in both axes. Metallicities and the youngest ages beyond the table take its edge; ages
        beyond its last have none.

        Parameters
        ----------
        log_z
            ``(nz,)`` log10 of absolute stellar Z.
        log_age
            ``(nage,)`` log10 of age in years.

        Returns
        -------
        FloatArray
            ``(nz, nage)`` photons/s per Msun formed.
        """
        log_age = np.asarray(log_age, np.float64)
        wz = np.asarray(hat_weights(np.asarray(log_z, np.float64), self.star_log_z))
        wa = np.asarray(hat_weights(log_age, self.star_log_age))
        return np.where(log_age <= self.star_log_age[-1] + 1e-9, 10.0 ** (wz @ self.log_photon_rate @ wa.T), 0.0)

    def age_weights(self, log_age: ArrayLike) -> FloatArray:
        """Weights ``(nage, ngasage)`` of the tabulated ages for stars of `log_age`."""
        log_age = np.asarray(log_age, np.float64)
        if self.gas_log_age.size == 1:
            return np.ones((log_age.size, 1))
        return np.asarray(hat_weights(log_age, self.gas_log_age))

    # ---- files ---------------------------------------------------------------------------------------------------

    def digest(self) -> str:
        """SHA-256 over every array and the line names."""
        h = hashlib.sha256("\n".join(self.line_names).encode())
        for name in _UNITS:
            h.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return h.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write as HDF5."""
        save_grid(path, self, FORMAT, _UNITS, {"line_names": self.line_names})

    @classmethod
    def load(cls, path: str | Path) -> NebularGrid:
        """Read a grid written by `save`.

        Raises
        ------
        DataFileError
            When the file is missing, not HDF5, not a nebular grid, or its content does not match its hash.
        """

        def build(contents: Contents, provenance: dict[str, str]) -> NebularGrid:
            arrays = {name: contents.numbers(name) for name in _UNITS}
            return cls(line_names=contents.texts("line_names"), provenance=provenance, **arrays)

        return load_grid(path, FORMAT, "nebular grid", "docs/guide/nebular.md", build)

    @classmethod
    def default(cls) -> NebularGrid:
        """The grid that ships: MAPPINGS 5.1 line ratios, case B, ionising photons of BC03 (see `provenance`)."""
        from provabgs.data import data_path

        return cls.load(data_path("nebular_mappings_bc03.h5"))


def ionising_photon_rate(wave: FloatArray, spectrum: FloatArray, lsun_cgs: float) -> FloatArray:
    """Photons beyond the Lyman limit, per second: ``int L lam / (h c) dlam`` over ``lam < 911.75 A``.

    Parameters
    ----------
    wave
        ``(nwave,)`` Angstrom, increasing.
    spectrum
        ``(..., nwave)`` Lsun/Angstrom.
    lsun_cgs
        Solar luminosity by which `spectrum` is expressed, erg/s.

    Returns
    -------
    FloatArray
        ``(...)`` photons/s.

    Raises
    ------
    InputError
        When the spectra do not reach below 300 A, where hot stars still ionise.
    """
    if wave[0] > 300.0:
        raise InputError(f"spectra begin at {wave[0]:.0f} A; counting ionising photons takes them from 300 A or below")
    inside = wave < LYMAN_LIMIT_AA
    last = int(inside.sum())
    at_limit = spectrum[..., last - 1 : last] + (spectrum[..., last : last + 1] - spectrum[..., last - 1 : last]) * (
        (LYMAN_LIMIT_AA - wave[last - 1]) / (wave[last] - wave[last - 1])
    )
    x = np.append(wave[inside], LYMAN_LIMIT_AA)
    y = np.concatenate([spectrum[..., :last], at_limit], axis=-1)
    return np.asarray(np.trapezoid(y * x, x, axis=-1) * lsun_cgs / _HC)
