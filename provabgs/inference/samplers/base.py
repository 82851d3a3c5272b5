"""What a sampler is given and what it gives back; nothing here knows of galaxies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.inference.config import SamplerOptions
from provabgs.inference.diagnostics import Convergence


@dataclass(frozen=True)
class MarginalPosterior:
    """A posterior with its linear coordinates integrated out, and the way back to all of them.

    Attributes
    ----------
    log_marginal
        ``(batch, n_outer)`` to ``(batch,)``: log of prior times approximate marginal likelihood.
    draw_linear
        ``(outer (batch, n_outer), uniforms (batch, ndraw, n_uniform))`` to all coordinates ``(batch, n_latent)``, the
        linear ones picked from their exact conditional, and an unbiased estimate ``(batch,)`` of the marginal that
        `log_marginal` approximates: weighted by it, the coordinates are draws of the exact posterior.
    n_outer, n_latent
        Numbers of coordinates without the linear ones, and of all.
    n_uniform
        Uniforms in (0, 1) that one draw of the linear coordinates takes.
    small
        Outer coordinates whose parameters matter when they are small; see `provabgs.inference.samplers.start`.
    """

    log_marginal: Callable[[FloatArray], FloatArray]
    draw_linear: Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
    n_outer: int
    n_latent: int
    n_uniform: int
    small: tuple[int, ...] = ()


@dataclass(frozen=True)
class Target:
    """A posterior in standard-normal coordinates.

    Attributes
    ----------
    n_dim
        Number of coordinates.
    log_likelihood
        ``(batch, n_dim)`` latent coordinates to ln L ``(batch,)``; finite or -inf.
    monitor
        ``(batch, n_dim)`` to the quantities ``(batch, nquantity)`` that the convergence criterion is held against
        (parameters and derived properties).
    marginal
        The posterior with its linear coordinates integrated out, where the likelihood offers it.
    gradient
        ``(batch, n_dim)`` to the gradient ``(batch, n_dim)`` of ln L, for samplers that use it.
    misfit
        ``(n_dim,)`` latent coordinates of a draw to why the data refuse it, empty where they do not; None where nothing
        can be said. What has no good fit is given less time (`SamplerOptions.misfit_eval`).
    """

    n_dim: int
    log_likelihood: Callable[[FloatArray], FloatArray]
    monitor: Callable[[FloatArray], FloatArray]
    marginal: MarginalPosterior | None = None
    gradient: Callable[[FloatArray], FloatArray] | None = None
    misfit: Callable[[FloatArray], str] | None = None

    def log_prob(self, latent: FloatArray) -> FloatArray:
        """Ln L plus the standard-normal prior, ``(batch,)``; NaN becomes -inf."""
        value = self.log_likelihood(latent) - 0.5 * np.sum(latent**2, axis=1)
        return np.where(np.isfinite(value), value, -np.inf)


class SamplerResult(NamedTuple):
    """Chains of the exact posterior."""

    draws: FloatArray
    """``(nchain, ndraw, n_dim)`` latent coordinates after burn-in."""
    log_likelihood: FloatArray
    """``(nchain, ndraw)``."""
    convergence: Convergence
    """Of the monitored quantities."""
    n_eval: int
    sampler: str
    n_divergent: int = 0
    log_evidence: float = float("nan")
    evidence_spread: float = float("nan")
    """ln Z of the best independent start over that of the second best."""
    reason: str = ""
    """Why the draws are not converged whatever `convergence` says; empty where nothing speaks against them."""
    message: str = ""
    gave_up: bool = False
    """Whether sampling ended early because the data refuse the best draw."""


class Sampler(Protocol):
    """A sampler: deterministic given the generator, never raising for a bad posterior."""

    def __call__(self, target: Target, rng: np.random.Generator, options: SamplerOptions) -> SamplerResult:
        """Sample until the convergence criterion of `options` holds or its budget ends.

        Parameters
        ----------
        target
            The posterior.
        rng
            Random generator: the only source of random numbers.
        options
            Convergence criterion and budget.

        Returns
        -------
        SamplerResult
            Converged or not.

        Raises
        ------
        StartError
            When the likelihood is nowhere finite.
        """
        ...


class StartError(Exception):
    """No point of finite likelihood was found to start from."""


def find_start(target: Target, rng: np.random.Generator, n_prior: int = 4096) -> tuple[FloatArray, FloatArray, int]:
    """Draw points from the prior to start chains from.

    Parameters
    ----------
    target
        The posterior.
    rng
        Random generator.
    n_prior
        Number of draws.

    Returns
    -------
    points
        ``(n_prior, n_dim)`` latent coordinates, best first.
    values
        ``(n_prior,)`` ln L.
    n_eval
        Number of evaluations.

    Raises
    ------
    StartError
        When ln L is -inf or NaN for all of them.
    """
    points = rng.standard_normal((n_prior, target.n_dim))
    values = np.concatenate([target.log_likelihood(points[i : i + 512]) for i in range(0, n_prior, 512)])
    values = np.where(np.isfinite(values), values, -np.inf)
    if not np.any(np.isfinite(values)):
        raise StartError(f"ln L is -inf or NaN at all of {n_prior} draws from the prior")
    order = np.argsort(-values)
    return points[order], values[order], n_prior
