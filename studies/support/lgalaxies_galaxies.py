"""Galaxies of L-GALAXIES as DESI observes them: the mocks of `provabgs mock`, with the truth that a study needs.

Histories, metallicities and dust are those of the simulation; magnitudes, redshifts and exposures are those of the
Bright Galaxy Survey, so that S/N per pixel is what the survey has.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.mocks.histories import true_properties
from provabgs.mocks.make import MockConfig, MockMaker
from provabgs.mocks.sed import SEDModel
from provabgs.sps.interpolation import hat_weights
from provabgs.sps.library import SSPLibrary
from studies.support.honest_galaxies import NONE, Galaxy, HonestGalaxies, Imperfections, to_six_micron

LGALAXIES = "lgalaxies"
"""The one kind of history."""


@lru_cache(maxsize=4)
def _rows(seed: int, number: int) -> tuple[int, ...]:
    """The first `number` galaxies of a seed that pass the survey's magnitude limit."""
    return tuple(int(i) for i in MockMaker(MockConfig(seed=seed, n=number)).selected())


class LGalaxies(HonestGalaxies):
    """Mocks of the L-GALAXIES sample that ships, with the stars of one library; see `HonestGalaxies`.

    The simulation's own exposures have no imperfections of calibration: `imperfections` must be left out.
    """

    kinds: tuple[str, ...] = (LGALAXIES,)

    def __init__(self, library: SSPLibrary, imperfections: Imperfections = NONE, cosmology: str = "Planck13") -> None:
        if imperfections != NONE:
            raise InputError("mocks of L-GALAXIES have the exposures of `provabgs mock`: leave imperfections out")
        super().__init__(to_six_micron(library), imperfections, cosmology)

    def make(self, index: int, seed: int = 0, history: str | None = None) -> Galaxy:
        """See `HonestGalaxies.make`; `history` can only be `LGALAXIES`."""
        if history not in (None, LGALAXIES):
            raise InputError(f"histories of these galaxies are the simulation's: {LGALAXIES!r}, not {history!r}")
        maker = MockMaker(MockConfig(seed=seed))
        maker.model = SEDModel(self.library, maker.config.solar_z, maker.config.n_sub)
        row = _rows(seed, max(256, index + 1))[index]
        mock = maker.make(row)
        observation = mock.observation()
        shift = np.log10(self.mass_ratio)
        truth = {name: float(value[row]) for name, value in true_properties(maker.galaxies).items()}
        for name in ("logmstar", "log_sfr_100myr", "log_sfr_1gyr"):
            truth[name] += shift
        truth["logmstar_surviving"] = truth["logmstar"] + float(np.log10(self._surviving(maker, row)))
        r = next(s for s in observation.spectra if s.camera == "r")
        truth |= {"redshift": mock.redshift, "sn": float(np.median(r.flux * np.sqrt(r.ivar)))}
        return Galaxy(observation, truth, LGALAXIES)

    def _surviving(self, maker: MockMaker, row: int) -> float:
        """Fraction of the mass formed that survives by the library that ships."""
        galaxies, library = maker.galaxies, self.survivors
        age = np.log(np.maximum(galaxies.lookback[row], 1e-6))
        w_age = np.asarray(hat_weights(age, np.log(library.age_gyr)))
        total, left = 0.0, 0.0
        for part in (galaxies.disk, galaxies.bulge):
            mass: FloatArray = part.mass_formed[row]
            logz = np.log10(np.maximum(part.metallicity[row], 1e-10) / maker.config.solar_z)
            w_met = np.asarray(hat_weights(logz, library.logzsol))
            total += float(mass.sum())
            left += float(np.einsum("i,ij,ik,jk->", mass, w_met, w_age, library.surviving_mass))
        return left / total
