"""From DESI files to observations: each row yields one, or a named reason why not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from provabgs.core.errors import DataFileError, InputError, UnusableTargetError
from provabgs.core.identity import exact_id
from provabgs.core.status import Status
from provabgs.desi.build import build_observation
from provabgs.desi.catalogs import chord_arcsec, unit_vectors
from provabgs.desi.coadd import CoaddFile
from provabgs.desi.photometry import position
from provabgs.desi.redrock import Redshift
from provabgs.desi.source import Source, open_source
from provabgs.desi.targets import ReadOptions
from provabgs.observe.observation import Observation
from provabgs.observe.target import TargetResult


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
        Tractor, sweep or FastSpecFit file, or a folder of sweeps (`provabgs.desi.sweeps`); None takes FIBERMAP's
        photometry. A target that it does not hold falls back on FIBERMAP.
    targetids
        Those to read, in this order; None for every row that is one of ``options.targets``.
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
    source = open_source(Path(coadd), redrock, photometry, options or ReadOptions(), redshifts)
    jobs = _jobs(source.file, targetids, source.options.targets)
    return _run(source, jobs)


def _jobs(file: CoaddFile, targetids: Iterable[int] | None, targets: Sequence[str]) -> list[tuple[int, list[int]]]:
    """``(targetid, rows)`` to read; rows are empty for a TARGETID that the file lacks."""
    if targetids is None:
        chosen = file.chosen(targets)
        if file.coadded:
            return [(t, [row]) for row, t in enumerate(file.targetids.tolist()) if chosen[row]]
        return [(t, rows) for t, rows in file.groups().items() if chosen[rows[0]]]
    wanted = [exact_id(t) for t in targetids]
    groups = file.groups()
    if wanted and not any(t in groups for t in wanted):
        file.check_targetid(wanted[0])
    return [(t, groups.get(t, [])) for t in wanted]


def _run(source: Source, jobs: Sequence[tuple[int, list[int]]]) -> Iterator[TargetResult]:
    """Turn jobs into results, reading spectra only of those that pass the checks on the tables."""
    verdicts = [_verdict(source, targetid, rows) for targetid, rows in jobs]
    passed = [
        source.file.usable(rows)
        for (_, rows), verdict in zip(jobs, verdicts, strict=True)
        if isinstance(verdict, Redshift)
    ]
    spectra = source.file.iter_spectra(passed, source.options.cameras)
    for (targetid, rows), verdict in zip(jobs, verdicts, strict=True):
        row = rows[0] if rows else -1
        try:
            if isinstance(verdict, UnusableTargetError):
                raise verdict
            cameras = next(spectra, DataFileError(f"{source.file.path}: changed or vanished while being read"))
            if isinstance(cameras, DataFileError):
                raise cameras
            observation, notes = build_observation(source, targetid, source.file.usable(rows), verdict, cameras)
            result = TargetResult(targetid, row, observation, None, "; ".join(notes))
        except UnusableTargetError as error:
            result = TargetResult(targetid, row, None, Status(error.status), str(error))
        except InputError as error:
            result = TargetResult(targetid, row, None, Status.INPUT_ERROR, str(error))
        ra, dec = position(source.file.row_values(row)) if row >= 0 else (math.nan, math.nan)
        yield result._replace(ra=ra, dec=dec, known=source.file.origin.columns).named(source.file.path.name)


def _verdict(source: Source, targetid: int, rows: Sequence[int]) -> Redshift | UnusableTargetError:
    """The redshift of a target that is worth reading, or why it is not."""
    try:
        if not rows:
            source.file.check_targetid(targetid)
        _check_observed(source.file, rows)
        _check_one_object(source.file, targetid)
        return _redshift(source, targetid)
    except UnusableTargetError as error:
        return error
    except InputError as error:
        return UnusableTargetError(str(error), Status.INPUT_ERROR)


def _check_observed(file: CoaddFile, rows: Sequence[int]) -> None:
    """Raise UNOBSERVED for sky, unassigned and stuck fibers, and targets without an accepted exposure."""
    row = file.row_values(rows[0])
    targetid, objtype = row["TARGETID"], row.get("OBJTYPE")
    why = ""
    if targetid < 0:
        why = "negative TARGETID: unassigned or stuck fiber"
    elif objtype is not None and objtype.strip().upper() != "TGT":
        why = f"OBJTYPE is {objtype!r}, not 'TGT'"
    elif row.get("COADD_NUMEXP") == 0:
        why = f"COADD_NUMEXP is 0 (COADD_FIBERSTATUS {row.get('COADD_FIBERSTATUS', 'unknown')})"
    elif not file.usable(rows):
        why = f"FIBERSTATUS is {row.get('FIBERSTATUS')} and no exposure is usable"
    if why:
        raise UnusableTargetError(f"not observed: {why}", Status.UNOBSERVED)


SAME_OBJECT_ARCSEC = 5.0
"""Rows of one TARGETID that lie farther apart are of different objects."""


def _check_one_object(file: CoaddFile, targetid: int) -> None:
    """Refuse a TARGETID that stands for objects at different places: no table can say which of them it means."""
    rows = file.rows_of(targetid)
    places = [position(file.row_values(row)) for row in rows] if len(rows) > 1 else []
    places = [p for p in places if math.isfinite(p[0])]
    if len(places) < 2:
        return
    vectors = unit_vectors(*np.transpose(places))
    apart = chord_arcsec(float(np.linalg.norm(vectors - vectors[0], axis=1).max()))
    if apart > SAME_OBJECT_ARCSEC:
        raise UnusableTargetError(
            f"TARGETID {targetid} stands for objects {apart:.3g} arcsec apart (rows "
            f"{', '.join(map(str, rows[:5]))}): which of them redshift and photometry belong to cannot be told; give "
            "each its own TARGETID",
            Status.INPUT_ERROR,
        )


def _redshift(source: Source, targetid: int) -> Redshift:
    """The redshift to fit at; refused with the `Status` that says why."""
    by_hand = source.redshifts.get(targetid) if isinstance(source.redshifts, Mapping) else source.redshifts
    options = source.options
    if by_hand is not None:
        found: Redshift | None = Redshift(by_hand, spectype="BY HAND", source="given")
    else:
        found = source.joins.redshift(targetid, source.file.origin) if source.joins is not None else None
        if found is None and source.redrock is not None:
            found = source.redrock.get(targetid)
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
