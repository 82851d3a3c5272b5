"""The catalog's summary as chunks: single columns for the overview, and short blocks of whole rows for the pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from provabgs.catalog.columns import Schema
from provabgs.catalog.query import Catalog
from provabgs.gallery.pack import pack, write_chunk

ROWS = 256
"""Galaxies per block of rows: a page of one galaxy loads one block."""
BATCH = 256 * ROWS
"""Galaxies in memory with all their columns."""
MOST_CATEGORIES = 60
"""Columns of text with more distinct values than that are on the galaxies' pages alone."""
LEFT_OUT = ("_RHAT", "_ESS_BULK", "_ESS_TAIL", "_BF", "_EDGE")
"""Ends of the names of columns that only pages show, of each quantity; the overview has RHAT_MAX and ESS_MIN."""
MIDDLE = (0.005, 0.995)
"""Quantiles between which a plot begins."""

Progress = Callable[[str, int, int], None]
"""Told what is done, how many and of how many."""


@dataclass
class ColumnInfo:
    """What the overview knows of a column.

    Attributes
    ----------
    name, unit, description
        As in the catalog.
    categories
        Distinct values of a column of text, whose data are positions in this list.
    file
        Number of the chunk that holds it.
    low, high
        Between which most values lie.
    """

    name: str
    unit: str = ""
    description: str = ""
    categories: list[str] | None = None
    file: int = -1
    low: float = 0.0
    high: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """For the pages."""
        return dict(vars(self))


@dataclass
class Summary:
    """What was written of a catalog's summary.

    Attributes
    ----------
    n
        Galaxies.
    columns
        Those of the overview, in the catalog's order.
    units
        Unit and description of every column that pages show.
    values
        The overview's columns, by name.
    places
        SHARD, SHARD_ROW and N_SAMPLES of every galaxy.
    """

    n: int = 0
    columns: list[ColumnInfo] = field(default_factory=list)
    units: dict[str, tuple[str, str]] = field(default_factory=dict)
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    places: dict[str, NDArray[Any]] = field(default_factory=dict)


def write_summary(catalog: Catalog, data: Path, progress: Progress) -> Summary:
    """Write a catalog's summary as chunks; memory is that of the overview's columns.

    Parameters
    ----------
    catalog
        The galaxies.
    data
        Folder of the chunks.
    progress
        Told of the rows written.

    Returns
    -------
    Summary
        What was written.
    """
    total = len(catalog)
    about = catalog.schema.by_name
    out = Summary(units={c: (about[c].unit, about[c].description) if c in about else ("", "") for c in catalog.columns})
    overview = _overview_columns(catalog)
    parts: dict[str, list[NDArray[Any]]] = {c: [] for c in overview}
    categories: dict[str, dict[str, int]] = {}
    places: dict[str, list[Any]] = {"SHARD": [], "SHARD_ROW": [], "N_SAMPLES": []}
    for start, batch in _batches(catalog):
        numbers, text = _columns(batch)
        _write_rows(data, start, numbers, text)
        for name in overview:
            if name in numbers:
                parts[name].append(numbers[name])
            else:
                parts[name].append(_codes(text[name], categories.setdefault(name, {})))
        for name, values in places.items():
            values.extend(text[name] if name in text else numbers[name].tolist())
        out.n = start + batch.num_rows
        progress("galaxies", out.n, total)
    out.places = {name: np.array(values, dtype=object if name == "SHARD" else int) for name, values in places.items()}
    for name in overview:
        known = list(categories.get(name, ())) if name in categories else None
        if known is not None and len(known) > MOST_CATEGORIES:
            continue
        out.values[name] = np.concatenate(parts.pop(name))
        out.columns.append(_write_column(data, len(out.columns), name, out, known))
        progress("columns", len(out.columns), len(overview))
    return out


def _overview_columns(catalog: Catalog) -> list[str]:
    """Columns that can be drawn, filtered and listed."""
    of_one = {f"{q.column}{end}" for q in catalog.schema.quantities for end in LEFT_OUT}
    return [c for c in catalog.columns if c not in of_one and c not in ("SHARD", "SHARD_ROW", "META", "MESSAGE",
                                                                       "DATA_HASH", "HPIX_64")]  # fmt: skip


def _batches(catalog: Catalog) -> Iterator[tuple[int, pa.Table]]:
    """First row and rows of pieces that are whole numbers of blocks long, but for the last."""
    start, waiting = 0, []
    for piece in catalog.batches(rows=BATCH):
        waiting.append(piece)
        while sum(p.num_rows for p in waiting) >= BATCH:
            table = pa.Table.from_batches(waiting)
            yield start, table.slice(0, BATCH)
            start += BATCH
            waiting = table.slice(BATCH).to_batches()
    if any(p.num_rows for p in waiting):
        yield start, pa.Table.from_batches(waiting)


def _columns(batch: pa.Table) -> tuple[dict[str, NDArray[Any]], dict[str, list[str]]]:
    """Numbers, null as NaN, and texts, null as nothing."""
    numbers: dict[str, NDArray[Any]] = {}
    text: dict[str, list[str]] = {}
    for name in batch.column_names:
        values = batch[name]
        if pa.types.is_string(values.type):
            text[name] = values.fill_null("").to_pylist()
        else:
            array = values.to_numpy()  # integers with null become float64
            numbers[name] = array.astype(np.float32) if array.dtype.kind == "f" and _short(array) else array
    return numbers, text


def _short(array: NDArray[Any]) -> bool:
    """Whether a column is as good in single precision."""
    if array.dtype.itemsize <= 4:
        return True
    with np.errstate(over="ignore"):
        return bool(np.array_equal(array.astype(np.float32), array, equal_nan=True))


def _codes(texts: list[str], known: dict[str, int]) -> NDArray[np.uint8]:
    """Texts as positions in the table of texts met so far; 255 once there are too many of them."""
    codes = np.full(len(texts), 255, dtype=np.uint8)
    for i, value in enumerate(texts):
        if value not in known and len(known) > MOST_CATEGORIES:
            continue
        codes[i] = known.setdefault(value, len(known))
    return codes


def _write_rows(data: Path, start: int, numbers: dict[str, NDArray[Any]], text: dict[str, list[str]]) -> None:
    n = len(next(iter(numbers.values())))
    for first in range(0, n, ROWS):
        part = slice(first, first + ROWS)
        name = f"rows/{(start + first) // ROWS}"
        chunk = pack({k: v[part] for k, v in numbers.items()}, {k: v[part] for k, v in text.items()})
        write_chunk(data / f"{name}.js", name, chunk)


def _write_column(data: Path, number: int, name: str, out: Summary, categories: list[str] | None) -> ColumnInfo:
    values = out.values[name]
    if values.dtype.kind == "i" and values.dtype.itemsize == 8 and name != "TARGETID" and np.all(abs(values) < 2**31):
        values = values.astype(np.int32)
    chunk = f"columns/{number}"
    write_chunk(data / f"{chunk}.js", chunk, pack({name: values}))
    unit, description = out.units[name]
    low, high = drawn_range(values) if categories is None else (-0.5, len(categories) - 0.5)
    return ColumnInfo(name, unit, description, categories, number, low, high)


def drawn_range(values: NDArray[Any]) -> tuple[float, float]:
    """Where a plot of a column begins and ends: most of its values with a margin, and nothing beyond all of them."""
    known = values[np.isfinite(values)].astype(np.float64)
    if known.size == 0:
        return 0.0, 1.0
    low, high = np.quantile(known, MIDDLE)
    margin = 0.08 * (high - low)
    if known.size < 200:
        low, high = known.min(), known.max()
        margin = 0.08 * (high - low)
    if high <= low:
        margin = 0.5 * max(1e-3, 0.1 * abs(low))
    return float(low - margin), float(high + margin)


def first_choice(names: list[str], schema: Schema) -> tuple[str, str]:
    """Columns that the overview opens with: star formation rate over mass where the catalog has them.

    Parameters
    ----------
    names
        Columns of the overview.
    schema
        Of the catalog.
    """
    wanted: list[str] = [c for c in ("LOGMSTAR_P50", "LOGSFR_100MYR_P50", "LOGSFR_1GYR_P50") if c in names]
    wanted += [f"{q.column}_P50" for q in schema.quantities if f"{q.column}_P50" in names]
    wanted += names
    ordered = list(dict.fromkeys(wanted))
    return ordered[0], ordered[1]
