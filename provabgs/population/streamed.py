"""Posteriors of a population's parameters from data too large to pass over often: importance sampling about the mode.

Where one pass over the data takes seconds (1e6 galaxies x 256 draws), the posterior is as good as Gaussian: a
multivariate t about the mode is corrected by exact importance weights, a few passes for all draws together, and the
tail of the weights says whether that was allowed (Pareto k, Vehtari et al. 2024).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.inference.diagnostics import Convergence
from provabgs.population.densities import Density
from provabgs.population.likelihood import Data, Draws
from provabgs.population.mode import climb, find_mode, negative_hessian, on_host, whitening
from provabgs.population.noise import can_widen, gradient_noise, widened
from provabgs.population.posterior import PopulationPosterior, judge
from provabgs.population.sampling import SamplingOptions

T_DOF = 8
"""Degrees of freedom of the t distribution that importance samples come from."""


class Streamed(Protocol):
    """What `sample_streamed` needs: `StreamedLikelihood`, or one spread over a cluster."""

    @property
    def density(self) -> Density:
        """Family of populations."""
        ...

    def pilot(self) -> Data:
        """A part of the data, small enough to search for the mode in."""
        ...

    def values(self, etas: FloatArray) -> FloatArray:
        """Ln L of each row."""
        ...

    def value_and_grad(self, eta: FloatArray) -> tuple[float, FloatArray]:
        """Ln L and gradient."""
        ...

    def hessian(self, eta: FloatArray) -> FloatArray:
        """Second derivatives."""
        ...

    def effective_draws(self, eta: FloatArray) -> FloatArray:
        """Per galaxy."""
        ...


def sample_streamed(
    likelihood: Streamed,
    rng: np.random.Generator,
    *,
    options: SamplingOptions | None = None,
    draws: Iterable[Draws] | None = None,
    total_weight: float | None = None,
    meta: dict[str, Any] | None = None,
) -> PopulationPosterior:
    """Posterior of eta by importance sampling about its mode: a dozen passes over the data, most to find the mode.

    The mode of a part of the data is found first, and its curvature makes the search over all of them short.

    Parameters
    ----------
    likelihood
        Sums over the data.
    rng
        Source of randomness.
    options
        Number of samples.
    draws
        All galaxies' draws or those of some, by which the noise of finite draws is measured and the posterior widened
        (`provabgs.population.noise`); None leaves it as it is.
    total_weight
        Weight of all galaxies, where `draws` are of some.
    meta
        Kept with the result.
    """
    options = options or SamplingOptions()
    density = likelihood.density
    pilot = likelihood.pilot()
    start = find_mode(density, on_host(density, None, pilot), rng, options.n_start)
    factor = whitening(np.asarray(negative_hessian(density, None, jnp.asarray(start), pilot)))
    prior = jax.jit(jax.value_and_grad(density.log_prior))

    def value_and_grad(eta: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = likelihood.value_and_grad(eta)
        p, dp = prior(jnp.asarray(eta))
        return value + float(p), gradient + np.asarray(dp)

    mode = climb(value_and_grad, start, factor)
    curvature = -likelihood.hessian(mode) - np.asarray(jax.hessian(density.log_prior)(jnp.asarray(mode)))
    factor = whitening(curvature)
    white = rng.standard_normal((options.n_importance, density.n_eta))
    white /= np.sqrt(rng.chisquare(T_DOF, (options.n_importance, 1)) / T_DOF)
    etas = mode + white @ factor.T
    log_proposal = -0.5 * (T_DOF + density.n_eta) * np.log1p(np.sum(white**2, axis=1) / T_DOF)
    log_prior = np.asarray(jax.vmap(density.log_prior)(jnp.asarray(etas)))
    weight, pareto_k = _smoothed(likelihood.values(etas) + log_prior - log_proposal)
    efficiency = float(weight.sum() ** 2 / np.sum(weight**2) / weight.size)
    chains, widening = etas[_systematic(weight, rng)][None], float("nan")
    n_effective = likelihood.effective_draws(mode)
    if draws is not None and can_widen(density):
        noise, counted_weight = gradient_noise(density, mode, draws)
        scale = 1.0 if total_weight is None else total_weight / counted_weight
        chains, widening = widened(chains, noise * scale)
    none = np.full(1, np.nan)
    return PopulationPosterior(
        density,
        chains,
        Convergence(none, none, none),
        n_effective.size,
        n_effective,
        "importance",
        judge(n_effective, None, pareto_k, widening),
        efficiency,
        {**(meta or {}), "pareto_k": pareto_k, "draw_noise": widening},
    )


def _smoothed(log_weight: FloatArray) -> tuple[FloatArray, float]:
    """Pareto-smoothed weights and the shape k of their tail."""
    from arviz_stats.base import array_stats

    finite = np.where(np.isfinite(log_weight), log_weight, -1e300) - np.max(log_weight)
    # arviz takes ln L and weighs by its inverse, as leave-one-out validation does
    smoothed, k = array_stats.psislw(-finite)
    return np.exp(smoothed - np.max(smoothed)), float(np.asarray(k))


def _systematic(weight: FloatArray, rng: np.random.Generator) -> NDArray[np.intp]:
    """Systematic resampling to equal weights."""
    positions = (rng.uniform() + np.arange(weight.size)) / weight.size
    return np.minimum(np.searchsorted(np.cumsum(weight) / weight.sum(), positions), weight.size - 1)
