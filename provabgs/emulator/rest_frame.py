"""Rest-frame ln L in the published parametrisation: what stands in for the published networks.

Same inputs and outputs as `provabgs.emulator.published.PublishedEmulator`, so that code written for those networks runs
on it. Between the two: the network of `component` for starlight, the attenuation in closed form, one logarithm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.emulator.component import ComponentEmulator, Functions
from provabgs.emulator.encoding import out_of_range, require_range
from provabgs.emulator.mixture import EmulatorArrays, GalaxyMasses, Layout, burst_factors, columns, mix
from provabgs.sps.attenuation import DustCurves, ism_from_curves
from provabgs.sps.model import SPSModel

PAPER_CHUNKS = ((2000.0, 3600.0), (3600.0, 5500.0), (5500.0, 7410.0), (7410.0, 60000.0))
"""Wavelength ranges of the published networks, Angstrom, vacuum (Kwon et al. 2023)."""
NMF_INPUTS = ("x1", "x2", "x3", "gamma1", "gamma2", "tau_bc", "tau_ism", "n_dust", "t_age")
"""Inputs of the published network of smooth histories; see `provabgs.emulator.published.nmf_inputs`."""
BURST_INPUTS = ("log10 tburst", "log10 Z", "tau_ism", "n_dust")
"""Inputs of the published network of bursts (Gyr; quoted convention)."""
N_AGES = 257
"""Ages of the universe at which masses of the bases are tabulated: linear in between to 1e-5."""


class _State(NamedTuple):
    """What compiled functions take beside their inputs."""

    arrays: EmulatorArrays
    functions: Functions
    curves: DustCurves
    masses: GalaxyMasses


class RestFrameEmulator:
    """Ln L of smooth histories and of bursts, attenuated, per Msun formed.

    Parameters
    ----------
    emulator
        Weights, trained in any conventions; the published code's to stand in for the published networks.
    model
        The model they were trained on.
    chunks
        Which of `PAPER_CHUNKS` to evaluate; all when None.

    Raises
    ------
    EmulatorFileError
        When weights and model do not belong together.
    InputError
        When there is no such chunk.
    """

    n_inputs = len(NMF_INPUTS)

    def __init__(self, emulator: ComponentEmulator, model: SPSModel, chunks: tuple[int, ...] | None = None) -> None:
        emulator.require_model(model)
        self.emulator = emulator
        keep = _columns(emulator.wave, chunks)
        self.wave = emulator.wave[keep]
        curves = jax.tree.map(lambda c: jnp.asarray(c, jnp.float32), model.attenuation.curves(self.wave))
        t_age = np.linspace(emulator.low[2], emulator.high[2], N_AGES)
        functions = Functions(*(jnp.asarray(f[:, keep]) for f in emulator.functions))
        self._state = _State(emulator.arrays, functions, curves, GalaxyMasses.of(model, t_age))
        layout = emulator.layout
        self._smooth = jax.jit(lambda x, state: _smooth_ln_luminosity(x, state, layout))
        self._burst = jax.jit(_burst_ln_luminosity)

    def ln_luminosity(self, inputs: jax.Array) -> jax.Array:
        """Ln L (Lsun/Angstrom per Msun formed), ``(batch, nwave)``, for `NMF_INPUTS` ``(batch, 9)``.

        Raises
        ------
        EmulatorRangeError
            When a row lies outside the training range, or holds NaN.
        """
        checked = self._checked(inputs)
        require_range(checked, NMF_INPUTS, *self._ranges())
        return self._smooth(jnp.asarray(inputs, jnp.float32), self._state)

    def burst_ln_luminosity(self, inputs: jax.Array) -> jax.Array:
        """Ln L of bursts outside birth clouds, ``(batch, nwave)``, for `BURST_INPUTS` ``(batch, 4)``.

        Raises
        ------
        EmulatorRangeError
            When an age lies outside the training range, or a row holds NaN; Z is clamped to the library's, as in FSPS.
        """
        x = np.atleast_2d(np.asarray(inputs, np.float64))
        low = np.array([np.log10(self.emulator.low[3]), -np.inf, -np.inf, -np.inf])
        high = np.array([np.log10(self.emulator.high[3]), np.inf, np.inf, np.inf])
        require_range(x, BURST_INPUTS, low, high)
        return self._burst(jnp.asarray(x, jnp.float32), self._state)

    def flag(self, inputs: jax.Array) -> NDArray[np.bool_]:
        """EMU_FLAG: which rows of `NMF_INPUTS` lie outside the training range or are NaN."""
        return np.any(out_of_range(self._checked(inputs), *self._ranges()), axis=1)

    @staticmethod
    def _checked(inputs: jax.Array) -> FloatArray:
        return np.atleast_2d(np.asarray(inputs, np.float64))

    def _ranges(self) -> tuple[FloatArray, FloatArray]:
        """Range of each of `NMF_INPUTS`: of the network where it learnt, of the definition elsewhere."""
        e = self.emulator
        low = np.array([0.0, 0.0, 0.0, *10.0 ** e.low[:2], 0.0, 0.0, -np.inf, e.low[2]])
        high = np.array([1.0, 1.0, 1.0, *10.0 ** e.high[:2], np.inf, np.inf, np.inf, e.high[2]])
        return low, high


def _columns(wave: FloatArray, chunks: tuple[int, ...] | None) -> NDArray[np.bool_]:
    """Wavelengths in the chunks asked for."""
    if chunks is None:
        return np.ones(wave.size, bool)
    if any(not 0 <= c < len(PAPER_CHUNKS) for c in chunks):
        raise InputError(f"chunks {chunks}: there are chunks 0 to {len(PAPER_CHUNKS) - 1}")
    return np.any([(wave >= PAPER_CHUNKS[c][0]) & (wave < PAPER_CHUNKS[c][1]) for c in chunks], axis=0)


def _values(inputs: jax.Array) -> dict[str, jax.Array]:
    """Parameter values ``(batch,)`` by name, without burst, from `NMF_INPUTS`."""
    x1, x2, x3 = inputs[:, 0], inputs[:, 1], inputs[:, 2]
    values = {"beta1": 1 - x1, "beta2": x1 * (1 - x2), "beta3": x1 * x2 * (1 - x3), "beta4": x1 * x2 * x3}
    values |= {"gamma1": inputs[:, 3], "gamma2": inputs[:, 4], "tburst": jnp.ones_like(x1)}
    return values | {"fburst": jnp.zeros_like(x1)}


def _smooth_ln_luminosity(inputs: jax.Array, state: _State, layout: Layout) -> jax.Array:
    values, t_age = _values(inputs), inputs[:, 8]
    masses = _masses_at(t_age, state.masses)
    mixed = mix(values, masses, columns(values, masses, state.arrays, layout))
    highest = jax.lax.Precision.HIGHEST
    young = jnp.matmul(mixed.young, state.functions.young, precision=highest)
    old = jnp.matmul(mixed.old, state.functions.old, precision=highest)
    total = old + young * jnp.exp(-inputs[:, 5, None] * state.curves.birth_cloud)
    return jnp.log(jnp.maximum(total, _TINY)) - ism_from_curves(state.curves, inputs[:, 6], inputs[:, 7])


_TINY = 1e-37
"""Smallest normal number of single precision: keeps the logarithm finite."""


def _masses_at(t_age: jax.Array, table: GalaxyMasses) -> GalaxyMasses:
    """Masses of the bases at ages ``(batch,)`` by linear interpolation of a table even in age."""
    low, step = table.t_age[0], table.t_age[1] - table.t_age[0]
    position = jnp.clip((t_age - low) / step, 0.0, table.t_age.shape[0] - 1.001)
    index = position.astype(jnp.int32)
    u = (position - index)[:, None]
    between = lambda a: (1 - u) * a[index] + u * a[index + 1]  # noqa: E731
    return GalaxyMasses(t_age, between(table.weight), between(table.young), between(table.old))


def _burst_ln_luminosity(inputs: jax.Array, state: _State) -> jax.Array:
    """A burst's metallicity is given here, not its history: a metallicity base of one stands in."""
    burst = state.arrays.burst
    flat = burst._replace(zh=jnp.concatenate([jnp.ones_like(burst.zh[:1]), jnp.zeros_like(burst.zh[1:])]))
    z = 10.0 ** inputs[:, 1]
    values = {"tburst": 10.0 ** inputs[:, 0], "gamma1": z, "gamma2": jnp.zeros_like(z)}
    young, old = burst_factors(values, jnp.full(len(inputs), jnp.inf), flat)
    light = jnp.matmul(young + old, state.functions.burst, precision=jax.lax.Precision.HIGHEST)
    ism = ism_from_curves(state.curves, inputs[:, 2], inputs[:, 3])
    return jnp.log(jnp.maximum(light, _TINY)) - ism
