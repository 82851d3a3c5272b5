"""The quadratic form of one galaxy's chi^2 in the coefficients of its point basis, and what diagonalises it."""

from __future__ import annotations

from collections.abc import Iterator
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
    overlap: FloatArray
    """``(ntemplate, npoint)`` templates times the cardinal spectra (`QuadraticForm.gram`)."""

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
            With ``S = C^T N^T`` for ``C C^T = (I + N^T N)^-1``.
        """
        root = np.sqrt(data.ivar)
        scaled = (data.templates * root[:, None]).T
        if len(scaled):
            scaled = np.linalg.cholesky(data.coefficient_covariance).T @ scaled
        blocks = dense_blocks(data.operator, basis.columns.start, root)
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

    def gram(self, n_point: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Products of the first points.

        Among the leading directions, which carry the flux, are double. The rest are single, summed over short
        stretches: a direction beyond `N_HEAD` is seen at a few sigmas, so that rounding errs by 1e-4 in chi^2.

        Parameters
        ----------
        n_point
            Number of leading points.

        Returns
        -------
        gram
            ``(npoint, npoint)``.
        projected
            ``(npoint,)`` with the data.
        overlap
            ``(ntemplate, npoint)`` with the templates.
        """
        pixels, signal = self.pixels[:, :n_point], self.signal
        projected = np.zeros(n_point)
        for part in stretches(len(signal)):
            projected += signal[part].astype(np.float32) @ pixels[part]
        gram, overlap = square(pixels), times(self.templates, pixels)
        head = pixels[:, :N_HEAD].astype(np.float64)
        gram[:N_HEAD, :N_HEAD], projected[:N_HEAD] = head.T @ head, signal @ head
        overlap[:, :N_HEAD] = self.templates @ head
        gram -= overlap.T @ overlap
        projected -= overlap.T @ (self.templates @ signal)
        return gram, projected, overlap

    def against(self, vectors: SingleArray, overlap: FloatArray, of_points: FloatArray) -> FloatArray:
        """Products of pixel vectors with the first points, templates marginalised; rounded as in `gram`.

        Parameters
        ----------
        vectors
            ``(npix, n)``.
        overlap
            ``(ntemplate, n)`` their products with the templates.
        of_points
            ``(ntemplate, npoint)`` those of the points.

        Returns
        -------
        FloatArray
            ``(n, npoint)``.
        """
        n_point = of_points.shape[1]
        head, turn = orthonormal(self.pixels[:, : min(N_HEAD, n_point)])
        of_head, of_rest = (times(vectors.T, part) for part in (head, self.pixels[:, head.shape[1] : n_point]))
        return np.concatenate([of_head @ turn, of_rest], axis=1) - overlap.T @ of_points

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
        gram, projected, overlap = self.gram(n_point)
        values, vectors = np.linalg.eigh(gram)
        values, vectors = values[::-1], vectors[:, ::-1]
        values = np.maximum(values, values[0] * np.finfo(float).eps)
        root = np.sqrt(values)
        along = (vectors.T @ projected) / root
        tail = np.cumsum(values[::-1])[::-1] / values.sum()
        keep = max(1, int(np.count_nonzero(tail > cut**2 / max(float(along @ along), 1.0))))
        return RowSpace(vectors, root, along, keep, overlap)


def orthonormal(vectors: SingleArray) -> tuple[SingleArray, FloatArray]:
    """Directions Q and what they are combined by, R: ``Q R`` is `vectors`, and products with Q in single precision do.

    Products with bright spectra would cancel later, those with directions of unit length do not.

    Parameters
    ----------
    vectors
        ``(npix, n)``.

    Returns
    -------
    directions, turn
        ``(npix, n)``, nearly orthonormal, and ``(n, n)``.
    """
    double = vectors.astype(np.float64)
    try:
        turn = np.linalg.cholesky(double.T @ double).T
    except np.linalg.LinAlgError:  # fewer pixels than vectors
        return vectors, np.eye(vectors.shape[1])
    inverse = linalg.solve_triangular(turn, np.eye(len(turn)))
    return np.asarray(double @ inverse, np.float32), np.asarray(turn)


def stretches(n: int) -> Iterator[slice]:
    """Stretches of `ACCUMULATE` pixels that cover n."""
    return (slice(start, start + ACCUMULATE) for start in range(0, n, ACCUMULATE))


def square(vectors: SingleArray) -> FloatArray:
    """Products of the columns of ``(npix, n)`` with one another, ``(n, n)``, summed in double over `stretches`."""
    out = np.zeros((vectors.shape[1],) * 2)
    for part in stretches(len(vectors)):
        out += vectors[part].T @ vectors[part]  # NumPy sees that the two are one, and does half of the work
    return out


def times(rows: FloatArray | SingleArray, vectors: SingleArray) -> FloatArray:
    """Product of rows with columns, in single precision over `stretches` and in double over their sum.

    Parameters
    ----------
    rows
        ``(m, npix)``.
    vectors
        ``(npix, n)``.

    Returns
    -------
    FloatArray
        ``(m, n)``.
    """
    out = np.zeros((len(rows), vectors.shape[1]))
    for part in stretches(len(vectors)):
        out += rows[:, part].astype(np.float32, copy=False) @ vectors[part]
    return out


def dense_blocks(operator: sparse.csr_matrix, first: int = 0, weight: FloatArray | None = None) -> list[DenseBlock]:
    """A banded operator as dense blocks along the band: faster than sparse products.

    Parameters
    ----------
    operator
        ``(npix, nwave)``, each row over a short stretch.
    first
        Column that counts as the first one.
    weight
        ``(npix,)`` what rows are multiplied by; 1 when None.

    Returns
    -------
    list of DenseBlock
        They cover all pixels.
    """
    operator = operator.tocsr()
    n_pix, pointer, column = operator.shape[0], operator.indptr, operator.indices - first
    of_row = np.diff(pointer)
    row = np.repeat(np.arange(n_pix), of_row)
    value = operator.data if weight is None else operator.data * np.repeat(weight, of_row)
    blocks = []
    for i in range(0, n_pix, BLOCK):
        stop = min(i + BLOCK, n_pix)
        part = slice(pointer[i], pointer[stop])
        here = column[part]
        low, high = (int(here.min()), int(here.max()) + 1) if here.size else (0, 1)
        dense = np.zeros((stop - i) * (high - low), np.float32)
        dense[(row[part] - i) * (high - low) + (here - low)] = value[part]
        blocks.append(DenseBlock(slice(i, stop), slice(low, high), dense.reshape(stop - i, -1)))
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
