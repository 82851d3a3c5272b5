"""Arrow tables to astropy Tables, with units and masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.table import Column, MaskedColumn, Table
from numpy.typing import NDArray

from provabgs.catalog import standard_columns as catalog_columns


def from_arrow(table: pa.Table, about: Mapping[str, catalog_columns.Column]) -> Table:
    """An astropy Table: floats with NaN for null, integers and text masked where null, units where known.

    Parameters
    ----------
    table
        Rows of a catalog.
    about
        Columns by name, for units and descriptions.

    Returns
    -------
    astropy.table.Table
        In the same order.
    """
    out = Table()
    for name in table.column_names:
        known = about.get(name)
        unit = known.unit if known is not None and known.unit else None
        out[name] = _column(table[name], unit, known.description if known is not None else None)
    return out


def _column(values: pa.ChunkedArray, unit: str | None, description: str | None) -> Column:
    if pa.types.is_floating(values.type):
        array = values.to_numpy()
        return Column(
            array.astype(np.dtype(values.type.to_pandas_dtype()), copy=False), unit=unit, description=description
        )
    empty = "" if pa.types.is_string(values.type) else 0
    mask = values.is_null().to_numpy()
    filled = values.fill_null(empty)
    array = np.array(filled.to_pylist(), dtype=str) if empty == "" else filled.to_numpy()
    if mask.any():
        return MaskedColumn(array, mask=mask, unit=unit, description=description)
    return Column(array, unit=unit, description=description)


def join_rows(table: Table, found: pa.Table, about: Mapping[str, catalog_columns.Column]) -> Table:
    """Rows of a table with the catalog's columns beside them.

    Parameters
    ----------
    table
        Any table.
    found
        POSITION (row of `table`) and the columns to add.
    about
        Units and descriptions of the columns, by name.

    Returns
    -------
    Table
        One row per row of `found`; columns that both have get the suffix ``_PROVABGS``.
    """
    joined = table[found["POSITION"].to_numpy()]
    added = from_arrow(found.drop_columns(["POSITION"]), about)
    for name in added.colnames:
        joined[f"{name}_PROVABGS" if name in table.colnames else name] = added[name]
    return joined


def to_numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """Arrow to numpy: null becomes NaN, text an object array."""
    if pa.types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return column.to_numpy()


def widen(array: NDArray[np.float64] | None, n: int, width: int) -> NDArray[np.float64]:
    """An array of NaN that holds another in its first columns.

    Parameters
    ----------
    array
        ``(n, w)``, or none.
    n, width
        Shape wanted.

    Returns
    -------
    NDArray
        ``(n, width)``.
    """
    if array is not None and array.shape[1] == width:
        return array
    wide = np.full((n, width), np.nan)
    if array is not None:
        wide[:, : array.shape[1]] = array
    return wide
