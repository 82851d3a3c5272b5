"""Tables that are joined to coadds by TARGETID, and by SURVEY and PROGRAM where they have them.

An index (16 bytes a row) stays in memory, once per process; of a FITS table only the rows that match are read. A row
that is ambiguous is refused: which of several spectra a number belongs to is never guessed.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.errors import DataFileError, InputError
from provabgs.core.files import regular_file
from provabgs.core.identity import exact_array
from provabgs.core.messages import first_line
from provabgs.desi.columns import Kind, as_kind
from provabgs.desi.fitsfile import Columns, FitsFile, open_fits
from provabgs.desi.structure import Hdu

KINDS = (".fits", ".fits.gz", ".csv", ".parquet")
MAX_TEXT = 1 << 30
"""Bytes of a text table."""
KEPT = 6
"""Tables of which a process keeps the index."""


class Joined(NamedTuple):
    """What a table says of one target.

    Attributes
    ----------
    row
        Values by the names that were asked for; None where the table has no row for the target.
    note
        What is odd about it, for people.
    """

    row: dict[str, Any] | None
    note: str = ""


@dataclass(frozen=True, eq=False)
class JoinTable:
    """A table to be joined.

    Attributes
    ----------
    path
        The file.
    ids, rows
        ``(n,)`` TARGETIDs in rising order, and the row of each.
    sample
        ``(n,)`` position of each one's survey and program in `samples`.
    samples
        ``"main/bright"``, ...; one ``""`` alone where the table does not say.
    hdus
        Tables of a FITS file that columns are taken from, the first with TARGETID; all have the same rows.
    columns
        All columns of a table that is no FITS file.
    names
        Upper-case names of all columns.
    """

    path: Path
    ids: NDArray[np.int64]
    rows: NDArray[np.int32]
    sample: NDArray[np.int32]
    samples: tuple[str, ...]
    hdus: tuple[str, ...]
    columns: Columns
    names: frozenset[str]

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> JoinTable:
        """Index a table; a file that this process has indexed and that has not changed is not read again.

        Parameters
        ----------
        path
            FITS, Parquet or CSV.
        verify
            Whether checksums are looked at.

        Raises
        ------
        DataFileError
            When the file is missing, damaged, of another kind, or has no column TARGETID of integers.
        """
        file = regular_file(path, "a table")
        about = file.stat()
        return _indexed(str(file), about.st_size, about.st_mtime_ns, verify)

    def require(self, names: Sequence[str], what: str) -> None:
        """Raise `DataFileError` for columns that the table lacks.

        Parameters
        ----------
        names
            Upper-case names.
        what
            What the table should be, for the message.
        """
        if missing := [n for n in names if n.upper() not in self.names]:
            few = ", ".join(sorted(self.names)[:12])
            raise DataFileError(f"{self.path}: is not {what}: it has no column {', '.join(missing)} (it has {few} ...)")

    def join(
        self, targetid: int, survey: str, program: str, kinds: Mapping[str, Kind], *, verify: bool = True,
        apart: Mapping[str, int] | None = None,
    ) -> Joined:  # fmt: skip
        """The values of one target.

        Parameters
        ----------
        targetid
            Exact.
        survey, program
            Those of the spectrum, ``""`` where unknown.
        kinds
            Columns wanted, in upper case, and what they hold; those that the table lacks are left out.
        verify
            Whether checksums are looked at.
        apart
            Columns that tell rows of one survey and program apart, and their values for the spectrum; those that are
            negative, or that no row has, tell nothing.

        Raises
        ------
        InputError
            When several rows match that do not agree, or a value is not what it should be.
        """
        first, stop = (int(np.searchsorted(self.ids, targetid, side=side)) for side in ("left", "right"))
        if first == stop:
            return Joined(None)
        labels = [self.samples[k] for k in self.sample[first:stop].tolist()]
        here = [k for k, label in enumerate(labels) if _same(label, survey, program)]
        if not here:
            return Joined(None, f"{self.path.name} has it in {', '.join(sorted(set(labels)))} alone")
        rows = self._of_spectrum(self.rows[first:stop][here].astype(np.int64), apart or {}, verify)
        values = self._values(rows, kinds, verify)
        if rows.size == 1:
            return Joined({k: v[0].item() for k, v in values.items()})
        return self._agreed(targetid, sorted({labels[k] for k in here}), values)

    def _of_spectrum(self, rows: NDArray[np.int64], apart: Mapping[str, int], verify: bool) -> NDArray[np.int64]:
        """Of several rows those that columns such as TILEID give to the spectrum; all where they tell nothing."""
        for name, value in apart.items():
            if rows.size > 1 and value >= 0 and name in self.names:
                own = self._values(rows, {name: "whole"}, verify)[name] == value
                rows = rows[own] if own.any() else rows
        return rows

    def _agreed(self, targetid: int, labels: Sequence[str], values: Columns) -> Joined:
        """The one value that several rows agree on."""
        n = max(v.size for v in values.values()) if values else 0
        differ = [k for k, v in values.items() if any(not _equal(v[0], x) for x in v[1:])]
        if not differ:
            return Joined({k: v[0].item() for k, v in values.items()}, f"{n} equal rows of {self.path.name}")
        cure = "keep one of them"
        if len(labels) > 1:
            cure = f"they are of {', '.join(labels)}, and the coadd does not say which"
        raise InputError(
            f"{self.path.name} has {n} rows of TARGETID {targetid} that differ in {', '.join(differ)}: {cure}"
        )

    def _values(self, rows: NDArray[np.int64], kinds: Mapping[str, Kind], verify: bool) -> Columns:
        """Columns of some rows."""
        if not self.hdus:
            found = {k: self.columns[k][rows] for k in kinds if k in self.columns}
            return {k: _of_kind(v, kinds[k], k, self.path) for k, v in found.items()}
        out: Columns = {}
        with open_fits(self.path, verify=verify) as fits:
            for name in self.hdus:
                left = {k: kind for k, kind in kinds.items() if k not in out}
                columns, odd = fits.read_columns(_hdu(fits, name), left, rows=rows)
                if odd:
                    column, why = next(iter(odd.items()))
                    raise InputError(f"{self.path.name}: column {column} {why}")
                out |= columns
        return out


def _of_kind(values: NDArray[Any], kind: Kind, name: str, path: Path) -> NDArray[Any]:
    """A text table's column as what it should be; blank cells are NaN, -1 or empty."""
    if values.dtype.kind not in "UO" or kind == "text":
        return as_kind(values.astype(str) if kind == "text" else values, kind, name)
    blank, made = {"number": np.nan, "whole": -1, "id": -1}[kind], []
    for value in values.tolist():
        text = "" if value is None else str(value).strip()
        try:
            made.append(blank if text in ("", "--", "nan", "None") else float(text) if kind == "number" else int(text))
        except ValueError:
            raise InputError(f"{path.name}: column {name} holds {text[:40]!r}, which is no number") from None
    return np.array(made, dtype=np.float64 if kind == "number" else np.int64)


def _same(sample: str, survey: str, program: str) -> bool:
    """Whether a table's survey and program are a spectrum's, as far as both are known."""
    theirs = sample.partition("/")[::2]
    return all(not a or not b or a == b for a, b in zip(theirs, (survey, program), strict=True))


def _equal(a: Any, b: Any) -> bool:
    return bool(a == b) or (a != a and b != b)


@lru_cache(maxsize=KEPT)
def _indexed(name: str, _size: int, _changed: int, verify: bool) -> JoinTable:
    path = Path(name)
    if path.name.endswith((".fits", ".fits.gz")):
        return _of_fits(path, verify)
    if path.suffix == ".csv":
        return _in_memory(path, _read_csv(path))
    if path.suffix == ".parquet":
        return _in_memory(path, _read_parquet(path))
    raise DataFileError(f"{path}: unknown kind of table; give one of {', '.join(KINDS)}")


def _of_fits(path: Path, verify: bool) -> JoinTable:
    with open_fits(path, verify=verify) as fits:
        tables = [h for h in fits.hdus[1:] if h.is_table]
        first = next((h for h in tables if "TARGETID" in fits.fields(h)), None)
        if first is None:
            raise DataFileError(f"{path}: no table has a column TARGETID; give one that can be joined")
        keys, odd = fits.read_columns(first, {"TARGETID": "id"})
        if "TARGETID" in odd:
            raise DataFileError(f"{path}: {first.label}: column TARGETID {odd['TARGETID']}")
        ids = keys["TARGETID"]
        others = [h for h in tables if h is not first and _row_for_row(fits, h, ids)]
        names = frozenset(n for h in (first, *others) for n in fits.fields(h))
        survey, program = (
            fits.read_labels(first, name) or _one_label(first.text(name) or fits.hdus[0].text(name), ids.size)
            for name in ("SURVEY", "PROGRAM")
        )
        hdus = tuple(str(h.index) for h in (first, *others))
    samples = _samples(survey, program)
    return _sorted(path, ids, samples, hdus, {}, names)


def _row_for_row(fits: FitsFile, hdu: Hdu, ids: NDArray[np.int64]) -> bool:
    """Whether a further table of a file has the same targets in the same order."""
    if "TARGETID" not in fits.fields(hdu) or hdu.integer("NAXIS2", 0, 1 << 40) != ids.size:
        return False
    columns, odd = fits.read_columns(hdu, {"TARGETID": "id"})
    return not odd and bool(np.array_equal(columns["TARGETID"], ids))


def _hdu(fits: FitsFile, index: str) -> Hdu:
    return fits.hdus[int(index)]


def _one_label(label: str, n: int) -> tuple[NDArray[np.int32], list[str]]:
    return np.zeros(n, np.int32), [label]


def _labels(columns: Columns, name: str, n: int) -> tuple[NDArray[np.int32], list[str]]:
    """As `FitsFile.read_labels`, of a table in memory; nothing is known where it has no such column."""
    if name not in columns:
        return _one_label("", n)
    labels, positions = np.unique(columns[name].astype(str), return_inverse=True)
    return positions.astype(np.int32), labels.tolist()


def _samples(
    survey: tuple[NDArray[np.int32], list[str]], program: tuple[NDArray[np.int32], list[str]]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Survey and program of each row: positions among labels such as ``main/bright``, and these."""
    labels = [f"{s.strip().lower()}/{p.strip().lower()}" for s in survey[1] for p in program[1]]
    return survey[0] * np.int32(len(program[1])) + program[0], tuple(labels)


def _in_memory(path: Path, columns: Columns) -> JoinTable:
    if "TARGETID" not in columns:
        raise DataFileError(f"{path}: has no column TARGETID; give a table that can be joined")
    try:
        ids = exact_array(columns["TARGETID"], "TARGETID")
    except InputError as error:
        raise DataFileError(f"{path}: column {error}") from None
    samples = _samples(_labels(columns, "SURVEY", ids.size), _labels(columns, "PROGRAM", ids.size))
    return _sorted(path, ids, samples, (), columns, frozenset(columns))


def _sorted(
    path: Path,
    ids: NDArray[np.int64],
    samples: tuple[NDArray[np.int32], tuple[str, ...]],
    hdus: tuple[str, ...],
    columns: Columns,
    names: frozenset[str],
) -> JoinTable:
    order = np.argsort(ids, kind="stable")
    sample, labels = samples
    return JoinTable(path, ids[order], order.astype(np.int32), sample[order], labels, hdus, columns, names)


def _read_csv(path: Path) -> Columns:
    """A text table as columns of text; names in upper case, blanks in them as underscores."""
    if os.path.getsize(path) > MAX_TEXT:  # noqa: PTH202 - as a number
        raise DataFileError(f"{path}: is larger than {MAX_TEXT >> 30} GiB; write it as FITS or Parquet")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(line for line in stream if not line.startswith("#")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataFileError(f"{path}: cannot be read as a table ({first_line(error)})") from None
    if not rows:
        raise DataFileError(f"{path}: is empty; give a table with a header")
    names = [n.strip().upper().replace(" ", "_") for n in rows[0]]
    body = [row for row in rows[1:] if row]
    for number, row in enumerate(body, start=2):
        if len(row) != len(names):
            raise DataFileError(f"{path}: row {number} has {len(row)} cells, the header {len(names)}; mend it")
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise DataFileError(f"{path}: column {twice[0]} is there twice; rename one of them")
    return {n: np.array([row[k] for row in body], dtype=str) for k, n in enumerate(names)}


def _read_parquet(path: Path) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataFileError(f"{path}: cannot be read as a table ({first_line(error)})") from None
    columns: Columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_nested(column.type):
            continue
        if name.upper() == "TARGETID" and column.null_count:
            raise DataFileError(f"{path}: TARGETID is blank in {column.null_count} rows; leave them out")
        columns[name.upper()] = column.to_numpy(zero_copy_only=False)
    return columns
