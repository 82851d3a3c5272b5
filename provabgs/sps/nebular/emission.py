"""Nebular emission whose gas parameters are fitted.

Where log U and the gas metallicity vary from draw to draw, emission is not linear in the stars with fixed coefficients.
It is linear in what lines and continuum give per ionising photon: one row for each line and one for each of a few
shapes of the continuum, weighted by the photons of the young stars times strengths at (log U, gas metallicity).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.jax import jax, jnp
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.library import SSPLibrary
from provabgs.sps.nebular.fixed_gas import on_library, refine
from provabgs.sps.nebular.grid import FLOOR, GAS_LOGZ_RANGE, LOG_U_RANGE, GasEmission, NebularGrid
from provabgs.sps.parameters import Parameter, Values

N_CONTINUUM = 8
"""Shapes of the continuum: 1e-4 of it is left out (tests/unit/test_free_gas.py)."""
REFINED = 4
"""The continuum's strengths are tabulated this much finer than the grid, and linear between."""
GAS: tuple[Parameter, ...] = (
    Parameter(
        name="log_u",
        column="LOG_U",
        symbol=r"\log_{10} U",
        unit="",
        description="log10 of the gas's ionisation parameter",
        prior="uniform",
        bounds=LOG_U_RANGE,
        role="gas",
        hard_bounds=True,
    ),
    Parameter(
        name="gas_logz",
        column="GAS_LOGZ",
        symbol=r"\log_{10} Z_{\rm gas}/Z_\odot",
        unit="dex",
        description="log10 of the gas's metallicity over solar",
        prior="uniform",
        bounds=GAS_LOGZ_RANGE,
        role="gas",
        hard_bounds=True,
    ),
)
"""Parameters of fitted gas; a grid may hold narrower ranges."""


class _Tables(NamedTuple):
    """Strengths per ionising photon, on axes of gas metallicity, age of the stars and log U."""

    log_lines: SingleArray
    """``(ngas, ngasage, nu, nline)`` ln of erg per photon; logarithms are interpolated, as in `NebularGrid`."""
    fine_log_u: FloatArray
    fine_gas_logz: FloatArray
    continuum: SingleArray
    """``(ngas', ngasage, nu', nshape)`` strengths on the refined axes."""
    shapes: FloatArray
    """``(nshape, nwave)`` shapes of the continuum on the grid's own wavelengths."""


class NebularEmission:
    """Lines and continuum of gas with free ionisation parameter and metallicity; see `provabgs.sps.emission`.

    Where the gas parameters are the same for all draws, `with_nebular` is faster.

    Parameters
    ----------
    grid
        Gas. Its edges hold beyond its range: check with `NebularGrid.require_range`.
    """

    name = "nebular"
    powered_by: Literal["stars", "dust"] = "stars"

    def __init__(self, grid: NebularGrid) -> None:
        self.grid = grid
        ranges = ((grid.log_u[0], grid.log_u[-1]), (grid.gas_logz[0], grid.gas_logz[-1]))
        self.parameters = tuple(replace(p, bounds=(float(a), float(b))) for p, (a, b) in zip(GAS, ranges, strict=True))

    def refine(self, library: SSPLibrary) -> SSPLibrary:
        """See `Emission.refine`: three nodes for each line."""
        return refine(library, self.grid)

    def rows(self, library: SSPLibrary) -> FloatArray:
        """See `Emission.rows`: lines of unit luminosity, then shapes of the continuum."""
        grid, n_line = self.grid, self.grid.line_wave.size
        unit = np.eye(n_line)[:, None]  # a line beyond the library's wavelengths gets a row of zeros
        dark = np.zeros((n_line, 1, grid.wave.size))
        lines = on_library(library, grid, GasEmission(jnp.asarray(unit), jnp.asarray(dark)))
        shapes = self._tables.shapes
        none = jnp.zeros((len(shapes), 1, n_line))
        continuum = on_library(library, grid, GasEmission(none, jnp.asarray(shapes[:, None])))
        return np.concatenate([np.asarray(lines)[:, 0], np.asarray(continuum)[:, 0]])

    def supply(self, library: SSPLibrary) -> FloatArray:
        """See `Emission.supply`: ionising photons per second over Lsun in erg/s, by tabulated age of the stars."""
        rate = self.grid.photon_rate(np.log10(library.metallicity), library.log_age) / library.lsun_cgs
        return rate[..., None] * self.grid.age_weights(library.log_age)

    def strengths(self, values: Values) -> jax.Array:
        """See `Emission.strengths`: erg per photon of lines, then of shapes."""
        log_u, gas_logz, t = values["log_u"], values["gas_logz"], self._tables
        logs = _bilinear(log_u, gas_logz, self.grid.log_u, self.grid.gas_logz, t.log_lines)
        shapes = _bilinear(log_u, gas_logz, t.fine_log_u, t.fine_gas_logz, t.continuum)
        return jnp.concatenate([jnp.exp(logs), shapes], axis=-1)

    @cached_property
    def _tables(self) -> _Tables:
        grid = self.grid
        fine_u, fine_z = (_refined(axis) for axis in (grid.log_u, grid.gas_logz))
        z, u = (x.ravel() for x in np.meshgrid(fine_z, fine_u, indexing="ij"))
        emitted = np.asarray(grid.emission(u, z).continuum)  # (ngas' nu', ngasage, nwave)
        shapes, strengths = _shapes(emitted.reshape(-1, emitted.shape[-1]))
        table = strengths.reshape(fine_z.size, fine_u.size, emitted.shape[1], -1)
        logs = np.log(np.maximum(grid.lines.astype(np.float64), FLOOR)).astype(np.float32)
        return _Tables(logs, fine_u, fine_z, np.moveaxis(table, 2, 1).astype(np.float32), shapes)


def _bilinear(log_u: jax.Array, gas_logz: jax.Array, u: FloatArray, z: FloatArray, table: SingleArray) -> jax.Array:
    """A table ``(nz, nage, nu, n)`` at gas parameters ``(batch,)``: ``(batch, nage, n)``."""
    weights = hat_weights(gas_logz, z)[:, :, None] * hat_weights(log_u, u)[:, None, :]
    flat = jnp.asarray(np.moveaxis(table, 1, 2).reshape(z.size * u.size, -1))
    out = weights.reshape(len(log_u), -1).astype(flat.dtype) @ flat
    return out.reshape(len(log_u), table.shape[1], table.shape[3])


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
