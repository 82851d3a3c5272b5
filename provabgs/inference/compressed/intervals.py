"""How the smooth attenuation is carried across wavelength: intervals, nodes, and the polynomials between them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

N_REGULAR = 9
"""Intervals on which the attenuation is a cubic; one more, the bridge, spans its step."""
N_INTERVALS = N_REGULAR + 1
N_NODES = 4
"""Nodes of the attenuation per interval."""
CALZETTI_STEP = 6300.0
"""Rest wavelength, Angstrom, at which the attenuation curve jumps by 0.7 % (docs/fsps_notes.md)."""
BRIDGE_REACH = 40.0
"""Observed Angstrom on either side of the step that line spread may mix; the bridge's half width."""


class Intervals(NamedTuple):
    """Partition of a spectrum's pixels."""

    edges: FloatArray
    """``(N_REGULAR + 1,)`` observed Angstrom."""
    step: float
    """Observed wavelength of the step."""
    nodes: FloatArray
    """``(N_INTERVALS, N_NODES)`` observed wavelengths at which the attenuation is evaluated; the bridge is last."""
    of_pixel: NDArray[np.int64]
    """``(npix,)`` interval of each pixel."""


def make_intervals(wave: FloatArray, redshift: float) -> Intervals:
    """Cut ``wave`` ``(npix,)`` into intervals equal in log wavelength, with an edge at the step where it is inside."""
    low, high = wave.min(), wave.max() * (1 + 1e-9)
    edges = np.geomspace(low, high, N_REGULAR + 1)
    step = CALZETTI_STEP * (1 + redshift)
    nearest = 1 + int(np.argmin(np.abs(edges[1:-1] - step)))
    if edges[nearest - 1] + BRIDGE_REACH < step < edges[nearest + 1] - BRIDGE_REACH:
        edges[nearest] = step
    of_pixel = np.clip(np.searchsorted(edges, wave, side="right") - 1, 0, N_REGULAR - 1)
    of_pixel = np.where(np.abs(wave - step) < BRIDGE_REACH, N_REGULAR, of_pixel)
    third = BRIDGE_REACH / 3
    bridge = step + np.array([-2 * third, -0.5 * third, 0.5 * third, 2 * third])
    return Intervals(edges, step, np.vstack([chebyshev_nodes(edges), bridge]), of_pixel)


def chebyshev_nodes(edges: FloatArray, n: int = N_NODES) -> FloatArray:
    """``(len(edges) - 1, n)`` Chebyshev nodes of each interval."""
    x = -np.cos((2 * np.arange(n) + 1) * np.pi / (2 * n))
    low, high = edges[:-1, None], edges[1:, None]
    return 0.5 * (low + high) + 0.5 * (high - low) * x


def lagrange(x: FloatArray, nodes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Lagrange polynomials on `nodes` ``(n,)`` and their derivatives at `x` ``(m,)``, each ``(m, n)``."""
    half = 0.5 * np.ptp(nodes)
    u, v = (x - nodes.mean()) / half, (nodes - nodes.mean()) / half
    power = np.linalg.inv(np.vander(v, increasing=True))
    value = np.vander(u, len(v), increasing=True)
    slope = np.concatenate([np.zeros((u.size, 1)), value[:, :-1] * np.arange(1, len(v))], axis=1)
    return value @ power, slope @ power / half


def bridge_functions(wave_model: FloatArray, intervals: Intervals) -> FloatArray:
    """Weights of the bridge's nodes at model wavelengths, ``(N_NODES, nwave)``: linear on each side of the step."""
    out = np.zeros((N_NODES, wave_model.size))
    left = wave_model <= intervals.step
    for side, nodes in ((left, slice(0, 2)), (~left, slice(2, 4))):
        out[nodes, side] = lagrange(wave_model[side], intervals.nodes[-1, nodes])[0].T
    return out


def gauss_nodes(wave: FloatArray, weights: FloatArray, n: int) -> FloatArray:
    """Nodes of Gaussian quadrature for a discrete measure, ``(n,)``, by Lanczos tridiagonalisation.

    Polynomials through these nodes integrate a smooth function against the measure far better than they interpolate it
    (Golub & Welsch 1969).
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
