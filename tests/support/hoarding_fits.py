"""A fit that leaves compiled functions and a frayed heap behind, as galaxies of ever other shapes do."""

from __future__ import annotations

from dataclasses import replace

from provabgs.core.compilations import n_compiled
from provabgs.core.jax import jax, jnp
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation
from provabgs.pipelines import dry_run

EACH = 60
"""Functions that a fit compiles."""
kept: list[object] = []


def fit_observation(observation: Observation, config: FitConfig, seed: int) -> Posterior:
    for k in range(EACH):
        function = jax.jit(lambda x, k=k: x + k)
        function(jnp.zeros(2))
        kept.append(function)
    pieces = [(bytearray(32 << 10), bytearray(200)) for _ in range(4000)]  # 125 MiB, and small ones that stay
    kept.extend(small for _, small in pieces[::40])
    posterior = dry_run.fit_observation(observation, config, seed)
    return replace(posterior, meta={**posterior.meta, "N_COMPILED": n_compiled()})
