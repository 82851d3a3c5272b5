"""The flexible density: a histogram whose log weights follow a smoothness prior, in one or two dimensions.

Weights are ``softmax(f)``; f is a Gaussian Markov field on the grid of bins: neighbours differ by N(0, tau^2), and tau
itself is inferred (ln tau ~ N(ln 0.5, 0.7^2)). Bins without data are interpolated from their neighbours, with errors
that grow with distance; bins with many galaxies are hardly affected. The mean of f, which cancels in softmax, is
N(0, 1).

The coordinates are the amplitudes of f along the eigenvectors of the grid's Laplacian, in units of their prior sigma
given tau: standard normal for every tau. In (f, tau) the prior is a funnel with its highest density at tau = 0, where
all bins are equal; a search for the mode would end there, and chains started there would not leave.

The likelihood needs only the weight of each galaxy's draws in each bin:
`provabgs.population.density.grid.onto_histogram` computes the weights once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp

LN_TAU_PRIOR = (float(np.log(0.5)), 0.7)
"""Mean and sigma of ln tau, tau the typical difference of ln density between neighbouring bins."""


@dataclass(frozen=True)
class HistogramDensity:
    """Piecewise constant density.

    eta = (ln tau, u), ``f = V (a u)`` per bin in C order: V the eigenvectors, a = 1 for the level and
    tau / sqrt(lambda) for the rest; see the module's text.

    Attributes
    ----------
    edges
        Per property the edges of its bins, ascending. The population is taken to lie inside.
    """

    edges: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if len(self.edges) not in (1, 2):
            raise InputError(f"a histogram of {len(self.edges)} properties; one or two are possible")
        for e in self.edges:
            if len(e) < 3 or not np.all(np.isfinite(e)) or not np.all(np.diff(e) > 0):
                raise InputError(f"histogram edges must be finite, ascending and at least 3, got {e}")

    @classmethod
    def uniform(cls, low: ArrayLike, high: ArrayLike, n_bin: ArrayLike) -> HistogramDensity:
        """Histogram of evenly spaced bins.

        Parameters
        ----------
        low, high
            Number, or ``(ndim,)``: outer edges, unit of each property.
        n_bin
            Number, or ``(ndim,)``: bins per property.

        Returns
        -------
        HistogramDensity
            Of the dimension that the arguments broadcast to.
        """
        lo, hi, n = np.broadcast_arrays(np.atleast_1d(low), np.atleast_1d(high), np.atleast_1d(n_bin))
        return cls(tuple(tuple(np.linspace(a, b, int(k) + 1).tolist()) for a, b, k in zip(lo, hi, n, strict=True)))

    @property
    def ndim(self) -> int:
        """Number of properties."""
        return len(self.edges)

    @property
    def shape(self) -> tuple[int, ...]:
        """Bins per property."""
        return tuple(len(e) - 1 for e in self.edges)

    @property
    def n_bin(self) -> int:
        """Bins in all."""
        return int(np.prod(self.shape))

    @property
    def n_eta(self) -> int:
        """One per bin (eigenvector), and ln tau."""
        return 1 + self.n_bin

    @cached_property
    def log_volume(self) -> FloatArray:
        """``(n_bin,)`` ln of the bins' widths (areas)."""
        widths = [np.log(np.diff(e)) for e in self.edges]
        total = widths[0] if self.ndim == 1 else widths[0][:, None] + widths[1][None, :]
        return total.ravel()

    @cached_property
    def _modes(self) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues and eigenvectors of the grid's graph Laplacian; the first is the level of f."""
        chains = []
        for n in self.shape:
            step = np.diff(np.eye(n), axis=0)
            chains.append(step.T @ step)
        if self.ndim == 1:
            laplacian = chains[0]
        else:
            laplacian = np.kron(chains[0], np.eye(self.shape[1])) + np.kron(np.eye(self.shape[0]), chains[1])
        values, vectors = np.linalg.eigh(laplacian)
        return values, vectors

    def log_prob(self, eta: jax.Array, theta: jax.Array) -> jax.Array:
        """Ln p(theta | eta), see `Density.log_prob`; -inf outside the edges.

        Parameters
        ----------
        eta
            ``(n_eta,)`` parameters of the density.
        theta
            ``(..., ndim)`` properties.

        Returns
        -------
        jax.Array
            ``(...)``.
        """
        cell, inside = self.bin_of(theta)
        return jnp.where(inside, self.log_density(eta).astype(theta.dtype)[cell], -jnp.inf)

    def field(self, eta: jax.Array) -> jax.Array:
        """``(n_bin,)`` f, see the module's text."""
        values, vectors = self._modes
        amplitude = jnp.exp(eta[0]) / jnp.sqrt(jnp.asarray(values[1:]))
        return jnp.asarray(vectors) @ (eta[1:] * jnp.concatenate([jnp.ones(1), amplitude]))

    def log_density(self, eta: jax.Array) -> jax.Array:
        """``(n_bin,)`` ln density in each bin."""
        return jax.nn.log_softmax(self.field(eta)) - jnp.asarray(self.log_volume)

    def bin_of(self, theta: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Flat index of the bin of ``theta (..., d)`` and whether it is inside; outside the index is of no meaning."""
        index = jnp.zeros(theta.shape[:-1], dtype=jnp.int32)
        inside = jnp.ones(theta.shape[:-1], dtype=bool)
        for k, e in enumerate(self.edges):
            edges = jnp.asarray(e, dtype=theta.dtype)
            value = theta[..., k]
            # compare_all: for a few dozen edges, comparing with all of them is faster than a binary search
            at = jnp.searchsorted(edges, value, side="right", method="compare_all").astype(jnp.int32) - 1
            inside &= (value >= edges[0]) & (value < edges[-1])
            index = index * (len(e) - 1) + jnp.clip(at, 0, len(e) - 2)
        return index, inside

    @property
    def nodes(self) -> FloatArray:
        """``(n_bin, d)`` centres of the bins."""
        centres = [0.5 * (np.asarray(e)[1:] + np.asarray(e)[:-1]) for e in self.edges]
        return np.stack([c.ravel() for c in np.meshgrid(*centres, indexing="ij")], axis=1)

    def log_prior(self, eta: jax.Array) -> jax.Array:
        """Ln prior, see `Density.log_prior`."""
        return -0.5 * ((eta[0] - LN_TAU_PRIOR[0]) / LN_TAU_PRIOR[1]) ** 2 - 0.5 * jnp.sum(eta[1:] ** 2)

    def transform(self, eta: jax.Array) -> dict[str, jax.Array]:
        """``density`` of the shape of the grid (per unit of the properties) and the smoothness ``tau``."""
        return {"tau": jnp.exp(eta[0]), "density": jnp.exp(self.log_density(eta)).reshape(self.shape)}

    def sample_prior(self, rng: np.random.Generator) -> FloatArray:
        """One draw of eta from the prior."""
        ln_tau = LN_TAU_PRIOR[0] + LN_TAU_PRIOR[1] * rng.standard_normal()
        return np.concatenate([[ln_tau], rng.standard_normal(self.n_bin)])

    def sample(self, eta: ArrayLike, rng: np.random.Generator, n: int) -> FloatArray:
        """Galaxies drawn from the population.

        Parameters
        ----------
        eta
            ``(n_eta,)`` parameters of the density.
        rng
            Random generator.
        n
            Number of galaxies.

        Returns
        -------
        FloatArray
            ``(n, ndim)``.
        """
        weight = np.exp(np.asarray(self.log_density(jnp.asarray(eta))) + self.log_volume)
        cell = np.unravel_index(rng.choice(self.n_bin, n, p=weight / weight.sum()), self.shape)
        out = np.empty((n, self.ndim))
        for k, e in enumerate(self.edges):
            edges = np.asarray(e)
            out[:, k] = edges[cell[k]] + rng.uniform(size=n) * np.diff(edges)[cell[k]]
        return out
