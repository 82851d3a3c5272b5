"""Reading samples of chosen galaxies out of shards, a shard at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from provabgs.catalog import expression
from provabgs.catalog.columns import LOG_PROB, Schema, union
from provabgs.catalog.encode import dequantise
from provabgs.catalog.names import sample_formulas
from provabgs.catalog.shard import open_shard
from provabgs.core.errors import DataFileError
from provabgs.core.messages import first_line


@dataclass(frozen=True, eq=False)
class SampleChunk:
    """Samples of some galaxies of one shard.

    Attributes
    ----------
    positions
        ``(n,)`` positions of the galaxies in the list that was asked for.
    values
        ``(n, S)`` per name; NaN past a galaxy's number of samples.
    """

    positions: NDArray[np.int64]
    values: dict[str, NDArray[np.float64]]


def stored_columns(names: list[str], schema: Schema) -> list[str]:
    """The stored columns from which some names (stored or computed) are made.

    Parameters
    ----------
    names
        Sample columns or computed ones; see `provabgs.catalog.names`.
    schema
        Of the catalog.

    Returns
    -------
    list of str
        Without repeats.
    """
    formulas = sample_formulas(schema)
    needed: list[str] = []
    for name in names:
        needed += expression.names(expression.parse(formulas[name])) if name in formulas else [name]
    return list(dict.fromkeys(needed))


def read_chunks(
    root: Path, shards: NDArray[np.object_], rows: NDArray[np.int64], names: list[str], schema: Schema
) -> Iterator[SampleChunk]:
    """Read samples shard by shard: memory stays that of one shard however long the list.

    Parameters
    ----------
    root
        Directory of the catalog.
    shards, rows
        ``(n,)`` shard file (relative) and row in it of each galaxy.
    names
        Sample columns, stored or computed (see `provabgs.catalog.names`).
    schema
        Of the catalog; a shard may lack columns of it, of models that it has no fits of.

    Yields
    ------
    SampleChunk
        One per shard.

    Raises
    ------
    DataFileError
        When a shard is missing, damaged, or holds fewer rows than the summary says.
    """
    columns, formulas = stored_columns(names, schema), sample_formulas(schema)
    _, first, inverse = np.unique(shards.astype(str), return_index=True, return_inverse=True)
    # grouped by shard, so that each file is opened once
    order = np.argsort(inverse, kind="stable")
    for positions in np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1) if first.size else ():
        path = root / str(shards[positions[0]])
        with open_shard(path) as f:
            try:
                own = union(Schema.from_json(m) for m in f["models"].asstr()[:]).sample_columns
                arrays = {c: _read(f, c, rows[positions], c in own) for c in columns}
            except (OSError, KeyError, RuntimeError, IndexError, ValueError) as error:
                reason = first_line(error)
                raise DataFileError(
                    f"{path}: corrupt, or not the shard that the summary was built from ({reason}); "
                    "repeat `provabgs run` with the same configuration"
                ) from None
        yield SampleChunk(positions, {n: _value(n, arrays, formulas) for n in names})


def _read(f: h5py.File, column: str, rows: NDArray[np.int64], held: bool) -> NDArray[np.float64]:
    """Draws of one column for the given rows, reading only the span that holds them; NaN where none are `held`."""
    low, high = int(rows.min()), int(rows.max()) + 1
    if not held:
        return np.full((rows.size, f["samples"][LOG_PROB].shape[1]), np.nan)
    dataset = f["samples"][column]
    if high > dataset.shape[0]:
        raise IndexError(f"row {high - 1} of {dataset.shape[0]}")
    stored = dataset[low:high][rows - low]
    if f.attrs["encoding"] == "uint16":
        return dequantise(stored, f["scale"][column][low:high][rows - low])
    return stored.astype(np.float64)


def _value(name: str, arrays: dict[str, NDArray[np.float64]], formulas: dict[str, str]) -> NDArray[np.float64]:
    """A stored column, or the formula of a computed one."""
    return expression.evaluate(expression.parse(formulas[name]), arrays) if name in formulas else arrays[name]
