"""The posterior with its linear directions integrated out.

For fixed ``psi`` = (burst, metallicity, dust, f_fiber) the model is linear in the four masses ``a_i = M beta_i >= 0``
and the likelihood a Gaussian in them. They are the directions that make the posterior thin (the spectrum fixes some to
a part in a thousand) and the walls that bend it; what is left after integrating them is an eight-dimensional posterior
of ordinary shape. The integral over the orthant is done by expectation propagation (`orthant`), or, where the data
hardly see the galaxy, over prior shares (`faint`); their errors are removed by importance weights, so that the draws
are of the exact posterior.

The prior in the masses: flat in log M and flat Dirichlet in beta is ``M^-4 da`` within the bounds on M (times a factor
that depends on the shares when the histories are normalised jointly).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.inference.compressed.normal_equations import N_BASES, NormalEquations
from provabgs.inference.compressed.reduction import REFERENCE_LOG_MASS
from provabgs.inference.low_snr import FAINT, amplitude, log_evidence, sample_masses
from provabgs.inference.priors import (
    LATENT_NAMES,
    N_LATENT,
    Prior,
    latent_from_unit,
    theta_from_latent,
    unit_from_theta,
)
from provabgs.inference.truncated_gaussian import expectation_propagation, sample_orthant
from provabgs.sps.parameters import INDEX

OUTER_NAMES = ("fburst", "tburst", "gamma1", "gamma2", "tau_bc", "tau_ism", "n_dust", "f_fiber")
"""Coordinates that are left; those of a model's extra parameters come after them."""
N_OUTER = len(OUTER_NAMES)
OUTER_INDEX = np.array([LATENT_NAMES.index(name) for name in OUTER_NAMES])
_BETA = slice(INDEX["beta1"], INDEX["beta4"] + 1)
_JITTER = 1e-12
"""Added to the unit-diagonal precision: far below any direction that data or walls constrain."""
_MAX_SPREAD = 1.0
N_PILOT = 1024
"""Fixed prior draws that the galaxy's amplitude is measured at: a shape that samplers compile anyway."""

Equations = Callable[[jax.Array, Any], NormalEquations]


@dataclass(frozen=True)
class CollapsedPosterior:
    """Marginal posterior of one galaxy, in standard-normal coordinates, and the way back.

    Its ``n_outer`` coordinates are `OUTER_NAMES` and the model's extra parameters, its ``n_latent`` those of `Prior`.

    Attributes
    ----------
    log_marginal
        ``(batch, n_outer)`` to ``(batch,)``: log of prior times approximate marginal likelihood (as `Target.log_prob`).
    draw_masses
        ``(outer (batch, n_outer), uniforms (batch, ndraw, 5))`` to latent coordinates ``(batch, n_latent)``,
        each with masses picked from their exact conditional, and an unbiased estimate ``(batch,)`` of the marginal
        that `log_marginal` approximates: weighted by it, (outer, masses) are draws of the exact posterior.
    """

    log_marginal: Callable[[FloatArray], FloatArray]
    draw_masses: Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
    n_outer: int = N_OUTER
    n_latent: int = N_LATENT


def collapse(equations: Equations, data: Any, prior: Prior, weight: FloatArray) -> CollapsedPosterior:
    """Collapse a posterior.

    Parameters
    ----------
    equations
        ``(theta, data) -> NormalEquations``.
    data
        Pytree handed to `equations` (a `Reduction`).
    prior
        The galaxy's prior.
    weight
        ``(4,)`` history weights (`HistoryTables.weight`): ones unless histories are normalised jointly.
    """
    normal = _compiled(equations)
    share = jnp.asarray(weight / np.mean(weight))
    n_latent = len(prior.low)
    n_outer = n_latent - N_LATENT + N_OUTER
    pilot = normal(jnp.asarray(np.random.default_rng(0).standard_normal((N_PILOT, n_outer))), data, prior)
    faint = amplitude(np.asarray(pilot.q), np.asarray(pilot.b)) < FAINT

    def log_marginal(outer: FloatArray) -> FloatArray:
        x = jnp.asarray(outer)
        return np.asarray(_log_marginal(normal(x, data, prior), x, prior, faint))

    def draw_masses(outer: FloatArray, uniforms: FloatArray) -> tuple[FloatArray, FloatArray]:
        x = jnp.asarray(outer)
        latent, log_target = _draw_masses(normal(x, data, prior), x, jnp.asarray(uniforms), prior, share, faint)
        return np.asarray(latent), np.asarray(log_target)

    return CollapsedPosterior(log_marginal, draw_masses, n_outer, n_latent)


def marginal_function(equations: Equations, data: Any, prior: Prior) -> Callable[[jax.Array], jax.Array]:
    """`CollapsedPosterior.log_marginal` of bright galaxies as a function of JAX arrays, for gradients."""
    return lambda outer: _log_marginal(equations(_theta(outer, prior), data), outer, prior, False)


@lru_cache(maxsize=4)
def _compiled(equations: Equations) -> Callable[[jax.Array, Any, Prior], NormalEquations]:
    """Normal equations at outer coordinates, compiled apart: they alone differ between size classes of galaxies.

    The integrals over masses take longest to compile; apart, they are compiled once for all galaxies.
    """
    return jax.jit(lambda outer, data, prior: equations(_theta(outer, prior), data))


def _theta(outer: jax.Array, prior: Prior) -> jax.Array:
    latent = jnp.zeros((len(outer), len(prior.low))).at[:, outer_index(len(prior.low))].set(outer)
    return theta_from_latent(latent, prior)


def outer_index(n_latent: int) -> NDArray[np.int64]:
    """Where the outer coordinates are among `n_latent` latent ones."""
    return np.append(OUTER_INDEX, np.arange(N_LATENT, n_latent))


def _scaled(equations: NormalEquations) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Unit-diagonal precision, its right-hand side, and the scale ``(batch, 4)`` of each mass."""
    scale = 1 / jnp.sqrt(jnp.maximum(jnp.diagonal(equations.q, axis1=1, axis2=2), 1e-300))
    q = equations.q * scale[:, :, None] * scale[:, None, :] + _JITTER * jnp.eye(N_BASES)
    return q, equations.b * scale, scale


def _approximate(q: jax.Array, b: jax.Array, scale: jax.Array):  # type: ignore[no-untyped-def]
    """Log of the integral of likelihood times ``M^-4``: EP, and a log-normal for the total mass."""
    log_z, sites, mean, covariance = expectation_propagation(q, b)
    total = jnp.sum(mean * scale, axis=1)
    spread = jnp.einsum("bi,bij,bj->b", scale, covariance, scale) / total**2
    log_power = -N_BASES * jnp.log(total) + 10 * jnp.log1p(jnp.minimum(spread, _MAX_SPREAD))
    return log_z + jnp.sum(jnp.log(scale), axis=1) + log_power, sites


@partial(jax.jit, static_argnums=3)
def _log_marginal(normal: NormalEquations, outer: jax.Array, prior: Prior, faint: bool) -> jax.Array:
    # the factor of joint normalisation varies slowly: it is left to the weights
    if faint:
        log_z = log_evidence(normal.q, normal.b, _log_mass_range(prior))
    else:
        log_z, _ = _approximate(*_scaled(normal))
    value = log_z - 0.5 * normal.constant - 0.5 * jnp.sum(outer**2, axis=1)
    return jnp.where(jnp.isfinite(value), value, -jnp.inf)


@partial(jax.jit, static_argnums=5)
def _draw_masses(
    normal: NormalEquations, outer: jax.Array, uniforms: jax.Array, prior: Prior, share: jax.Array, faint: bool
) -> tuple[jax.Array, jax.Array]:
    theta = _theta(outer, prior)
    if faint:
        masses, log_weight = sample_masses(normal.q, normal.b, _log_mass_range(prior), uniforms[..., 1:])
    else:
        q, b, scale = _scaled(normal)
        _, sites = _approximate(q, b, scale)
        x, log_weight = sample_orthant(q, b, sites, uniforms[..., 1:])
        masses, log_weight = x * scale[:, None], log_weight + jnp.sum(jnp.log(scale), axis=1)[:, None]
    log_weight += _log_mass_prior(masses, prior, share)
    # one of the draws, with probability by weight; the mean weight is an unbiased marginal likelihood
    log_mean = jax.scipy.special.logsumexp(log_weight, axis=1) - jnp.log(masses.shape[1])
    gumbel = -jnp.log(-jnp.log(uniforms[..., 0]))
    picked = jnp.take_along_axis(masses, jnp.argmax(log_weight + gumbel, axis=1)[:, None, None], axis=1)[:, 0]
    log_target = log_mean - 0.5 * normal.constant - 0.5 * jnp.sum(outer**2, axis=1)
    return _latent(theta, outer, picked, prior, share), log_target


def _log_mass_range(prior: Prior) -> jax.Array:
    """Natural logarithm of the bounds on the total mass, in units of 10^`REFERENCE_LOG_MASS`."""
    return (jnp.stack([prior.low[0], prior.high[0]]) - REFERENCE_LOG_MASS) * np.log(10)


def _log_mass_prior(masses: jax.Array, prior: Prior, share: jax.Array) -> jax.Array:
    """Log prior density of the four masses, up to the constant that `_approximate` leaves out too; ``(...,)``."""
    total = jnp.sum(masses, axis=-1)
    log_mass = REFERENCE_LOG_MASS + jnp.log10(total)
    inside = (log_mass >= prior.low[0]) & (log_mass <= prior.high[0])
    # beta = (s / w) / sum(s / w) for shares s: Jacobian of a projective map
    mixed = jnp.log(jnp.sum(masses / share, axis=-1) / total)
    return jnp.where(inside, -N_BASES * (jnp.log(total) + mixed), -jnp.inf)


def _latent(theta: jax.Array, outer: jax.Array, masses: jax.Array, prior: Prior, share: jax.Array) -> jax.Array:
    total = jnp.sum(masses, axis=1)
    beta = masses / share
    theta = theta.at[:, _BETA].set(beta / jnp.sum(beta, axis=1, keepdims=True))
    theta = theta.at[:, INDEX["logmstar"]].set(REFERENCE_LOG_MASS + jnp.log10(total))
    return latent_from_unit(unit_from_theta(theta, prior)).at[:, outer_index(len(prior.low))].set(outer)
