"""Priors: maps between the unit cube that samplers explore, the parameters, and their density.

The map follows from a `ParameterSet`. A uniform or log-uniform parameter has one coordinate, a normal or Student-t one
too (through its truncated distribution function). The n fractions of a simplex come from n - 1 uniforms by the flat
Dirichlet map of Betancourt (2012, arXiv:1010.3436): ``x_k = u_k^(1/(n-k))``, ``beta_1 = 1 - x_1``,
``beta_2 = x_1 (1 - x_2)``, ..., ``beta_n = x_1 x_2 ... x_(n-1)``. Samplers move in the probit of the cube, where the
prior is a standard normal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from provabgs.core.errors import ConfigError, InputError
from provabgs.core.jax import jax, jnp
from provabgs.sps.parameters import ParameterSet

_EDGE = 1e-12
_SLACK = 1e-9
"""Parameters this far outside the prior, in its unit cube, are rounding, not outside."""


class Distribution(NamedTuple):
    """A symmetric distribution of centre 0 and scale 1."""

    cdf: Callable[[Any], jax.Array]
    quantile: Callable[[jax.Array], jax.Array]
    log_density: Callable[[jax.Array], jax.Array]
    """Up to a constant."""


DISTRIBUTIONS = {
    "normal": Distribution(jax.scipy.special.ndtr, jax.scipy.special.ndtri, lambda x: -0.5 * x**2),
    # of two degrees of freedom, in closed form
    "student-t": Distribution(
        lambda x: 0.5 + 0.5 * x / jnp.sqrt(2.0 + x**2),
        lambda p: (2.0 * p - 1.0) / jnp.sqrt(2.0 * p * (1.0 - p)),
        lambda x: -1.5 * jnp.log1p(0.5 * x**2),
    ),
}
"""Of parameters that are not flat in themselves, nor in their logarithm."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("low", "high", "mean", "sigma"),
    meta_fields=("parameters",),
)
@dataclass(frozen=True)
class Prior:
    """One galaxy's prior; a pytree of numbers over a fixed set of parameters, so that galaxies share compilations.

    Attributes
    ----------
    parameters
        What theta's last axis holds.
    low, high
        ``(n_coordinate,)`` edges by coordinate (log10 of them where the prior is log-uniform; 0 and 1 for simplices,
        normal and Student-t priors).
    mean, sigma
        ``(n_coordinate,)`` of normal and Student-t priors; sigma 0 holds a parameter at its mean.
    """

    parameters: ParameterSet
    low: jax.Array
    high: jax.Array
    mean: jax.Array
    sigma: jax.Array

    @classmethod
    def of(
        cls,
        parameters: ParameterSet,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        normal: Mapping[str, tuple[float, float]] | None = None,
    ) -> Prior:
        """The prior that the parameters declare, with other edges where `bounds` names some.

        Parameters
        ----------
        parameters
            Of the model and the observation.
        bounds
            New edges by parameter name, in the parameter's own unit.
        normal
            Mean and sigma of normal priors by name; a normal parameter that is not named has what it declares
            (`f_fiber` is held at 1).

        Returns
        -------
        Prior
            In double precision.

        Raises
        ------
        ConfigError
            For an unknown name, a prior without edges, edges out of order, or edges beyond a table's.
        """
        edged, normal = parameters.with_bounds(bounds or {}), dict(normal or {})
        n = len(parameters.coordinates)
        low, high, mean, sigma = np.zeros(n), np.ones(n), np.ones(n), np.zeros(n)
        for k, name in enumerate(parameters.coordinates):
            if name not in edged:
                continue
            p = edged[name]
            if p.prior in DISTRIBUTIONS:
                declared = (p.centre, p.scale)
                mean[k], sigma[k] = normal.pop(name, declared) if p.prior == "normal" else declared
            else:
                low[k], high[k] = np.log10(p.bounds) if p.prior == "log-uniform" else p.bounds
        if normal:
            raise ConfigError(f"{next(iter(normal))!r} has no normal prior among {', '.join(parameters.names)}")
        return cls(parameters, *(jnp.asarray(x) for x in (low, high, mean, sigma)))

    @property
    def n_coordinate(self) -> int:
        """Number of coordinates of the unit cube."""
        return len(self.parameters.coordinates)

    def edges(self, name: str) -> tuple[jax.Array, jax.Array]:
        """Low and high edge of a parameter, log10 of them where its prior is log-uniform."""
        k = self.parameters.coordinates.index(name)
        return self.low[k], self.high[k]


def theta_from_unit(unit: jax.Array, prior: Prior) -> jax.Array:
    """Parameters from the unit cube.

    Parameters
    ----------
    unit
        ``(..., n_coordinate)`` in [0, 1].
    prior
        The galaxy's prior.

    Returns
    -------
    jax.Array
        ``(..., size)``, each parameter in its own unit.

    Raises
    ------
    InputError
        When the cube has another number of coordinates; names those that are expected.
    """
    shape = np.shape(unit)
    if not shape or shape[-1] != prior.n_coordinate:
        names = ", ".join(prior.parameters.coordinates)
        raise InputError(f"unit cube has shape {shape}, expected (..., {prior.n_coordinate}) for {names}")
    # n fractions on the simplex take n - 1 coordinates, so that coordinates and parameters are counted apart
    columns = prior.low + unit * (prior.high - prior.low)
    out: list[jax.Array] = []
    k = 0
    for group in prior.parameters.groups:
        kind = prior.parameters.parameters[group[0]].prior
        if kind == "flat-dirichlet":
            n = len(group)
            out += _fractions([columns[..., k + i] for i in range(n - 1)], shape[:-1])
            k += n - 1
            continue
        value = columns[..., k]
        if kind == "log-uniform":
            value = 10.0**value
        elif kind in DISTRIBUTIONS:
            value = _value_from_unit(unit[..., k], prior, k, group[0])
        out.append(value)
        k += 1
    return jnp.stack(out, axis=-1)


def unit_from_theta(theta: jax.Array, prior: Prior) -> jax.Array:
    """Inverse of `theta_from_unit`.

    Parameters
    ----------
    theta
        ``(..., size)`` parameter vectors; fractions on their simplex.
    prior
        The galaxy's prior.

    Returns
    -------
    jax.Array
        ``(..., n_coordinate)``; outside [0, 1] for values outside the prior.

    Raises
    ------
    InputError
        When the last axis of theta does not have `size` entries.
    """
    prior.parameters.check(theta)
    columns: list[jax.Array] = []
    normals: list[tuple[int, int]] = []
    for group in prior.parameters.groups:
        kind = prior.parameters.parameters[group[0]].prior
        if kind == "flat-dirichlet":
            columns += _sticks([theta[..., i] for i in group])
            continue
        value = theta[..., group[0]]
        if kind in DISTRIBUTIONS:
            normals.append((len(columns), group[0]))
        columns.append(jnp.log10(value) if kind == "log-uniform" else value)
    unit = (jnp.stack(columns, axis=-1) - prior.low) / (prior.high - prior.low)
    for k, i in normals:
        unit = unit.at[..., k].set(_unit_from_value(theta[..., i], prior, k, i))
    return unit


def theta_from_latent(latent: jax.Array, prior: Prior) -> jax.Array:
    """Parameters from standard-normal coordinates.

    Parameters
    ----------
    latent
        ``(..., n_coordinate)``.
    prior
        The galaxy's prior.

    Returns
    -------
    jax.Array
        ``(..., size)``, each parameter in its own unit.

    Raises
    ------
    InputError
        When there is another number of coordinates.
    """
    return theta_from_unit(unit_from_latent(latent), prior)


def unit_from_latent(latent: jax.Array) -> jax.Array:
    """Standard normal CDF, clipped to [1e-12, 1 - 1e-12] so that its inverse is finite."""
    return jnp.clip(jax.scipy.special.ndtr(latent), _EDGE, 1 - _EDGE)


def latent_from_unit(unit: jax.Array) -> jax.Array:
    """Inverse of `unit_from_latent`, finite everywhere."""
    return jax.scipy.special.ndtri(jnp.clip(unit, _EDGE, 1 - _EDGE))


def log_prior(theta: jax.Array, prior: Prior) -> jax.Array:
    """Log density in theta, up to a constant.

    Parameters
    ----------
    theta
        ``(..., size)``; fractions on their simplex.
    prior
        The galaxy's prior.

    Returns
    -------
    jax.Array
        ``(...)``; -inf outside the support.
    """
    unit = unit_from_theta(theta, prior)
    inside = jnp.all((unit >= -_SLACK) & (unit <= 1 + _SLACK), axis=-1)
    # in theta the prior is flat, but for log-uniform parameters (density 1 / value), normal and Student-t ones
    density = jnp.zeros(theta.shape[:-1])
    k = 0
    for group in prior.parameters.groups:
        kind = prior.parameters.parameters[group[0]].prior
        value = theta[..., group[0]]
        if kind == "flat-dirichlet":
            betas = theta[..., jnp.array(group)]
            inside &= jnp.all(betas >= -_SLACK, axis=-1) & (jnp.abs(jnp.sum(betas, axis=-1) - 1) < 1e-5)
            k += len(group) - 1
            continue
        if kind == "log-uniform":
            density -= jnp.log(value)
        elif kind in DISTRIBUTIONS:
            mean, sigma, free = prior.mean[k], jnp.where(prior.sigma[k] > 0, prior.sigma[k], 1.0), prior.sigma[k] > 0
            density += jnp.where(free, DISTRIBUTIONS[kind].log_density((value - mean) / sigma), 0.0)
        k += 1
    return jnp.where(inside, density, -jnp.inf)


def _root(x: jax.Array, power: int) -> jax.Array:
    """``x^(1/power)``, by functions that are exact to the last digit where there are such."""
    if power == 1:
        return x
    if power == 2:
        return jnp.sqrt(x)
    return jnp.cbrt(x) if power == 3 else x ** (1.0 / power)


def _fractions(uniforms: list[jax.Array], shape: tuple[int, ...]) -> list[jax.Array]:
    """Fractions of a simplex, each of `shape`, from the uniforms of its coordinates."""
    n = len(uniforms) + 1
    sticks = [_root(u, n - 1 - k) for k, u in enumerate(uniforms)]
    out, left = [], None
    for stick in sticks:
        out.append(1 - stick if left is None else left * (1 - stick))
        left = stick if left is None else left * stick
    return [*out, jnp.ones(shape) if left is None else left]


def _sticks(fractions: list[jax.Array]) -> list[jax.Array]:
    """Inverse of `_fractions`: uniforms from fractions."""
    n = len(fractions)
    if n == 1:
        return []  # the one fraction is 1
    # sums from the far end do not cancel in the corners; coordinates keep their sign, so that beta < 0 is outside
    rest = [fractions[-1]]
    for f in reversed(fractions[1:-1]):
        rest.insert(0, f + rest[0])
    out: list[jax.Array] = []
    before: jax.Array | None = None
    for k, r in enumerate(rest):
        stick = r if before is None else jnp.where(before == 0, 0.0, r / jnp.where(before == 0, 1.0, before))
        power = n - 1 - k
        out.append(stick if power == 1 else stick**power if power % 2 else stick * jnp.abs(stick) ** (power - 1))
        before = r
    return out


def _support(prior: Prior, k: int, i: int) -> tuple[jax.Array, Any]:
    """Probability that the untruncated distribution puts below its support, and on it."""
    parameter = prior.parameters.parameters[i]
    low, high = parameter.bounds
    cdf = DISTRIBUTIONS[parameter.prior].cdf
    sigma = jnp.where(prior.sigma[k] > 0, prior.sigma[k], 1.0)
    below = cdf((low - prior.mean[k]) / sigma) if np.isfinite(low) else 0.0
    above = cdf((prior.mean[k] - high) / sigma) if np.isfinite(high) else 0.0
    below = jnp.where(prior.sigma[k] > 0, below, 0.0)
    return below, 1 - below - above


def _value_from_unit(unit: jax.Array, prior: Prior, k: int, i: int) -> jax.Array:
    below, within = _support(prior, k, i)
    quantile = jnp.clip(below + unit * within, _EDGE, 1 - _EDGE)
    return prior.mean[k] + prior.sigma[k] * DISTRIBUTIONS[prior.parameters.parameters[i].prior].quantile(quantile)


def _unit_from_value(value: jax.Array, prior: Prior, k: int, i: int) -> jax.Array:
    """0.5 where the parameter is held fixed."""
    sigma = jnp.where(prior.sigma[k] > 0, prior.sigma[k], 1.0)
    below, within = _support(prior, k, i)
    unit = (DISTRIBUTIONS[prior.parameters.parameters[i].prior].cdf((value - prior.mean[k]) / sigma) - below) / within
    return jnp.where(prior.sigma[k] > 0, unit, 0.5)
