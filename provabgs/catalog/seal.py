"""A sealed Parquet file: checksums of its footer and of each column, between the data and the footer.

Parquet leaves room there, which no reader looks at, so any tool opens the file. Flipped bits in the footer (names,
statistics by which row groups are skipped) or in the data would otherwise change answers without an error. A column is
verified when it is first asked for: a question about three columns of a large file reads no others.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from provabgs.core.errors import DataFileError
from provabgs.core.messages import first_line

_MAGIC = b"PROVSEAL"
_PARQUET = b"PAR1"
_PIECE = 1 << 24
_CURE = "; copy it again, or build it again (`provabgs run` on its directory)"
DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError)

Ranges = dict[str, list[tuple[int, int]]]
"""Offset and length, bytes, of each piece of a column."""


def seal(path: Path) -> None:
    """Add the checksums to a Parquet file that has just been written."""
    ranges = _ranges(pq.read_metadata(path))
    with path.open("r+b") as f:
        start, footer = _footer(f)
        columns = {name: _sha256(f, pieces) for name, pieces in ranges.items()}
        record = json.dumps({"footer": hashlib.sha256(footer).hexdigest(), "columns": columns}).encode()
        f.seek(start)
        f.write(record + hashlib.sha256(record).digest() + len(record).to_bytes(8, "little") + _MAGIC)
        f.write(footer + len(footer).to_bytes(4, "little") + _PARQUET)


class Seal:
    """The checksums of a sealed file.

    Parameters
    ----------
    path
        The file; its footer is verified, its columns when `verify` is asked to.

    Raises
    ------
    DataFileError
        When the file has no seal, or its footer does not match.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._verified: set[str] = set()
        self._stamp = _stamp(path)
        try:
            with path.open("rb") as f:
                start, footer = _footer(f)
                record = _record(f, start)
            expected = json.loads(record)
            self._columns = {str(name): str(sha256) for name, sha256 in expected["columns"].items()}
            if hashlib.sha256(footer).hexdigest() != expected["footer"]:
                raise ValueError("its footer does not match its checksum")
            self.metadata = pq.read_metadata(path)
            self.schema = self.metadata.schema.to_arrow_schema()
            self.texts = {k.decode(): v.decode() for k, v in (self.metadata.metadata or {}).items()}
            self._ranges = _ranges(self.metadata)
        except DAMAGE as error:
            raise DataFileError(f"{path}: damaged, or not written by provabgs ({first_line(error)}){_CURE}") from None

    def unreadable(self, error: BaseException) -> DataFileError:
        """The error for what Parquet cannot read."""
        return DataFileError(f"{self.path}: cannot be read ({first_line(error)}){_CURE}")

    def check_unchanged(self) -> None:
        """Raise DataFileError when the file was replaced or written to since it was opened."""
        if _stamp(self.path) != self._stamp:
            raise DataFileError(f"{self.path}: was written anew since this catalog was opened; open it again")

    def verify(self, columns: Iterable[str]) -> None:
        """Compare columns with their checksums, each once.

        Raises
        ------
        DataFileError
            For a column that does not match.
        """
        for name in columns:
            if name in self._verified:
                continue
            try:
                with self.path.open("rb") as f:
                    found = _sha256(f, self._ranges[name])
            except (OSError, KeyError) as error:
                raise DataFileError(f"{self.path}: column {name} cannot be read ({first_line(error)}){_CURE}") from None
            if found != self._columns.get(name):
                raise DataFileError(f"{self.path}: column {name} does not match its checksum: damaged{_CURE}")
            self._verified.add(name)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read any more ({error.strerror})") from None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _footer(f: BinaryIO) -> tuple[int, bytes]:
    """Where the footer starts, and its bytes."""
    end = f.seek(0, os.SEEK_END)
    f.seek(max(end - 8, 0))
    tail = f.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _PARQUET or length > end - 12:
        raise ValueError("truncated or not Parquet")
    start = end - 8 - length
    f.seek(start)
    return start, f.read(length)


def _record(f: BinaryIO, footer_start: int) -> bytes:
    """The text of checksums that ends where the footer starts."""
    f.seek(max(footer_start - 16, 0))
    tail = f.read(16)
    length = int.from_bytes(tail[:8], "little")
    if tail[8:] != _MAGIC or length > footer_start - 48:
        raise ValueError("it has no checksums")
    f.seek(footer_start - 48 - length)
    record, expected = f.read(length), f.read(32)
    if hashlib.sha256(record).digest() != expected:
        raise ValueError("its checksums are damaged")
    return record


def _ranges(metadata: pq.FileMetaData) -> Ranges:
    found: Ranges = {}
    for g in range(metadata.num_row_groups):
        group = metadata.row_group(g)
        for c in range(group.num_columns):
            chunk = group.column(c)
            starts = [o for o in (chunk.dictionary_page_offset, chunk.data_page_offset) if o]
            found.setdefault(chunk.path_in_schema, []).append((min(starts), chunk.total_compressed_size))
    return found


def _sha256(f: BinaryIO, ranges: list[tuple[int, int]]) -> str:
    h = hashlib.sha256()
    for start, length in ranges:
        f.seek(start)
        while length > 0:
            data = f.read(min(length, _PIECE))
            if not data:
                raise OSError("the file ends within it")
            h.update(data)
            length -= len(data)
    return h.hexdigest()
