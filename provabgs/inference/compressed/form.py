"""The quadratic form of one galaxy's chi^2 in the coefficients of its point basis, and what diagonalises it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from provabgs.inference.compressed.points import N_HEAD, PointBasis
from provabgs.observe.projection import SpectrumProjection

FloatArray = NDArray[np.float64]
SingleArray = NDArray[np.float32]

BLOCK = 64
"""Pixels whose operator is made dense together."""


class RowSpace(NamedTuple):
    """Orthonormal directions of the weighted pixels that the basis spans, strongest first."""

    vectors: FloatArray
    """``(npoint, npoint)`` eigenvectors of the Gram matrix, as columns."""
    root: FloatArray
    """``(npoint,)`` roots of its eigenvalues."""
    data: FloatArray
    """``(npoint,)`` data along them, sigmas."""
    n_row: int
    """Number of them that the tolerance asks for."""

    def rows(self, u: FloatArray) -> FloatArray:
        """Spectra of coefficients `u` ``(n, npoint)`` along them, ``(n, npoint)``, sigmas."""
        return (u @ self.vectors) * self.root


class QuadraticForm(NamedTuple):
    """Weighted pixels of data and basis.

    Marginalising additive templates N of unit prior variance replaces the weight I by ``I - N (I + N^T N)^-1 N^T``:
    products of pixel vectors a, b are ``a.b - (S a).(S b)``.
    """

    root_ivar: FloatArray
    """``(npix,)``."""
    operator: sparse.csr_matrix
    """``(npix, nwindow)`` times `root_ivar`."""
    pixels: SingleArray
    """``(npix, npoint)`` cardinal spectra."""
    signal: FloatArray
    """``(npix,)`` data."""
    templates: FloatArray
    """S, ``(ntemplate, npix)``."""

    @classmethod
    def of(cls, data: SpectrumProjection, basis: PointBasis) -> QuadraticForm:
        """Send a basis through a galaxy's operator."""
        root = np.sqrt(data.ivar)
        operator = sparse.diags_array(root) @ data.operator[:, basis.columns]
        scaled = (data.templates * root[:, None]).T
        if len(scaled):
            factor = np.linalg.cholesky(np.eye(len(scaled)) + scaled @ scaled.T)
            scaled = linalg.solve_triangular(factor, scaled, lower=True)
        pixels = apply_blocks(operator, basis.cardinal_by_wave)
        return cls(root, operator.tocsr(), pixels, root * data.flux, scaled)

    @property
    def norm2(self) -> float:
        """Square of the data."""
        return float(self.inner(self.signal[:, None], self.signal[:, None])[0])

    def inner(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """Products of pixel vectors ``(npix, n)``, pair by pair, ``(n,)``."""
        product = np.einsum("ij,ij->j", a, b)
        if len(self.templates):
            product -= np.einsum("ij,ij->j", self.templates @ a, self.templates @ b)
        return product

    def project(self, vectors: FloatArray, n_point: int) -> FloatArray:
        """Products of pixel vectors ``(npix, n)`` with the basis, ``(npoint, n)``, double precision."""
        pixels = self.pixels[:, :n_point].astype(np.float64)
        product = pixels.T @ vectors
        if len(self.templates):
            product -= (self.templates @ pixels).T @ (self.templates @ vectors)
        return product

    def gram(self, n_point: int) -> tuple[FloatArray, FloatArray]:
        """Gram matrix of the first points ``(npoint, npoint)`` and their product with the data ``(npoint,)``.

        Products among the leading directions, which carry the light, are double; rounding of the rest is far below a
        sigma.
        """
        pixels = self.pixels[:, :n_point]
        head = pixels[:, :N_HEAD].astype(np.float64)
        tail = np.ascontiguousarray(pixels[:, N_HEAD:])
        gram = np.empty((n_point, n_point))
        upper = linalg.blas.ssyrk(1.0, tail.T)
        gram[N_HEAD:, N_HEAD:] = np.triu(upper) + np.triu(upper, 1).T
        both = np.concatenate([head, tail.astype(np.float64), self.signal[:, None]], axis=1)
        cross = head.T @ both
        gram[:N_HEAD], gram[:, :N_HEAD] = cross[:, :-1], cross[:, :-1].T
        projected = self.signal @ both[:, :-1]
        if len(self.templates):
            overlap = self.templates @ both
            gram -= overlap[:, :-1].T @ overlap[:, :-1]
            projected -= overlap[:, :-1].T @ overlap[:, -1]
        return gram, projected

    def row_space(self, n_point: int, cut: float) -> RowSpace:
        """Diagonalise; directions beyond `n_row` hold less than `cut` sigmas, of spectra as bright as the data.

        A typical u has unit variance in every component: the share of the summed eigenvalues that is left out is that
        of the variance.
        """
        gram, projected = self.gram(n_point)
        values, vectors = np.linalg.eigh(gram)
        values, vectors = values[::-1], vectors[:, ::-1]
        values = np.maximum(values, values[0] * np.finfo(float).eps)
        root = np.sqrt(values)
        along = (vectors.T @ projected) / root
        tail = np.cumsum(values[::-1])[::-1] / values.sum()
        keep = max(1, int(np.count_nonzero(tail > cut**2 / max(float(along @ along), 1.0))))
        return RowSpace(vectors, root, along, keep)


def apply_blocks(operator: sparse.csr_matrix, spectra: SingleArray) -> SingleArray:
    """``operator @ spectra`` for `spectra` ``(nwave, n)``, single precision.

    Dense blocks along the band are faster than sparse products.
    """
    operator = operator.tocsr()
    n_pix = operator.shape[0]
    out = np.empty((n_pix, spectra.shape[1]), np.float32)
    pointer, index, value = operator.indptr, operator.indices, operator.data.astype(np.float32)
    row = np.repeat(np.arange(n_pix), np.diff(pointer))
    for i in range(0, n_pix, BLOCK):
        stop = min(i + BLOCK, n_pix)
        part = slice(pointer[i], pointer[stop])
        column = index[part]
        if column.size == 0:
            out[i:stop] = 0.0
            continue
        low, high = int(column.min()), int(column.max()) + 1
        dense = np.zeros((stop - i, high - low), np.float32)
        dense[row[part] - i, column - low] = value[part]
        np.matmul(dense, spectra[low:high], out=out[i:stop])
    return out
