"""Light of SSPs below the first wavelength of a library: shapes of BC03, scaled by the library's own light.

The SSP library that ships begins at 2005 A. What lies below is needed twice: bands such as GALEX FUV and NUV see it,
and dust absorbs it. Here it is, at each age and metallicity, BC03's light over BC03's light at 2005-2105 A, times the
library's light at 2005-2105 A. Neither gas (Lyman alpha, nebular continuum) nor the intergalactic medium is in it.
``data/build_ultraviolet.py`` makes the tables; docs/studies/ultraviolet.md says how far they can be trusted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.errors import InputError
from provabgs.core.hdf5 import Contents
from provabgs.sps.gridfile import load_grid, save_grid
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.library import SSPLibrary

FORMAT = "provabgs-ultraviolet-1"
ULTRAVIOLET_FILE = "ultraviolet_bc03.h5"
REFERENCE_BAND = (2005.0, 2105.0)
"""Stretch, Angstrom, by whose light the ultraviolet is scaled."""
LATEST_START_AA = 2055.0
"""A library that begins later has too little light in the reference band to scale the ultraviolet by."""
_FLOOR = 1e-12
_UNITS = {
    "wave": "Angstrom, vacuum",
    "log_z": "log10 of absolute stellar Z",
    "log_age": "log10(yr)",
    "ratio": "1/Angstrom; luminosity density over light at 2005-2105 A; on axes log_z, log_age, wave",
    "cell_edges": "Angstrom, vacuum",
    "cell_ratio": "light of a cell over light at 2005-2105 A; on axes log_z, log_age, cell",
}


class UltravioletLight(NamedTuple):
    """Spectra of SSPs below a library's first wavelength."""

    wave: FloatArray
    """``(nwave,)`` Angstrom, increasing; ends below the library's first."""
    spectrum: SingleArray
    """``(nmet, nage, nwave)`` Lsun/Angstrom per Msun formed."""


@dataclass(frozen=True, eq=False)
class UltravioletShapes:
    """Ultraviolet light of SSPs relative to their light in `REFERENCE_BAND`.

    Attributes
    ----------
    wave
        ``(nwave,)`` Angstrom, increasing.
    log_z, log_age
        ``(nz,)`` log10 of absolute Z; ``(nage,)`` log10 of age in years.
    ratio
        ``(nz, nage, nwave)`` 1/Angstrom.
    cell_edges
        ``(ncell + 1,)`` Angstrom, increasing; they reach into the ionising light.
    cell_ratio
        ``(nz, nage, ncell)`` light of each cell.
    provenance
        Sources, licence, citation, command, known errors.

    Raises
    ------
    InputError
        When shapes, order or values cannot be such tables.
    """

    wave: FloatArray
    log_z: FloatArray
    log_age: FloatArray
    ratio: NDArray[np.float32]
    cell_edges: FloatArray
    cell_ratio: NDArray[np.float32]
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("wave", "log_z", "log_age", "cell_edges"):
            axis = getattr(self, name)
            if axis.ndim != 1 or axis.size < 2 or not np.all(np.diff(axis) > 0):
                raise InputError(f"ultraviolet: axis {name!r} must be one-dimensional and strictly increasing")
            if not np.all(np.isfinite(axis)) or (name in ("wave", "cell_edges") and axis[0] <= 0):
                raise InputError(f"ultraviolet: axis {name!r} must be finite, wavelengths above 0")
        if self.wave[-1] >= REFERENCE_BAND[0]:
            raise InputError(f"ultraviolet: wavelengths must end below {REFERENCE_BAND[0]:g} A")
        stars = (self.log_z.size, self.log_age.size)
        for name, n in (("ratio", self.wave.size), ("cell_ratio", self.cell_edges.size - 1)):
            values = getattr(self, name)
            if values.shape != (*stars, n):
                raise InputError(f"ultraviolet: {name!r} has shape {values.shape}, its axes say {(*stars, n)}")
            if not np.all(np.isfinite(values)) or values.min() < 0:
                raise InputError(f"ultraviolet: {name!r} holds NaN, infinite or negative numbers")

    def below(self, library: SSPLibrary) -> UltravioletLight | None:
        """Spectra of a library's SSPs at the wavelengths that it lacks.

        Parameters
        ----------
        library
            Stars alone: gas at 2005-2105 A would count as stars.

        Returns
        -------
        UltravioletLight or None
            None where nothing is missing, or the library begins too late to be continued (`LATEST_START_AA`).
        """
        first = float(library.wave[0])
        missing = self.wave < first
        if first > LATEST_START_AA or not missing.any():
            return None
        light = self._scaled(library, self.ratio[..., missing])
        return UltravioletLight(self.wave[missing], light.astype(np.float32))

    def cells(self, library: SSPLibrary) -> FloatArray:
        """Light of a library's SSPs in the cells, ``(nmet, nage, ncell)`` Lsun per Msun formed."""
        return self._scaled(library, self.cell_ratio)

    def _scaled(self, library: SSPLibrary, ratio: NDArray[np.float32]) -> FloatArray:
        """Ratios at a library's ages and metallicities times its light; logarithms are linear in both axes."""
        wz = np.asarray(hat_weights(np.log10(library.metallicity), self.log_z))
        wa = np.asarray(hat_weights(np.asarray(library.log_age, np.float64), self.log_age))
        logs = np.log(np.maximum(ratio.astype(np.float64), _FLOOR))
        shape = np.exp(np.einsum("kz,ja,zan->kjn", wz, wa, logs, optimize=True))
        return np.asarray(shape * reference_light(library)[..., None])

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
    def load(cls, path: str | Path) -> UltravioletShapes:
        """Read tables written by `save`.

        Raises
        ------
        DataFileError
            When the file is missing, not HDF5, no such tables, or its content does not match its hash.
        """

        def build(contents: Contents, provenance: dict[str, str]) -> UltravioletShapes:
            return cls(**{name: contents.numbers(name) for name in _UNITS}, provenance=provenance)

        return load_grid(path, FORMAT, "table of ultraviolet light", "data/README.md", build)

    @classmethod
    def default(cls) -> UltravioletShapes:
        """The tables that ship (see `provenance`), read once per process."""
        return _default()


@lru_cache(maxsize=1)
def _default() -> UltravioletShapes:
    from provabgs.data import data_path

    return UltravioletShapes.load(data_path(ULTRAVIOLET_FILE))


def reference_light(library: SSPLibrary) -> FloatArray:
    """Light of SSPs in the reference band, ``(nmet, nage)`` Lsun per Msun formed; scaled up where it is cut off."""
    low, high = REFERENCE_BAND
    wave = np.unique(np.concatenate([[max(low, library.wave[0]), high], library.wave]))
    wave = wave[(wave >= low) & (wave <= high) & (wave >= library.wave[0])]
    right = np.clip(np.searchsorted(library.wave, wave), 1, library.wave.size - 1)
    x = (wave - library.wave[right - 1]) / (library.wave[right] - library.wave[right - 1])
    s = library.spectrum[..., right - 1] * (1 - x) + library.spectrum[..., right] * x
    return np.asarray(np.trapezoid(s, wave, axis=-1) * (high - low) / (wave[-1] - wave[0]))


def extended(library: SSPLibrary, light: UltravioletLight) -> SSPLibrary:
    """A library with ultraviolet light put before its own, which stays as it is.

    Parameters
    ----------
    library
        Stars, with or without gas.
    light
        From `UltravioletShapes.below` of the same stars.

    Returns
    -------
    SSPLibrary
        Its first `borrowed` nodes are not its own: bands may use them, spectra may not.

    Raises
    ------
    InputError
        When the light does not end below the library's first wavelength.
    """
    if light.wave[-1] >= library.wave[0]:
        raise InputError(
            f"ultraviolet light to {light.wave[-1]:.0f} A overlaps the SSP library, which begins at "
            f"{library.wave[0]:.0f} A"
        )
    return replace(
        library,
        wave=np.concatenate([light.wave, library.wave]),
        spectrum=np.concatenate([light.spectrum, library.spectrum], axis=-1),
        line_nodes=library.line_nodes + light.wave.size,
        borrowed=light.wave.size,
        provenance=library.provenance | {"ultraviolet": f"below {library.wave[0]:.0f} A: shapes of BC03, scaled"},
    )
