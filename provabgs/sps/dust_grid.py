"""Tables that dust emission is made of: spectra of warm dust.

Emission is that of Draine & Li (2007, ApJ 657, 810) for Milky Way grains, over the mass fraction of PAHs and the
strength of the radiation field, as FSPS carries it. What ships is made by ``data/build_dust_emission.py``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.hdf5 import Contents
from provabgs.sps.gridfile import load_grid, save_grid
from provabgs.sps.interpolation import hat_weights

FORMAT = "provabgs-dust-emission-2"
DUST_EMISSION_FILE = "dust_emission.h5"
_UNITS = {
    "wave": "Angstrom",
    "qpah": "per cent of the dust mass in PAHs",
    "umin": "strength of the radiation field over that near the Sun",
    "shape": "1/Angstrom; its integral over all wavelengths is 1; on axes qpah, umin, (umin alone, umin to 1e6), wave",
    "power": "emitted per hydrogen atom over that of the first qpah at umin 1; on axes as shape",
}


@dataclass(frozen=True, eq=False)
class DustGrid:
    """Dust emission.

    Attributes
    ----------
    wave
        ``(nwave,)`` Angstrom, increasing.
    qpah
        ``(nqpah,)`` per cent of the dust mass in PAHs, increasing.
    umin
        ``(numin,)`` radiation field over that near the Sun, increasing.
    shape
        ``(nqpah, numin, 2, nwave)`` spectra of unit luminosity, 1/Angstrom: dust in the field `umin`, and dust in
        fields from `umin` to 1e6 with as much dust per dlnU in proportion to 1/U.
    power
        ``(nqpah, numin, 2)`` luminosity per hydrogen atom of each, in one unit.
    provenance
        Sources, licence, citation, command, known errors.

    Raises
    ------
    InputError
        When shapes, order or values cannot be such a grid.
    """

    wave: FloatArray
    qpah: FloatArray
    umin: FloatArray
    shape: NDArray[np.float32]
    power: FloatArray
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("wave", "qpah", "umin"):
            axis = getattr(self, name)
            if axis.ndim != 1 or axis.size < 2 or not np.all(np.diff(axis) > 0):
                raise InputError(f"dust grid: axis {name!r} must be one-dimensional and strictly increasing")
            if not np.all(np.isfinite(axis)) or (name != "qpah" and axis[0] <= 0):
                raise InputError(f"dust grid: axis {name!r} must be finite, and above 0")
        grid = (self.qpah.size, self.umin.size, 2)
        for name, expected in (("shape", (*grid, self.wave.size)), ("power", grid)):
            values = getattr(self, name)
            if values.shape != expected:
                raise InputError(f"dust grid: {name!r} has shape {values.shape}, its axes say {expected}")
            if not np.all(np.isfinite(values)) or values.min() < 0:
                raise InputError(f"dust grid: {name!r} holds NaN, infinite or negative numbers")

    def spectrum(self, wave: FloatArray, qpah: float, umin: float, gamma: float) -> FloatArray:
        """Spectrum of unit luminosity: ``[(1 - gamma) L(umin) + gamma L(umin to 1e6)] / power`` per hydrogen atom.

        Linear between nodes of `qpah`, `umin` and wavelength, as in FSPS.

        Parameters
        ----------
        wave
            ``(n,)`` rest wavelength, Angstrom. Emission is 0 outside the grid's wavelengths.
        qpah
            Per cent of the dust mass in PAHs.
        umin
            Least radiation field, over that near the Sun.
        gamma
            Fraction of the dust that sits in fields above `umin`, 0 to 1.

        Returns
        -------
        FloatArray
            ``(n,)`` 1/Angstrom; its integral over all wavelengths is 1.

        Raises
        ------
        InputError
            When a parameter lies outside the grid.
        """
        return self.spectra(wave, qpah, umin, gamma)[0][0, 0, 0]

    def spectra(
        self, wave: FloatArray, qpah: float | None, umin: float | None, gamma: float | None
    ) -> tuple[FloatArray, FloatArray]:
        """Spectra of unit luminosity, at one value of a parameter or at all of its nodes.

        Dust of mixed kind is mixed per hydrogen atom: ``(1 - gamma) L(umin) + gamma L(umin to 1e6)``, linear between
        nodes of `qpah`, `umin` and wavelength, as in FSPS. A spectrum times its power is therefore linear between
        nodes, too.

        Parameters
        ----------
        wave
            ``(n,)`` rest wavelength, Angstrom. Emission is 0 outside the grid's wavelengths.
        qpah
            Per cent of the dust mass in PAHs; None for every node.
        umin
            Least radiation field, over that near the Sun; None for every node.
        gamma
            Fraction of the dust that sits in fields above `umin`, 0 to 1; None for 0 and 1.

        Returns
        -------
        spectra, power
            ``(nqpah, numin, ngamma, n)`` 1/Angstrom, whose integral over all wavelengths is 1; ``(nqpah, numin,
            ngamma)`` luminosity per hydrogen atom. An axis whose value is given has length 1.

        Raises
        ------
        InputError
            When a parameter lies outside the grid.
        """
        limits = {"qpah": (self.qpah[0], self.qpah[-1]), "umin": (self.umin[0], self.umin[-1]), "gamma": (0.0, 1.0)}
        for (name, (low, high)), value in zip(limits.items(), (qpah, umin, gamma), strict=True):
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} = {value:g} of dust emission is outside {low:g}..{high:g}")
        nodes = ((qpah, self.qpah), (umin, self.umin), (gamma, np.array([0.0, 1.0])))
        mixing = [np.eye(x.size) if v is None else np.asarray(hat_weights(np.float64(v), x))[None] for v, x in nodes]
        power = np.einsum("aq,bu,ck,quk->abc", *mixing, self.power)
        mixed = np.einsum("aq,bu,ck,quk,qukw->abcw", *mixing, self.power, self.shape, optimize=True)
        right = np.clip(np.searchsorted(self.wave, wave), 1, self.wave.size - 1)
        x = (wave - self.wave[right - 1]) / (self.wave[right] - self.wave[right - 1])
        inside = (wave >= self.wave[0]) & (wave <= self.wave[-1])
        spectra = (mixed[..., right - 1] * (1 - x) + mixed[..., right] * x) * inside
        return spectra / power[..., None], power

    # ---- files -------------------------------------------------------------------------------------------------------

    def digest(self) -> str:
        """SHA-256 over every array."""
        h = hashlib.sha256()
        for name in _UNITS:
            h.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return h.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write as HDF5."""
        save_grid(path, self, FORMAT, _UNITS, {})

    @classmethod
    def load(cls, path: str | Path) -> DustGrid:
        """Read a grid written by `save`.

        Raises
        ------
        DataFileError
            When the file is missing, not HDF5, not such a grid, or its content does not match its hash.
        """

        def build(contents: Contents, provenance: dict[str, str]) -> DustGrid:
            return cls(**{name: contents.numbers(name) for name in _UNITS}, provenance=provenance)

        return load_grid(path, FORMAT, "dust-emission grid", "data/README.md", build)

    @classmethod
    def default(cls) -> DustGrid:
        """The grid that ships (see `provenance`)."""
        from provabgs.data import data_path

        return cls.load(data_path(DUST_EMISSION_FILE))
