"""Nebular emission of gas with fixed parameters, added to an SSP library.

Each SSP younger than 10 to 100 Myr ionises the gas around it. With the gas parameters fixed, emission is linear in the
stars, so it is part of the SSPs: `with_nebular` returns a library. Each emission line gets its own wavelength node,
0.3 km/s wide; its observed profile is therefore set by the velocity dispersion and the spectrograph alone, not by the
library's sampling. For gas parameters that are fitted see `provabgs.sps.nebular.emission`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.sps.library import SSPLibrary
from provabgs.sps.nebular.grid import LYMAN_LIMIT_AA, GasEmission, NebularGrid

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
        On the library's wavelengths and three more for each line; `line_nodes` says where the lines are. The stellar
        spectrum, linear between nodes, is the same function of wavelength as before, except beyond the Lyman limit of
        SSPs that ionise: the gas has absorbed that part.

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

    The spectrum beyond the Lyman limit of SSPs that ionise is set to 0: the gas absorbs it.

    Parameters
    ----------
    library
        Stars alone.
    grid
        Gas.

    Returns
    -------
    SSPLibrary
        With `line_nodes`.

    Raises
    ------
    InputError
        When the library has nodes for lines already.
    """
    if library.line_nodes.size:
        raise InputError("this SSP library has nebular emission already; give the one without")
    # all three nodes of a spike must lie inside the library's wavelengths, or its area is not that of the line
    inside = (grid.line_wave > library.wave[1]) & (grid.line_wave < library.wave[-2])
    lines = grid.line_wave[inside]
    wave = np.unique(np.concatenate([library.wave, *(lines * (1 + k * SPIKE) for k in (-1, 0, 1))]))
    spectrum = np.empty((*library.spectrum.shape[:2], wave.size), np.float32)
    spectrum[..., np.searchsorted(wave, library.wave)] = library.spectrum
    new = np.setdiff1d(np.arange(wave.size), np.searchsorted(wave, library.wave))
    right = np.searchsorted(library.wave, wave[new])
    share = (wave[new] - library.wave[right - 1]) / (library.wave[right] - library.wave[right - 1])
    spectrum[..., new] = library.spectrum[..., right - 1] * (1 - share) + library.spectrum[..., right] * share
    # the gas re-emits these photons: left in, their energy would count twice
    rate = grid.photon_rate(np.log10(library.metallicity), library.log_age)
    spectrum[..., wave < LYMAN_LIMIT_AA] *= (rate <= 0)[..., None]
    return replace(
        library,
        wave=wave,
        spectrum=spectrum,
        line_nodes=np.searchsorted(wave, lines),
    )


def on_library(refined: SSPLibrary, grid: NebularGrid, emission: GasEmission) -> jax.Array:
    """Emission per photon as a density on the wavelengths of a refined library.

    Parameters
    ----------
    refined
        From `refine`, with the same grid.
    grid
        Gas.
    emission
        ``lines (batch, nage, nline)`` erg and ``continuum (batch, nage, ngridwave)`` erg/Angstrom per photon.

    Returns
    -------
    jax.Array
        ``(batch, nage, nwave)`` erg/Angstrom per photon.
    """
    right = np.clip(np.searchsorted(grid.wave, refined.wave, side="right"), 1, grid.wave.size - 1)
    share = (refined.wave - grid.wave[right - 1]) / (grid.wave[right] - grid.wave[right - 1])
    inside = (share >= 0) & (share <= 1)
    c = emission.continuum
    density = jnp.where(inside, c[..., right - 1] * (1 - share) + c[..., right] * share, 0.0)
    shown = np.flatnonzero((grid.line_wave > refined.wave[1]) & (grid.line_wave < refined.wave[-2]))
    node = refined.line_nodes
    area = 0.5 * (refined.wave[node + 1] - refined.wave[node - 1])  # of the spike of unit height, Angstrom
    return density.at[..., node].add(emission.lines[..., shown] / area)
