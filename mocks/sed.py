"""Spectra of simulated galaxies from their own histories: a forward model that is not the one that is fitted.

For disk and bulge apart, ``L(lambda) = sum_i M_formed,i SSP(lambda; t_i, Z_i)`` over history bins, with t_i the bin's
centre (Hahn et al. 2023, section 2.2). Disk stars are seen through the dust of `provabgs.mocks.dust`, bulge stars are
not. Disks have a velocity dispersion of 50 km/s, bulges that of their mass. SSPs are interpolated by the functions
that the fitted model uses: one implementation of the physics.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from provabgs.core.constants import MPC_CM, SOLAR_Z_PROVABGS, SPECTRUM_UNIT
from provabgs.mocks import dust
from provabgs.mocks.histories import FloatArray, SimulatedGalaxies
from provabgs.observe.cosmology import Cosmology
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.library import SSPLibrary

T_BIRTH_CLOUD_GYR = 0.03
"""Stars up to this age sit in birth clouds (30 Myr; the fitted model's own boundary is 100 Myr)."""
DISK_DISPERSION_KMS = 50.0
_BULGE_PIVOT_LOG_MASS, _BULGE_PIVOT_LOG_SIGMA = 10.26, 2.073


class DustParameters(NamedTuple):
    """What the dust of one galaxy is drawn to be."""

    column: float
    """Face-on hydrogen column, 2.1e21 atoms/cm^2."""
    z_gas: float
    cos_inclination: float
    mu: float

    @property
    def tau_v(self) -> float:
        """Face-on ISM optical depth at 5500 A."""
        return float(dust.ism_optical_depth(np.array([dust.LAMBDA_V]), self.column, self.z_gas)[0])


class GalaxySED(NamedTuple):
    """Rest-frame spectrum of one simulated galaxy."""

    wave: FloatArray
    """``(nwave,)`` Angstrom, vacuum."""
    disk: FloatArray
    """``(nwave,)`` Lsun/Angstrom, attenuated, not yet broadened by the velocity dispersion."""
    bulge: FloatArray
    dust_free: FloatArray
    """Disk + bulge without dust."""
    bulge_dispersion: float
    """km/s; 0 without a bulge."""

    @property
    def total(self) -> FloatArray:
        """``(nwave,)`` disk + bulge."""
        return self.disk + self.bulge


def bulge_dispersion(mass_formed: float) -> float:
    """Velocity dispersion of a bulge, km/s, for its *formed* mass in Msun (Hahn et al. 2023, section 2.2).

    ``10^2.073 (M/10^10.26)^a``, a = 0.403 below the pivot and 0.293 above it; 0 without a bulge. That the mass is the
    formed one follows from the published list of masses and dispersions.
    """
    if mass_formed <= 0.0:
        return 0.0
    x = np.log10(mass_formed) - _BULGE_PIVOT_LOG_MASS
    return float(10.0 ** (_BULGE_PIVOT_LOG_SIGMA + (0.403 if x < 0 else 0.293) * x))


class SEDModel:
    """Makes rest-frame and observed spectra of simulated galaxies from one SSP library.

    Parameters
    ----------
    library
        SSP library; the shipped one when None.
    solar_z
        Solar metallicity by which a simulation's absolute Z becomes the library's logzsol; PROVABGS's 0.0190, so that
        true and inferred metallicities are quoted alike.
    n_sub
        Equal time slices into which every history bin is cut, each with the SSP of its centre. 1 is the published
        recipe; its youngest bin, 0-20 Myr, is then one 10-Myr-old population.
    """

    def __init__(
        self,
        library: SSPLibrary | None = None,
        solar_z: float = SOLAR_Z_PROVABGS,
        n_sub: int = 1,
    ) -> None:
        self.library = SSPLibrary.default() if library is None else library
        self.solar_z = solar_z
        self.n_sub = n_sub
        n_met, n_age, n_wave = self.library.spectrum.shape
        self._flat = self.library.spectrum.reshape(n_met * n_age, n_wave)

    def _slices(self, lookback: FloatArray, width: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Centres and widths of the time slices of one galaxy, each ``(nbin * n_sub,)``."""
        offset = (np.arange(self.n_sub) + 0.5) / self.n_sub - 0.5
        centre = lookback[:, None] + offset * width[:, None]
        return centre.ravel(), np.repeat(width / self.n_sub, self.n_sub)

    def population(self, mass: FloatArray, metallicity: FloatArray, age: FloatArray) -> FloatArray:
        """Dust-free spectrum ``(nwave,)`` Lsun/A of populations of `mass` (Msun formed), absolute Z and age in Gyr."""
        if not np.any(mass > 0):
            return np.zeros(self.library.wave.size)
        # all bins, empty ones too: one shape for every galaxy, so that JAX compiles once
        logz = np.log10(np.maximum(metallicity, 1e-10) / self.solar_z)
        log_age = np.log(np.maximum(age, 1e-6))
        w_met = np.asarray(hat_weights(logz, self.library.logzsol))
        w_age = np.asarray(hat_weights(log_age, np.log(self.library.age_gyr)))
        weights = np.einsum("i,ij,ik->jk", mass, w_met, w_age)
        return weights.ravel() @ self._flat

    def sed(self, galaxies: SimulatedGalaxies, i: int, dust_of: DustParameters) -> GalaxySED:
        """Rest-frame spectrum of galaxy number `i`; `dust_of` from `draw_dust`."""
        wave = self.library.wave
        age, width = self._slices(galaxies.lookback[i], galaxies.width[i])
        share = np.clip((T_BIRTH_CLOUD_GYR - (age - 0.5 * width)) / np.where(width > 0, width, 1.0), 0.0, 1.0)
        disk_mass = np.repeat(galaxies.disk.mass_formed[i] / self.n_sub, self.n_sub)
        disk_z = np.repeat(galaxies.disk.metallicity[i], self.n_sub)
        young = self.population(disk_mass * share, disk_z, age)
        old = self.population(disk_mass * (1.0 - share), disk_z, age)
        bulge_mass = np.repeat(galaxies.bulge.mass_formed[i] / self.n_sub, self.n_sub)
        bulge = self.population(bulge_mass, np.repeat(galaxies.bulge.metallicity[i], self.n_sub), age)

        tau = dust.ism_optical_depth(wave, dust_of.column, dust_of.z_gas)
        slab = dust.slab_transmission(tau, dust_of.cos_inclination)
        clouds = dust.birth_cloud_transmission(wave, dust_of.tau_v, dust_of.mu)
        disk = slab * (old + clouds * young)
        sigma = bulge_dispersion(float(bulge_mass.sum()))
        dust_free = young + old + bulge
        return GalaxySED(wave, disk, bulge, dust_free, sigma)

    def observed(self, luminosity: FloatArray, redshift: float, cosmology: Cosmology) -> tuple[FloatArray, FloatArray]:
        """Observed wavelength (Angstrom) and flux (1e-17 erg/s/cm2/A): ``L / (4 pi d_L^2 (1 + z))``."""
        d_l = cosmology.luminosity_distance_cm(redshift)
        flux = luminosity * (self.library.lsun_cgs / (4 * np.pi * (1.0 + redshift) * SPECTRUM_UNIT)) / d_l / d_l
        return self.library.wave * (1.0 + redshift), flux


def draw_dust(galaxies: SimulatedGalaxies, i: int, rng: np.random.Generator) -> DustParameters:
    """Dust of galaxy number `i`: its own gas and inclination, the birth clouds' mu drawn from `rng`.

    An inclination that the simulation does not give is drawn uniformly in cos i.
    """
    mu = dust.draw_mu(rng)
    drawn = float(rng.uniform())
    cos_i = float(galaxies.cos_inclination[i])
    gas = float(galaxies.cold_gas[i])
    column = dust.column_density(gas, float(galaxies.gas_radius[i]), float(galaxies.redshift[i]), galaxies.hubble)
    z_gas = float(galaxies.metals_cold_gas[i]) / gas if gas > 0 else 0.0
    return DustParameters(column, z_gas, cos_i if np.isfinite(cos_i) else drawn, mu)


def kpc_per_arcsec(redshift: float, cosmology: Cosmology) -> float:
    """Proper kpc per arcsecond at `redshift`."""
    d_a = cosmology.luminosity_distance_cm(redshift) / (1.0 + redshift) ** 2 / MPC_CM * 1e3
    return float(d_a * np.pi / 180.0 / 3600.0)
