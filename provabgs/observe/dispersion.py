"""The velocity dispersion of the stars as a parameter: spectra broadened by any of a range of dispersions.

Broadening happens in the rest frame, before redshift and instrument, so that one table of matrices serves all galaxies.
Between the table's dispersions the broadened spectrum is a polynomial in ``t = ln(v^2 + 60^2)``, where v is the
dispersion in km/s: pixels change evenly in t. Over the range that a galaxy allows, seven dispersions suffice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy import sparse

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.constants import C_KMS
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.observe.linespread import BLOCK_ROWS, beyond_library, broadening_matrix
from provabgs.observe.nuisance import DISPERSION
from provabgs.observe.options import ObservingOptions
from provabgs.sps.library import SSPLibrary
from provabgs.sps.resolution import library_sigma

SOFTENING = 60.0
"""km/s, in ``t = ln(v^2 + SOFTENING^2)``."""
N_TABLE = 28
"""Dispersions of the table, even in t."""
N_NODE = 7
"""Dispersions of the table that one galaxy's polynomial goes through."""
COARSE = 1e-3
"""Spacing of the library's wavelengths, over the wavelength, beyond which broadening does not matter."""
COARSE_KMS = 150.0
"""Dispersion of pixels there, so that lines between nodes show no corners."""
N_LOCAL = 6
"""Dispersions of the table through which `DispersionTable.broaden` interpolates."""


def position(vdisp_kms: Any) -> Any:
    """The variable t in which spectra are polynomials, of dispersions in km/s."""
    return jnp.log(vdisp_kms**2 + SOFTENING**2)


@dataclass(frozen=True, eq=False)
class DispersionTable:
    """Matrices that broaden a library's spectra by each dispersion of a table; made as they are asked for."""

    library: SSPLibrary
    subtract_library: bool
    gas_vdisp_kms: float | None
    dispersions: FloatArray
    """``(N_TABLE,)`` km/s, increasing."""
    made: dict[int, sparse.csr_matrix]
    """Of `matrix`, so far."""
    bands: dict[int, SingleArray]
    """Of `band`, so far."""

    def matrix(self, k: int) -> sparse.csr_matrix:
        """``(nwave, nwave)`` from spectra on the library's wavelengths to those broadened by dispersion k."""
        if k not in self.made:
            self.made[k] = self._matrix(float(self.dispersions[k]))
        return self.made[k]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """``(nblock + 1,)`` first column of each block of `band`, and their common width."""
        widest = self.matrix(N_TABLE - 1)
        first = np.minimum.reduceat(widest.indices, widest.indptr[:-1])
        last = np.maximum.reduceat(widest.indices, widest.indptr[:-1]) + 1
        block = np.arange(0, first.size, BLOCK_ROWS)
        low, high = np.minimum.reduceat(first, block), np.maximum.reduceat(last, block)
        width = int((high - low).max())
        return np.append(np.minimum(low, self.library.wave.size - width), width)

    def band(self, k: int) -> SingleArray:
        """`matrix` as dense blocks of `BLOCK_ROWS` rows, ``(nblock, BLOCK_ROWS, width)``, from columns `starts` on."""
        if k not in self.bands:
            matrix, start = self.matrix(k).tocoo(), self.starts
            out = np.zeros((start.size - 1, BLOCK_ROWS, int(start[-1])), np.float32)
            block = matrix.row // BLOCK_ROWS
            out[block, matrix.row % BLOCK_ROWS, matrix.col - start[block]] = matrix.data
            self.bands[k] = out
        return self.bands[k]

    def _matrix(self, vdisp_kms: float) -> sparse.csr_matrix:
        wave, lines = self.library.wave, self.library.line_nodes
        full = wave * (vdisp_kms / C_KMS)
        kernel = beyond_library(full, library_sigma(self.library)) if self.subtract_library else full
        stars = broadening_matrix(wave, np.where(is_coarse(wave), 0.0, kernel))
        if not lines.size or (self.gas_vdisp_kms is None and not self.subtract_library):
            return stars
        # the gas's lines are as narrow as the gas makes them: no library has widened them
        gas = sparse.eye_array(wave.size) if self.gas_vdisp_kms is not None else broadening_matrix(wave, full)
        of_gas = np.zeros(wave.size)
        of_gas[lines] = 1.0
        out = stars + (gas - stars) @ sparse.diags_array(of_gas)
        if self.gas_vdisp_kms is not None:  # the instrument's operator broadens these; see `camera_operator`
            own = sparse.diags_array(of_gas)
            out = out - own @ out + own
        return sparse.csr_matrix(out).astype(np.float32)

    def broaden(self, spectra: FloatArray, vdisp_kms: FloatArray, columns: slice = slice(None)) -> FloatArray:
        """Broaden each spectrum by a dispersion of its own.

        Parameters
        ----------
        spectra
            ``(n, nwave)``.
        vdisp_kms
            ``(n,)``.
        columns
            Stretch of the library's wavelengths that the spectra are on.

        Returns
        -------
        numpy.ndarray
            ``(n, nwave)``.

        Raises
        ------
        InputError
            When a dispersion lies beyond the table.
        """
        require_in_table(vdisp_kms)
        t, grid = np.asarray(position(np.asarray(vdisp_kms))), np.asarray(position(self.dispersions))
        step = grid[1] - grid[0]
        first = np.clip(np.floor((t - grid[0]) / step).astype(int) - N_LOCAL // 2 + 1, 0, N_TABLE - N_LOCAL)
        x = (t - grid[first]) / step
        out = np.zeros_like(spectra, dtype=np.float64)
        for k in np.unique(first[:, None] + np.arange(N_LOCAL)):
            of = np.flatnonzero((first <= k) & (k < first + N_LOCAL))
            weight = np.ones(of.size)
            own = k - first[of]
            for i in range(N_LOCAL):
                weight *= np.where(own == i, 1.0, (x[of] - i) / np.where(own == i, 1, own - i))
            matrix = self.matrix(int(k))[columns, columns]
            out[of] += weight[:, None] * (matrix @ spectra[of].T).T
        return out


def is_coarse(wave: FloatArray) -> NDArray[np.bool_]:
    """Where wavelengths lie too far apart to show a galaxy's dispersion (MILES: beyond 3600-7400 A).

    There a spectrum's dispersion is held at `COARSE_KMS`.
    """
    gap = np.diff(wave)
    return np.maximum(np.append(gap, gap[-1]), np.insert(gap, 0, gap[0])) > COARSE * wave


def unbroadened_kms(wave_model: FloatArray, wave_pixel: FloatArray) -> FloatArray:
    """Dispersion that is left to a pixel's operator where the model has been broadened beforehand.

    Parameters
    ----------
    wave_model
        ``(nwave,)`` observed wavelengths of the model, Angstrom.
    wave_pixel
        ``(npix,)`` pixels, Angstrom.

    Returns
    -------
    numpy.ndarray
        ``(npix,)`` km/s; 0 but where `is_coarse`.
    """
    nearest = np.clip(np.searchsorted(wave_model, wave_pixel), 0, wave_model.size - 1)
    return np.where(is_coarse(wave_model)[nearest], COARSE_KMS, 0.0)


def dispersion_table(library: SSPLibrary, options: ObservingOptions) -> DispersionTable:
    """The table of a library, once per process.

    Parameters
    ----------
    library
        SSP library.
    options
        Say whether the library's width is subtracted, and how broad the gas's lines are.

    Returns
    -------
    DispersionTable
        The same object for the same library and options.

    Raises
    ------
    ConfigError
        When the library's width is to be subtracted and is not known.
    """
    subtract = options.library_width == "subtracted"
    if subtract:
        library_sigma(library)
    return _table(library, subtract, options.gas_vdisp_kms if library.line_nodes.size else None)


@lru_cache(maxsize=4)
def _table(library: SSPLibrary, subtract: bool, gas_vdisp_kms: float | None) -> DispersionTable:
    low, high = (float(position(v)) for v in DISPERSION.bounds)
    t = np.linspace(low, high, N_TABLE)
    dispersions = np.sqrt(np.exp(t) - SOFTENING**2)
    return DispersionTable(library, subtract, gas_vdisp_kms, dispersions, {}, {})


def require_in_table(vdisp_kms: FloatArray) -> None:
    """Refuse dispersions beyond the table of broadened spectra.

    Raises
    ------
    InputError
        Names the dispersion, the table's ends and the cure.
    """
    low, high = DISPERSION.bounds
    v = np.asarray(vdisp_kms)
    bad = ~((v >= low * (1 - 1e-9)) & (v <= high * (1 + 1e-9)))
    if np.any(bad):
        raise InputError(
            f"velocity dispersion {v[bad].flat[0]:g} km/s lies beyond the table of {low:g}-{high:g} km/s; narrow "
            "prior_bounds.vdisp, or fix observing.vdisp_kms"
        )


class Chain(NamedTuple):
    """Two operators, one after the other, never multiplied out."""

    last: sparse.csr_matrix
    first: sparse.csr_matrix

    def __matmul__(self, spectra: FloatArray) -> FloatArray:
        return np.asarray(self.last @ (self.first @ spectra))


class Banded(NamedTuple):
    """Matrices on a stretch of wavelengths as dense blocks of rows; faster than sparse ones."""

    blocks: SingleArray
    """``(nmatrix, nblock, BLOCK_ROWS, width)``."""
    starts: NDArray[np.int64]
    columns: slice
    first: int

    def apply(self, j: int, spectra: SingleArray) -> SingleArray:
        """Matrix j times spectra.

        Parameters
        ----------
        j
            Which of the matrices.
        spectra
            ``(nwave, n)`` on the stretch.

        Returns
        -------
        numpy.ndarray
            ``(nwave, n)``.
        """
        padded, width = self._padded(spectra), self.blocks.shape[-1]
        out = [np.matmul(b, padded[s : s + width]) for b, s in zip(self.blocks[j], self.starts, strict=True)]
        offset = self.columns.start - self.first * BLOCK_ROWS
        return np.concatenate(out)[offset : offset + len(spectra)]

    def _padded(self, spectra: SingleArray) -> SingleArray:
        last = max(int(self.starts.max()) + self.blocks.shape[-1], (self.first + len(self.starts)) * BLOCK_ROWS)
        out = np.zeros((max(last, self.columns.stop), spectra.shape[1]), np.float32)
        out[self.columns] = spectra
        return out


@dataclass(frozen=True, eq=False)
class Dispersion:
    """One galaxy's dispersions: broadening is ``H_0 + sum_j p_j(v) H_j``, with the p_j of `polynomials`."""

    table: DispersionTable
    nodes: NDArray[np.int64]
    """``(N_NODE,)`` of the table, increasing."""

    @property
    def middle(self) -> sparse.csr_matrix:
        """``(nwave, nwave)`` matrix of the dispersion at s = 0, for what depends on it little."""
        return self.table.matrix(int(self.nodes[N_NODE // 2]))

    @property
    def scale(self) -> FloatArray:
        """``(4,)`` centre of t, its half range, and the ends of s: beyond them the last spectrum holds."""
        t = np.asarray(position(self.table.dispersions[self.nodes]))
        centre, half = t[N_NODE // 2], 0.5 * (t[-1] - t[0])
        return np.array([centre, half, (t[0] - centre) / half, (t[-1] - centre) / half])

    @property
    def coefficients(self) -> FloatArray:
        """``(N_NODE, N_NODE)``: H_j as combinations of the nodes' matrices."""
        t = np.asarray(position(self.table.dispersions[self.nodes]))
        centre, half, *_ = self.scale
        return np.asarray(np.linalg.inv(chebyshev.chebvander((t - centre) / half, N_NODE - 1)))

    def matrices(self, columns: slice = slice(None)) -> list[sparse.csr_matrix]:
        """H_0, which broadens by the middle dispersion, to the last.

        Parameters
        ----------
        columns
            Stretch of the library's wavelengths.

        Returns
        -------
        list of sparse.csr_matrix
            ``(nwave, nwave)`` each.
        """
        nodes = [self.table.matrix(int(k))[columns, columns] for k in self.nodes]
        return [nodes[N_NODE // 2]] + [
            sum((c * m for c, m in zip(row[1:], nodes[1:], strict=True)), start=row[0] * nodes[0]).tocsr()
            for row in self.coefficients[1:]
        ]

    @property
    def reach(self) -> float:
        """Fraction of a wavelength over which the broadest kernel spreads."""
        return 5.5 * float(self.table.dispersions[self.nodes[-1]]) / C_KMS


def polynomials(vdisp_kms: jax.Array, scale: jax.Array) -> jax.Array:
    """Chebyshev polynomials 1 ... N_NODE - 1 of s, less their values in the middle.

    Parameters
    ----------
    vdisp_kms
        ``(...)``.
    scale
        Of `Dispersion`.

    Returns
    -------
    jax.Array
        ``(..., N_NODE - 1)``; 0 for the middle dispersion.
    """
    return of_s(jnp.clip((position(vdisp_kms) - scale[0]) / scale[1], scale[2], scale[3]))


def of_s(s: jax.Array) -> jax.Array:
    """`polynomials` as a function of s."""
    values = [jnp.ones_like(s), s]
    middle = [1.0, 0.0]
    for _ in range(2, N_NODE):
        values.append(2 * s * values[-1] - values[-2])
        middle.append(-middle[-2])
    return jnp.stack([v - m for v, m in zip(values[1:], middle[1:], strict=True)], axis=-1)
