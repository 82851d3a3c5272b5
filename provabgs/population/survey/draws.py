"""Posterior draws of a model's parameters, as its spectra need them."""

from __future__ import annotations

import numpy as np
from astropy.table import Table

from provabgs.core.arrays import BoolArray, FloatArray
from provabgs.core.errors import InputError
from provabgs.sps.model import SPSModel


def theta_of(table: Table, model: SPSModel) -> FloatArray:
    """Parameters of a model from a table of samples, by name.

    Parameters
    ----------
    table
        Samples with one row per galaxy and ``(n, ndraw)`` columns (`provabgs.catalog.Catalog.samples`), among them
        those of ``model.parameters``.
    model
        SPS model that the draws are for.

    Returns
    -------
    numpy.ndarray
        ``(n, ndraw, nparameter)``; NaN past a galaxy's draws.

    Raises
    ------
    InputError
        For a parameter of which the table has no draw: the galaxies were fitted with another model.
    """
    columns = model.parameters.columns
    if missing := [c for c in columns if c not in table.colnames]:
        raise InputError(f"the samples lack {', '.join(missing)}, parameters of the SPS model; read them too")
    theta = np.stack([np.asarray(table[c], dtype=np.float64) for c in columns], axis=-1)
    known: BoolArray = np.any(np.isfinite(theta), axis=(0, 1))
    if known.any() and not known.all():
        empty = ", ".join(c for c, k in zip(columns, known.tolist(), strict=True) if not k)
        raise InputError(
            f"no galaxy has draws of {empty}: the catalog was fitted with another SPS model; give that one"
        )
    return theta


def thin_draws(theta: FloatArray, n: int) -> FloatArray:
    """`n` of each galaxy's finite draws, evenly spaced.

    Parameters
    ----------
    theta
        ``(ngalaxy, ndraw, nparameter)``; draws with a NaN do not count.
    n
        Draws wanted; galaxies with fewer repeat theirs.

    Returns
    -------
    numpy.ndarray
        ``(ngalaxy, n, nparameter)``; NaN for galaxies without a finite draw.
    """
    out = np.full((len(theta), n, theta.shape[2]), np.nan)
    for row, draws in enumerate(theta):
        known = np.flatnonzero(np.isfinite(draws).all(axis=1))
        if known.size:
            out[row] = draws[known[np.linspace(0, known.size - 1, n).round().astype(int)]]
    return out
