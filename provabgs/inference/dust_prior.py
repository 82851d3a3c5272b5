"""A prior on the diffuse dust that knows what dust is like: less of it is likelier, and thin dust is steep.

Optical depth: a normal distribution of mean 0.3 and sigma 1 within its edges (Leja et al. 2019, ApJ 877, 140). Slope
given the optical depth: radiative transfer in disks gives ``tau ~ lam^-n`` at the V band with ``n = 2.8 / (1 + 3
sqrt(tau))`` and a scatter of 25 % (Chevallard et al. 2013, MNRAS 432, 2061, equation 10). Opaque galaxies have
shallower curves in observations, too (Salim, Boquien & Lee 2018, ApJ 859, 11).

The slope of the model's own curve at V is `CALZETTI_SLOPE` - n_dust, so that n_dust given tau_ism is normal, of mean
``CALZETTI_SLOPE - n`` and sigma ``0.25 n`` within its edges. Everything else keeps its prior.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import logsumexp

from provabgs.core.arrays import FloatArray
from provabgs.core.chunks import in_chunks
from provabgs.core.errors import ConfigError, InputError
from provabgs.core.jax import jax, jnp
from provabgs.core.weights import effective_sample_size, normalised
from provabgs.inference.config import FitConfig
from provabgs.inference.history_prior import Reweighted
from provabgs.inference.posterior import Posterior
from provabgs.inference.priors import Prior, theta_from_latent
from provabgs.inference.reweighted_target import LogRatio
from provabgs.sps.parameters import ParameterSet

DEPTH, SLOPE = "tau_ism", "n_dust"
CALZETTI_SLOPE = 1.074
"""-d ln tau / d ln lam of Calzetti's curve at 5500 A, as normalised in FSPS."""
MEAN_DEPTH, SIGMA_DEPTH = 0.3, 1.0
SCATTER = 0.25
_CHUNK = 4096


def relation_slope(tau: Any) -> Any:
    """The slope n of attenuation at V, ``tau ~ lam^-n``, that dust of an optical depth has in the mean."""
    return 2.8 / (1.0 + 3.0 * jnp.sqrt(tau))


def log_ratio(
    tau: jax.Array, slope: jax.Array, depth_edges: tuple[Any, Any], slope_edges: tuple[Any, Any]
) -> jax.Array:
    """Ln of the relation's density over that of the uniform prior; both are normalised within the edges.

    Parameters
    ----------
    tau, slope
        ``(...)`` values of tau_ism and n_dust.
    depth_edges, slope_edges
        Edges of their uniform priors.

    Returns
    -------
    jax.Array
        ``(...)``.
    """
    steep = relation_slope(tau)
    depth = _truncated(tau, MEAN_DEPTH, SIGMA_DEPTH, depth_edges)
    return depth + _truncated(slope, CALZETTI_SLOPE - steep, SCATTER * steep, slope_edges)


def _truncated(x: Any, mean: Any, sigma: Any, edges: tuple[Any, Any]) -> jax.Array:
    """Ln density of a truncated normal over that of a uniform distribution between the same edges."""
    low, high = edges
    a, b = (low - mean) / sigma, (high - mean) / sigma
    # from the side on which the tail is small, so that the difference keeps its digits
    flip = a > 0
    a, b = jnp.where(flip, -b, a), jnp.where(flip, -a, b)
    within = jax.scipy.special.ndtr(b) - jax.scipy.special.ndtr(a)
    density = -0.5 * ((x - mean) / sigma) ** 2 - jnp.log(sigma) - 0.5 * np.log(2 * np.pi)
    return density - jnp.log(within) + jnp.log(high - low)


def dust_ratio(prior: Prior) -> LogRatio:
    """Ln of the relation over one galaxy's own prior, as a function of a sampler's coordinates.

    Parameters
    ----------
    prior
        Its edges of tau_ism and n_dust are kept.

    Returns
    -------
    LogRatio
        ``(n, n_latent)`` to ``(n,)``.

    Raises
    ------
    ConfigError
        When the model's dust law has no such parameters.
    """
    require_dust(prior.parameters)
    return lambda latent: in_chunks(lambda z: _compiled(prior.parameters)(jnp.asarray(z), prior), latent, _CHUNK)


def require_dust(parameters: ParameterSet) -> None:
    """Refuse a model without the two parameters.

    Raises
    ------
    ConfigError
        Names the option and the cure.
    """
    missing = [name for name in (DEPTH, SLOPE) if name not in parameters]
    if missing:
        raise ConfigError(f"dust_prior = 'relation': this dust law has no {missing[0]}; leave dust_prior = 'uniform'")


@lru_cache(maxsize=8)
def _compiled(parameters: ParameterSet) -> Any:
    columns = parameters.index(DEPTH), parameters.index(SLOPE)

    def call(latent: jax.Array, prior: Prior) -> jax.Array:
        theta = theta_from_latent(latent, prior)
        return log_ratio(theta[:, columns[0]], theta[:, columns[1]], prior.edges(DEPTH), prior.edges(SLOPE))

    return jax.jit(call)


def log_ratio_of_draws(draws: Mapping[str, FloatArray], prior: Prior) -> FloatArray:
    """`log_ratio` of draws of the uniform prior, or of a posterior under it.

    Parameters
    ----------
    draws
        ``(n,)`` per parameter.
    prior
        Whose edges they keep.

    Returns
    -------
    numpy.ndarray
        ``(n,)``.
    """
    require_dust(prior.parameters)
    tau, slope = (jnp.asarray(np.asarray(draws[name], dtype=np.float64)) for name in (DEPTH, SLOPE))
    return np.asarray(log_ratio(tau, slope, prior.edges(DEPTH), prior.edges(SLOPE)))


def reweight_dust(posterior: Posterior) -> Reweighted:
    """The posterior of a galaxy under the relation, from its fit under the uniform prior.

    Parameters
    ----------
    posterior
        Of a fit with ``dust_prior = "uniform"``.

    Returns
    -------
    Reweighted
        With the number of effective draws, and the evidence under the relation.

    Raises
    ------
    InputError
        When there are no draws, or they were made under the relation.
    ConfigError
        When the model's dust law has no such parameters.
    """
    if not len(posterior.samples):
        raise InputError(f"TARGETID {posterior.targetid} has no draws: STATUS {posterior.status.name}")
    config = FitConfig.model_validate(posterior.config_dict())
    if config.dust_prior != "uniform":
        raise InputError(f"TARGETID {posterior.targetid} was fitted with dust_prior = {config.dust_prior!r} already")
    require_dust(posterior.parameters)
    dust = ParameterSet(tuple(posterior.parameters[name] for name in (DEPTH, SLOPE)))
    prior = Prior.of(dust, {name: edges for name, edges in config.prior_bounds.items() if name in dust})
    log_weight = log_ratio_of_draws({name: posterior[name] for name in dust.names}, prior)
    return Reweighted(
        posterior,
        normalised(log_weight),
        float(effective_sample_size(log_weight)),
        posterior.diagnostics.log_evidence + float(logsumexp(log_weight) - np.log(len(log_weight))),
        {"dust_prior": "relation"},
    )
