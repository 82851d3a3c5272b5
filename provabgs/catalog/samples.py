"""Reading samples of chosen galaxies out of shards, a shard at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.catalog import evaluate, expression
from provabgs.catalog.columns import LOG_PROB, Schema
from provabgs.catalog.encode import dequantise
from provabgs.catalog.generations import open_generation
from provabgs.catalog.names import sample_formulas
from provabgs.catalog.shard_file import Verified
from provabgs.core.errors import DataFileError
from provabgs.core.hdf5 import DAMAGE
from provabgs.core.messages import first_line
from provabgs.core.progress import report


class Places(NamedTuple):
    """Where the draws of galaxies are.

    Attributes
    ----------
    shard
        ``(n,)`` shard, relative to the catalog.
    row
        ``(n,)`` row in it.
    targetid
        ``(n,)`` TARGETID, which the row must have.
    """

    shard: NDArray[Any]
    row: NDArray[np.int64]
    targetid: NDArray[np.int64]


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
    root: Path, places: Places, shards: Mapping[str, str], names: list[str], schema: Schema
) -> Iterator[SampleChunk]:
    """Read samples shard by shard: memory stays that of one shard however long the list.

    Everything that is read is verified, and is of the galaxies and of the shards that the summary was built from.

    Parameters
    ----------
    root
        Directory of the catalog.
    places
        Shard, row and TARGETID of each galaxy.
    shards
        SHA-256 of each shard, by its name, as the summary has them.
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
        When a shard is missing, damaged, or not the one that the summary was built from.
    """
    columns, formulas = stored_columns(names, schema), sample_formulas(schema)
    _, first, inverse = np.unique(places.shard.astype(str), return_index=True, return_inverse=True)
    # grouped by shard, so that each file is opened once
    order = np.argsort(inverse, kind="stable")
    done = 0
    for positions in np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1) if first.size else ():
        report("reading draws", done, order.size)
        done += positions.size
        name = str(places.shard[positions[0]])
        if name not in shards:
            raise DataFileError(f"{root}: the summary has rows of {name!r}, but no checksum of it; build it again")
        rows = places.row[positions]
        with open_generation(root, name, shards[name]) as f:
            try:
                verified = Verified(f)
                _check_ids(verified, rows, places.targetid[positions])
                arrays = {c: _read(verified, c, rows) for c in columns}
            except DAMAGE as error:
                raise DataFileError(
                    f"{f.filename}: corrupt, or not the shard that the summary was built from ({first_line(error)}); "
                    "repeat `provabgs run` with the same configuration"
                ) from None
        yield SampleChunk(positions, {n: value_of(n, arrays, formulas) for n in names})
    report("reading draws", done, order.size)


def _check_ids(verified: Verified, rows: NDArray[np.int64], expected: NDArray[np.int64]) -> None:
    """Refuse rows that the shard lacks or that belong to other galaxies."""
    found = verified.targetids()
    if rows.min() < 0 or rows.max() >= found.size:
        raise IndexError(f"row {int(rows.max())} of {found.size}")
    other = np.flatnonzero(found[rows] != expected)
    if other.size:
        row = int(rows[other[0]])
        raise ValueError(f"row {row} is of TARGETID {found[row]}, not of {int(expected[other[0]])}")


def _read(verified: Verified, column: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Draws of one column for the given rows; NaN where the shard's models have no such column."""
    held = column in verified.columns
    values, scale = verified.samples(column if held else LOG_PROB, rows)
    if not held:
        return np.full(values.shape, np.nan)
    return values.astype(np.float64) if scale is None else dequantise(values, scale)


def value_of(name: str, arrays: Mapping[str, NDArray[np.float64]], formulas: Mapping[str, str]) -> NDArray[np.float64]:
    """A stored column, or the formula of a computed one.

    Parameters
    ----------
    name
        Stored or computed.
    arrays
        Stored columns, those of `stored_columns`.
    formulas
        From `provabgs.catalog.names.sample_formulas`.

    Returns
    -------
    NDArray
        As the arrays.
    """
    return evaluate.evaluate(expression.parse(formulas[name]), arrays) if name in formulas else arrays[name]
