"""The model at a set of wavelengths: interpolation points of a spectrum, or attenuation nodes of bands.

All that the compressed likelihood evaluates goes through `evaluate`: SSP sums, attenuation by the one `composite`, and
what dust emits of the luminosity that it absorbed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.jax import jax, jnp
from provabgs.inference.compressed.merged_nodes import merged_spectra, merged_unseen
from provabgs.sps.composite import Parts, absorbed, composite
from provabgs.sps.emission import strengths_of
from provabgs.sps.model import SPSModel, trapezoid_widths
from provabgs.sps.parameters import Values

ENERGY_CELLS = 96
"""Wavelength cells, even in ln lambda over the library, in which the attenuation is constant for the energy balance."""


class Places(NamedTuple):
    """Where the model is evaluated."""

    ssps: Parts
    """Each ``(nrow, n)`` rows of `merged_spectra` there."""
    curves: Any
    """Factors of the dust law there."""
    reemitted: jax.Array | None = None
    """``(nreemitted, n)`` rows of emissions that dust powers; None for none."""


def single(values: Values) -> dict[str, Any]:
    """Parameter values in single precision."""
    return {k: v.astype(jnp.float32) for k, v in values.items()}


def as_single(tree: Any) -> Any:
    """A pytree of arrays in single precision, each flattened; NumPy does that without a dispatch."""
    return jax.tree.map(lambda c: jnp.asarray(np.asarray(c, np.float32).reshape(-1)), tree)


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """Product in full single precision: GPUs would round to ten bits of mantissa by default.

    Parameters
    ----------
    a
        ``(..., m, k)``.
    b
        ``(k, n)``.

    Returns
    -------
    jax.Array
        ``(..., m, n)``.
    """
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def evaluate(model: SPSModel, weights: Parts, values: Values, places: Places, power: jax.Array | None) -> jax.Array:
    """Attenuated composite at places, per unit of mass.

    Parameters
    ----------
    model
        Whose dust law it is.
    weights
        Each ``(batch, nrow)``, or ``(batch, ncomponent, nrow)`` for each component apart.
    values
        Parameter values ``(batch,)``, single precision.
    places
        Where.
    power
        From `reemission`; None where no dust emits.

    Returns
    -------
    jax.Array
        ``(batch, n)`` or ``(batch, ncomponent, n)``.
    """
    parts = _sums(weights, places.ssps)
    out = composite(parts, model.attenuation.transmission(places.curves, values))
    if power is not None and places.reemitted is not None:
        out += matmul(power, places.reemitted)
    return out


def reemission(model: SPSModel, weights: Parts, values: Values, energy: Places | None) -> jax.Array | None:
    """Strengths of the rows that dust powers: absorbed luminosity times strengths per Lsun.

    Parameters
    ----------
    model, weights, values
        As for `evaluate`.
    energy
        From `energy_places`.

    Returns
    -------
    jax.Array or None
        ``(batch, nreemitted)`` or ``(batch, ncomponent, nreemitted)``.
    """
    if energy is None:
        return None
    power = absorbed(_sums(weights, energy.ssps), model.attenuation.transmission(energy.curves, values), 1.0)
    strengths = strengths_of(model.dust_emissions, values).astype(power.dtype)
    return power[..., None] * (strengths[:, None] if power.ndim == 2 else strengths)


def _sums(weights: Parts, ssps: Parts) -> Parts:
    """Weighted sums of SSPs; one matrix product whatever the number of components."""
    flat = (w.reshape(-1, w.shape[-1]) for w in weights)
    sums = (matmul(w, s) for w, s in zip(flat, ssps, strict=True))
    return Parts(*(s.reshape(*w.shape[:-1], -1) for s, w in zip(sums, weights, strict=True)))


@lru_cache(maxsize=4)
def energy_places(model: SPSModel) -> Places | None:
    """SSPs integrated over wavelength cells, Lsun per Msun, for the luminosity that dust absorbs; None for no need."""
    if not model.dust_emissions:
        return None
    wave, first = model.library.own_wave, model.library.borrowed  # light below is in the cells of `unseen`
    edges = np.geomspace(wave[0], wave[-1], ENERGY_CELLS + 1)
    cell = np.clip(np.searchsorted(edges, wave, side="right") - 1, 0, ENERGY_CELLS - 1)
    used, cell = np.unique(cell, return_inverse=True)
    widths = trapezoid_widths(wave)
    integral = np.zeros((wave.size, used.size), np.float32)
    integral[np.arange(wave.size), cell] = widths
    centre = _centres(wave, widths, cell, used.size)
    light, unseen = [s[:, first:] @ integral for s in merged_spectra(model)], merged_unseen(model)
    if model.unseen is not None and unseen is not None:
        light = [np.concatenate(pair, axis=1) for pair in zip(light, unseen, strict=True)]
        centre = np.concatenate([centre, model.unseen.wave])
    return Places(Parts(*map(jnp.asarray, light)), as_single(model.attenuation.curves(centre)))


def _centres(wave: FloatArray, widths: FloatArray, cell: np.ndarray, n: int) -> FloatArray:
    """Mean wavelength of each cell, ``(n,)``."""
    total = np.bincount(cell, widths, minlength=n)
    return np.bincount(cell, widths * wave, minlength=n) / total


def places_of(model: SPSModel, ssps: Parts, wave: FloatArray, reemitted: SingleArray | None) -> Places:
    """Places at rest wavelengths ``(n,)``, Angstrom, from rows there.

    Parameters
    ----------
    model
        Whose dust law is evaluated.
    ssps
        Each ``(nrow, n)``.
    wave
        ``(n,)`` where the dust law is taken.
    reemitted
        ``(nreemitted, n)`` or None.

    Returns
    -------
    Places
        Single precision, on the device.
    """
    pair = Parts(*(jnp.asarray(np.asarray(s, np.float32)) for s in ssps))
    rows = None if reemitted is None else jnp.asarray(np.asarray(reemitted, np.float32))
    return Places(pair, as_single(model.attenuation.curves(wave)), rows)
