"""Template error: how far one SSP library is from another, as a few correlated components over wavelength.

At equal physical parameters, spectra made from different libraries differ by a few per cent, correlated along
wavelength, so that a white noise floor averages the difference away where it should not. Here the difference in ln L
has mean zero and covariance ``C = sum_k m_k(lambda) m_k(lambda')``: each *component* m_k is a fractional error of
the luminosity at one prior sigma, and a galaxy has one coefficient per component, for its pixels and its bands alike.
``data/build_template_error.py`` learns the components from composites of pairs of libraries;
docs/studies/template_error.md says how large they are and what they leave.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError, DataFileError, InputError
from provabgs.core.hdf5 import create, reading
from provabgs.sps.library import SSPLibrary

FORMAT = "provabgs-template-error-1"
TEMPLATE_ERROR_FILE = "template_error.h5"
GROUPS = ("all", "without-bc03", "without-emiles")
"""Components learnt from all libraries, or with one held out for validation on galaxies made of its stars."""
RANGE_SLACK = 0.01
"""Data may reach this far, as a fraction of the wavelength, beyond the components, which are constant there."""


_LARGEST = 10.0
"""Fractional error beyond which the numbers are something else."""
_ARRAYS = ("wave", "modes", "residual", "transfer")
_CURE = "build it with `python -m provabgs.data.build_template_error`, or copy it again"


@dataclass(frozen=True, eq=False)
class TemplateError:
    """Components of the template error of one SSP library.

    Attributes
    ----------
    wave
        ``(nwave,)`` rest-frame vacuum wavelength, Angstrom, increasing.
    modes
        ``(ncomponent, nwave)`` fractional error of the luminosity at unit prior sigma, largest first.
    residual
        ``(nwave,)`` rms fraction that the components leave of the differences they were learnt from.
    transfer
        ``(nwave,)`` rms fraction that components learnt without a library leave of that library's differences.
    library_sha256, library_source
        The SSP library whose error this is: its digest and the ``source`` of its provenance.
    group
        One of `GROUPS`.
    provenance
        Libraries compared, seed, command, citations.

    Raises
    ------
    InputError
        When shapes or values cannot be components.
    """

    wave: FloatArray
    modes: FloatArray
    residual: FloatArray
    transfer: FloatArray
    library_sha256: str
    library_source: str
    group: str = "all"
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = self.wave.size
        if self.wave.ndim != 1 or n < 2 or not np.all(np.diff(self.wave) > 0):
            raise InputError("template error: wavelengths must be two or more and strictly increasing")
        if not (self.wave[0] > 0 and self.wave[-1] < 1e9):
            raise InputError(f"template error: wavelengths {self.wave[0]:g} to {self.wave[-1]:g} are no Angstrom")
        for name, shape in (("modes", (len(self.modes), n)), ("residual", (n,)), ("transfer", (n,))):
            array = getattr(self, name)
            if array.shape != shape or not np.all(np.isfinite(array)):
                raise InputError(f"template error: {name} must be finite and of shape {shape}, not {array.shape}")
            if np.abs(array).max(initial=0.0) > _LARGEST:
                raise InputError(f"template error: {name} reaches {np.abs(array).max():g}; it is a fraction")

    @property
    def n_component(self) -> int:
        """Number of components."""
        return len(self.modes)

    def components(self, rest_wave: ArrayLike) -> FloatArray:
        """Components at rest-frame wavelengths.

        Parameters
        ----------
        rest_wave
            ``(n,)`` vacuum Angstrom. Beyond the table's ends the components keep their end values.

        Returns
        -------
        numpy.ndarray
            ``(n, ncomponent)`` fractional error of the luminosity per unit coefficient, of prior N(0, 1).
        """
        x = np.asarray(rest_wave, dtype=np.float64)
        right = np.clip(np.searchsorted(self.wave, x, side="right"), 1, self.wave.size - 1)
        share = np.clip((x - self.wave[right - 1]) / (self.wave[right] - self.wave[right - 1]), 0.0, 1.0)
        out: FloatArray = (self.modes[:, right - 1] * (1 - share) + self.modes[:, right] * share).T
        return out

    def floor(self, rest_wave: ArrayLike, transfer: bool = True) -> FloatArray:
        """What the components leave, for a white floor, at rest-frame wavelengths ``(n,)``, Angstrom.

        Parameters
        ----------
        rest_wave
            ``(n,)`` vacuum Angstrom.
        transfer
            True: of a library that the components were not learnt from, the case of real stars. False: of those
            that they were learnt from.

        Returns
        -------
        numpy.ndarray
            ``(n,)`` rms fraction of the luminosity.
        """
        return np.interp(
            np.asarray(rest_wave, dtype=np.float64), self.wave, self.transfer if transfer else self.residual
        )

    def check(self, library: SSPLibrary) -> None:
        """Make sure that these are the components of `library`, over all of its wavelengths.

        Raises
        ------
        ConfigError
            When `library` has other stars (`check_stars`), or reaches beyond the components.
        """
        self.check_stars(library)
        if not self.covers(library.wave[0], library.wave[-1]):
            raise ConfigError(
                f"the template error covers {self.wave[0]:.0f}-{self.wave[-1]:.0f} A, the SSP library "
                f"{library.wave[0]:.0f}-{library.wave[-1]:.0f} A; cut the library, or build components for it with "
                "`python -m provabgs.data.build_template_error`"
            )

    def check_stars(self, library: SSPLibrary) -> None:
        """Make sure that these are the components of the stars of `library`.

        The same stars are told by the library's hash, or by the ``source`` of its provenance: gas that was added, and
        wavelengths that were left out, change the hash alone. A library whose masses were expressed in those of
        another (`provabgs.sps.imf.in_masses_of`) is an alternative to that one, and may take its components.

        Raises
        ------
        ConfigError
            When `library` has other stars.
        """
        told = library.provenance
        source = told.get("source", "unknown")
        if self.library_source in (source, told.get("mass_library_source")) and self.library_source != "unknown":
            return
        digest = library.digest()
        if self.library_sha256 not in (digest, told.get("mass_library_sha256")):
            raise ConfigError(
                f"the template error was learnt for SSP library {self.library_sha256[:12]} ({self.library_source}), "
                f"the model has {digest[:12]} ({source}); build components for it with `python -m "
                "provabgs.data.build_template_error` and name them in observing.template_error_file, or set "
                "observing.template_error = 0"
            )

    def covers(self, low: float, high: float) -> bool:
        """Whether a range of wavelengths is within the table, or not farther off than `RANGE_SLACK`.

        Parameters
        ----------
        low, high
            Ends of the range, rest-frame Angstrom.

        Returns
        -------
        bool
            False where either end is beyond.
        """
        return bool(low >= self.wave[0] * (1 - RANGE_SLACK) and high <= self.wave[-1] * (1 + RANGE_SLACK))

    def digest(self) -> str:
        """SHA-256 over the numbers and the library's hash: what a posterior file records."""
        h = hashlib.sha256(f"{self.library_sha256}{self.group}".encode())
        for array in (self.wave, self.modes, self.residual, self.transfer):
            h.update(np.ascontiguousarray(array, dtype=np.float32).tobytes())
        return h.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write as one group of an HDF5 file, which is made if need be; a group of that name is replaced."""
        with create(path, "a") as f:
            f.attrs["format"] = FORMAT
            if self.group in f:
                del f[self.group]
            g = f.create_group(self.group)
            g.attrs["library_sha256"] = self.library_sha256
            g.attrs["library_source"] = self.library_source
            g.attrs["sha256"] = self.digest()
            g.create_group("provenance").attrs.update(self.provenance)
            for name, unit in (
                ("wave", "Angstrom, vacuum, rest frame"),
                ("modes", "fraction of luminosity per unit coefficient"),
                ("residual", "fraction of luminosity, rms"),
                ("transfer", "fraction of luminosity, rms"),
            ):
                data = getattr(self, name).astype(np.float32)
                g.create_dataset(name, data=data, compression="gzip", compression_opts=9, shuffle=True)
                g[name].attrs["unit"] = unit

    @classmethod
    def load(cls, path: str | Path, group: str = "all") -> TemplateError:
        """Read one group of a file written by `save`.

        Parameters
        ----------
        path
            HDF5 file.
        group
            One of those in the file.

        Returns
        -------
        TemplateError
            Double precision.

        Raises
        ------
        DataFileError
            When the file is missing or damaged, or is not such a file.
        ConfigError
            When it has no such group.
        """
        with reading(Path(path), FORMAT, "a template error", _CURE) as c:
            groups = [name for name in c.attrs if name and "/" not in name]
            if group not in groups:
                raise ConfigError(f"{path}: no group {group!r}; it has {', '.join(groups)} (template_error_group)")
            arrays = {k: c.numbers(f"{group}/{k}").astype(np.float64) for k in _ARRAYS}
            out = cls(
                **arrays,
                library_sha256=c.text("library_sha256", group),
                library_source=c.text("library_source", group),
                group=group,
                provenance=c.words(f"{group}/provenance"),
            )
            if out.digest() != c.text("sha256", group):
                raise DataFileError(f"{path}: content does not match its recorded SHA-256; damaged, copy it again")
        return out

    @classmethod
    def default(cls, group: str = "all") -> TemplateError:
        """The components that ship, for the library that ships (`SSPLibrary.default`)."""
        from provabgs.data import data_path

        return cls.load(data_path(TEMPLATE_ERROR_FILE), group)
