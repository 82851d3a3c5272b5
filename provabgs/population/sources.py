"""Where population inference finds its draws: a catalog, one posterior file, or the folder of a mock challenge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from provabgs.catalog import Catalog
from provabgs.catalog.layout import SUMMARY_NAME
from provabgs.core.arrays import FloatArray
from provabgs.core.errors import DataFileError, InputError
from provabgs.core.status import Status

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
    label
        For messages.
    """

    root: Path
    columns: dict[str, NDArray[Any]]
    configs: tuple[str, ...]
    label: str

    def __len__(self) -> int:
        return len(self.columns["TARGETID"])

    def take(self, rows: NDArray[Any]) -> Source:
        """Some of the rows."""
        return Source(self.root, {k: v[rows] for k, v in self.columns.items()}, self.configs, self.label)


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
    joined = {name: np.concatenate([rows[name] for rows, _ in opened]) for name in names}
    configs = tuple(dict.fromkeys(c for _, found in opened for c in found))
    if not len(joined["TARGETID"]):
        raise InputError(f"{path}: no galaxy is chosen{f' by {where!r}' if where else ''}")
    return Source(root, joined, configs, str(path))


def _rows(path: Path, where: str | None, columns: Sequence[str]) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Columns and configurations of one file or catalog."""
    with Catalog.open(path) as catalog:
        chosen = catalog.select(where) if where else catalog
        table = chosen.arrow(list(dict.fromkeys((*_NEEDED, *columns))))
        configs = tuple(json.loads(catalog.metadata.get("provabgs:configs", "[]")))
    return {name: _numpy(table[name]) for name in table.column_names}, configs


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """Null becomes NaN, text an object array."""
    if pa.types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return np.asarray(column.to_numpy())


@dataclass(frozen=True)
class Chosen:
    """What was left out, and why; said with every result."""

    n_rows: int
    n_without_samples: int
    n_not_converged: int
    n_used: int

    def sentence(self) -> str:
        """For people."""
        return (
            f"{self.n_used} of {self.n_rows} galaxies used; {self.n_without_samples} without samples, "
            f"{self.n_not_converged} not converged left out"
        )


def usable(source: Source, include_not_converged: bool = False) -> tuple[Source, Chosen]:
    """Rows with samples, converged ones only unless told otherwise; and the count of the others.

    Raises
    ------
    InputError
        When nothing is left.
    """
    status = np.asarray(source.columns["STATUS"])
    sampled = np.asarray(source.columns["N_SAMPLES"]) > 0
    converged = sampled & (status == int(Status.CONVERGED))
    keep = sampled if include_not_converged else converged
    chosen = Chosen(len(source), int((~sampled).sum()), int((sampled & ~keep).sum()), int(keep.sum()))
    if not keep.any():
        raise InputError(
            f"{source.label}: no usable galaxy: {chosen.n_without_samples} without samples, "
            f"{chosen.n_not_converged} not converged (--include-not-converged takes those)"
        )
    return source.take(np.flatnonzero(keep)), chosen


def galaxy_weights(source: Source, names: Sequence[str]) -> FloatArray:
    """Product of weight columns, scaled to Kish's effective number of galaxies ``(sum w)^2 / sum w^2``.

    With that sum a weighted likelihood is as informative as its weights allow, not as their units suggest.

    Raises
    ------
    InputError
        For a weight that is NaN, infinite, zero or negative, naming the first galaxy that has one.
    """
    weight = np.ones(len(source))
    for name in names:
        values = np.asarray(source.columns[name], dtype=np.float64)
        bad = ~(np.isfinite(values) & (values > 0))
        if bad.all():
            raise InputError(f"{source.label}: column {name} holds no usable weight; this catalog does not know it")
        if bad.any():
            first = int(np.argmax(bad))
            raise InputError(
                f"{source.label}: {name} of TARGETID {source.columns['TARGETID'][first]} is {values[first]:g} "
                f"({int(bad.sum())} of {bad.size} are not positive numbers); select others, such as -w '{name} > 0'"
            )
        weight *= values
    return weight * (weight.sum() / np.sum(weight**2))
