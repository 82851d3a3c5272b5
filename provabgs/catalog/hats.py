"""Export in HATS, which `lsdb` opens, filters and cross-matches on a Dask cluster: Parquet files by HEALPix pixel.

Every column of the summary is written, with its unit, description, meaning of null and UCD, and on request the draws
as one nested column. `provabgs.catalog.Catalog` opens the directory, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from provabgs.catalog.columns import LOG_PROB, Schema
from provabgs.catalog.hats_layout import (
    COLLECTION,
    COMMON_METADATA,
    DATASET,
    DRAWS,
    INDEX,
    METADATA,
    METADATA_SHA256,
    PROPERTIES,
    Pixel,
    collection,
    healpix29,
    partition,
    partition_info,
    properties,
)
from provabgs.catalog.hats_margin import Margin
from provabgs.catalog.query import Catalog
from provabgs.catalog.standard_columns import NO_DRAWS, Column
from provabgs.catalog.summary import SHARDS, arrow_field
from provabgs.core.arrays import FloatArray, IntArray, thin
from provabgs.core.atomic import atomic_directory
from provabgs.core.errors import InputError
from provabgs.core.progress import report, unheard

ROWS = 100_000
"""Most galaxies of a file: about 60 MB without draws."""
MARGIN = 5.0
"""Arcsec, as `lsdb` and `hats-import` have it."""
MOST_MARGIN = 3600.0
ROW_GROUP = 10_000
"""Galaxies of a Parquet row group, and the most of which draws are in memory."""
_INDEX_COLUMN = Column(INDEX, "i8", "", "HEALPix pixel, nested, order 29", null="never", ucd="pos.healpix")


def export_hats(
    catalog: Catalog, folder: str | Path, *, draws: int = 0, rows: int = ROWS, margin: float = MARGIN
) -> int:
    """Write the chosen galaxies as a HATS catalog.

    Parameters
    ----------
    catalog
        A catalog or a selection of one.
    folder
        Directory to make; its name is that of the HATS catalog.
    draws
        Posterior draws of each galaxy, evenly chosen among those kept; 0 for none.
    rows
        Most galaxies of a file.
    margin
        Arcsec around each pixel whose galaxies are in a margin catalog beside the catalog, for cross-matches; 0 for
        the catalog alone.

    Returns
    -------
    int
        Number of files of galaxies, without those of the margin.

    Raises
    ------
    InputError
        When the directory exists (nothing is overwritten), the selection is empty, a galaxy has no position, or the
        margin is not within 0 and `MOST_MARGIN`.
    """
    folder = Path(folder)
    if draws < 0 or rows < 1:
        raise InputError(f"draws = {draws}, rows = {rows}: need draws >= 0 and rows >= 1")
    if not 0 <= margin <= MOST_MARGIN:
        raise InputError(f"margin = {margin}: need 0 (none) to {MOST_MARGIN:g} arcsec")
    if folder.exists() or folder.is_symlink():
        raise InputError(f"{folder}: exists; HATS catalogs are written to a new directory, nothing is overwritten")
    index = _positions(catalog)
    parts = partition(index, rows)
    around = Margin(index, rows, margin) if margin else None
    writer = _Writer(catalog, draws, len(parts), index.size, around)
    with atomic_directory(folder) as temporary:
        root = temporary / folder.name if around else temporary
        footers, done = [], 0
        for pixel, n in parts:
            report("writing galaxies", done, index.size)
            with unheard():
                footers.append(writer.write(root, pixel, n))
            done += n
        _write_rest(root, folder.name, writer.schema, parts, footers)
        if around is not None:
            _write_margin(temporary, folder.name, writer, around)
    return len(parts)


def _positions(catalog: Catalog) -> IntArray:
    """Order-29 pixel of every chosen galaxy."""
    rows = catalog.arrow(["TARGETID", "RA", "DEC"])
    if rows.num_rows == 0:
        raise InputError("the selection is empty: there is nothing to export")
    ra, dec = (rows[c].to_numpy() for c in ("RA", "DEC"))
    on_sky = np.isfinite(ra) & (np.abs(dec) <= 90)
    if not on_sky.all():
        first = rows["TARGETID"][int(np.flatnonzero(~on_sky)[0])]
        raise InputError(
            f"{(~on_sky).sum()} of {on_sky.size} galaxies have no position on the sky (first TARGETID {first}), by "
            'which HATS places them; leave them out: -w "not isnull(RA) and abs(DEC) <= 90"'
        )
    return healpix29(ra, dec)


class _Writer:
    """Writes the galaxies of one pixel after another.

    Parameters
    ----------
    catalog
        Galaxies to write.
    draws
        Of each.
    n_parts, n_rows
        Pixels and galaxies in all.
    margin
        Told of every galaxy that is written.
    """

    def __init__(self, catalog: Catalog, draws: int, n_parts: int, n_rows: int, margin: Margin | None) -> None:
        self.catalog, self.draws, self.margin = catalog, draws, margin
        self.names = list(catalog.schema.sample_columns) if draws else []
        about = {c.name: c for c in catalog.schema.table_columns}
        fields = [arrow_field(_INDEX_COLUMN), *(arrow_field(about[name]) for name in catalog.columns)]
        if draws:
            told = {"unit": "", "description": "posterior draws of each quantity", "null": NO_DRAWS}
            fields.append(pa.field(DRAWS, pa.struct(_draw_fields(catalog.schema, self.names)), metadata=told))
        replaced = {"provabgs:n_galaxies": str(n_rows), "provabgs:n_shards": str(n_parts), SHARDS: "{}"}
        kept = {k: v for k, v in catalog.metadata.items() if k.startswith("provabgs:")}
        self.schema = pa.schema(fields, metadata=kept | replaced)

    @property
    def options(self) -> dict[str, Any]:
        """Of Parquet files: page checksums let `Catalog` tell damage; statistics of draws would help nobody."""
        told = [f.name for f in self.schema if f.name != DRAWS]
        return {
            "compression": "zstd", "write_page_checksum": True, "write_statistics": told, **_encodings(self.schema)
        }  # fmt: skip

    def write(self, folder: Path, pixel: Pixel, n: int) -> pq.FileMetaData:
        """Write the file of one pixel, a row group at a time.

        Parameters
        ----------
        folder
            Root of the HATS catalog.
        pixel
            Which.
        n
            Galaxies in it.

        Returns
        -------
        pyarrow.parquet.FileMetaData
            The file's footer.
        """
        shard = f"{DATASET}/{pixel.name}"
        path = folder / shard
        path.parent.mkdir(parents=True, exist_ok=True)
        table = self.catalog.pixel(pixel.order, pixel.number).arrow()
        if table.num_rows != n:
            raise InputError(
                f"HPIX_64 of {n - table.num_rows} galaxies is not of their RA and DEC; build the summary again "
                "(`provabgs run`)"
            )
        index = healpix29(table["RA"].to_numpy(), table["DEC"].to_numpy())
        order = np.lexsort((table["TARGETID"].to_numpy(), index))
        collected: list[pq.FileMetaData] = []
        with pq.ParquetWriter(path, self.schema, metadata_collector=collected, **self.options) as writer:
            for start in range(0, n, ROW_GROUP):
                places = order[start : start + ROW_GROUP]
                rows = self._rows(table.take(pa.array(places)), index[places], shard, start)
                writer.write_table(rows)
                if self.margin is not None:
                    self.margin.add(rows, index[places])
        (footer,) = collected
        footer.set_file_path(pixel.name)
        return footer

    def _rows(self, rows: pa.Table, index: IntArray, shard: str, start: int) -> pa.Table:
        """A row group: index, columns of the summary, where draws are now, and the draws."""
        count, nested = self._nested(rows)
        replaced = {
            INDEX: pa.array(index),
            "N_SAMPLES": pa.array(count, pa.int32()),
            "SHARD": pa.array([shard] * len(index), pa.string()),
            "SHARD_ROW": pa.array(np.arange(start, start + len(index)), pa.int32()),
            DRAWS: nested,
        }
        arrays = [replaced[f.name] if f.name in replaced else rows[f.name] for f in self.schema]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _nested(self, rows: pa.Table) -> tuple[IntArray, pa.StructArray | None]:
        """Number of draws of each row, and the draws as a struct of lists, null where there are none."""
        held = rows["N_SAMPLES"].to_numpy().astype(np.int64)
        count = np.minimum(held, self.draws)
        if not self.draws:
            return count, None
        wide = {name: np.full((held.size, self.draws), np.nan) for name in self.names}
        for chunk in self.catalog.chunks(rows, self.names):
            for name, values in chunk.values.items():
                wide[name][chunk.positions] = _thinned(values, held[chunk.positions], self.draws)
        kept = np.arange(self.draws) < count[:, None]
        offsets = pa.array(np.concatenate([[0], np.cumsum(count)]), pa.int32())
        fields = list(self.schema.field(DRAWS).type)
        lists = [
            pa.ListArray.from_arrays(offsets, pa.array(wide[f.name][kept], f.type.value_type), type=f.type)
            for f in fields
        ]
        return count, pa.StructArray.from_arrays(lists, fields=fields, mask=pa.array(count == 0))


def _draw_fields(schema: Schema, names: list[str]) -> list[pa.Field]:
    """The parts of the nested column; ln p needs double precision, its differences are small against it."""
    about = {q.column: (q.unit, q.description) for q in schema.quantities}
    about[LOG_PROB] = ("", "log posterior density of the draw")
    fields = []
    for name in names:
        unit, text = about[name]
        kind = pa.list_(pa.float64() if name == LOG_PROB else pa.float32())
        fields.append(pa.field(name, kind, metadata={"unit": unit, "description": text}))
    return fields


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """Numbers with a fraction byte by byte, as hats-import writes them: they repeat in their first bytes alone."""
    leaves = [(f.name, f.type) for f in schema if f.name != DRAWS]
    if DRAWS in schema.names:
        leaves += [(f"{DRAWS}.{f.name}.list.element", f.type.value_type) for f in schema.field(DRAWS).type]
    split = [path for path, kind in leaves if pa.types.is_floating(kind)]
    return {
        "column_encoding": dict.fromkeys(split, "BYTE_STREAM_SPLIT") | {INDEX: "DELTA_BINARY_PACKED"},
        "use_dictionary": [path for path, _ in leaves if path not in split and path != INDEX],
    }


def _thinned(values: FloatArray, held: IntArray, draws: int) -> FloatArray:
    """Evenly chosen draws of each row, ``(n, draws)``; rows that hold fewer end in NaN."""
    out = np.full((held.size, draws), np.nan)
    for n in np.unique(held[held > 0]):
        places = thin(int(n), draws)
        of_n = held == n
        out[of_n, : places.size] = values[of_n][:, places]
    return out


def _write_rest(
    folder: Path, name: str, schema: pa.Schema, parts: list[tuple[Pixel, int]], footers: list[pq.FileMetaData]
) -> None:
    """Everything but the galaxies: the dataset's footers, its list of pixels, its properties."""
    dataset = folder / DATASET
    pq.write_metadata(schema, dataset / COMMON_METADATA)
    pq.write_metadata(schema, dataset / METADATA, metadata_collector=footers)
    (folder / "partition_info.csv").write_text(partition_info(parts))
    size = sum(p.stat().st_size for p in _files(folder))
    sha256 = hashlib.sha256((dataset / METADATA).read_bytes()).hexdigest()
    configs = len(json.loads(schema.metadata.get(b"provabgs:configs", b"[]")))
    more = {"obs_title": f"provabgs posteriors of {configs} configuration{'s' * (configs != 1)}"}
    text = properties(name, parts, size, **more, **{METADATA_SHA256: sha256})
    for file in PROPERTIES:
        (folder / file).write_text(text)


def _write_margin(root: Path, name: str, writer: _Writer, margin: Margin) -> None:
    """The margin's catalog beside the catalog, and what says that both belong together."""
    own = f"{name}_{margin.threshold:g}arcs".replace(".", "p")
    parts = margin.write(root / own, writer.schema, **writer.options)
    (root / own / "partition_info.csv").write_text(partition_info(parts))
    size = sum(p.stat().st_size for p in _files(root / own))
    about = {
        "dataproduct_type": "margin", "hats_primary_table_url": name, "hats_margin_threshold": f"{margin.threshold:g}"
    }  # fmt: skip
    text = properties(own, parts, size, **about)
    for file in PROPERTIES:
        (root / own / file).write_text(text)
    (root / COLLECTION).write_text(collection(name, own))


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in folder.rglob("*") if p.is_file())
