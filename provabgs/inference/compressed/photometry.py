"""Reduction of one galaxy's photometry: SSP fluxes per band and attenuation node."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.inference.compressed.merged_nodes import merged_spectra, merged_spectra_by_wave, reemitted_rows
from provabgs.inference.compressed.places import Places, matmul, places_of
from provabgs.inference.compressed.quadrature import CALZETTI_STEP, gauss_nodes, lagrange
from provabgs.observe.projection import PhotometryProjection, Projection
from provabgs.sps.composite import Parts
from provabgs.sps.model import SPSModel

N_BAND_NODES = 9
"""Gauss nodes of the attenuation per band."""
BAND_TAIL = 3e-5
"""Fraction of a band's weight at either end over which the attenuation is held constant (filters leak)."""
BAND_MULTIPLE = 5
"""Bands are padded to a multiple of this, so that few shapes need compiling."""


class Coupling(NamedTuple):
    """Bands and spectrum under templates that touch both; see `provabgs.inference.likelihood.marginal`."""

    whiten: jax.Array
    """``(nband, nband)`` inverse Cholesky factor of the bands' covariance given the spectrum; zeros for padding."""
    from_points: jax.Array | None
    """``(npoint, nband)`` from the spectrum at the points to whitened bands; None where templates do not touch both."""
    from_features: jax.Array | None = None
    """``(nfeature, nband)`` likewise from what the velocity dispersion adds, where it is fitted."""


class PhotometryReduction(NamedTuple):
    """Arrays of the photometry's part."""

    places: Places
    """The ``nband * N_BAND_NODES`` attenuation nodes; rows in nanomaggies per unit weight."""
    flux: jax.Array
    """``(nband,)`` data in units of their noise, to compare with `whitened`."""
    root_ivar: jax.Array
    """``(nband,)`` 1/nanomaggies."""
    coupling: Coupling | None = None
    """Where the noise model's templates touch bands."""

    def whitened(self, nodes: jax.Array, at_points: jax.Array | None, features: jax.Array | None = None) -> jax.Array:
        """Bands in units of their noise from fluxes of the nodes.

        Parameters
        ----------
        nodes
            ``(..., nband * N_BAND_NODES)`` nanomaggies.
        at_points
            ``(..., npoint)`` spectrum at the interpolation points; None without a spectrum.
        features
            ``(..., nfeature)`` what the velocity dispersion adds to it; None where it is fixed.

        Returns
        -------
        jax.Array
            ``(..., nband)``.
        """
        bands = nodes.reshape(*nodes.shape[:-1], -1, N_BAND_NODES).sum(axis=-1)
        if self.coupling is None:
            return self.root_ivar * bands
        out = matmul(bands, self.coupling.whiten.T)
        if self.coupling.from_points is not None and at_points is not None:
            out -= matmul(at_points, self.coupling.from_points)
            if self.coupling.from_features is not None and features is not None:
                out -= matmul(features, self.coupling.from_features)
        return out


def reduce_photometry(
    projection: Projection, data: PhotometryProjection, model: SPSModel, scale: float
) -> PhotometryReduction:
    """SSP fluxes per band and attenuation node: exact in the library, Gauss quadrature in the attenuation.

    Parameters
    ----------
    projection
        The galaxy.
    data
        Its bands.
    model
        The SPS model.
    scale
        The projection's `flux_factor` times the reference mass, Msun.

    Returns
    -------
    PhotometryReduction
        Padded to a multiple of `BAND_MULTIPLE` bands; padding has ivar 0.
    """
    n_band = -(-len(data.bands) // BAND_MULTIPLE) * BAND_MULTIPLE
    matrix, centre = band_functionals(projection, data, n_band)
    fluxes = _band_nodes(merged_spectra_by_wave(model), matrix, scale, len(data.bands))
    ssps = Parts(*np.split(fluxes, [len(merged_spectra(model).young)]))
    rows = reemitted_rows(model)
    rows = None if rows is None else _band_nodes(np.ascontiguousarray(rows.T), matrix, scale, len(data.bands))
    pad = n_band - len(data.bands)
    root = np.pad(np.sqrt(data.ivar), (0, pad))
    return PhotometryReduction(
        places_of(model, ssps, centre / (1 + projection.redshift), rows),
        jnp.asarray(root * np.pad(data.flux, (0, pad)), jnp.float32),
        jnp.asarray(root, jnp.float32),
    )


def band_functionals(projection: Projection, data: PhotometryProjection, n_band: int) -> tuple[FloatArray, FloatArray]:
    """Bands as linear functionals of the rest-frame spectrum, one per attenuation node.

    Parameters
    ----------
    projection
        The galaxy.
    data
        Its bands.
    n_band
        Number of bands after padding.

    Returns
    -------
    matrix
        ``(n_band, N_BAND_NODES, nwave)``; bands beyond the galaxy's own are zero.
    centre
        ``(n_band, N_BAND_NODES)`` observed wavelengths of the nodes, Angstrom.
    """
    wave = projection.wave_model
    matrix = np.zeros((n_band, N_BAND_NODES, wave.size))
    step = CALZETTI_STEP * (1 + projection.redshift)
    centre = np.full((n_band, N_BAND_NODES), 5500.0 * (1 + projection.redshift))
    for b, weights in enumerate(data.operator):
        inside = np.flatnonzero(weights)
        held = np.clip(wave[inside], *_central_range(wave[inside], weights[inside]))
        for part, group in split_at_step(held, step):
            x, w = held[part], weights[inside[part]]
            centre[b, group] = gauss_nodes(x, w, group.stop - group.start)
            matrix[b, group][:, inside[part]] = lagrange(x, centre[b, group]).T * w
    return matrix, centre


def _band_nodes(ssps: NDArray[np.float32], matrix: FloatArray, scale: float, n_band: int) -> NDArray[np.float32]:
    """SSPs per band and node, ``(nssp, nband * N_BAND_NODES)``; bands that overlap read their wavelengths once."""
    out = np.zeros((*matrix.shape[:2], ssps.shape[1]), np.float32)
    for bands, window in _stretches(matrix[:n_band]):
        rows = (scale * matrix[bands][:, :, window]).astype(np.float32)
        out[bands] = (rows.reshape(-1, rows.shape[-1]) @ ssps[window]).reshape(len(bands), N_BAND_NODES, -1)
    return np.ascontiguousarray(out.reshape(-1, ssps.shape[1]).T)


def _stretches(matrix: FloatArray) -> list[tuple[list[int], slice]]:
    """Bands whose wavelengths overlap, together, and the stretch of wavelengths that they need."""
    ends = [(int(used[0]), int(used[-1]) + 1) for used in (np.flatnonzero(m.any(axis=0)) for m in matrix)]
    groups: list[tuple[list[int], slice]] = []
    for b in sorted(range(len(ends)), key=lambda b: ends[b]):
        first, last = ends[b]
        if groups and first < groups[-1][1].stop:
            bands, before = groups.pop()
            groups.append(([*bands, b], slice(before.start, max(before.stop, last))))
        else:
            groups.append(([b], slice(first, last)))
    return groups


def _central_range(wave: FloatArray, weights: FloatArray) -> FloatArray:
    """``(2,)`` range that holds all but `BAND_TAIL` of a band at either end; leaks beyond take its end values."""
    share = np.cumsum(np.abs(weights))
    low, high = np.searchsorted(share / share[-1], [BAND_TAIL, 1 - BAND_TAIL])
    return wave[[low, min(high, wave.size - 1)]]


def split_at_step(wave: FloatArray, step: float) -> list[tuple[slice, slice]]:
    """Parts of a band on either side of the attenuation's step, each with a fraction of the nodes.

    Parameters
    ----------
    wave
        ``(n,)`` wavelengths at which the band is sampled, Angstrom, increasing.
    step
        Wavelength of the step, Angstrom.

    Returns
    -------
    list of (slice, slice)
        Part of `wave` and part of the `N_BAND_NODES` nodes; one part where the step leaves too few wavelengths.
    """
    cut = int(np.searchsorted(wave, step, side="right"))
    fewest = 2 * N_BAND_NODES  # of distinct wavelengths: those in the tails of a band are one
    if min(np.unique(wave[:cut]).size, np.unique(wave[cut:]).size) < fewest:
        return [(slice(0, wave.size), slice(0, N_BAND_NODES))]
    half = N_BAND_NODES // 2
    return [(slice(0, cut), slice(0, half)), (slice(cut, wave.size), slice(half, N_BAND_NODES))]
