"""Two-component dust attenuation after Charlot & Fall (2000), with FSPS's normalisation.

Birth clouds: ``exp(-tau_bc (lam/5500)^-0.7)`` on stars younger than 100 Myr. Diffuse ISM, on all stars: the curve of
Kriek & Conroy (2013) as in FSPS's ``dust_type = 4``: ``exp(-tau_ism (lam/5500)^n_dust (k_Cal(lam) + D(lam)))`` with
Calzetti et al. (2000) ``k_Cal`` and a Drude bump ``D`` whose strength is tied to the slope, both divided by
``R_V = 4.05``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.jax import jax, jnp

LAMBDA_V = 5500.0
"""Pivot wavelength, Angstrom."""
BIRTH_CLOUD_SLOPE = -0.7
"""Slope of the published model's equations; its code and emulator carry FSPS's default, -1 (docs/guide/model.md)."""
R_V_CALZETTI = 4.05
BUMP_CENTRE = 2175.0
BUMP_WIDTH = 350.0


def calzetti_curve(wave: NDArray[np.float64]) -> NDArray[np.float64]:
    """Calzetti et al. (2000) curve as normalised in FSPS, of shape ``(nwave,)``; 1 near 5500 A.

    The two polynomials change over at 6300 A, with a step of 0.7 %; beyond 3.1 um, where the curve would be negative,
    it is 0, as in FSPS (docs/studies/fsps_notes.md).
    """
    x = 1e4 / np.asarray(wave, dtype=np.float64)
    blue = 1.17 * (-2.156 + 1.509 * x - 0.198 * x**2 + 0.011 * x**3) + 1.78
    red = 1.17 * (-1.857 + 1.04 * x) + 1.78
    return np.maximum(np.where(np.asarray(wave) <= 6300.0, blue, red), 0.0) / 0.44 / R_V_CALZETTI


def drude_profile(wave: NDArray[np.float64]) -> NDArray[np.float64]:
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


def dust_curves(wave: NDArray[np.float64], birth_cloud_slope: float = BIRTH_CLOUD_SLOPE) -> DustCurves:
    """Factors of the dust law at rest wavelengths `wave`, Angstrom, of any shape."""
    wave = np.asarray(wave, dtype=np.float64)
    return DustCurves(
        jnp.asarray(np.log(wave / LAMBDA_V)),
        jnp.asarray(calzetti_curve(wave)),
        jnp.asarray(drude_profile(wave) / R_V_CALZETTI),
        jnp.asarray((wave / LAMBDA_V) ** birth_cloud_slope),
    )


def transmission(
    curves: DustCurves, tau_bc: jax.Array, tau_ism: jax.Array, n_dust: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Transmission of starlight.

    Parameters
    ----------
    curves
        Factors of shape ``(nwave,)``.
    tau_bc, tau_ism, n_dust
        ``(...,)`` optical depths at 5500 A of birth clouds and ISM, slope offset of the ISM.

    Returns
    -------
    old, young
        Each ``(..., nwave)``; young stars see both components.
    """
    ism = ism_from_curves(curves, tau_ism, n_dust)
    return jnp.exp(-ism), jnp.exp(-ism - tau_bc[..., None] * curves.birth_cloud)


def ism_from_curves(curves: DustCurves, tau_ism: jax.Array, n_dust: jax.Array) -> jax.Array:
    """`ism_optical_depth` from ready-made factors, in their precision."""
    bump = (0.85 - 1.9 * n_dust)[..., None] * curves.bump
    return tau_ism[..., None] * jnp.exp(n_dust[..., None] * curves.log_ratio) * (curves.calzetti + bump)


def ism_optical_depth(wave: NDArray[np.float64], tau_ism: jax.Array, n_dust: jax.Array) -> jax.Array:
    """Optical depth of the diffuse ISM, ``(..., nwave)``, at rest wavelengths ``(nwave,)``, Angstrom."""
    return ism_from_curves(dust_curves(wave), tau_ism, n_dust)


def birth_cloud_optical_depth(
    wave: NDArray[np.float64], tau_bc: jax.Array, slope: float = BIRTH_CLOUD_SLOPE
) -> jax.Array:
    """Optical depth of birth clouds, ``(..., nwave)``."""
    return tau_bc[..., None] * dust_curves(wave, slope).birth_cloud


def attenuation(
    wave: NDArray[np.float64],
    tau_bc: jax.Array,
    tau_ism: jax.Array,
    n_dust: jax.Array,
    birth_cloud_slope: float = BIRTH_CLOUD_SLOPE,
) -> tuple[jax.Array, jax.Array]:
    """`transmission` at rest wavelengths ``(nwave,)``, Angstrom: ``(old, young)``, each ``(..., nwave)``."""
    return transmission(dust_curves(wave, birth_cloud_slope), tau_bc, tau_ism, n_dust)
