"""Rows of a catalog, of one posterior file, or of the fits of a mock challenge, whose draws can be read by shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from provabgs.catalog import Catalog
from provabgs.catalog.columns import Schema, union
from provabgs.catalog.configuration import stored_configs
from provabgs.catalog.layout import SUMMARY_NAME
from provabgs.catalog.samples import Places, SampleChunk, read_chunks
from provabgs.core.errors import DataFileError, InputError
from provabgs.population.rows import RowSelection, fitted_rows

_NEEDED = ("TARGETID", "Z", "STATUS", "N_SAMPLES", "SHARD", "SHARD_ROW")


@dataclass(frozen=True, eq=False)
class Source:
    """Rows whose draws can be read shard by shard.

    Attributes
    ----------
    root
        Directory that `shard` is relative to.
    columns
        ``(n,)`` per summary column asked for, and TARGETID, Z, STATUS, N_SAMPLES, SHARD, SHARD_ROW.
    configs
        Distinct fit configurations, JSON.
    schema
        Parameters and derived properties of the fits.
    label
        For messages.
    shards
        SHA-256 of each shard by its name.
    """

    root: Path
    columns: dict[str, NDArray[Any]]
    configs: tuple[str, ...]
    schema: Schema
    label: str
    shards: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.columns["TARGETID"])

    def take(self, rows: NDArray[Any]) -> Source:
        """The rows of the given indices or mask."""
        return replace(self, columns={k: v[rows] for k, v in self.columns.items()})

    def chunks(self, names: list[str]) -> Iterator[SampleChunk]:
        """Posterior draws of some sample columns, shard by shard."""
        c = self.columns
        places = Places(c["SHARD"], c["SHARD_ROW"].astype(np.int64), c["TARGETID"])
        return read_chunks(self.root, places, self.shards, names, self.schema)


def open_source(
    path: str | Path, where: str | None = None, *, mode: str = "both", columns: Sequence[str] = ()
) -> Source:
    """Rows of a catalog directory, of its ``summary.parquet``, of a posterior file, or of a challenge's fits.

    Parameters
    ----------
    path
        What to open. A challenge folder is known by its ``fits/`` directory.
    where
        Query on the summary; all rows when None.
    mode
        Which fits of a challenge: both, spectrum or photometry.
    columns
        Summary columns to bring along, such as weights.

    Returns
    -------
    Source
        Columns and configurations of the chosen rows; samples stay on disk.

    Raises
    ------
    DataFileError
        When there is nothing of the kind, or it is damaged.
    InputError
        When no row is chosen, or a column is unknown.
    """
    path = Path(path)
    if path.is_dir() and not (path / SUMMARY_NAME).is_file() and (path / "fits").is_dir():
        files = sorted((path / "fits" / mode).glob("chunk-*.h5"), key=lambda p: int(p.stem.removeprefix("chunk-")))
        if not files:
            held = sorted(p.name for p in (path / "fits").iterdir() if p.is_dir())
            raise DataFileError(
                f"{path / 'fits' / mode}: no fits here; the challenge holds {', '.join(held) or 'none'}"
            )
        opened = [_rows(file, where, columns) for file in files]
        root = path / "fits" / mode
    else:
        opened = [_rows(path, where, columns)]
        root = path if path.is_dir() else path.parent
    names = opened[0][0].keys()
    joined = {name: np.concatenate([rows[name] for rows, *_ in opened]) for name in names}
    configs = tuple(dict.fromkeys(c for _, found, _, _ in opened for c in found))
    schema = union(schema for _, _, schema, _ in opened)
    if not len(joined["TARGETID"]):
        raise InputError(f"{path}: no galaxy is chosen{f' by {where!r}' if where else ''}")
    shards = {name: sha256 for *_, found in opened for name, sha256 in found.items()}
    return Source(root, joined, configs, schema, str(path), shards)


def _rows(
    path: Path, where: str | None, columns: Sequence[str]
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], Schema, Mapping[str, str]]:
    """Columns, configurations, schema and shards' checksums of one file or catalog."""
    with Catalog.open(path) as catalog:
        catalog.require_shards()
        chosen = catalog.select(where) if where else catalog
        table = chosen.arrow(list(dict.fromkeys((*_NEEDED, *columns))))
        configs = stored_configs(catalog.metadata)
        schema, shards = catalog.schema, catalog.shards
    return {name: _numpy(table[name]) for name in table.column_names}, configs, schema, shards


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """Null becomes NaN, text an object array."""
    if pa.types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return np.asarray(column.to_numpy())


def fitted_source(source: Source, include_not_converged: bool = False) -> tuple[Source, RowSelection]:
    """The rows of a source that have samples, and what was left out.

    Parameters
    ----------
    source
        From `open_source`.
    include_not_converged
        Keep rows of STATUS NOT_CONVERGED.

    Returns
    -------
    source, rows
        The rows kept; the selection that kept them.

    Raises
    ------
    InputError
        When nothing is left.
    """
    rows = fitted_rows(source.columns["STATUS"], source.columns["N_SAMPLES"], include_not_converged)
    rows.require_some(source.label)
    return source.take(np.flatnonzero(rows.keep)), rows
