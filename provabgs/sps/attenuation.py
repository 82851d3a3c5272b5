"""Two-component dust attenuation after Charlot & Fall (2000), with FSPS's normalisation.

Birth clouds: ``exp(-tau_bc (lam/5500)^-0.7)`` on stars younger than 100 Myr. Diffuse ISM, on all stars: the curve of
Kriek & Conroy (2013) as in FSPS's ``dust_type = 4``: ``exp(-tau_ism (lam/5500)^n_dust (k_Cal(lam) + D(lam)))`` with
Calzetti et al. (2000) ``k_Cal`` and a Drude bump ``D`` whose strength is tied to the slope, both divided by
``R_V = 4.05``.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.sps.composite import Parts
from provabgs.sps.parameters import Parameter, Values

LAMBDA_V = 5500.0
"""Pivot wavelength, Angstrom."""
BIRTH_CLOUD_SLOPE = -0.7
"""Slope of the published model's equations; its code and emulator carry FSPS's default, -1 (docs/guide/model.md)."""
R_V_CALZETTI = 4.05
BUMP_CENTRE = 2175.0
BUMP_WIDTH = 350.0


def calzetti_curve(wave: FloatArray) -> FloatArray:
    """Calzetti et al. (2000) curve as normalised in FSPS, of shape ``(nwave,)``; 1 near 5500 A.

    The two polynomials change over at 6300 A, with a step of 0.7 %; beyond 3.1 um, where the curve would be negative,
    it is 0, as in FSPS (docs/studies/fsps_notes.md).
    """
    x = 1e4 / np.asarray(wave, dtype=np.float64)
    blue = 1.17 * (-2.156 + 1.509 * x - 0.198 * x**2 + 0.011 * x**3) + 1.78
    red = 1.17 * (-1.857 + 1.04 * x) + 1.78
    return np.maximum(np.where(np.asarray(wave) <= 6300.0, blue, red), 0.0) / 0.44 / R_V_CALZETTI


def drude_profile(wave: FloatArray) -> FloatArray:
    """Unit-strength Drude profile of the 2175 A bump, ``(nwave,)`` (Noll et al. 2009, equation 3)."""
    w2 = np.asarray(wave, dtype=np.float64) ** 2
    width2 = w2 * BUMP_WIDTH**2
    return width2 / ((w2 - BUMP_CENTRE**2) ** 2 + width2)


class DustCurves(NamedTuple):
    """The dust law's wavelength-dependent factors at chosen wavelengths; any shape, numpy or JAX."""

    log_ratio: jax.Array
    """ln(lam / 5500 A)."""
    calzetti: jax.Array
    bump: jax.Array
    """Unit-strength Drude profile over R_V."""
    birth_cloud: jax.Array
    """(lam / 5500 A)^slope."""


def dust_curves(wave: FloatArray, birth_cloud_slope: float = BIRTH_CLOUD_SLOPE) -> DustCurves:
    """Factors of the dust law that depend on wavelength alone.

    Parameters
    ----------
    wave
        Rest wavelength, Angstrom, of any shape.
    birth_cloud_slope
        Power-law slope of the birth clouds' optical depth in wavelength.

    Returns
    -------
    DustCurves
        Each of the shape of `wave`, double precision.
    """
    wave = np.asarray(wave, dtype=np.float64)
    return DustCurves(
        jnp.asarray(np.log(wave / LAMBDA_V)),
        jnp.asarray(calzetti_curve(wave)),
        jnp.asarray(drude_profile(wave) / R_V_CALZETTI),
        jnp.asarray((wave / LAMBDA_V) ** birth_cloud_slope),
    )


def ism_from_curves(curves: DustCurves, tau_ism: jax.Array, n_dust: jax.Array) -> jax.Array:
    """Optical depth of the diffuse ISM from ready-made factors, in their precision; see `ism_optical_depth`.

    Parameters
    ----------
    curves
        From `dust_curves`, each ``(nwave,)``.
    tau_ism
        ``(...)`` optical depth at 5500 A.
    n_dust
        ``(...)`` slope offset from Calzetti's curve.

    Returns
    -------
    jax.Array
        ``(..., nwave)``.
    """
    bump = (0.85 - 1.9 * n_dust)[..., None] * curves.bump
    return tau_ism[..., None] * jnp.exp(n_dust[..., None] * curves.log_ratio) * (curves.calzetti + bump)


def ism_optical_depth(wave: FloatArray, tau_ism: jax.Array, n_dust: jax.Array) -> jax.Array:
    """Optical depth of the diffuse ISM (Noll et al. 2009; bump strength of Kriek & Conroy 2013, equation 3).

    Parameters
    ----------
    wave
        ``(nwave,)`` rest wavelength, Angstrom.
    tau_ism
        ``(...)`` optical depth at 5500 A.
    n_dust
        ``(...)`` slope offset from Calzetti's curve.

    Returns
    -------
    jax.Array
        ``(..., nwave)``.
    """
    return ism_from_curves(dust_curves(wave), tau_ism, n_dust)


def birth_cloud_optical_depth(wave: FloatArray, tau_bc: jax.Array, slope: float = BIRTH_CLOUD_SLOPE) -> jax.Array:
    """Optical depth of birth clouds, a power law in wavelength (Charlot & Fall 2000).

    Parameters
    ----------
    wave
        ``(nwave,)`` rest wavelength, Angstrom.
    tau_bc
        ``(...)`` optical depth at 5500 A.
    slope
        Power-law slope.

    Returns
    -------
    jax.Array
        ``(..., nwave)``.
    """
    return tau_bc[..., None] * dust_curves(wave, slope).birth_cloud


class Attenuation(Protocol):
    """A dust law: parameters, wavelength-dependent factors made once, transmission made of them at every call."""

    parameters: tuple[Parameter, ...]

    def curves(self, wave: FloatArray) -> Any:
        """Factors at rest wavelengths ``(nwave,)``, Angstrom: a pytree of arrays whose last axis is `nwave`."""
        ...

    def transmission(self, curves: Any, values: Values) -> Parts:
        """Transmitted fraction of the spectra of young and of old stars.

        Parameters
        ----------
        curves
            From `curves`.
        values
            Parameter values by name, each ``(batch,)``.

        Returns
        -------
        Parts
            Each ``(batch, nwave)``.
        """
        ...


def _optical_depth(name: str, symbol: str, what: str) -> Parameter:
    symbol = rf"\tau_{{\rm {symbol}}}"
    return Parameter(
        name, name.upper(), symbol, "", f"{what} at 5500 A", "uniform", (0.0, 3.0), "dust", natural_edges="low"
    )


class CharlotFall:
    """Birth clouds and diffuse ISM; see the module's equations.

    Parameters
    ----------
    birth_cloud_slope
        Power-law slope of the birth clouds' optical depth in wavelength.
    """

    parameters: tuple[Parameter, ...] = (
        _optical_depth("tau_bc", "BC", "birth-cloud optical depth of stars younger than 100 Myr"),
        _optical_depth("tau_ism", "ISM", "diffuse-ISM optical depth of all stars"),
        Parameter(
            name="n_dust",
            column="N_DUST",
            symbol=r"n_{\rm dust}",
            unit="",
            description="slope offset of the ISM attenuation curve from Calzetti's",
            prior="uniform",
            bounds=(-2.0, 1.0),
            role="dust",
        ),
    )

    def __init__(self, birth_cloud_slope: float = BIRTH_CLOUD_SLOPE) -> None:
        self.birth_cloud_slope = birth_cloud_slope

    def curves(self, wave: FloatArray) -> DustCurves:
        """See `Attenuation.curves`."""
        return dust_curves(wave, self.birth_cloud_slope)

    def transmission(self, curves: DustCurves, values: Values) -> Parts:
        """See `Attenuation.transmission`; young stars see both components.

        Parameters
        ----------
        curves
            From `curves`, each ``(nwave,)``.
        values
            ``tau_bc``, ``tau_ism`` and ``n_dust``, each ``(batch,)``.

        Returns
        -------
        Parts
            Each ``(batch, nwave)``.
        """
        ism = ism_from_curves(curves, values["tau_ism"], values["n_dust"])
        return Parts(jnp.exp(-ism - values["tau_bc"][..., None] * curves.birth_cloud), jnp.exp(-ism))
