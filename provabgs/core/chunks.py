"""Evaluation in chunks of one shape: compiled functions then compile once, for every galaxy and number of points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from provabgs.core.arrays import FloatArray


def padded(x: FloatArray, size: int) -> FloatArray:
    """``(n, ...)`` with its last row repeated up to a multiple of `size` rows; n > 0."""
    return np.concatenate([x, np.repeat(x[-1:], -len(x) % size, axis=0)])


def in_chunks(function: Callable[[FloatArray], Any], x: FloatArray, size: int) -> FloatArray:
    """``function(x)``, `size` rows of `x` at a time; the last chunk is padded, and what comes of the padding dropped.

    Parameters
    ----------
    function
        ``(size, ...)`` to an array whose first axis is `size`.
    x
        ``(n, ...)``, n > 0.
    """
    whole = padded(x, size)
    pieces = [np.asarray(function(whole[i : i + size])) for i in range(0, len(whole), size)]
    return np.concatenate(pieces)[: len(x)]
