"""The exact Gaussian likelihood: full spectra for every parameter vector, nothing compressed.

``ln L = -1/2 sum_pix w (d - f_fiber m)^2 - 1/2 sum_band w (d - m)^2``, the spectrum's residuals marginalised over
calibration templates where there are any; constants that do not depend on theta are left out. This is the reference
that every faster engine is measured against.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.chunks import in_chunks
from provabgs.core.jax import jax, jnp
from provabgs.observe.linespread import BandedOperator
from provabgs.observe.projection import Projection
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import FlatSpectra, SPSModel
from provabgs.sps.parameters import INDEX

CHUNK = 32
"""Rest-frame spectra made at a time by `ExactLikelihood.predict`."""


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


class Arrays(NamedTuple):
    """All that ln L of a galaxy needs beside theta."""

    flat_spectra: FlatSpectra
    tables: HistoryTables
    spectrum: SpectrumTerm | None
    photometry: PhotometryTerm | None
    flux_factor: jax.Array


class ExactLikelihood:
    """ln L of one galaxy by the exact model.

    Parameters
    ----------
    projection
        From `provabgs.observe.projection.project`, with the same SSP library as `model`.
    model
        The SPS model.

    Notes
    -----
    A call is one compiled function of batch and data, for samplers and gradients; it compiles once per shape of the
    data, which differs from galaxy to galaxy. `predict` and `chi2` compile the rest-frame model alone, which every
    galaxy shares, and apply the galaxy's operators as sparse matrices: nothing is compiled for one galaxy.
    """

    def __init__(self, projection: Projection, model: SPSModel) -> None:
        self.projection = projection
        self.model = model
        self.tables = jax.tree.map(jnp.asarray, model.tables(projection.t_age))

    @cached_property
    def arrays(self) -> Arrays:
        """What the compiled call takes beside theta."""
        projection = self.projection
        return Arrays(
            self.model.flat_spectra,
            self.tables,
            _spectrum_term(projection),
            _photometry_term(projection),
            jnp.asarray(projection.flux_factor),
        )

    def __call__(self, theta: jax.Array) -> jax.Array:
        """Ln L, ``(batch,)``, for theta ``(batch, 13)``; float64."""
        return _compiled(self.model)(jnp.asarray(theta, dtype=jnp.float64), self.arrays)

    def predict(self, theta: ArrayLike) -> tuple[FloatArray | None, FloatArray | None]:
        """Model pixels ``(batch, npix)`` (f_fiber included) and bands ``(batch, nband)``, where there are data."""
        theta = np.asarray(theta, dtype=np.float64)
        flux = self._rest_frame(theta) * self.projection.flux_factor
        spectrum, photometry = self.projection.spectrum, self.projection.photometry
        pixels = None
        if spectrum is not None:
            pixels = theta[:, INDEX["f_fiber"], None] * (spectrum.operator @ flux.T).T
        return pixels, None if photometry is None else flux @ np.asarray(photometry.operator).T

    def chi2(self, theta: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """chi^2 of spectrum and photometry apart, each ``(batch,)``; 0 where there are no data."""
        pixels, bands = self.predict(theta)
        spectrum, photometry = self.projection.spectrum, self.projection.photometry
        spec = phot = np.zeros(len(np.asarray(theta)))
        if pixels is not None and spectrum is not None:
            cov = template_covariance(spectrum.templates, spectrum.ivar)
            spec = spectrum_chi2(spectrum.flux - pixels, spectrum.ivar, spectrum.templates, cov)
        if bands is not None and photometry is not None:
            phot = (photometry.ivar * (photometry.flux - bands) ** 2).sum(axis=1)
        return spec, phot

    def _rest_frame(self, theta: FloatArray) -> FloatArray:
        """Luminosity density ``(batch, nwave)``, in chunks of one shape."""
        spectra = _rest_frame(self.model)
        light = in_chunks(lambda t: spectra(t, self.tables, self.model.flat_spectra), theta, CHUNK)
        return light.astype(np.float64)


@lru_cache(maxsize=8)
def _rest_frame(model: SPSModel) -> Callable[..., jax.Array]:
    return jax.jit(model.spectrum)


@lru_cache(maxsize=8)
def _compiled(model: SPSModel) -> Callable[[jax.Array, Arrays], jax.Array]:
    """Ln L as a pure function of theta and a galaxy's arrays: galaxies of equal shapes share one compilation."""

    def log_likelihood(theta: jax.Array, arrays: Arrays) -> jax.Array:
        flux = model.spectrum(theta, arrays.tables, flat_spectra=arrays.flat_spectra) * arrays.flux_factor
        chi2 = jnp.zeros(theta.shape[0])
        if arrays.spectrum is not None:
            term = arrays.spectrum
            pixels = theta[:, INDEX["f_fiber"], None] * term.operator.apply(flux)
            chi2 += spectrum_chi2(term.flux - pixels, term.ivar, term.templates, term.template_cov)
        if arrays.photometry is not None:
            bands = flux @ arrays.photometry.operator.T
            chi2 += jnp.sum(arrays.photometry.ivar * (arrays.photometry.flux - bands) ** 2, axis=1)
        return -0.5 * chi2

    return jax.jit(log_likelihood)


def spectrum_chi2(residual: Any, ivar: Any, templates: Any, template_cov: Any) -> Any:
    """chi^2 ``(batch,)`` marginalised over the templates: r^T W r - (N^T W r)^T (I + N^T W N)^-1 (N^T W r).

    For arrays of numpy or JAX alike.
    """
    weighted = ivar * residual
    projected = weighted @ templates
    return (weighted * residual).sum(axis=1) - ((projected @ template_cov) * projected).sum(axis=1)


def template_covariance(templates: FloatArray, ivar: FloatArray) -> FloatArray:
    """Inverse of ``I + N^T W N``, ``(ntemplate, ntemplate)``."""
    return np.asarray(
        np.linalg.inv(np.eye(templates.shape[1]) + templates.T @ (ivar[:, None] * templates)), dtype=np.float64
    )


def _spectrum_term(projection: Projection) -> SpectrumTerm | None:
    data = projection.spectrum
    if data is None:
        return None
    operator = BandedOperator.from_sparse(data.operator)
    n_pad = operator.blocks.shape[0] * operator.blocks.shape[1]
    pad = n_pad - data.flux.size
    templates = np.pad(data.templates, ((0, pad), (0, 0)))
    ivar = np.pad(data.ivar, (0, pad))
    return SpectrumTerm(
        operator,
        jnp.asarray(np.pad(data.flux, (0, pad))),
        jnp.asarray(ivar),
        jnp.asarray(templates),
        jnp.asarray(template_covariance(templates, ivar)),
    )


def _photometry_term(projection: Projection) -> PhotometryTerm | None:
    data = projection.photometry
    if data is None:
        return None
    return PhotometryTerm(jnp.asarray(data.operator), jnp.asarray(data.flux), jnp.asarray(data.ivar))
