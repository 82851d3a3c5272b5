"""Redshifts from redrock files, found by TARGETID and never by row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from provabgs.core.errors import DataFileError
from provabgs.desi.fitsfile import hdu_names, open_fits, read_columns

_HDUS = ("REDSHIFTS", "ZBEST", "ZCATALOG")
"""Where redshifts live: redrock since 2021, redrock before, DESI's summary catalogs."""
_COLUMNS = ("TARGETID", "Z", "ZERR", "ZWARN", "SPECTYPE", "SUBTYPE", "DELTACHI2")


class Redshift(NamedTuple):
    """One redrock result; NaN and ``""`` where the file has no such column."""

    z: float
    zerr: float = float("nan")
    zwarn: int = 0
    spectype: str = ""
    deltachi2: float = float("nan")
    n_rows: int = 1
    """Rows of the file with this TARGETID; the best was taken."""


@dataclass(frozen=True)
class RedshiftTable:
    """Redshifts by TARGETID.

    Attributes
    ----------
    path
        The file.
    entries
        One `Redshift` per TARGETID. Of several rows of one target the one with ZWARN 0 and then with the greatest
        DELTACHI2 stands.
    """

    path: Path
    entries: dict[int, Redshift]

    def get(self, targetid: int) -> Redshift | None:
        """The redshift of `targetid`, None without one."""
        return self.entries.get(int(targetid))


def _rank(entry: Redshift) -> tuple[bool, float]:
    """Sort key among rows of one target: no warning first, then DELTACHI2."""
    return entry.zwarn == 0, entry.deltachi2 if entry.deltachi2 == entry.deltachi2 else float("-inf")


def read_redrock(path: str | Path) -> RedshiftTable:
    """Read a redrock (or zbest, or zcatalog) file.

    Raises
    ------
    DataFileError
        When the file is missing, broken, or has no table of redshifts with TARGETID and Z.
    """
    file = Path(path)
    with open_fits(file) as hdus:
        name = next((n for n in _HDUS if n in hdu_names(hdus)), None)
        if name is None:
            raise DataFileError(f"{file}: is not a redrock file: no HDU {' or '.join(_HDUS)}; give redrock-*.fits")
        columns = read_columns(hdus[name], _COLUMNS, file)
    missing = [c for c in ("TARGETID", "Z") if c not in columns]
    if missing:
        raise DataFileError(f"{file}: HDU {name} has no column {', '.join(missing)}; give a redrock file")
    nrow = columns["TARGETID"].size
    nan, zero, empty = [float("nan")] * nrow, [0] * nrow, [""] * nrow

    def column(key: str, default: list) -> list:
        return columns[key].tolist() if key in columns else default

    entries: dict[int, Redshift] = {}
    rows = zip(
        columns["TARGETID"].tolist(),
        columns["Z"].tolist(),
        column("ZERR", nan),
        column("ZWARN", zero),
        column("SPECTYPE", empty),
        column("DELTACHI2", nan),
        strict=True,
    )
    for targetid, z, zerr, zwarn, spectype, deltachi2 in rows:
        new = Redshift(z, zerr, int(zwarn), spectype.upper(), deltachi2)
        old = entries.get(targetid)
        if old is not None:
            best = new if _rank(new) > _rank(old) else old
            new = best._replace(n_rows=old.n_rows + 1)
        entries[targetid] = new
    return RedshiftTable(file, entries)
