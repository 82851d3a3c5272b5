"""Bands as linear functionals of a spectrum, one per attenuation node: for light that is not the SSP library's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from provabgs.inference.compressed.photometry import N_BAND_NODES, central_range, split_at_step
from provabgs.inference.compressed.quadrature import CALZETTI_STEP, gauss_nodes, lagrange
from provabgs.observe.projection import PhotometryProjection, Projection

FloatArray = NDArray[np.float64]


def band_functionals(projection: Projection, data: PhotometryProjection, n_band: int) -> FloatArray:
    """Matrix ``(nwave, n_band * N_BAND_NODES)`` from rest-frame light to bands and nodes, in the order of
    `provabgs.inference.compressed.photometry.reduce_photometry`; bands beyond the galaxy's own are zero.
    """
    wave = projection.wave_model
    matrix = np.zeros((n_band, N_BAND_NODES, wave.size))
    step = CALZETTI_STEP * (1 + projection.redshift)
    for b, weights in enumerate(data.operator):
        inside = np.flatnonzero(weights)
        held = np.clip(wave[inside], *central_range(wave[inside], weights[inside]))
        for part, group in split_at_step(held, step):
            nodes = gauss_nodes(held[part], weights[inside[part]], group.stop - group.start)
            matrix[b, group][:, inside[part]] = lagrange(held[part], nodes).T * weights[inside[part]]
    return matrix.reshape(-1, wave.size).T
