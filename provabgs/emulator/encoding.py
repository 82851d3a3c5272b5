"""What the network of smooth histories sees: metallicities at a few ages, and where they fall on the SSP grid.

SSPs are linear in log Z between the metallicities of the library, so the spectrum has kinks where Z(t) crosses one. A
network of smooth functions needs many units to draw a kink, and none if its inputs have it already: each metallicity
enters as hat functions on the library's own grid. Errors fall by three (docs/emulator.md).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs._jax import jax, jnp
from provabgs.constants import Z_RANGE_PROVABGS
from provabgs.emulator.errors import EmulatorRangeError
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.model import SPSModel

FloatArray = NDArray[np.float64]

SMOOTH_INPUTS = ("log_gamma1", "log_gamma2", "t_age")
"""Inputs of the network: log10 of the gammas (absolute Z), age of the universe at the galaxy in Gyr."""
PROBE_AGES_GYR = (0.003, 0.25, 1.0, 3.0, 6.0, 10.0)
"""Lookback times at which Z(t) is shown to the network."""


class Encoding(NamedTuple):
    """Numbers of the encoding; a pytree."""

    shift: jax.Array
    """``(3,)`` centre of the training range of each input."""
    scale: jax.Array
    """``(3,)`` half its width."""
    probes: jax.Array
    """``(2, nprobe)`` metallicity bases at the probed ages."""
    log_z: jax.Array
    """``(nmet,)`` log10 of the library's metallicities, in the quoted (PROVABGS) convention."""

    @classmethod
    def of(cls, model: SPSModel, low: FloatArray, high: FloatArray) -> Encoding:
        """The encoding of a model's histories over a range of inputs, each ``(3,)``."""
        arrays = (
            0.5 * (low + high),
            0.5 * (high - low),
            model.bases.metallicity_bases(PROBE_AGES_GYR),
            model.library.logzsol + np.log10(model.solar_z),
        )
        return cls(*(jnp.asarray(a, jnp.float32) for a in arrays))

    @property
    def n_feature(self) -> int:
        """Length of the encoded vector."""
        n_probe, n_met = self.probes.shape[1], self.log_z.shape[0]
        return len(SMOOTH_INPUTS) + n_probe * (1 + n_met)


def encode(x: jax.Array, encoding: Encoding) -> jax.Array:
    """Features ``(batch, n_feature)`` of inputs ``(batch, 3)``, single precision."""
    x = x.astype(jnp.float32)
    z = 10.0 ** x[:, :2] @ encoding.probes
    log_z = jnp.log10(jnp.clip(z, *Z_RANGE_PROVABGS))
    grid = encoding.log_z
    scaled = (log_z - jnp.mean(grid)) / (0.5 * (grid[-1] - grid[0]))
    hats = hat_weights(log_z, grid)
    return jnp.concatenate([(x - encoding.shift) / encoding.scale, scaled, hats.reshape(len(x), -1)], axis=1)


def out_of_range(x: FloatArray, low: FloatArray, high: FloatArray) -> NDArray[np.bool_]:
    """Which entries of inputs ``(batch, n)`` lie outside ``[low, high]``, each ``(n,)``, or are NaN."""
    slack = 1e-6 * (high - low)
    return ~((x >= low - slack) & (x <= high + slack))


def require_range(x: FloatArray, names: tuple[str, ...], low: FloatArray, high: FloatArray) -> None:
    """Refuse inputs beyond the training range.

    Raises
    ------
    EmulatorRangeError
        Names the first row and parameter at fault, and the range.
    """
    bad = np.argwhere(out_of_range(x, low, high))
    if len(bad):
        row, k = bad[0]
        raise EmulatorRangeError(
            f"row {row}: {names[k]} = {x[row, k]:.6g} lies outside the emulator's training range "
            f"[{low[k]:g}, {high[k]:g}] ({len(np.unique(bad[:, 0]))} of {len(x)} rows); use the exact model there"
        )
