"""Read FITS tables and images so that every way in which a file can be broken ends in a one-line error.

Files are walked through and checked first (`provabgs.desi.structure`); columns and rows of images are then read from
where they lie. Checksums (DATASUM, CHECKSUM: DESI writes both) are verified of every HDU that is read, once per file
and process.
"""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from provabgs.core.errors import DataFileError, InputError
from provabgs.core.files import regular_file
from provabgs.core.messages import first_line
from provabgs.desi.columns import DTYPES, Field, Kind, as_kind, field_of, rescaled, scaled, width_of
from provabgs.desi.packed import Unpacking
from provabgs.desi.structure import BLOCK, Hdu, walk

Columns = dict[str, NDArray[Any]]
MAX_ROWS = 100_000_000
MAX_ROW_BYTES = 1 << 20
MAX_IMAGE_ROW = 1 << 24
"""Elements of one row of an image (a spectrum, or its resolution matrix: DESI's have 30,000)."""
VERIFY_BYTES = 1 << 30
"""HDUs beyond this are not verified: catalogs of whole surveys, of which a run reads many times."""
_CHUNK = 1 << 24
_IMAGE_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_VERIFIED: set[tuple[str, int, int, int]] = set()
"""HDUs whose checksums were found right: file, size, time of change, place."""


@dataclass(frozen=True, eq=False)
class FitsFile:
    """An open FITS file.

    Attributes
    ----------
    path, stream
        The file; the stream of a gzipped one is its contents.
    hdus
        All of them.
    verify
        Whether checksums are looked at.
    """

    path: Path
    stream: BinaryIO
    hdus: tuple[Hdu, ...]
    verify: bool = True

    @property
    def names(self) -> list[str]:
        """Upper-case EXTNAMEs, in file order, without the primary HDU's."""
        return [h.name for h in self.hdus[1:]]

    def require(self, names: Iterable[str], what: str) -> None:
        """Raise `DataFileError` listing the HDUs of `names` that the file lacks.

        Parameters
        ----------
        names
            EXTNAMEs.
        what
            What the file should be, for the message.
        """
        missing = [n for n in names if n not in self.names]
        if missing:
            found = ", ".join(n for n in self.names if n) or "none"
            raise DataFileError(f"{self.path}: is not {what}: HDUs {', '.join(missing)} are missing (it has: {found})")

    def find(self, name: str) -> Hdu | None:
        """The HDU of a name, None without one; `DataFileError` where there are two."""
        found = [h for h in self.hdus[1:] if h.name == name]
        if len(found) > 1:
            raise DataFileError(f"{self.path}: HDU {name} is there {len(found)} times; remove all but the right one")
        return found[0] if found else None

    def __getitem__(self, name: str) -> Hdu:
        self.require([name], "a file with this HDU")
        return cast(Hdu, self.find(name))

    def fields(self, hdu: Hdu) -> dict[str, Field]:
        """Columns of a table by upper-case name; `DataFileError` when it is no table, or its header is damaged."""
        if not hdu.is_table:
            raise DataFileError(f"{self.path}: {hdu.label} is not a table; give the file that its name promises")
        width, offset = hdu.integer("NAXIS1", 0, MAX_ROW_BYTES), 0
        found: dict[str, Field] = {}
        for k in range(1, hdu.integer("TFIELDS", 0, 999) + 1):
            field = field_of(hdu, k, offset)
            offset += width_of(field)
            if field.name in found:
                raise hdu.damaged(f"column {field.name} is there twice")
            if field.name:
                found[field.name] = field
        if hdu.integer("BITPIX", 8, 8) != 8 or offset > width:
            raise hdu.damaged(f"its columns take {offset} bytes a row, card NAXIS1 = {width}")
        return found

    def read_columns(
        self, hdu: Hdu, kinds: Mapping[str, Kind], *, rows: NDArray[np.int64] | None = None
    ) -> tuple[Columns, dict[str, str]]:
        """The columns of `kinds` that a table has (letter case forgiven), in this machine's byte order.

        Parameters
        ----------
        hdu
            The table.
        kinds
            What each column should hold, by upper-case name.
        rows
            Those to read, each by itself; all in one pass if None.

        Returns
        -------
        columns
            ``(nrow,)`` each, by upper-case name.
        odd
            Why a column that is there is not what it should be, by name: one odd column costs no other.

        Raises
        ------
        DataFileError
            When the table is damaged, or its checksum wrong.
        """
        fields = {n: f for n, f in self.fields(hdu).items() if n in kinds}
        self.check(hdu)
        nrow = hdu.integer("NAXIS2", 0, MAX_ROWS)
        width = hdu.integer("NAXIS1", 0, MAX_ROW_BYTES)
        columns: Columns = {}
        odd: dict[str, str] = {}
        for name, field in fields.items():
            if field.code not in DTYPES and field.code != "A":
                odd[name] = f"has format {field.repeat}{field.code}"
            elif field.code != "A" and field.repeat != 1:
                odd[name] = f"has {field.repeat} values a row"
        wanted = [f for n, f in fields.items() if n not in odd]
        raw = self._raw_columns(hdu, wanted, nrow, width) if rows is None else self._raw_rows(hdu, wanted, rows, width)
        for name, values in raw.items():
            try:
                columns[name] = as_kind(scaled(hdu, fields[name], values), kinds[name], name)
            except InputError as error:
                odd[name] = str(error).removeprefix(f"{name} ")
        return columns, odd

    def read_labels(self, hdu: Hdu, name: str) -> tuple[NDArray[np.int32], list[str]] | None:
        """A column of few different texts, without an object for each row.

        Parameters
        ----------
        hdu
            The table.
        name
            Upper-case name of the column.

        Returns
        -------
        positions, labels
            ``(nrow,)`` position of each row's text among the labels; None where there is no such column of text.
        """
        field = self.fields(hdu).get(name)
        if field is None or field.code != "A":
            return None
        nrow, width = hdu.integer("NAXIS2", 0, MAX_ROWS), hdu.integer("NAXIS1", 0, MAX_ROW_BYTES)
        stored, positions = np.unique(self._raw_columns(hdu, [field], nrow, width)[name], return_inverse=True)
        return positions.astype(np.int32), [label.decode("ascii", "replace").strip() for label in stored.tolist()]

    def _raw_columns(self, hdu: Hdu, fields: Sequence[Field], nrow: int, width: int) -> Columns:
        """Columns as stored, read in one pass over the table."""
        out = {f.name: np.empty(nrow, dtype=DTYPES.get(f.code, f"S{max(f.repeat, 1)}")) for f in fields}
        if not fields or not nrow:
            return out
        step = max(1, _CHUNK // max(width, 1))
        self.stream.seek(hdu.data)
        for first in range(0, nrow, step):
            n = min(step, nrow - first)
            block = self._read(n * width, hdu)
            for f in fields:
                if f.code == "A" and f.repeat == 0:
                    out[f.name][first : first + n] = b""
                    continue
                dtype = out[f.name].dtype
                out[f.name][first : first + n] = np.ndarray(n, dtype, block, offset=f.offset, strides=(width,))
        return out

    def _raw_rows(self, hdu: Hdu, fields: Sequence[Field], rows: NDArray[np.int64], width: int) -> Columns:
        """Columns of some rows as stored."""
        out = {f.name: np.zeros(rows.size, dtype=DTYPES.get(f.code, f"S{max(f.repeat, 1)}")) for f in fields}
        for k, row in enumerate(rows.tolist() if fields else ()):
            self.stream.seek(hdu.data + row * width)
            block = self._read(width, hdu)
            for f in fields:
                if f.code != "A" or f.repeat:
                    out[f.name][k] = np.ndarray(1, out[f.name].dtype, block, offset=f.offset)[0]
        return out

    def _read(self, size: int, hdu: Hdu) -> bytes:
        """`size` bytes from where the stream is."""
        data = self.stream.read(size)
        if len(data) != size:
            raise DataFileError(f"{self.path}: {hdu.label} breaks off while being read; fetch the file again")
        return data

    def image(self, hdu: Hdu, row: int | None = None) -> NDArray[Any]:
        """An image, or one row of it along its slowest axis.

        Parameters
        ----------
        hdu
            The image.
        row
            None for all of it, which must be no larger than a row may be.

        Raises
        ------
        DataFileError
            When the image is damaged, larger than any of DESI's, or its checksum wrong.
        """
        shape = hdu.shape
        wanted = shape if row is None else shape[1:]
        if hdu.is_table or not shape or math.prod(wanted) > MAX_IMAGE_ROW:
            raise DataFileError(f"{self.path}: {hdu.label} has shape {shape}, which none of DESI's images has")
        self.check(hdu)
        if hdu.is_compressed:
            return _uncompressed(self, hdu, row)
        dtype = np.dtype(_IMAGE_DTYPES[hdu.integer("BITPIX", -64, 64)])
        size = math.prod(wanted) * dtype.itemsize
        self.stream.seek(hdu.data + (0 if row is None else row) * size)
        stored = np.frombuffer(self._read(size, hdu), dtype).reshape(wanted)
        zero, scale = hdu.number("BZERO", 0.0), hdu.number("BSCALE", 1.0)
        if dtype.kind == "f" and (zero, scale) != (0.0, 1.0):
            raise hdu.damaged(f"cards BSCALE = {scale:g}, BZERO = {zero:g} rescale floating-point data")
        return rescaled(stored, zero, scale)

    def check(self, hdu: Hdu) -> None:
        """Verify the checksums of an HDU that has them, once per file and process; `DataFileError` when they differ."""
        if not self.verify or hdu.stop - hdu.start > VERIFY_BYTES:
            return
        about = self.path.stat()
        key = (str(self.path.resolve()), about.st_size, about.st_mtime_ns, hdu.start)
        if key in _VERIFIED:
            return
        datasum, checksum = hdu.text("DATASUM"), hdu.text("CHECKSUM")
        if datasum or checksum:
            data = self._sum(hdu, hdu.data, hdu.stop)
            head = self._sum(hdu, hdu.start, hdu.data)
            wrong = ["DATASUM"] if datasum and datasum != str(data) else []
            if checksum and _folded(data + head) not in (0, 0xFFFFFFFF):
                wrong.append("CHECKSUM")
            if wrong:
                raise DataFileError(
                    f"{self.path}: {hdu.label}: its contents differ from its {' and '.join(wrong)}: damaged; fetch the "
                    "file again (or, after changes of your own, write it with checksums)"
                )
        _VERIFIED.add(key)

    def _sum(self, hdu: Hdu, start: int, stop: int) -> int:
        """Ones' complement sum of 32-bit words, as the FITS checksum convention has it."""
        self.stream.seek(start)
        total = 0
        for at in range(start, stop, _CHUNK // BLOCK * BLOCK):
            words = np.frombuffer(self._read(min(_CHUNK // BLOCK * BLOCK, stop - at), hdu), ">u4")
            total += int(words.sum(dtype=np.uint64))
        return _folded(total)


def _folded(total: int) -> int:
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _uncompressed(file: FitsFile, hdu: Hdu, row: int | None) -> NDArray[Any]:
    """An image that fpack compressed, through astropy."""
    import warnings

    from astropy.io import fits  # slow to import, and for compressed images alone

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file.stream.seek(0)
            with fits.open(file.path if isinstance(file.stream, io.BufferedReader) else file.stream) as hdus:
                image = hdus[hdu.index]
                values = np.array(image.data if row is None else image.section[row])
    except Exception as error:  # astropy raises whatever the damage leads to
        raise hdu.damaged(f"cannot be uncompressed ({first_line(error)})") from None
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


@contextmanager
def open_fits(path: str | Path, *, verify: bool = True) -> Iterator[FitsFile]:
    """Open `path`, possibly gzipped, and walk through its headers; data are read only where asked for.

    Parameters
    ----------
    path
        The file.
    verify
        Whether checksums are looked at.

    Raises
    ------
    DataFileError
        When the file is missing, a folder, not FITS, truncated, damaged, or breaks while something is read from it.
    """
    file = regular_file(path)
    try:
        with file.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
            contents = cast(BinaryIO, Unpacking(stream, file)) if packed else stream
            hdus = walk(contents, file)
            if packed:
                contents.seek(0, os.SEEK_END)  # where gzip's own checksum is
            yield FitsFile(file, contents, hdus, verify)
    except (OSError, EOFError, zlib.error) as error:
        raise DataFileError(f"{file}: breaks while being read ({first_line(error)}); fetch it again") from error
