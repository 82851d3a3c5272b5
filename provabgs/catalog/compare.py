"""Whether two catalogs hold the same galaxies and the same numbers: row by row, sample by sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from provabgs.catalog.block import Block, concatenate
from provabgs.catalog.columns import VOLATILE
from provabgs.catalog.layout import shard_paths
from provabgs.catalog.shard import read_block


def differences(first: str | Path, second: str | Path, *, limit: int = 20) -> list[str]:
    """What differs between two catalog directories, in words.

    Rows are matched by (TARGETID, INPUT, ROW), so that neither the order nor the division into shards matters. Wall
    times are left out; every other column and every stored draw must agree exactly, NaN with NaN.

    Parameters
    ----------
    first, second
        Catalog directories.
    limit
        Stop after this many differences.

    Returns
    -------
    list of str
        One sentence per difference; empty when the catalogs are equal.

    Raises
    ------
    DataFileError
        When a shard of either is damaged.
    """
    blocks = [concatenate([read_block(path) for path in shard_paths(root)]) for root in (first, second)]
    return block_differences(*blocks)[:limit]


def block_differences(first: Block, second: Block) -> list[str]:
    """What differs between the rows of two blocks, as `differences` does for catalogs.

    Parameters
    ----------
    first, second
        Rows in any order.

    Returns
    -------
    list of str
        One sentence per difference; empty when the blocks are equal.
    """
    if len(first) != len(second):
        return [f"the first has {len(first)} galaxies, the second has {len(second)}"]
    a, b = _sorted(first), _sorted(second)
    found: list[str] = []
    columns = [set(x.summary.dtype.names or ()) for x in (a, b)]
    if only := sorted(columns[0] ^ columns[1]):
        found.append(f"columns that one of them lacks: {', '.join(only)}")
    for name in a.summary.dtype.names or ():
        if name not in VOLATILE and name in columns[1]:
            _compare(name, a.summary[name], b.summary[name], a.summary["TARGETID"], found)
    if a.samples.keys() != b.samples.keys():
        return [*found, f"samples of different quantities: {sorted(a.samples.keys() ^ b.samples.keys())}"]
    for name in a.samples:
        _compare(f"samples/{name}", a.samples[name], b.samples[name], a.summary["TARGETID"], found)
        if a.scale or b.scale:
            _compare(f"scale/{name}", a.scale[name], b.scale[name], a.summary["TARGETID"], found)
    if a.configs != b.configs or a.versions != b.versions:
        found.append("fit configurations or versions differ")
    if a.models != b.models:
        found.append("parameters or derived properties of the models differ")
    return found


def _sorted(block: Block) -> Block:
    """Rows in order of their key."""
    keys = block.summary
    return block.take(np.lexsort((keys["ROW"], keys["INPUT"], keys["TARGETID"])))


def _compare(name: str, a: NDArray, b: NDArray, ids: NDArray[np.int64], found: list[str]) -> None:
    """Add a line for the rows at which two columns differ."""
    if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
        found.append(f"{name}: shape or type {a.shape} {a.dtype} against {b.shape} {b.dtype}")
        return
    same = a == b
    if a.dtype.kind == "f":
        same |= np.isnan(a) & np.isnan(b)
    rows = np.flatnonzero(~same.reshape(len(same), -1).all(axis=1))
    if rows.size:
        i = int(rows[0])
        found.append(f"{name}: {rows.size} rows differ, first TARGETID {ids[i]}: {a[i]!r} against {b[i]!r}")
