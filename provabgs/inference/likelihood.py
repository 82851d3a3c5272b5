"""The exact Gaussian likelihood: full spectra for every parameter vector, nothing compressed.

``ln L = -1/2 sum_pix w (d - f_fiber m)^2 - 1/2 sum_band w (d - m)^2``, the spectrum's residuals marginalised over
calibration templates where there are any; constants that do not depend on theta are left out. This is the reference
that every faster engine is measured against.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs._jax import jax, jnp
from provabgs.observe.linespread import BandedOperator
from provabgs.observe.projection import Projection
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import FlatSpectra, SPSModel
from provabgs.sps.parameters import INDEX

FloatArray = NDArray[np.float64]


class SpectrumTerm(NamedTuple):
    """Arrays of the spectrum's chi^2, padded to the operator's shape with weight 0."""

    operator: BandedOperator
    flux: jax.Array
    ivar: jax.Array
    templates: jax.Array
    """``(npad, ntemplate)``."""
    template_cov: jax.Array
    """``(ntemplate, ntemplate)`` inverse of ``I + N^T W N``."""


class PhotometryTerm(NamedTuple):
    """Arrays of the photometry's chi^2."""

    operator: jax.Array
    flux: jax.Array
    ivar: jax.Array


class ExactLikelihood:
    """ln L of one galaxy by the exact model.

    Parameters
    ----------
    projection
        From `provabgs.observe.projection.project`, with the same SSP library as `model`.
    model
        The SPS model.
    """

    def __init__(self, projection: Projection, model: SPSModel) -> None:
        self.projection = projection
        self.model = model
        self.tables = jax.tree.map(jnp.asarray, model.tables(projection.t_age))
        self.spectrum = _spectrum_term(projection)
        self.photometry = _photometry_term(projection)
        self._compiled = jax.jit(self._evaluate)

    def __call__(self, theta: jax.Array) -> jax.Array:
        """Ln L, ``(batch,)``, for theta ``(batch, 13)``; float64."""
        args = (self.model.flat_spectra, self.tables, self.spectrum, self.photometry)
        return self._compiled(jnp.asarray(theta, dtype=jnp.float64), *args)

    def predict(self, theta: jax.Array) -> tuple[jax.Array | None, jax.Array | None]:
        """Model pixels ``(batch, npix)`` (f_fiber included) and bands ``(batch, nband)``, where there are data."""
        theta = jnp.asarray(theta, dtype=jnp.float64)
        spec, phot = self._predict(theta, self.model.flat_spectra, self.tables, self.spectrum, self.photometry)
        n_pix, _ = self.projection.n_data
        return (None if spec is None else spec[:, :n_pix]), phot

    def chi2(self, theta: jax.Array) -> tuple[jax.Array, jax.Array]:
        """chi^2 of spectrum and photometry apart, each ``(batch,)``; 0 where there are no data."""
        theta = jnp.asarray(theta, dtype=jnp.float64)
        return self._chi2(theta, self.model.flat_spectra, self.tables, self.spectrum, self.photometry)

    # ---- pure functions of their arguments, so that galaxies of equal shapes share one compilation ------------------

    def _evaluate(self, theta: jax.Array, *arrays: Any) -> jax.Array:
        spec, phot = self._chi2(theta, *arrays)
        return -0.5 * (spec + phot)

    def _predict(
        self,
        theta: jax.Array,
        flat_spectra: FlatSpectra,
        tables: HistoryTables,
        spectrum: SpectrumTerm | None,
        photometry: PhotometryTerm | None,
    ) -> tuple[jax.Array | None, jax.Array | None]:
        luminosity = self.model.spectrum(theta, tables, flat_spectra=flat_spectra)
        flux = luminosity * self.projection.flux_factor
        pixels = None if spectrum is None else theta[:, INDEX["f_fiber"], None] * spectrum.operator.apply(flux)
        return pixels, None if photometry is None else flux @ photometry.operator.T

    def _chi2(
        self,
        theta: jax.Array,
        flat_spectra: FlatSpectra,
        tables: HistoryTables,
        spectrum: SpectrumTerm | None,
        photometry: PhotometryTerm | None,
    ) -> tuple[jax.Array, jax.Array]:
        pixels, bands = self._predict(theta, flat_spectra, tables, spectrum, photometry)
        spec = phot = jnp.zeros(theta.shape[0])
        if pixels is not None and spectrum is not None:
            spec = _spectrum_chi2(pixels, spectrum)
        if bands is not None and photometry is not None:
            phot = jnp.sum(photometry.ivar * (photometry.flux - bands) ** 2, axis=1)
        return spec, phot


def _spectrum_chi2(pixels: jax.Array, term: SpectrumTerm) -> jax.Array:
    """chi^2 marginalised over the templates: r^T W r - (N^T W r)^T (I + N^T W N)^-1 (N^T W r)."""
    residual = term.flux - pixels
    weighted = term.ivar * residual
    projected = weighted @ term.templates
    return jnp.sum(weighted * residual, axis=1) - jnp.einsum("bi,ij,bj->b", projected, term.template_cov, projected)


def _spectrum_term(projection: Projection) -> SpectrumTerm | None:
    data = projection.spectrum
    if data is None:
        return None
    operator = BandedOperator.from_sparse(data.operator)
    n_pad = operator.blocks.shape[0] * operator.blocks.shape[1]
    pad = n_pad - data.flux.size
    templates = np.pad(data.templates, ((0, pad), (0, 0)))
    ivar = np.pad(data.ivar, (0, pad))
    normal = np.eye(templates.shape[1]) + templates.T @ (ivar[:, None] * templates)
    return SpectrumTerm(
        operator,
        jnp.asarray(np.pad(data.flux, (0, pad))),
        jnp.asarray(ivar),
        jnp.asarray(templates),
        jnp.asarray(np.linalg.inv(normal)),
    )


def _photometry_term(projection: Projection) -> PhotometryTerm | None:
    data = projection.photometry
    if data is None:
        return None
    return PhotometryTerm(jnp.asarray(data.operator), jnp.asarray(data.flux), jnp.asarray(data.ivar))
