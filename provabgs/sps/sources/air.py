"""Wavelengths in air, in which older libraries are published, to vacuum, in which everything here is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

VACUUM_BELOW = 2000.0
"""Below this wavelength, Angstrom, catalogs are in vacuum by convention."""


def air_to_vacuum(wave_air: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vacuum wavelength of an air wavelength, both Angstrom, for 2000 A and above; below, unchanged.

    Inverts the refractive index of Ciddor (1996, Applied Optics 35, 1566, equation 1: dry standard air at 15 C with
    450 ppm CO2), which is a function of the vacuum wavelength, by fixed-point iteration (to 1e-9 A).
    """
    wave_air = np.asarray(wave_air, dtype=np.float64)
    vacuum = wave_air.copy()
    for _ in range(5):
        sigma2 = (1e4 / np.maximum(vacuum, VACUUM_BELOW)) ** 2
        vacuum = wave_air * (1 + 0.05792105 / (238.0185 - sigma2) + 0.00167917 / (57.362 - sigma2))
    return np.where(wave_air < VACUUM_BELOW, wave_air, vacuum)
