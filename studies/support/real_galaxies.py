"""Real spectra that others have fitted: SDSS and LEGA-C galaxies of pPXF's examples, DESI data of FastSpecFit's tests.

    pip download --no-deps ppxf==9.5.2 fastspecfit==3.6.1     (wheels; unpack both into one folder)
    pip download --no-deps --no-binary :all: ppxf==8.2.6      (NGC 4636; unpack beside them)

Nothing of them is kept here. None of the spectra but DESI's is corrected for Galactic extinction (E(B-V) of a few
hundredths): the calibration term of the noise model takes it up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits

from provabgs import Observation, Photometry, Spectrum
from provabgs.core.constants import C_AA, NANOMAGGY_CGS, SPECTRUM_UNIT
from provabgs.core.errors import DataFileError
from provabgs.desi import read_observation
from provabgs.observe.filters import effective_wavelength
from provabgs.sdss import read_spec
from provabgs.sps.sources.air import air_to_vacuum

NGC3073_BANDS = {
    "sdss2010-u": 0.69,
    "sdss2010-g": 1.1,
    "sdss2010-r": 0.97,
    "sdss2010-i": 0.83,
    "sdss2010-z": 0.70,
    "twomass-J": 0.50,
    "twomass-H": 0.34,
    "twomass-Ks": 0.16,
}
"""Flux densities per Angstrom over the median of the spectrum, as pPXF's example gives them; its error is 1 %."""


class RealGalaxy(NamedTuple):
    """A galaxy, and what others found."""

    observation: Observation
    published: str


def _file(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    if not found:
        raise DataFileError(f"{folder}: holds no {name}; see the head of studies/support/real_galaxies.py")
    return found[0]


BLUEST_AA = 3600.0
"""Rest-frame Angstrom from which on the library has the resolution of MILES."""


def sdss(path: Path, redshift: float) -> Spectrum:
    """The spectrum of an SDSS spec file, without what is bluer than the library's good part."""
    seen = read_spec(path, redshift=redshift).observation
    assert seen is not None
    spectrum = seen.spectra[0]
    return replace(spectrum, ivar=np.where(spectrum.wave / (1 + redshift) < BLUEST_AA, 0.0, spectrum.ivar))


def _ngc(name: str, redshift: float, published: str) -> Callable[[Path], RealGalaxy]:
    def read(folder: Path) -> RealGalaxy:
        spectrum = sdss(_file(folder, name), redshift)
        return RealGalaxy(Observation(redshift=redshift, spectra=(spectrum,)), published)

    return read


def _ngc3073(folder: Path) -> RealGalaxy:
    redshift = 0.003763
    spectrum = sdss(_file(folder, "NGC3073_SDSS_DR18.fits"), redshift)
    level = float(np.median(spectrum.flux))
    lam = np.array([effective_wavelength(b) for b in NGC3073_BANDS])
    nmgy = np.array(list(NGC3073_BANDS.values())) * level * SPECTRUM_UNIT * lam**2 / C_AA / NANOMAGGY_CGS
    bands = Photometry(tuple(NGC3073_BANDS), nmgy, 1 / (0.02 * nmgy) ** 2)
    observation = Observation(redshift=redshift, spectra=(spectrum,), photometry=bands, fiber_fraction=(1.0, 0.05))
    return RealGalaxy(observation, "light-weighted lg age 8.63, [M/H] -0.19, M*/L_r 1.31 (Salpeter)")


def _legac(folder: Path) -> RealGalaxy:
    with fits.open(_file(folder, "legac_M19_56670_v3.0.fits")) as hdus:
        wave, flux, error, bad = (np.ravel(hdus[1].data[k]) for k in ("WAVE", "FLUX", "ERR", "QUAL"))
    good = np.isfinite(flux) & np.isfinite(error) & (error > 0) & (bad == 0)
    inside = slice(np.flatnonzero(good)[0], np.flatnonzero(good)[-1] + 1)
    wave, good = air_to_vacuum(wave[inside].astype(float)), good[inside]
    flux = np.where(good, flux[inside], 0.0) * 1e-2
    ivar = np.divide(1e4, error[inside].astype(float) ** 2, out=np.zeros(flux.size), where=good)
    spectrum = Spectrum("vimos", wave, flux, ivar, sigma_aa=float(np.median(wave)) / 3500 / 2.355)
    return RealGalaxy(Observation(redshift=0.6686, spectra=(spectrum,)), "lg M* 11.64, dispersion 221 km/s")


def _lrg_stack(folder: Path) -> RealGalaxy:
    with fits.open(_file(folder, "stack-LRG.fits")) as hdus:
        z = float(hdus["STACKINFO"].data["ZMED"][0])
        rest, flux, ivar = (hdus[k].data.ravel().astype(float) for k in ("WAVE", "FLUX", "IVAR"))
    spectrum = Spectrum("stack", rest * (1 + z), flux, ivar, sigma_aa=0.7)
    return RealGalaxy(Observation(redshift=z, spectra=(spectrum,)), "a stack of 5 luminous red galaxies; flux in units")


def _starburst(folder: Path) -> RealGalaxy:
    coadd = _file(folder, "coadd-4-80613-thru20210324.fits")
    return RealGalaxy(read_observation(coadd, 39633345008634465), "lg M* 9.2-9.9")


GALAXIES: dict[str, Callable[[Path], RealGalaxy]] = {
    "ngc3522": _ngc("NGC3522_SDSS_DR18.fits", 0.004018, "lg age 9.86, [M/H] -0.05-0.005, M*/L_r 4.3-4.6 (Salpeter)"),
    "ngc3073": _ngc3073,
    "ngc4636": _ngc("NGC4636_SDSS_DR12.fits", 0.003025, "a giant elliptical: old, metal-rich"),
    "legac-56670": _legac,
    "lrg-stack": _lrg_stack,
    "starburst": _starburst,
}
