"""What one SSP library lacks, filled from another: young stars, and the red end of spectra that stop short.

Both libraries are compared at equal age and equal log10(Z/Zsun), each with its own solar metallicity: abundances
relative to the Sun are what sets the strength of lines and what both calibrate on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from provabgs.core.errors import InputError
from provabgs.sps.library import SSPLibrary

JOIN_WINDOW_AA = (4000.0, 7000.0)
JOIN_AGES_GYR = (0.06, 1.1)
"""Wavelengths and ages over which the luminosity per unit mass of young stars is scaled to that of the library."""
RED_JOIN_AA = 150.0
"""Width of the window, Angstrom, over which a filled red end is scaled to the last flux before it."""


def fill_red(library: SSPLibrary, other: SSPLibrary) -> SSPLibrary:
    """Fill spectra that are zero from some wavelength on with those of `other`, scaled to join.

    Parameters
    ----------
    library
        Some of its spectra may end in zeros.
    other
        Covers the ages and wavelengths of the zeros.

    Returns
    -------
    SSPLibrary
        On the wavelengths of `library` that `other` has too, where anything had to be filled; else `library`.

    Raises
    ------
    InputError
        When they share too few wavelengths.
    """
    dark = library.spectrum[:, :, -1] <= 0
    if not dark.any():
        return library
    keep = (library.wave >= other.wave[0]) & (library.wave <= other.wave[-1])
    if np.count_nonzero(keep) < 2:
        raise InputError(_no_overlap(library, other))
    wave, spectrum = library.wave[keep], library.spectrum[:, :, keep].copy()
    starts = []
    for i, rows in enumerate(at_metallicity(other, library.logzsol)):
        for j in np.flatnonzero(dark[i]):
            last = int(np.flatnonzero(spectrum[i, j] > 0)[-1])
            age = np.clip(library.log_age[j], other.log_age[0], other.log_age[-1])
            k = int(np.clip(np.searchsorted(other.log_age, age) - 1, 0, other.log_age.size - 2))
            share = (age - other.log_age[k]) / (other.log_age[k + 1] - other.log_age[k])
            fill = np.interp(wave, other.wave, (1 - share) * rows[k] + share * rows[k + 1])
            window = (wave > wave[last] - RED_JOIN_AA) & (wave <= wave[last])
            # libraries differ in IMF and mass normalisation: a step at the join would look like a break
            fill *= np.mean(spectrum[i, j, window]) / np.mean(fill[window])
            spectrum[i, j, last + 1 :] = fill[last + 1 :]
            starts.append(wave[last])
    note = (
        f"{len(starts)} spectra of ages up to {library.age_gyr[dark.any(axis=0)].max() * 1e3:.3g} Myr have no light "
        f"beyond {min(starts):.0f} A: there they are those of another library ({_name(other)}), scaled to join"
    )
    return replace(library, wave=wave, spectrum=spectrum, provenance={**library.provenance, "red": note})


def fill_young(library: SSPLibrary, young: SSPLibrary) -> SSPLibrary:
    """Add the ages of `young` below the youngest of `library`.

    One factor, the same at all metallicities, ages and wavelengths, scales the luminosity per unit mass of `young`: the
    median of ``L_library / L_young`` over `JOIN_AGES_GYR` and `JOIN_WINDOW_AA`. It stands for the other IMF. Surviving
    masses of `young` are shifted by what the two libraries differ by at the youngest age of `library`, fading
    to nothing at age 0.

    Parameters
    ----------
    library
        Without young stars.
    young
        Reaches below and above the youngest age of `library`.

    Returns
    -------
    SSPLibrary
        On the wavelengths of `library` that `young` has too, and the metallicities of `library`.

    Raises
    ------
    InputError
        When `young` has no younger age, or they share no wavelengths.
    """
    keep = (library.wave >= young.wave[0]) & (library.wave <= young.wave[-1])
    before = young.log_age < library.log_age[0] - 1e-6
    if not before.any() or before.all() or np.count_nonzero(keep) < 2:
        raise InputError(_no_overlap(library, young))
    wave = library.wave[keep]
    factor = _light_ratio(library, young)
    masses = np.array([np.interp(library.logzsol, young.logzsol, m) for m in young.surviving_mass.T]).T
    join = np.array([np.interp(library.log_age[0], young.log_age, row) for row in masses])
    # no mass has been lost at age 0, so that the libraries must agree there
    share = young.age_gyr[before] / library.age_gyr[0]
    masses = masses[:, before] + (library.surviving_mass[:, :1] - join[:, None]) * share
    filled = np.array(
        [[np.interp(wave, young.wave, s) for s in rows[before]] for rows in at_metallicity(young, library.logzsol)]
    )
    note = (
        f"ages below {library.age_gyr[0] * 1e3:.3g} Myr are those of another library ({_name(young)}), times "
        f"{factor:.4f}, the ratio of light per Msun formed over {JOIN_WINDOW_AA[0]:.0f}-{JOIN_WINDOW_AA[1]:.0f} A, "
        f"{JOIN_AGES_GYR[0] * 1e3:.0f} Myr-{JOIN_AGES_GYR[1]:.1f} Gyr"
    )
    return replace(
        library,
        wave=wave,
        log_age=np.concatenate([young.log_age[before], library.log_age]),
        spectrum=np.concatenate([(factor * filled).astype(np.float32), library.spectrum[:, :, keep]], axis=1),
        surviving_mass=np.concatenate([np.clip(masses, 0.0, 1.0), library.surviving_mass], axis=1),
        provenance={**library.provenance, "young": note},
    )


def at_metallicity(library: SSPLibrary, logzsol: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Spectra of a library at given metallicities, linear in log Z, clamped at its ends.

    Parameters
    ----------
    library
        SSP library.
    logzsol
        ``(n,)`` log10(Z/Z_sun).

    Yields
    ------
    NDArray
        ``(nage, nwave)`` Lsun/Angstrom per Msun formed, one array per metallicity.
    """
    for z in np.clip(logzsol, library.logzsol[0], library.logzsol[-1]):
        i = int(np.clip(np.searchsorted(library.logzsol, z) - 1, 0, library.logzsol.size - 2))
        share = (z - library.logzsol[i]) / (library.logzsol[i + 1] - library.logzsol[i])
        yield (1 - share) * library.spectrum[i].astype(np.float64) + share * library.spectrum[i + 1]


def _light_ratio(library: SSPLibrary, young: SSPLibrary) -> float:
    """Median of the luminosity per mass of `library` over that of `young` at equal log10(Z/Zsun) and age.

    Each in its own solar luminosity, so that the factor turns the one unit into the other, too.
    """
    ages = (library.age_gyr >= JOIN_AGES_GYR[0]) & (library.age_gyr <= JOIN_AGES_GYR[1])
    ages[0] = True
    mine, other = ((x.wave >= JOIN_WINDOW_AA[0]) & (x.wave <= JOIN_WINDOW_AA[1]) for x in (library, young))
    if np.count_nonzero(mine) < 2 or np.count_nonzero(other) < 2:
        raise InputError(
            f"both libraries must cover {JOIN_WINDOW_AA[0]:.0f}-{JOIN_WINDOW_AA[1]:.0f} A to be joined; widen "
            "--wave-min/--wave-max"
        )
    own = np.trapezoid(library.spectrum[:, ages][:, :, mine].astype(np.float64), library.wave[mine], axis=-1)
    rows = [np.trapezoid(s[:, other], young.wave[other]) for s in at_metallicity(young, library.logzsol)]
    fill = np.array([np.interp(library.log_age[ages], young.log_age, row) for row in rows])
    return float(np.median(own / fill))


def _name(library: SSPLibrary) -> str:
    return f"sha256 {library.digest()}, {library.provenance.get('source', 'source unknown')}"


def _no_overlap(library: SSPLibrary, other: SSPLibrary) -> str:
    return (
        f"the library for young stars covers {other.age_gyr[0] * 1e3:.3g} Myr to {other.age_gyr[-1]:.3g} Gyr and "
        f"{other.wave[0]:.0f}-{other.wave[-1]:.0f} A; it must overlap {library.age_gyr[0] * 1e3:.3g} Myr and "
        f"{library.wave[0]:.0f}-{library.wave[-1]:.0f} A"
    )
