"""The Parquet summary: one row per galaxy, built from the shards, opened by pandas, polars, DuckDB and TOPCAT.

Unknown values are null (NaN in pandas), never a magic number. SHARD and SHARD_ROW lead from a row to its samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from provabgs.catalog.block import with_columns
from provabgs.catalog.columns import Schema, union
from provabgs.catalog.generations import forget_superseded
from provabgs.catalog.layout import SUMMARY_NAME, shard_paths
from provabgs.catalog.seal import seal
from provabgs.catalog.shard import read_models, read_summary
from provabgs.catalog.standard_columns import LOCATION, SURVEY, Column
from provabgs.core.atomic import atomic_path
from provabgs.core.errors import DataFileError

FORMAT = "provabgs-catalog-3"
SHARDS = "provabgs:shards"
"""Key of the metadata that holds the SHA-256 of each shard by its name, JSON."""
ROW_GROUP = 50_000
"""Galaxies per Parquet row group: small enough to skip by sky position, large enough to compress."""

_DROPPED = {"CONFIG_ID", "VERSIONS_ID", "MODEL_ID", "CLIPPED"}
_NULLABLE_INTEGERS = {c.name for c in SURVEY if c.dtype.startswith("i")}
ARROW_TYPES = {"f4": pa.float32(), "f8": pa.float64(), "i1": pa.int8(), "i2": pa.int16(), "i4": pa.int32(),
               "i8": pa.int64(), "S": pa.string()}  # fmt: skip
"""Type in the Parquet file of each type of `Column`."""


def build_summary(root: str | Path, *, allow_mixed: bool = False) -> int:
    """Write ``summary.parquet`` from all shards under `root`, atomically; memory stays that of one row group.

    Readers see the shards of the old summary until it is replaced, and those of the new one from then on.

    Parameters
    ----------
    root
        Directory of the catalog.
    allow_mixed
        Accept rows made by different versions or fit configurations.

    Returns
    -------
    int
        Number of galaxies.

    Raises
    ------
    DataFileError
        When there is no shard, one is damaged, or versions or configurations are mixed and `allow_mixed` is off.
    """
    root = Path(root)
    paths = shard_paths(root)
    if not paths:
        raise DataFileError(f"{root}: holds no shards; run `provabgs run` first")
    origin = Origin(allow_mixed)
    schema = _schema_of(paths)
    n_rows = 0
    with atomic_path(root / SUMMARY_NAME) as temporary:
        with pq.ParquetWriter(temporary, _arrow_schema(schema), compression="zstd", write_page_checksum=True) as writer:
            for table in _grouped(_tables(root, paths, origin, schema)):
                writer.write_table(table, row_group_size=ROW_GROUP)
                n_rows += table.num_rows
            metadata = {**origin.metadata(n_rows, len(paths)), "provabgs:schema": schema.to_json()}
            writer.add_key_value_metadata(metadata)
        seal(temporary)
    forget_superseded(root)
    return n_rows


class Origin:
    """What made the rows: configurations and version tables met so far."""

    def __init__(self, allow_mixed: bool) -> None:
        self.allow_mixed = allow_mixed
        self.seen: dict[str, dict[str, Path]] = {"fit configurations": {}, "versions": {}}
        self.shards: dict[str, str] = {}
        """SHA-256 of each shard, by its name."""

    def add(self, path: Path, configs: Iterable[str], versions: Iterable[str]) -> None:
        """Note a shard's tables.

        Parameters
        ----------
        path
            The shard.
        configs
            Its fit configurations, JSON.
        versions
            Its version tables, JSON.

        Raises
        ------
        DataFileError
            When they differ from those of earlier shards and mixing is not allowed.
        """
        for what, texts in (("fit configurations", configs), ("versions", versions)):
            known = self.seen[what]
            for text in texts:
                known.setdefault(text, path)
            if len(known) > 1 and not self.allow_mixed:
                first, second = list(known)[:2]
                raise DataFileError(
                    f"{path}: {what} differ from {known[first]} ({_difference(first, second)}); keep such rows in "
                    "separate catalogs, or set allow_mixed = true"
                )

    def metadata(self, n_rows: int, n_shards: int) -> dict[str, str]:
        """Key-value metadata of the Parquet file.

        Parameters
        ----------
        n_rows
            Galaxies in the catalog.
        n_shards
            Shards in the catalog.

        Returns
        -------
        dict
            Text by key; every key starts with ``provabgs:``.
        """
        return {
            "provabgs:format": FORMAT,
            "provabgs:n_galaxies": str(n_rows),
            "provabgs:n_shards": str(n_shards),
            "provabgs:configs": json.dumps(list(self.seen["fit configurations"])),
            "provabgs:versions": json.dumps(list(self.seen["versions"])),
            SHARDS: json.dumps(self.shards),
        }


def summary_columns(schema: Schema) -> tuple[Column, ...]:
    """Columns of the Parquet file, in order."""
    return (*(c for c in schema.columns if c.name not in _DROPPED), *LOCATION)


def to_arrow(summary: NDArray[np.void], shard: str, schema: Schema) -> pa.Table:
    """Summary rows of one shard as an Arrow table with nulls.

    Parameters
    ----------
    summary
        ``(N,)`` rows; columns of the schema that they lack become null.
    shard
        Name of the shard, relative to the catalog.
    schema
        Of the whole catalog.

    Returns
    -------
    pyarrow.Table
        With unit and description of every column.
    """
    summary, arrays = with_columns(summary, schema), []
    for column in summary_columns(schema):
        if column.name == "SHARD":
            arrays.append(pa.array([shard] * summary.size, pa.string()))
        elif column.name == "SHARD_ROW":
            arrays.append(pa.array(np.arange(summary.size, dtype=np.int32)))
        else:
            arrays.append(_arrow_array(column, summary[column.name]))
    return pa.Table.from_arrays(arrays, schema=_arrow_schema(schema))


def _arrow_array(column: Column, values: NDArray[Any]) -> pa.Array:
    """One column, its unknown entries null."""
    if column.dtype == "S":
        return pa.array([v.decode() or None for v in values.tolist()], pa.string())
    if column.dtype.startswith("f"):
        return pa.array(values, ARROW_TYPES[column.dtype], mask=np.isnan(values))
    mask = values == -1 if column.dtype == "i1" or column.name in _NULLABLE_INTEGERS else None
    return pa.array(values, ARROW_TYPES[column.dtype], mask=mask)


def _arrow_schema(schema: Schema) -> pa.Schema:
    """Arrow schema with unit and description of every column."""
    return pa.schema([arrow_field(c) for c in summary_columns(schema)])


def arrow_field(column: Column) -> pa.Field:
    """A column's field, with its unit, description, meaning of null and UCD."""
    about = {"unit": column.unit, "description": column.description, "null": column.null, "ucd": column.ucd}
    told = {key: text for key, text in about.items() if text or key in ("unit", "description")}
    return pa.field(column.name, ARROW_TYPES[column.dtype], metadata=told)


def _schema_of(paths: list[Path]) -> Schema:
    """Quantities of all models in a catalog's shards."""
    known: dict[str, Schema] = {}
    for path in paths:
        for text, schema in read_models(path).items():
            if text in known:
                continue
            known[text] = schema
            try:
                union(known.values())
            except DataFileError as error:
                raise DataFileError(f"{path}: {error}") from None
    return union(known.values())


def _tables(root: Path, paths: list[Path], origin: Origin, schema: Schema) -> Iterator[pa.Table]:
    """Summary of each shard in turn."""
    for path in paths:
        shard = read_summary(path)
        origin.add(path, shard.configs, shard.versions)
        name = path.relative_to(root).as_posix()
        origin.shards[name] = str(shard.attrs["sha256"])
        yield to_arrow(shard.rows, name, schema)


def _grouped(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Join small tables into row groups."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(t.num_rows for t in waiting) >= ROW_GROUP:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _difference(first: str, second: str) -> str:
    """The first key in which two JSON dictionaries differ."""
    a, b = json.loads(first), json.loads(second)
    for key in sorted({*a, *b}):
        if a.get(key) != b.get(key):
            return f"{key}: {a.get(key)!r} there, {b.get(key)!r} here"
    return "their text"
