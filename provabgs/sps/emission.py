"""Emission other than starlight: the protocol, and its preparation for a model.

An emission is linear in the stars: supply times strengths times rows. *Rows* are spectra of unit strength (a line, a
continuum shape, a dust template). *Strengths* say how much of each row a unit of supply gives, as a function of the
emission's own parameters. *Supply* is what powers it:

- ``"stars"``: channels that SSPs feed in fixed proportion to their mass, for example ionising photons. Gas sits where
  the stars sit, so that their dust attenuates its emission, of the young and of the old part alike.
- ``"dust"``: the luminosity that dust absorbs, one channel in Lsun. Its emission is not attenuated again. An emission
  of this kind may have a method ``unseen(library) -> Unseen``: starlight beyond the library's wavelengths, of which
  dust absorbs its part too. The first that has one speaks for all.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.errors import ConfigError
from provabgs.core.jax import jax, jnp
from provabgs.sps.library import SSPLibrary
from provabgs.sps.parameters import Parameter, Values


@runtime_checkable
class Emission(Protocol):
    """One source of emission; `docs/extend.md` has a worked example."""

    name: str
    parameters: tuple[Parameter, ...]
    powered_by: Literal["stars", "dust"]

    def refine(self, library: SSPLibrary) -> SSPLibrary:
        """The library with whatever wavelength nodes the rows need; itself where none are needed."""
        ...

    def rows(self, library: SSPLibrary) -> FloatArray:
        """Spectra of unit strength on the library's wavelengths, ``(nrow, nwave)``, 1/Angstrom times their unit."""
        ...

    def supply(self, library: SSPLibrary) -> FloatArray | None:
        """What each SSP feeds per Msun formed, ``(nmet, nage, nchannel)``; None where dust powers the emission."""
        ...

    def strengths(self, values: Values) -> jax.Array:
        """Strength of each row per unit of supply, ``(batch, nchannel, nrow)``; traceable by JAX."""
        ...


class Unseen(NamedTuple):
    """Starlight beyond a library's wavelengths, in cells: nobody observes it, but dust absorbs it."""

    wave: FloatArray
    """``(ncell,)`` Angstrom, where the dust law is taken for the whole cell."""
    light: FloatArray
    """``(nmet, nage, ncell)`` Lsun per Msun formed."""


class Prepared(NamedTuple):
    """An emission on one library."""

    emission: Emission
    rows: SingleArray
    """``(nrow, nwave)``."""
    supply: SingleArray | None
    """``(nmet, nage, nchannel)``."""
    unseen: Unseen | None = None


def prepare(emission: Emission, library: SSPLibrary) -> Prepared:
    """Rows and supply of an emission, with its shapes checked.

    Parameters
    ----------
    emission
        Any object that follows the protocol.
    library
        The refined library of the model.

    Returns
    -------
    Prepared
        In single precision.

    Raises
    ------
    ConfigError
        When the object breaks the protocol; names the method and the shape that was expected.
    """
    name = getattr(emission, "name", type(emission).__name__)
    if not isinstance(emission, Emission) or emission.powered_by not in ("stars", "dust"):
        raise ConfigError(
            f"emission {name!r} breaks the protocol: it needs name, parameters, powered_by ('stars' or 'dust'), "
            "refine, rows, supply and strengths (docs/extend.md)"
        )
    rows = np.asarray(emission.rows(library), dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != library.wave.size:
        raise ConfigError(f"emission {name!r}: rows have shape {rows.shape}, expected (nrow, {library.wave.size})")
    axes = (library.logzsol.size, library.log_age.size)
    if emission.powered_by == "dust":
        return Prepared(emission, rows, None, _unseen(emission, library, axes))
    supply = emission.supply(library)
    shape = () if supply is None else np.shape(supply)
    if supply is None or len(shape) != 3 or shape[:2] != axes:
        raise ConfigError(f"emission {name!r}: supply has shape {shape}, expected (*{axes}, nchannel)")
    return Prepared(emission, rows, np.asarray(supply, dtype=np.float32))


def _unseen(emission: Emission, library: SSPLibrary, axes: tuple[int, int]) -> Unseen | None:
    """What an emission says of light beyond the library, with its shapes checked; None for nothing."""
    if (method := getattr(emission, "unseen", None)) is None:
        return None
    wave, light = (np.asarray(x, dtype=np.float64) for x in method(library))
    if wave.ndim != 1 or light.shape != (*axes, wave.size):
        raise ConfigError(
            f"emission {emission.name!r}: unseen light has shape {light.shape}, expected {(*axes, wave.size)}"
        )
    return Unseen(wave, light) if wave.size else None


def strengths_of(emissions: tuple[Prepared, ...], values: Values) -> jax.Array:
    """Strengths of all rows of dust-powered emissions per Lsun absorbed, ``(batch, nrow)``.

    Parameters
    ----------
    emissions
        Those that dust powers, in order.
    values
        Parameter values, each ``(batch,)``.

    Returns
    -------
    jax.Array
        Rows of one emission after those of another.
    """
    return jnp.concatenate([e.emission.strengths(values)[:, 0] for e in emissions], axis=-1)
