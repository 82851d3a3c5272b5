"""Gzipped files, unpacked as far as they are read."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import BinaryIO

from provabgs.core.errors import DataFileError

MAX_UNPACKED = 1 << 31
"""Bytes of a gzipped file, unpacked: they are held in memory."""


class Unpacking(io.RawIOBase):
    """The contents of a gzipped file, unpacked as far as they are asked for and kept in memory."""

    def __init__(self, packed: BinaryIO, path: Path) -> None:
        packed.seek(0)
        self._source = gzip.GzipFile(fileobj=packed)
        self._data = bytearray()
        self._at = 0
        self._path = path

    def seek(self, place: int, whence: int = 0) -> int:
        """Move to a place; from the end, after unpacking all."""
        base = self._fill(MAX_UNPACKED) if whence == 2 else self._at if whence == 1 else 0
        self._at = base + place
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Bytes from the place on; all for -1."""
        stop = self._fill(MAX_UNPACKED if size < 0 else self._at + size)
        data = bytes(self._data[self._at : min(stop, self._at + size) if size >= 0 else stop])
        self._at += len(data)
        return data

    def _fill(self, upto: int) -> int:
        """Unpack up to a place; returns how much there is."""
        while len(self._data) < upto:
            block = self._source.read(1 << 20)
            if not block:
                break
            self._data += block
            if len(self._data) > MAX_UNPACKED:
                raise DataFileError(
                    f"{self._path}: unpacks to more than {MAX_UNPACKED >> 20} MiB; gunzip it, and give the plain file"
                )
        return len(self._data)
