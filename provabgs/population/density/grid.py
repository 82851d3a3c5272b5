"""Compress draws onto a fixed grid, so that the population likelihood becomes one matrix product.

A galaxy's sum ``sum_j p(theta_ij | eta) / p0(theta_ij)`` is linear in p. For a histogram the sum depends only on the
weight of the draws in each bin, so binning is exact. For smooth densities each draw's weight is divided between its two
neighbouring nodes, which amounts to linear interpolation of p. The relative error is below ``h^2 / (8 sigma^2)`` near
the peak of a component of width sigma, with h the spacing: 0.4 % for h = sigma / 6. `too_coarse` reports a grid that is
too coarse for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.population.density.histogram import HistogramDensity
from provabgs.population.density.likelihood import Draws, Gridded

DEFAULT_NODES = 384
"""Nodes of the grid in one dimension."""
COARSE = 0.5
"""Ratio of spacing to width above which a component is too narrow for the grid."""


def onto_histogram(density: HistogramDensity, chunks: Iterable[Draws]) -> Gridded:
    """Weight of every galaxy in each bin of a histogram; exact.

    Galaxies of weight 0, and those without a draw inside the edges, are left out. The result takes 4 bytes per galaxy
    and bin: 0.2 GB for 1e6 galaxies and 50 bins.

    Parameters
    ----------
    density
        Whose bins are used.
    chunks
        Draws of the galaxies.

    Returns
    -------
    Gridded
        One row per galaxy that counts.

    Raises
    ------
    InputError
        When no galaxy has a draw inside.
    """
    return _collect(density.nodes, (_scaled_rows(chunk, *_into_bins(density, chunk)) for chunk in chunks))


def onto_nodes(low: float, high: float, chunks: Iterable[Draws], n_node: int = DEFAULT_NODES) -> Gridded:
    """Draws of one property on evenly spaced nodes, each draw divided linearly between its two neighbours.

    Parameters
    ----------
    low, high
        First and last node, unit of the property; draws outside do not count.
    chunks
        Draws of the galaxies.
    n_node
        Number of nodes, at least 8.

    Returns
    -------
    Gridded
        One row per galaxy that has a draw inside.

    Raises
    ------
    InputError
        When the range is empty, or no galaxy has a draw inside.
    """
    if not (np.isfinite([low, high]).all() and low < high and n_node >= 8):
        raise InputError(f"grid from {low} to {high} with {n_node} nodes: need finite low < high and at least 8 nodes")
    step = (high - low) / (n_node - 1)
    nodes = np.linspace(low, high, n_node)[:, None]
    return _collect(nodes, (_scaled_rows(chunk, *_between_nodes(n_node, low, step, chunk)) for chunk in chunks))


@partial(jax.jit, static_argnums=0)
def _into_bins(density: HistogramDensity, draws: Draws) -> tuple[jax.Array, jax.Array]:
    cell, inside = density.bin_of(draws.theta)
    weight, scale = _scaled(jnp.where(inside, draws.log_weight, -jnp.inf))
    return _scatter([(cell, weight)], density.n_bin), scale


@partial(jax.jit, static_argnums=0)
def _between_nodes(n_node: int, low: float, step: float, draws: Draws) -> tuple[jax.Array, jax.Array]:
    place = (draws.theta[..., 0] - low) / step
    inside = (place >= 0) & (place <= n_node - 1)
    left = jnp.clip(jnp.floor(place), 0, n_node - 2).astype(jnp.int32)
    to_right = jnp.where(inside, place - left, 0.0).astype(draws.theta.dtype)
    weight, scale = _scaled(jnp.where(inside, draws.log_weight, -jnp.inf))
    return _scatter([(left, weight * (1 - to_right)), (left + 1, weight * to_right)], n_node), scale


def too_coarse(data: Gridded, sigma: ArrayLike) -> bool:
    """Whether a component is too narrow for a one-dimensional grid.

    Parameters
    ----------
    data
        On the grid.
    sigma
        Width of the component or components, unit of the property.

    Returns
    -------
    bool
        True where the grid's step exceeds `COARSE` times the smallest width.
    """
    spacing = float(data.nodes[1, 0] - data.nodes[0, 0])
    return bool(spacing > COARSE * np.min(np.asarray(sigma)))


def _scaled(log_weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weights scaled to a largest of 1 per galaxy, and ln of the scale factor; all 0 where no draw counts."""
    top = jnp.max(log_weight, axis=1)
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    return jnp.exp(log_weight - top[:, None]), top


def _scatter(parts: list[tuple[jax.Array, jax.Array]], n_cell: int) -> jax.Array:
    """Sum of weights per galaxy and cell ``(n, n_cell)``."""
    n = parts[0][0].shape[0]
    row = n_cell * jnp.arange(n, dtype=jnp.int32)[:, None]
    out = jnp.zeros(n * n_cell, dtype=parts[0][1].dtype)
    for cell, weight in parts:
        out = out.at[(row + cell).ravel()].add(weight.ravel())
    return out.reshape(n, n_cell)


GridRows = tuple[NDArray[np.float32], FloatArray, FloatArray]


def _scaled_rows(chunk: Draws, mass_of: jax.Array, scale_of: jax.Array) -> GridRows:
    """Weights at nodes, ln scales and galaxy weights of the galaxies of a chunk that count."""
    mass, scale = np.asarray(mass_of), np.asarray(scale_of)
    weight = np.asarray(chunk.weight, dtype=np.float64)
    peak = mass.max(axis=1)
    keep = (weight > 0) & (peak > 0)
    peak = peak[keep]
    return (mass[keep] / peak[:, None]).astype(np.float32), scale[keep] + np.log(peak), weight[keep]


def _collect(nodes: FloatArray, parts: Iterable[GridRows]) -> Gridded:
    pieces = list(parts)
    if not pieces or not sum(p[2].size for p in pieces):
        low, high = nodes.min(axis=0), nodes.max(axis=0)
        raise InputError(f"no galaxy has a draw between {low} and {high}; widen the range")
    mass, scale, weight = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return Gridded(jnp.asarray(nodes), jnp.asarray(mass), jnp.asarray(scale, jnp.float64), jnp.asarray(weight))
