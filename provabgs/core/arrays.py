"""Array types and selections that the whole package shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.core.errors import InputError

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


def draws_and_redshifts(values: ArrayLike, redshift: ArrayLike, d: int) -> tuple[FloatArray, FloatArray]:
    """Draws of properties of galaxies, with their redshifts, as arrays whose shapes go together.

    Parameters
    ----------
    values
        ``(n, S, d)`` draws.
    redshift
        ``(n,)``.
    d
        Number of properties.

    Returns
    -------
    values, redshift
        In double precision.

    Raises
    ------
    InputError
        For arrays of other shapes.
    """
    v, z = np.asarray(values, dtype=np.float64), np.asarray(redshift, dtype=np.float64)
    if v.ndim != 3 or v.shape[2] != d or z.shape != (len(v),):
        raise InputError(f"values {v.shape} and redshift {z.shape}: expected (n, S, {d}) and (n,)")
    return v, z
