"""Read FITS tables and images so that every way in which a file can be broken ends in a one-line error.

Files are walked through and checked first (`provabgs.desi.structure`); columns and rows of images are then read from
where they lie. Checksums (DATASUM, CHECKSUM: DESI writes both) are verified of every HDU that is read, once per file
and process.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from provabgs.core.errors import DataFileError, InputError
from provabgs.core.identity import exact_array
from provabgs.core.messages import first_line
from provabgs.desi.structure import BLOCK, Hdu, walk

Columns = dict[str, NDArray[Any]]
Kind = Literal["id", "whole", "number", "text"]
"""What a column holds: TARGETIDs, integers (or logicals), numbers, text."""

MAX_UNPACKED = 1 << 31
"""Bytes of a gzipped file, unpacked: they are held in memory."""
MAX_ROWS = 100_000_000
MAX_ROW_BYTES = 1 << 20
MAX_IMAGE_ROW = 1 << 24
"""Elements of one row of an image (a spectrum, or its resolution matrix: DESI's have 30,000)."""
VERIFY_BYTES = 1 << 30
"""HDUs beyond this are not verified: catalogs of whole surveys, of which a run reads many times."""
_CHUNK = 1 << 24
_FORMAT = re.compile(r"(\d*)([LXBIJKAEDCMPQ])(.*)")
_DTYPES = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_WIDTHS = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_IMAGE_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_VERIFIED: set[tuple[str, int, int, int]] = set()
"""HDUs whose checksums were found right: file, size, time of change, place."""


class Field(NamedTuple):
    """One column of a table, as its header describes it."""

    name: str
    number: int
    repeat: int
    code: str
    offset: int


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
            field = _field(hdu, k, offset)
            offset += _width(field)
            if field.name in found:
                raise hdu.damaged(f"column {field.name} is there twice")
            if field.name:
                found[field.name] = field
        if hdu.integer("BITPIX", 8, 8) != 8 or offset > width:
            raise hdu.damaged(f"its columns take {offset} bytes a row, card NAXIS1 = {width}")
        return found

    def read_columns(self, hdu: Hdu, kinds: Mapping[str, Kind]) -> tuple[Columns, dict[str, str]]:
        """The columns of `kinds` that a table has (letter case forgiven), in this machine's byte order.

        Parameters
        ----------
        hdu
            The table.
        kinds
            What each column should hold, by upper-case name.

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
            if field.code not in _DTYPES and field.code != "A":
                odd[name] = f"has format {field.repeat}{field.code}"
            elif field.code != "A" and field.repeat != 1:
                odd[name] = f"has {field.repeat} values a row"
        raw = self._raw_columns(hdu, [f for n, f in fields.items() if n not in odd], nrow, width)
        for name, values in raw.items():
            try:
                columns[name] = _as_kind(_scaled(hdu, fields[name], values), kinds[name], name)
            except InputError as error:
                odd[name] = str(error).removeprefix(f"{name} ")
        return columns, odd

    def _raw_columns(self, hdu: Hdu, fields: Sequence[Field], nrow: int, width: int) -> Columns:
        """Columns as stored, read in one pass over the table."""
        out = {f.name: np.empty(nrow, dtype=_DTYPES.get(f.code, f"S{max(f.repeat, 1)}")) for f in fields}
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
        return _rescaled(stored, zero, scale)

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


def _field(hdu: Hdu, k: int, offset: int) -> Field:
    """Column number `k`."""
    written = hdu.text(f"TFORM{k}")
    found = _FORMAT.match(written)
    if found is None or len(found[1]) > 7:
        raise hdu.damaged(f"card TFORM{k} = {written!r:.40} is no column format")
    return Field(hdu.text(f"TTYPE{k}").upper(), k, int(found[1] or 1), found[2], offset)


def _width(field: Field) -> int:
    """Bytes of one value."""
    return -(-field.repeat // 8) if field.code == "X" else field.repeat * _WIDTHS[field.code]


def _scaled(hdu: Hdu, field: Field, values: NDArray[Any]) -> NDArray[Any]:
    """A column with TSCAL and TZERO applied; integers stay integers where they only say that there is no sign."""
    if field.code == "A":
        return np.char.strip(np.char.decode(values, "ascii", "replace"))
    if field.code == "L":
        return values == b"T"
    zero, scale = hdu.number(f"TZERO{field.number}", 0.0), hdu.number(f"TSCAL{field.number}", 1.0)
    return _rescaled(values, zero, scale)


def _rescaled(stored: NDArray[Any], zero: float, scale: float) -> NDArray[Any]:
    """``scale * stored + zero`` in this machine's byte order."""
    native = np.array(stored, dtype=stored.dtype.newbyteorder("="))
    if (zero, scale) == (0.0, 1.0):
        return native
    if native.dtype.kind == "i" and scale == 1.0 and zero == 2.0 ** (8 * native.dtype.itemsize - 1):
        unsigned = np.dtype(f"u{native.dtype.itemsize}")
        return native.view(unsigned) ^ unsigned.type(1 << (8 * native.dtype.itemsize - 1))
    with np.errstate(over="ignore", invalid="ignore"):
        return native * np.float64(scale) + np.float64(zero)


def _as_kind(values: NDArray[Any], kind: Kind, name: str) -> NDArray[Any]:
    """A column as what it should hold; `InputError` says what it holds instead."""
    have = values.dtype.kind
    if kind == "id":
        return exact_array(values, name)
    if (kind == "text") != (have == "U"):
        wanted = {"text": "text", "whole": "integers", "number": "numbers"}[kind]
        raise InputError(f"{name} holds {'text' if have == 'U' else 'numbers'}, not {wanted}")
    if kind == "whole" and have == "f":
        whole = np.isfinite(values) & (np.abs(values) < 2.0**53)
        if not np.all(whole) or np.any(values != np.trunc(values)):
            raise InputError(f"{name} holds numbers that are no integers")
        return values.astype(np.int64)
    return values


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


def regular_file(path: str | Path, what: str = "a FITS file") -> Path:
    """A file that can be read from: not a folder, pipe or device, on which reading would wait or never end.

    Parameters
    ----------
    path
        The file, or a link to it.
    what
        What it should be, for the message.

    Raises
    ------
    DataFileError
        Names the path and what it is instead.
    """
    file = Path(path)
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        where = "is a link to a file that is not there" if file.is_symlink() else "no such file"
        raise DataFileError(f"{file}: {where}; check the path") from None
    except (OSError, ValueError) as error:
        raise DataFileError(f"{file!s:.200}: cannot be read ({first_line(error)}); check the path") from None
    if stat.S_ISDIR(mode):
        raise DataFileError(f"{file}: is a folder; give {what}")
    if not stat.S_ISREG(mode):
        raise DataFileError(f"{file}: is a pipe or a device, not a file; give {what}")
    if not os.access(file, os.R_OK):
        raise DataFileError(f"{file}: permission denied; ask its owner to let you read it")
    return file


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
            contents = cast(BinaryIO, _Unpacking(stream, file)) if packed else stream
            hdus = walk(contents, file)
            if packed:
                contents.seek(0, os.SEEK_END)  # where gzip's own checksum is
            yield FitsFile(file, contents, hdus, verify)
    except (OSError, EOFError, zlib.error) as error:
        raise DataFileError(f"{file}: breaks while being read ({first_line(error)}); fetch it again") from error


class _Unpacking(io.RawIOBase):
    """The contents of a gzipped file, unpacked as far as they are asked for and kept in memory."""

    def __init__(self, packed: BinaryIO, path: Path) -> None:
        packed.seek(0)
        self._source = gzip.GzipFile(fileobj=packed)
        self._data = bytearray()
        self._at = 0
        self._path = path

    def seek(self, place: int, whence: int = 0) -> int:
        base = self._fill(MAX_UNPACKED) if whence == 2 else self._at if whence == 1 else 0
        self._at = base + place
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
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
