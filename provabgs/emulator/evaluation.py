"""How far the emulator is from the exact model: relative errors of attenuated composite spectra."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.jax import jax, jnp
from provabgs.emulator.component import ComponentEmulator
from provabgs.sps.model import SPSModel

_BLOCK = 250
PERCENTILES = (50.0, 99.0, 99.9)


class ErrorSummary(NamedTuple):
    """Percentiles of the absolute relative error over all spectra and wavelengths."""

    median: float
    p99: float
    p999: float
    worst_spectrum: float
    """99th percentile over spectra of their rms error over wavelengths."""
    n_spectrum: int
    wave_range: tuple[float, float]

    def describe(self) -> str:
        """In words, percent."""
        low, high = self.wave_range
        return (
            f"relative error of attenuated composites over the full prior, {low:g}-{high:g} A, {self.n_spectrum} "
            f"spectra: median {100 * self.median:.4f} %, 99 % {100 * self.p99:.4f} %, 99.9 % {100 * self.p999:.4f} %"
        )


class CompositeErrors(NamedTuple):
    """Relative errors, kept whole for figures."""

    wave: FloatArray
    """``(nwave,)`` rest Angstrom."""
    relative: SingleArray
    """``(n, nwave)`` emulator over exact, minus 1."""

    def summary(self) -> ErrorSummary:
        """Percentiles over everything."""
        size = np.abs(self.relative)
        median, p99, p999 = (float(p) for p in np.percentile(size, PERCENTILES))
        rms = np.sqrt(np.mean(self.relative.astype(np.float64) ** 2, axis=1))
        edges = (float(self.wave[0]), float(self.wave[-1]))
        return ErrorSummary(median, p99, p999, float(np.percentile(rms, 99)), len(size), edges)


def composite_errors(
    emulator: ComponentEmulator,
    model: SPSModel,
    theta: FloatArray,
    t_age: FloatArray,
    wave_range: tuple[float, float],
) -> CompositeErrors:
    """Errors at the model's parameters ``(n, nparameter)`` and ages of the universe ``(n,)``, Gyr.

    Raises
    ------
    EmulatorRangeError
        When a row lies outside the training range.
    """
    emulator.require_model(model)
    wave = model.library.wave
    inside = (wave >= wave_range[0]) & (wave <= wave_range[1])
    exact = jax.jit(model.spectrum)
    out = np.empty((len(theta), int(inside.sum())), np.float32)
    for i in range(0, len(theta), _BLOCK):
        part, age = jnp.asarray(theta[i : i + _BLOCK]), t_age[i : i + _BLOCK]
        truth = np.asarray(exact(part, model.tables(age), model.flat_spectra))[:, inside]
        mine = np.asarray(emulator.spectrum(part, model, age))[:, inside]
        out[i : i + _BLOCK] = mine / truth - 1
    return CompositeErrors(wave[inside], out)
