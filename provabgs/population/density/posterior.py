"""Posterior of a population: draws of eta, densities with error bars, diagnostics and warnings."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray, thin
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.inference.diagnostics import Convergence
from provabgs.population.density.models import Density

FEW_DRAWS = 5.0
"""A galaxy whose sum has fewer effective draws than this counts as poorly reweighted."""
POOR_FRACTION = 0.05
"""A larger fraction of such galaxies gives a warning."""
NOTABLE_INFLATION = 1.25
"""A larger inflation of a width (`provabgs.population.density.sampling_noise`) gives a warning."""
RHAT, ESS = 1.01, 400.0
"""Convergence criterion of the chains, as for single galaxies."""


class PopulationWarning(UserWarning):
    """The population posterior exists, but one of its assumptions is doubtful."""


@dataclass(frozen=True, eq=False)
class PopulationPosterior:
    """Posterior of the parameters eta of a population.

    Attributes
    ----------
    density
        The family of populations.
    draws
        ``(nchain, ndraw, n_eta)`` equally probable unconstrained parameters.
    convergence
        R-hat and effective sample sizes of ln density at reference points, which are invariant under relabelling of
        mixture components; NaN for importance sampling, which has `efficiency` instead.
    n_galaxy
        Galaxies that entered.
    n_effective
        ``(n_galaxy,)`` effective number of draws in each galaxy's sum, at the posterior mean of eta.
    method
        ``"nuts"`` or ``"importance"``.
    warnings
        Doubts, one sentence each.
    efficiency
        Effective fraction of importance samples; NaN for NUTS.
    meta
        From the caller: names, exclusions, prior; and ``inflation``, the largest factor by which a width was inflated
        for the Monte Carlo noise of finite draws.
    """

    density: Density
    draws: FloatArray
    convergence: Convergence
    n_galaxy: int
    n_effective: FloatArray
    method: str
    warnings: tuple[str, ...] = ()
    efficiency: float = float("nan")
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def flat(self) -> FloatArray:
        """``(nchain * ndraw, n_eta)``."""
        return self.draws.reshape(-1, self.draws.shape[-1])

    def parameters(self) -> dict[str, FloatArray]:
        """What `Density.transform` gives for every draw; first axis ``(nchain * ndraw)``."""
        return {k: np.asarray(v) for k, v in jax.vmap(self.density.transform)(jnp.asarray(self.flat)).items()}

    def evaluate(self, theta: ArrayLike, max_draws: int = 1000) -> FloatArray:
        """Density at points, for each of some draws of eta.

        Parameters
        ----------
        theta
            ``(m, d)`` points, or ``(m,)`` for one property.
        max_draws
            Draws of eta at most, evenly chosen.

        Returns
        -------
        numpy.ndarray
            ``(ndraw, m)`` density per unit of the properties.

        Raises
        ------
        InputError
            For points of another dimension.
        """
        x = np.asarray(theta, dtype=np.float64)
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2 or x.shape[1] != self.density.ndim:
            raise InputError(f"theta has shape {x.shape}; the density has {self.density.ndim} properties")
        return np.exp(log_density_at(self.density, self.flat[thin(len(self.flat), max_draws)], x))

    def quantiles(self, theta: ArrayLike, q: ArrayLike = (0.16, 0.5, 0.84)) -> FloatArray:
        """Quantiles of the density at points.

        Parameters
        ----------
        theta
            ``(m, d)`` points, or ``(m,)`` for one property.
        q
            ``(nq,)`` probabilities.

        Returns
        -------
        numpy.ndarray
            ``(nq, m)``.
        """
        return np.quantile(self.evaluate(theta), np.asarray(q), axis=0)

    def predict(self, rng: np.random.Generator, n: int = 10_000) -> FloatArray:
        """Galaxies of the inferred population, uncertainty in eta included.

        Parameters
        ----------
        rng
            Source of randomness.
        n
            Number of galaxies.

        Returns
        -------
        numpy.ndarray
            ``(n, d)``.
        """
        etas = self.flat[thin(len(self.flat), min(n, 500))]
        per = -(-n // len(etas))
        return np.concatenate([self.density.sample(eta, rng, per) for eta in etas])[:n]

    def save(self, path: str | Path) -> None:
        """Write draws, parameters and diagnostics to an HDF5 file."""
        from provabgs.core.atomic import atomic_path
        from provabgs.core.hdf5 import create

        with atomic_path(path) as temporary, create(temporary) as f:
            f.attrs["format"] = "provabgs-population-1"
            f.attrs["density"] = repr(self.density)
            f.attrs["method"] = self.method
            f.attrs["warnings"] = json.dumps(self.warnings)
            f.attrs["meta"] = json.dumps(self.meta, default=str, sort_keys=True)
            f.attrs["rhat_max"] = self.convergence.rhat_max
            f.attrs["ess_min"] = self.convergence.ess_min
            f.attrs["efficiency"] = self.efficiency
            f["eta"] = self.draws
            f["n_effective"] = self.n_effective
            for name, values in self.parameters().items():
                f[f"parameters/{name}"] = values


def log_density_at(density: Density, etas: FloatArray, theta: FloatArray) -> FloatArray:
    """Ln p of points for many eta.

    Parameters
    ----------
    density
        Family of populations.
    etas
        ``(n, n_eta)``.
    theta
        ``(m, d)``.

    Returns
    -------
    numpy.ndarray
        ``(n, m)``.
    """
    return np.asarray(_log_density_at(density, jnp.asarray(etas), jnp.asarray(theta)))


@partial(jax.jit, static_argnums=0)
def _log_density_at(density: Density, etas: jax.Array, theta: jax.Array) -> jax.Array:
    return jax.lax.map(lambda eta: density.log_prob(eta, theta), etas, batch_size=64)


def judge(
    n_effective: FloatArray,
    convergence: Convergence | None = None,
    pareto_k: float = float("nan"),
    inflation: float = float("nan"),
    quiet: bool = False,
) -> tuple[str, ...]:
    """Doubts about a population posterior.

    Parameters
    ----------
    n_effective
        ``(n,)`` effective draws per galaxy.
    convergence
        Of the chains, where there are any.
    pareto_k
        Shape of the tail of importance weights; NaN for NUTS.
    inflation
        Largest factor by which a width was inflated for Monte Carlo noise; NaN where it was not.
    quiet
        Issue no Python warnings.

    Returns
    -------
    tuple
        One sentence per doubt, each also issued as a `PopulationWarning` unless quiet.
    """
    found = []
    poor = n_effective < FEW_DRAWS
    if poor.size and poor.mean() > POOR_FRACTION:
        found.append(
            f"reweighting breaks down: {int(poor.sum())} of {poor.size} galaxies have fewer than {FEW_DRAWS:g} "
            f"effective draws (median of all {np.median(n_effective):.3g}); the population is too narrow for the draws "
            "or far from the inference prior: keep more draws, or sample a corrected prior"
        )
    if convergence is not None and not convergence.passes(RHAT, ESS):
        found.append(
            f"the chains have not converged: R-hat {convergence.rhat_max:.3f}, ESS {convergence.ess_min:.0f} "
            f"(criterion {RHAT:g}, {ESS:g}); raise the number of draws"
        )
    if np.isfinite(pareto_k) and pareto_k > 0.7:
        found.append(f"importance weights are heavy-tailed (Pareto k = {pareto_k:.2f} > 0.7): use NUTS on a subset")
    if inflation > NOTABLE_INFLATION:
        found.append(
            f"Monte Carlo noise of the draws inflates the width of the result by up to {inflation:.2f}: keep more "
            "draws per galaxy (store.n_samples)"
        )
    for sentence in () if quiet else found:
        warnings.warn(sentence, PopulationWarning, stacklevel=3)
    return tuple(found)
