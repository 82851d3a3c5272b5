"""The SSP library: spectra of simple stellar populations on a grid of metallicity and age.

A library is computed once (from FSPS or another source, `provabgs.sps.sources`), written as HDF5, and loaded
anywhere without FSPS. Everything that the model needs to know of stellar physics is in it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from provabgs.core.constants import FSPS_LSUN_CGS
from provabgs.core.errors import DataFileError, InputError
from provabgs.core.hdf5 import create, reading

FORMAT = "provabgs-ssp-1"
_BOUNDS: dict[str, tuple[float, float, str]] = {
    "wave": (1.0, 1e9, "Angstrom"),
    "log_age": (2.0, 10.5, "log10(yr)"),
    "logzsol": (-6.0, 2.0, "log10(Z/z_solar)"),
    "spectrum": (0.0, 1e6, "Lsun/Angstrom per Msun formed"),
    "surviving_mass": (0.0, 1.1, "Msun per Msun formed"),
    "z_solar": (0.005, 0.05, "(absolute metallicity)"),
    "lsun_cgs": (3.7e33, 4.0e33, "erg/s"),
}
"""What quantities of stellar populations may be: wide, and narrow enough that another unit lies outside."""
_AXES = ("wave", "log_age", "logzsol", "surviving_mass")
_CURE = "rebuild it with `provabgs ssp build`, or copy it again"
SHIPPED = "mist"
"""Name of the library that ships, where configurations name libraries."""


@dataclass(frozen=True, eq=False)
class SSPLibrary:
    """Spectra of simple stellar populations.

    Attributes
    ----------
    wave
        ``(nwave,)`` rest-frame vacuum wavelength, Angstrom, increasing.
    log_age
        ``(nage,)`` log10 of age in years, increasing.
    logzsol
        ``(nmet,)`` log10(Z / z_solar), increasing.
    spectrum
        ``(nmet, nage, nwave)`` luminosity density, Lsun/Angstrom per Msun formed, >= 0.
    surviving_mass
        ``(nmet, nage)`` mass in living stars and remnants per Msun formed.
    z_solar
        Absolute solar metallicity of the isochrones (0.0142 for FSPS-MIST).
    imf
        Initial mass function, in words.
    lsun_cgs
        Solar luminosity by which `spectrum` is expressed, erg/s.
    provenance
        Where it comes from: source, versions, licence, citation, command, known errors.
    line_nodes
        ``(nline,)`` indices on `wave` of emission lines, which the gas broadens, not the stars; none in a library of
        stars alone (`provabgs.sps.nebular`).
    borrowed
        Number of leading nodes that are another library's light (`provabgs.sps.ultraviolet`): bands may use them,
        spectra may not. Files never hold them.

    Raises
    ------
    InputError
        When shapes, order or values cannot be a library.
    """

    wave: NDArray[np.float64]
    log_age: NDArray[np.float64]
    logzsol: NDArray[np.float64]
    spectrum: NDArray[np.float32]
    surviving_mass: NDArray[np.float64]
    z_solar: float = 0.0142
    imf: str = "Chabrier (2003)"
    lsun_cgs: float = FSPS_LSUN_CGS
    provenance: dict[str, str] = field(default_factory=dict)
    line_nodes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    borrowed: int = 0

    def __post_init__(self) -> None:
        shape = (self.logzsol.size, self.log_age.size, self.wave.size)
        if any(getattr(self, name).ndim != 1 for name in ("wave", "log_age", "logzsol", "line_nodes")):
            raise InputError("SSP axes must be one-dimensional")
        if self.spectrum.shape != shape:
            raise InputError(f"SSP spectrum has shape {self.spectrum.shape}, its axes (Z, age, wave) say {shape}")
        if self.surviving_mass.shape != shape[:2]:
            raise InputError(f"SSP surviving_mass has shape {self.surviving_mass.shape}, expected {shape[:2]}")
        for name in ("wave", "log_age", "logzsol"):
            axis = getattr(self, name)
            if axis.size < 2 or not np.all(np.diff(axis) > 0):
                raise InputError(f"SSP axis {name!r} must be one-dimensional and strictly increasing")
        if not np.all(np.isfinite(self.spectrum)) or self.spectrum.min() < 0:
            raise InputError("SSP spectrum holds NaN, infinite or negative luminosities")
        for name, (low, high, unit) in _BOUNDS.items():
            values = np.asarray(getattr(self, name))
            if not np.all((values >= low) & (values <= high)):  # also where they are NaN
                raise InputError(
                    f"SSP {name} spans {np.min(values):g} to {np.max(values):g}, expected {low:g} to {high:g} {unit}"
                )
        if not self.spectrum.any(axis=-1).all():
            raise InputError("SSP spectrum is dark at all wavelengths for some age and metallicity")
        if not self.imf.strip():
            raise InputError("SSP imf is empty; say which initial mass function the masses are in")
        if self.line_nodes.size and not (self.line_nodes.min() > 0 and self.line_nodes.max() < self.wave.size - 1):
            raise InputError("SSP line_nodes must lie inside the wavelength axis")

    @property
    def own_wave(self) -> NDArray[np.float64]:
        """``(nwave - borrowed,)`` wavelengths of the library's own light, Angstrom."""
        return self.wave[self.borrowed :]

    @property
    def age_gyr(self) -> NDArray[np.float64]:
        """``(nage,)`` age, Gyr."""
        return 10.0 ** (self.log_age - 9.0)

    @property
    def metallicity(self) -> NDArray[np.float64]:
        """``(nmet,)`` absolute metallicity in the library's own convention, ``z_solar * 10**logzsol``."""
        return self.z_solar * 10.0**self.logzsol

    def digest(self) -> str:
        """SHA-256 over all numbers and their meaning: which library a posterior was fitted with.

        Solar metallicity, IMF, solar luminosity and line nodes count where they differ from the ordinary ones (the
        defaults of this class). Provenance does not count.
        """
        h = hashlib.sha256()
        for array in (self.wave, self.log_age, self.logzsol, self.spectrum, self.surviving_mass):
            h.update(np.ascontiguousarray(array).tobytes())
        ordinary = (type(self).z_solar, type(self).imf, type(self).lsun_cgs)
        if (self.z_solar, self.imf, self.lsun_cgs) != ordinary or self.line_nodes.size:
            h.update(repr((self.z_solar, self.imf, self.lsun_cgs, self.line_nodes.tolist())).encode())
        return h.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the library as HDF5 (gzip + shuffle: any h5py opens it)."""
        path = Path(path)
        if self.borrowed:
            raise InputError(f"{path}: an SSP library with another's ultraviolet is made when it is used; save its own")
        with create(path) as f:
            f.attrs["format"] = FORMAT
            f.attrs["z_solar"] = self.z_solar
            f.attrs["imf"] = self.imf
            f.attrs["lsun_cgs"] = self.lsun_cgs
            f.attrs["sha256"] = self.digest()
            provenance = f.create_group("provenance")
            for key, value in self.provenance.items():
                provenance.attrs[key] = value
            for name, unit in (
                ("wave", "Angstrom, vacuum"),
                ("log_age", "log10(yr)"),
                ("logzsol", "log10(Z/z_solar)"),
                ("surviving_mass", "Msun per Msun formed"),
            ):
                f.create_dataset(name, data=getattr(self, name)).attrs["unit"] = unit
            spectrum = f.create_dataset(
                "spectrum",
                data=self.spectrum.astype(np.float32),
                compression="gzip",
                compression_opts=9,
                shuffle=True,
                chunks=(1, *self.spectrum.shape[1:]),
            )
            spectrum.attrs["unit"] = "Lsun/Angstrom per Msun formed"
            if self.line_nodes.size:
                f.create_dataset("line_nodes", data=self.line_nodes).attrs["unit"] = "index on wave"

    @classmethod
    def load(cls, path: str | Path) -> SSPLibrary:
        """Read a library written by `save`.

        Raises
        ------
        DataFileError
            When the file is missing, not HDF5, not an SSP library, or its content does not match its hash.
        """
        with reading(Path(path), FORMAT, "an SSP library", _CURE) as c:
            nodes = c.numbers("line_nodes") if "line_nodes" in c.arrays else np.zeros(0, np.int64)
            if nodes.dtype.kind not in "iu":
                raise ValueError("line_nodes are no integers")
            numbers = {k: c.numbers(k).astype(np.float64, copy=False) for k in _AXES}
            library = cls(
                **numbers,
                spectrum=c.numbers("spectrum").astype(np.float32, copy=False),
                z_solar=c.number("z_solar"),
                imf=c.text("imf"),
                lsun_cgs=c.number("lsun_cgs"),
                provenance=c.words("provenance"),
                line_nodes=nodes.astype(np.int64),
                borrowed=0,
            )
            if library.digest() != c.text("sha256"):
                raise DataFileError(f"{path}: content does not match its recorded SHA-256; damaged, copy it again")
        return library

    @classmethod
    def named(cls, name: str | Path | None) -> SSPLibrary:
        """The library of a configuration: that of a file, or the one that ships (`SHIPPED`, or None).

        Raises
        ------
        DataFileError
            As `load`.
        """
        return cls.default() if name is None or str(name) == SHIPPED else cls.load(name)

    @classmethod
    def default(cls) -> SSPLibrary:
        """Load the library that ships with the package: MIST + MILES + Chabrier (see `provenance`)."""
        from provabgs.data import data_path

        return cls.load(data_path("ssp_mist_miles_chabrier.h5"))
