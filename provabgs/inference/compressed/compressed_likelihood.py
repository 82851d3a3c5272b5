"""Evaluation of the compressed likelihood: a pure function of theta and a galaxy's reduction, batched over both.

Single precision wherever numbers are products of positive terms and sums of squares of residuals; double where a small
difference of large numbers decides (the amplitude, the constant part of chi^2). Positions on the age and metallicity
grids are single: a relative error of 1e-7 there moves a weight by 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from provabgs.core.arrays import FloatArray
from provabgs.core.chunks import padded
from provabgs.core.compilations import compiled_by_shape
from provabgs.core.jax import jax, jnp
from provabgs.inference.compressed.error_correction import is_held_out
from provabgs.inference.compressed.merged_nodes import merged_nodes
from provabgs.inference.compressed.normal_equations import make_normal_equations
from provabgs.inference.compressed.places import evaluate, reemission, single
from provabgs.inference.compressed.reduction import (
    TOLERANCE,
    LocalPoints,
    Reduction,
    Size,
    basis_of,
    parameters_of,
    reduce_projection,
    size_of,
)
from provabgs.inference.likelihood.base import REFERENCE_LOG_MASS, LinearSystem, fit_parameters
from provabgs.inference.likelihood.exact import ExactLikelihood, check_dispersion, has_dispersion
from provabgs.inference.likelihood.marginal import band_coupling, chi2_of
from provabgs.observe.projection import Projection
from provabgs.sps.model import SPSModel

CPU_CHUNK = 256
"""Larger batches are cut on a CPU, whose caches hold the intermediate arrays of about this many points."""
CHUNK = 64
"""Spectra made at a time by functions that are no inner loop, so that all share one compilation."""


class Whitened(NamedTuple):
    """The model in the units of the data's noise; chi^2 is the squared distance to the reduction's data."""

    spectrum: jax.Array | None
    """``(batch, nrow)``, to compare with ``reduction.spectrum.data``."""
    photometry: jax.Array | None
    """``(batch, nband)``, to compare with ``reduction.photometry.flux``."""


def make_prediction(model: SPSModel, at_points: bool = False) -> Callable[[jax.Array, Reduction], Whitened]:
    """The model in whitened data modes as a function of theta.

    Parameters
    ----------
    model
        The SPS model.
    at_points
        Leave the spectrum as values at the interpolation points, ``(batch, npoint)``, not yet whitened.

    Returns
    -------
    Callable
        ``(theta (batch, size), reduction) -> Whitened``; not compiled.
    """
    nodes = merged_nodes(model)

    def predict(theta: jax.Array, reduction: Reduction) -> Whitened:
        values = parameters_of(model, reduction).values(theta)
        weights = nodes.weights(model, values, reduction.tables)
        low = single(values)
        power = reemission(model, weights, low, reduction.energy)
        mass = 10.0 ** (values[model.linear_block.total] - REFERENCE_LOG_MASS)
        spectrum = photometry = points = features = None
        if reduction.spectrum is not None:
            s = reduction.spectrum
            amplitude = (mass * values["f_fiber"]).astype(jnp.float32)
            points = evaluate(model, weights, low, s.places, power) * amplitude[:, None]
            features = s.features(points, values)
            spectrum = points if at_points else s.whitened(points, features)
        if reduction.photometry is not None:
            p = reduction.photometry
            fluxes = evaluate(model, weights, low, p.places, power) * mass.astype(jnp.float32)[:, None]
            photometry = p.whitened(fluxes, points, features)
        return Whitened(spectrum, photometry)

    return predict


def make_log_likelihood(model: SPSModel) -> Callable[[jax.Array, Reduction], jax.Array]:
    """The function ``(theta (batch, size), reduction) -> ln L (batch,)`` of one model; not compiled."""
    predict = make_prediction(model)

    def log_likelihood(theta: jax.Array, reduction: Reduction) -> jax.Array:
        rows = predict(theta, reduction)
        chi2 = jnp.zeros(theta.shape[0], theta.dtype)
        if reduction.spectrum is not None and rows.spectrum is not None:
            chi2 += reduction.spectrum.constant
            chi2 += jnp.sum((reduction.spectrum.data - rows.spectrum) ** 2, axis=1)
        if reduction.photometry is not None and rows.photometry is not None:
            chi2 += jnp.sum((reduction.photometry.flux - rows.photometry) ** 2, axis=1)
        return -0.5 * chi2

    return in_cache(log_likelihood)


def in_cache(log_likelihood: Callable[[jax.Array, Any], jax.Array]) -> Callable[[jax.Array, Any], jax.Array]:
    """The same function of theta ``(batch, size)`` and a reduction, large batches cut to what a CPU's caches hold."""

    def cut(theta: jax.Array, reduction: Any) -> jax.Array:
        n = len(theta)
        if n <= CPU_CHUNK or jax.default_backend() != "cpu":
            return log_likelihood(theta, reduction)
        n_chunk = -(-n // CPU_CHUNK)
        padded = jnp.pad(theta, ((0, n_chunk * CPU_CHUNK - n), (0, 0)), mode="edge")
        chunk = jax.checkpoint(lambda t: log_likelihood(t, reduction))
        return jax.lax.map(chunk, padded.reshape(n_chunk, CPU_CHUNK, -1)).reshape(-1)[:n]

    return cut


class CompressedLikelihood:
    """ln L of one galaxy by the compressed model; same call as `provabgs.inference.likelihood.ExactLikelihood`.

    Parameters
    ----------
    projection, model
        As for the exact likelihood.
    tolerance, size
        See `reduce_projection`.

    Raises
    ------
    InputError
        See `reduce_projection`.
    """

    def __init__(
        self, projection: Projection, model: SPSModel, tolerance: float = TOLERANCE, size: Size | None = None
    ) -> None:
        self.projection = projection
        self.model = model
        self.parameters = fit_parameters(model, has_dispersion(projection))
        self.tolerance = tolerance
        self.reduction = reduce_projection(projection, model, tolerance, size)
        self.local_error: float | None = None
        """Scatter of ln L against the exact one over held-out draws, nats; None before `with_reference` had draws."""

    @property
    def error(self) -> float:
        """Measured error of the spectrum's part, sigmas; 0 without a spectrum: bands take no part."""
        return 0.0 if self.reduction.spectrum is None else float(self.reduction.spectrum.error)

    def __call__(self, theta: jax.Array) -> jax.Array:
        """Ln L, ``(batch,)``, for theta ``(batch, size)``."""
        self.parameters.check(theta)
        check_dispersion(theta, self.parameters)
        return compiled(self.model)(jnp.asarray(theta, dtype=jnp.float64), self.reduction)

    @property
    def linear_system(self) -> LinearSystem:
        """Normal equations of the masses."""
        return LinearSystem(shared_equations(self.model), self.reduction, self.model.recipe)

    def predict(self, theta: ArrayLike) -> FloatArray | None:
        """Spectrum that ln L sees, in every pixel of the projection, ``(batch, npix)``; None without a spectrum.

        For checks and figures: at likelihood calls pixels are never formed.
        """
        data, reduction = self.projection.spectrum, self.reduction.spectrum
        if data is None or reduction is None:
            return None
        values = self._at_points(theta)[0]
        basis = basis_of(data, self.model)
        n = min(values.shape[1], len(basis.r))
        u = linalg.solve_triangular(basis.r[:n, :n], values[:, :n].T, trans="T").T
        scale = self.projection.flux_factor * 10.0**REFERENCE_LOG_MASS
        spectra = scale * u @ basis.cardinal_by_wave[:, :n].astype(np.float64).T
        if data.dispersion is not None:
            vdisp = self.parameters.get(np.asarray(theta, np.float64), "vdisp")
            spectra = data.dispersion.table.broaden(spectra, vdisp, basis.columns)
        return (data.operator[:, basis.columns] @ spectra.T).T

    def _at_points(self, theta: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Spectrum at the points ``(n, npoint)`` and whitened bands ``(n, nband)``; without such data, no columns."""
        compute = _point_values(self.model)
        parts = _in_chunks(lambda t: compute(t, self.reduction), theta)
        empty = np.zeros((len(np.asarray(theta)), 0))
        return tuple(empty if p is None else p for p in parts)  # type: ignore[return-value]

    def _dispersions(self, theta: FloatArray) -> FloatArray | None:
        return self.parameters.get(theta, "vdisp") if "vdisp" in self.parameters else None

    def with_reference(self, theta: ArrayLike) -> CompressedLikelihood:
        """The same likelihood, corrected near the best fit, once good fits are known.

        Parameters
        ----------
        theta
            One good fit ``(size,)``: the error at it is taken out everywhere. Or draws of a first fit ``(n, size)``,
            best 64 or more: the error's linear response is taken out too, and `local_error` measured on every fourth
            draw, which is held out (docs/studies/likelihood.md).
        """
        theta = np.atleast_2d(np.asarray(theta, np.float64))
        exact = ExactLikelihood(self.projection, self.model)
        pixels, bands = exact.predict(theta)
        values, own_bands = self._at_points(theta)
        held_out = is_held_out(len(theta))
        reduction = reduce_projection(
            self.projection,
            self.model,
            self.tolerance,
            size_of(self.reduction),
            local=None if pixels is None else LocalPoints(values, pixels, self._dispersions(theta)),
        )
        if bands is not None and reduction.photometry is not None:
            phot = reduction.photometry
            # a few bands do not teach a response: their mean error alone is subtracted
            error = _whitened_bands(self.projection, pixels, bands) - own_bands[:, : bands.shape[1]]
            shift = np.pad(error[~held_out].mean(axis=0), (0, own_bands.shape[1] - bands.shape[1]))
            reduction = reduction._replace(photometry=phot._replace(flux=phot.flux - jnp.asarray(shift, jnp.float32)))
        out = copy(self)
        out.reduction = reduction
        (log_like,) = _in_chunks(lambda t: (out(t),), theta)
        # the mean of what is left goes into the constant: ln L is compared with that of other backends
        difference = np.asarray(log_like) + 0.5 * sum(chi2_of(self.projection, pixels, bands))
        if reduction.spectrum is not None:
            constant = reduction.spectrum.constant + 2 * difference[~held_out].mean()
            out.reduction = reduction._replace(spectrum=reduction.spectrum._replace(constant=constant))
        if held_out.any():
            out.local_error = float(np.std(difference[held_out]))
        return out

    @property
    def n_bytes(self) -> int:
        """Memory that the galaxy's arrays take."""
        return sum(int(np.asarray(x).nbytes) for x in jax.tree.leaves(self.reduction))


@lru_cache(maxsize=8)
def compiled(model: SPSModel) -> Callable[[jax.Array, Reduction], jax.Array]:
    """`make_log_likelihood` compiled, one per model object: galaxies of one size class share its compilations."""
    return compiled_by_shape(make_log_likelihood(model))


@lru_cache(maxsize=8)
def _point_values(model: SPSModel) -> Callable[[jax.Array, Reduction], Whitened]:
    return compiled_by_shape(make_prediction(model, at_points=True))


@lru_cache(maxsize=4)
def shared_equations(model: SPSModel) -> Callable[..., Any]:
    """`make_normal_equations`, one per model object, so that galaxies share its compilations."""
    return make_normal_equations(model)


def _whitened_bands(projection: Projection, pixels: FloatArray | None, bands: FloatArray) -> FloatArray:
    """Exact bands ``(n, nband)`` in the units in which `PhotometryReduction.whitened` has them."""
    assert projection.photometry is not None
    coupling = band_coupling(projection)
    if coupling is None:
        return np.sqrt(projection.photometry.ivar) * bands
    if coupling.from_pixels is not None and pixels is not None:
        bands = bands - pixels @ coupling.from_pixels.T
    return bands @ coupling.whiten.T


def _in_chunks(function: Callable[[jax.Array], tuple], theta: ArrayLike) -> list[FloatArray | None]:
    """Outputs of a compiled function, in batches of one shape, whatever the number of points; the last is padded."""
    theta = np.asarray(theta, np.float64)
    whole = padded(theta, CHUNK)
    pieces = [function(jnp.asarray(whole[i : i + CHUNK])) for i in range(0, len(whole), CHUNK)]
    return [
        None if parts[0] is None else np.concatenate([np.asarray(p, np.float64) for p in parts])[: len(theta)]
        for parts in zip(*pieces, strict=True)
    ]
