"""The population likelihood summed over chunks of galaxies, for data larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.population.density.likelihood import Data, Draws, Gridded, LogSelected, effective_draws, log_likelihood
from provabgs.population.density.models import Density


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
