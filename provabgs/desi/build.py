"""Put one observation together: spectra and bands free of Galactic dust and on one flux scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from provabgs.core.errors import UnusableTargetError
from provabgs.core.status import Status
from provabgs.desi.catalogs import Match, PhotometryCatalog
from provabgs.desi.coadd import CameraData
from provabgs.desi.fiber_fraction import UNKNOWN_SCALE_SIGMA, FiberFraction, fiber_fraction, psf_to_fiber
from provabgs.desi.joins import given_dispersion
from provabgs.desi.metadata import build_meta, quality_notes
from provabgs.desi.photometry import (
    LEGACY,
    PHOTSYS,
    RELEASE_PHOTSYS,
    checked_ebv,
    finite,
    position,
    target_photometry,
)
from provabgs.desi.redrock import Redshift
from provabgs.desi.source import Source
from provabgs.desi.sweeps import SweepFolder
from provabgs.desi.targetid import decode_targetid
from provabgs.desi.targets import ReadOptions
from provabgs.observe.extinction import deredden_spectrum
from provabgs.observe.observation import Observation, Spectrum
from provabgs.surveys import survey_columns


def build_observation(
    source: Source, targetid: int, rows: Sequence[int], redshift: Redshift, cameras: tuple[CameraData, ...]
) -> tuple[Observation, list[str]]:
    """Put one observation together; returns it with notes for people."""
    options, row = source.options, source.file.row_values(rows[0])
    ra, dec = position(row)
    found = source.catalog.find(targetid, ra, dec, options.match_radius_arcsec) if source.catalog else None
    match = found if found is not None and found.row else None
    merged = _merge(row, match.row) if match else row
    ebv = checked_ebv(row if math.isfinite(finite(row, "EBV")) else merged, options.ebv)
    catalog = source.catalog if match else None
    light = target_photometry(merged, ebv, options.bands, corrected=catalog is not None and catalog.flux_corrected)
    notes = list(light.notes) if options.bands else []
    notes += [found.note] if found is not None and found.note else []
    notes += _of_another_release(targetid, match)
    notes += _said_of_tables(source, row, merged, ebv)
    if source.catalog is not None and match is None:
        notes.append(f"{source.catalog.path.name} does not hold it, photometry from FIBERMAP")
    if options.require_photometry and light.photometry is None:
        raise UnusableTargetError("no band has ivar > 0 and photometry is required", Status.NO_PHOTOMETRY)
    factor = psf_to_fiber(row, targetid, source.file.exposures)
    scale = factor if factor is not None and options.psf_to_fiber == "spectrum" else 1.0
    if factor is None and options.psf_to_fiber != "ignore":
        notes.append("PSF_TO_FIBER_SPECFLUX is unknown, spectrum on the point-source scale")
    spectra = tuple(_spectrum(c, ebv, scale) for c in cameras)
    n_valid = sum(s.n_valid for s in spectra)
    if n_valid == 0 and light.photometry is None:
        raise UnusableTargetError(
            "every pixel is masked or has ivar 0, and no band is measured", Status.NO_VALID_PIXELS
        )
    if n_valid == 0 and cameras:
        notes.append("no usable pixel, photometry alone")
    spectra = tuple(s for s in spectra if s.n_valid > 0)
    fraction = _fraction(row, merged, catalog, ebv, options)
    fraction = _rescale(fraction, factor, options)
    if light.photometry is not None and spectra and fraction is None:
        notes.append("no FIBERFLUX: the fiber fraction is unknown")
    if blurred := [s.camera for s in spectra if s.resolution is None]:
        notes.append(f"no RESOLUTION of {', '.join(blurred)}: the instrument's blur is left out")
    joined: dict[str, Any] = {}
    if source.joins is not None:
        joined, said = source.joins.columns(targetid, source.file.origin)
        notes += said
    notes += [redshift.note] if redshift.note else []
    notes += quality_notes(cameras, redshift)
    meta = build_meta(source, rows, row, redshift, cameras, light, match)
    meta.update(EBV=ebv, PSF_TO_FIBER=math.nan if factor is None else factor, PSF_TO_FIBER_MODE=options.psf_to_fiber)
    meta["FIBER_FRACTION_BAND"] = fraction.band if fraction else ""
    filled = survey_columns(LEGACY, light.photometry, row)
    described = filled["SURVEY_COLUMNS"] | joined.get("SURVEY_COLUMNS", {})
    meta = {**filled, **joined, **meta, "SURVEY_COLUMNS": described}
    observation = Observation(
        redshift=redshift.z,
        spectra=spectra,
        photometry=light.photometry,
        fiber_fraction=(fraction.mean, fraction.sigma) if fraction else None,
        targetid=targetid,
        ra=ra,
        dec=dec,
        zerr=redshift.zerr,
        meta=meta,
        vdisp_kms=given_dispersion(joined),
    )
    return observation, notes


def _spectrum(data: CameraData, ebv: float, scale: float) -> Spectrum:
    """One camera, free of Galactic dust and on the fiber's flux scale."""
    flux, ivar = deredden_spectrum(data.wave, data.flux * scale, data.ivar / scale**2, ebv)
    return Spectrum(data.camera, data.wave, flux, ivar, data.resolution)


def _merge(fibermap: Mapping[str, Any], matched: Mapping[str, Any]) -> dict[str, Any]:
    """A catalog's row, with FIBERMAP filling in what it does not say.

    Fluxes are never mixed, because the two may differ in dust correction, and a catalog that says by PHOTSYS or
    RELEASE which filters it used is not overruled: near the border both systems have imaged a target.
    """
    own = {k: v for k, v in matched.items() if v != "" and not (k == "RELEASE" and v <= 0)}
    base = {k: v for k, v in fibermap.items() if not k.startswith(("FLUX_", "FIBERFLUX_", "FIBERTOTFLUX_"))}
    if own.get("PHOTSYS") in PHOTSYS or own.get("RELEASE") in RELEASE_PHOTSYS:
        base.pop("PHOTSYS", None)
        base.pop("RELEASE", None)
    return {**base, **own}


def _said_of_tables(source: Source, row: Mapping[str, Any], merged: Mapping[str, Any], ebv: float) -> list[str]:
    """What the tables do not say, or say in a way that cannot be used, and what is assumed in its place."""
    notes = list(source.file.notes)
    notes += source.redrock.notes if source.redrock else ()
    notes += source.catalog.notes if source.catalog else ()
    if ebv == 0 and source.options.ebv is None:
        notes.append("EBV is 0: nothing is corrected for Galactic dust")
    given, release = merged.get("PHOTSYS"), merged.get("RELEASE")
    own = given if given in PHOTSYS else RELEASE_PHOTSYS.get(int(release or 0))
    fibermaps = row.get("PHOTSYS")
    if merged is not row and own is not None and fibermaps in PHOTSYS and fibermaps != own:
        notes.append(f"catalog's photometry is {own}'s (RELEASE {release}), FIBERMAP says PHOTSYS {fibermaps}")
    return notes


def _of_another_release(targetid: int, match: Match | None) -> list[str]:
    """What is to be said of a source that was found by its place alone: it is of another reduction of the images."""
    if match is None or not match.how.startswith("position") or targetid < 0:
        return []
    theirs, ours = int(match.row.get("RELEASE", 0) or 0), decode_targetid(targetid).release
    if theirs <= 0 or theirs == ours:
        return []
    return [f"catalog's source is of RELEASE {theirs}, the target's of {ours}: found by {match.how}"]


def _fraction(
    fibermap: Mapping[str, Any],
    merged: Mapping[str, Any],
    catalog: PhotometryCatalog | SweepFolder | None,
    ebv: float,
    options: ReadOptions,
) -> FiberFraction | None:
    """Fiber fraction from the source whose FLUX and FIBERFLUX are surest to be on one footing.

    A Tractor row is, and so is FIBERMAP; a FastSpecFit row depends on its version and comes last.
    """
    floor = options.fiber_sigma_floor
    raw = fiber_fraction(fibermap, floor)
    if catalog is None:
        return raw
    if not catalog.flux_corrected:
        return fiber_fraction(merged, floor) or raw
    half = not catalog.fiberflux_corrected
    return raw or fiber_fraction(merged, floor, ebv=ebv, half_corrected=half)


def _rescale(fraction: FiberFraction | None, factor: float | None, options: ReadOptions) -> FiberFraction | None:
    """The prior for the scale on which the spectrum was left (see `provabgs.desi.fiber_fraction.PsfMode`)."""
    if fraction is None or options.psf_to_fiber == "ignore" or (factor and options.psf_to_fiber == "spectrum"):
        return fraction
    if factor is not None:
        return fraction._replace(mean=fraction.mean / factor, sigma=fraction.sigma / factor)
    return fraction._replace(sigma=math.hypot(fraction.sigma, UNKNOWN_SCALE_SIGMA * fraction.mean))
