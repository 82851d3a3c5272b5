"""The quadratic form of one galaxy's chi^2 in the coefficients of its point basis, and what diagonalises it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import linalg, sparse

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.inference.compressed.interpolation_points import N_HEAD, PointBasis
from provabgs.observe.projection import SpectrumProjection

BLOCK = 64
"""Pixels whose operator is made dense together."""
ACCUMULATE = 1024
"""Pixels over which products are summed in single precision."""


class DenseBlock(NamedTuple):
    """A stretch of pixels and the dense part of the operator that predicts them."""

    pixels: slice
    columns: slice
    matrix: SingleArray


class RowSpace(NamedTuple):
    """Whitened data modes: orthonormal directions of the weighted pixels that the basis spans, strongest first."""

    vectors: FloatArray
    """``(npoint, npoint)`` eigenvectors of the Gram matrix, as columns."""
    root: FloatArray
    """``(npoint,)`` roots of its eigenvalues."""
    data: FloatArray
    """``(npoint,)`` amplitude of the data in each mode, sigmas."""
    n_row: int
    """Number of modes that the tolerance asks for."""

    def rows(self, u: FloatArray) -> FloatArray:
        """Amplitudes of the modes, ``(n, npoint)`` in sigmas, for spectra of coefficients `u` ``(n, npoint)``."""
        return (u @ self.vectors) * self.root


class QuadraticForm(NamedTuple):
    """Weighted pixels of data and basis.

    Marginalising additive templates N of unit prior variance replaces the weight I by ``I - N (I + N^T N)^-1 N^T``:
    products of pixel vectors a, b are ``a.b - (S a).(S b)``.
    """

    root_ivar: FloatArray
    """``(npix,)``."""
    operator: list[DenseBlock]
    """``(npix, nwindow)`` times `root_ivar`."""
    pixels: SingleArray
    """``(npix, npoint)`` cardinal spectra."""
    signal: FloatArray
    """``(npix,)`` data."""
    templates: FloatArray
    """S, ``(ntemplate, npix)``."""

    @classmethod
    def of(cls, data: SpectrumProjection, basis: PointBasis, cardinal: SingleArray | None = None) -> QuadraticForm:
        """Send a basis through a galaxy's operator.

        Parameters
        ----------
        data
            The spectrum's pixels, operator and templates.
        basis
            Point basis of the window that the pixels need.
        cardinal
            ``(nwave, npoint)`` its cardinal spectra, broadened; those of the basis when None.

        Returns
        -------
        QuadraticForm
            With ``S = L^-1 N^T`` for ``L L^T = I + N^T N``.
        """
        root = np.sqrt(data.ivar)
        operator = sparse.diags_array(root) @ data.operator[:, basis.columns]
        scaled = (data.templates * root[:, None]).T
        if len(scaled):
            factor = np.linalg.cholesky(np.eye(len(scaled)) + scaled @ scaled.T)
            scaled = linalg.solve_triangular(factor, scaled, lower=True)
        blocks = dense_blocks(operator)
        pixels = apply_blocks(blocks, basis.cardinal_by_wave if cardinal is None else cardinal)
        return cls(root, blocks, pixels, root * data.flux, scaled)

    @property
    def norm2(self) -> float:
        """Square of the data."""
        return float(self.inner(self.signal[:, None], self.signal[:, None])[0])

    def inner(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """Products of pixel vectors, pair by pair, templates marginalised.

        Parameters
        ----------
        a, b
            ``(npix, n)`` weighted pixels, sigmas.

        Returns
        -------
        FloatArray
            ``(n,)``.
        """
        product = np.einsum("ij,ij->j", a, b)
        if len(self.templates):
            product -= np.einsum("ij,ij->j", self.templates @ a, self.templates @ b)
        return product

    def marginalised(self, vectors: FloatArray) -> FloatArray:
        """Pixel vectors ``(npix, n)`` times the weight that is left when templates are marginalised."""
        return vectors - self.templates.T @ (self.templates @ vectors) if len(self.templates) else vectors

    def adjoint(self, vectors: SingleArray, n_wave: int) -> SingleArray:
        """The transposed operator times pixel vectors.

        Parameters
        ----------
        vectors
            ``(npix, n)``.
        n_wave
            Wavelengths of the window.

        Returns
        -------
        SingleArray
            ``(n_wave, n)``.
        """
        out = np.zeros((n_wave, vectors.shape[1]), np.float32)
        for block in self.operator:
            out[block.columns] += block.matrix.T @ vectors[block.pixels]
        return out

    def project(self, vectors: FloatArray, n_point: int) -> FloatArray:
        """Products of pixel vectors with the basis, templates marginalised.

        Parameters
        ----------
        vectors
            ``(npix, n)`` weighted pixels, sigmas.
        n_point
            Number of leading points.

        Returns
        -------
        FloatArray
            ``(npoint, n)``, double precision.
        """
        pixels = self.pixels[:, :n_point].astype(np.float64)
        product = pixels.T @ vectors
        if len(self.templates):
            product -= (self.templates @ pixels).T @ (self.templates @ vectors)
        return product

    def gram(self, n_point: int) -> tuple[FloatArray, FloatArray]:
        """Gram matrix of the first points ``(npoint, npoint)`` and their product with the data ``(npoint,)``.

        Products among the leading directions, which carry the flux, are double. The rest are single, summed over short
        stretches: a direction beyond `N_HEAD` is seen at a few sigmas, so that rounding errs by 1e-4 in chi^2.
        """
        pixels, signal = self.pixels[:, :n_point], self.signal
        gram, projected = np.zeros((n_point, n_point)), np.zeros(n_point)
        for start in range(0, len(signal), ACCUMULATE):
            part = slice(start, start + ACCUMULATE)
            gram += linalg.blas.ssyrk(1.0, pixels[part].T)
            projected += signal[part].astype(np.float32) @ pixels[part]
        gram = np.triu(gram) + np.triu(gram, 1).T
        head = pixels[:, :N_HEAD].astype(np.float64)
        gram[:N_HEAD, :N_HEAD], projected[:N_HEAD] = head.T @ head, signal @ head
        if len(self.templates):
            overlap, target = self.templates @ pixels.astype(np.float64), self.templates @ signal
            gram -= overlap.T @ overlap
            projected -= overlap.T @ target
        return gram, projected

    def row_space(self, n_point: int, cut: float) -> RowSpace:
        """Diagonalise the Gram matrix into whitened data modes.

        A typical u has unit variance in every component, so that the fraction of the summed eigenvalues that is left
        out is the fraction of the variance that is left out.

        Parameters
        ----------
        n_point
            Number of leading points.
        cut
            Modes beyond `RowSpace.n_row` hold less than this many sigmas, for spectra as bright as the data.

        Returns
        -------
        RowSpace
            All `n_point` modes, strongest first.
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


def dense_blocks(operator: sparse.csr_matrix) -> list[DenseBlock]:
    """A banded operator as dense blocks along the band: faster than sparse products."""
    operator = operator.tocsr()
    n_pix = operator.shape[0]
    pointer, index, value = operator.indptr, operator.indices, operator.data.astype(np.float32)
    row = np.repeat(np.arange(n_pix), np.diff(pointer))
    blocks = []
    for i in range(0, n_pix, BLOCK):
        stop = min(i + BLOCK, n_pix)
        part = slice(pointer[i], pointer[stop])
        column = index[part]
        low, high = (int(column.min()), int(column.max()) + 1) if column.size else (0, 1)
        dense = np.zeros((stop - i, high - low), np.float32)
        dense[row[part] - i, column - low] = value[part]
        blocks.append(DenseBlock(slice(i, stop), slice(low, high), dense))
    return blocks


def apply_blocks(blocks: list[DenseBlock], spectra: SingleArray) -> SingleArray:
    """The operator times spectra, ``operator @ spectra``.

    Parameters
    ----------
    blocks
        From `dense_blocks`.
    spectra
        ``(nwave, n)``.

    Returns
    -------
    SingleArray
        ``(npix, n)``.
    """
    out = np.empty((blocks[-1].pixels.stop, spectra.shape[1]), np.float32)
    for block in blocks:
        np.matmul(block.matrix, spectra[block.columns], out=out[block.pixels])
    return out
