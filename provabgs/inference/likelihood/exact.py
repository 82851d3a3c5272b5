"""The exact Gaussian likelihood: full spectra for every parameter vector, nothing compressed.

``ln L = -1/2 sum_pix w (d - f_fiber m)^2 - 1/2 sum_band w (d - m)^2``, marginalised over the templates of the noise
model where there are any; constants that do not depend on theta are left out. Every faster backend is measured against
this one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.chunks import in_chunks
from provabgs.core.compilations import compiled_by_shape
from provabgs.core.jax import jax, jnp
from provabgs.inference.likelihood.base import LinearSystem, fit_parameters
from provabgs.inference.likelihood.marginal import (
    BandCoupling,
    band_coupling,
    bands_chi2,
    chi2_of,
    spectrum_chi2,
)
from provabgs.observe.dispersion import polynomials, require_in_table
from provabgs.observe.linespread import BandedOperator
from provabgs.observe.projection import Projection, SpectrumProjection
from provabgs.sps.histories import HistoryTables
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import ParameterSet

CHUNK = 32
"""Rest-frame spectra made at a time by `ExactLikelihood.predict`."""


class DispersionTerm(NamedTuple):
    """The rest-frame spectrum broadened by any dispersion: a polynomial (`provabgs.observe.dispersion`)."""

    scale: jax.Array
    matrices: tuple[BandedOperator, ...]

    def broaden(self, spectra: jax.Array, vdisp_kms: jax.Array) -> jax.Array:
        """Broaden spectra, each by its own dispersion.

        Parameters
        ----------
        spectra
            ``(batch, nwave)``.
        vdisp_kms
            ``(batch,)`` km/s.

        Returns
        -------
        jax.Array
            ``(batch, nwave)``.
        """
        first, *rest = (m.apply(spectra)[:, : spectra.shape[1]] for m in self.matrices)
        weights = polynomials(vdisp_kms, self.scale)
        return first + sum(weights[:, j, None] * r for j, r in enumerate(rest))


class SpectrumTerm(NamedTuple):
    """Arrays of the spectrum's chi^2, padded to the operator's shape with weight 0."""

    operator: BandedOperator
    flux: jax.Array
    ivar: jax.Array
    templates: jax.Array
    """``(npad, ntemplate)``."""
    template_cov: jax.Array
    """``(ntemplate, ntemplate)`` inverse of ``I + N^T W N``."""
    dispersion: DispersionTerm | None = None
    """Where the velocity dispersion is fitted."""


class PhotometryTerm(NamedTuple):
    """Arrays of the photometry's chi^2."""

    operator: jax.Array
    flux: jax.Array
    ivar: jax.Array
    coupling: BandCoupling | None
    """Where the noise model's templates touch bands."""


class Arrays(NamedTuple):
    """All that ln L of a galaxy needs beside theta."""

    flat_spectra: Any
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
        self.parameters = fit_parameters(model, has_dispersion(projection))
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
        """Ln L, ``(batch,)``, for theta ``(batch, size)``; float64."""
        self.parameters.check(theta)
        check_dispersion(theta, self.parameters)
        return _compiled(self.model)(jnp.asarray(theta, dtype=jnp.float64), self.arrays)

    @property
    def linear_system(self) -> LinearSystem | None:
        """None: columns for each mass would cost as much as as many spectra."""
        return None

    def with_reference(self, theta: ArrayLike) -> ExactLikelihood:
        """Itself: there is no error to correct."""
        del theta
        return self

    def predict(self, theta: ArrayLike) -> tuple[FloatArray | None, FloatArray | None]:
        """Model pixels ``(batch, npix)`` (f_fiber included) and bands ``(batch, nband)``, where there are data."""
        theta = np.asarray(theta, dtype=np.float64)
        f_fiber = self.parameters.get(theta, "f_fiber")
        flux = self._rest_frame(theta) * self.projection.flux_factor
        spectrum, photometry = self.projection.spectrum, self.projection.photometry
        pixels = None
        if spectrum is not None:
            stars = flux
            if spectrum.dispersion is not None:
                stars = spectrum.dispersion.table.broaden(flux, self.parameters.get(theta, "vdisp"))
            pixels = f_fiber[:, None] * (spectrum.operator @ stars.T).T
        return pixels, None if photometry is None else flux @ np.asarray(photometry.operator).T

    def chi2(self, theta: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """chi^2 of spectrum and photometry apart, each ``(batch,)``; 0 where there are no data.

        Where templates of the noise model touch both, the photometry's is that given the spectrum.
        """
        return chi2_of(self.projection, *self.predict(theta))

    def _rest_frame(self, theta: FloatArray) -> FloatArray:
        """Luminosity density ``(batch, nwave)``, in chunks of one shape."""
        spectra = rest_frame(self.model)
        stars = self.parameters.select(theta, self.model.parameters)
        luminosity = in_chunks(lambda t: spectra(t, self.tables, self.model.flat_spectra), stars, CHUNK)
        return luminosity.astype(np.float64)


def has_dispersion(projection: Projection) -> bool:
    """Whether a galaxy has a spectrum whose velocity dispersion is fitted."""
    return projection.spectrum is not None and projection.spectrum.dispersion is not None


def check_dispersion(theta: ArrayLike, parameters: ParameterSet) -> None:
    """Refuse a velocity dispersion beyond the table, where theta is known before compilation.

    Parameters
    ----------
    theta
        ``(batch, size)``.
    parameters
        Of the fit.

    Raises
    ------
    InputError
        See `provabgs.observe.dispersion.require_in_table`.
    """
    if "vdisp" in parameters and not isinstance(theta, jax.core.Tracer):
        require_in_table(np.asarray(parameters.get(np.asarray(theta), "vdisp")))


@lru_cache(maxsize=8)
def rest_frame(model: SPSModel) -> Callable[..., jax.Array]:
    """`SPSModel.spectrum`, compiled once per model: every galaxy shares it."""
    return jax.jit(model.spectrum)


@lru_cache(maxsize=8)
def _compiled(model: SPSModel) -> Callable[[jax.Array, Arrays], jax.Array]:
    """Ln L as a pure function of theta and a galaxy's arrays: galaxies of equal shapes share one compilation."""

    def log_likelihood(theta: jax.Array, arrays: Arrays) -> jax.Array:
        dispersion = None if arrays.spectrum is None else arrays.spectrum.dispersion
        parameters = fit_parameters(model, dispersion is not None)
        stars, f_fiber = parameters.select(theta, model.parameters), parameters.get(theta, "f_fiber")
        flux = model.spectrum(stars, arrays.tables, flat_spectra=arrays.flat_spectra) * arrays.flux_factor
        chi2, residual = jnp.zeros(theta.shape[0]), None
        if arrays.spectrum is not None:
            term = arrays.spectrum
            broad = flux if dispersion is None else dispersion.broaden(flux, parameters.get(theta, "vdisp"))
            residual = term.flux - f_fiber[:, None] * term.operator.apply(broad)
            chi2 += spectrum_chi2(residual, term.ivar, term.templates, term.template_cov)
        if arrays.photometry is not None:
            term_b = arrays.photometry
            chi2 += bands_chi2(term_b.flux - flux @ term_b.operator.T, term_b.ivar, term_b.coupling, residual)
        return -0.5 * chi2

    return compiled_by_shape(log_likelihood)


def _spectrum_term(projection: Projection) -> SpectrumTerm | None:
    data = projection.spectrum
    if data is None:
        return None
    operator = BandedOperator.from_sparse(data.operator)
    pad = _n_padded(operator) - data.flux.size
    templates = np.pad(data.templates, ((0, pad), (0, 0)))
    ivar = np.pad(data.ivar, (0, pad))
    return SpectrumTerm(
        operator,
        jnp.asarray(np.pad(data.flux, (0, pad))),
        jnp.asarray(ivar),
        jnp.asarray(templates),
        jnp.asarray(data.coefficient_covariance),
        _dispersion_term(data),
    )


def _dispersion_term(data: SpectrumProjection) -> DispersionTerm | None:
    if data.dispersion is None:
        return None
    matrices = (BandedOperator.from_sparse(m) for m in data.dispersion.matrices())
    return DispersionTerm(jnp.asarray(data.dispersion.scale), tuple(matrices))


def _photometry_term(projection: Projection) -> PhotometryTerm | None:
    data = projection.photometry
    if data is None:
        return None
    coupling = band_coupling(projection)
    if coupling is not None and coupling.from_pixels is not None and projection.spectrum is not None:
        n_pad = _n_padded(BandedOperator.from_sparse(projection.spectrum.operator)) - projection.spectrum.flux.size
        coupling = coupling._replace(from_pixels=np.pad(coupling.from_pixels, ((0, 0), (0, n_pad))))
    return PhotometryTerm(jnp.asarray(data.operator), jnp.asarray(data.flux), jnp.asarray(data.ivar), coupling)


def _n_padded(operator: BandedOperator) -> int:
    """Pixels of a banded operator, those that pad its last block included."""
    return int(operator.blocks.shape[0] * operator.blocks.shape[1])
