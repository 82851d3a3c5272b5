"""The files that the observations of one coadd are put together from, opened together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provabgs.core.errors import DataFileError
from provabgs.desi.catalogs import PhotometryCatalog
from provabgs.desi.coadd import CoaddFile
from provabgs.desi.paths import infer_redrock
from provabgs.desi.redrock import RedshiftTable, read_redrock
from provabgs.desi.targets import ReadOptions


@dataclass(frozen=True, eq=False)
class Source:
    """Everything that the rows of one coadd are put together from."""

    file: CoaddFile
    redrock: RedshiftTable | None
    catalog: PhotometryCatalog | None
    options: ReadOptions
    redshifts: float | Mapping[int, float] | None


def open_source(
    coadd: Path,
    redrock: str | Path | None,
    photometry: str | Path | None,
    options: ReadOptions,
    redshifts: float | Mapping[int, float] | None,
) -> Source:
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
    return Source(file, table, catalog, options, redshifts)
