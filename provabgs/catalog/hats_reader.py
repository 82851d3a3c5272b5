"""Rows and draws of a HATS catalog that `provabgs.catalog.hats` wrote, local or through fsspec.

One read of ``dataset/_metadata`` gives the footers of all files, so that a question opens only the files, row groups
and columns that it needs. That file is verified by its SHA-256 and every page by its CRC.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import fsspec.core
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from provabgs.catalog.columns import Schema
from provabgs.catalog.hats_layout import (
    COLLECTION,
    DATASET,
    DRAWS,
    INDEX,
    METADATA,
    METADATA_SHA256,
    PROPERTIES,
    read_properties,
)
from provabgs.catalog.names import sample_formulas
from provabgs.catalog.samples import Places, SampleChunk, stored_columns, value_of
from provabgs.catalog.seal import DAMAGE
from provabgs.catalog.summary_reader import SummaryReader
from provabgs.core.errors import DataFileError, InputError
from provabgs.core.messages import first_line
from provabgs.core.progress import report

_CURE = "; copy it again, or export it again"


class RowGroup(NamedTuple):
    """A row group of the dataset.

    Attributes
    ----------
    number
        Among all of them.
    first, n_rows
        Its first row in its file, and how many it has.
    """

    number: int
    first: int
    n_rows: int


def is_hats(path: str | Path) -> bool:
    """Whether a directory, or a URL of one that fsspec knows, says that it is a HATS catalog."""
    if "://" in str(path):
        return True
    return any((Path(path) / name).is_file() for name in (COLLECTION, *PROPERTIES))


class HatsReader(SummaryReader):
    """One HATS catalog.

    Parameters
    ----------
    path
        Directory, or URL.

    Raises
    ------
    DataFileError
        When there is none, it is damaged, or something else than provabgs wrote it.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            self._fs, self._root = fsspec.core.url_to_fs(str(path))
            self._base = self._catalog_of(self._root)
            kept = read_properties(self._text())
            raw = self._fs.cat_file(f"{self._base}/{DATASET}/{METADATA}")
        except (OSError, ValueError, ImportError) as error:
            raise DataFileError(f"{path}: cannot be read as a HATS catalog ({first_line(error)})") from None
        if kept.get("dataproduct_type") == "margin":
            raise DataFileError(
                f"{path}: is the margin of a catalog; open {kept.get('hats_primary_table_url')} beside it"
            )
        if METADATA_SHA256 not in kept:
            raise DataFileError(
                f"{path}: a HATS catalog, but not one that provabgs wrote; open it with lsdb, or compare it with "
                "`provabgs compare --mapping`"
            )
        if hashlib.sha256(raw).hexdigest() != kept[METADATA_SHA256]:
            raise DataFileError(f"{path}/{DATASET}/{METADATA}: does not match its checksum: damaged{_CURE}")
        self._metadata = pq.read_metadata(io.BytesIO(raw))
        whole = self._metadata.schema.to_arrow_schema()
        texts = {k.decode(): v.decode() for k, v in (whole.metadata or {}).items()}
        self._drawn = DRAWS in whole.names
        summary = pa.schema([f for f in whole if f.name not in (INDEX, DRAWS)])
        super().__init__(summary, summary.empty_table(), texts)
        self._leaves = {self._metadata.schema.column(i).path: i for i in range(self._metadata.num_columns)}
        self.groups = _groups(self._metadata)

    @property
    def files(self) -> list[Path]:
        """Everything that answers are read from, where it is local."""
        if "file" not in np.atleast_1d(self._fs.protocol):
            return []
        root = Path(self._base)
        return [Path(self._root), root, *(root / name for name in PROPERTIES), root / DATASET / METADATA,
                *(root / DATASET / name for name in self.groups)]  # fmt: skip

    def chunks(self, places: Places, names: list[str], schema: Schema) -> Iterator[SampleChunk]:
        """Draws of some galaxies, a row group at a time.

        Parameters
        ----------
        places
            File (as ``SHARD``), row and TARGETID of each galaxy.
        names
            Sample columns, stored or computed.
        schema
            Of the catalog.

        Yields
        ------
        SampleChunk
            One per row group that holds some.

        Raises
        ------
        InputError
            When the catalog was exported without draws.
        DataFileError
            When a file is missing or damaged.
        """
        if not self._drawn:
            raise InputError(f"{self._base}: was exported without draws; export with --draws N, or ask the catalog")
        columns, formulas = stored_columns(names, schema), sample_formulas(schema)
        done, total = 0, places.shard.size
        for shard in dict.fromkeys(places.shard.tolist()):
            report("reading draws", done, total)
            of_shard = np.flatnonzero(places.shard == shard)
            done += of_shard.size
            groups = self.groups.get(str(shard).removeprefix(f"{DATASET}/"), [])
            with self._file(str(shard)) as file:
                for group in groups:
                    local = places.row[of_shard] - group.first
                    positions = of_shard[(local >= 0) & (local < group.n_rows)]
                    if positions.size:
                        rows = places.row[positions] - group.first
                        arrays = self._draws(file, group, rows, places.targetid[positions], columns)
                        yield SampleChunk(positions, {n: value_of(n, arrays, formulas) for n in names})

    def _draws(
        self, file: pq.ParquetFile, group: RowGroup, rows: NDArray[np.int64], ids: NDArray[np.int64], columns: list[str]
    ) -> dict[str, NDArray[np.float64]]:
        """``(n, S)`` of each column, NaN past a row's draws."""
        wanted = ["TARGETID", *(f"{DRAWS}.{c}" for c in columns)]
        try:
            table = file.read_row_group(group.number, columns=wanted).take(pa.array(rows))
        except DAMAGE as error:
            raise self._unreadable(error) from None
        if not np.array_equal(table["TARGETID"].to_numpy(), ids):
            raise DataFileError(f"{self._base}: rows of draws are of other galaxies{_CURE}")
        nested = table[DRAWS].combine_chunks()
        return {c: _filled(nested, c) for c in columns}

    def _catalog_of(self, root: str) -> str:
        """The catalog itself: beside its margin in a collection, else what was given."""
        if not self._fs.exists(f"{root}/{COLLECTION}"):
            return root
        name = read_properties(self._fs.cat_file(f"{root}/{COLLECTION}").decode()).get("hats_primary_table_url", "")
        if not name or "/" in name or name.startswith("."):
            raise ValueError(f"its {COLLECTION} names no catalog beside it")
        return f"{root}/{name}"

    def _text(self) -> str:
        for name in PROPERTIES:
            if self._fs.exists(f"{self._base}/{name}"):
                return str(self._fs.cat_file(f"{self._base}/{name}").decode())
        raise FileNotFoundError("it has no hats.properties")

    def _unreadable(self, error: BaseException) -> DataFileError:
        return DataFileError(f"{self._base}: cannot be read ({first_line(error)}){_CURE}")

    def _file(self, name: str) -> pq.ParquetFile:
        """A file of galaxies, read by the verified footers of the dataset."""
        path = f"{self._base}/{name}"
        local = "file" in np.atleast_1d(self._fs.protocol)
        try:
            source = path if local else self._fs.open(path, "rb")
            return pq.ParquetFile(source, metadata=self._metadata, page_checksum_verification=True)
        except DAMAGE as error:
            raise self._unreadable(error) from None

    # -- what `SummaryReader` asks for ------------------------------------------------------------------------------

    @property
    def _footer(self) -> pq.FileMetaData:
        return self._metadata

    def _footer_column(self, name: str) -> int:
        return self._leaves[name]

    def _opened(self, names: Sequence[str]) -> AbstractContextManager[Any]:  # noqa: ARG002 files open one by one
        return nullcontext()

    def _read(self, file: Any, index: int, names: Sequence[str]) -> tuple[pa.Table, int]:  # noqa: ARG002
        group = self._metadata.row_group(index)
        if not names:
            return pa.table({}), group.num_rows
        with self._file(f"{DATASET}/{group.column(0).file_path}") as opened:
            try:
                return opened.read_row_group(index, columns=list(names)), group.num_rows
            except DAMAGE as error:
                raise self._unreadable(error) from None


def _groups(metadata: pq.FileMetaData) -> dict[str, list[RowGroup]]:
    """Row groups of each file, by its path below ``dataset/``."""
    found: dict[str, list[RowGroup]] = {}
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        of_file = found.setdefault(group.column(0).file_path, [])
        first = of_file[-1].first + of_file[-1].n_rows if of_file else 0
        of_file.append(RowGroup(number, first, group.num_rows))
    return found


def _filled(nested: pa.StructArray, name: str) -> NDArray[np.float64]:
    """A list column as ``(n, S)``, its rows filled with NaN."""
    lists = nested.field(name)
    count = np.where(nested.is_valid().to_numpy(zero_copy_only=False), lists.value_lengths().fill_null(0).to_numpy(), 0)
    out = np.full((len(nested), int(count.max(initial=0))), np.nan)
    out[np.arange(out.shape[1]) < count[:, None]] = lists.flatten().to_numpy(zero_copy_only=False)
    return out
