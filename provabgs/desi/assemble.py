"""From DESI files to observations: each row yields one, or a named reason why not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from provabgs.desi.aperture import UNKNOWN_SCALE_SIGMA, FiberFraction, fiber_fraction, psf_to_fiber
from provabgs.desi.catalogs import PhotometryCatalog
from provabgs.desi.coadd import CameraData, CoaddFile
from provabgs.desi.paths import infer_redrock
from provabgs.desi.photometry import TargetPhotometry, checked_ebv, finite, position, target_photometry
from provabgs.desi.redrock import Redshift, RedshiftTable, read_redrock
from provabgs.desi.targets import ReadOptions, TargetResult
from provabgs.errors import DataFileError, InputError, UnusableTargetError
from provabgs.observe.extinction import deredden_spectrum
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.status import Status

_KEPT = (
    *("MORPHTYPE", "SHAPE_R", "RELEASE", "COADD_EXPTIME", "COADD_NUMEXP", "COADD_FIBERSTATUS", "TSNR2_BGS", "HPXPIXEL"),
    *("FLUX_G", "FLUX_R", "FLUX_Z", "FLUX_W1", "FIBERFLUX_R", "FIBERTOTFLUX_R", "GAIA_PHOT_G_MEAN_MAG"),
    *("BGS_TARGET", "SV1_BGS_TARGET", "SV2_BGS_TARGET", "SV3_BGS_TARGET", "DESI_TARGET"),
)
"""FIBERMAP columns handed on in ``meta`` under their own names: as the file has them, dust and all."""


def read_observations(
    coadd: str | Path,
    redrock: str | Path | None = None,
    photometry: str | Path | None = None,
    targetids: Iterable[int] | None = None,
    options: ReadOptions | None = None,
    redshifts: float | Mapping[int, float] | None = None,
) -> list[TargetResult]:
    """Read all of `iter_observations` into a list."""
    return list(iter_observations(coadd, redrock, photometry, targetids, options, redshifts))


def read_observation(
    coadd: str | Path,
    targetid: int,
    redrock: str | Path | None = None,
    photometry: str | Path | None = None,
    options: ReadOptions | None = None,
    redshift: float | None = None,
) -> Observation:
    """One target, ready to be fitted.

    Raises
    ------
    DataFileError
        For a file that is missing or broken, and for a TARGETID that it does not hold.
    UnusableTargetError
        When the target cannot be fitted; carries its `Status`.
    """
    result = read_observations(coadd, redrock, photometry, [targetid], options, redshift)[0]
    if result.observation is None:
        status = Status.INPUT_ERROR if result.status is None else result.status
        raise UnusableTargetError(f"{coadd}, row {result.row}, TARGETID {targetid}: {result.message}", status)
    return result.observation


def iter_observations(
    coadd: str | Path,
    redrock: str | Path | None = None,
    photometry: str | Path | None = None,
    targetids: Iterable[int] | None = None,
    options: ReadOptions | None = None,
    redshifts: float | Mapping[int, float] | None = None,
) -> Iterator[TargetResult]:
    """Read a coadd (or spectra) file target by target.

    The tables are read at once and their errors raised here; spectra are read one target at a time. Spectra and bands
    come out free of Galactic dust.

    Parameters
    ----------
    coadd
        ``coadd-*.fits`` or ``spectra-*.fits``.
    redrock
        Redshift file; None looks for the one beside `coadd` (`provabgs.desi.paths.infer_redrock`) unless
        `redshifts` covers everything.
    photometry
        Tractor, sweep or FastSpecFit file; None takes FIBERMAP's photometry. A target that it does not hold falls
        back on FIBERMAP.
    targetids
        Those to read, in this order; None for every row.
    options
        See `ReadOptions`.
    redshifts
        One redshift for all, or by TARGETID: taken in place of the redrock file's, without its ZWARN and SPECTYPE.

    Yields
    ------
    TargetResult
        One per target of the file, ready or with the reason why not.

    Raises
    ------
    DataFileError
        For a file that is missing, truncated, or not what it should be, and when none of `targetids` is in it.
    """
    source = _open(Path(coadd), redrock, photometry, options or ReadOptions(), redshifts)
    jobs = _jobs(source.file, targetids)
    return _run(source, jobs)


@dataclass(frozen=True, eq=False)
class _Source:
    """Everything that the rows of one coadd are put together from."""

    file: CoaddFile
    redrock: RedshiftTable | None
    catalog: PhotometryCatalog | None
    options: ReadOptions
    redshifts: float | Mapping[int, float] | None


def _open(
    coadd: Path,
    redrock: str | Path | None,
    photometry: str | Path | None,
    options: ReadOptions,
    redshifts: float | Mapping[int, float] | None,
) -> _Source:
    """Open the files; a redrock file is needed unless one redshift is given for all."""
    file = CoaddFile.open(coadd)
    table = None
    if redrock is not None:
        table = read_redrock(redrock)
    elif redshifts is None or isinstance(redshifts, Mapping):
        beside = infer_redrock(coadd)
        if beside is None and redshifts is None:
            raise DataFileError(f"{coadd}: no redrock file lies beside it; name one, or give the redshift by hand")
        table = read_redrock(beside) if beside is not None else None
    catalog = PhotometryCatalog.open(photometry) if photometry is not None else None
    return _Source(file, table, catalog, options, redshifts)


def _jobs(file: CoaddFile, targetids: Iterable[int] | None) -> list[tuple[int, list[int]]]:
    """``(targetid, rows)`` to read; rows are empty for a TARGETID that the file lacks."""
    if targetids is None:
        if file.coadded:
            return [(t, [row]) for row, t in enumerate(file.targetids.tolist())]
        return list(file.groups().items())
    wanted = [int(t) for t in targetids]
    groups = file.groups()
    if wanted and not any(t in groups for t in wanted):
        file.check_targetid(wanted[0])
    return [(t, groups.get(t, [])[: 1 if file.coadded else None]) for t in wanted]


def _run(source: _Source, jobs: Sequence[tuple[int, list[int]]]) -> Iterator[TargetResult]:
    """Turn jobs into results, reading spectra only of those that pass the checks on the tables."""
    verdicts = [_verdict(source, targetid, rows) for targetid, rows in jobs]
    passed = [rows for (_, rows), verdict in zip(jobs, verdicts, strict=True) if isinstance(verdict, Redshift)]
    spectra = source.file.iter_spectra(passed, source.options.cameras)
    for (targetid, rows), verdict in zip(jobs, verdicts, strict=True):
        if isinstance(verdict, UnusableTargetError):
            row = rows[0] if rows else -1
            yield TargetResult(targetid, row, None, Status(verdict.status), str(verdict))
            continue
        cameras = next(spectra)
        try:
            if isinstance(cameras, DataFileError):
                raise cameras
            observation, notes = _build(source, targetid, rows, verdict, cameras)
            yield TargetResult(targetid, rows[0], observation, None, "; ".join(notes))
        except UnusableTargetError as error:
            yield TargetResult(targetid, rows[0], None, Status(error.status), str(error))
        except InputError as error:
            yield TargetResult(targetid, rows[0], None, Status.INPUT_ERROR, str(error))


def _verdict(source: _Source, targetid: int, rows: Sequence[int]) -> Redshift | UnusableTargetError:
    """The redshift of a target that is worth reading, or why it is not."""
    try:
        if not rows:
            source.file.check_targetid(targetid)
        _check_observed([source.file.row_values(r) for r in rows])
        return _redshift(source, targetid)
    except UnusableTargetError as error:
        return error
    except InputError as error:
        return UnusableTargetError(str(error), Status.INPUT_ERROR)


def _check_observed(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise UNOBSERVED for sky, unassigned and stuck fibers, and targets without an accepted exposure."""
    row = rows[0]
    targetid, objtype = row["TARGETID"], row.get("OBJTYPE")
    why = ""
    if targetid < 0:
        why = "negative TARGETID: unassigned or stuck fiber"
    elif objtype is not None and objtype.strip().upper() != "TGT":
        why = f"OBJTYPE is {objtype!r}, not 'TGT'"
    elif row.get("COADD_NUMEXP") == 0:
        why = f"COADD_NUMEXP is 0 (COADD_FIBERSTATUS {row.get('COADD_FIBERSTATUS', 'unknown')})"
    if why:
        raise UnusableTargetError(f"not observed: {why}", Status.UNOBSERVED)


def _redshift(source: _Source, targetid: int) -> Redshift:
    """The redshift to fit at; refused with the `Status` that says why."""
    by_hand = source.redshifts.get(targetid) if isinstance(source.redshifts, Mapping) else source.redshifts
    options = source.options
    if by_hand is not None:
        found: Redshift | None = Redshift(float(by_hand), spectype="BY HAND")
    else:
        found = source.redrock.get(targetid) if source.redrock is not None else None
    if found is None:
        where = f"{source.redrock.path} has no row for it" if source.redrock is not None else "none was given"
        raise UnusableTargetError(f"no redshift: {where}", Status.NO_REDSHIFT)
    if not math.isfinite(found.z):
        raise UnusableTargetError(f"no redshift: it is {found.z}", Status.NO_REDSHIFT)
    if by_hand is None and found.zwarn != 0 and not options.allow_zwarn:
        raise UnusableTargetError(f"ZWARN is {found.zwarn} (z = {found.z:.4f})", Status.REDSHIFT_WARNING)
    if by_hand is None and found.spectype not in ("GALAXY", "") and not options.allow_non_galaxy:
        raise UnusableTargetError(f"SPECTYPE is {found.spectype}", Status.NOT_A_GALAXY)
    if not options.z_min < found.z <= options.z_max:
        raise UnusableTargetError(
            f"redshift {found.z:.4f} is outside ({options.z_min:g}, {options.z_max:g}]", Status.REDSHIFT_OUT_OF_RANGE
        )
    return found


def _build(
    source: _Source, targetid: int, rows: Sequence[int], redshift: Redshift, cameras: tuple[CameraData, ...]
) -> tuple[Observation, list[str]]:
    """Put one observation together; returns it with notes for people."""
    options, row = source.options, source.file.row_values(rows[0])
    ra, dec = position(row)
    match = source.catalog.find(targetid, ra, dec, options.match_radius_arcsec) if source.catalog else None
    # FIBERMAP fills what the catalog does not say (FastSpecFit has no RELEASE, sweeps no PHOTSYS).
    merged = {**row, **(match.row if match else {})}
    ebv = checked_ebv(row if math.isfinite(finite(row, "EBV")) else merged, options.ebv)
    catalog = source.catalog if match else None
    light = target_photometry(
        merged if match else row, ebv, options.bands, corrected=catalog is not None and catalog.flux_corrected
    )
    notes = list(light.notes) if options.bands else []
    if source.catalog is not None and match is None:
        notes.append(f"{source.catalog.path.name} does not hold it, photometry from FIBERMAP")
    if options.require_photometry and light.photometry is None:
        raise UnusableTargetError("no band has ivar > 0 and photometry is required", Status.NO_PHOTOMETRY)
    factor = psf_to_fiber(row, targetid, source.file.exp_fibermap)
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
    fraction = _fraction(row, match.row if match else None, catalog, ebv, options)
    fraction = _rescale(fraction, factor, options)
    if light.photometry is not None and spectra and fraction is None:
        notes.append("no FIBERFLUX: the fiber fraction is unknown")
    notes += _quality_notes(cameras, redshift)
    meta = _meta(source, rows, row, redshift, cameras, light, match.how if match else "FIBERMAP")
    meta.update(EBV=ebv, PSF_TO_FIBER=math.nan if factor is None else factor, PSF_TO_FIBER_MODE=options.psf_to_fiber)
    meta["FIBER_FRACTION_BAND"] = fraction.band if fraction else ""
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
    )
    return observation, notes


def _spectrum(data: CameraData, ebv: float, scale: float) -> Spectrum:
    """One camera, free of Galactic dust and on the fiber's flux scale."""
    flux, ivar = deredden_spectrum(data.wave, data.flux * scale, data.ivar / scale**2, ebv)
    return Spectrum(data.camera, data.wave, flux, ivar, data.resolution)


def _fraction(
    fibermap: Mapping[str, Any],
    matched: Mapping[str, Any] | None,
    catalog: PhotometryCatalog | None,
    ebv: float,
    options: ReadOptions,
) -> FiberFraction | None:
    """Fiber fraction from the source whose FLUX and FIBERFLUX are surest to be on one footing.

    A Tractor row is, and so is FIBERMAP; a FastSpecFit row depends on its version and comes last.
    """
    floor = options.fiber_sigma_floor
    raw = fiber_fraction(fibermap, floor)
    if matched is None or catalog is None:
        return raw
    if not catalog.flux_corrected:
        return fiber_fraction(matched, floor) or raw
    half = not catalog.fiberflux_corrected
    return raw or fiber_fraction({**fibermap, **matched}, floor, ebv=ebv, half_corrected=half)


def _rescale(fraction: FiberFraction | None, factor: float | None, options: ReadOptions) -> FiberFraction | None:
    """The prior for the scale on which the spectrum was left (see `provabgs.desi.aperture.PsfMode`)."""
    if fraction is None or options.psf_to_fiber == "ignore" or (factor and options.psf_to_fiber == "spectrum"):
        return fraction
    if factor is not None:
        return fraction._replace(mean=fraction.mean / factor, sigma=fraction.sigma / factor)
    return fraction._replace(sigma=math.hypot(fraction.sigma, UNKNOWN_SCALE_SIGMA * fraction.mean))


def _median_snr(data: CameraData) -> float:
    """Median S/N per usable pixel, NaN without any."""
    use = data.ivar > 0
    return float(np.median(data.flux[use] * np.sqrt(data.ivar[use]))) if np.any(use) else math.nan


def _quality_notes(cameras: Sequence[CameraData], redshift: Redshift) -> list[str]:
    """What a person should know before trusting a fit of this target."""
    notes = []
    snr = [s for s in map(_median_snr, cameras) if math.isfinite(s)]
    if snr and max(snr) < 1.0:
        notes.append(
            f"median S/N per pixel is {max(snr):.2f} at best: continuum hardly detected, redshift to be checked"
        )
    bad = sum(c.n_bad for c in cameras)
    if bad:
        notes.append(f"{bad} pixels with NaN flux or impossible ivar taken out")
    if redshift.n_rows > 1:
        notes.append(f"best of {redshift.n_rows} redshift rows")
    return notes


def _meta(
    source: _Source,
    rows: Sequence[int],
    row: Mapping[str, Any],
    redshift: Redshift,
    cameras: Sequence[CameraData],
    light: TargetPhotometry,
    matched_by: str,
) -> dict[str, Any]:
    """Provenance and quality, plain scalars and strings."""
    meta: dict[str, Any] = {k: row[k] for k in _KEPT if k in row}
    photometry: Photometry | None = light.photometry
    meta.update(
        COADD=str(source.file.path),
        ROW=int(rows[0]),
        N_EXPOSURE_ROWS=len(rows),
        REDROCK=str(source.redrock.path) if source.redrock else "",
        PHOTOMETRY=str(source.catalog.path) if source.catalog and matched_by != "FIBERMAP" else "FIBERMAP",
        PHOTOMETRY_MATCH=matched_by,
        PHOTSYS=light.photsys,
        N_BANDS=photometry.n_valid if photometry else 0,
        ZWARN=redshift.zwarn,
        SPECTYPE=redshift.spectype,
        DELTACHI2=redshift.deltachi2,
        N_MASKED=sum(c.n_masked for c in cameras),
        N_BAD_PIXELS=sum(c.n_bad for c in cameras),
    )
    meta.update({f"SNR_{c.camera.upper()}": _median_snr(c) for c in cameras})
    return meta
