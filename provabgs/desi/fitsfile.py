"""Open FITS files so that every way in which they can be broken ends in a one-line error."""

from __future__ import annotations

import gzip
import io
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from provabgs.core.errors import DataFileError
from provabgs.core.messages import first_line

READ_ERRORS = (OSError, ValueError, TypeError, EOFError, IndexError, KeyError, zlib.error, fits.VerifyError)
"""What astropy raises, depending on where a file breaks off or goes wrong."""
_DAMAGE = re.compile("truncated|error validating header", re.IGNORECASE)
"""What astropy only warns about: data, or a header, that the file ends within."""


def native(array: Any) -> NDArray[Any]:
    """A contiguous copy in this machine's byte order, strings stripped (FITS is big-endian; scipy.sparse and JAX
    refuse that).
    """
    a = np.array(array)
    if a.dtype.kind in "SU":
        return np.char.strip(a.astype(str))
    return np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("="))


@contextmanager
def open_fits(path: str | Path, *, memmap: bool = False) -> Iterator[fits.HDUList]:
    """Open `path` read-only with all headers loaded; images are read only where asked for (`ImageHDU.section`).

    Parameters
    ----------
    path
        The file, possibly compressed.
    memmap
        Map the file, so that a large table is read column by column. Not for images: astropy refuses to map the
        scaled ones, such as MASK in uint32.

    Raises
    ------
    DataFileError
        When the file is missing, a folder, not FITS, truncated, or breaks while something is read from it.
    """
    file = Path(path)
    if not file.exists():
        raise DataFileError(f"{file}: no such file; check the path")
    if file.is_dir():
        raise DataFileError(f"{file}: is a folder; give a FITS file")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            hdus = fits.open(_unpacked(file), mode="readonly", memmap=memmap)
            try:
                len(hdus)  # load every header: only then does astropy notice a file that breaks off
            except BaseException:
                hdus.close()
                raise
    except READ_ERRORS as error:
        raise DataFileError(f"{file}: is not a readable FITS file ({first_line(error)}); fetch it again") from error
    damage = [str(w.message) for w in caught if _DAMAGE.search(str(w.message))]
    try:
        if damage:
            raise DataFileError(
                f"{file}: is truncated or damaged ({file.stat().st_size} bytes on disk); fetch it again"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fits.verify.VerifyWarning)
            yield hdus
    except (OSError, EOFError) as error:
        raise DataFileError(f"{file}: breaks while being read ({first_line(error)}); fetch it again") from error
    finally:
        hdus.close()


def _unpacked(file: Path) -> Path | io.BytesIO:
    """The file, or the contents of a gzipped one.

    astropy takes a gzip stream that breaks off for the end of the file, without a word, and seeks in one by
    unpacking it again from the start.
    """
    with file.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return io.BytesIO(gzip.decompress(file.read_bytes())) if packed else file


def hdu_names(hdus: fits.HDUList) -> list[str]:
    """Upper-case EXTNAMEs, in file order."""
    return [str(h.name).upper() for h in hdus]


def require_hdus(hdus: fits.HDUList, names: Iterable[str], path: str | Path, what: str) -> None:
    """Raise `DataFileError` listing the HDUs of `names` that the file lacks."""
    present = set(hdu_names(hdus))
    missing = [n for n in names if n not in present]
    if missing:
        found = ", ".join(n for n in hdu_names(hdus) if n != "PRIMARY") or "none"
        raise DataFileError(f"{path}: is not {what}: HDUs {', '.join(missing)} are missing (it has: {found})")


def column_names(hdu: Any, path: str | Path) -> list[str]:
    """Column names of a table HDU, as written; `DataFileError` when it is no table."""
    if not isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
        raise DataFileError(f"{path}: HDU {hdu.name or '1'} is not a table; give the file that its name promises")
    return list(hdu.columns.names)


def read_columns(hdu: Any, names: Iterable[str], path: str | Path) -> dict[str, NDArray[Any]]:
    """The columns of `names` that the table has (letter case forgiven), in native byte order, keyed in upper case."""
    written = {n.upper(): n for n in column_names(hdu, path)}
    try:
        return {n: native(hdu.data[written[n]]) for n in names if n in written}
    except READ_ERRORS as error:
        raise DataFileError(
            f"{path}: table {hdu.name or '1'} cannot be read ({first_line(error)}); fetch it again"
        ) from error
