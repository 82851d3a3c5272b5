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
from provabgs.emulator.encoding import PARAMETERS, SMOOTH_INPUTS, gammas, nmf_of, out_of_range, require_range
from provabgs.emulator.errors import EmulatorFileError
from provabgs.emulator.mixture import EmulatorArrays, GalaxyMasses, Layout, Mixed, columns, mix
from provabgs.sps.attenuation import CharlotFall
from provabgs.sps.composite import Parts as SpectrumParts
from provabgs.sps.composite import composite
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import Values

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
            When SSP library or conventions differ, or the model has emission besides starlight.
        """
        if model.stellar_emissions or model.dust_emissions:
            raise EmulatorFileError(
                "this emulator was trained on starlight alone, the model has emissions; leave model.emissions empty, "
                "or use engine = 'compressed'"
            )
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
        """Refuse parameters ``(batch, nparameter)`` that were not trained for.

        Raises
        ------
        EmulatorRangeError
            See `provabgs.emulator.encoding.require_range`.
        """
        require_range(self._checked(theta, t_age), CHECKED, self.low, self.high)

    def flag(self, theta: FloatArray, t_age: float | FloatArray) -> NDArray[np.bool_]:
        """EMU_FLAG: which rows of theta ``(batch, nparameter)`` lie outside the training range or are NaN."""
        checked = self._checked(theta, t_age)
        outside = out_of_range(checked, self.low, self.high).any(axis=1)
        return np.logical_or(outside, ~np.isfinite(np.atleast_2d(theta)).all(axis=1))

    @staticmethod
    def _checked(theta: FloatArray, t_age: float | FloatArray) -> FloatArray:
        theta = np.atleast_2d(np.asarray(theta, np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            logs = np.log10(np.stack([PARAMETERS.get(theta, n) for n in ("gamma1", "gamma2")], axis=1))
        age = np.broadcast_to(np.asarray(t_age, np.float64), len(theta))
        return np.column_stack([logs, age, PARAMETERS.get(theta, "tburst")])

    def inside(self, values: Values, t_age: jax.Array) -> jax.Array:
        """As ``~flag``, inside compiled functions, ``(batch,)``, for values ``(batch,)`` by name."""
        age = jnp.broadcast_to(t_age, values["tburst"].shape)
        x = jnp.concatenate([jnp.log10(gammas(values)), age[:, None], values["tburst"][:, None]], axis=1)
        slack = 1e-6 * (self.high - self.low)
        return jnp.all((x >= self.low - slack) & (x <= self.high + slack), axis=1)

    # ---- evaluation ----------------------------------------------------------------------------------------------

    @cached_property
    def device_functions(self) -> Functions:
        """Basis functions as JAX arrays."""
        with jax.ensure_compile_time_eval():
            return Functions(*(jnp.asarray(f) for f in self.functions))

    @cached_property
    def _compiled(self) -> Callable[..., SpectrumParts]:
        def unattenuated(
            theta: jax.Array, masses: GalaxyMasses, arrays: EmulatorArrays, functions: Functions
        ) -> SpectrumParts:
            values = PARAMETERS.values(theta)
            return synthesise(mix(values, masses, columns(values, masses, arrays, self.layout)), functions)

        return jax.jit(unattenuated)

    def unattenuated(self, theta: jax.Array, model: SPSModel, t_age: float | FloatArray) -> SpectrumParts:
        """As `SPSModel.unattenuated`: young and old spectra per Msun formed, each ``(batch, nwave)``.

        Raises
        ------
        EmulatorRangeError
            When a row lies outside the training range.
        """
        self.require_range(np.asarray(theta), t_age)
        masses = GalaxyMasses.of(model, t_age)
        return self._compiled(jnp.asarray(theta, jnp.float64), masses, self.arrays, self.device_functions)

    def spectrum(self, theta: jax.Array, model: SPSModel, t_age: float | FloatArray) -> jax.Array:
        """As `SPSModel.spectrum`: attenuated, Lsun/Angstrom, ``(batch, nwave)``; raises as `unattenuated`."""
        parts, values = self.unattenuated(theta, model, t_age), PARAMETERS.values(theta)
        transmission = model.attenuation.transmission(model.attenuation.curves(self.wave), values)
        return 10.0 ** values["logmstar"][:, None] * composite(parts, transmission)


def synthesise(mixed: Mixed, functions: Functions) -> SpectrumParts:
    """Young and old spectra ``(batch, n)`` from factors on basis functions of n wavelengths."""
    young, old, burst_young, burst_old = mixed
    f_young, f_old, f_burst = functions
    highest = jax.lax.Precision.HIGHEST
    return SpectrumParts(
        jnp.matmul(young, f_young, precision=highest) + jnp.matmul(burst_young, f_burst, precision=highest),
        jnp.matmul(old, f_old, precision=highest) + jnp.matmul(burst_old, f_burst, precision=highest),
    )


def conventions_of(model: SPSModel) -> str:
    """``"paper"`` or ``"published-code"`` for those two, else the settings in words."""
    histories = nmf_of(model)
    slope = model.attenuation.birth_cloud_slope if isinstance(model.attenuation, CharlotFall) else float("nan")
    settings = (model.t_birth_cloud, slope, histories.binning, histories.normalisation)
    if settings == (0.1, -0.7, "exact", "per-basis"):
        return "paper"
    if settings == (0.01, -1.0, "published", "joint"):
        return "published-code"
    return "birth clouds to {:g} Gyr of slope {:g}, {} bins, {} normalisation".format(*settings)
