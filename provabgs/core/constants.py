"""Physical constants in the units that the package computes in, from `astropy.constants` (CODATA 2018, IAU 2015)."""

from __future__ import annotations

from astropy import constants as const
from astropy import units as u

C_KMS: float = const.c.to_value(u.km / u.s)
"""Speed of light, km/s."""
C_AA: float = const.c.to_value(u.AA / u.s)
"""Speed of light, Angstrom/s."""
LSUN_CGS: float = const.L_sun.to_value(u.erg / u.s)
"""IAU 2015 nominal solar luminosity, erg/s (FSPS uses 3.839e33, 0.3 % more; see `FSPS_LSUN_CGS`)."""
FSPS_LSUN_CGS: float = 3.839e33
"""Solar luminosity by which FSPS converts, erg/s. SSP libraries made by FSPS carry it in their attributes."""
MPC_CM: float = (1 * u.Mpc).to_value(u.cm)
"""One megaparsec, cm."""
SPECTRUM_UNIT: float = 1e-17
"""DESI's spectrum unit, erg/s/cm2/Angstrom."""
NANOMAGGY_CGS: float = (3631e-9 * u.Jy).to_value(u.erg / u.s / u.cm**2 / u.Hz)
"""One nanomaggy, erg/s/cm2/Hz (AB zero point 3631 Jy)."""
SOLAR_Z_PROVABGS: float = 0.0190
"""Solar metallicity by which PROVABGS turns its quoted Z into FSPS's logzsol (docs/guide/model.md, section 1)."""
Z_RANGE_PROVABGS: tuple[float, float] = (4.49e-5, 4.49e-2)
"""Range to which the published model clips Z(t), absolute, in PROVABGS's convention (Hahn et al. 2023)."""
