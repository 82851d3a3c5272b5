"""The velocity dispersion in the compressed likelihood.

The weighted pixels of a spectrum of coefficients u are ``P_0 u + sum_j p_j T_j u``, with polynomials p_j of the
dispersion (`provabgs.observe.dispersion`). P_0 is reduced as ever. What the dispersion changes, T_j u, lies for all u
in a few directions E_j of pixel space, found from random u (randomised range finder: Halko, Martinsson & Tropp 2011,
SIAM Rev. 53, 217): ``T_j = E_j A_j^T``. The rows gain those combinations of E_j that the modes of P_0 do not span.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.jax import jax, jnp
from provabgs.inference.compressed.interpolation_points import PointBasis
from provabgs.inference.compressed.places import matmul
from provabgs.inference.compressed.quadratic_form import QuadraticForm, RowSpace, apply_blocks, dense_blocks
from provabgs.observe.dispersion import Dispersion, of_s, polynomials

RANKS = (96, 48, 24, 12, 8, 4)
"""Directions kept of each T_j."""
N_EXTRA = 64
"""Rows that the directions outside the modes of P_0 take."""
SEED = 20260101
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


class Features(NamedTuple):
    """The directions that the dispersion moves a spectrum in, in double precision."""

    weighted: FloatArray
    """``(npix, nfeature)`` the directions times the weight that templates leave."""
    directions: FloatArray
    """``(npix, nfeature)`` E_j side by side, weighted pixels."""
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
        product = vectors.T @ self.weighted
        return (product - along_modes @ self.in_modes.T) @ self.from_outside

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
    matrix = dispersion.middle[basis.columns, basis.columns]
    return apply_blocks(dense_blocks(matrix), basis.cardinal_by_wave)


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
    cardinal = basis.cardinal_by_wave[:, :n_point]
    bands = dispersion.bands(basis.columns)
    part = np.split(np.arange(sum(RANKS)), np.cumsum(RANKS)[:-1])
    random = np.random.default_rng(SEED).standard_normal((n_point, max(RANKS))).astype(np.float32)
    typical = cardinal @ random
    sample = np.concatenate([bands.apply(j, typical[:, :rank]) for j, rank in enumerate(RANKS)], axis=1)
    pixels = apply_blocks(form.operator, sample).astype(np.float64)
    weighted, directions = form.marginalised(pixels), pixels
    for own in part:  # orthonormal for each polynomial apart
        columns = slice(int(own[0]), int(own[-1]) + 1)
        values, vectors = np.linalg.eigh(pixels[:, columns].T @ weighted[:, columns])
        kept = values > NEGLIGIBLE * values[-1]
        turn = np.where(kept, vectors / np.sqrt(np.where(kept, values, 1.0)), 0.0)
        directions[:, columns], weighted[:, columns] = pixels[:, columns] @ turn, weighted[:, columns] @ turn
    back = form.adjoint(weighted.astype(np.float32), len(cardinal))
    unbroadened = np.concatenate([bands.adjoint(j, back[:, own]) for j, own in enumerate(part)], axis=1)
    coefficients = (cardinal.T @ unbroadened).astype(np.float64)
    in_modes = ((space.vectors.T @ (form.pixels[:, :n_point].astype(np.float64).T @ weighted)) / space.root[:, None]).T
    in_modes = in_modes[:, :n_row]
    outside = _outside(directions.T @ weighted - in_modes @ in_modes.T, coefficients)
    return Features(weighted, directions, coefficients, in_modes, *outside, dispersion.scale)


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
    values, vectors = np.linalg.eigh(gram)
    kept = values > NEGLIGIBLE * max(float(values[-1]), 1.0)
    root = np.sqrt(np.where(kept, values, 1.0))
    coordinates = np.where(kept, vectors * root, 0.0)
    spread = coordinates.T @ (coefficients.T @ coefficients * _moments()) @ coordinates
    strongest = np.linalg.eigh(spread)[1][:, ::-1][:, :N_EXTRA]
    return coordinates @ strongest, np.where(kept, vectors / root, 0.0) @ strongest


@lru_cache(maxsize=1)
def _moments() -> FloatArray:
    """Mean of ``p_j p_k`` over the range of dispersions, for each pair of features."""
    p = np.repeat(np.asarray(of_s(jnp.linspace(-1, 1, 101))), RANKS, axis=1)
    return np.asarray(p.T @ p / len(p))
