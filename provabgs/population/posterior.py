"""What a population inference gives back: draws of eta, densities with error bars, and how far they may be trusted."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray, thin
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.inference.diagnostics import Convergence
from provabgs.population.densities import Density

FEW_DRAWS = 5.0
"""A galaxy whose sum rests on fewer effective draws than this is counted as poorly reweighted."""
POOR_SHARE = 0.05
"""More than this share of such galaxies makes the whole result suspect."""
NOTABLE_WIDENING = 1.25
"""Factor on a width by the noise of finite draws (`provabgs.population.noise`) above which it is said."""
RHAT, ESS = 1.01, 400.0
"""Gate on the chains, as for single galaxies."""


class PopulationWarning(UserWarning):
    """The population posterior exists, but something about it must be minded."""


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
        R-hat and effective sample sizes of ln density at reference points (which do not mind what components are
        called); NaN for importance sampling, which has `efficiency` instead.
    n_galaxy
        Galaxies that entered.
    n_effective
        ``(n_galaxy,)`` effective number of draws behind each galaxy's sum, at the posterior mean of eta.
    method
        ``"nuts"`` or ``"importance"``.
    warnings
        What must be minded, one sentence each.
    efficiency
        Effective share of importance samples; NaN for NUTS.
    meta
        What the caller wants kept: names, exclusions, prior; and ``draw_noise``, the largest factor on a width by
        which the posterior was widened for the noise of finite draws.
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
        """Density at ``theta (m, d)`` (``(m,)`` for one property) for up to `max_draws` draws, ``(ndraw, m)``."""
        x = np.asarray(theta, dtype=np.float64)
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2 or x.shape[1] != self.density.ndim:
            raise InputError(f"theta has shape {x.shape}; the density has {self.density.ndim} properties")
        return np.exp(log_density_at(self.density, self.flat[thin(len(self.flat), max_draws)], x))

    def quantiles(self, theta: ArrayLike, q: ArrayLike = (0.16, 0.5, 0.84)) -> FloatArray:
        """Quantiles of the density at each of `theta`, ``(nq, m)``."""
        return np.quantile(self.evaluate(theta), np.asarray(q), axis=0)

    def predict(self, rng: np.random.Generator, n: int = 10_000) -> FloatArray:
        """``(~n, d)`` galaxies of the inferred population, uncertainty in eta included."""
        etas = self.flat[thin(len(self.flat), min(n, 500))]
        per = -(-n // len(etas))
        return np.concatenate([self.density.sample(eta, rng, per) for eta in etas])[:n]

    def save(self, path: str | Path) -> None:
        """Write draws, parameters and diagnostics to an HDF5 file."""
        from provabgs.core.atomic import atomic_path

        with atomic_path(path) as temporary, h5py.File(temporary, "w") as f:
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
    """Ln p of ``theta (m, d)`` for each of ``etas (n, n_eta)``, ``(n, m)``."""
    return np.asarray(_log_density_at(density, jnp.asarray(etas), jnp.asarray(theta)))


@partial(jax.jit, static_argnums=0)
def _log_density_at(density: Density, etas: jax.Array, theta: jax.Array) -> jax.Array:
    return jax.lax.map(lambda eta: density.log_prob(eta, theta), etas, batch_size=64)


def judge(
    n_effective: FloatArray,
    convergence: Convergence | None = None,
    pareto_k: float = float("nan"),
    widening: float = float("nan"),
    quiet: bool = False,
) -> tuple[str, ...]:
    """Sentences on what went wrong, each also issued as a `PopulationWarning` unless quiet."""
    found = []
    poor = n_effective < FEW_DRAWS
    if poor.size and poor.mean() > POOR_SHARE:
        found.append(
            f"reweighting breaks down: {int(poor.sum())} of {poor.size} galaxies rest on fewer than {FEW_DRAWS:g} "
            f"effective draws (median of all {np.median(n_effective):.3g}); the population is narrower than the draws "
            "can tell, or far from where the inference prior put them: keep more draws, or sample a corrected prior"
        )
    if convergence is not None and not convergence.passes(RHAT, ESS):
        found.append(
            f"the chains have not converged: R-hat {convergence.rhat_max:.3f}, ESS {convergence.ess_min:.0f} "
            f"(gate {RHAT:g}, {ESS:g}); raise the number of draws"
        )
    if np.isfinite(pareto_k) and pareto_k > 0.7:
        found.append(f"importance weights are heavy-tailed (Pareto k = {pareto_k:.2f} > 0.7): use NUTS on a subset")
    if widening > NOTABLE_WIDENING:
        found.append(
            f"the noise of sums over finite draws widens the result, in some direction by {widening:.2f}: keep more "
            "draws a galaxy (store.n_samples)"
        )
    for sentence in () if quiet else found:
        warnings.warn(sentence, PopulationWarning, stacklevel=3)
    return tuple(found)
