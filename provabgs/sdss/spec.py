"""SDSS and BOSS spectra, in the ``spec-PLATE-MJD-FIBER.fits`` files of Data Release 9 and later.

Wavelengths there are in vacuum, fluxes in 1e-17 erg/s/cm2/A and not corrected for Galactic dust; the line-spread
function is Gaussian, of a dispersion that the column ``wdisp`` gives for each pixel (in pixels of 1e-4 dex). The data
model is that of https://data.sdss.org/datamodel, files ``spec`` and ``spAll``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from provabgs.core.errors import DataFileError, InputError, UnusableTargetError
from provabgs.core.status import Status
from provabgs.desi.columns import Kind
from provabgs.desi.fitsfile import Columns, FitsFile, open_fits
from provabgs.observe.observation import Observation, Photometry
from provabgs.observe.other_spectra import make_spectrum
from provabgs.observe.target import TargetResult

_PIXELS: dict[str, Kind] = {"FLUX": "number", "LOGLAM": "number", "IVAR": "number", "AND_MASK": "whole",
                            "WDISP": "number"}  # fmt: skip
_OBJECT: dict[str, Kind] = {
    **dict.fromkeys(("PLATE", "MJD", "FIBERID", "ZWARNING"), "whole"),
    **dict.fromkeys(("Z", "Z_ERR", "PLUG_RA", "PLUG_DEC", "VDISP", "VDISP_ERR", "SFD_EBV", "EBV"), "number"),
    "CLASS": "text",
}
DEX_PER_PIXEL = 1e-4
PLATE_MAX, MJD_MAX, FIBER_MAX = 99_999, 99_999, 9_999


@dataclass(frozen=True)
class SpecOptions:
    """What the reader is told.

    Attributes
    ----------
    allow_zwarning
        Fit spectra whose ZWARNING is set, too.
    allow_non_galaxy
        Fit spectra whose CLASS is not GALAXY, too.
    ebv
        SFD E(B-V), magnitudes, of files that give none; not corrected when None.
    verify
        Whether checksums are looked at.
    """

    allow_zwarning: bool = False
    allow_non_galaxy: bool = False
    ebv: float | None = None
    verify: bool = True


def targetid_of(plate: int, mjd: int, fiber: int) -> int:
    """A TARGETID that can be read: PPPPPMMMMMFFFF of plate, MJD and fiber.

    Parameters
    ----------
    plate, mjd, fiber
        Of the spectrum.

    Raises
    ------
    InputError
        For numbers that no spectrum has.
    """
    for name, value, most in (("PLATE", plate, PLATE_MAX), ("MJD", mjd, MJD_MAX), ("FIBERID", fiber, FIBER_MAX)):
        if not 0 < value <= most:
            raise InputError(f"{name} {value} is that of no spectrum (1 to {most})")
    return (plate * 100_000 + mjd) * 10_000 + fiber


def read_spec(
    path: str | Path,
    options: SpecOptions | None = None,
    *,
    redshift: float | None = None,
    photometry: Photometry | None = None,
) -> TargetResult:
    """Read one spectrum.

    Parameters
    ----------
    path
        A ``spec-*.fits`` file.
    options
        Defaults when None.
    redshift
        In place of the pipeline's.
    photometry
        Total fluxes, which the file does not have.

    Returns
    -------
    TargetResult
        An observation, or the STATUS and the reason why the galaxy cannot be fitted.

    Raises
    ------
    DataFileError
        When the file is missing, damaged or of another kind.
    """
    options, path = options or SpecOptions(), Path(path)
    with open_fits(path, verify=options.verify) as file:
        pixels, row = _pixels(file), _object(file)
    targetid = _identity(row, path)
    place = {"ra": row.get("PLUG_RA", np.nan), "dec": row.get("PLUG_DEC", np.nan)}
    try:
        z = _redshift(row, options, redshift)
        ebv, note = _ebv(row, options)
        observation = _observation(pixels, row, z, ebv, targetid, photometry, place)
    except UnusableTargetError as error:
        return TargetResult(targetid, 0, None, Status(error.status), str(error), **place)
    except InputError as error:
        return TargetResult(targetid, 0, None, Status.BAD_DATA, str(error), **place)
    return TargetResult(targetid, 0, observation, None, note)


def _pixels(file: FitsFile) -> Columns:
    """Columns of the coadded spectrum."""
    if "COADD" not in file.names:
        raise DataFileError(f"{file.path}: is not an SDSS spec file: no HDU COADD; give spec-PLATE-MJD-FIBER.fits")
    columns, odd = file.read_columns(file["COADD"], _PIXELS)
    for name in ("FLUX", "LOGLAM", "IVAR"):
        if name not in columns:
            raise DataFileError(f"{file.path}, HDU COADD: column {name} {odd.get(name, 'is missing')}")
    return columns


def _object(file: FitsFile) -> dict[str, Any]:
    """The row of the pipeline's results."""
    name = next((n for n in ("SPECOBJ", "SPALL") if n in file.names), None)
    if name is None:
        raise DataFileError(f"{file.path}: has no HDU SPECOBJ or SPALL, and so no redshift and no identity")
    columns, odd = file.read_columns(file[name], _OBJECT)
    for needed in ("PLATE", "MJD", "FIBERID"):
        if needed not in columns or not columns[needed].size:
            raise DataFileError(f"{file.path}, HDU {name}: column {needed} {odd.get(needed, 'is missing')}")
    return {k: v[0].item() for k, v in columns.items()}


def _identity(row: dict[str, Any], path: Path) -> int:
    try:
        return targetid_of(row["PLATE"], row["MJD"], row["FIBERID"])
    except InputError as error:
        raise DataFileError(f"{path}: {error}; the file is damaged") from None


def _redshift(row: dict[str, Any], options: SpecOptions, given: float | None) -> float:
    """The redshift, or why the pipeline's cannot be used."""
    if given is not None:
        return given
    kind, warning = str(row.get("CLASS", "")).strip(), int(row.get("ZWARNING", 0))
    if kind and kind != "GALAXY" and not options.allow_non_galaxy:
        raise UnusableTargetError(
            f"CLASS is {kind}; fit it with allow_non_galaxy, or give its redshift, if it is a galaxy",
            Status.NOT_A_GALAXY,
        )
    if warning and not options.allow_zwarning:
        raise UnusableTargetError(
            f"ZWARNING is {warning}; fit it with allow_zwarning, or give its redshift", Status.REDSHIFT_WARNING
        )
    if "Z" not in row:
        raise UnusableTargetError("the file has no redshift (column Z); give one", Status.NO_REDSHIFT)
    return float(row["Z"])


def _ebv(row: dict[str, Any], options: SpecOptions) -> tuple[float, str]:
    """E(B-V) and a note where none is known."""
    for name in ("SFD_EBV", "EBV"):
        if np.isfinite(row.get(name, np.nan)):
            return float(row[name]), ""
    if options.ebv is not None:
        return options.ebv, ""
    return 0.0, "no E(B-V) known: not corrected for Galactic dust (option ebv)"


def _observation(
    pixels: Columns,
    row: dict[str, Any],
    z: float,
    ebv: float,
    targetid: int,
    photometry: Photometry | None,
    place: dict[str, float],
) -> Observation:
    wave = 10.0 ** np.asarray(pixels["LOGLAM"], dtype=np.float64)
    ivar = np.asarray(pixels["IVAR"], dtype=np.float64)
    flux = np.asarray(pixels["FLUX"], dtype=np.float64)
    bad = ~(np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0))
    sigma: Any = 0.0
    if "WDISP" in pixels:
        width = np.asarray(pixels["WDISP"], dtype=np.float64)
        bad |= ~(np.isfinite(width) & (width > 0))
        sigma = np.where(bad, 1.0, width) * wave * (np.log(10.0) * DEX_PER_PIXEL)
    if "AND_MASK" in pixels:
        bad |= pixels["AND_MASK"] != 0
    clean = np.where(np.isfinite(flux), flux, 0.0)
    spectrum = make_spectrum(wave, clean, ivar=np.where(bad, 0.0, ivar), sigma_aa=sigma, ebv=ebv, camera="sdss")
    meta = {k: row[k] for k in ("PLATE", "MJD", "FIBERID", "VDISP", "VDISP_ERR") if k in row} | {"EBV": ebv}
    zerr = float(row.get("Z_ERR", np.nan))
    ra, dec = place["ra"], place["dec"]
    return Observation(z, (spectrum,), photometry, targetid=targetid, ra=ra, dec=dec, zerr=zerr, meta=meta)
