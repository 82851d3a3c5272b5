"""Checksums of a block of rows, by pieces, so that a few galaxies of a shard are verified without reading all of it.

A piece is `PIECE_ROWS` rows of one array. Its SHA-256 is stored; the shard's own SHA-256, which the summary of the
catalog repeats, covers the pieces' checksums and everything that gives the arrays their meaning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provabgs.catalog.block import Block

PIECE_ROWS = 128
"""Rows of a piece: the HDF5 chunks, so that nothing is read for its checksum alone."""
IDS, SUMMARY = "targetid", "summary"
"""Pieces that are no samples."""


def digest(block: Block, checksums: NDArray[np.uint8] | None = None) -> str:
    """SHA-256 over every array and table of a block.

    Parameters
    ----------
    block
        Rows.
    checksums
        From `pieces`, where they are known already.

    Returns
    -------
    str
        Hexadecimal.
    """
    return root(
        pieces(block) if checksums is None else checksums,
        names=piece_names(block.samples),
        encoding=block.encoding,
        models=block.models,
        tables=tables_digest(block.configs, block.versions),
    )


def piece_names(columns: Iterable[str]) -> tuple[str, ...]:
    """What the rows of the array of checksums belong to: TARGETID, summary, sample columns by name."""
    return (IDS, SUMMARY, *sorted(columns))


def pieces(block: Block) -> NDArray[np.uint8]:
    """``(2 + columns, pieces, 32)`` SHA-256 of each piece of each array, in the order of `piece_names`."""
    arrays: list[tuple[NDArray[Any], NDArray[Any] | None]] = [(block.summary["TARGETID"], None), (block.summary, None)]
    arrays += [(block.samples[c], block.scale.get(c)) for c in sorted(block.samples)]
    starts = range(0, max(len(block), 1), PIECE_ROWS)
    found = [
        [piece(a[i : i + PIECE_ROWS], None if s is None else s[i : i + PIECE_ROWS]) for i in starts] for a, s in arrays
    ]
    return np.frombuffer(b"".join(b"".join(row) for row in found), np.uint8).reshape(len(arrays), len(starts), 32)


def piece(values: NDArray[Any], scale: NDArray[Any] | None = None) -> bytes:
    """SHA-256 of a piece.

    Parameters
    ----------
    values
        Its rows: numbers, or a structured array.
    scale
        Offsets and steps of samples that are stored as codes.

    Returns
    -------
    bytes
        32 of them.
    """
    h = hashlib.sha256()
    for array in (values,) if scale is None else (values, scale):
        kind = [(n, array.dtype[n].str) for n in array.dtype.names] if array.dtype.names else array.dtype.str
        h.update(f"{kind}{array.shape}".encode())
        h.update(np.ascontiguousarray(array).tobytes())
    return h.digest()


def root(
    checksums: NDArray[np.uint8], *, names: Sequence[str], encoding: str, models: Sequence[str], tables: str
) -> str:
    """SHA-256 of a shard from those of its pieces.

    Parameters
    ----------
    checksums
        From `pieces`.
    names
        What each of their rows belongs to.
    encoding
        How samples are stored.
    models
        Schemas of models, JSON.
    tables
        From `tables_digest`.

    Returns
    -------
    str
        Hexadecimal.
    """
    meaning = json.dumps([list(names), encoding, list(models), tables, list(checksums.shape)])
    return hashlib.sha256(meaning.encode() + np.ascontiguousarray(checksums).tobytes()).hexdigest()


def tables_digest(configs: Sequence[str], versions: Sequence[str]) -> str:
    """SHA-256 of a shard's tables of fit configurations and versions.

    Parameters
    ----------
    configs, versions
        JSON texts.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps([list(configs), list(versions)]).encode()).hexdigest()
