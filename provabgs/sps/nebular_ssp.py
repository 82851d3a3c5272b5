"""Nebular emission added to an SSP library: each young SSP lights the gas around it.

With the gas parameters fixed, emission is linear in the stars, so it is part of the SSPs: `with_nebular` returns a
library, and every engine that takes a library takes this one. A line is a spike on a node of its own, so narrow that
what the observing layer makes of it is its broadening function: nothing is smeared by the library's sampling. For gas
parameters that vary from one parameter vector to the next, `NebularModel` computes the same with two more columns.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.sps.histories import HistoryTables
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import FlatSpectra, SPSModel
from provabgs.sps.nebular import LYMAN_LIMIT_AA, GasEmission, NebularGrid
from provabgs.sps.parameters import GAS, N_PARAMETERS

SPIKE = 1e-6
"""Half width of a line's spike, as a fraction of its wavelength (0.3 km/s)."""


def with_nebular(library: SSPLibrary, grid: NebularGrid, log_u: float, gas_logz: float | None = None) -> SSPLibrary:
    """The library with lines and nebular continuum of gas of one ionisation parameter and metallicity.

    Parameters
    ----------
    library
        Stars.
    grid
        Gas.
    log_u
        Ionisation parameter.
    gas_logz
        log10 of the gas's O/H over the grid's solar value. None: gas of each SSP has that SSP's metallicity
        (its `logzsol`, held at the ends of the grid), as FSPS users tie them.

    Returns
    -------
    SSPLibrary
        On the library's wavelengths and three more for each line; `line_nodes` says where the lines are. The stars'
        spectrum, linear between nodes, is the same function of wavelength as before, but for the light beyond the Lyman
        limit of SSPs that ionise, which the gas has absorbed.

    Raises
    ------
    InputError
        When the gas parameters are outside the grid, or the library already has emission.
    """
    gas = library.logzsol if gas_logz is None else np.full(library.logzsol.size, gas_logz)
    gas = np.clip(gas, grid.gas_logz[0], grid.gas_logz[-1]) if gas_logz is None else gas
    grid.require_range(log_u, gas)
    refined = refine(library, grid)
    light = np.asarray(on_library(refined, grid, grid.emission(np.full(gas.size, log_u), gas)))
    rate = grid.photon_rate(np.log10(library.metallicity), library.log_age) / library.lsun_cgs
    emitted = rate[..., None] * np.einsum("ka,ban->bkn", grid.age_weights(library.log_age), light)
    spectrum = refined.spectrum + emitted.astype(np.float32)
    told = "the stars'" if gas_logz is None else f"{gas_logz:g}"
    note = f"log U = {log_u:g}, gas log Z/Zsun = {told}; grid {grid.digest()[:12]}: {grid.provenance.get('source', '')}"
    return replace(refined, spectrum=spectrum, provenance=library.provenance | {"nebular": note})


def refine(library: SSPLibrary, grid: NebularGrid) -> SSPLibrary:
    """The library on its own wavelengths and three for each line of the grid, with no emission yet.

    Light beyond the Lyman limit of SSPs that ionise is taken out.

    Raises
    ------
    InputError
        When the library has nodes for lines already.
    """
    if library.line_nodes.size:
        raise InputError("this SSP library has nebular emission already; give the one without")
    inside = (grid.line_wave > library.wave[1]) & (grid.line_wave < library.wave[-2])
    lines = grid.line_wave[inside]
    wave = np.unique(np.concatenate([library.wave, *(lines * (1 + k * SPIKE) for k in (-1, 0, 1))]))
    spectrum = np.empty((*library.spectrum.shape[:2], wave.size), np.float32)
    spectrum[..., np.searchsorted(wave, library.wave)] = library.spectrum
    new = np.setdiff1d(np.arange(wave.size), np.searchsorted(wave, library.wave))
    right = np.searchsorted(library.wave, wave[new])
    share = (wave[new] - library.wave[right - 1]) / (library.wave[right] - library.wave[right - 1])
    spectrum[..., new] = library.spectrum[..., right - 1] * (1 - share) + library.spectrum[..., right] * share
    rate = grid.photon_rate(np.log10(library.metallicity), library.log_age)
    spectrum[..., wave < LYMAN_LIMIT_AA] *= (rate <= 0)[..., None]
    return replace(
        library,
        wave=wave,
        spectrum=spectrum,
        line_nodes=np.searchsorted(wave, lines),
    )


def on_library(refined: SSPLibrary, grid: NebularGrid, emission: GasEmission) -> jax.Array:
    """Emission per photon as a density on a refined library's wavelengths, ``(batch, nage, nwave)`` erg/Angstrom."""
    right = np.clip(np.searchsorted(grid.wave, refined.wave, side="right"), 1, grid.wave.size - 1)
    share = (refined.wave - grid.wave[right - 1]) / (grid.wave[right] - grid.wave[right - 1])
    inside = (share >= 0) & (share <= 1)
    c = emission.continuum
    density = jnp.where(inside, c[..., right - 1] * (1 - share) + c[..., right] * share, 0.0)
    shown = np.flatnonzero((grid.line_wave > refined.wave[1]) & (grid.line_wave < refined.wave[-2]))
    node = refined.line_nodes
    area = 0.5 * (refined.wave[node + 1] - refined.wave[node - 1])  # of the spike of unit height, Angstrom
    return density.at[..., node].add(emission.lines[..., shown] / area)


class NebularModel(SPSModel):
    """SPS model with free gas parameters: theta has 15 columns, `provabgs.sps.parameters.GAS` after the thirteen.

    Spectra are a pure, differentiable function of all fifteen, so `ExactLikelihood` takes the model as it is. Where the
    gas parameters are the same for all draws, `with_nebular` is faster.

    Parameters
    ----------
    stars
        The model without gas.
    grid
        Gas. Its edges hold beyond its range: check with `NebularGrid.require_range`.
    """

    def __init__(self, stars: SPSModel, grid: NebularGrid) -> None:
        super().__init__(
            refine(stars.library, grid),
            stars.bases,
            stars.t_birth_cloud,
            stars.birth_cloud_slope,
            stars.binning,
            stars.normalisation,
            stars.solar_z,
        )
        self.gas = grid
        ranges = ((grid.log_u[0], grid.log_u[-1]), (grid.gas_logz[0], grid.gas_logz[-1]))
        self.extra = tuple(replace(p, bounds=(float(a), float(b))) for p, (a, b) in zip(GAS, ranges, strict=True))
        rate = grid.photon_rate(np.log10(self.library.metallicity), self.library.log_age) / self.library.lsun_cgs
        self.photons = rate[..., None] * grid.age_weights(self.library.log_age)
        """``(nmet, nage, ngasage)`` ionising photons per second and Msun formed, over Lsun in erg/s."""

    def dust_free(
        self, theta: jax.Array, tables: HistoryTables, flat_spectra: FlatSpectra | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Unattenuated light of young and old stars with their gas; see `SPSModel.dust_free`. Theta ``(batch, 15)``."""
        stars = super().dust_free(theta, tables, flat_spectra)
        weights = self.weight_tensor(self.node_masses(theta, tables))
        light = on_library(
            self.library, self.gas, self.gas.emission(theta[:, N_PARAMETERS], theta[:, N_PARAMETERS + 1])
        )
        out = []
        for spectrum, nodes in zip(stars, (self.young_nodes, self.old_nodes), strict=True):
            photons = jnp.einsum("bkj,kja->ba", weights[:, :, nodes], jnp.asarray(self.photons[:, nodes]))
            out.append(spectrum + jnp.einsum("ba,ban->bn", photons, light).astype(spectrum.dtype))
        return out[0], out[1]
