"""The emulator of dust-free components: object, evaluation in wavelengths, and checks of what it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.emulator.encoding import SMOOTH_INPUTS, out_of_range, require_range
from provabgs.emulator.errors import EmulatorFileError
from provabgs.emulator.mixture import EmulatorArrays, GalaxyMasses, Layout, Mixed, columns, mix
from provabgs.sps.dust import dust_curves, transmission
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import INDEX

CHECKED = (*SMOOTH_INPUTS, "tburst")


class Functions(NamedTuple):
    """Basis functions of young and old smooth histories and of bursts, ``(n, nwave)``, Lsun/Angstrom per Msun.

    Single precision; of numpy on file, of JAX where something is computed.
    """

    young: Any
    old: Any
    burst: Any


@dataclass(frozen=True, eq=False)
class ComponentEmulator:
    """Dust-free spectra of young and old stars by a network and a table of bursts; dust and amplitudes are analytic.

    Attributes
    ----------
    wave
        ``(nwave,)`` rest-frame vacuum wavelength, Angstrom.
    functions
        Basis functions.
    arrays, layout
        The network, the table, and the shape of the output.
    low, high
        ``(4,)`` training range of `CHECKED`.
    conventions
        ``"paper"`` or ``"published-code"``: of the model that was emulated.
    library_digest
        SHA-256 of its SSP library.
    provenance
        Where the weights come from.
    """

    wave: FloatArray
    functions: Functions
    arrays: EmulatorArrays
    layout: Layout
    low: FloatArray
    high: FloatArray
    conventions: str
    library_digest: str
    provenance: dict[str, str] = field(default_factory=dict)

    # ---- checks --------------------------------------------------------------------------------------------------

    def require_model(self, model: SPSModel) -> None:
        """Refuse a model other than the one emulated.

        Raises
        ------
        EmulatorFileError
            When SSP library or conventions differ.
        """
        if conventions_of(model) != self.conventions:
            raise EmulatorFileError(
                f"this emulator was trained on {self.conventions!r} conventions, the model has "
                f"{conventions_of(model)!r}; choose the weights that go with it"
            )
        if model.library.digest() != self.library_digest:
            raise EmulatorFileError(
                f"this emulator was trained on SSP library {self.library_digest[:12]}, the model has "
                f"{model.library.digest()[:12]}; retrain with `provabgs emulator train`, or use the other library"
            )

    def require_range(self, theta: FloatArray, t_age: float | FloatArray) -> None:
        """Refuse parameters ``(batch, 13)`` that were not trained for.

        Raises
        ------
        EmulatorRangeError
            See `provabgs.emulator.encoding.require_range`.
        """
        require_range(self._checked(theta, t_age), CHECKED, self.low, self.high)

    def flag(self, theta: FloatArray, t_age: float | FloatArray) -> NDArray[np.bool_]:
        """EMU_FLAG: which rows of theta ``(batch, 13)`` lie outside the training range or are NaN."""
        checked = self._checked(theta, t_age)
        outside = out_of_range(checked, self.low, self.high).any(axis=1)
        return np.logical_or(outside, ~np.isfinite(np.atleast_2d(theta)).all(axis=1))

    @staticmethod
    def _checked(theta: FloatArray, t_age: float | FloatArray) -> FloatArray:
        theta = np.atleast_2d(np.asarray(theta, np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            gammas = np.log10(theta[:, [INDEX["gamma1"], INDEX["gamma2"]]])
        age = np.broadcast_to(np.asarray(t_age, np.float64), len(theta))
        return np.column_stack([gammas, age, theta[:, INDEX["tburst"]]])

    def inside(self, theta: jax.Array, t_age: jax.Array) -> jax.Array:
        """As ``~flag``, inside compiled functions, ``(batch,)``."""
        gammas = jnp.log10(theta[:, jnp.array([INDEX["gamma1"], INDEX["gamma2"]])])
        age = jnp.broadcast_to(t_age, theta.shape[:1])
        x = jnp.concatenate([gammas, age[:, None], theta[:, INDEX["tburst"], None]], axis=1)
        slack = 1e-6 * (self.high - self.low)
        return jnp.all((x >= self.low - slack) & (x <= self.high + slack), axis=1)

    # ---- evaluation ----------------------------------------------------------------------------------------------

    @cached_property
    def device_functions(self) -> Functions:
        """Basis functions as JAX arrays."""
        return Functions(*(jnp.asarray(f) for f in self.functions))

    @cached_property
    def _compiled(self) -> Callable[..., tuple[jax.Array, jax.Array]]:
        def dust_free(theta: jax.Array, masses: GalaxyMasses, arrays: EmulatorArrays, functions: Functions) -> tuple:
            return synthesise(mix(theta, masses, columns(theta, masses, arrays, self.layout)), functions)

        return jax.jit(dust_free)

    def dust_free(self, theta: jax.Array, model: SPSModel, t_age: float | FloatArray) -> tuple[jax.Array, jax.Array]:
        """As `SPSModel.dust_free`: young and old light per Msun formed, each ``(batch, nwave)``.

        Raises
        ------
        EmulatorRangeError
            When a row lies outside the training range.
        """
        self.require_range(np.asarray(theta), t_age)
        masses = GalaxyMasses.of(model, t_age)
        return self._compiled(jnp.asarray(theta, jnp.float64), masses, self.arrays, self.device_functions)

    def spectrum(self, theta: jax.Array, model: SPSModel, t_age: float | FloatArray) -> jax.Array:
        """As `SPSModel.spectrum`: attenuated light, Lsun/Angstrom, ``(batch, nwave)``; raises as `dust_free`."""
        young, old = self.dust_free(theta, model, t_age)
        dust = (theta[:, INDEX[n]] for n in ("tau_bc", "tau_ism", "n_dust"))
        t_old, t_young = transmission(dust_curves(self.wave, model.birth_cloud_slope), *dust)
        return 10.0 ** theta[:, INDEX["logmstar"], None] * (young * t_young + old * t_old)


def synthesise(mixed: Mixed, functions: Functions) -> tuple[jax.Array, jax.Array]:
    """Young and old light ``(batch, n)`` from factors on basis functions of n wavelengths."""
    young, old, burst_young, burst_old = mixed
    f_young, f_old, f_burst = functions
    highest = jax.lax.Precision.HIGHEST
    return (
        jnp.matmul(young, f_young, precision=highest) + jnp.matmul(burst_young, f_burst, precision=highest),
        jnp.matmul(old, f_old, precision=highest) + jnp.matmul(burst_old, f_burst, precision=highest),
    )


def conventions_of(model: SPSModel) -> str:
    """``"paper"`` or ``"published-code"`` for those two, else the settings in words."""
    settings = (model.t_birth_cloud, model.birth_cloud_slope, model.binning, model.normalisation)
    if settings == (0.1, -0.7, "exact", "per-basis"):
        return "paper"
    if settings == (0.01, -1.0, "published", "joint"):
        return "published-code"
    return "birth clouds to {:g} Gyr of slope {:g}, {} bins, {} normalisation".format(*settings)
