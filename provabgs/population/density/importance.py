"""Posterior of the parameters of a population by importance sampling about the mode, for large data.

For data over which one pass takes seconds (1e6 galaxies x 256 draws) the posterior is close to a Gaussian. Draws of a
Student t distribution about the mode get exact importance weights, in a few passes for all draws together. The shape k
of the tail of the weights tests the approximation (Pareto k, Vehtari et al. 2024, JMLR 25, 72).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.core.weights import effective_sample_size, resample_systematic, student_t_proposal
from provabgs.inference.diagnostics import Convergence
from provabgs.population.density.likelihood import Data, Draws
from provabgs.population.density.mode import climb, find_mode, negative_hessian, on_host, whitening
from provabgs.population.density.models import Density
from provabgs.population.density.nuts import SamplingOptions
from provabgs.population.density.posterior import PopulationPosterior, judge
from provabgs.population.density.sampling_noise import can_inflate, gradient_noise, inflated

T_DOF = 8.0
"""Degrees of freedom of the proposal."""


class PopulationLikelihood(Protocol):
    """What `sample_streamed` needs: `StreamedLikelihood`, or one spread over a cluster."""

    @property
    def density(self) -> Density:
        """Family of populations."""
        ...

    def first_part(self) -> Data:
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
    likelihood: PopulationLikelihood,
    rng: np.random.Generator,
    *,
    options: SamplingOptions | None = None,
    draws: Iterable[Draws] | None = None,
    total_weight: float | None = None,
    meta: dict[str, Any] | None = None,
) -> PopulationPosterior:
    """Posterior of eta by importance sampling about its mode, in about a dozen passes over the data.

    Most passes find the mode. The search starts at the mode of a part of the data, in coordinates scaled by the
    curvature there.

    Parameters
    ----------
    likelihood
        Sums over the data.
    rng
        Source of randomness.
    options
        Number of samples.
    draws
        Draws of all galaxies or of some, from which the Monte Carlo noise is estimated
        (`provabgs.population.density.sampling_noise`); None does not inflate the posterior.
    total_weight
        Weight of all galaxies, where `draws` are of some.
    meta
        Kept with the result.

    Returns
    -------
    PopulationPosterior
        With method ``"importance"``.
    """
    options = options or SamplingOptions()
    density = likelihood.density
    # a pass over all data may take minutes, one over a part a second: the search starts there
    part = likelihood.first_part()
    start = find_mode(density, on_host(density, None, part), rng, options.n_start)
    factor = whitening(np.asarray(negative_hessian(density, None, jnp.asarray(start), part)))
    prior = jax.jit(jax.value_and_grad(density.log_prior))

    def value_and_grad(eta: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = likelihood.value_and_grad(eta)
        p, dp = prior(jnp.asarray(eta))
        return value + float(p), gradient + np.asarray(dp)

    mode = climb(value_and_grad, start, factor)
    curvature = -likelihood.hessian(mode) - np.asarray(jax.hessian(density.log_prior)(jnp.asarray(mode)))
    factor = whitening(curvature)
    etas, log_proposal = student_t_proposal(mode, factor, T_DOF, options.n_importance, rng)
    log_prior = np.asarray(jax.vmap(density.log_prior)(jnp.asarray(etas)))
    weight, pareto_k = _smoothed(likelihood.values(etas) + log_prior - log_proposal)
    efficiency = float(effective_sample_size(np.log(weight))) / weight.size
    chains, inflation = etas[resample_systematic(weight, weight.size, rng)][None], float("nan")
    n_effective = likelihood.effective_draws(mode)
    if draws is not None and can_inflate(density):
        noise, counted_weight = gradient_noise(density, mode, draws)
        scale = 1.0 if total_weight is None else total_weight / counted_weight
        chains, inflation = inflated(chains, noise * scale)
    # resampled draws are independent: there are no chains to compare
    none = np.full(1, np.nan)
    return PopulationPosterior(
        density,
        chains,
        Convergence(none, none, none),
        n_effective.size,
        n_effective,
        "importance",
        judge(n_effective, None, pareto_k, inflation),
        efficiency,
        {**(meta or {}), "pareto_k": pareto_k, "inflation": inflation},
    )


def _smoothed(log_weight: FloatArray) -> tuple[FloatArray, float]:
    """Pareto-smoothed weights and the shape k of their tail."""
    from arviz_stats.base import array_stats

    finite = np.where(np.isfinite(log_weight), log_weight, -1e300) - np.max(log_weight)
    # psislw is written for leave-one-out cross-validation: its weights are 1 / L, hence the sign
    smoothed, k = array_stats.psislw(-finite)
    return np.exp(smoothed - np.max(smoothed)), float(np.asarray(k))
