"""The full posterior of a population's parameters: NUTS in memory, importance sampling over streamed data.

Both begin at the mode with the curvature there. NUTS (blackjax) moves in the coordinates that make that curvature
round, so that a histogram's 30 bins cost a handful of gradients a draw. Where one pass over the data takes seconds
(1e6 galaxies x 256 draws), the posterior is as good as Gaussian: a multivariate t about the mode is then corrected by
exact importance weights, a few passes for all draws together, and the tail of the weights says whether that was allowed
(Pareto k, Vehtari et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from provabgs._jax import jax, jnp
from provabgs.errors import InputError, MissingDependencyError
from provabgs.inference.diagnostics import Convergence, convergence
from provabgs.population.densities import Density
from provabgs.population.likelihood import Data, Draws, Gridded, LogSelected, effective_draws, log_likelihood
from provabgs.population.noise import can_widen, gradient_noise, widened
from provabgs.population.posterior import PopulationPosterior, judge, log_density_at, thin

FloatArray = NDArray[np.float64]

N_REFERENCE = 24
"""Points at which the convergence of ln density is judged."""
T_DOF = 8
"""Degrees of freedom of the t distribution that importance samples come from."""
_ROUGHEST = 1e-2
"""Least curvature believed at the mode: where the data say nothing, the prior's width (about 1) holds."""


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample.

    Attributes
    ----------
    n_chain, n_warmup, n_draw
        NUTS chains, adaptation steps and draws per chain.
    n_importance
        Importance samples, for streamed data.
    n_start
        Prior draws among which the search for the mode begins.
    target_acceptance
        Of NUTS.
    """

    n_chain: int = 4
    n_warmup: int = 400
    n_draw: int = 750
    n_importance: int = 400
    n_start: int = 32
    target_acceptance: float = 0.85


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


# ---- in memory: NUTS ------------------------------------------------------------------------------------------------


def sample_population(
    density: Density,
    data: Data,
    rng: np.random.Generator,
    *,
    selection: LogSelected | None = None,
    options: SamplingOptions | None = None,
    draws: Draws | None = None,
    quiet: bool = False,
    meta: dict[str, Any] | None = None,
) -> PopulationPosterior:
    """Posterior of eta by NUTS, widened by the noise of sums over finite draws (`provabgs.population.noise`).

    Parameters
    ----------
    density
        Family of populations.
    data
        Draws, or draws compressed for this density.
    rng
        Source of randomness.
    selection
        ln alpha(eta), hashable and traceable; None when everything is selected or weights account for it.
    options
        Lengths of chains.
    draws
        For `Gridded` data the draws they came from (or some of them), to count effective draws and measure their noise;
        without, a gridded posterior is not widened.
    quiet
        Keep warnings in the result alone.
    meta
        Kept with the result.

    Raises
    ------
    InputError
        When no start of finite probability is found.
    MissingDependencyError
        When blackjax is not installed.
    """
    options = options or SamplingOptions()
    value_and_grad = _host(density, selection, data)
    mode = find_mode(density, value_and_grad, rng, options.n_start)
    curvature = np.asarray(_negative_hessian(density, selection, jnp.asarray(mode), data))
    factor = _whitening(curvature)
    key = jax.random.key(int(rng.integers(2**31)))
    etas, n_divergent = _run_nuts(
        density, selection, options, data, jnp.asarray(mode), jnp.asarray(factor), key, _blackjax_guard()
    )
    chains = np.asarray(etas)
    report = convergence(_monitored(density, chains, data))
    counted = draws if draws is not None else data
    n_effective = effective_draws(density, jnp.asarray(chains.mean(axis=(0, 1))), counted)
    n_effective = n_effective[np.asarray(counted.weight) > 0]
    factor_noise = float("nan")
    if isinstance(counted, Draws) and can_widen(density):
        noise, weight = gradient_noise(density, chains.mean(axis=(0, 1)), [counted])
        chains, factor_noise = widened(chains, noise * float(jnp.sum(data.weight)) / weight)
    return PopulationPosterior(
        density,
        chains,
        report,
        int(np.sum(np.asarray(data.weight) > 0)),
        n_effective,
        "nuts",
        judge(n_effective, report, widening=factor_noise, quiet=quiet),
        meta={**(meta or {}), "n_divergent": int(n_divergent), "draw_noise": factor_noise},
    )


def _log_posterior(density: Density, selection: LogSelected | None, eta: jax.Array, data: Data) -> jax.Array:
    return density.log_prior(eta) + log_likelihood(density, eta, data, selection)


@partial(jax.jit, static_argnums=(0, 1))
def _jit_value_and_grad(
    density: Density, selection: LogSelected | None, eta: jax.Array, data: Data
) -> tuple[jax.Array, jax.Array]:
    return jax.value_and_grad(lambda e: _log_posterior(density, selection, e, data))(eta)


@partial(jax.jit, static_argnums=(0, 1))
def _negative_hessian(density: Density, selection: LogSelected | None, eta: jax.Array, data: Data) -> jax.Array:
    gradient = jax.grad(lambda e: -_log_posterior(density, selection, e, data))
    return jax.lax.map(lambda v: jax.jvp(gradient, (eta,), (v,))[1], jnp.eye(eta.size))


def _host(
    density: Density, selection: LogSelected | None, data: Data
) -> Callable[[FloatArray], tuple[float, FloatArray]]:
    """Ln posterior and gradient as plain numbers."""

    def call(eta: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = _jit_value_and_grad(density, selection, jnp.asarray(eta), data)
        return float(value), np.asarray(gradient)

    return call


@partial(jax.jit, static_argnums=(0, 1, 2, 7))
def _run_nuts(
    density: Density,
    selection: LogSelected | None,
    options: SamplingOptions,
    data: Data,
    mode: jax.Array,
    factor: jax.Array,
    key: jax.Array,
    blackjax: Any,
) -> tuple[jax.Array, jax.Array]:
    """Chains ``(nchain, ndraw, n_eta)`` and the number of divergent transitions."""

    def log_density(white: jax.Array) -> jax.Array:
        return _log_posterior(density, selection, mode + factor @ white, data)

    warmup = blackjax.window_adaptation(
        blackjax.nuts,
        log_density,
        target_acceptance_rate=options.target_acceptance,
        adaptation_info_fn=lambda *_: None,
    )

    def chain(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        k_start, k_warm, k_run = jax.random.split(key, 3)
        start = jax.random.normal(k_start, mode.shape, dtype=mode.dtype)
        (state, parameters), _ = warmup.run(k_warm, start, options.n_warmup)
        kernel = blackjax.nuts(log_density, **parameters)

        def step(state: Any, key: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            state, info = kernel.step(key, state)
            return state, (state.position, info.is_divergent)

        _, (white, divergent) = jax.lax.scan(step, state, jax.random.split(k_run, options.n_draw))
        return mode + white @ factor.T, jnp.sum(divergent)

    etas, divergent = jax.vmap(chain)(jax.random.split(key, options.n_chain))
    return etas, jnp.sum(divergent)


def _blackjax_guard() -> Any:
    try:
        import blackjax
    except ImportError:
        raise MissingDependencyError("population posteriors are sampled by blackjax: pip install blackjax") from None
    return blackjax


# ---- streamed: importance sampling about the mode --------------------------------------------------------------------


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
    start = find_mode(density, _host(density, None, pilot), rng, options.n_start)
    factor = _whitening(np.asarray(_negative_hessian(density, None, jnp.asarray(start), pilot)))
    prior = jax.jit(jax.value_and_grad(density.log_prior))

    def value_and_grad(eta: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = likelihood.value_and_grad(eta)
        p, dp = prior(jnp.asarray(eta))
        return value + float(p), gradient + np.asarray(dp)

    mode = _climb(value_and_grad, start, factor)
    curvature = -likelihood.hessian(mode) - np.asarray(jax.hessian(density.log_prior)(jnp.asarray(mode)))
    factor = _whitening(curvature)
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


# ---- both ------------------------------------------------------------------------------------------------------------


def find_mode(
    density: Density,
    value_and_grad: Callable[[FloatArray], tuple[float, FloatArray]],
    rng: np.random.Generator,
    n_start: int,
) -> FloatArray:
    """``(n_eta,)`` mode of the posterior: L-BFGS from the best three of some prior draws.

    Raises
    ------
    InputError
        When the posterior is 0 at all of them.
    """
    candidates = np.stack([np.zeros(density.n_eta), *(density.sample_prior(rng) for _ in range(n_start))])
    found = np.array([value_and_grad(c)[0] for c in candidates])
    found = np.where(np.isfinite(found), found, -np.inf)
    if not np.any(np.isfinite(found)):
        raise InputError(f"the population likelihood is 0 at all of {len(candidates)} starts; widen the range")
    ends = [_climb(value_and_grad, start) for start in candidates[np.argsort(-found)[:3]]]
    return max(ends, key=lambda eta: value_and_grad(eta)[0])


def _climb(
    value_and_grad: Callable[[FloatArray], tuple[float, FloatArray]],
    start: FloatArray,
    factor: FloatArray | None = None,
) -> FloatArray:
    """Uphill by L-BFGS, in the coordinates u of ``eta = start + factor u`` where a factor is given."""
    turn = np.eye(start.size) if factor is None else factor

    def downhill(u: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = value_and_grad(start + turn @ u)
        # a finite wall, from which the line search steps back
        good = np.isfinite(value) and np.all(np.isfinite(gradient))
        return (-value, -turn.T @ gradient) if good else (1e100, np.zeros_like(u))

    fit = minimize(downhill, np.zeros(start.size), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return start + turn @ fit.x


def _whitening(curvature: FloatArray) -> FloatArray:
    """Matrix that turns round coordinates into eta, from minus the second derivatives at the mode."""
    values, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
    return vectors / np.sqrt(np.maximum(values, _ROUGHEST))


def _monitored(density: Density, chains: FloatArray, data: Data) -> FloatArray:
    """Quantities ``(nchain, ndraw, k)`` whose chains are judged: ln density where the galaxies are."""
    if isinstance(data, Gridded):
        held = np.argsort(-np.asarray(jnp.sum(data.share, axis=0)), kind="stable")
        nodes = np.asarray(data.nodes)[held]
        # the fuller half of the nodes: further out, ln density is the prior's
        points = thin(nodes[: max(len(nodes) // 2, 2)], N_REFERENCE)
        return _log_density_of(density, chains, points)
    centres = np.asarray(data.theta)[np.asarray(data.weight) > 0].mean(axis=1)
    points = thin(centres[np.argsort(centres[:, 0])], N_REFERENCE)
    return _log_density_of(density, chains, points)


def _log_density_of(density: Density, chains: FloatArray, points: FloatArray) -> FloatArray:
    flat = log_density_at(density, chains.reshape(-1, chains.shape[-1]), points)
    return flat.reshape(*chains.shape[:2], -1)
