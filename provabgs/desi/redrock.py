"""Redshifts from redrock files, found by TARGETID and never by row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from provabgs.core.errors import DataFileError
from provabgs.core.identity import exact_id
from provabgs.desi.columns import Kind
from provabgs.desi.fitsfile import Columns, open_fits

_HDUS = ("REDSHIFTS", "ZBEST", "ZCATALOG")
"""Where redshifts live: redrock since 2021, redrock before, DESI's summary catalogs."""
_COLUMNS: dict[str, Kind] = {
    "TARGETID": "id",
    **dict.fromkeys(("Z", "ZERR", "DELTACHI2"), "number"),
    "ZWARN": "whole",
    "SPECTYPE": "text",
}
SAME_REDSHIFT = 0.0033
"""Redshifts of one target that differ by more than this times 1 + z (1000 km/s) disagree."""


class Redshift(NamedTuple):
    """One redrock result; NaN and ``""`` where the file has no such column."""

    z: float
    zerr: float = float("nan")
    zwarn: int = 0
    spectype: str = ""
    deltachi2: float = float("nan")
    n_rows: int = 1
    """Rows of the file with this TARGETID; the best was taken."""
    spread: float = 0.0
    """Largest difference of a redshift of these rows from the best, over 1 + z."""
    source: str = "redrock"
    """``"redrock"``, ``"zcatalog"``, ``"VI"`` or ``"given"``."""
    note: str = ""
    """What is odd about it, for people."""


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
    notes
        What of the table could not be used, or is not there, for people.
    """

    path: Path
    entries: dict[int, Redshift]
    notes: tuple[str, ...] = ()

    def get(self, targetid: int) -> Redshift | None:
        """The redshift of `targetid`, None without one."""
        return self.entries.get(exact_id(targetid))


def _rank(entry: Redshift) -> tuple[bool, float]:
    """Sort key among rows of one target: no warning first, then DELTACHI2."""
    return entry.zwarn == 0, entry.deltachi2 if entry.deltachi2 == entry.deltachi2 else float("-inf")


def read_redrock(path: str | Path, *, verify: bool = True) -> RedshiftTable:
    """Read a redrock (or zbest, or zcatalog) file.

    Parameters
    ----------
    path
        The file.
    verify
        Whether checksums are looked at.

    Raises
    ------
    DataFileError
        When the file is missing, broken, or has no table of redshifts with TARGETID and Z.
    """
    file = Path(path)
    with open_fits(file, verify=verify) as fits:
        name = next((n for n in _HDUS if n in fits.names), None)
        if name is None:
            raise DataFileError(f"{file}: is not a redrock file: no HDU {' or '.join(_HDUS)}; give redrock-*.fits")
        columns, odd = fits.read_columns(fits[name], _COLUMNS)
    for needed in ("TARGETID", "Z"):
        if needed in odd:
            raise DataFileError(f"{file}: HDU {name}: column {needed} {odd[needed]}; give a redrock file")
    missing = [c for c in ("TARGETID", "Z") if c not in columns]
    if missing:
        raise DataFileError(f"{file}: HDU {name} has no column {', '.join(missing)}; give a redrock file")
    notes = [f"{name} column {column} {why}, not used" for column, why in odd.items()]
    notes += [f"{name} has no {c}: taken as good" for c in ("ZWARN", "SPECTYPE") if c not in columns and c not in odd]
    return RedshiftTable(file, _best_of_each(columns), tuple(notes))


def _best_of_each(columns: Columns) -> dict[int, Redshift]:
    """The best row of each TARGETID."""
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
        new = Redshift(float(z), float(zerr), int(zwarn), spectype.upper(), float(deltachi2))
        old = entries.get(targetid)
        if old is not None:
            best = new if _rank(new) > _rank(old) else old
            apart = abs(new.z - old.z) / (1 + abs(best.z))
            spread = max(old.spread, apart if apart == apart else 0.0)
            new = best._replace(n_rows=old.n_rows + 1, spread=spread)
        entries[targetid] = new
    return entries
