"""Galaxies of foreign stars with the histories and the dust of the fitted model, drawn from its prior.

Such galaxies differ from the fitted model in their stars and in the imperfections of the data alone, so that coverage
on them is that of the noise model. `HonestGalaxies` have foreign histories and dust too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import SOLAR_Z_PROVABGS
from provabgs.core.errors import InputError
from provabgs.core.jax import jnp
from provabgs.inference.prior_draws import draw_prior
from provabgs.inference.priors import Prior
from provabgs.sps.derived import derived_properties
from provabgs.sps.model import SPSModel
from studies.support.honest_galaxies import HonestGalaxies

PRIOR = "prior"
"""The one kind of history."""


class ModelGalaxies(HonestGalaxies):
    """Makes galaxies of the stars of one library by the package's own model; see `HonestGalaxies`."""

    kinds: tuple[str, ...] = (PRIOR,)

    @property
    def prior_bounds(self) -> dict[str, tuple[float, float]]:
        """The metallicities that both libraries have, too: stars beyond a grid would be those of its edge."""
        lowest = SOLAR_Z_PROVABGS * 10 ** float(max(self.library.logzsol[0], self.survivors.logzsol[0]))
        highest = SOLAR_Z_PROVABGS * 10 ** float(min(self.library.logzsol[-1], self.survivors.logzsol[-1]))
        out = super().prior_bounds
        for name in ("gamma1", "gamma2"):
            low, high = self.fitted.parameters[name].bounds
            out[name] = (max(low, lowest), min(high, highest))
        return out

    @cached_property
    def model(self) -> SPSModel:
        """The model with the stars of the galaxies."""
        return SPSModel(self.library)

    @cached_property
    def fitted(self) -> SPSModel:
        """The model that is fitted: its stars survive as the truth says."""
        return SPSModel()

    def draw(
        self, kind: str, t_age: float, rng: np.random.Generator
    ) -> tuple[FloatArray, Callable[[float], dict[str, float]]]:
        """See `HonestGalaxies.draw`."""
        if kind != PRIOR:
            raise InputError(f"histories of these galaxies are from the prior: kind {PRIOR!r}, not {kind!r}")
        prior = Prior.of(self.model.parameters, self.prior_bounds)
        theta = draw_prior(prior, 1, rng)
        total = self.model.parameters.index(self.model.linear_block.total)
        theta[:, total] = 0.0
        light = self.model.spectrum(jnp.asarray(theta), self.model.tables(t_age))[0]
        tables = self.fitted.tables(t_age)

        def truth(log_mass: float) -> dict[str, float]:
            scaled = theta.copy()
            scaled[:, total] = log_mass + np.log10(self.mass_ratio)
            derived = derived_properties(self.fitted, jnp.asarray(scaled), tables)
            dust = {n: float(scaled[0, self.model.parameters.index(n)]) for n in ("tau_bc", "tau_ism", "n_dust")}
            return {"logmstar": float(scaled[0, total]), **{k: float(v[0]) for k, v in derived.items()}, **dust}

        return np.asarray(light, dtype=np.float64) * self.library.lsun_cgs, truth
