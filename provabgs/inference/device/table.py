"""Arrays of many galaxies of one shape on a device, one row each, so that a call gathers those it needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from provabgs.core.jax import jax, jnp


class Table:
    """Rows of pytrees of equal structure and shapes.

    Parameters
    ----------
    first
        A pytree of arrays: structure, shapes and types of all.
    size
        Number of rows; their memory is taken at once.
    """

    def __init__(self, first: Any, size: int) -> None:
        self.free = list(range(size))[::-1]
        self.rows = jax.tree.map(lambda x: jnp.zeros((size, *np.shape(x)), np.asarray(x).dtype), first)

    def put(self, tree: Any) -> int | None:
        """Take in a galaxy; its row, or None where all are taken."""
        if not self.free:
            return None
        row = self.free.pop()
        self.rows = _put(self.rows, row, tree)
        return row

    def drop(self, row: int) -> None:
        """Free a row."""
        self.free.append(row)

    def take(self, rows: Any) -> Any:
        """Rows ``(g,)`` as one pytree with a leading axis."""
        return _take(self.rows, rows)


@jax.jit
def _put(rows: Any, row: Any, tree: Any) -> Any:
    return jax.tree.map(lambda all_rows, x: all_rows.at[row].set(x), rows, tree)


@jax.jit
def _take(rows: Any, which: Any) -> Any:
    return jax.tree.map(lambda x: x[which], rows)
