"""The posterior with its linear directions, the masses, integrated out.

For fixed ``psi`` (burst, metallicity, dust, f_fiber, ...) the model is linear in the n masses ``a_i = M f_i >= 0`` of
the histories' linear block, and the likelihood is a Gaussian in them. The masses are very well constrained in some
combinations (the spectrum fixes some to a part in a thousand) and bounded below by zero; both make the posterior hard
to sample. We integrate them out analytically; the remaining posterior is close to a few Student-t components. The
integral over positive masses is done by expectation propagation (`truncated_gaussian`); where the total S/N is below 9
we instead average over mass fractions drawn from the Dirichlet prior (`low_snr`). Importance weights remove the errors
of both, so that the draws are of the exact posterior.

The base prior in the masses, flat in log M and flat Dirichlet in the fractions, is ``M^-n da`` within the bounds on M
(times a factor that depends on the fractions when the histories are normalised jointly).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.compilations import compiled_by_shape
from provabgs.core.jax import jax, jnp
from provabgs.inference.device.client import UNSERVED, ServedGalaxy
from provabgs.inference.likelihood.base import REFERENCE_LOG_MASS, LinearSystem, NormalEquations
from provabgs.inference.low_snr import LOW_SNR, amplitude, log_evidence, sample_masses
from provabgs.inference.priors import Prior, latent_from_unit, theta_from_latent, unit_from_theta
from provabgs.inference.samplers.base import MarginalPosterior
from provabgs.inference.truncated_gaussian import expectation_propagation, sample_orthant
from provabgs.sps.histories import LinearBlock

_JITTER = 1e-12
"""Added to the unit-diagonal precision: far below any direction that data or positivity constrain."""
_MAX_SPREAD = 1.0
N_PILOT = 1024
"""Fixed prior draws that the galaxy's amplitude is measured at: a shape that samplers compile anyway."""

Equations = Callable[[jax.Array, Any], NormalEquations]


def marginalise(
    system: LinearSystem, block: LinearBlock, prior: Prior, weight: FloatArray, served: ServedGalaxy = UNSERVED
) -> MarginalPosterior:
    """Integrate a posterior over its masses.

    Parameters
    ----------
    system
        Normal equations of the galaxy.
    block
        The histories' linear block.
    prior
        The galaxy's prior.
    weight
        ``(n,)`` history weights (`HistoryTables.weight`): ones unless histories are normalised jointly.
    served
        The galaxy at the device server, if there is one.

    Returns
    -------
    MarginalPosterior
        Compiled functions are shared between galaxies of one model and size.
    """
    normal, data, share = _compiled(system.equations), system.data, share_of(block, weight)
    n_outer = len(prior.parameters.nonlinear_coordinates)
    pilot = np.random.default_rng(0).standard_normal((N_PILOT, n_outer))
    answer = served.ask("pilot", False, pilot)
    q, b = answer if answer is not None else normal(jnp.asarray(pilot), data, prior)[:2]
    # one choice per galaxy: both integrals are approximate, and a switch between draws would be a step in log_marginal
    low_snr = amplitude(np.asarray(q), np.asarray(b)) < LOW_SNR

    def log_marginal(outer: FloatArray) -> FloatArray:
        if (found := served.ask("marginal", low_snr, outer)) is not None:
            return found[0]
        x = jnp.asarray(outer)
        return np.asarray(_log_marginal(normal(x, data, prior), x, prior, block, low_snr))

    def draw_linear(outer: FloatArray, uniforms: FloatArray) -> tuple[FloatArray, FloatArray]:
        if (found := served.ask("linear", low_snr, outer, uniforms)) is not None:
            return found[0], found[1]
        x = jnp.asarray(outer)
        latent, log_target = _draw_linear(
            normal(x, data, prior), x, jnp.asarray(uniforms), prior, share, block, low_snr
        )
        return np.asarray(latent), np.asarray(log_target)

    small = prior.parameters.small_coordinates
    return MarginalPosterior(log_marginal, draw_linear, n_outer, prior.n_coordinate, block.n + 1, small)


def share_of(block: LinearBlock, weight: FloatArray) -> jax.Array:
    """History weights relative to their mean.

    Parameters
    ----------
    block
        The histories' linear block.
    weight
        ``(n,)`` as of `marginalise`.

    Returns
    -------
    jax.Array
        ``(n,)``; a single 1 where no fractions are parameters.
    """
    return jnp.asarray(weight / np.mean(weight)) if block.fractions else jnp.ones(1)


def marginal_function(system: LinearSystem, block: LinearBlock, prior: Prior) -> Callable[[jax.Array], jax.Array]:
    """`MarginalPosterior.log_marginal` at high S/N as a function of JAX arrays, for gradients.

    Parameters
    ----------
    system
        Normal equations of the galaxy.
    block
        The histories' linear block.
    prior
        The galaxy's prior.

    Returns
    -------
    Callable
        ``(batch, n_outer)`` marginalised coordinates to ``(batch,)``.
    """
    function = marginal_of_arrays(system.equations, block)
    return lambda outer: function(outer, system.data, prior)


def marginal_of_arrays(equations: Equations, block: LinearBlock) -> Callable[[jax.Array, Any, Prior], jax.Array]:
    """The same with the galaxy as an argument, so that `jax.vmap` evaluates many galaxies of one size class at once.

    Parameters
    ----------
    equations
        Of `LinearSystem`; all galaxies of a model share it.
    block
        The histories' linear block.

    Returns
    -------
    Callable
        ``(outer (batch, n_outer), data, prior) -> (batch,)``; not compiled.
    """

    def log_marginal(outer: jax.Array, data: Any, prior: Prior) -> jax.Array:
        return _log_marginal(equations(_theta(outer, prior), data), outer, prior, block, False)

    return log_marginal


@lru_cache(maxsize=4)
def _compiled(equations: Equations) -> Callable[[jax.Array, Any, Prior], NormalEquations]:
    """Normal equations at outer coordinates, compiled apart: they alone differ between size classes of galaxies.

    The integrals over masses take longest to compile; apart, they are compiled once for all galaxies.
    """
    return compiled_by_shape(equations_of_rows(equations))


def equations_of_rows(equations: Equations) -> Callable[[jax.Array, Any, Prior], NormalEquations]:
    """Normal equations as a function ``(outer (batch, n_outer), data, prior)``; not compiled."""
    return lambda outer, data, prior: equations(_theta(outer, prior), data)


def _theta(outer: jax.Array, prior: Prior) -> jax.Array:
    """Parameters at outer coordinates, the linear ones at their prior's middle."""
    free = jnp.asarray(prior.parameters.nonlinear_coordinates)
    latent = jnp.zeros((len(outer), prior.n_coordinate)).at[:, free].set(outer)
    return theta_from_latent(latent, prior)


def _scaled(equations: NormalEquations) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Unit-diagonal precision, its right-hand side, and the scale ``(batch, n)`` of each mass."""
    scale = 1 / jnp.sqrt(jnp.maximum(jnp.diagonal(equations.q, axis1=1, axis2=2), 1e-300))
    q = equations.q * scale[:, :, None] * scale[:, None, :] + _JITTER * jnp.eye(scale.shape[1])
    return q, equations.b * scale, scale


def _approximate(q: jax.Array, b: jax.Array, scale: jax.Array):  # type: ignore[no-untyped-def]
    """Log of the integral of likelihood times ``M^-n``: EP, and a log-normal for the total mass."""
    log_z, sites, mean, covariance = expectation_propagation(q, b)
    n = scale.shape[1]
    total = jnp.sum(mean * scale, axis=1)
    spread = jnp.einsum("bi,bij,bj->b", scale, covariance, scale) / total**2
    # <M^-n> of a log-normal of mean M and relative variance s^2: M^-n (1 + s^2)^(n (n + 1) / 2)
    log_power = -n * jnp.log(total) + n * (n + 1) / 2 * jnp.log1p(jnp.minimum(spread, _MAX_SPREAD))
    return log_z + jnp.sum(jnp.log(scale), axis=1) + log_power, sites


def log_marginal_rows(
    normal: NormalEquations, outer: jax.Array, prior: Prior, block: LinearBlock, low_snr: bool
) -> jax.Array:
    """`MarginalPosterior.log_marginal` from normal equations.

    Parameters
    ----------
    normal
        Of ``batch`` points.
    outer
        ``(batch, n_outer)`` their coordinates.
    prior, block
        As of `marginalise`.
    low_snr
        Which of the two integrals over masses.

    Returns
    -------
    jax.Array
        ``(batch,)``.
    """
    # the factor of joint normalisation varies slowly: it is left to the weights
    if low_snr:
        log_z = log_evidence(normal.q, normal.b, _log_mass_range(prior, block))
    else:
        log_z, _ = _approximate(*_scaled(normal))
    value = log_z - 0.5 * normal.constant - 0.5 * jnp.sum(outer**2, axis=1)
    return jnp.where(jnp.isfinite(value), value, -jnp.inf)


def draw_linear_rows(
    normal: NormalEquations,
    outer: jax.Array,
    uniforms: jax.Array,
    prior: Prior,
    share: jax.Array,
    block: LinearBlock,
    low_snr: bool,
) -> tuple[jax.Array, jax.Array]:
    """`MarginalPosterior.draw_linear` from normal equations.

    Parameters
    ----------
    normal
        Of ``batch`` points.
    outer, uniforms
        As of `MarginalPosterior.draw_linear`.
    prior
        The galaxy's prior.
    share
        As `share_of` gives it.
    block
        The histories' linear block.
    low_snr
        Which of the two integrals over masses.

    Returns
    -------
    latent, log_target
        ``(batch, n_latent)``, ``(batch,)``.
    """
    if low_snr:
        masses, log_weight = sample_masses(normal.q, normal.b, _log_mass_range(prior, block), uniforms[..., 1:])
    else:
        q, b, scale = _scaled(normal)
        _, sites = _approximate(q, b, scale)
        x, log_weight = sample_orthant(q, b, sites, uniforms[..., 1:])
        masses, log_weight = x * scale[:, None], log_weight + jnp.sum(jnp.log(scale), axis=1)[:, None]
    log_weight += _log_mass_prior(masses, prior, share, block)
    # one of the draws, with probability by weight; the mean weight is an unbiased marginal likelihood
    log_mean = jax.scipy.special.logsumexp(log_weight, axis=1) - jnp.log(masses.shape[1])
    gumbel = -jnp.log(-jnp.log(uniforms[..., 0]))
    picked = jnp.take_along_axis(masses, jnp.argmax(log_weight + gumbel, axis=1)[:, None, None], axis=1)[:, 0]
    log_target = log_mean - 0.5 * normal.constant - 0.5 * jnp.sum(outer**2, axis=1)
    return _latent(outer, picked, prior, share, block), log_target


_log_marginal = jax.jit(log_marginal_rows, static_argnums=(3, 4))
_draw_linear = jax.jit(draw_linear_rows, static_argnums=(5, 6))


def _log_mass_range(prior: Prior, block: LinearBlock) -> jax.Array:
    """Natural logarithm of the bounds on the total mass, in units of 10^`REFERENCE_LOG_MASS`."""
    return (jnp.stack(prior.edges(block.total)) - REFERENCE_LOG_MASS) * np.log(10)


def _log_mass_prior(masses: jax.Array, prior: Prior, share: jax.Array, block: LinearBlock) -> jax.Array:
    """Log prior density of the masses, up to the constant that `_approximate` leaves out too; ``(...,)``."""
    total = jnp.sum(masses, axis=-1)
    log_mass = REFERENCE_LOG_MASS + jnp.log10(total)
    low, high = prior.edges(block.total)
    inside = (log_mass >= low) & (log_mass <= high)
    # f = (s / w) / sum(s / w) for mass fractions s: Jacobian of a projective map
    mixed = jnp.log(jnp.sum(masses / share, axis=-1) / total)
    density = -block.n * (jnp.log(total) + mixed)
    if block.log_prior_ratio is not None:
        density += block.log_prior_ratio(_fractions(masses, share))
    return jnp.where(inside, density, -jnp.inf)


def _fractions(masses: jax.Array, share: jax.Array) -> jax.Array:
    fraction = masses / share
    return fraction / jnp.sum(fraction, axis=-1, keepdims=True)


def _latent(outer: jax.Array, masses: jax.Array, prior: Prior, share: jax.Array, block: LinearBlock) -> jax.Array:
    """All coordinates ``(batch, n_latent)`` from outer ones and masses ``(batch, n)``."""
    names = prior.parameters
    theta = _theta(outer, prior)
    if block.fractions:
        theta = theta.at[:, names.indices(block.fractions)].set(_fractions(masses, share))
    log_mass = REFERENCE_LOG_MASS + jnp.log10(jnp.sum(masses, axis=1))
    theta = theta.at[:, names.index(block.total)].set(log_mass)
    return latent_from_unit(unit_from_theta(theta, prior)).at[:, names.nonlinear_coordinates].set(outer)
