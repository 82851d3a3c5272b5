"""From a model spectrum on the library's wavelengths to detector pixels, as one sparse matrix.

The model is linear between wavelength nodes. Convolving it with a Gaussian (velocity dispersion, instrument) and
averaging it over a pixel has a closed form: with ``S(u) = E[(u + eps)_+]`` the smoothed ramp, the weight of a node is a
second difference of S. So there is no oversampled grid and no interpolation error; a DESI resolution matrix, where
there is one, multiplies from the left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse, special

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import C_KMS
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp

REACH_SIGMA = 6.0
"""Gaussian wings are followed this far; what is beyond is below 1e-8 of the line."""
MIN_SIGMA_AA = 1e-3
"""Stands in for no broadening at all, where the closed form needs a width."""
BLOCK_ROWS = 64
"""Pixels per dense block of `BandedOperator`."""


def pixel_edges(wave: FloatArray) -> FloatArray:
    """Edges half-way between pixel centres, ``(npix + 1,)``, end pixels as wide as their neighbours."""
    inner = 0.5 * (wave[1:] + wave[:-1])
    return np.concatenate([[2 * wave[0] - inner[0]], inner, [2 * wave[-1] - inner[-1]]])


def _smoothed_square_ramp(v: FloatArray, sigma: FloatArray) -> FloatArray:
    """Integral of the smoothed ramp: ``E[(v + eps)_+^2] / 2`` for Gaussian eps of width sigma."""
    x = v / sigma
    phi = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    return 0.5 * ((v * v + sigma * sigma) * special.ndtr(x) + v * sigma * phi)


def spread_matrix(wave_model: FloatArray, wave_pixel: FloatArray, sigma_aa: FloatArray) -> sparse.csr_matrix:
    """Matrix from model values at nodes to pixel averages of the broadened model.

    Parameters
    ----------
    wave_model
        ``(nwave,)`` nodes of the (redshifted) model, Angstrom, increasing.
    wave_pixel
        ``(npix,)`` pixel centres, Angstrom, increasing, inside the model's range.
    sigma_aa
        ``(npix,)`` Gaussian dispersion at each pixel, Angstrom.

    Returns
    -------
    ``(npix, nwave)``; rows sum to 1.

    Raises
    ------
    InputError
        When a pixel lies outside the model's wavelengths.
    """
    edges = pixel_edges(wave_pixel)
    low, high = edges[:-1], edges[1:]
    if low[0] < wave_model[0] or high[-1] > wave_model[-1]:
        raise InputError(
            f"pixels cover {low[0]:.0f}-{high[-1]:.0f} A, the model only {wave_model[0]:.0f}-{wave_model[-1]:.0f} A at "
            "this redshift; cut the spectrum or use an SSP library of wider range"
        )
    sigma = np.maximum(np.asarray(sigma_aa, dtype=np.float64), MIN_SIGMA_AA)
    # nodes beyond the model's ends, which hold its end values, for pixels whose wings reach there
    extended, n_before = _extend_nodes(wave_model, REACH_SIGMA * float(sigma.max()))
    first = np.searchsorted(extended, low - REACH_SIGMA * sigma, side="right") - 2
    last = np.searchsorted(extended, high + REACH_SIGMA * sigma, side="left") + 1
    nodes = first[:, None] + np.arange(int((last - first).max()) + 1)
    nodes = np.minimum(nodes, extended.size - 1)
    x = extended[nodes]
    width, s = (high - low)[:, None], sigma[:, None]
    ramp = (_smoothed_square_ramp(high[:, None] - x, s) - _smoothed_square_ramp(low[:, None] - x, s)) / width
    step = np.diff(x, axis=1)
    slope = np.divide(np.diff(ramp, axis=1), step, out=np.zeros_like(step), where=step > 0)
    weight = np.diff(slope, axis=1)
    column = np.clip(nodes[:, 1:-1] - n_before, 0, wave_model.size - 1)
    keep = np.abs(weight) > 1e-13
    row = np.broadcast_to(np.arange(wave_pixel.size)[:, None], weight.shape)
    matrix = sparse.csr_matrix((weight[keep], (row[keep], column[keep])), (wave_pixel.size, wave_model.size))
    matrix.sum_duplicates()
    return matrix


def broadening_matrix(wave: FloatArray, sigma_aa: FloatArray, reach: float = 5.0) -> sparse.csr_matrix:
    """Matrix that broadens a spectrum on its own wavelengths.

    The result is linear between nodes once more, which broadens it by a sixth of the squared spacing; the kernel is
    narrower by as much, so that the whole has the variance asked for. No width leaves the spectrum as it is.

    Parameters
    ----------
    wave
        ``(nwave,)`` nodes, Angstrom, increasing.
    sigma_aa
        ``(nwave,)`` Gaussian dispersion wanted at each node, Angstrom.
    reach
        Kernels end after this many sigmas.

    Returns
    -------
    sparse.csr_matrix
        ``(nwave, nwave)``; rows sum to 1; single precision.
    """
    step = 0.5 * (np.diff(wave, prepend=2 * wave[0] - wave[1]) + np.diff(wave, append=2 * wave[-1] - wave[-2]))
    sigma = np.maximum(step * _sampled_sigma(sigma_aa / step), 1e-6 * step)
    extended, n_before = _extend_nodes(wave, reach * float(sigma.max()))
    first = np.searchsorted(extended, wave - reach * sigma, side="right") - 2
    last = np.searchsorted(extended, wave + reach * sigma, side="left") + 1
    nodes = np.minimum(first[:, None] + np.arange(int((last - first).max()) + 1), extended.size - 1)
    x, s = extended[nodes], sigma[:, None]
    ramp = _smoothed_ramp((wave[:, None] - x) / s) * s
    gap = np.diff(x, axis=1)
    slope = np.divide(np.diff(ramp, axis=1), gap, out=np.zeros_like(gap), where=gap > 0)
    weight = np.diff(slope, axis=1)
    column = np.clip(nodes[:, 1:-1] - n_before, 0, wave.size - 1)
    keep = np.abs(weight) > 1e-8
    row = np.broadcast_to(np.arange(wave.size)[:, None], weight.shape)
    matrix = sparse.csr_matrix((weight[keep], (row[keep], column[keep])), (wave.size, wave.size))
    matrix.sum_duplicates()
    return (sparse.diags_array(1 / np.asarray(matrix.sum(axis=1)).ravel()) @ matrix).astype(np.float32).tocsr()


def _smoothed_ramp(x: FloatArray) -> FloatArray:
    """``E[(x + eps)_+]`` for standard normal eps."""
    return np.asarray(x * special.ndtr(x) + np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi))


def _sampled_sigma(wanted: FloatArray) -> FloatArray:
    """Kernel widths that, sampled at nodes one apart, have the variance ``wanted**2``."""
    trial = np.concatenate([[0.0], np.geomspace(1e-4, 3.0, 400)])
    j = np.arange(-20, 21)
    ramp = _smoothed_ramp(np.arange(-21, 22) / np.maximum(trial, 1e-9)[:, None]) * trial[:, None]
    variance = (np.diff(ramp, 2, axis=1) * j**2).sum(axis=1)
    narrow = np.interp(np.asarray(wanted) ** 2, variance, trial)
    return np.where(wanted < 2.5, narrow, np.sqrt(np.maximum(wanted**2 - 1 / 6, 0.0)))


def _extend_nodes(wave: FloatArray, reach: float) -> tuple[FloatArray, int]:
    """Continue the node spacing beyond both ends by `reach` and two nodes; also how many nodes came before."""
    step_low, step_high = wave[1] - wave[0], wave[-1] - wave[-2]
    n_low, n_high = int(reach / step_low) + 3, int(reach / step_high) + 3
    before = wave[0] - step_low * np.arange(n_low, 0, -1)
    after = wave[-1] + step_high * np.arange(1, n_high + 1)
    return np.concatenate([before, wave, after]), n_low


def velocity_sigma(wave: FloatArray, vdisp_kms: float | FloatArray, sigma_aa: float | FloatArray = 0.0) -> FloatArray:
    """Dispersion at each pixel: velocity dispersion and a constant instrumental part in quadrature.

    Parameters
    ----------
    wave
        ``(npix,)`` wavelength, Angstrom.
    vdisp_kms
        Velocity dispersion, km/s; a number, or one for each pixel.
    sigma_aa
        Instrumental dispersion, Angstrom; a number, or one for each pixel.

    Returns
    -------
    FloatArray
        ``(npix,)`` Gaussian sigma, Angstrom.
    """
    return np.hypot(wave * (vdisp_kms / C_KMS), sigma_aa)


def beyond_library(sigma_aa: FloatArray, library_aa: FloatArray) -> FloatArray:
    """What is left of a width when the library's own is subtracted in quadrature.

    The difference of the squares goes to 0 smoothly, over half the library's width: the model cannot be narrower than
    its library.

    Parameters
    ----------
    sigma_aa
        ``(n,)`` width of the galaxy's lines, Angstrom.
    library_aa
        ``(n,)`` width of the library's, Angstrom; 0 for none.

    Returns
    -------
    FloatArray
        ``(n,)`` width of the kernel that broadens the library to the galaxy, Angstrom.
    """
    left = sigma_aa**2 - library_aa**2
    return np.sqrt(0.5 * (left + np.sqrt(left**2 + (0.5 * library_aa) ** 4)))


def resolution_matrix(bands: FloatArray) -> sparse.dia_matrix:
    """DESI's banded resolution ``(ndiag, npix)`` as a sparse matrix; same convention as `desispec.resolution`."""
    half = bands.shape[0] // 2
    return sparse.dia_matrix((bands, np.arange(half, -half - 1, -1)), shape=(bands.shape[1], bands.shape[1]))


class BandedOperator(NamedTuple):
    """A sparse matrix with a narrow, monotonic band, as dense blocks: the form that a CPU or GPU multiplies fast."""

    blocks: jax.Array
    """``(nblock, BLOCK_ROWS, width)``."""
    starts: jax.Array
    """``(nblock,)`` first column of each block."""

    @classmethod
    def from_sparse(cls, matrix: sparse.csr_matrix, multiple: int = 16) -> BandedOperator:
        """Cut rows into blocks of `BLOCK_ROWS`; shapes are rounded up so that few distinct ones need compiling.

        Parameters
        ----------
        matrix
            ``(npix, nwave)``, each row non-zero over a short stretch that moves on with the row.
        multiple
            The width of the blocks is rounded up to a multiple of this.

        Returns
        -------
        BandedOperator
            Double precision.
        """
        n_rows, n_cols = matrix.shape
        n_block = -(-max(n_rows, 1) // BLOCK_ROWS)
        n_block = -(-n_block // 8) * 8
        pieces = [matrix[i * BLOCK_ROWS : (i + 1) * BLOCK_ROWS].tocoo() for i in range(n_block)]
        spans = [(p.col.min(), p.col.max() + 1) if p.nnz else (0, 1) for p in pieces]
        width = min(n_cols, -(-max(b - a for a, b in spans) // multiple) * multiple)
        blocks = np.zeros((n_block, BLOCK_ROWS, width))
        starts = np.zeros(n_block, dtype=np.int32)
        for i, (piece, (a, _)) in enumerate(zip(pieces, spans, strict=True)):
            starts[i] = min(a, n_cols - width)
            blocks[i, piece.row, piece.col - starts[i]] = piece.data
        return cls(jnp.asarray(blocks), jnp.asarray(starts))

    def apply(self, spectra: jax.Array) -> jax.Array:
        """``(batch, nwave)`` to ``(batch, nblock * BLOCK_ROWS)``; rows beyond the matrix are 0."""
        width = self.blocks.shape[-1]
        windows = spectra[:, self.starts[:, None] + jnp.arange(width)]
        out = jnp.einsum("bnw,nrw->bnr", windows, self.blocks.astype(spectra.dtype))
        return out.reshape(spectra.shape[0], -1)
