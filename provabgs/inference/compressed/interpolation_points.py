"""Empirical interpolation: a whole attenuated spectrum from its values at a few wavelengths.

Composite spectra, dust included, fill a space of low dimension. A few points, chosen greedily where what is not yet
predicted is largest (pivoted QR over composites), determine the rest of the spectrum by linear regression (empirical
interpolation: Barrault et al. 2004; reduced-order quadrature in gravitational-wave likelihoods: Canizares et al. 2015).
The model is evaluated exactly at the points, dust law included, so nothing is assumed about the attenuation's
smoothness. Each wavelength is regressed separately, so the regression coefficients do not depend on noise or
resolution. One rest-frame table therefore serves all galaxies that observe the same rest-frame range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.errors import InputError
from provabgs.core.memory import bounded_cache
from provabgs.inference.compressed.training import N_TRAIN, training_set
from provabgs.sps.composite import Parts
from provabgs.sps.model import SPSModel

MAX_POINTS = 256
N_PIVOT = 700
"""Composites among which points are chosen."""
N_HEAD = 48
"""Leading directions that carry nearly all of the flux and are kept in double precision."""
NEGLIGIBLE = 1e-12
"""Relative flux below which attenuation has removed everything; smaller numbers only meet slow denormal arithmetic."""
WINDOW_STEP = 0.04
"""Windows of wavelength are rounded out to this step in ln wavelength, so that galaxies share them."""
KEPT_BYTES = 160 << 20
"""Of the bases that are kept: some 26 windows, as many as galaxies with all cameras at redshifts below 0.6 have."""


@dataclass(frozen=True, eq=False)
class PointBasis:
    """Points of one window and how spectra follow from them.

    A spectrum f is ``cardinal_by_wave @ u`` with ``u = solve(r.T, values at points)``; the first q entries of u, and
    the first q cardinal spectra, are those of the best regression on the first q points: sizes are nested.
    """

    columns: slice
    """The window, on the library's wavelength axis."""
    wave: FloatArray
    """``(npoint,)`` rest Angstrom of the points, most important first."""
    ssps: Parts
    """Each ``(nrow, npoint)`` rows of `merged_spectra` at the points."""
    reemitted: SingleArray | None
    """``(nreemitted, npoint)`` rows of emissions that dust powers."""
    r: FloatArray
    """``(npoint, npoint)`` upper triangular; a typical u has unit variance."""
    cardinal_by_wave: SingleArray
    """``(nwave, npoint)`` cardinal spectra."""
    held_out_level: FloatArray
    """``(nheldout, 1)`` root mean square of the held-out composites."""
    held_out_u: FloatArray
    """``(nheldout, npoint)`` their u, for spectra of unit mean square."""

    @property
    def nbytes(self) -> int:
        """Of all arrays."""
        arrays = (self.wave, *self.ssps, self.reemitted, self.r, self.cardinal_by_wave, self.held_out_level)
        return sum(a.nbytes for a in (*arrays, self.held_out_u) if a is not None)


def point_basis(model: SPSModel, wave_min: float, wave_max: float) -> PointBasis:
    """The basis of the window that covers a range of rest wavelengths; cached per process.

    Parameters
    ----------
    model
        The SPS model.
    wave_min
        Lower end of the range, Angstrom.
    wave_max
        Upper end of the range, Angstrom.

    Returns
    -------
    PointBasis
        On a window rounded out to `WINDOW_STEP`.

    Raises
    ------
    InputError
        When the range lies beyond what the compressed likelihood learns.
    """
    training = training_set(model)
    if wave_min < training.wave[0] or wave_max > training.wave[-1]:
        raise InputError(
            f"pixels at {wave_min:.0f}-{wave_max:.0f} A rest frame lie beyond the compressed engine's "
            f"{training.wave[0]:.0f}-{training.wave[-1]:.0f} A; cut the spectrum or use engine = 'exact'"
        )
    low, high = np.log([wave_min, wave_max]) / WINDOW_STEP
    return _point_basis(model, int(np.floor(low)), int(np.ceil(high)))


def held_out(model: SPSModel, basis: PointBasis, which: NDArray[np.intp]) -> SingleArray:
    """Held-out composites of unit mean square; they stay with the training set, for a basis of each would double it.

    Parameters
    ----------
    model
        That the basis belongs to.
    basis
        The window.
    which
        ``(n,)`` of the `N_HELD_OUT`.

    Returns
    -------
    numpy.ndarray
        ``(n, nwave)``.
    """
    t = training_set(model)
    columns = slice(basis.columns.start - t.first, basis.columns.stop - t.first)
    return _of_unit_level(t.spectra[N_TRAIN + which, columns], basis.held_out_level[which])


def _of_unit_level(spectra: SingleArray, level: FloatArray) -> SingleArray:
    out = (spectra / level).astype(np.float32)
    out[out < NEGLIGIBLE] = 0.0
    return out


@bounded_cache(KEPT_BYTES)
def _point_basis(model: SPSModel, low: int, high: int) -> PointBasis:
    t = training_set(model)
    edges = np.exp(np.array([low, high]) * WINDOW_STEP)
    start, stop = np.searchsorted(t.wave, edges)
    candidates = np.flatnonzero((t.candidates >= edges[0]) & (t.candidates <= edges[1]))
    level = _without_lines(t.spectra[:, start:stop], model.library.line_nodes - t.first - int(start))
    norm = np.sqrt(np.mean(np.square(level, dtype=np.float64), axis=1))[:, None]
    norm = np.maximum(norm, 1e-6 * np.median(norm))
    spectra = _of_unit_level(t.spectra[:N_TRAIN, start:stop], norm[:N_TRAIN])
    values = t.values[:, candidates] / norm
    chosen = _pivots(values[:N_PIVOT], min(MAX_POINTS, candidates.size))
    q, r = np.linalg.qr(values[:N_TRAIN, chosen])
    held_out_u = linalg.solve_triangular(r, values[N_TRAIN:, chosen].T, trans="T").T
    unit = np.sqrt(N_TRAIN)
    points = candidates[chosen]
    return PointBasis(
        slice(t.first + int(start), t.first + int(stop)),
        t.candidates[points],
        Parts(*(np.ascontiguousarray(s[:, points]) for s in t.ssps)),
        None if t.reemitted is None else np.ascontiguousarray(t.reemitted[:, points]),
        r / unit,
        np.ascontiguousarray(_regress(q * unit, spectra).T),
        norm[N_TRAIN:].copy(),  # views would keep the arrays of every window alive
        held_out_u * unit,
    )


def _without_lines(spectra: SingleArray, nodes: NDArray[np.int64]) -> SingleArray:
    """Spectra without the nodes of lines: spikes of next to no width, which say nothing about a spectrum's level."""
    inside = nodes[(nodes >= 0) & (nodes < spectra.shape[1])]
    return np.delete(spectra, inside, axis=1) if inside.size else spectra


def _pivots(values: FloatArray, n: int) -> NDArray[np.int64]:
    """Columns that a QR with column pivoting takes first, by modified Gram-Schmidt stopped after `n`."""
    left = np.asfortranarray(values)
    size = np.einsum("ij,ij->j", left, left)
    chosen = []
    for _ in range(n):
        best = int(np.argmax(size))
        chosen.append(best)
        direction = left[:, best] / np.linalg.norm(left[:, best])
        overlap = direction @ left
        left -= np.multiply.outer(direction, overlap)
        size = np.maximum(size - overlap**2, 0.0)
        size[chosen] = -1.0
    return np.array(chosen)


def _regress(q: FloatArray, spectra: SingleArray) -> SingleArray:
    """``q.T @ spectra / n`` for orthogonal q: double for the leading directions, single for the small rest."""
    n = len(q)
    head = q[:, :N_HEAD].T @ spectra.astype(np.float64) / n
    rest = (spectra - q[:, :N_HEAD] @ head).astype(np.float32)
    tail = q[:, N_HEAD:].astype(np.float32).T @ rest / np.float32(n)
    return np.concatenate([head.astype(np.float32), tail])
