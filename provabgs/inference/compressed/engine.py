"""Evaluation of the compressed likelihood: a pure function of theta and a galaxy's reduction, batched over both.

Single precision wherever numbers are products and sums of squares of residuals; double where a small difference of
large logarithms decides (the amplitude). Positions on the age and metallicity grids are single: a relative error of
1e-7 there moves a weight by 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from provabgs._jax import jax, jnp
from provabgs.inference.compressed.basis import MergedNodes, SpectralBasis, default_basis
from provabgs.inference.compressed.intervals import N_INTERVALS, N_NODES
from provabgs.inference.compressed.photometry import N_BAND_NODES, PhotometryReduction
from provabgs.inference.compressed.reduction import (
    REFERENCE_LOG_MASS,
    Reduction,
    SpectrumReduction,
    reduce_projection,
)
from provabgs.observe.projection import Projection
from provabgs.sps.dust import transmission
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import INDEX

FloatArray = NDArray[np.float64]
_DUST = ("tau_bc", "tau_ism", "n_dust")


def make_log_likelihood(model: SPSModel) -> Callable[[jax.Array, Reduction], jax.Array]:
    """The function ``(theta (batch, 13), reduction) -> ln L (batch,)`` of one model; not compiled."""
    nodes = MergedNodes.of(model)

    def log_likelihood(theta: jax.Array, reduction: Reduction) -> jax.Array:
        single = theta.astype(jnp.float32)
        young, old = nodes.weights(model, single, reduction.tables)
        dust = [single[:, INDEX[n]] for n in _DUST]
        mass = 10.0 ** (theta[:, INDEX["logmstar"]] - REFERENCE_LOG_MASS)
        chi2 = jnp.zeros(theta.shape[0], jnp.float32)
        if reduction.spectrum is not None:
            amplitude = (mass * theta[:, INDEX["f_fiber"]]).astype(jnp.float32)
            chi2 += _spectrum_chi2(young, old, dust, amplitude, reduction.spectrum)
        if reduction.photometry is not None:
            chi2 += _photometry_chi2(young, old, dust, mass.astype(jnp.float32), reduction.photometry)
        return -0.5 * chi2.astype(theta.dtype)

    return log_likelihood


def _contract(coefficients: jax.Array, matrix: jax.Array, attenuation: jax.Array) -> jax.Array:
    """``sum_j a_kj (c M)_kj.``, ``(batch, K, rows)``; c ``(batch, rank)``, M ``(rank, K * J * rows)``, a as nodes."""
    product = (coefficients @ matrix).reshape(len(coefficients), N_INTERVALS, N_NODES, -1)
    return jnp.einsum("bkjq,bkj->bkq", product, attenuation.reshape(-1, N_INTERVALS, N_NODES))


def _spectrum_chi2(
    young: jax.Array, old: jax.Array, dust: list[jax.Array], amplitude: jax.Array, r: SpectrumReduction
) -> jax.Array:
    a_old, a_young = transmission(r.curves, *dust)
    c_young = (young @ r.select_young) * amplitude[:, None]
    c_old = (old @ r.select_old) * amplitude[:, None]
    residual = r.data - _contract(c_young, r.young, a_young) - _contract(c_old, r.old, a_old)
    chi2 = r.constant + jnp.sum(residual**2, axis=(1, 2))
    if r.template_cov.shape[0]:
        rows = r.template_rows - _contract(c_young, r.template_young, a_young)
        projected = jnp.sum(rows - _contract(c_old, r.template_old, a_old), axis=1)
        chi2 -= jnp.einsum("bi,ij,bj->b", projected, r.template_cov, projected)
    return chi2


def _photometry_chi2(
    young: jax.Array, old: jax.Array, dust: list[jax.Array], mass: jax.Array, r: PhotometryReduction
) -> jax.Array:
    a_old, a_young = transmission(r.curves, *dust)
    nodes = (young @ r.young) * a_young + (old @ r.old) * a_old
    flux = mass[:, None] * nodes.reshape(len(nodes), -1, N_BAND_NODES).sum(axis=-1)
    return jnp.sum((r.flux - r.root_ivar * flux) ** 2, axis=1)


class CompressedLikelihood:
    """ln L of one galaxy by the compressed engine; same call as `provabgs.inference.likelihood.ExactLikelihood`.

    Parameters
    ----------
    projection, model
        As for the exact likelihood.
    basis
        Spectral basis of the model; `default_basis` when None.
    tolerance
        See `reduce_projection`.
    """

    def __init__(
        self, projection: Projection, model: SPSModel, basis: SpectralBasis | None = None, tolerance: float = 0.02
    ) -> None:
        self.projection = projection
        self.model = model
        self.reduction = reduce_projection(projection, model, basis or default_basis(model), tolerance)

    def __call__(self, theta: jax.Array) -> jax.Array:
        """Ln L, ``(batch,)``, for theta ``(batch, 13)``."""
        return _compiled(self.model)(jnp.asarray(theta, dtype=jnp.float64), self.reduction)


@lru_cache(maxsize=8)
def _compiled(model: SPSModel) -> Callable[[jax.Array, Reduction], jax.Array]:
    """One compiled function per model object: galaxies of one size class share its compilations."""
    return jax.jit(make_log_likelihood(model))
