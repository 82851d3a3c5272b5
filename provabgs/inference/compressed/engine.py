"""Evaluation of the compressed likelihood: a pure function of theta and a galaxy's reduction, batched over both.

Single precision wherever numbers are products of positive terms and sums of squares of residuals; double where a small
difference of large numbers decides (the amplitude, the constant part of chi^2). Positions on the age and metallicity
grids are single: a relative error of 1e-7 there moves a weight by 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from provabgs._jax import jax, jnp
from provabgs.inference.compressed.nodes import merged_nodes
from provabgs.inference.compressed.photometry import N_BAND_NODES
from provabgs.inference.compressed.reduction import (
    REFERENCE_LOG_MASS,
    TOLERANCE,
    Reduction,
    Size,
    basis_of,
    reduce_projection,
    size_of,
)
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.observe.projection import Projection
from provabgs.sps.dust import DustCurves, transmission
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import INDEX

CPU_CHUNK = 256
"""Larger batches are cut on a CPU, whose caches hold the intermediate arrays of about this many points."""
_DUST = ("tau_bc", "tau_ism", "n_dust")


class Whitened(NamedTuple):
    """The model in the units of the data's noise; chi^2 is the squared distance to the reduction's data."""

    spectrum: jax.Array | None
    """``(batch, nrow)``, to compare with ``reduction.spectrum.data``."""
    photometry: jax.Array | None
    """``(batch, nband)``, to compare with ``reduction.photometry.flux``."""


def make_prediction(model: SPSModel, at_points: bool = False) -> Callable[[jax.Array, Reduction], Whitened]:
    """The function ``(theta (batch, 13), reduction) -> Whitened`` of one model; not compiled.

    With `at_points` the spectrum is left as values at the points, ``(batch, npoint)``, not yet whitened.
    """
    nodes = merged_nodes(model)

    def predict(theta: jax.Array, reduction: Reduction) -> Whitened:
        single = theta.astype(jnp.float32)
        weights = nodes.weights(model, theta, reduction.tables)
        dust = tuple(single[:, INDEX[n]] for n in _DUST)
        mass = 10.0 ** (theta[:, INDEX["logmstar"]] - REFERENCE_LOG_MASS)
        spectrum = photometry = None
        if reduction.spectrum is not None:
            s = reduction.spectrum
            amplitude = (mass * theta[:, INDEX["f_fiber"]]).astype(jnp.float32)
            values = _at_points(weights, s.young, s.old, s.curves, dust) * amplitude[:, None]
            spectrum = values if at_points else _matmul(values, s.rows)
        if reduction.photometry is not None:
            p = reduction.photometry
            values = _at_points(weights, p.young, p.old, p.curves, dust) * mass.astype(jnp.float32)[:, None]
            photometry = p.root_ivar * values.reshape(len(theta), -1, N_BAND_NODES).sum(axis=-1)
        return Whitened(spectrum, photometry)

    return predict


def make_log_likelihood(model: SPSModel) -> Callable[[jax.Array, Reduction], jax.Array]:
    """The function ``(theta (batch, 13), reduction) -> ln L (batch,)`` of one model; not compiled."""
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

    def in_cache(theta: jax.Array, reduction: Reduction) -> jax.Array:
        n = len(theta)
        if n <= CPU_CHUNK or jax.default_backend() != "cpu":
            return log_likelihood(theta, reduction)
        n_chunk = -(-n // CPU_CHUNK)
        padded = jnp.pad(theta, ((0, n_chunk * CPU_CHUNK - n), (0, 0)), mode="edge")
        chunk = jax.checkpoint(lambda t: log_likelihood(t, reduction))
        return jax.lax.map(chunk, padded.reshape(n_chunk, CPU_CHUNK, -1)).reshape(-1)[:n]

    return in_cache


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """Product in full single precision: GPUs would round to ten bits of mantissa by default."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _at_points(
    weights: tuple[jax.Array, jax.Array], young: jax.Array, old: jax.Array, curves: DustCurves, dust: tuple
) -> jax.Array:
    """Attenuated composite at the points, ``(batch, npoint)``."""
    a_old, a_young = transmission(curves, *dust)
    return _matmul(weights[0], young) * a_young + _matmul(weights[1], old) * a_old


class CompressedLikelihood:
    """ln L of one galaxy by the compressed engine; same call as `provabgs.inference.likelihood.ExactLikelihood`.

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
        self.tolerance = tolerance
        self.reduction = reduce_projection(projection, model, tolerance, size)

    @property
    def error(self) -> float:
        """Measured error of the spectrum's part, sigmas; 0 without a spectrum: bands take no part."""
        return 0.0 if self.reduction.spectrum is None else float(self.reduction.spectrum.error)

    def __call__(self, theta: jax.Array) -> jax.Array:
        """Ln L, ``(batch,)``, for theta ``(batch, 13)``."""
        return compiled(self.model)(jnp.asarray(theta, dtype=jnp.float64), self.reduction)

    def predict(self, theta: jax.Array) -> NDArray[np.float64] | None:
        """Spectrum that ln L sees, in every pixel of the projection, ``(batch, npix)``; None without a spectrum.

        For checks and figures: at likelihood calls pixels are never formed.
        """
        data, reduction = self.projection.spectrum, self.reduction.spectrum
        if data is None or reduction is None:
            return None
        values = np.asarray(_values(self.model)(jnp.asarray(theta, dtype=jnp.float64), self.reduction), np.float64)
        basis = basis_of(data, self.model)
        n = min(values.shape[1], len(basis.r))
        u = linalg.solve_triangular(basis.r[:n, :n], values[:, :n].T, trans="T").T
        scale = self.projection.flux_factor * 10.0**REFERENCE_LOG_MASS
        spectra = u @ basis.cardinal[:n].astype(np.float64) * scale
        return spectra @ data.operator[:, basis.columns].T

    def with_reference(self, theta: jax.Array) -> CompressedLikelihood:
        """The same engine, exact in every pixel at `theta` ``(13,)``, for use once a good fit is known.

        Errors of similar spectra are alike: taking the error at the reference out of the data removes most of what is
        left near the maximum (docs/engine.md).
        """
        data, size = self.projection.spectrum, size_of(self.reduction)
        one = jnp.asarray(theta, dtype=jnp.float64)[None]
        mine = self.predict(one)
        if data is None or mine is None:
            return self
        exact = np.asarray(ExactLikelihood(self.projection, self.model).predict(one)[0])
        shifted = replace(data, flux=data.flux - (exact - mine)[0])
        return CompressedLikelihood(replace(self.projection, spectrum=shifted), self.model, self.tolerance, size)

    @property
    def n_bytes(self) -> int:
        """Memory that the galaxy's arrays take."""
        return sum(int(np.asarray(x).nbytes) for x in jax.tree.leaves(self.reduction))


@lru_cache(maxsize=8)
def compiled(model: SPSModel) -> Callable[[jax.Array, Reduction], jax.Array]:
    """`make_log_likelihood` compiled, one per model object: galaxies of one size class share its compilations."""
    return jax.jit(make_log_likelihood(model))


@lru_cache(maxsize=8)
def _values(model: SPSModel) -> Callable[[jax.Array, Reduction], jax.Array | None]:
    predict = make_prediction(model, at_points=True)
    return jax.jit(lambda theta, reduction: predict(theta, reduction).spectrum)


@lru_cache(maxsize=8)
def compiled_batch(model: SPSModel) -> Callable[[jax.Array, Reduction], jax.Array]:
    """Many galaxies at once: theta ``(ngalaxy, batch, 13)`` and stacked reductions to ln L ``(ngalaxy, batch)``."""
    return jax.jit(jax.vmap(make_log_likelihood(model)))
