"""A mock galaxy as SDSS would hand it over: a spec-lite file, ``spec-PLATE-MJD-FIBER.fits``, with ugriz in its SPALL.

The data model is that of https://data.sdss.org/datamodel, files ``spec``, without the single exposures. The file is for
examples and tests of the reader: signal-to-noise is one number, and the line spread a constant 69 km/s.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from provabgs.core.arrays import FloatArray
from provabgs.core.atomic import atomic_path
from provabgs.core.errors import InputError
from provabgs.mocks.make import MockGalaxy, MockMaker
from provabgs.mocks.sed import DISK_DISPERSION_KMS
from provabgs.observe.filters import band_weights
from provabgs.observe.observation import Spectrum
from provabgs.observe.projection import camera_operator
from provabgs.surveys import load_system

LOGLAM = 3.5815 + 1e-4 * np.arange(3800)
"""log10 of vacuum wavelength, 3,815 to 9,150 Angstrom."""
WDISP = 1.0
"""Gaussian sigma of the line spread, pixels of 1e-4 dex."""
BAND_ERROR = 0.02
"""Relative error of each band."""
IDENTITY = (266, 51602, 1)
"""PLATE and MJD of the file, FIBERID of the first: plate 266 was SDSS's first of the main survey."""


def write_spec_file(
    maker: MockMaker, galaxy: MockGalaxy, folder: str | Path, *, snr: float = 15.0, fiber: int = IDENTITY[2]
) -> Path:
    """Write one mock galaxy as an SDSS spec file.

    Parameters
    ----------
    maker
        That made `galaxy`: its model and cosmology.
    galaxy
        The mock.
    folder
        Where the file goes; made when missing.
    snr
        Median signal-to-noise per pixel.
    fiber
        FIBERID; its seed, too.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    InputError
        For a signal-to-noise that is not positive.
    """
    if not snr > 0:
        raise InputError(f"snr is {snr}; give a signal-to-noise above 0")
    plate, mjd, _ = IDENTITY
    rng = np.random.default_rng([plate, mjd, fiber])
    true = _spectrum(maker, galaxy) * galaxy.photometry.fiber_fraction
    sigma = np.full(true.size, np.median(true) / snr)
    bands, fiber_band = _bands(maker, galaxy)
    measured = bands * (1.0 + BAND_ERROR * rng.standard_normal(bands.size))
    coadd = [
        fits.Column("flux", "E", unit="1E-17 erg/cm^2/s/Ang", array=true + sigma * rng.standard_normal(true.size)),
        fits.Column("loglam", "E", unit="log10(Angstroms)", array=LOGLAM),
        fits.Column("ivar", "E", array=sigma**-2),
        fits.Column("and_mask", "J", array=np.zeros(true.size, dtype=np.int32)),
        fits.Column("or_mask", "J", array=np.zeros(true.size, dtype=np.int32)),
        fits.Column("wdisp", "E", unit="pixels", array=np.full(true.size, WDISP)),
        fits.Column("sky", "E", array=np.zeros(true.size)),
        fits.Column("model", "E", array=true),
    ]
    row = [
        fits.Column("PLATE", "J", array=[plate]),
        fits.Column("MJD", "J", array=[mjd]),
        fits.Column("FIBERID", "J", array=[fiber]),
        fits.Column("PLUG_RA", "D", unit="deg", array=[galaxy.ra]),
        fits.Column("PLUG_DEC", "D", unit="deg", array=[galaxy.dec]),
        fits.Column("CLASS", "6A", array=["GALAXY"]),
        fits.Column("Z", "E", array=[galaxy.redshift]),
        fits.Column("Z_ERR", "E", array=[1e-5]),
        fits.Column("ZWARNING", "J", array=[0]),
        fits.Column("SFD_EBV", "E", array=[0.0]),
        fits.Column("MODELFLUX", "5E", unit="nanomaggy", array=[measured]),
        fits.Column("MODELFLUX_IVAR", "5E", array=[(BAND_ERROR * bands) ** -2]),
        fits.Column("FIBERFLUX", "5E", unit="nanomaggy", array=[measured * fiber_band]),
        fits.Column("EXTINCTION", "5E", unit="mag", array=[np.zeros(5)]),
    ]
    primary = fits.PrimaryHDU()
    primary.header["ORIGIN"] = "provabgs mock"
    hdus = [
        primary,
        fits.BinTableHDU.from_columns(coadd, name="COADD"),
        fits.BinTableHDU.from_columns(row, name="SPALL"),
    ]
    path = Path(folder) / f"spec-{plate:04d}-{mjd}-{fiber:04d}.fits"
    with atomic_path(path) as unfinished:
        fits.HDUList(hdus).writeto(unfinished, checksum=True)
    return path


def _spectrum(maker: MockMaker, galaxy: MockGalaxy) -> FloatArray:
    """Noiseless light of the whole galaxy on SDSS's pixels, ``(3800,)`` 1e-17 erg/s/cm2/A."""
    wave = np.power(10.0, LOGLAM, dtype=np.float64)
    frame = Spectrum("sdss", wave, np.zeros(wave.size), np.ones(wave.size), sigma_aa=WDISP * wave * np.log(10.0) * 1e-4)
    out = np.zeros(wave.size)
    sed = galaxy.sed
    for luminosity, dispersion in ((sed.disk, DISK_DISPERSION_KMS), (sed.bulge, sed.bulge_dispersion)):
        if luminosity.any():
            model_wave, flux = maker.model.observed(luminosity, galaxy.redshift, maker.cosmology)
            out += camera_operator(frame, model_wave, dispersion) @ flux
    return out


def _bands(maker: MockMaker, galaxy: MockGalaxy) -> tuple[FloatArray, float]:
    """Noiseless ugriz of the whole galaxy, ``(5,)`` nanomaggies, and the share of it in the fiber."""
    wave, flux = maker.model.observed(galaxy.sed.total, galaxy.redshift, maker.cosmology)
    bands = [band_weights(name, wave) @ flux for name in load_system("sdss").filters()]
    return np.array(bands), galaxy.photometry.fiber_fraction
