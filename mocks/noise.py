"""Noise and resolution of DESI spectra: a small model that ships, calibrated on real coadds.

Variance per 0.8 A pixel, in electrons: sky + source + read noise. With the sensitivity in electrons per flux unit it
becomes a variance of flux. ``data/build_noise_model.py`` makes the table and says from what; docs/studies/mocks.md says
how well it agrees with real coadds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from astropy import constants as const
from astropy import units as u

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.hdf5 import create, reading

FORMAT = "provabgs-noise-model-1"
NOISE_FILE = "desi_noise_model.h5"
CAMERAS: tuple[str, ...] = ("b", "r", "z")
N_DIAG = 11
PIXEL_AA = 0.8
TELESCOPE_AREA_CM2 = 8.658739e4
"""Collecting area of the Mayall with DESI's obscuration (desimodel, desi.yaml)."""
FIBER_AREA_ARCSEC2 = np.pi * 0.75**2
"""1.5 arcsec fibers."""
FIBER_ACCEPTANCE = 0.57
"""Share of a point source's light that enters a fiber in nominal 1.1 arcsec seeing (desimodel)."""
READ_NOISE_E = 3.0
"""Electrons per CCD pixel (DESI Collaboration 2022, AJ 164, 207, section 4)."""
CCD_PIXELS = 6.0
"""CCD pixels that contribute to one 0.8 A bin of an extracted spectrum (about 4.5 across, 1.3 along)."""
PHOTONS = float((1e-17 * u.erg * u.AA / (const.h * const.c)).decompose().to_value(u.dimensionless_unscaled))
"""Photons per 1e-17 erg per Angstrom of wavelength."""


class CameraNoise(NamedTuple):
    """One camera.

    All arrays ``(nwave,)`` on the camera's own grid: wavelength (Angstrom), throughput (telescope to detector, fiber
    losses apart), dark sky (1e-17 erg/s/cm2/A/arcsec2), extinction (mag per airmass). `ln_factor` and `sigma_poly`
    are polynomials in `scaled` wavelength: the calibration of sigma, and the Gaussian resolution in Angstrom.
    """

    name: str
    wave: FloatArray
    throughput: FloatArray
    sky: FloatArray
    extinction: FloatArray
    ln_factor: FloatArray
    sigma_poly: FloatArray

    @staticmethod
    def scaled(wave: FloatArray) -> FloatArray:
        """Wavelength mapped to [-1, 1] over the camera."""
        return np.asarray(2.0 * (wave - wave[0]) / (wave[-1] - wave[0]) - 1.0)

    @property
    def resolution_sigma(self) -> FloatArray:
        """``(nwave,)`` Gaussian width of the line-spread function, Angstrom."""
        return np.asarray(np.polynomial.polynomial.polyval(self.scaled(self.wave), self.sigma_poly), dtype=np.float64)

    def sigma(
        self,
        flux: FloatArray,
        seconds: float,
        sky_factor: float = 1.0,
        airmass: float = 1.0,
        read_noise: float = READ_NOISE_E,
        n_exposure: int = 1,
    ) -> FloatArray:
        """Standard deviation of flux per pixel, 1e-17 erg/s/cm2/A, in the units of DESI coadds.

        Parameters
        ----------
        flux
            ``(nwave,)`` source as in a coadd: calibrated to the *total* flux of a point source.
        seconds
            Time on the sky, all exposures together.
        sky_factor
            Sky brightness over the dark sky.
        airmass
            Of the source's extinction.
        read_noise
            Electrons per CCD pixel.
        n_exposure
            Exposures into which `seconds` are split (each is read out once).

        Raises
        ------
        InputError
            For times, sky factors, airmasses or exposure counts that cannot be.
        """
        if not (seconds > 0 and sky_factor >= 0 and airmass >= 1.0 and n_exposure >= 1 and read_noise >= 0):
            raise InputError(
                f"noise needs seconds > 0, sky >= 0, airmass >= 1, exposures >= 1; got {seconds}, {sky_factor}, "
                f"{airmass}, {n_exposure}"
            )
        per_flux = TELESCOPE_AREA_CM2 * self.throughput * self.wave * PHOTONS * PIXEL_AA * seconds
        source = per_flux * FIBER_ACCEPTANCE * 10.0 ** (-0.4 * self.extinction * airmass)
        electrons = per_flux * FIBER_AREA_ARCSEC2 * self.sky * sky_factor
        electrons = electrons + source * np.clip(flux, 0.0, None) + CCD_PIXELS * n_exposure * read_noise**2
        factor = np.exp(np.polynomial.polynomial.polyval(self.scaled(self.wave), self.ln_factor))
        return factor * np.sqrt(electrons) / source

    def resolution_matrix(self) -> FloatArray:
        """Resolution matrix in DESI's band format, ``(11, nwave)``: row d is offset 5 - d, columns are input pixels.

        Each column is a Gaussian of `resolution_sigma` at its pixel, normalised to 1 over the eleven diagonals.
        """
        shift = np.arange(N_DIAG)[:, None] - N_DIAG // 2
        kernel = np.exp(-0.5 * (shift * PIXEL_AA / self.resolution_sigma) ** 2)
        return kernel / kernel.sum(axis=0)


class Camera(Protocol):
    """What a spectrum is simulated with; `CameraNoise` says what the arguments mean."""

    @property
    def name(self) -> str:
        """Letter of the camera."""
        ...

    @property
    def wave(self) -> FloatArray:
        """``(nwave,)`` pixel centres, Angstrom."""
        ...

    def sigma(
        self, flux: FloatArray, seconds: float, sky_factor: float, airmass: float, read_noise: float, n_exposure: int
    ) -> FloatArray:
        """Standard deviation of flux per pixel."""
        ...

    def resolution_matrix(self) -> FloatArray:
        """``(11, nwave)`` in DESI's band format."""
        ...


class Noise(Protocol):
    """A noise model: the one that ships, or specsim's."""

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """Cameras by name, in order of wavelength."""
        ...


class NoiseModel(NamedTuple):
    """The three cameras."""

    cameras: dict[str, CameraNoise]
    provenance: dict[str, str]

    def save(self, path: str | Path) -> None:
        """Write as HDF5, single precision."""
        with create(path) as f:
            f.attrs["format"] = FORMAT
            for key, value in self.provenance.items():
                f.attrs[f"provenance_{key}"] = value
            for name, camera in self.cameras.items():
                group = f.create_group(name)
                for key in ("wave", "ln_factor", "sigma_poly"):
                    group[key] = getattr(camera, key)
                for key in ("throughput", "sky", "extinction"):
                    data = getattr(camera, key).astype(np.float32)
                    group.create_dataset(key, data=data, compression="gzip", compression_opts=9, shuffle=True)

    @classmethod
    def load(cls, path: str | Path | None = None) -> NoiseModel:
        """Read a model written by `save`; None reads the one that ships.

        Raises
        ------
        DataFileError
            When the file is missing or is not of this format.
        """
        from provabgs.data import data_path

        path = data_path(NOISE_FILE) if path is None else Path(path)
        with reading(path, FORMAT, "a noise model", "copy or build it again") as c:
            fields = [k for k in CameraNoise._fields if k != "name"]
            cameras = {
                name: CameraNoise(name, **{k: c.numbers(f"{name}/{k}").astype(np.float64) for k in fields})
                for name in CAMERAS
            }
            prefix = "provenance_"
            provenance = {k.removeprefix(prefix): v for k, v in c.words("").items() if k.startswith(prefix)}
        return cls(cameras, provenance)
