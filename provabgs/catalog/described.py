"""Tables in FITS and VOTable, with the unit, description and UCD of every column."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import Table

from provabgs.catalog.standard_columns import Column

LONGEST_COMMENT = 500
"""Characters of a description in a FITS header."""
_VOUNITS = {u.Unit(ours): u.Unit(theirs) for ours, theirs in (
    ("Angstrom", "0.1 nm"), ("1e-17 erg / (s cm2)", "1e-20 W / m2"),
)}  # fmt: skip
"""Units that the IVOA's VOUnit standard writes in another way."""


def described(table: Table, columns: Iterable[Column]) -> Table:
    """A table whose columns say what they are, in terms that FITS and VOTable have.

    Parameters
    ----------
    table
        Of a catalog.
    columns
        What its columns mean; those that are not among them keep what they have.

    Returns
    -------
    Table
        Units of logarithms, which neither standard has, stand in the description instead; UCDs in ``meta``.
    """
    known = {c.name: c for c in columns}
    out = table.copy(copy_data=False)
    for column in out.itercols():
        about = known.get(column.name)
        if about is None:
            continue
        log = about.unit.startswith("dex")
        column.description = about.description + (f" [{about.unit}]" if log else "")
        column.unit = u.Unit(about.unit) if about.unit and not log else None
        column.meta = {"ucd": about.ucd} if about.ucd else {}
        if getattr(column, "mask", None) is not None and column.dtype.kind == "i":
            column.fill_value = -1 if column.dtype.itemsize == 1 else np.iinfo(column.dtype).min
    return out


def table_hdu(table: Table, name: str, columns: Iterable[Column]) -> fits.BinTableHDU:
    """A binary table; masked integers get a TNULL.

    Parameters
    ----------
    table
        Of a catalog.
    name
        EXTNAME.
    columns
        What its columns mean.

    Returns
    -------
    astropy.io.fits.BinTableHDU
        TTYPE, TUNIT, TCOMM and TUCD of each column.
    """
    told = described(table, columns)
    about = [(c.description or "", c.meta.get("ucd", "")) for c in told.itercols()]
    for column in told.itercols():
        column.description, column.meta = None, {}
    hdu = fits.table_to_hdu(told)
    hdu.name = name
    for number, (comment, ucd) in enumerate(about, 1):
        hdu.header[f"TCOMM{number}"] = comment[:LONGEST_COMMENT]
        if ucd:
            hdu.header[f"TUCD{number}"] = ucd
    return hdu


def write_votable(table: Table, path: Path, columns: Iterable[Column]) -> None:
    """Write a VOTable (binary), its fields with unit, description and UCD.

    Parameters
    ----------
    table
        Of a catalog.
    path
        File to write.
    columns
        What its columns mean.
    """
    told = described(table, columns)
    for name in [c.name for c in told.itercols() if c.dtype == np.int8]:
        wide = told[name].astype(np.int16)  # VOTable has no signed bytes
        wide.description, wide.meta = told[name].description, told[name].meta
        told[name] = wide
    for column in told.itercols():
        if column.unit is not None and column.unit in _VOUNITS:
            column.unit = _VOUNITS[column.unit]
    votable = from_table(told)
    votable.set_all_tables_format("binary2")
    votable.to_xml(str(path))
