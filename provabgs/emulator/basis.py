"""Principal components of spectra in relative units: a spectrum as amplitude times a short vector."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError

NORM_RANGE = (2500.0, 11000.0)
"""Rest wavelengths, Angstrom, over which amplitude is measured (mean of ln L)."""


class Basis(NamedTuple):
    """``spectrum = exp(amplitude) * (1, c) @ functions``.

    A unit of c is an rms change of one (100 %) over the wavelengths, relative to the typical spectrum: errors of c and
    of the amplitude add up to the relative error of the spectrum.
    """

    functions: FloatArray
    """``(1 + ncomponent, nwave)`` Lsun/Angstrom per Msun at unit amplitude; the first is the mean spectrum."""
    weight: FloatArray
    """``(nwave,)`` typical spectrum at unit amplitude, by which all is divided before the analysis."""

    @property
    def n_component(self) -> int:
        """Number of components."""
        return len(self.functions) - 1

    def project(self, spectra: FloatArray, wave: FloatArray) -> FloatArray:
        """Amplitude and components ``(n, 1 + ncomponent)`` of spectra ``(n, nwave)``."""
        amplitude = log_amplitude(spectra, wave)
        relative = spectra / np.exp(amplitude)[:, None] / self.weight
        mean, vectors = self.functions[0] / self.weight, self.functions[1:] / self.weight
        return np.column_stack([amplitude, (relative - mean) @ vectors.T / wave.size])

    def reconstruct(self, outputs: FloatArray) -> FloatArray:
        """Inverse of `project`, ``(n, nwave)``."""
        return coefficients(outputs) @ self.functions


def coefficients(outputs: FloatArray) -> FloatArray:
    """Factors on the basis functions, ``(n, 1 + ncomponent)``, from amplitude and components."""
    factor = np.exp(outputs[:, :1])
    return np.concatenate([factor, factor * outputs[:, 1:]], axis=1)


def log_amplitude(spectra: FloatArray, wave: FloatArray) -> FloatArray:
    """Mean of ln L over `NORM_RANGE`, ``(n,)``."""
    inside = (wave >= NORM_RANGE[0]) & (wave <= NORM_RANGE[1])
    return np.log(spectra[:, inside]).mean(axis=1)


def fit_basis(spectra: FloatArray, wave: FloatArray, n_component: int) -> Basis:
    """Principal components of spectra ``(n, nwave)``, all positive, by the eigenvectors of their Gram matrix.

    Raises
    ------
    InputError
        With fewer spectra than components, or luminosities that are not positive.
    """
    if len(spectra) <= n_component:
        raise InputError(f"{n_component} components need more than {len(spectra)} spectra; raise [basis] n_draws")
    if not np.all(spectra > 0):
        raise InputError("spectra to emulate must be positive at every wavelength; cut the library's range")
    spectra = spectra.astype(np.float64)
    relative = spectra / np.exp(log_amplitude(spectra, wave))[:, None]
    weight = np.exp(np.log(relative).mean(axis=0))
    relative /= weight
    mean = relative.mean(axis=0)
    left = relative - mean
    _, vectors = np.linalg.eigh(left @ left.T)
    directions = vectors[:, ::-1][:, :n_component].T @ left
    directions *= np.sqrt(wave.size) / np.linalg.norm(directions, axis=1)[:, None]
    return Basis(weight * np.concatenate([mean[None], directions]), weight)
