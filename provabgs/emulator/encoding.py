"""What the network of smooth histories sees: metallicities at a few ages, and where they fall on the SSP grid.

SSPs are linear in log Z and log age between the nodes of the library, so the spectrum has kinks where Z(t) crosses a
metallicity, and where the age of the universe does an age. A network of smooth functions needs many units to draw a
kink, and none if its inputs have it already: metallicities and t_age enter as hat functions on the library's own grid.
Errors fall by three (docs/studies/emulator.md).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import Z_RANGE_PROVABGS
from provabgs.core.jax import jax, jnp
from provabgs.emulator.errors import EmulatorFileError, EmulatorRangeError
from provabgs.sps.attenuation import CharlotFall
from provabgs.sps.histories import NMFHistories
from provabgs.sps.histories.nmf import PUBLISHED
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import ParameterSet, Values

PARAMETERS = ParameterSet((*PUBLISHED, *CharlotFall.parameters))
"""Parameters of the model that emulators learn: the published histories and dust."""
SMOOTH_INPUTS = ("log_gamma1", "log_gamma2", "t_age")
"""Inputs of the network: log10 of the gammas (absolute Z), age of the universe at the galaxy in Gyr."""
PROBE_AGES_GYR = (0.003, 0.25, 1.0, 2.5, 4.5, 6.5, 8.0, 9.5, 11.0, 12.5)
"""Lookback times at which Z(t) is shown to the network."""


def nmf_of(model: SPSModel) -> NMFHistories:
    """The histories of a model, which must be the published family.

    Raises
    ------
    EmulatorFileError
        For a model of other histories: emulators know none but these.
    """
    if not isinstance(model.histories, NMFHistories) or not model.histories.is_published:
        raise EmulatorFileError(
            f"emulators learn the published histories, the model has {type(model.histories).__name__} of its own "
            "parameters; use engine = 'compressed'"
        )
    return model.histories


def gammas(values: Values) -> jax.Array:
    """Metallicity coefficients ``(batch, 2)``."""
    return jnp.stack([values["gamma1"], values["gamma2"]], axis=-1)


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
    log_age: jax.Array
    """``(nnode,)`` log10 of the library's ages that cover the range of t_age, Gyr."""

    @classmethod
    def of(cls, model: SPSModel, low: FloatArray, high: FloatArray) -> Encoding:
        """The encoding of a model's histories over a range of inputs, each ``(3,)``."""
        log_age = model.library.log_age - 9
        first, last = np.searchsorted(log_age, np.log10([low[2], high[2]]))
        arrays = (
            0.5 * (low + high),
            0.5 * (high - low),
            nmf_of(model).bases.metallicity_bases(PROBE_AGES_GYR),
            model.library.logzsol + np.log10(model.solar_z),
            log_age[max(first - 1, 0) : last + 1],
        )
        return cls(*(jnp.asarray(a, jnp.float32) for a in arrays))

    @property
    def n_feature(self) -> int:
        """Length of the encoded vector."""
        n_probe, n_met = self.probes.shape[1], self.log_z.shape[0]
        return len(SMOOTH_INPUTS) + n_probe * (1 + n_met) + self.log_age.shape[0]


def encode(x: jax.Array, encoding: Encoding) -> jax.Array:
    """Features ``(batch, n_feature)`` of inputs ``(batch, 3)``, single precision."""
    x = x.astype(jnp.float32)
    z = 10.0 ** x[:, :2] @ encoding.probes
    log_z = jnp.log10(jnp.clip(z, *Z_RANGE_PROVABGS))
    grid = encoding.log_z
    scaled = (log_z - jnp.mean(grid)) / (0.5 * (grid[-1] - grid[0]))
    hats = hat_weights(log_z, grid).reshape(len(x), -1)
    ages = hat_weights(jnp.log10(x[:, 2]), encoding.log_age)
    return jnp.concatenate([(x - encoding.shift) / encoding.scale, scaled, hats, ages], axis=1)


def out_of_range(x: FloatArray, low: FloatArray, high: FloatArray) -> NDArray[np.bool_]:
    """Which entries of inputs ``(batch, n)`` lie outside ``[low, high]``, each ``(n,)``, or are NaN."""
    slack = np.where(np.isfinite(high - low), 1e-6 * (high - low), 0.0)
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
