"""The population likelihood, from draws in memory, streamed in chunks, or compressed onto a grid.

With draws theta_ij of galaxy i made under the inference prior p0 (Hogg, Myers & Bovy 2010; Hahn et al. 2023,
arXiv:2202.01809, equation 10), weights w_i and the fraction alpha(eta) of the population that the survey selects::

    ln L(eta) = sum_i w_i [ ln 1/S_i sum_j p(theta_ij | eta) / p0(theta_ij)  -  ln alpha(eta) ]

p0 is stored with the draws: ``log_weight = -ln(S_i p0(theta_ij))``. A sum over finitely many draws is biased and noisy.
The bias is removed here (`sum_bias`); the noise widens the posterior (`provabgs.population.density.sampling_noise`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.core.weights import effective_sample_size
from provabgs.population.density.models import Density

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
    mass: jax.Array
    """``(n, m)`` weight of each galaxy's draws at each node, scaled to a largest entry of 1."""
    log_scale: jax.Array
    """``(n,)`` ln of the scale factor that `mass` was divided by."""
    weight: jax.Array
    """``(n,)`` weights of the galaxies."""


Data = Draws | Gridded


def log_sum(density: Density, eta: jax.Array, data: Data) -> jax.Array:
    """Ln of each galaxy's sum, ln 1/S_i sum_j p(theta_ij | eta) / p0(theta_ij).

    Parameters
    ----------
    density
        Family of populations.
    eta
        ``(n_eta,)``.
    data
        Draws of n galaxies.

    Returns
    -------
    jax.Array
        ``(n,)``, double precision.
    """
    if isinstance(data, Gridded):
        log_p = density.log_prob(eta, data.nodes)
        top = jnp.max(log_p)
        total = data.mass @ jnp.exp(log_p - top).astype(data.mass.dtype)
        # single precision underflows for a galaxy that the population does not reach: take the smallest normal number
        return jnp.log(jnp.maximum(total, 1e-37)).astype(jnp.float64) + top + data.log_scale
    return jax.scipy.special.logsumexp(density.log_prob(eta, data.theta) + data.log_weight, axis=1).astype(jnp.float64)


def sum_bias(density: Density, eta: jax.Array, draws: Draws) -> jax.Array:
    """Bias of `log_sum` to first order, 1/2 (1/n_effective - 1/S_i); add it to `log_sum`.

    The expected logarithm of a noisy mean is below the logarithm of the mean by half the relative variance. The bias
    grows as fewer draws are effective, so narrow populations would be disfavoured without the correction. Not
    available for gridded draws: it needs the individual draws.

    Parameters
    ----------
    density
        Family of populations.
    eta
        ``(n_eta,)``.
    draws
        Of n galaxies.

    Returns
    -------
    jax.Array
        ``(n,)``, double precision; 0 for galaxies that the population does not reach.
    """
    log_u = density.log_prob(eta, draws.theta) + draws.log_weight
    some = jnp.any(jnp.isfinite(log_u), axis=1)
    log_u = jnp.where(some[:, None], log_u, 0.0)  # softmax of -inf alone would be NaN
    member = jax.nn.softmax(log_u, axis=1).astype(jnp.float64)
    n_draw = jnp.maximum(jnp.sum(jnp.isfinite(draws.log_weight), axis=1), 1)
    return jnp.where(some, 0.5 * (jnp.sum(member**2, axis=1) - 1 / n_draw), 0.0)


def log_likelihood(density: Density, eta: jax.Array, data: Data, selection: LogSelected | None = None) -> jax.Array:
    """Ln L(eta).

    Parameters
    ----------
    density
        Family of populations.
    eta
        ``(n_eta,)``.
    data
        Draws of the galaxies; rows of weight 0 do not count, whatever they hold.
    selection
        ln alpha(eta); None where everything is selected.

    Returns
    -------
    jax.Array
        Scalar, double precision.
    """
    each = log_sum(density, eta, data)
    if isinstance(data, Draws):
        each = each + sum_bias(density, eta, data)
    total = jnp.sum(jnp.where(data.weight > 0, data.weight * each, 0.0))
    return total if selection is None else total - jnp.sum(data.weight) * selection(eta)


@dataclass(frozen=True, eq=False)
class Efficiency:
    """ln alpha(eta) for a known efficiency on a grid: ``alpha(eta) = sum_k f_k p(theta_k | eta) dV_k``.

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
    """The likelihood summed over chunks of galaxies, one in memory at a time.

    Attributes
    ----------
    density
        Family of populations.
    chunks
        Called for every pass over the data; chunks of equal shapes share one compilation.
    selection
        ln alpha(eta), or None.
    counted
        Draws for `effective_draws`, where `chunks` are gridded or a part of the galaxies is enough.
    """

    density: Density
    chunks: Callable[[], Iterable[Data]]
    selection: LogSelected | None = None
    counted: Callable[[], Iterable[Draws]] | None = None

    def first_part(self) -> Data:
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
    """Kish's effective number of draws in each galaxy's sum, for terms ``p(theta_ij | eta) / p0(theta_ij)``.

    Parameters
    ----------
    density
        Family of populations.
    eta
        ``(n_eta,)``.
    data
        Draws of n galaxies.

    Returns
    -------
    numpy.ndarray
        ``(n,)``; 0 for galaxies that the population does not reach, NaN for `Gridded` data (individual draws are
        needed).
    """
    if isinstance(data, Gridded):
        return np.full(data.weight.shape[0], np.nan)
    log_u = np.asarray(_log_terms(density, jnp.asarray(eta), data), dtype=np.float64)
    return np.where(np.isfinite(log_u).any(axis=1), effective_sample_size(log_u), 0.0)


@partial(jax.jit, static_argnums=0)
def _log_terms(density: Density, eta: jax.Array, data: Draws) -> jax.Array:
    return density.log_prob(eta, data.theta) + data.log_weight


def pad(draws: Draws, n: int) -> Draws:
    """Fill a chunk with copies of its last row at weight 0, so that all chunks have one shape.

    Parameters
    ----------
    draws
        Of at most n galaxies.
    n
        Galaxies wanted.

    Returns
    -------
    Draws
        Of n galaxies; `draws` itself where none is missing.
    """
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
    """Slices of the galaxies, the last one filled up by `pad`.

    Parameters
    ----------
    draws
        Of any number of galaxies.
    n
        Galaxies per slice.

    Yields
    ------
    Draws
        Of n galaxies each.
    """
    for start in range(0, draws.weight.shape[0], n):
        yield pad(Draws(*(a[start : start + n] for a in draws)), n)


def gridded_chunks(data: Gridded, n: int) -> Iterator[Gridded]:
    """Slices of gridded galaxies, the last one filled up with rows of weight 0.

    Parameters
    ----------
    data
        Of any number of galaxies.
    n
        Galaxies per slice.

    Yields
    ------
    Gridded
        Of n galaxies each; fewer where there are fewer in all.
    """
    total = data.weight.shape[0]
    for start in range(0, total, n):
        rows = slice(start, start + n)
        missing = max(start + n - total, 0) if total > n else 0
        yield Gridded(
            data.nodes,
            jnp.pad(data.mass[rows], ((0, missing), (0, 0)), constant_values=1.0),
            jnp.pad(data.log_scale[rows], (0, missing)),
            jnp.pad(data.weight[rows], (0, missing)),
        )


def _sum(parts: Iterable[tuple[jax.Array, ...]]) -> list[jax.Array]:
    total: list[jax.Array] | None = None
    for part in parts:
        total = list(part) if total is None else [a + b for a, b in zip(total, part, strict=True)]
        jax.block_until_ready(total)  # without it JAX queues all chunks, in memory
    assert total is not None, "no chunks"
    return total
