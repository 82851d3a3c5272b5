"""The compressed model as a design matrix: what a unit of mass in each component adds to the whitened data.

For fixed dust, metallicity, burst and f_fiber the model is linear in the n masses ``M f_i`` of the linear block.
"""

from __future__ import annotations

from collections.abc import Callable

from provabgs.core.jax import jax, jnp
from provabgs.inference.compressed.merged_nodes import merged_nodes
from provabgs.inference.compressed.places import evaluate, reemission, single
from provabgs.inference.compressed.reduction import Reduction, parameters_of
from provabgs.inference.likelihood.base import NormalEquations
from provabgs.sps.model import SPSModel

COLUMNS_IN_CACHE = 256
"""Columns of the design matrices that are handled at a time on a CPU: they fill its caches."""


def make_normal_equations(model: SPSModel) -> Callable[[jax.Array, Reduction], NormalEquations]:
    """The function ``(theta (batch, size), reduction) -> NormalEquations``; total mass and fractions are ignored.

    All columns share everything but the masses on the age nodes: metallicity interpolation and dust are evaluated once.
    Columns are single precision, their products double: directions that the data leave free are 1e4 times shorter than
    those that they fix, and must not drown in rounding.

    Parameters
    ----------
    model
        The SPS model.

    Returns
    -------
    Callable
        Not compiled; large batches are cut to what a CPU's caches hold.
    """
    nodes, n_mass = merged_nodes(model), model.linear_block.n
    chunk = max(1, COLUMNS_IN_CACHE // n_mass)

    def normal_equations(theta: jax.Array, reduction: Reduction) -> NormalEquations:
        n, values = len(theta), parameters_of(model, reduction).values(theta)
        weights = nodes.component_weights(model, values, reduction.tables)
        low = single(values)
        power = reemission(model, weights, low, reduction.energy)
        q, b, constant = jnp.zeros((n, n_mass, n_mass)), jnp.zeros((n, n_mass)), jnp.zeros(())
        at_points = features = None
        if reduction.spectrum is not None:
            s = reduction.spectrum
            # the fiber holds a fraction of the galaxy; bands measure all of it
            at_points = low["f_fiber"][:, None, None] * evaluate(model, weights, low, s.places, power)
            features = s.features(at_points, values)
            q, b = accumulate(q, b, s.whitened(at_points, features), s.data)
            constant += s.constant + jnp.sum(s.data.astype(jnp.float64) ** 2)
        if reduction.photometry is not None:
            p = reduction.photometry
            bands = p.whitened(evaluate(model, weights, low, p.places, power), at_points, features)
            q, b = accumulate(q, b, bands, p.flux)
            constant += jnp.sum(p.flux.astype(jnp.float64) ** 2)
        return NormalEquations(q, b, constant)

    def in_cache(theta: jax.Array, reduction: Reduction) -> NormalEquations:
        n = len(theta)
        if n <= chunk or jax.default_backend() != "cpu":
            return normal_equations(theta, reduction)
        n_chunk = -(-n // chunk)
        padded = jnp.pad(theta, ((0, n_chunk * chunk - n), (0, 0)), mode="edge")
        out = jax.lax.map(lambda t: normal_equations(t, reduction), padded.reshape(n_chunk, chunk, -1))
        q, b = (x.reshape(n_chunk * chunk, *x.shape[2:])[:n] for x in out[:2])
        return NormalEquations(q, b, out.constant[0])

    return in_cache


def accumulate(q: jax.Array, b: jax.Array, columns: jax.Array, data: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Add the products of a design matrix: sums written out beat a batch of tiny matrices.

    Parameters
    ----------
    q, b
        ``(batch, n, n)`` and ``(batch, n)`` so far.
    columns
        ``(batch, n, nrow)``.
    data
        ``(nrow,)``.

    Returns
    -------
    q, b
        With the products added; float64.
    """
    n = columns.shape[1]
    column = [columns[:, i].astype(jnp.float64) for i in range(n)]
    products = {(i, j): jnp.sum(column[i] * column[j], axis=1) for i in range(n) for j in range(i + 1)}
    matrix = [[products[max(i, j), min(i, j)] for j in range(n)] for i in range(n)]
    target = data.astype(jnp.float64)
    q += jnp.stack([jnp.stack(row, axis=1) for row in matrix], axis=1)
    return q, b + jnp.stack([c @ target for c in column], axis=1)
