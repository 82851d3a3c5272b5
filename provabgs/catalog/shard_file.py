"""An open posterior file: its parts by name, links refused, and its pieces verified as they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from provabgs.catalog.columns import Schema, union
from provabgs.catalog.digest import IDS, PIECE_ROWS, SUMMARY, piece, piece_names, root
from provabgs.core.errors import DataFileError
from provabgs.core.hdf5 import DAMAGE, attribute, format_of, open_file
from provabgs.core.messages import first_line

FORMAT = "provabgs-posteriors-3"
MAX_BYTES = 4 << 30
"""Largest array; draws of one column of a full shard take 1 MB."""


def open_shard(path: str | Path) -> h5py.File:
    """Open a posterior file for reading, having checked that it is one of this version.

    Raises
    ------
    DataFileError
        When it is missing, not HDF5 (or truncated), not a posterior file, or of another format version.
    """
    path = Path(path)
    if not path.is_file():
        raise DataFileError(f"{path}: no such file")
    try:
        f = open_file(path)
    except DAMAGE as error:
        raise DataFileError(f"{path}: truncated or not an HDF5 file ({first_line(error)})") from None
    if (found := format_of(f)) == FORMAT:
        return f
    f.close()
    if found is not None and found.startswith("provabgs-posteriors-"):
        raise DataFileError(
            f"{path}: written in format {found!r}, this version reads {FORMAT!r}; use the provabgs that wrote it"
        )
    raise DataFileError(f"{path}: not a provabgs posterior file (format attribute is {found!r})")


def dataset(f: h5py.File, name: str) -> h5py.Dataset:
    """A dataset of an open file, which must lie in that file.

    Parameters
    ----------
    f
        Open file.
    name
        Path of the dataset.

    Returns
    -------
    h5py.Dataset
        Nothing of it is read.

    Raises
    ------
    KeyError
        When there is no such dataset.
    ValueError
        When a link leads to another file, or the dataset's numbers lie in one.
    """
    here: Any = f
    for part in name.split("/"):
        if not isinstance(here.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link, which a posterior file must not hold")
        here = here[part]
    if not isinstance(here, h5py.Dataset):
        raise ValueError(f"{name} is no dataset")
    if here.is_virtual or here.external:
        raise ValueError(f"the numbers of {name} lie in another file, which a posterior file must not do")
    if here.size is None or here.size * here.dtype.itemsize > MAX_BYTES:
        raise ValueError(f"{name} has shape {here.shape}, more than a posterior file holds")
    return here


def texts(f: h5py.File, name: str) -> tuple[str, ...]:
    """A dataset of texts.

    Parameters
    ----------
    f
        Open file.
    name
        Of the dataset.

    Returns
    -------
    tuple of str
        One per entry.
    """
    return tuple(str(text) for text in dataset(f, name).asstr()[:])


class Verified:
    """Rows of an open shard, each piece compared with its checksum.

    Parameters
    ----------
    f
        Open file.

    Raises
    ------
    ValueError
        When the checksums are not those that the shard's own SHA-256 was made from.
    """

    def __init__(self, f: h5py.File) -> None:
        self._file = f
        self.models = texts(f, "models")
        self.columns = union(Schema.from_json(m) for m in self.models).sample_columns
        self.encoding = str(attribute(f, "encoding"))
        self.sha256 = str(attribute(f, "sha256"))
        names = piece_names(self.columns)
        self._checksums = dataset(f, "pieces")[:]
        self._row = {name: i for i, name in enumerate(names)}
        tables = str(attribute(f, "tables_sha256"))
        found = root(self._checksums, names=names, encoding=self.encoding, models=self.models, tables=tables)
        if found != self.sha256 or self._checksums.shape[0] != len(names):
            raise ValueError("its checksums or its description do not match its SHA-256")

    def targetids(self) -> NDArray[np.int64]:
        """``(N,)`` TARGETID of every row."""
        ids: NDArray[np.int64] = dataset(self._file, IDS)[:]
        for k in range(self._checksums.shape[1]):
            self._check(IDS, k, ids[k * PIECE_ROWS : (k + 1) * PIECE_ROWS])
        return ids

    def samples(self, column: str, rows: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Stored draws of some rows, and offsets and steps where they are codes.

        Parameters
        ----------
        column
            Sample column of the shard.
        rows
            ``(n,)`` rows, within the shard.

        Returns
        -------
        values, scale
            ``(n, S)`` and ``(n, 2)``; the span of pieces that holds the rows is read.
        """
        low = int(rows.min()) // PIECE_ROWS * PIECE_ROWS
        high = (int(rows.max()) // PIECE_ROWS + 1) * PIECE_ROWS
        values = dataset(self._file, f"samples/{column}")[low:high]
        scale = dataset(self._file, f"scale/{column}")[low:high] if self.encoding == "uint16" else None
        for k in np.unique(rows // PIECE_ROWS).tolist():
            part = slice(k * PIECE_ROWS - low, (k + 1) * PIECE_ROWS - low)
            self._check(column, k, values[part], None if scale is None else scale[part])
        return values[rows - low], None if scale is None else scale[rows - low]

    def check_summary(self, rows: NDArray[np.void]) -> None:
        """Compare all summary rows, ``(N,)`` in plain numpy types, with their checksums."""
        for k in range(self._checksums.shape[1]):
            self._check(SUMMARY, k, rows[k * PIECE_ROWS : (k + 1) * PIECE_ROWS])

    def _check(self, name: str, k: int, values: NDArray[Any], scale: NDArray[Any] | None = None) -> None:
        if piece(values, scale) != self._checksums[self._row[name], k].tobytes():
            raise ValueError(f"{name}, rows from {k * PIECE_ROWS}: do not match their checksum")
