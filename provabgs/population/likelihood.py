"""The population likelihood, from draws in memory, streamed in chunks, or compressed onto a grid.

With draws theta_ij of galaxy i made under the inference prior p0 (Hogg, Myers & Bovy 2010; Hahn et al. 2023,
arXiv:2202.01809, equation 10), weights w_i and the fraction alpha(eta) of the population that the survey selects::

    ln L(eta) = sum_i w_i [ ln 1/S_i sum_j p(theta_ij | eta) / p0(theta_ij)  -  ln alpha(eta) ]

Everything here takes p0 as part of the draws: ``log_weight = -ln(S_i p0(theta_ij))``. That the sums are over finitely
many draws is allowed for in two ways: their mean bias is taken out here, their noise widens the result (`noise`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.population.densities import Density

LogSelected = Callable[[jax.Array], jax.Array]
"""ln alpha(eta): the log of the fraction of the population that the survey would have selected; traceable by JAX."""


class Draws(NamedTuple):
    """Weighted posterior draws of some galaxies; a pytree. Their dtype is the precision of the computation."""

    theta: jax.Array
    """``(n, S, d)``, finite."""
    log_weight: jax.Array
    """``(n, S)`` -ln(S_i p0(theta_ij)); -inf for draws that do not count."""
    weight: jax.Array
    """``(n,)`` weights of the galaxies, 0 for rows that only fill up a chunk."""


class Gridded(NamedTuple):
    """Draws compressed onto nodes: one matrix product replaces all exponentials. Exact for a `HistogramDensity`."""

    nodes: jax.Array
    """``(m, d)``."""
    share: jax.Array
    """``(n, m)`` each galaxy's weighted draws shared out among the nodes, scaled to a largest entry of 1."""
    log_scale: jax.Array
    """``(n,)`` ln of the factor taken out."""
    weight: jax.Array
    """``(n,)`` weights of the galaxies."""


Data = Draws | Gridded


def log_sum(density: Density, eta: jax.Array, data: Data) -> jax.Array:
    """Ln of each galaxy's sum ``(n,)``, in double precision: ln 1/S_i sum_j p(theta_ij | eta) / p0(theta_ij)."""
    if isinstance(data, Gridded):
        log_p = density.log_prob(eta, data.nodes)
        top = jnp.max(log_p)
        total = data.share @ jnp.exp(log_p - top).astype(data.share.dtype)
        # a galaxy where the population has nothing: as unlikely as single precision can say
        return jnp.log(jnp.maximum(total, 1e-37)).astype(jnp.float64) + top + data.log_scale
    return jax.scipy.special.logsumexp(density.log_prob(eta, data.theta) + data.log_weight, axis=1).astype(jnp.float64)


def sum_bias(density: Density, eta: jax.Array, draws: Draws) -> jax.Array:
    """By how much `log_sum` lies too low on average ``(n,)``, to first order: 1/2 (1/n_effective - 1/S_i).

    The logarithm of a noisy mean lies below that of the true one by half its relative variance: the more, the fewer
    draws a population leaves effective, so that narrow populations would be disfavoured. (A grid has forgotten what
    this takes.)
    """
    log_u = density.log_prob(eta, draws.theta) + draws.log_weight
    some = jnp.any(jnp.isfinite(log_u), axis=1)
    log_u = jnp.where(some[:, None], log_u, 0.0)  # a galaxy that is out of reach keeps its -inf, and adds no NaN
    share = jax.nn.softmax(log_u, axis=1).astype(jnp.float64)
    n_draw = jnp.maximum(jnp.sum(jnp.isfinite(draws.log_weight), axis=1), 1)
    return jnp.where(some, 0.5 * (jnp.sum(share**2, axis=1) - 1 / n_draw), 0.0)


def log_likelihood(density: Density, eta: jax.Array, data: Data, selection: LogSelected | None = None) -> jax.Array:
    """Ln L(eta), a scalar. Rows of weight 0 do not count, whatever they hold."""
    each = log_sum(density, eta, data)
    if isinstance(data, Draws):
        each = each + sum_bias(density, eta, data)
    total = jnp.sum(jnp.where(data.weight > 0, data.weight * each, 0.0))
    return total if selection is None else total - jnp.sum(data.weight) * selection(eta)


@dataclass(frozen=True, eq=False)
class Efficiency:
    """LogSelected by a known efficiency on a grid: ``alpha(eta) = sum_k f_k p(theta_k | eta) dV_k``.

    Attributes
    ----------
    density
        Family of populations.
    points
        ``(m, d)`` centres of cells that cover the population.
    log_measure
        ``(m,)`` ln of efficiency times volume of each cell; -inf where nothing is selected.
    """

    density: Density
    points: jax.Array
    log_measure: jax.Array

    def __call__(self, eta: jax.Array) -> jax.Array:
        """Ln alpha(eta)."""
        return jax.scipy.special.logsumexp(self.density.log_prob(eta, self.points) + self.log_measure)


@partial(jax.jit, static_argnums=0)
def _values(density: Density, etas: jax.Array, data: Data) -> jax.Array:
    # draws one eta at a time: a batch would multiply the memory of a chunk; on a grid a batch is one matrix product
    batch = 32 if isinstance(data, Gridded) else None
    return jax.lax.map(lambda eta: log_likelihood(density, eta, data), etas, batch_size=batch)


@partial(jax.jit, static_argnums=0)
def _value_and_grad(density: Density, eta: jax.Array, data: Data) -> tuple[jax.Array, jax.Array]:
    return jax.value_and_grad(lambda e: log_likelihood(density, e, data))(eta)


@partial(jax.jit, static_argnums=0)
def _hessian(density: Density, eta: jax.Array, data: Data) -> jax.Array:
    gradient = jax.grad(lambda e: log_likelihood(density, e, data))
    # one column at a time, for the same reason
    return jax.lax.map(lambda v: jax.jvp(gradient, (eta,), (v,))[1], jnp.eye(eta.size, dtype=eta.dtype))


@dataclass(frozen=True)
class StreamedLikelihood:
    """The likelihood summed over chunks that come and go: memory stays that of one chunk, whatever the catalog's size.

    Attributes
    ----------
    density
        Family of populations.
    chunks
        Called for every pass over the data; chunks of equal shapes are compiled for once.
    selection
        ln alpha(eta), or None.
    counted
        Draws by which effective draws are counted, where `chunks` are gridded or a part of the galaxies is enough.
    """

    density: Density
    chunks: Callable[[], Iterable[Data]]
    selection: LogSelected | None = None
    counted: Callable[[], Iterable[Draws]] | None = None

    def pilot(self) -> Data:
        """The first chunk."""
        return next(iter(self.chunks()))

    def values(self, etas: FloatArray) -> FloatArray:
        """Ln L of ``etas (m, n_eta)`` in one pass, ``(m,)``."""
        x = jnp.asarray(etas)
        total, weight = np.zeros(len(etas)), 0.0
        for chunk in self.chunks():
            total += np.asarray(_values(self.density, x, chunk))
            weight += float(jnp.sum(chunk.weight))
        return total - weight * np.asarray(jax.vmap(self.selection)(x)) if self.selection else total

    def value_and_grad(self, eta: FloatArray) -> tuple[float, FloatArray]:
        """Ln L and its gradient ``(n_eta,)`` in one pass."""
        x = jnp.asarray(eta)
        parts = ((*_value_and_grad(self.density, x, c), jnp.sum(c.weight)) for c in self.chunks())
        value, gradient, weight = _sum(parts)
        if self.selection is not None:
            a, da = jax.value_and_grad(self.selection)(x)
            value, gradient = value - weight * a, gradient - weight * da
        return float(value), np.asarray(gradient)

    def hessian(self, eta: FloatArray) -> FloatArray:
        """Second derivatives ``(n_eta, n_eta)`` in one pass."""
        x = jnp.asarray(eta)
        hessian, weight = _sum((_hessian(self.density, x, c), jnp.sum(c.weight)) for c in self.chunks())
        if self.selection is not None:
            hessian = hessian - weight * jax.hessian(self.selection)(x)
        return np.asarray(hessian)

    def effective_draws(self, eta: FloatArray) -> FloatArray:
        """Effective number of draws of every galaxy at eta, in one pass; see `effective_draws`."""
        x = jnp.asarray(eta)
        chunks = self.chunks() if self.counted is None else self.counted()
        return np.concatenate([effective_draws(self.density, x, c)[np.asarray(c.weight) > 0] for c in chunks])


def effective_draws(density: Density, eta: jax.Array, data: Data) -> FloatArray:
    """Kish's effective number of draws behind each galaxy's sum, ``(n,)``: ``(sum_j u_j)^2 / sum_j u_j^2``.

    u_j is ``p(theta_ij | eta) / p0(theta_ij)``. For `Gridded` data, which have forgotten their draws, NaN.
    """
    if isinstance(data, Gridded):
        return np.full(data.weight.shape[0], np.nan)
    return np.asarray(_effective(density, jnp.asarray(eta), data), dtype=np.float64)


@partial(jax.jit, static_argnums=0)
def _effective(density: Density, eta: jax.Array, data: Draws) -> jax.Array:
    log_u = density.log_prob(eta, data.theta) + data.log_weight
    top = jnp.max(log_u, axis=1, keepdims=True)
    u = jnp.exp(log_u - jnp.where(jnp.isfinite(top), top, 0.0))
    return jnp.sum(u, axis=1) ** 2 / jnp.maximum(jnp.sum(u * u, axis=1), 1e-30)


def pad(draws: Draws, n: int) -> Draws:
    """Fill a chunk up to `n` galaxies with copies of its last row at weight 0, so that all chunks have one shape."""
    missing = n - draws.weight.shape[0]
    if missing <= 0:
        return draws
    theta, log_weight = (
        np.concatenate([np.asarray(a), np.repeat(np.asarray(a[-1:]), missing, axis=0)])
        for a in (draws.theta, draws.log_weight)
    )
    weight = np.concatenate([np.asarray(draws.weight), np.zeros(missing)])
    return Draws(jnp.asarray(theta), jnp.asarray(log_weight), jnp.asarray(weight))


def in_chunks(draws: Draws, n: int) -> Iterator[Draws]:
    """Slices of `n` galaxies, the last one filled up."""
    for start in range(0, draws.weight.shape[0], n):
        yield pad(Draws(*(a[start : start + n] for a in draws)), n)


def gridded_chunks(data: Gridded, n: int) -> Iterator[Gridded]:
    """Slices of `n` galaxies of gridded data, the last one filled up with rows of weight 0."""
    total = data.weight.shape[0]
    for start in range(0, total, n):
        rows = slice(start, start + n)
        missing = max(start + n - total, 0) if total > n else 0
        yield Gridded(
            data.nodes,
            jnp.pad(data.share[rows], ((0, missing), (0, 0)), constant_values=1.0),
            jnp.pad(data.log_scale[rows], (0, missing)),
            jnp.pad(data.weight[rows], (0, missing)),
        )


def _sum(parts: Iterable[tuple[jax.Array, ...]]) -> list[jax.Array]:
    total: list[jax.Array] | None = None
    for part in parts:
        total = list(part) if total is None else [a + b for a, b in zip(total, part, strict=True)]
        jax.block_until_ready(total)  # or chunks pile up, waiting for their turn
    assert total is not None, "no chunks"
    return total
