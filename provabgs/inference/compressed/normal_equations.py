"""The compressed model as columns: what one unit of mass in each SFH basis adds to the galaxy's whitened data.

For fixed dust, metallicity, burst and f_fiber the model is linear in the four masses ``M beta_i``; these are its
columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from provabgs.core.jax import jax, jnp
from provabgs.inference.compressed.engine import Dust, dust_of, matmul
from provabgs.inference.compressed.merged_nodes import merged_nodes
from provabgs.inference.compressed.photometry import N_BAND_NODES
from provabgs.inference.compressed.reduction import Reduction
from provabgs.sps.dust import DustCurves, transmission
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import INDEX

N_BASES = 4
CHUNK = 64
"""Parameter vectors handled at a time on a CPU: four columns each fill its caches."""


class NormalEquations(NamedTuple):
    """chi^2 as a quadratic form in the masses: ``constant - 2 b.a + a.Q.a``, masses in units of 1e10 Msun."""

    q: jax.Array
    """``(batch, 4, 4)``."""
    b: jax.Array
    """``(batch, 4)``."""
    constant: jax.Array
    """``()``."""


def make_normal_equations(model: SPSModel) -> Callable[[jax.Array, Reduction], NormalEquations]:
    """The function ``(theta (batch, 13), reduction) -> NormalEquations``; logmstar and betas of theta are ignored.

    The four columns share everything but the masses on the age nodes: metallicity interpolation, burst and dust are
    evaluated once. Columns are single precision, their products double: directions that the data leave free are 1e4
    times shorter than those that they fix, and must not drown in rounding.
    """
    nodes = merged_nodes(model)

    def normal_equations(theta: jax.Array, reduction: Reduction) -> NormalEquations:
        n = len(theta)
        weights = nodes.basis_weights(model, theta, reduction.tables)
        dust = dust_of(theta)
        q, b, constant = jnp.zeros((n, N_BASES, N_BASES)), jnp.zeros((n, N_BASES)), jnp.zeros(())
        if reduction.spectrum is not None:
            s = reduction.spectrum
            f_fiber = theta[:, INDEX["f_fiber"], None, None].astype(jnp.float32)
            values = f_fiber * _at_points(weights, s.young, s.old, s.curves, dust)
            rows = matmul(values.reshape(n * N_BASES, -1), s.rows).reshape(n, N_BASES, -1)
            q, b = accumulate(q, b, rows, s.data)
            constant += s.constant + jnp.sum(s.data.astype(jnp.float64) ** 2)
        if reduction.photometry is not None:
            p = reduction.photometry
            values = _at_points(weights, p.young, p.old, p.curves, dust)
            bands = p.root_ivar * values.reshape(n, N_BASES, -1, N_BAND_NODES).sum(axis=-1)
            q, b = accumulate(q, b, bands, p.flux)
            constant += jnp.sum(p.flux.astype(jnp.float64) ** 2)
        return NormalEquations(q, b, constant)

    def in_cache(theta: jax.Array, reduction: Reduction) -> NormalEquations:
        n = len(theta)
        if n <= CHUNK or jax.default_backend() != "cpu":
            return normal_equations(theta, reduction)
        n_chunk = -(-n // CHUNK)
        padded = jnp.pad(theta, ((0, n_chunk * CHUNK - n), (0, 0)), mode="edge")
        out = jax.lax.map(lambda t: normal_equations(t, reduction), padded.reshape(n_chunk, CHUNK, -1))
        q, b = (x.reshape(n_chunk * CHUNK, *x.shape[2:])[:n] for x in out[:2])
        return NormalEquations(q, b, out.constant[0])

    return in_cache


def _at_points(
    weights: tuple[jax.Array, jax.Array], young: jax.Array, old: jax.Array, curves: DustCurves, dust: Dust
) -> jax.Array:
    """Attenuated columns at the points, ``(batch, nbasis, npoint)``."""
    n = len(weights[0])
    a_old, a_young = transmission(curves, *dust)
    parts = [
        matmul(w.reshape(n * N_BASES, -1), ssps).reshape(n, N_BASES, -1)
        for w, ssps in zip(weights, (young, old), strict=True)
    ]
    return parts[0] * a_young[:, None] + parts[1] * a_old[:, None]


def accumulate(q: jax.Array, b: jax.Array, columns: jax.Array, data: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Add products of columns ``(batch, nbasis, nrow)``: ten sums written out beat a batch of tiny matrices."""
    column = [columns[:, i].astype(jnp.float64) for i in range(N_BASES)]
    products = {(i, j): jnp.sum(column[i] * column[j], axis=1) for i in range(N_BASES) for j in range(i + 1)}
    matrix = [[products[max(i, j), min(i, j)] for j in range(N_BASES)] for i in range(N_BASES)]
    target = data.astype(jnp.float64)
    q += jnp.stack([jnp.stack(row, axis=1) for row in matrix], axis=1)
    return q, b + jnp.stack([c @ target for c in column], axis=1)
