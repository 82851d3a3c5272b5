"""Array types and selections that the whole package shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
"""Double precision of any shape; docstrings give the shape and the unit."""
SingleArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def thin(n: int, keep: int) -> IntArray:
    """Indices of `keep` evenly spaced entries among `n`, first and last included.

    Parameters
    ----------
    n
        Number of entries there are.
    keep
        Number wanted; all of them where there are fewer.

    Returns
    -------
    numpy.ndarray
        ``(min(n, keep),)`` increasing indices.
    """
    return np.linspace(0, n - 1, min(n, keep)).round().astype(np.int64)
