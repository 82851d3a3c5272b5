"""Dust of the simulated disks: the recipe of L-GALAXIES, not that of the model that is fitted.

Diffuse component: optical depth from the cold gas column, its metallicity and the Mathis, Mezger & Panagia (1983)
extinction curve, a slab mixed with the stars and seen at the disk's inclination (Devriendt, Guiderdoni & Sadat 1999;
De Lucia & Blaizot 2007, section 3.7; Henriques et al. 2015, supplement section S1.15). Young stars are seen through
birth clouds besides (Charlot & Fall 2000). Bulges have no dust.
"""

from __future__ import annotations

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError

# Columns: wavelength in micron, A(lambda)/A(V), albedo. Mathis, Mezger & Panagia (1983, A&A 128, 212), tables C1 and
# C2, as tabulated in the public release of L-GALAXIES.
_MATHIS = np.array(
    [
        [0.091, 5.720, 0.42],
        [0.10, 4.650, 0.43],
        [0.13, 2.960, 0.45],
        [0.143, 2.700, 0.45],
        [0.18, 2.490, 0.53],
        [0.20, 2.780, 0.56],
        [0.21, 3.000, 0.56],
        [0.216, 3.120, 0.56],
        [0.23, 2.860, 0.63],
        [0.25, 2.350, 0.63],
        [0.346, 1.580, 0.71],
        [0.435, 1.320, 0.67],
        [0.55, 1.000, 0.63],
        [0.7, 0.750, 0.56],
        [0.9, 0.480, 0.50],
        [1.2, 0.280, 0.37],
        [1.8, 0.160, 0.25],
        [2.2, 0.122, 0.22],
        [2.4, 0.093, 0.15],
        [3.4, 0.038, 0.058],
        [4.0, 0.024, 0.046],
        [5.0, 0.018, 0.0],
        [6.0, 0.014, 0.0],
        [8.0, 0.013, 0.0],
        [10.0, 0.072, 0.0],
        [12.0, 0.030, 0.0],
        [20.0, 0.065, 0.0],
    ]
)
Z_SUN_DUST = 0.02
"""Solar metallicity of the recipe's scaling of dust with gas metallicity."""
NH_UNIT = 3252.37
"""Code units of column density, 1e10 h Msun/Mpc^2, per 2.1e21 H atoms/cm^2, as the recipe has it."""
HELIUM = 1.4
COS_MIN = 0.2
"""Disks are never seen more edge-on than this."""
BIRTH_CLOUD_SLOPE = -0.7
LAMBDA_V = 5500.0
MU_MEAN, MU_SIGMA, MU_RANGE = 0.3, 0.2, (0.1, 1.0)


def mathis_curve(wave: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A(lambda)/A(V) and albedo, each ``(nwave,)``, at rest-frame `wave` (Angstrom), linear between table entries.

    L-GALAXIES itself reads the table one entry off (its search stops at the first entry *above* the wavelength and
    then extrapolates from the interval that follows); between entries we interpolate. At the V band, where tau_V is
    defined, both give 1.
    """
    micron = np.asarray(wave, dtype=np.float64) / 1e4
    return np.interp(micron, _MATHIS[:, 0], _MATHIS[:, 1]), np.interp(micron, _MATHIS[:, 0], _MATHIS[:, 2])


def column_density(cold_gas: float, gas_radius: float, redshift: float, hubble: float) -> float:
    """Mean hydrogen column of a face-on disk, in units of 2.1e21 atoms/cm^2.

    ``M_cold / (1.4 pi (0.94 R_gas)^2)`` in code units over 3252.37 and (1 + z), as Hahn et al. (2023) and L-GALAXIES
    have it. From first principles 2.1e21 hydrogen atoms/cm^2 are 1,681/h code units (2,498 for h = 0.673, helium
    counted by the factor 1.4): the recipe's columns are lower by 1.30. Its number is kept, it is part of the recipe.

    Parameters
    ----------
    cold_gas
        Msun.
    gas_radius
        kpc, three scale lengths of the gas disk.
    redshift, hubble
        Of the galaxy; h of the simulation.
    """
    if cold_gas <= 0.0:
        return 0.0
    if gas_radius <= 0.0:
        raise InputError(f"gas mass {cold_gas:.3g} Msun in a disk of radius {gas_radius:g} kpc; give a radius > 0")
    mass = cold_gas * hubble / 1e10
    radius = gas_radius * hubble / 1e3
    return float(mass / (np.pi * (0.94 * radius) ** 2 * HELIUM) / NH_UNIT / (1.0 + redshift))


def ism_optical_depth(wave: FloatArray, column: float, z_gas: float) -> FloatArray:
    """Face-on optical depth ``(nwave,)``: ``A/A_V sqrt(1 - albedo) (Z_gas/0.02)^s N_H``, s = 1.6, 1.35 below 2000 A.

    Parameters
    ----------
    wave
        ``(nwave,)`` rest-frame Angstrom.
    column
        From `column_density`.
    z_gas
        Metal mass fraction of the cold gas.
    """
    curve, albedo = mathis_curve(wave)
    power = np.where(np.asarray(wave) < 2000.0, 1.35, 1.6)
    return curve * np.sqrt(1.0 - albedo) * (max(z_gas, 0.0) / Z_SUN_DUST) ** power * column


def slab_transmission(tau: FloatArray, cos_inclination: float) -> FloatArray:
    """``(1 - exp(-tau sec i)) / (tau sec i)`` with cos i >= 0.2: stars and dust mixed in a slab; 1 where tau is 0."""
    depth = np.asarray(tau, dtype=np.float64) / max(abs(cos_inclination), COS_MIN)
    return np.where(depth > 1e-8, -np.expm1(-depth) / np.where(depth > 1e-8, depth, 1.0), 1.0)


def birth_cloud_transmission(wave: FloatArray, tau_v: float, mu: float) -> FloatArray:
    """``exp(-tau_V (1/mu - 1) (lambda/5500)^-0.7)``, ``(nwave,)``, for face-on ISM optical depth `tau_v`."""
    return np.exp(-tau_v * (1.0 / mu - 1.0) * (np.asarray(wave) / LAMBDA_V) ** BIRTH_CLOUD_SLOPE)


def draw_mu(rng: np.random.Generator) -> float:
    """Share of the ISM in the V-band depth that young stars see: N(0.3, 0.2) truncated to [0.1, 1] by rejection.

    The truncation follows the code of L-GALAXIES; clipping would pile up 16 % of galaxies at mu = 0.1.
    """
    while True:
        mu = float(rng.normal(MU_MEAN, MU_SIGMA))
        if MU_RANGE[0] <= mu <= MU_RANGE[1]:
            return mu
