"""Quadrature of a smooth attenuation over a band: nodes and the polynomials through them."""

from __future__ import annotations

import numpy as np

from provabgs.core.arrays import FloatArray

CALZETTI_STEP = 6300.0
"""Rest wavelength, Angstrom, at which the attenuation curve jumps by 0.7 % (docs/studies/fsps_notes.md)."""


def lagrange(x: FloatArray, nodes: FloatArray) -> FloatArray:
    """Lagrange polynomials.

    Parameters
    ----------
    x
        ``(m,)`` positions, the unit of `nodes`.
    nodes
        ``(n,)`` distinct nodes.

    Returns
    -------
    FloatArray
        ``(m, n)``; column j is 1 at node j and 0 at the others.
    """
    half = 0.5 * np.ptp(nodes)
    u, v = (x - nodes.mean()) / half, (nodes - nodes.mean()) / half
    power = np.linalg.inv(np.vander(v, increasing=True))
    return np.vander(u, len(v), increasing=True) @ power


def gauss_nodes(wave: FloatArray, weights: FloatArray, n: int) -> FloatArray:
    """Nodes of Gaussian quadrature for a discrete measure, by Lanczos tridiagonalisation.

    Polynomials through these nodes integrate a smooth function against the measure far better than they interpolate it
    (Golub & Welsch 1969).

    Parameters
    ----------
    wave
        ``(m,)`` positions, Angstrom.
    weights
        ``(m,)`` measure; negative weights count as 0.
    n
        Number of nodes, fewer than positions of positive weight.

    Returns
    -------
    FloatArray
        ``(n,)`` nodes, Angstrom, increasing.
    """
    half, middle = 0.5 * np.ptp(wave), 0.5 * (wave.max() + wave.min())
    x = (wave - middle) / half
    q = np.sqrt(np.maximum(weights, 0.0) / np.maximum(weights, 0.0).sum())
    vectors, diagonal, off = [q], [], []
    for _ in range(n):
        v = x * vectors[-1]
        diagonal.append(float(v @ vectors[-1]))
        for earlier in vectors:  # full orthogonalisation: n is small
            v = v - (v @ earlier) * earlier
        off.append(float(np.linalg.norm(v)))
        vectors.append(v / off[-1])
    matrix = np.diag(diagonal) + np.diag(off[: n - 1], 1) + np.diag(off[: n - 1], -1)
    return middle + half * np.linalg.eigvalsh(matrix)
