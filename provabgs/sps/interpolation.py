"""Linear interpolation as a matrix of weights: the form in which a model linear in a grid stays linear."""

from __future__ import annotations

from numpy.typing import ArrayLike

from provabgs.core.jax import jax, jnp


def hat_weights(x: ArrayLike, nodes: ArrayLike) -> jax.Array:
    """Weights of linear interpolation at `x` on increasing `nodes`, clamped at both ends.

    Parameters
    ----------
    x
        ``(...)`` positions.
    nodes
        ``(n,)`` nodes, increasing, the unit of `x`.

    Returns
    -------
    jax.Array
        ``(..., n)`` non-negative weights that sum to 1, at most two of them non-zero.
    """
    x = jnp.asarray(x)
    grid = jnp.asarray(nodes, dtype=x.dtype)
    rising = (jnp.clip(x, grid[0], grid[-1])[..., None] - grid[:-1]) / jnp.diff(grid)
    step = jnp.clip(rising, 0.0, 1.0)
    pad = [(0, 0)] * x.ndim
    return jnp.pad(step, [*pad, (1, 0)], constant_values=1.0) - jnp.pad(step, [*pad, (0, 1)])
