"""What a sampler is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.inference.config import SamplerOptions
from provabgs.inference.diagnostics import Convergence
from provabgs.inference.marginalised import CollapsedPosterior


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
        ``(batch, n_dim)`` to the quantities ``(batch, nquantity)`` that the convergence gate is held against
        (parameters and derived properties).
    collapsed
        The posterior with its linear directions integrated out, where the engine offers it.
    """

    n_dim: int
    log_likelihood: Callable[[FloatArray], FloatArray]
    monitor: Callable[[FloatArray], FloatArray]
    collapsed: CollapsedPosterior | None = None

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
    message: str = ""


class Sampler(Protocol):
    """A sampler: deterministic given the generator, never raising for a bad posterior."""

    def __call__(self, target: Target, rng: np.random.Generator, options: SamplerOptions) -> SamplerResult:
        """Sample until the gate of `options` holds or its budget ends."""
        ...


class StartError(Exception):
    """No point of finite likelihood was found to start from."""


def find_start(target: Target, rng: np.random.Generator, n_prior: int = 4096) -> tuple[FloatArray, FloatArray, int]:
    """Prior draws with their ln L, best first: ``(n, n_dim)``, ``(n,)``, and the number of evaluations.

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
