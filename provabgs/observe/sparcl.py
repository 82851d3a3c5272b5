"""Spectra from SPARCL, NOIRLab's database of SDSS, BOSS and DESI spectra, as its client hands them over.

The functions take records, not the client: `sparclclient` connects to its server when it is made, and its records are
plain dictionaries. Fields, and their units in ``results.hdr["UNITS"]``, are those of sparclclient 1.3
(https://sparclclient.readthedocs.io): wavelengths in vacuum; ``wave_sigma`` in pixels of 1e-4 dex for SDSS and BOSS, in
Angstrom for DESI; fluxes as their surveys calibrate them, not corrected for Galactic dust. Ask for

    include=["sparcl_id", "specid", "targetid", "data_release", "redshift", "redshift_err", "redshift_warning",
             "spectype", "ra", "dec", "wavelength", "flux", "ivar", "mask", "wave_sigma"]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError, UnusableTargetError
from provabgs.core.identity import NO_ID, exact_id
from provabgs.core.status import Status
from provabgs.observe.observation import Observation, Photometry
from provabgs.observe.other_spectra import make_spectrum
from provabgs.observe.plain import SPECTRUM_UNIT, WAVE_UNIT
from provabgs.observe.target import TargetResult

NEEDED = ("wavelength", "flux", "ivar")
PIXEL_DEX = 1e-4
"""Pixels of SDSS and BOSS, log10 of wavelength."""
_LSF_UNITS = {"DESI": "AA", "SDSS": "pixel", "BOSS": "pixel"}
_KEPT = ("sparcl_id", "specid", "data_release", "survey", "program", "healpix", "plate", "mjd", "fiberid")


def from_sparcl(
    record: Mapping[str, Any],
    *,
    redshift: float | None = None,
    ebv: float | None = None,
    photometry: Photometry | None = None,
    fiber_fraction: tuple[float, float] | None = None,
    allow_warning: bool = False,
    allow_non_galaxy: bool = False,
    units: Mapping[str, str | None] | None = None,
) -> Observation:
    """An `Observation` from one record that SPARCL's client retrieved.

    Parameters
    ----------
    record
        Fields by name; see the module.
    redshift
        In place of the record's, with no look at its warning and type.
    ebv
        SFD E(B-V), magnitudes; the record's ``ebv`` where None, and not corrected where it has none.
    photometry
        Total fluxes.
    fiber_fraction
        Mean and sigma of the prior on spectrum flux over total flux.
    allow_warning, allow_non_galaxy
        Take records whose redshift_warning is set, or whose spectype is not GALAXY.
    units
        Units by field, as ``results.hdr["UNITS"][data_release]`` has them; the survey's where None.

    Returns
    -------
    Observation
        Validated. TARGETID is ``targetid``, else ``specid`` where it is no negative number; ``meta`` has SPARCL_ID,
        SPECID, DATA_RELEASE.

    Raises
    ------
    InputError
        When a field is not there, or a unit is none of a spectrum's.
    UnusableTargetError
        When the record cannot be fitted; carries its `Status`.
    """
    observation, _ = _read(
        record, redshift, ebv, photometry, fiber_fraction, (allow_warning, allow_non_galaxy), units or {}
    )
    return observation


def read_sparcl(
    results: Any,
    *,
    ebv: Mapping[str, float] | float | None = None,
    allow_warning: bool = False,
    allow_non_galaxy: bool = False,
) -> list[TargetResult]:
    """All records of a retrieval, each an observation or the reason why not.

    Parameters
    ----------
    results
        What ``client.retrieve`` returns, or an iterable of its records.
    ebv
        SFD E(B-V), magnitudes, of all, or by ``sparcl_id``; see `from_sparcl`.
    allow_warning, allow_non_galaxy
        See `from_sparcl`.

    Returns
    -------
    list of TargetResult
        In the order of the records; ``row`` is the position.

    Raises
    ------
    InputError
        When `results` holds no records.
    """
    records = getattr(results, "records", results)
    if isinstance(records, (Mapping, str)) or not isinstance(records, Iterable):
        raise InputError(f"{type(results).__name__} holds no records; give what client.retrieve returned")
    by_release = getattr(results, "hdr", {}).get("UNITS", {})
    found = []
    for row, record in enumerate(records):
        units = by_release.get(record.get("data_release", record.get("_dr")), {})
        dust = ebv.get(str(record.get("sparcl_id"))) if isinstance(ebv, Mapping) else ebv
        found.append(_result(record, row, dust, (allow_warning, allow_non_galaxy), units))
    return found


def _result(
    record: Mapping[str, Any], row: int, ebv: float | None, allow: tuple[bool, bool], units: Mapping[str, str | None]
) -> TargetResult:
    targetid = NO_ID
    ra, dec = _number(record, "ra"), _number(record, "dec")
    try:
        targetid = _identity(record)
        observation, notes = _read(record, None, ebv, None, None, allow, units)
        result = TargetResult(targetid, row, observation, None, "; ".join(notes))
    except UnusableTargetError as error:
        result = TargetResult(targetid, row, None, Status(error.status), str(error), ra, dec)
    except InputError as error:
        result = TargetResult(targetid, row, None, Status.INPUT_ERROR, str(error), ra, dec)
    return result.named(f"sparcl {record.get('sparcl_id', row)}")


def _read(
    record: Mapping[str, Any],
    redshift: float | None,
    ebv: float | None,
    photometry: Photometry | None,
    fiber_fraction: tuple[float, float] | None,
    allow: tuple[bool, bool],
    units: Mapping[str, str | None],
) -> tuple[Observation, list[str]]:
    """An observation, and notes for people."""
    if not isinstance(record, Mapping):
        raise InputError(f"a record of SPARCL is a dictionary of fields, not {record!r:.60}; give results.records[0]")
    lacking = [name for name in NEEDED if record.get(name) is None]
    if len(lacking) == len(NEEDED) and record.get("sparcl_id", "") is None:
        raise UnusableTargetError("SPARCL did not find the record: it holds no spectrum", Status.BAD_DATA)
    if lacking:
        raise InputError(f"the record has no {', '.join(lacking)}; retrieve it with include=[{', '.join(NEEDED)}, ...]")
    z = _redshift(record, *allow) if redshift is None else float(redshift)
    wave, flux, ivar = (_array(record, name) for name in NEEDED)
    wave = wave * _scale("wavelength", units.get("wavelength"), WAVE_UNIT)
    mask = _array(record, "mask") if record.get("mask") is not None else np.zeros(wave.size)
    notes: list[str] = []
    sigma, no_width = _line_spread(record, wave, units, notes)
    sizes = {"wavelength": wave, "flux": flux, "ivar": ivar, "mask": mask, "wave_sigma": sigma}
    if odd := [f"{name} {v.size}" for name, v in sizes.items() if v.shape != wave.shape]:
        raise UnusableTargetError(f"wavelength has {wave.size} values, {', '.join(odd)}", Status.BAD_DATA)
    bad = ~(np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0)) | (mask != 0) | no_width
    dust, said = _ebv(record, ebv)
    notes += said
    per_unit = _scale("flux", units.get("flux"), SPECTRUM_UNIT)
    spectrum = make_spectrum(
        wave, np.where(bad, 0.0, flux) * per_unit, ivar=np.where(bad, 0.0, ivar) / per_unit**2, sigma_aa=sigma,
        ebv=dust, camera="sparcl",
    )  # fmt: skip
    meta = {name.upper(): _text(record[name]) for name in _KEPT if record.get(name) is not None} | {"EBV": dust}
    zerr = _number(record, "redshift_err")
    return Observation(
        z, (spectrum,), photometry, fiber_fraction, targetid=_identity(record), ra=_number(record, "ra"),
        dec=_number(record, "dec"), zerr=zerr, meta=meta,
    ), notes  # fmt: skip


def _redshift(record: Mapping[str, Any], allow_warning: bool, allow_non_galaxy: bool) -> float:
    """The record's redshift, or why it cannot be used."""
    kind, warning = str(record.get("spectype") or "").strip().upper(), record.get("redshift_warning")
    if kind and kind != "GALAXY" and not allow_non_galaxy:
        raise UnusableTargetError(
            f"spectype is {kind}; take it with allow_non_galaxy, or give its redshift", Status.NOT_A_GALAXY
        )
    if warning and not allow_warning:
        raise UnusableTargetError(
            f"redshift_warning is {warning}; take it with allow_warning, or give its redshift", Status.REDSHIFT_WARNING
        )
    if record.get("redshift") is None:
        raise UnusableTargetError("the record has no redshift; include it, or give one", Status.NO_REDSHIFT)
    return _number(record, "redshift")


def _identity(record: Mapping[str, Any]) -> int:
    """TARGETID, else SPECID; negative numbers (BOSS's, which have 64 bits without sign) are no identity."""
    for name in ("targetid", "specid"):
        value = record.get(name)
        if value is not None and (number := exact_id(value, name)) >= 0:
            return number
    return NO_ID


def _line_spread(
    record: Mapping[str, Any], wave: FloatArray, units: Mapping[str, str | None], notes: list[str]
) -> tuple[FloatArray, Any]:
    """Gaussian sigma in Angstrom, and which pixels have none."""
    if record.get("wave_sigma") is None:
        notes.append("no wave_sigma: the instrument's blur is left out")
        return np.zeros(wave.size), np.zeros(wave.size, dtype=bool)
    width = _array(record, "wave_sigma")
    release = str(record.get("data_release", record.get("_dr", "")))
    unit = units.get("wave_sigma") or _LSF_UNITS.get(release.partition("-")[0])
    none = ~(np.isfinite(width) & (width > 0))
    if width.shape != wave.shape:
        return width, none
    if unit in ("pixel", "pix"):
        width = width * wave * (math.log(10.0) * PIXEL_DEX)
    elif unit not in ("AA", "Angstrom"):
        raise InputError(f"wave_sigma of {release or 'an unknown release'} is in {unit}; units={{'wave_sigma': 'AA'}}")
    return np.where(none, 1.0, width), none


def _ebv(record: Mapping[str, Any], given: float | None) -> tuple[float, list[str]]:
    """E(B-V), and a note where none is known."""
    if given is not None:
        return float(given), []
    own = _number(record, "ebv")
    if math.isfinite(own):
        return own, []
    return 0.0, ["no E(B-V) known: not corrected for Galactic dust (option ebv)"]


def _scale(name: str, unit: str | None, ours: str) -> float:
    """Our unit per unit of a field; 1 where none is named."""
    if unit is None:
        return 1.0
    from astropy import units as u  # only where there are units

    try:
        return float(u.Unit(unit).to(u.Unit(ours)))
    except (ValueError, TypeError, u.UnitConversionError):
        raise InputError(f"{name} is in {unit!r}, which cannot be converted to {ours}") from None


def _array(record: Mapping[str, Any], name: str) -> FloatArray:
    """A field as numbers, ``(npix,)``."""
    try:
        values = np.asarray(record[name], dtype=np.float64)
    except (TypeError, ValueError):
        raise UnusableTargetError(f"{name} holds what is no number", Status.BAD_DATA) from None
    if values.ndim != 1:
        raise UnusableTargetError(f"{name} has shape {values.shape}; it has one value a pixel", Status.BAD_DATA)
    return values


def _number(record: Mapping[str, Any], name: str) -> float:
    try:
        return float(record.get(name, math.nan))
    except (TypeError, ValueError):
        return math.nan


def _text(value: Any) -> Any:
    """A scalar that a catalog can keep; 64-bit identifiers as text."""
    plain = value.item() if isinstance(value, np.generic) else value
    return plain if isinstance(plain, str) or (isinstance(plain, int) and abs(plain) < 2**53) else str(plain)
