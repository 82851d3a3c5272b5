"""Masses of galaxies with low signal-to-noise ratio, whose total mass is limited by the edges of its prior alone.

Where the amplitude is a few sigmas, likelihood times prior reaches from the lower edge of the mass far along the corner
of the positive orthant, where the prior ``M^-n`` grows without end: no Gaussian describes that, and draws of
`truncated_gaussian` get weights of any size (1 effective in 10,000, measured). Here the fractions of the n masses are
drawn from their prior, a flat Dirichlet, and the total mass from its exact conditional given the fractions, on a grid
of ln M. This is efficient as long as the data say little about the fractions, which is where it is used.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import qmc

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp

LOW_SNR = 9.0
"""Largest amplitude, in sigmas, that counts as low (docs/studies/sampler.md has efficiencies on both sides)."""
N_GRID = 64
"""Nodes in ln M: a fifth of an e-fold apart for the default prior, as wide as the likelihood of five sigmas."""
N_FIXED = 16
"""Fixed fractions that the evidence is averaged over."""


def amplitude(q: FloatArray, b: FloatArray) -> float:
    """Signal-to-noise ratio of the best single component, ``max b_i / sqrt(Q_ii)``.

    Parameters
    ----------
    q
        ``(batch, n, n)`` precision of the masses.
    b
        ``(batch, n)`` linear term of ln L.

    Returns
    -------
    float
        Over the whole batch; 0 where none is positive and finite.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = b / np.sqrt(np.diagonal(q, axis1=1, axis2=2))
    return float(np.max(ratio, initial=0.0, where=np.isfinite(ratio)))


def log_evidence(q: jax.Array, b: jax.Array, log_range: jax.Array) -> jax.Array:
    """Log of the integral of ``exp(-a^T Q a / 2 + b^T a) M^-n`` over positive masses with M within bounds.

    Parameters
    ----------
    q, b
        ``(batch, n, n)`` and ``(batch, n)``.
    log_range
        ``(2,)`` bounds of the natural logarithm of the total mass.

    Returns
    -------
    jax.Array
        ``(batch,)``; averaged over `N_FIXED` fixed fractions, so approximate, but smooth.
    """
    n = b.shape[-1]
    fractions = jnp.asarray(_fixed_fractions(n))
    steepness = jnp.einsum("si,bij,sj->bs", fractions, q, fractions)
    grid, log_like = _along_mass(steepness, b @ fractions.T, log_range)
    log_integral = jax.scipy.special.logsumexp(log_like, axis=2, b=_trapezoid(grid))
    return jax.scipy.special.logsumexp(log_integral, axis=1) - math.log(N_FIXED) - math.lgamma(n)


def sample_masses(q: jax.Array, b: jax.Array, log_range: jax.Array, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws of the masses, with log importance weights as of `truncated_gaussian.sample_orthant`.

    Parameters
    ----------
    q, b, log_range
        As above.
    uniform
        ``(batch, ndraw, n)`` uniforms in (0, 1).

    Returns
    -------
    x
        ``(batch, ndraw, n)`` masses.
    log_weight
        ``(batch, ndraw)`` log of ``exp(-x^T Q x / 2 + b^T x) / proposal(x)``.
    """
    n = b.shape[-1]
    fractions = fractions_of(uniform[..., : n - 1])
    steepness = jnp.einsum("bsi,bij,bsj->bs", fractions, q, fractions)
    slope = jnp.einsum("bsi,bi->bs", fractions, b)
    grid, log_like = _along_mass(steepness, slope, log_range)
    log_mass, log_density = _draw_on_grid(grid, log_like, uniform[..., n - 1])
    mass = jnp.exp(log_mass)
    # density of the masses: (n - 1)! on the simplex, da = M^n dlnM df
    log_proposal = math.lgamma(n) + log_density - n * log_mass
    return fractions * mass[..., None], -0.5 * steepness * mass**2 + slope * mass - log_proposal


def fractions_of(uniform: jax.Array) -> jax.Array:
    """Flat Dirichlet ``(..., n)`` of uniforms ``(..., n - 1)``: the gaps between them in order."""
    edges = jnp.sort(uniform, axis=-1)
    ends = (*edges.shape[:-1], 1)  # not a slice of the edges: of a single mass there are none
    zero, one = jnp.zeros(ends, edges.dtype), jnp.ones(ends, edges.dtype)
    return jnp.diff(jnp.concatenate([zero, edges, one], axis=-1), axis=-1)


def _fixed_fractions(n: int) -> FloatArray:
    """``(N_FIXED, n)`` evenly spread over the simplex."""
    if n == 1:
        return np.ones((N_FIXED, 1))
    points = qmc.Sobol(n - 1, scramble=True, rng=np.random.default_rng(0)).random(N_FIXED)
    return np.diff(np.sort(points, axis=1), axis=1, prepend=0.0, append=1.0)


def _along_mass(steepness: jax.Array, slope: jax.Array, log_range: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Nodes ``(N_GRID,)`` in ln M, and ln likelihood ``(batch, nfraction, N_GRID)`` there."""
    grid = jnp.linspace(log_range[0], log_range[1], N_GRID)
    mass = jnp.exp(grid)
    return grid, -0.5 * steepness[..., None] * mass**2 + slope[..., None] * mass


def _trapezoid(grid: jax.Array) -> jax.Array:
    """Weights ``(N_GRID,)`` of the trapezoidal rule."""
    return jnp.full(N_GRID, grid[1] - grid[0]).at[jnp.array([0, N_GRID - 1])].mul(0.5)


def _draw_on_grid(grid: jax.Array, log_like: jax.Array, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draw ``(batch, nfraction)`` from the piecewise linear density through the nodes, and its log density.

    A node by its trapezoidal weight, then a triangular step as wide as the spacing, folded back at the ends: the sum of
    these triangles is the linear interpolation.
    """
    step = grid[1] - grid[0]
    peak = jnp.max(log_like, axis=-1, keepdims=True)
    height = jnp.exp(log_like - peak)
    below = jnp.cumsum(height * _trapezoid(grid), axis=-1)
    total = below[..., -1]
    wanted = uniform * total
    node = jnp.minimum(jnp.sum(below <= wanted[..., None], axis=-1), N_GRID - 1)
    upto = jnp.take_along_axis(below, node[..., None], axis=-1)[..., 0]
    own = jnp.take_along_axis(height * _trapezoid(grid), node[..., None], axis=-1)[..., 0]
    # what is left of the uniform within the node is uniform again
    rest = jnp.clip((wanted - (upto - own)) / own, 0.0, 1.0)
    triangle = jnp.where(rest < 0.5, jnp.sqrt(2 * rest) - 1, 1 - jnp.sqrt(2 * (1 - rest)))
    position = node + triangle
    position = jnp.clip(jnp.where(position < 0, -position, position), 0.0, None)
    position = jnp.where(position > N_GRID - 1, 2 * (N_GRID - 1) - position, position)
    left = jnp.clip(jnp.floor(position).astype(int), 0, N_GRID - 2)
    low = jnp.take_along_axis(height, left[..., None], axis=-1)[..., 0]
    high = jnp.take_along_axis(height, left[..., None] + 1, axis=-1)[..., 0]
    fraction = position - left
    density = (low + fraction * (high - low)) / total
    return grid[0] + step * position, jnp.log(density)
