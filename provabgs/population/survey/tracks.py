"""Apparent magnitudes of posterior draws as functions of redshift: the K-correction.

The rest-frame spectrum of a draw comes from the `SPSModel` that was fitted. At another redshift only the distance and
the part of the spectrum within a filter change; the galaxy does not evolve. A band flux at any redshift is linear in
the spectrum. One operator, shared by all galaxies, therefore gives the magnitudes of a batch of spectra at every
redshift of the grid by one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import BoolArray, FloatArray
from provabgs.core.constants import SPECTRUM_UNIT
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.filters import band_weights
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel

_ROWS = 512
"""Spectra computed at once: 20 MB each of fluxes at the model's wavelengths."""


class MagnitudeTracks:
    """Apparent magnitudes of model galaxies over a grid of redshifts.

    Parameters
    ----------
    model
        The fitted SPS model.
    bands
        Filters.
    redshift
        ``(nz,)`` increasing.
    cosmology
        Distances and ages.

    Raises
    ------
    InputError
        When a band leaves the model's wavelengths at one of the redshifts.
    """

    def __init__(
        self, model: SPSModel, bands: tuple[str, ...], redshift: FloatArray, cosmology: Cosmology | None = None
    ) -> None:
        self.model, self.bands, self.redshift = model, tuple(bands), np.asarray(redshift, dtype=np.float64)
        self.cosmology = cosmology or Cosmology()
        library = model.library
        distance = self.cosmology.luminosity_distance_cm(self.redshift)
        factor = library.lsun_cgs / (4 * np.pi * distance**2) / (1 + self.redshift) / SPECTRUM_UNIT
        rows = [
            f * band_weights(band, library.wave * (1 + z))
            for z, f in zip(self.redshift, factor, strict=True)
            for band in self.bands
        ]
        self._operator = jnp.asarray(np.array(rows).T)
        self._fluxes = jax.jit(self._evaluate)

    def _evaluate(self, theta: jax.Array, tables: HistoryTables, flat_spectra: Any, operator: jax.Array) -> jax.Array:
        return self.model.spectrum(theta, tables, flat_spectra) @ operator

    def magnitudes(self, theta: ArrayLike, redshift: ArrayLike) -> FloatArray:
        """AB magnitudes of draws at every redshift of the grid.

        Parameters
        ----------
        theta
            ``(n, ndraw, nparameter)`` draws of the model's parameters (`provabgs.population.survey.draws.theta_of`);
            draws with a NaN give NaN.
        redshift
            ``(n,)`` redshift of each fit, which sets the age of the universe in the star formation history.

        Returns
        -------
        numpy.ndarray
            ``(n, ndraw, nz, nband)``; NaN where the flux of a draw is not positive.

        Raises
        ------
        InputError
            For arrays of other shapes, and for draws that do not hold one column per parameter of the model.
        """
        th, z = np.asarray(theta, dtype=np.float64), np.asarray(redshift, dtype=np.float64)
        if th.ndim != 3 or z.shape != th.shape[:1]:
            raise InputError(f"draws {th.shape} and redshifts {z.shape}: give (n, ndraw, nparameter) and (n,)")
        self.model.parameters.check(th, "draws")
        out = np.full((*th.shape[:2], self.redshift.size, len(self.bands)), np.nan)
        for rows in _pieces(len(th), max(1, _ROWS // th.shape[1])):
            out[rows[0] : rows[0] + rows[1]] = self._piece(th, z, *rows)
        return out

    def _piece(self, theta: FloatArray, redshift: FloatArray, start: int, count: int) -> FloatArray:
        """Magnitudes of some galaxies, padded to a fixed number so that JAX compiles once."""
        full, n_draw = max(1, _ROWS // theta.shape[1]), theta.shape[1]
        index = np.minimum(start + np.arange(full), start + count - 1)
        known = np.isfinite(theta[index]).all(axis=2)
        filler = np.broadcast_to(_harmless_draw(theta[index], known), theta[index].shape)
        flat = np.where(known[:, :, None], theta[index], filler).reshape(-1, theta.shape[2])
        tables = self.model.tables(np.repeat(self.cosmology.age_gyr(redshift[index]), n_draw))
        flux = np.asarray(self._fluxes(jnp.asarray(flat), tables, self.model.flat_spectra, self._operator))
        flux = np.where(known.reshape(-1, 1) & (flux > 0), flux, np.nan)
        shape = (full, n_draw, self.redshift.size, len(self.bands))
        return (22.5 - 2.5 * np.log10(flux)).reshape(shape)[:count]


def _harmless_draw(theta: FloatArray, known: BoolArray) -> FloatArray:
    """Some finite draw to compute with in place of missing ones (whose result is discarded)."""
    if not known.any():
        raise InputError("none of these galaxies has a finite posterior draw; leave out rows without samples")
    return theta[known][0]


def _pieces(n: int, size: int) -> Iterator[tuple[int, int]]:
    """``(start, count)`` of runs of at most `size`."""
    for start in range(0, n, size):
        yield start, min(size, n - start)
