"""SPS models whose spectra come from a network: they go wherever an `SPSModel` goes, as the exact likelihood's model.

Histories, masses and derived properties are those of the conventions that the network was trained in.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from provabgs.core.constants import Z_RANGE_PROVABGS
from provabgs.core.jax import jax, jnp
from provabgs.emulator.component import ComponentEmulator, synthesise
from provabgs.emulator.encoding import gammas
from provabgs.emulator.errors import EmulatorFileError
from provabgs.emulator.mixture import GalaxyMasses, columns, mix
from provabgs.emulator.published import PublishedEmulator, ln_luminosity, nmf_inputs
from provabgs.sps.attenuation import CharlotFall
from provabgs.sps.composite import composite
from provabgs.sps.histories import HistoryTables, NMFHistories
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel


class PublishedNetworkModel(SPSModel):
    """The published networks as a model, for posteriors as published; see `SPSModel.published` for its conventions.

    Parameters
    ----------
    nmf, burst
        Files of arrays (``.npz``), see `PublishedEmulator`.
    library
        The SSP library whose wavelengths the spectra go on, and whose masses derived properties take.

    Raises
    ------
    DataFileError
        When a file cannot be read.
    EmulatorFileError
        When the networks' wavelengths are not the library's.
    """

    def __init__(self, nmf: str | Path, burst: str | Path, library: SSPLibrary | None = None) -> None:
        self._bases = NMFHistories(binning="published", normalisation="joint")
        super().__init__(library, self._bases, CharlotFall(birth_cloud_slope=-1.0), t_birth_cloud=0.01)
        self._nmf, self._burst = PublishedEmulator(nmf), PublishedEmulator(burst)
        if not np.array_equal(self._nmf.wave, self.library.wave):
            raise EmulatorFileError(f"{nmf}: its wavelengths are not those of the SSP library; use the one that ships")
        self._burst_columns = jnp.asarray(np.searchsorted(self.library.wave, self._burst.wave))

    @cached_property
    def flat_spectra(self) -> Any:
        """Weights of both networks: what a compiled function takes in place of SSPs."""
        return self._nmf.weights, self._burst.weights

    def spectrum(self, theta: jax.Array, tables: HistoryTables, flat_spectra: Any = None) -> jax.Array:
        """See `SPSModel.spectrum`. Below 2305 A, where the burst network has no light, a burst is as at 2305 A."""
        nmf, burst = self.flat_spectra if flat_spectra is None else flat_spectra
        t_age, values, table = jnp.asarray(tables.t_age), self.parameters.values(theta), self._bases.bases
        smooth = jnp.exp(ln_luminosity(nmf, nmf_inputs(values, t_age).astype(jnp.float32)))
        tburst, fburst = values["tburst"], values["fburst"][:, None]
        bases = jnp.stack([jnp.interp(tburst, table.time, row) for row in table.zh], axis=1)
        z = jnp.clip(jnp.sum(gammas(values) * bases, axis=1), *Z_RANGE_PROVABGS)
        dust = [values[n] for n in ("tau_ism", "n_dust")]
        inputs = jnp.stack([jnp.log10(tburst), jnp.log10(z), *dust], axis=1).astype(jnp.float32)
        light = jnp.exp(ln_luminosity(burst, inputs))
        first = light.shape[1] - self.library.wave.size
        light = jnp.concatenate([jnp.repeat(light[:, :1], -first, axis=1), light], axis=1)
        light = jnp.where((tburst <= t_age)[:, None], light, 0.0)
        return 10.0 ** values["logmstar"][:, None] * ((1 - fburst) * smooth + fburst * light)


class ComponentModel(SPSModel):
    """An emulator of components as a model: every wavelength, no compression.

    Parameters
    ----------
    emulator
        Weights.
    model
        The model they were trained on; its settings are taken over.

    Raises
    ------
    EmulatorFileError
        When they do not belong together.
    """

    def __init__(self, emulator: ComponentEmulator, model: SPSModel) -> None:
        emulator.require_model(model)
        super().__init__(
            model.library, model.histories, model.attenuation, t_birth_cloud=model.t_birth_cloud, solar_z=model.solar_z
        )
        self.emulator = emulator

    @cached_property
    def flat_spectra(self) -> Any:
        """Weights and basis functions: what a compiled function takes in place of SSPs."""
        return self.emulator.arrays, self.emulator.device_functions

    def spectrum(self, theta: jax.Array, tables: HistoryTables, flat_spectra: Any = None) -> jax.Array:
        """See `SPSModel.spectrum`; NaN outside the training range, so that nothing is extrapolated unseen."""
        arrays, functions = self.flat_spectra if flat_spectra is None else flat_spectra
        mass = jnp.asarray(tables.mass)
        parts = (mass[..., nodes].sum(axis=-1) for nodes in (self.young_nodes, self.old_nodes))
        t_age = jnp.asarray(tables.t_age)
        masses = GalaxyMasses(*(jnp.asarray(a, jnp.float32) for a in (t_age, tables.weight, *parts)))
        values = self.parameters.values(theta)
        mixed = mix(values, masses, columns(values, masses, arrays, self.emulator.layout))
        transmission = self.attenuation.transmission(self._curves, values)
        spectrum = 10.0 ** values["logmstar"][:, None] * composite(synthesise(mixed, functions), transmission)
        return jnp.where(self.emulator.inside(values, t_age)[:, None], spectrum, jnp.nan)


@lru_cache(maxsize=2)
def load_published_model(nmf: str, burst: str) -> PublishedNetworkModel:
    """`PublishedNetworkModel`, read once per process."""
    return PublishedNetworkModel(nmf, burst)
