"""Dust emission in energy balance with the starlight that dust absorbs (Draine & Li 2007, as in FSPS).

Dust gives back all that it absorbs, of young and of old stars. The spectrum has three parameters, which are fixed: what
comes out below 6 um is 1.6 % of the luminosity with FSPS's defaults, and follows the PAHs; bands shorter than W3 do not
tell the parameters apart. Emission is not attenuated again, which FSPS does; Calzetti's curve ends at 3.1 um, and at
2-3 um it matters to less than 1 % of the light (docs/studies/parity.md).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError
from provabgs.core.jax import jax, jnp
from provabgs.sps.dust_grid import REFERENCE_BAND, DustGrid
from provabgs.sps.emission import Unseen
from provabgs.sps.library import SSPLibrary
from provabgs.sps.nebular.grid import LYMAN_LIMIT_AA
from provabgs.sps.parameters import Parameter, Values

LYMAN_ALPHA_AA = 1215.67
LYMAN_ALPHA_PER_PHOTON = 0.68
"""Lyman alpha photons per recombination in case B at 10^4 K (Osterbrock & Ferland 2006, section 4.5)."""
LATEST_START_AA = 2205.0
"""A library that begins later has too little light in the reference band to scale the ultraviolet by."""


class DustEmission:
    """What dust absorbs, as infrared light; see `provabgs.sps.emission`.

    Parameters
    ----------
    umin
        Radiation field that most of the dust sees, over that near the Sun.
    gamma
        Fraction of the dust in fields from `umin` to 1e6.
    qpah
        Per cent of the dust mass in PAHs. The three defaults are FSPS's.
    grid
        Tables; those that ship when None.

    Raises
    ------
    DataFileError
        When the tables that ship are missing or damaged.
    InputError
        When a parameter lies outside the tables.
    """

    name = "dust"
    parameters: tuple[Parameter, ...] = ()
    powered_by: Literal["stars", "dust"] = "dust"

    def __init__(self, umin: float = 1.0, gamma: float = 0.01, qpah: float = 3.5, grid: DustGrid | None = None) -> None:
        self.grid = DustGrid.default() if grid is None else grid
        self.umin, self.gamma, self.qpah = umin, gamma, qpah
        self._spectrum = self.grid.spectrum(self.grid.wave, qpah, umin, gamma)

    def refine(self, library: SSPLibrary) -> SSPLibrary:
        """See `Emission.refine`: nothing to add."""
        return library

    def rows(self, library: SSPLibrary) -> FloatArray:
        """See `Emission.rows`: the one spectrum, of which only a part lies within the library's wavelengths."""
        return np.interp(library.wave, self.grid.wave, self._spectrum, left=0.0, right=0.0)[None]

    def supply(self, library: SSPLibrary) -> None:  # noqa: ARG002 (the protocol's)
        """See `Emission.supply`: dust powers it."""
        return

    def strengths(self, values: Values) -> jax.Array:
        """See `Emission.strengths`: all of what is absorbed, whatever the parameters."""
        batch = jnp.shape(next(iter(values.values())))[0]
        return jnp.ones((batch, 1, 1))

    def unseen(self, library: SSPLibrary) -> Unseen:
        """Ultraviolet light below the library's first wavelength, scaled by the library's own at 2005-2505 A.

        In a library with gas, gas takes the ionising light, and of each photon's recombination Lyman alpha is left to
        the dust.

        Parameters
        ----------
        library
            The refined library of the model.

        Returns
        -------
        Unseen
            In the cells of `DustGrid.uv_edges`.

        Raises
        ------
        ConfigError
            When the library begins too late.
        """
        first = float(library.wave[0])
        if first > LATEST_START_AA:
            raise ConfigError(
                f"emission 'dust' needs an SSP library that begins at {LATEST_START_AA:.0f} A or below, to know the "
                f"light that dust absorbs; this one begins at {first:.0f} A"
            )
        edges = self.grid.uv_edges
        missing = np.clip((first - edges[:-1]) / np.diff(edges), 0.0, 1.0)
        ratio = self.grid.ultraviolet(np.log10(library.metallicity), library.log_age)
        light = ratio * _reference_light(library)[..., None] * missing
        wave = 0.5 * (edges[:-1] + edges[1:])
        if library.line_nodes.size:
            light = _recombined(wave, light)
        return Unseen(wave, light)


def _reference_light(library: SSPLibrary) -> FloatArray:
    """Light of SSPs in the reference band, ``(nmet, nage)`` Lsun per Msun formed; scaled up where it is cut off."""
    low, high = REFERENCE_BAND
    wave = np.unique(np.concatenate([[max(low, library.wave[0]), high], library.wave]))
    wave = wave[(wave >= low) & (wave <= high) & (wave >= library.wave[0])]
    right = np.clip(np.searchsorted(library.wave, wave), 1, library.wave.size - 1)
    x = (wave - library.wave[right - 1]) / (library.wave[right] - library.wave[right - 1])
    s = library.spectrum[..., right - 1] * (1 - x) + library.spectrum[..., right] * x
    return np.asarray(np.trapezoid(s, wave, axis=-1) * (high - low) / (wave[-1] - wave[0]))


def _recombined(wave: FloatArray, light: FloatArray) -> FloatArray:
    """Ionising cells emptied, and the Lyman alpha of their photons put into the cell that holds it."""
    ionising = wave < LYMAN_LIMIT_AA
    out = np.where(ionising, 0.0, light)
    photons = light[..., ionising] @ wave[ionising]
    cell = int(np.argmin(np.abs(wave - LYMAN_ALPHA_AA)))
    out[..., cell] += LYMAN_ALPHA_PER_PHOTON * photons / LYMAN_ALPHA_AA
    return out
