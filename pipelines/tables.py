"""Tables of the usual formats, as people have them: any letter case, blank cells, units; one odd row costs itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray, IntArray
from provabgs.core.errors import DataFileError, InputError
from provabgs.core.files import regular_file
from provabgs.core.identity import exact_id, exact_ids
from provabgs.core.messages import first_line
from provabgs.desi.fitsfile import open_fits
from provabgs.surveys.system import nanomaggies_per

KINDS = {".parquet": "parquet", ".fits": "fits", ".gz": "fits", ".ecsv": "ascii.ecsv", ".csv": "ascii.csv"}
MAX_TEXT = 1 << 32
"""Bytes of a text table."""
UNREADABLE_ID = -1
"""Stands for a TARGETID that cannot be read."""
_NANOMAGGIES = ("nanomaggy", "nanomaggies", "nmgy", "nmaggy", "nanomaggie")


def read_table(path: Path, required: Sequence[str], wanted: Iterable[str] = ()) -> Table:
    """Read a table of any of the usual formats.

    Parameters
    ----------
    path
        FITS, Parquet, ECSV or CSV file.
    required
        Columns that it must have.
    wanted
        Further columns that it may have. Those of both that are written in another letter case are renamed.

    Raises
    ------
    DataFileError
        When it cannot be read or lacks a column.
    """
    if path.suffix not in KINDS:
        raise DataFileError(f"{path}: unknown kind of table; use {', '.join(KINDS)}")
    regular_file(path, "a table")
    readers: dict[str, Callable[[Path], Table]] = {
        "parquet": _read_parquet,
        "fits": _read_fits,
        "ascii.csv": _read_text,
        "ascii.ecsv": _read_text,
    }
    try:
        table = readers[KINDS[path.suffix]](path)
    except DataFileError:
        raise
    except Exception as error:  # astropy's readers raise whatever the damage leads to
        raise DataFileError(f"{path}: cannot be read as a table ({first_line(error)})") from None
    _rename(table, (*required, *wanted), path)
    missing = [c for c in required if c not in table.colnames]
    if missing:
        raise DataFileError(f"{path}: has no column {', '.join(missing)} (it has {', '.join(table.colnames[:12])})")
    odd = [c for c in table.colnames if table[c].ndim != 1 and c in required]
    if odd:
        raise DataFileError(f"{path}: column {odd[0]} has {table[odd[0]].shape[1:]} values a row; give one")
    table.remove_columns([c for c in table.colnames if table[c].ndim != 1])
    return table


def _read_fits(path: Path) -> Table:
    with open_fits(path) as file:  # is it one, and whole?
        for hdu in file.hdus[1:]:
            if hdu.is_table:
                file.fields(hdu)
                file.check(hdu)
    return Table.read(path, format="fits", unit_parse_strict="silent")


def _read_text(path: Path) -> Table:
    """A text table; TARGETIDs stay text, so that one odd cell does not turn all of them into floating-point numbers."""
    if path.stat().st_size > MAX_TEXT:
        raise DataFileError(f"{path}: is larger than {MAX_TEXT >> 30} GiB; write it as Parquet or FITS")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataFileError(f"{path}: is no text in UTF-8; save it as such") from None
    if KINDS[path.suffix] == "ascii.ecsv":
        return Table.read(text, format="ascii.ecsv")
    names = [n.strip().strip('"') for n in text.partition("\n")[0].split(",")]
    as_text = {n: str for n in names if n.upper() == "TARGETID"}
    return Table.read(text, format="ascii.csv", converters=as_text)


def _read_parquet(path: Path) -> Table:
    import pyarrow.parquet as pq

    from provabgs.catalog.tables import from_arrow

    return from_arrow(pq.read_table(path), {})


def _rename(table: Table, names: Iterable[str], path: Path) -> None:
    """Give columns the names that are looked for, where only their letter case differs."""
    for name in dict.fromkeys(names):
        if name in table.colnames:
            continue
        close = [c for c in table.colnames if c.strip().casefold() == name.casefold()]
        if len(close) > 1:
            raise DataFileError(f"{path}: columns {' and '.join(close)} are both {name}; rename one of them")
        if close:
            table.rename_column(close[0], name)


def row_ids(table: Table, path: Path) -> tuple[IntArray, dict[int, str]]:
    """TARGETIDs of a table's rows, exactly.

    Parameters
    ----------
    table
        Has a column TARGETID.
    path
        For messages.

    Returns
    -------
    ids
        ``(nrow,)``, `UNREADABLE_ID` where there is none.
    why
        What is wrong in these rows.

    Raises
    ------
    DataFileError
        When the column is floating-point: neighbouring targets cannot be told apart.
    """
    column = np.ma.asanyarray(table["TARGETID"])
    masked, data = np.ma.getmaskarray(column), np.ma.getdata(column)
    if data.dtype.kind not in "iuUSO":
        try:
            exact_ids(data[:1])
        except InputError as error:
            raise DataFileError(f"{path}: column {error}") from None
    if data.dtype.kind == "i" and not masked.any():
        return data.astype(np.int64), {}
    ids = np.full(data.size, UNREADABLE_ID, dtype=np.int64)
    why: dict[int, str] = {}
    for row, (value, hidden) in enumerate(zip(data.tolist(), masked.tolist(), strict=True)):
        if hidden or value is None or (isinstance(value, str) and value.strip() in ("", "--")):
            why[row] = "TARGETID is blank; give an integer"
            continue
        try:
            ids[row] = exact_id(value)
        except InputError as error:
            why[row] = str(error)
    return ids, why


def floats(table: Table, name: str) -> FloatArray:
    """A column as numbers, NaN where it is blank or none.

    Parameters
    ----------
    table
        The table.
    name
        Its column.
    """
    column = np.ma.asanyarray(table[name])
    masked, data = np.ma.getmaskarray(column), np.ma.getdata(column)
    if data.dtype.kind in "biuf":
        return np.where(masked, np.nan, data.astype(np.float64))
    return np.array([np.nan if m else _number(v) for v, m in zip(data.tolist(), masked.tolist(), strict=True)])


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def is_blank(value: Any) -> bool:
    """Whether a cell holds nothing."""
    return value is None or np.ma.is_masked(value) or str(value).strip() in ("", "--")


def fluxes(table: Table, name: str, flux_unit: str, power: int, path: Path) -> NDArray[np.float64]:
    """A column of fluxes, or of inverse variances, in the survey's unit.

    Parameters
    ----------
    table
        The table.
    name
        Its column.
    flux_unit
        The survey's unit, which a column without one of its own is in.
    power
        1 for fluxes, -2 for their inverse variances.
    path
        For messages.

    Raises
    ------
    DataFileError
        When the column says that it is in another kind of unit.
    """
    values = floats(table, name)
    unit = getattr(table[name], "unit", None)
    text = str(unit).lower() if unit is not None else ""
    if not text or (flux_unit in _NANOMAGGIES and any(known in text for known in _NANOMAGGIES)):
        return values
    try:
        per = nanomaggies_per(str(unit if power == 1 else (u.Unit(unit) ** (1 / power)))) / nanomaggies_per(flux_unit)
    except (InputError, ValueError, TypeError):
        raise DataFileError(f"{path}: column {name} is in {unit}, not in {flux_unit}; convert it") from None
    return values * per**power
