"""Priors: maps between the unit cube that samplers explore, the parameters, and their density.

Twelve independent uniforms describe the thirteen parameters; the four betas come from three of them by the flat
Dirichlet map of Betancourt (2012, arXiv:1010.3436): ``x_k = u_k^(1/(4-k))``, ``beta_1 = 1 - x_1``,
``beta_2 = x_1 (1 - x_2)``, ``beta_3 = x_1 x_2 (1 - x_3)``, ``beta_4 = x_1 x_2 x_3``. Gradient samplers move in the
probit of the cube, where the prior is a standard normal. A model with parameters beyond the thirteen (`SPSModel.extra`)
has as many more uniforms, and as many more columns in theta, after the others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from provabgs.core.errors import ConfigError
from provabgs.core.jax import jax, jnp
from provabgs.sps.parameters import INDEX, N_PARAMETERS, PARAMETERS, Parameter

LATENT_NAMES: tuple[str, ...] = (
    "logmstar",
    "x1",
    "x2",
    "x3",
    "fburst",
    "tburst",
    "gamma1",
    "gamma2",
    "tau_bc",
    "tau_ism",
    "n_dust",
    "f_fiber",
)
"""Coordinates of the unit cube; those of a model's extra parameters come after them, under their own names."""
N_LATENT = len(LATENT_NAMES)
_BOX = ("logmstar", "fburst", "tburst", "gamma1", "gamma2", "tau_bc", "tau_ism", "n_dust")
_LOG = ("gamma1", "gamma2")
_EDGE = 1e-12


class Prior(NamedTuple):
    """Numbers of one galaxy's prior; a pytree, so that galaxies can be batched.

    `low` and `high` hold the edges of the box parameters in the order of `LATENT_NAMES` (log10 for the gammas, 0 and 1
    for x1..x3, unused for f_fiber), those of extra parameters after them.
    """

    low: jax.Array
    high: jax.Array
    fiber_mean: jax.Array
    fiber_sigma: jax.Array

    @classmethod
    def create(
        cls,
        fiber_fraction: tuple[float, float] | None = None,
        bounds: dict[str, tuple[float, float]] | None = None,
        extra: tuple[Parameter, ...] = (),
    ) -> Prior:
        """The default prior (docs/guide/model.md), with other edges where `bounds` names a box parameter.

        Parameters
        ----------
        fiber_fraction
            Mean and sigma of f_fiber; None fixes it at 1.
        bounds
            New edges, in the parameter's own unit.
        extra
            Parameters that the model has beyond the thirteen (`SPSModel.extra`), uniform within their bounds; `bounds`
            may narrow these.

        Raises
        ------
        ConfigError
            For a name without edges, edges out of order, or edges of an extra parameter beyond its own.
        """
        edges = {p.name: p.bounds for p in (*PARAMETERS, *extra)}
        own = {p.name: p.bounds for p in extra}
        boxes = (*_BOX, *own)
        for name, (a, b) in (bounds or {}).items():
            if name not in boxes:
                raise ConfigError(f"prior bounds for {name!r}: only {', '.join(boxes)} have edges to set")
            if not (np.isfinite(a) and np.isfinite(b) and a < b) or (name in _LOG and a <= 0):
                raise ConfigError(f"prior bounds for {name!r}: ({a}, {b}) must be finite and increasing")
            if name in own and not own[name][0] <= a < b <= own[name][1]:
                raise ConfigError(f"prior bounds for {name!r}: ({a}, {b}) reach beyond the tables' {own[name]}")
            edges[name] = (a, b)
        names = (*LATENT_NAMES, *own)
        low, high = np.zeros(len(names)), np.ones(len(names))
        for i, name in enumerate(names):
            if name in boxes:
                low[i], high[i] = np.log10(edges[name]) if name in _LOG else edges[name]
        mean, sigma = fiber_fraction if fiber_fraction is not None else (1.0, 0.0)
        return cls(jnp.asarray(low), jnp.asarray(high), jnp.asarray(float(mean)), jnp.asarray(float(sigma)))


def theta_from_unit(unit: jax.Array, prior: Prior) -> jax.Array:
    """Parameters ``(..., 13)`` from the unit cube ``(..., 12)``; one more column each for extra parameters."""
    columns = prior.low + unit * (prior.high - prior.low)
    value = dict(zip(LATENT_NAMES, jnp.moveaxis(columns[..., :N_LATENT], -1, 0), strict=True))
    x1, x2, x3 = jnp.cbrt(value["x1"]), jnp.sqrt(value["x2"]), value["x3"]
    value["beta1"], value["beta2"] = 1 - x1, x1 * (1 - x2)
    value["beta3"], value["beta4"] = x1 * x2 * (1 - x3), x1 * x2 * x3
    for name in _LOG:
        value[name] = 10.0 ** value[name]
    value["f_fiber"] = _fiber_from_unit(unit[..., LATENT_NAMES.index("f_fiber")], prior)
    theta = jnp.stack([value[p.name] for p in PARAMETERS], axis=-1)
    return theta if columns.shape[-1] == N_LATENT else jnp.concatenate([theta, columns[..., N_LATENT:]], axis=-1)


def unit_from_theta(theta: jax.Array, prior: Prior) -> jax.Array:
    """Inverse of `theta_from_unit`; values outside the prior come out outside [0, 1]."""
    value = {p.name: theta[..., i] for i, p in enumerate(PARAMETERS)}
    # sums from the far end do not cancel in the corners; x2 keeps its sign, so that beta3 + beta4 < 0 is outside
    rest2 = value["beta3"] + value["beta4"]
    x1 = value["beta2"] + rest2
    x2 = jnp.where(x1 == 0, 0.0, rest2 / jnp.where(x1 == 0, 1.0, x1))
    x3 = jnp.where(rest2 == 0, 0.0, value["beta4"] / jnp.where(rest2 == 0, 1.0, rest2))
    value |= {"x1": x1**3, "x2": x2 * jnp.abs(x2), "x3": x3}
    for name in _LOG:
        value[name] = jnp.log10(value[name])
    columns = jnp.stack([value[name] for name in LATENT_NAMES], axis=-1)
    if theta.shape[-1] > N_PARAMETERS:
        columns = jnp.concatenate([columns, theta[..., N_PARAMETERS:]], axis=-1)
    unit = (columns - prior.low) / (prior.high - prior.low)
    return unit.at[..., LATENT_NAMES.index("f_fiber")].set(_unit_from_fiber(value["f_fiber"], prior))


def theta_from_latent(latent: jax.Array, prior: Prior) -> jax.Array:
    """Parameters from standard-normal coordinates ``(..., 12)``, or more of both."""
    return theta_from_unit(unit_from_latent(latent), prior)


def unit_from_latent(latent: jax.Array) -> jax.Array:
    """Normal cumulative distribution, kept a hair inside the cube."""
    return jnp.clip(jax.scipy.special.ndtr(latent), _EDGE, 1 - _EDGE)


def latent_from_unit(unit: jax.Array) -> jax.Array:
    """Probit of the cube."""
    return jax.scipy.special.ndtri(jnp.clip(unit, _EDGE, 1 - _EDGE))


def log_prior(theta: jax.Array, prior: Prior) -> jax.Array:
    """Log density in theta ``(..., 13)`` (betas on the simplex), up to a constant; -inf outside the support."""
    unit = unit_from_theta(theta, prior)
    inside = jnp.all((unit >= -1e-9) & (unit <= 1 + 1e-9), axis=-1)
    betas = theta[..., jnp.array([INDEX[f"beta{i}"] for i in range(1, 5)])]
    inside &= jnp.all(betas >= -1e-9, axis=-1) & (jnp.abs(jnp.sum(betas, axis=-1) - 1) < 1e-5)
    gammas = theta[..., jnp.array([INDEX[n] for n in _LOG])]
    density = -jnp.sum(jnp.log(gammas), axis=-1)
    f = theta[..., INDEX["f_fiber"]]
    sigma = jnp.where(prior.fiber_sigma > 0, prior.fiber_sigma, 1.0)
    density += jnp.where(prior.fiber_sigma > 0, -0.5 * ((f - prior.fiber_mean) / sigma) ** 2, 0.0)
    return jnp.where(inside, density, -jnp.inf)


def _fiber_tail(prior: Prior) -> jax.Array:
    """Probability that the untruncated Gaussian puts below f_fiber = 0."""
    sigma = jnp.where(prior.fiber_sigma > 0, prior.fiber_sigma, 1.0)
    return jnp.where(prior.fiber_sigma > 0, jax.scipy.special.ndtr(-prior.fiber_mean / sigma), 0.0)


def _fiber_from_unit(unit: jax.Array, prior: Prior) -> jax.Array:
    tail = _fiber_tail(prior)
    quantile = jnp.clip(tail + unit * (1 - tail), _EDGE, 1 - _EDGE)
    return prior.fiber_mean + prior.fiber_sigma * jax.scipy.special.ndtri(quantile)


def _unit_from_fiber(f: jax.Array, prior: Prior) -> jax.Array:
    """0.5 where f_fiber is fixed."""
    sigma = jnp.where(prior.fiber_sigma > 0, prior.fiber_sigma, 1.0)
    tail = _fiber_tail(prior)
    unit = (jax.scipy.special.ndtr((f - prior.fiber_mean) / sigma) - tail) / (1 - tail)
    return jnp.where(prior.fiber_sigma > 0, unit, 0.5)
