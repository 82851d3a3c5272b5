"""Correction of the compressed likelihood near a galaxy's best fit.

Over the whole prior the compressed model is off by a few hundredths of a sigma, but spectra that fit the same data
share nearly all of that error. Once some of them are known (draws of a first fit), the exact model measures the error
at these spectra. The mean error is subtracted from the data, its linear response to the spectrum from the whitened data
modes. The remaining error, for spectra within tens of nats of the best fit, is measured on held-out draws.

With P u the compressed spectrum in weighted pixels, Q the directions of the modes and e the error,
``|s - P u - e|^2 = |Q^T s - Q^T P u - Q^T e|^2 + |s'|^2 - 2 s'.e + O(e^2)``, with s' the part of the data outside the
modes. The product s'.e is treated as one more mode, along s', so that the whole stays a sum of squares.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.inference.compressed.quadratic_form import QuadraticForm, RowSpace

RIDGES = (0.1, 1.0, 10.0)
"""Spreads, in sigmas, below which a direction's response is not believed; the best on held-out draws is taken."""
N_LINEAR = 16
"""Draws from which a linear response is learnt; fewer give the mean only."""
HOLD_OUT = 4
"""Every fourth draw is held out."""


class LocalSpectra(NamedTuple):
    """Spectra near the best fit."""

    u: FloatArray
    """``(n, npoint)`` their coefficients in the point basis."""
    pixels: FloatArray
    """``(n, npix)`` the exact model's."""


class Correction(NamedTuple):
    """What changes in a reduction: ``rows -> rows + rows @ response``, ``data -> data - shift``; see `apply`."""

    shift: FloatArray
    """``(nrow + 1,)``."""
    response: FloatArray
    """``(nrow, nrow + 1)``."""


def is_held_out(n: int) -> NDArray[np.bool_]:
    """Which of `n` draws are held out to measure the remaining error; none of fewer than `N_LINEAR`."""
    return (np.arange(n) % HOLD_OUT == HOLD_OUT - 1) & (n >= N_LINEAR)


def learn(form: QuadraticForm, space: RowSpace, n_row: int, local: LocalSpectra) -> Correction:
    """Learn the correction of the strongest modes from spectra near the best fit; the mode after them is the extra one.

    Parameters
    ----------
    form
        Weighted pixels of data and basis.
    space
        Whitened data modes.
    n_row
        Number of modes that the reduction keeps.
    local
        Exact spectra near the best fit, and their coefficients in the point basis.

    Returns
    -------
    Correction
        To be used with `apply`.
    """
    error = (form.root_ivar * local.pixels).T - form.pixels[:, : local.u.shape[1]] @ local.u.T
    along = (space.vectors.T @ form.project(error, local.u.shape[1]) / space.root[:, None]).T
    rows = space.rows(local.u)
    outside = form.inner(error, np.repeat(form.signal[:, None], len(local.u), axis=1))
    outside -= along[:, :n_row] @ space.data[:n_row]
    outside += rows[:, n_row:] @ space.data[n_row:]  # directions cut off are an error of the compressed model too
    length = np.sqrt(form.norm2 - space.data[:n_row] @ space.data[:n_row])
    target = np.column_stack([along[:, :n_row], outside / length])
    return _regress(rows[:, :n_row], target)


def learn_from_rows(own: FloatArray, exact: FloatArray, outside: FloatArray) -> Correction:
    """Learn the correction where the amplitudes of exact spectra in the modes are known.

    Parameters
    ----------
    own
        ``(n, nrow)`` amplitudes of the compressed model, sigmas.
    exact
        ``(n, nrow)`` those of the exact model.
    outside
        ``(n,)`` product of the exact spectra with the unit vector along the data outside the modes.

    Returns
    -------
    Correction
        To be used like that of `learn`.
    """
    return _regress(own, np.column_stack([exact - own, outside]))


def _regress(x: FloatArray, y: FloatArray) -> Correction:
    """Ridge regression of y ``(n, nrow + 1)`` on x ``(n, nrow)``; the mean alone where nothing better holds."""
    test = is_held_out(len(x))
    mean_x, mean_y = x[~test].mean(axis=0), y[~test].mean(axis=0)
    dx, dy = x[~test] - mean_x, y[~test] - mean_y
    best = Correction(mean_y, np.zeros((x.shape[1], y.shape[1])))
    if not test.any():
        return best
    left = np.linalg.norm(y[test] - mean_y)
    for ridge in RIDGES:
        normal = dx @ dx.T + len(dx) * ridge**2 * np.eye(len(dx))
        response = dx.T @ np.linalg.solve(normal, dy)
        remains = np.linalg.norm(y[test] - mean_y - (x[test] - mean_x) @ response)
        if remains < left:
            left, best = remains, Correction(mean_y - mean_x @ response, response)
    return best
