"""The files that the observations of one coadd are put together from, opened together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provabgs.core.errors import DataFileError, InputError
from provabgs.core.identity import exact_id
from provabgs.desi.catalogs import PhotometryCatalog
from provabgs.desi.coadd import CoaddFile
from provabgs.desi.joins import Joins, open_joins
from provabgs.desi.paths import infer_redrock
from provabgs.desi.redrock import RedshiftTable, read_redrock
from provabgs.desi.sweeps import SweepFolder, open_photometry
from provabgs.desi.targets import ReadOptions


@dataclass(frozen=True, eq=False)
class Source:
    """Everything that the rows of one coadd are put together from."""

    file: CoaddFile
    redrock: RedshiftTable | None
    catalog: PhotometryCatalog | SweepFolder | None
    options: ReadOptions
    redshifts: float | Mapping[int, float] | None
    joins: Joins | None = None


def open_source(
    coadd: Path,
    redrock: str | Path | None,
    photometry: str | Path | None,
    options: ReadOptions,
    redshifts: float | Mapping[int, float] | None,
) -> Source:
    """Open the files.

    Parameters
    ----------
    coadd, redrock, photometry
        The files, `photometry` also a folder of sweeps; a redrock file is needed unless one redshift is given for all,
        or a redshift catalog is joined.
    options
        What the reader is told.
    redshifts
        One for all, or by TARGETID.

    Raises
    ------
    DataFileError
        For a file that cannot be read, or a redrock file that is not there.
    InputError
        For redshifts that are no numbers, or whose TARGETIDs are no integers.
    """
    by_hand = _by_hand(redshifts)
    verify = options.verify
    file = CoaddFile.open(coadd, verify=verify)
    table = None
    if redrock is not None:
        table = read_redrock(redrock, verify=verify)
    elif (by_hand is None or isinstance(by_hand, Mapping)) and options.joins.zcatalog is None:
        beside = infer_redrock(coadd)
        if beside is None and by_hand is None and options.joins.vi is None:
            raise DataFileError(f"{coadd}: no redrock file lies beside it; name one, or give the redshift by hand")
        table = read_redrock(beside, verify=verify) if beside is not None else None
    catalog = open_photometry(photometry, verify=verify) if photometry is not None else None
    return Source(file, table, catalog, options, by_hand, open_joins(options.joins, verify=verify))


def _by_hand(redshifts: float | Mapping[int, float] | None) -> float | Mapping[int, float] | None:
    """Redshifts as numbers, by TARGETIDs as integers."""
    if redshifts is None:
        return None
    if isinstance(redshifts, Mapping):
        return {exact_id(t): _number(z) for t, z in redshifts.items()}
    return _number(redshifts)


def _number(redshift: Any) -> float:
    try:
        return float(redshift)
    except (TypeError, ValueError):
        raise InputError(f"redshift {redshift!r:.60} is no number; give one such as 0.15") from None
