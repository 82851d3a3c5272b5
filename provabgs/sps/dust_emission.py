"""Dust emission in energy balance with the starlight that dust absorbs (Draine & Li 2007, as in FSPS).

Dust gives back all that it absorbs, of young and of old stars. The spectrum has three parameters, fixed unless named as
free: what comes out below 6 um is 1.6 % of the luminosity with FSPS's defaults, and follows the PAHs; bands shorter
than W3 do not tell the parameters apart. Emission is not attenuated again, which FSPS does; Calzetti's curve ends at
3.1 um, and at 2-3 um it matters to less than 1 % of the light (docs/studies/parity.md).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError, InputError
from provabgs.core.jax import jax, jnp
from provabgs.sps.dust_grid import DustGrid
from provabgs.sps.emission import Unseen
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.library import SSPLibrary
from provabgs.sps.nebular.grid import LYMAN_LIMIT_AA
from provabgs.sps.parameters import Parameter, Values
from provabgs.sps.ultraviolet import LATEST_START_AA, UltravioletShapes

LYMAN_ALPHA_AA = 1215.67
LYMAN_ALPHA_PER_PHOTON = 0.68
"""Lyman alpha photons per recombination in case B at 10^4 K (Osterbrock & Ferland 2006, section 4.5)."""

_ENDS = np.array([0.0, 1.0])
_FREE = {
    "qpah": Parameter(
        "duste_qpah",
        "DUSTE_QPAH",
        r"q_{\rm PAH}",
        "",
        "per cent of the dust mass in PAHs",
        prior="uniform",
        bounds=(0.47, 4.58),
        role="dust",
        hard_bounds=True,
    ),
    "umin": Parameter(
        "duste_umin",
        "DUSTE_UMIN",
        r"U_{\rm min}",
        "",
        "radiation field that most of the dust sees, over that near the Sun",
        prior="log-uniform",
        bounds=(0.1, 25.0),
        role="dust",
        hard_bounds=True,
    ),
    "gamma": Parameter(
        "duste_gamma",
        "DUSTE_GAMMA",
        r"\gamma_{\rm dust}",
        "",
        "fraction of the dust in radiation fields above the least one",
        prior="log-uniform",
        bounds=(1e-3, 0.3),
        role="dust",
        natural_edges="low",
    ),
}
"""Parameters that may be free, by the name of the option that fixes them."""


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
    free
        Which of ``"umin"``, ``"gamma"``, ``"qpah"`` are parameters of the fit instead: `duste_umin`, `duste_gamma`,
        `duste_qpah`. The model gets 22, 2, 7 rows for each, and their product for several.
    longest_um
        Where the model's wavelengths are to end, um, for bands like W3 (17) and W4 (29). Stars go on from the library's
        last wavelength as 1/lambda^4. None: where the library ends.
    grid
        Tables, or their file; those that ship when None.
    ultraviolet
        Light below the library's first wavelength, which dust absorbs too; that of the tables that ship when None.

    Raises
    ------
    DataFileError
        When the tables are missing or damaged.
    InputError
        When a parameter lies outside the tables, or a name is not one of the three.
    """

    name = "dust"
    powered_by: Literal["stars", "dust"] = "dust"

    def __init__(
        self,
        umin: float = 1.0,
        gamma: float = 0.01,
        qpah: float = 3.5,
        free: Collection[str] = (),
        longest_um: float | None = None,
        grid: DustGrid | str | Path | None = None,
        ultraviolet: UltravioletShapes | None = None,
    ) -> None:
        self.ultraviolet = UltravioletShapes.default() if ultraviolet is None else ultraviolet
        self.grid = DustGrid.default() if grid is None else grid if isinstance(grid, DustGrid) else DustGrid.load(grid)
        self.fixed: dict[str, float | None] = {"qpah": qpah, "umin": umin, "gamma": gamma}
        if unknown := sorted(set(free) - set(_FREE)):
            raise InputError(f"free: {unknown[0]!r} is no parameter of dust emission; use {', '.join(_FREE)}")
        self.fixed |= dict.fromkeys(free)
        self.parameters: tuple[Parameter, ...] = tuple(_FREE[k] for k, v in self.fixed.items() if v is None)
        if longest_um is not None and not 0 < 1e4 * longest_um <= self.grid.wave[-1]:
            raise InputError(f"longest_um = {longest_um:g} is beyond the dust tables' {self.grid.wave[-1] / 1e4:g} um")
        self.longest_um = longest_um
        self._power = self.grid.spectra(self.grid.wave[:2], **self.fixed)[1]

    def refine(self, library: SSPLibrary) -> SSPLibrary:
        """See `Emission.refine`: the library up to `longest_um`, on the tables' wavelengths beyond its own."""
        last = library.wave[-1]
        more = self.grid.wave[self.grid.wave > last]
        if self.longest_um is None or not (more := more[more <= 1e4 * self.longest_um]).size:
            return library
        tail = library.spectrum[..., -1:] * ((last / more) ** 4).astype(np.float32)
        return replace(
            library,
            wave=np.concatenate([library.wave, more]),
            spectrum=np.concatenate([library.spectrum, tail], axis=-1),
            provenance={**library.provenance, "beyond": f"{last:.0f} A: continued as 1/lambda^4 for dust emission"},
        )

    def rows(self, library: SSPLibrary) -> FloatArray:
        """See `Emission.rows`: spectra of which only a part lies within the library's wavelengths.

        Raises
        ------
        ConfigError
            When the tables end before the library does.
        """
        if self.grid.wave[-1] < library.wave[-1]:
            raise ConfigError(
                f"emission 'dust': its tables end at {self.grid.wave[-1]:.0f} A, the SSP library at "
                f"{library.wave[-1]:.0f} A; use tables that reach as far, or cut the library"
            )
        return self.grid.spectra(library.wave, **self.fixed)[0].reshape(self._power.size, -1)

    def supply(self, library: SSPLibrary) -> None:  # noqa: ARG002
        """See `Emission.supply`: dust powers it."""
        return

    def strengths(self, values: Values) -> jax.Array:
        """See `Emission.strengths`: shares of the rows in what is absorbed; they add up to 1."""
        batch = jnp.shape(next(iter(values.values())))[0]
        share = jnp.asarray(self._power)[None]
        for axis, (name, nodes) in enumerate((("qpah", self.grid.qpah), ("umin", self.grid.umin), ("gamma", _ENDS))):
            if self.fixed[name] is None:
                weight = hat_weights(values[_FREE[name].name], nodes)
                share = share * jnp.expand_dims(weight, tuple(k + 1 for k in range(3) if k != axis))
        share = jnp.broadcast_to(share, (batch, *self._power.shape)).reshape(batch, 1, -1)
        return share / jnp.sum(share, axis=-1, keepdims=True)

    def unseen(self, library: SSPLibrary) -> Unseen:
        """Light below the library's first wavelength, scaled by the library's own; see `provabgs.sps.ultraviolet`.

        In a library with gas, gas takes the ionising light, and of each photon's recombination Lyman alpha is left to
        the dust.

        Parameters
        ----------
        library
            The refined library of the model.

        Returns
        -------
        Unseen
            In the cells of `UltravioletShapes.cell_edges`.

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
        edges = self.ultraviolet.cell_edges
        missing = np.clip((first - edges[:-1]) / np.diff(edges), 0.0, 1.0)
        light = self.ultraviolet.cells(library) * missing
        wave = 0.5 * (edges[:-1] + edges[1:])
        if library.line_nodes.size:
            light = _recombined(wave, light)
        return Unseen(wave, light)


def _recombined(wave: FloatArray, light: FloatArray) -> FloatArray:
    """Ionising cells emptied, and the Lyman alpha of their photons put into the cell that holds it."""
    ionising = wave < LYMAN_LIMIT_AA
    out = np.where(ionising, 0.0, light)
    photons = light[..., ionising] @ wave[ionising]
    cell = int(np.argmin(np.abs(wave - LYMAN_ALPHA_AA)))
    out[..., cell] += LYMAN_ALPHA_PER_PHOTON * photons / LYMAN_ALPHA_AA
    return out
