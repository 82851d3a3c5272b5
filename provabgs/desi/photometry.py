"""Legacy Surveys photometry of one target: Galactic dust taken out exactly once, filters by photometric system.

A row is a plain mapping of upper-case column names to scalars, so that FIBERMAP, Tractor, sweep and FastSpecFit rows
take one road.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from astropy.coordinates import SkyCoord

from provabgs.core.errors import UnusableTargetError
from provabgs.core.status import Status
from provabgs.observe.extinction import check_ebv
from provabgs.observe.observation import Photometry
from provabgs.surveys import load_system

Row = Mapping[str, Any]

LEGACY = load_system("legacy")
"""The Legacy Surveys, which DESI's photometry comes from."""
PHOTSYS: tuple[str, ...] = LEGACY.variants.names if LEGACY.variants else ()
DEFAULT_BANDS: tuple[str, ...] = LEGACY.fitted_bands()
"""Bands that are fitted unless told otherwise, as in the published catalog."""

RELEASE_PHOTSYS: dict[int, str] = {
    **dict.fromkeys((3000, 5000, 7000, 8000, 9010, 9012, 10000), "S"),
    **dict.fromkeys((4000, 6000, 8001, 9011), "N"),
}
"""Photometric system of releases of the Legacy Surveys (DR3-DR10; DESI's targets come from DR8 and later)."""
NORTH_DEC = 32.375
"""Degrees. DESI takes BASS + MzLS north of this and of the Galactic plane, DECam elsewhere (Myers et al. 2023)."""


class TargetPhotometry(NamedTuple):
    """What a row says about one target's total light.

    Attributes
    ----------
    photometry
        Corrected for Galactic dust; None when no band is measured.
    photsys
        ``"N"``, ``"S"``, or ``""`` when there was nothing that needed it.
    notes
        What was mended on the way, for people.
    """

    photometry: Photometry | None
    photsys: str
    notes: tuple[str, ...]


def finite(row: Row, key: str) -> float:
    """``row[key]`` as a float, NaN when absent or not a number."""
    value = row.get(key)
    try:
        return float("nan") if value is None else float(value)
    except (TypeError, ValueError):
        return float("nan")


class PhotSys(NamedTuple):
    """Which filters a row's fluxes were taken with, and what is to be said about that."""

    name: str
    """``"N"`` (BASS, MzLS) or ``"S"`` (DECam)."""
    note: str = ""


def find_photsys(row: Row) -> PhotSys:
    """``"N"`` or ``"S"`` from PHOTSYS, else RELEASE, else the position; PHOTSYS and RELEASE must agree.

    Raises
    ------
    UnusableTargetError
        (BAD_DATA) when none of the three is there, and when PHOTSYS and RELEASE contradict each other.
    """
    given = str(row.get("PHOTSYS") or "").strip().upper()
    release = finite(row, "RELEASE")
    by_release = RELEASE_PHOTSYS.get(int(release)) if math.isfinite(release) else None
    unknown = f"RELEASE {release:g} is not known" if math.isfinite(release) and release > 0 and not by_release else ""
    if given in PHOTSYS:
        if by_release is not None and by_release != given:
            raise UnusableTargetError(
                f"PHOTSYS is {given} and RELEASE {release:g}, which is {by_release}'s: which filters took the "
                "photometry cannot be told; correct one of them, or leave the photometry out",
                Status.BAD_DATA,
            )
        return PhotSys(given, f"{unknown}, filters by PHOTSYS {given}" if unknown else "")
    if by_release is not None:
        return PhotSys(by_release)
    ra, dec = position(row)
    if math.isfinite(ra) and math.isfinite(dec):
        north = dec >= NORTH_DEC and float(SkyCoord(ra, dec, unit="deg").galactic.b.deg) > 0
        name = "N" if north else "S"
        return PhotSys(name, f"{unknown or 'neither PHOTSYS nor RELEASE is given'}, filters of {name} by the position")
    raise UnusableTargetError(
        f"PHOTSYS is {given!r}, RELEASE {release:g} and the position is unknown: which filters took the photometry "
        "cannot be told; set PHOTSYS to N or S, or leave the photometry out",
        Status.BAD_DATA,
    )


def position(row: Row) -> tuple[float, float]:
    """``(ra, dec)`` in degrees from TARGET_RA/DEC or RA/DEC, NaN where unknown."""
    for prefix in ("TARGET_", ""):
        ra, dec = finite(row, f"{prefix}RA"), finite(row, f"{prefix}DEC")
        if math.isfinite(ra) and math.isfinite(dec) and abs(dec) <= 90 and abs(ra) <= 360:
            return ra, dec
    return float("nan"), float("nan")


def checked_ebv(row: Row, override: float | None = None) -> float:
    """E(B-V) of a row (or `override`); `UnusableTargetError` (BAD_DATA) when NaN, negative or absent."""
    try:
        return check_ebv(finite(row, "EBV") if override is None else override)
    except ValueError as error:
        raise UnusableTargetError(str(error), Status.BAD_DATA) from error


def target_photometry(
    row: Row, ebv: float, bands: Sequence[str] = DEFAULT_BANDS, *, corrected: bool = False
) -> TargetPhotometry:
    """Total fluxes of one row, free of Galactic dust.

    Parameters
    ----------
    row
        Columns of fluxes (nanomaggies) and inverse variances, PHOTSYS or what `find_photsys` needs.
    ebv
        SFD E(B-V); not used when `corrected`.
    bands
        Bands of the Legacy Surveys to take, in any letter case; those that the row lacks are left out.
    corrected
        The fluxes are already free of Galactic dust (FastSpecFit's FLUX_*), and nothing is done to them.

    Raises
    ------
    UnusableTargetError
        (BAD_DATA) when measured fluxes cannot be given filters.
    """
    chosen = [LEGACY.band(b) for b in bands]
    wanted = [b for b in chosen if b.flux in row and b.ivar in row]
    flux = np.array([finite(row, b.flux) for b in wanted], dtype=np.float64)
    ivar = np.array([finite(row, b.ivar) for b in wanted], dtype=np.float64)
    # Reductions before 2022 write -1 for an ivar that targeting did not keep.
    impossible = ~np.isfinite(ivar) | (ivar < 0) | (~np.isfinite(flux) & (ivar > 0))
    notes = [f"{b.flux}: NaN or impossible ivar, band not used" for b, x in zip(wanted, impossible, strict=True) if x]
    ivar = np.where(impossible, 0.0, ivar)
    flux = np.where(ivar > 0, flux, 0.0)
    if not np.any(ivar > 0):
        return TargetPhotometry(None, "", (*notes, "no photometry is measured"))
    photsys, note = find_photsys(row)
    notes += [note] if note else []
    filters = [b.filter_at(photsys) for b in wanted]
    lost = [b.flux for b, name, w in zip(wanted, filters, ivar, strict=True) if name is None and w > 0]
    notes += [f"{column} has no filter at PHOTSYS {photsys}, band not used" for column in lost]
    known = [i for i, name in enumerate(filters) if name is not None]
    flux, ivar = flux[known], ivar[known]
    if not np.any(ivar > 0):
        return TargetPhotometry(None, photsys, (*notes, "no photometry is measured"))
    names = [name for name in filters if name is not None]
    photometry = LEGACY.photometry(names, flux, ivar, None if corrected else ebv)
    return TargetPhotometry(photometry, photsys, tuple(notes))


def fiber_transmission(row: Row, ebv: float, band: str) -> float:
    """Galactic transmission in a band's filter, to undo half-corrected catalogs.

    Parameters
    ----------
    row
        Columns that `find_photsys` needs.
    ebv
        SFD E(B-V), magnitudes.
    band
        Band of the Legacy Surveys, in any letter case.

    Raises
    ------
    UnusableTargetError
        (BAD_DATA) when the photometric system is unknown, or lacks the band.
    """
    photsys = find_photsys(row).name
    name = LEGACY.band(band).filter_at(photsys)
    if name is None:
        raise UnusableTargetError(f"band {band} has no filter at PHOTSYS {photsys}", Status.BAD_DATA)
    return LEGACY.transmission(name, ebv, photsys)
