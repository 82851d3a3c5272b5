"""The velocity dispersion in the compressed likelihood.

The weighted pixels of a spectrum of coefficients u are ``P_0 u + sum_j p_j T_j u``, with polynomials p_j of the
dispersion (`provabgs.observe.dispersion`). P_0 is reduced as ever. What the dispersion changes, T_j u, lies for all u
in a few directions E_j of pixel space, found from random u (randomised range finder: Halko, Martinsson & Tropp 2011,
SIAM Rev. 53, 217): ``T_j = E_j A_j^T``. The rows gain those combinations of E_j that the modes of P_0 do not span.

All that any dispersion changes at rest lies in a few directions of the window's wavelengths, the same for every galaxy
(`Changes`): a galaxy sends these through its operator, and all else are products of matrices of their number.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import linalg

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.jax import jax, jnp
from provabgs.core.memory import bounded_cache
from provabgs.inference.compressed.interpolation_points import PointBasis
from provabgs.inference.compressed.places import matmul
from provabgs.inference.compressed.quadratic_form import (
    QuadraticForm,
    RowSpace,
    apply_blocks,
    dense_blocks,
    square,
    times,
)
from provabgs.observe.dispersion import N_TABLE, Banded, Dispersion, DispersionTable, of_s, polynomials
from provabgs.observe.linespread import BLOCK_ROWS

RANKS = (80, 48, 28, 16, 12, 8)
"""Directions kept of each T_j."""
N_CHANGE = 160
"""Directions of a window's wavelengths that dispersions change spectra in; with 256, ln L is no more accurate."""
OVERSAMPLED = 128
"""Random combinations beyond these, from which they are found."""
SOUGHT = 2
"""Every so many dispersions of the table takes part in the search."""
N_EXTRA = 96
"""Rows that the directions outside the modes of P_0 take: ln L of template errors is off by 0.01, with 64 by 0.05."""
SEED = 20260101
KEPT_BYTES = 384 << 20
"""Of the changes that are kept: some 20 windows."""
NEGLIGIBLE = 1e-10
"""Squared length, relative to the longest, of directions that are rounding."""


class DispersionReduction(NamedTuple):
    """Arrays of one galaxy."""

    scale: jax.Array
    """Of `provabgs.observe.dispersion.Dispersion`."""
    features: jax.Array
    """``(npoint, nfeature)`` A_j of all j side by side, from the model at the points."""
    rows: jax.Array
    """``(nfeature, nrow)`` from features to whitened data modes, in sigmas."""

    def at(self, points: jax.Array, vdisp_kms: jax.Array) -> jax.Array:
        """What the dispersion adds, as features.

        Parameters
        ----------
        points
            ``(batch, npoint)`` or ``(batch, ncomponent, npoint)``.
        vdisp_kms
            ``(batch,)``.

        Returns
        -------
        jax.Array
            ``(batch, nfeature)`` or ``(batch, ncomponent, nfeature)``.
        """
        weights = jnp.repeat(
            polynomials(vdisp_kms, self.scale), np.array(RANKS), axis=-1, total_repeat_length=sum(RANKS)
        )
        weights = weights.astype(points.dtype)
        return matmul(points, self.features) * (weights if points.ndim == 2 else weights[:, None])


class Changes:
    """What dispersions change in the cardinal spectra of a basis, as amplitudes of a few directions of wavelengths."""

    def __init__(self, basis: PointBasis, table: DispersionTable) -> None:
        self._basis, self._table = basis, table
        middle = self._broadened(N_TABLE // 2)
        self._along: dict[int, SingleArray] = {}
        sought = np.unique(np.append(np.arange(0, N_TABLE, SOUGHT), N_TABLE - 1))
        rng, n = np.random.default_rng(SEED), N_CHANGE + OVERSAMPLED
        sample = np.zeros((len(middle), n), np.float32)
        for k in sought:
            random = rng.standard_normal((middle.shape[1], n)).astype(np.float32)
            sample += (self._broadened(int(k)) - middle) @ random
        found = np.linalg.qr(sample)[0]
        sample = np.zeros_like(found)
        for k in sought:  # one power iteration: as good as 1.6 times as many directions
            change = self._broadened(int(k)) - middle
            sample += change @ (change.T @ found)
        vectors = np.linalg.svd(sample, full_matrices=False)[0]
        self.directions: SingleArray = np.ascontiguousarray(vectors[:, :N_CHANGE])
        """``(nwave, nchange)`` orthonormal."""

    @property
    def nbytes(self) -> int:
        """Bytes with the basis, once `along` has been asked for all dispersions."""
        n_along = N_TABLE * self.directions.shape[1] * len(self._basis.wave)
        return self._basis.nbytes + self.directions.nbytes + n_along * self.directions.itemsize

    def along(self, k: int) -> SingleArray:
        """Amplitudes ``(nchange, npoint)`` of what dispersion k of the table changes, against that in its middle."""
        if k not in self._along:
            self._along[k] = self.directions.T @ (self._broadened(k) - self._broadened(N_TABLE // 2))
        return self._along[k]

    def _broadened(self, k: int) -> SingleArray:
        cardinal, columns = self._basis.cardinal_by_wave, self._basis.columns
        blocks = slice(columns.start // BLOCK_ROWS, -(-columns.stop // BLOCK_ROWS))
        band = self._table.band(k)[None, blocks]
        return Banded(band, self._table.starts[blocks], columns, blocks.start).apply(0, cardinal)


@bounded_cache(KEPT_BYTES)
def changes_of(basis: PointBasis, table: DispersionTable) -> Changes:
    """The changes of a basis, once per process.

    Parameters
    ----------
    basis
        Cardinal spectra of a window.
    table
        Broadening matrices.

    Returns
    -------
    Changes
        About a second for the first galaxy of a window.
    """
    return Changes(basis, table)


class Features(NamedTuple):
    """The directions that the dispersion moves a spectrum in: ``E = pixels turn``."""

    form: QuadraticForm
    """Weights and templates."""
    pixels: SingleArray
    """``(npix, nchange)`` the directions of `Changes` as weighted pixels."""
    turn: FloatArray
    """``(nchange, nfeature)``."""
    coefficients: FloatArray
    """``(npoint, nfeature)`` A_j, on coefficients u."""
    in_modes: FloatArray
    """``(nfeature, nmode)`` of the directions in the modes of P_0."""
    to_extra: FloatArray
    """``(nfeature, N_EXTRA)`` of the directions in the extra rows."""
    from_outside: FloatArray
    """``(nfeature, N_EXTRA)`` from products with the parts of the directions outside the modes to extra rows."""
    scale: FloatArray
    """Of `provabgs.observe.dispersion.Dispersion`."""

    def along_extra(self, vectors: FloatArray, along_modes: FloatArray) -> FloatArray:
        """Amplitudes of pixel vectors in the extra rows.

        Parameters
        ----------
        vectors
            ``(npix, n)`` weighted pixels.
        along_modes
            ``(n, nmode)`` their amplitudes in the modes of P_0.

        Returns
        -------
        numpy.ndarray
            ``(n, N_EXTRA)``.
        """
        product = self.seen(self.form.marginalised(vectors).T)
        return (product - along_modes @ self.in_modes.T) @ self.from_outside

    def seen(self, rows: FloatArray) -> FloatArray:
        """Products of rows over weighted pixels ``(n, npix)`` with the directions, ``(n, nfeature)``."""
        return times(rows, self.pixels) @ self.turn

    def rows(self, n_row: int) -> FloatArray:
        """From features to rows, ``(nfeature, n_row + N_EXTRA)``, where `n_row` are kept for the modes of P_0."""
        gap = np.zeros((sum(RANKS), n_row - self.in_modes.shape[1]))
        return np.concatenate([self.in_modes, gap, self.to_extra], axis=1)

    def extra(self, u: FloatArray, p: FloatArray) -> FloatArray:
        """Features of spectra at their dispersions.

        Parameters
        ----------
        u
            ``(n, npoint)`` coefficients.
        p
            ``(n, N_NODE - 1)`` polynomials of the dispersion.

        Returns
        -------
        numpy.ndarray
            ``(n, nfeature)``.
        """
        return (u @ self.coefficients) * np.repeat(p, RANKS, axis=1)


def broadened_basis(basis: PointBasis, dispersion: Dispersion) -> SingleArray:
    """Cardinal spectra of a basis, broadened by the middle dispersion of a galaxy's range.

    Parameters
    ----------
    basis
        Interpolation points and their cardinal spectra.
    dispersion
        The galaxy's range and its matrices.

    Returns
    -------
    numpy.ndarray
        ``(nwave, npoint)``.
    """
    return apply_blocks(dense_blocks(dispersion.middle[basis.columns, basis.columns]), basis.cardinal_by_wave)


def find_features(
    form: QuadraticForm, basis: PointBasis, dispersion: Dispersion, space: RowSpace, n_row: int
) -> Features:
    """Find what the dispersion changes in a galaxy's weighted pixels.

    Parameters
    ----------
    form
        Weighted pixels; its operator acts on broadened spectra.
    basis
        Point basis of the window.
    dispersion
        The galaxy's range.
    space
        Modes of P_0.
    n_row
        Number of them that are kept.

    Returns
    -------
    Features
        ``sum(RANKS)`` directions.
    """
    n_point = len(space.root)
    changes = changes_of(basis, dispersion.table)
    pixels = apply_blocks(form.operator, changes.directions)
    overlap = times(form.templates, pixels)
    root = root_of(square(pixels) - overlap.T @ overlap)
    nodes = np.stack([changes.along(int(k))[:, :n_point] for k in dispersion.nodes])
    along = np.tensordot(dispersion.coefficients[1:].astype(np.float32), nodes, 1)
    random = np.random.default_rng(SEED).standard_normal((n_point, max(RANKS)))
    whole, coefficients = np.zeros((len(root), sum(RANKS))), np.zeros((n_point, sum(RANKS)))
    end = np.cumsum(RANKS)
    for moved, rank, stop in zip(root @ along, RANKS, end, strict=True):
        typical = moved @ (moved.T @ (moved @ random[:, :rank]))  # one power iteration: nearly the best directions
        own = np.linalg.qr(typical)[0]  # orthonormal for each polynomial apart
        columns = slice(stop - rank, stop - rank + own.shape[1])
        whole[:, columns], coefficients[:, columns] = own, moved.T @ own
    turn = _unrooted(root, whole)
    in_modes = turn.T @ (form.against(pixels, overlap, space.overlap) @ (space.vectors / space.root)[:, :n_row])
    outside = _outside(whole.T @ whole - in_modes @ in_modes.T, coefficients)
    return Features(form, pixels, turn, coefficients, in_modes, *outside, dispersion.scale)


def _outside(gram: FloatArray, coefficients: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Extra rows: the strongest combinations of what the directions have outside the modes of P_0.

    Parameters
    ----------
    gram
        ``(nfeature, nfeature)`` products of these parts.
    coefficients
        See `Features`.

    Returns
    -------
    to_extra, from_outside
        See `Features`.
    """
    root = root_of(gram, 1.0)
    spread = root @ (coefficients.T @ coefficients * _moments()) @ root.T
    found = np.linalg.eigh(spread)[1][:, ::-1][:, :N_EXTRA]
    strongest = np.pad(found, ((0, 0), (0, N_EXTRA - found.shape[1])))
    return root.T @ strongest, _unrooted(root, strongest)


def root_of(gram: FloatArray, least: float = 0.0) -> FloatArray:
    """A root W of the products of vectors with one another, ``W^T W = gram``.

    Parameters
    ----------
    gram
        ``(n, n)``.
    least
        Squared length that rounding is relative to, where no vector is longer.

    Returns
    -------
    numpy.ndarray
        ``(n, n)`` upper triangular; where vectors depend on one another, ``(rank, n)`` with orthogonal rows.
    """
    try:
        root = np.linalg.cholesky(gram).T
        shortest = float(np.diag(root).min()) ** 2
    except np.linalg.LinAlgError:
        shortest = 0.0
    if shortest > NEGLIGIBLE * max(float(np.diag(gram).max()), least):
        return np.asarray(root)
    values, vectors = np.linalg.eigh(gram)
    kept = values > NEGLIGIBLE * max(float(values[-1]), least)
    return (vectors[:, kept] * np.sqrt(values[kept])).T


def _unrooted(root: FloatArray, vectors: FloatArray) -> FloatArray:
    """The shortest that `root` sends to the vectors ``(rank, m)``."""
    if root.shape[0] == root.shape[1]:
        return np.asarray(linalg.solve_triangular(root, vectors, check_finite=False))
    return root.T @ (vectors / np.einsum("ij,ij->i", root, root)[:, None])


@lru_cache(maxsize=1)
def _moments() -> FloatArray:
    """Mean of ``p_j p_k`` over the range of dispersions, for each pair of features."""
    p = np.repeat(np.asarray(of_s(jnp.linspace(-1, 1, 101))), RANKS, axis=1)
    return np.asarray(p.T @ p / len(p))
