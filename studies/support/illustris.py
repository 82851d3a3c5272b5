"""The Illustris history of Prospector's mocks, integrated over an SSP library by code that is none of the package's.

The mock spectra (bd-j/exspect; log Z/Zsun -0.3, 100 km/s, dust of optical depth 0.1) were made by FSPS with MIST and
MILES from this history, so that they test the library and the road from history to spectrum.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from provabgs.core.arrays import FloatArray
from provabgs.sps.library import SSPLibrary

LOGZSOL, SIGMA_KMS, Z = -0.3, 100.0, 0.1
LIGHT_KMS = 299792.458


def mass_by_age(time: FloatArray, sfr: FloatArray, age_edges: FloatArray) -> FloatArray:
    """Msun formed between ages, Gyr, for an SFR (Msun/yr) that is linear between its times (Gyr)."""
    fine = np.linspace(time[0], time[-1], 200_001)
    mass = np.concatenate([[0.0], np.cumsum(0.5 * (np.interp(fine[1:], time, sfr) + np.interp(fine[:-1], time, sfr)))])
    mass *= (fine[1] - fine[0]) * 1e9
    return -np.diff(np.interp(time[-1] - age_edges, fine, mass))


def at_metallicity(library: SSPLibrary) -> FloatArray:
    """``(nage, nwave)`` SSPs of the truth's metallicity, linear in log Z between those of the library."""
    right = int(np.searchsorted(library.logzsol, LOGZSOL))
    step = library.logzsol[right] - library.logzsol[right - 1]
    upper = (LOGZSOL - library.logzsol[right - 1]) / step
    return np.asarray((1 - upper) * library.spectrum[right - 1] + upper * library.spectrum[right])


def composite(library: SSPLibrary, mock: dict[str, FloatArray]) -> FloatArray:
    """``(nwave,)`` Lsun/A of the history at one metallicity, SSPs interpolated in log age and log Z."""
    edges = np.concatenate([[0.0], np.geomspace(1e-4, mock["tabular_time"][-1] - mock["tabular_time"][0], 4001)])
    mass = mass_by_age(mock["tabular_time"], mock["tabular_sfr"], edges)
    log_age = np.log10(0.5 * (edges[1:] + edges[:-1]))
    ssp = at_metallicity(library)
    nodes = np.log10(library.age_gyr)
    x = np.clip(log_age, nodes[0], nodes[-1])
    j = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, nodes.size - 2)
    upper = (x - nodes[j]) / (nodes[j + 1] - nodes[j])
    weights = np.bincount(j, mass * (1 - upper), nodes.size) + np.bincount(j + 1, mass * upper, nodes.size)
    return np.asarray(weights @ ssp)


def broadened(wave: FloatArray, flux: FloatArray, sigma_kms: float, at: FloatArray) -> FloatArray:
    """A spectrum broadened by a velocity dispersion, at rest wavelengths `at`, Angstrom."""
    step = 20.0 / LIGHT_KMS
    log_wave = np.arange(np.log(3400.0), np.log(7500.0), step)
    fine = np.interp(log_wave, np.log(wave), flux)
    return np.interp(np.log(at), log_wave, gaussian_filter1d(fine, sigma_kms / LIGHT_KMS / step))
