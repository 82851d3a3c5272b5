"""Free nebular emission in the compressed engine: light that gas can give, as further SSPs.

Where the gas parameters vary from draw to draw, emission is no longer linear in the stars. It is linear in what lines
and continuum give per ionising photon: one "SSP" for each line, one for each of a few shapes of the continuum, weighted
by the photons of the young stars times their strengths at (log U, gas metallicity). All that the engine does with SSPs,
dust included, it then does with these.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.jax import jax, jnp
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.nebular import FLOOR, GasEmission
from provabgs.sps.nebular_ssp import NebularModel, on_library
from provabgs.sps.parameters import N_PARAMETERS

N_CONTINUUM = 8
"""Shapes of the continuum: 1e-4 of it is left out (tests/unit/test_free_gas.py)."""
REFINED = 4
"""The continuum's strengths are tabulated this much finer than the grid, and linear between."""


class GasRows(NamedTuple):
    """Light per ionising photon as rows to be weighted."""

    spectra: SingleArray
    """``(nrow, nwave)`` lines of unit luminosity, then shapes of the continuum, on the library's wavelengths."""
    log_u: FloatArray
    gas_logz: FloatArray
    log_lines: SingleArray
    """``(ngas, ngasage, nu, nline)`` ln of erg per photon; logarithms are interpolated, as in `NebularGrid`."""
    fine_log_u: FloatArray
    fine_gas_logz: FloatArray
    continuum: SingleArray
    """``(ngas', ngasage, nu', nshape)`` strengths on the refined axes."""

    def strengths(self, theta: jax.Array) -> jax.Array:
        """Per photon, ``(batch, ngasage, nrow)``, for theta ``(batch, 15)``."""
        log_u, gas_logz = theta[:, N_PARAMETERS], theta[:, N_PARAMETERS + 1]
        logs = _bilinear(log_u, gas_logz, self.log_u, self.gas_logz, self.log_lines)
        shapes = _bilinear(log_u, gas_logz, self.fine_log_u, self.fine_gas_logz, self.continuum)
        return jnp.concatenate([jnp.exp(logs), shapes], axis=-1)


def _bilinear(log_u: jax.Array, gas_logz: jax.Array, u: FloatArray, z: FloatArray, table: SingleArray) -> jax.Array:
    """A table ``(nz, nage, nu, n)`` at gas parameters ``(batch,)``: ``(batch, nage, n)``."""
    weights = hat_weights(gas_logz, z)[:, :, None] * hat_weights(log_u, u)[:, None, :]
    flat = jnp.asarray(np.moveaxis(table, 1, 2).reshape(z.size * u.size, -1))
    out = weights.reshape(len(log_u), -1).astype(flat.dtype) @ flat
    return out.reshape(len(log_u), table.shape[1], table.shape[3])


def gas_rows(model: NebularModel) -> GasRows:
    """The rows of a model's grid."""
    grid, library = model.gas, model.library
    shown = np.flatnonzero((grid.line_wave > library.wave[1]) & (grid.line_wave < library.wave[-2]))
    unit = np.zeros((shown.size, 1, grid.line_wave.size))
    unit[np.arange(shown.size), 0, shown] = 1.0
    dark = np.zeros((shown.size, 1, grid.wave.size))
    lines = np.asarray(on_library(library, grid, GasEmission(jnp.asarray(unit), jnp.asarray(dark))))[:, 0]
    fine_u, fine_z = (_refined(axis) for axis in (grid.log_u, grid.gas_logz))
    z, u = (x.ravel() for x in np.meshgrid(fine_z, fine_u, indexing="ij"))
    light = np.asarray(grid.emission(u, z).continuum)  # (ngas' nu', ngasage, nwave)
    shapes, strengths = _shapes(light.reshape(-1, light.shape[-1]))
    none = jnp.zeros((len(shapes), 1, grid.line_wave.size))
    continuum = np.asarray(on_library(library, grid, GasEmission(none, jnp.asarray(shapes[:, None]))))[:, 0]
    table = strengths.reshape(fine_z.size, fine_u.size, light.shape[1], -1)
    return GasRows(
        np.concatenate([lines, continuum]).astype(np.float32),
        grid.log_u,
        grid.gas_logz,
        np.log(np.maximum(grid.lines[..., shown].astype(np.float64), FLOOR)).astype(np.float32),
        fine_u,
        fine_z,
        np.moveaxis(table, 2, 1).astype(np.float32),
    )


def _refined(axis: FloatArray) -> FloatArray:
    """An axis with `REFINED` steps in place of each."""
    n = axis.size - 1
    return np.interp(np.arange(n * REFINED + 1) / REFINED, np.arange(n + 1), axis)


def _shapes(light: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Leading shapes ``(nshape, nwave)`` of spectra ``(n, nwave)``, each spectrum counting alike, and its strengths."""
    level = light.mean(axis=1, keepdims=True)
    _, _, v = np.linalg.svd(light / level, full_matrices=False)
    shapes = v[:N_CONTINUUM]
    return shapes, (light @ shapes.T)


def merged_photons(model: NebularModel, n_merged: int, profile: FloatArray) -> SingleArray:
    """Photons of SSPs on merged nodes, ``(nmet, nnode, ngasage)``: the youngest `n_merged` count as one."""
    first = np.einsum("j,kja->ka", profile, model.photons[:, :n_merged])[:, None]
    return np.concatenate([first, model.photons[:, n_merged:]], axis=1).astype(np.float32)
