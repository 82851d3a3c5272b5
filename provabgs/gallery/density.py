"""A picture of many galaxies that the overview shows at once, before their columns are there."""

from __future__ import annotations

from typing import Any

import numpy as np

from provabgs.gallery.pack import pack
from provabgs.gallery.table import Summary

SIZE = (240, 160)
"""Cells along x and y."""


def density(summary: Summary, x: str, y: str) -> dict[str, Any]:
    """Galaxies per cell of a plane.

    Parameters
    ----------
    summary
        With the columns' values.
    x, y
        Columns of the plane.

    Returns
    -------
    dict
        Limits, size and counts (row by row from the lowest y), for `write_chunk`.
    """
    about = {c.name: c for c in summary.columns}
    limits = [(about[c].low, about[c].high) for c in (x, y)]
    a, b = (np.asarray(summary.values[c], dtype=np.float64) for c in (x, y))
    known = np.isfinite(a) & np.isfinite(b)
    counts, _, _ = np.histogram2d(a[known], b[known], bins=SIZE, range=limits)
    flat = np.ascontiguousarray(counts.T, dtype=np.int32).ravel()
    return {"x": list(limits[0]), "y": list(limits[1]), "size": list(SIZE), "counts": pack({"counts": flat})}
