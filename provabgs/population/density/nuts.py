"""Posterior of the parameters of a population by NUTS, for data in memory (larger data: `importance`).

NUTS (blackjax) starts at the mode, in coordinates in which the curvature at the mode is the unit matrix. A histogram of
30 bins then needs a few gradients per draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import blackjax
import numpy as np

from provabgs.core.arrays import FloatArray, thin
from provabgs.core.jax import jax, jnp
from provabgs.inference.diagnostics import convergence
from provabgs.population.density.likelihood import Data, Draws, Gridded, LogSelected, effective_draws
from provabgs.population.density.mode import find_mode, log_posterior, negative_hessian, on_host, whitening
from provabgs.population.density.models import Density
from provabgs.population.density.posterior import PopulationPosterior, judge, log_density_at
from provabgs.population.density.sampling_noise import can_inflate, gradient_noise, inflated

N_REFERENCE = 24
"""Points at which the convergence of ln density is judged."""


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
    """Posterior of eta by NUTS, inflated for Monte Carlo noise (`provabgs.population.density.sampling_noise`).

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
        For `Gridded` data the draws behind it, or those of some galaxies: for effective draws and Monte Carlo noise.
        Without them a gridded posterior is not inflated.
    quiet
        Issue no Python warnings; the result holds the sentences.
    meta
        Kept with the result.

    Returns
    -------
    PopulationPosterior
        With method ``"nuts"``.

    Raises
    ------
    InputError
        When no start of finite probability is found.
    """
    options = options or SamplingOptions()
    value_and_grad = on_host(density, selection, data)
    mode = find_mode(density, value_and_grad, rng, options.n_start)
    # means, widths and bins differ in scale by orders of magnitude: one step size needs whitened coordinates
    curvature = np.asarray(negative_hessian(density, selection, jnp.asarray(mode), data))
    factor = whitening(curvature)
    key = jax.random.key(int(rng.integers(2**31)))
    etas, n_divergent = _run_nuts(density, selection, options, data, jnp.asarray(mode), jnp.asarray(factor), key)
    chains = np.asarray(etas)
    report = convergence(_monitored(density, chains, data))
    counted = draws if draws is not None else data
    n_effective = effective_draws(density, jnp.asarray(chains.mean(axis=(0, 1))), counted)
    n_effective = n_effective[np.asarray(counted.weight) > 0]
    inflation = float("nan")
    if isinstance(counted, Draws) and can_inflate(density):
        noise, weight = gradient_noise(density, chains.mean(axis=(0, 1)), [counted])
        chains, inflation = inflated(chains, noise * float(jnp.sum(data.weight)) / weight)
    return PopulationPosterior(
        density,
        chains,
        report,
        int(np.sum(np.asarray(data.weight) > 0)),
        n_effective,
        "nuts",
        judge(n_effective, report, inflation=inflation, quiet=quiet),
        meta={**(meta or {}), "n_divergent": int(n_divergent), "inflation": inflation},
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _run_nuts(
    density: Density,
    selection: LogSelected | None,
    options: SamplingOptions,
    data: Data,
    mode: jax.Array,
    factor: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Chains ``(nchain, ndraw, n_eta)`` and the number of divergent transitions."""

    def log_density(white: jax.Array) -> jax.Array:
        return log_posterior(density, selection, mode + factor @ white, data)

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


def _monitored(density: Density, chains: FloatArray, data: Data) -> FloatArray:
    """Monitored quantities ``(nchain, ndraw, k)``: ln density at the location of the galaxies."""
    if isinstance(data, Gridded):
        held = np.argsort(-np.asarray(jnp.sum(data.mass, axis=0)), kind="stable")
        nodes = np.asarray(data.nodes)[held]
        # the half of the nodes with more weight; at the others ln density follows the prior
        points = _some(nodes[: max(len(nodes) // 2, 2)])
        return _log_density_of(density, chains, points)
    centres = np.asarray(data.theta)[np.asarray(data.weight) > 0].mean(axis=1)
    points = _some(centres[np.argsort(centres[:, 0])])
    return _log_density_of(density, chains, points)


def _log_density_of(density: Density, chains: FloatArray, points: FloatArray) -> FloatArray:
    flat = log_density_at(density, chains.reshape(-1, chains.shape[-1]), points)
    return flat.reshape(*chains.shape[:2], -1)


def _some(rows: FloatArray) -> FloatArray:
    """At most `N_REFERENCE` evenly spaced rows."""
    return rows[thin(len(rows), N_REFERENCE)]
