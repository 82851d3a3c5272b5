"""One simulated galaxy made into one mock observation, and many of them, reproducibly.

Each galaxy has its own random streams, derived from (seed, galaxy_id) and separate for dust, photometry and spectrum:
the same galaxy comes out the same in any subset, in any order, on any number of workers, and a deeper exposure changes
neither its dust nor its photometry.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from provabgs.core.config import BESIDE_FILE
from provabgs.core.constants import SOLAR_Z_PROVABGS
from provabgs.core.errors import InputError
from provabgs.desi import encode_targetid
from provabgs.mocks.histories import RowFlag, SimulatedGalaxies
from provabgs.mocks.noise import Noise, NoiseModel
from provabgs.mocks.photometry import BANDS, LEGACY, MockPhotometry, bgs_selected, simulate_photometry
from provabgs.mocks.sample import load_galaxies
from provabgs.mocks.sed import DustParameters, GalaxySED, SEDModel, draw_dust
from provabgs.mocks.spectra import Conditions, MockCamera, simulate_spectrum
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.observation import Observation, Spectrum
from provabgs.sps.library import SSPLibrary

MOCK_BIT = 1 << 58
"""MOCK bit of a DESI TARGETID."""


class MockConfig(BaseModel):
    """All that decides what mock data come out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    galaxies: Annotated[Path | None, BESIDE_FILE] = Field(
        None, description="file of simulated galaxies; the shipped L-GALAXIES sample if null"
    )
    n: int | None = Field(None, ge=1, description="random subset of this many galaxies that pass the cut; all if null")
    seed: int = Field(20220203, ge=0, description="seed of everything random")
    r_max: float = Field(20.0, description="measured r-band magnitude limit")
    conditions: Conditions = Field(default_factory=Conditions, description="exposure")
    noise: Literal["shipped", "specsim"] = Field(
        "shipped", description="noise model: the one that ships, or specsim's (needs the extra specsim, DESIMODEL data)"
    )
    n_sub: int = Field(1, ge=1, le=64, description="time slices per history bin; 1 as published")
    solar_z: float = Field(SOLAR_Z_PROVABGS, gt=0, description="solar metallicity that turns Z into the SSPs' logzsol")
    library: Annotated[Path | None, BESIDE_FILE] = Field(None, description="SSP library; the shipped one if null")
    cosmology: str = Field("Planck13", description="name of an astropy cosmology")


class MockGalaxy(NamedTuple):
    """One mock observation and what went into it."""

    row: int
    """Row among the simulated galaxies."""
    targetid: int
    redshift: float
    ra: float
    dec: float
    dust: DustParameters
    sed: GalaxySED
    photometry: MockPhotometry
    spectrum: tuple[MockCamera, ...]
    conditions: Conditions

    def observation(self, floor: float = 0.1) -> Observation:
        """The mock as an `Observation`, without a detour over files; equal to what the DESI reader makes of them.

        `floor` is the fractional width of the fiber-fraction prior added to the photometric error.
        """
        scale, light = self.conditions.psf_to_fiber, self.photometry
        spectra = tuple(
            Spectrum(c.camera, c.wave, c.flux * scale, c.ivar / scale**2, c.resolution) for c in self.spectrum
        )
        mean = min(light.fiber_flux_r / light.flux[1], 1.0)
        sigma = mean * float(np.hypot(1.0 / (light.flux[1] * np.sqrt(light.ivar[1])), floor))
        return Observation(
            redshift=self.redshift,
            spectra=spectra,
            photometry=LEGACY.photometry(BANDS, light.flux, light.ivar),
            fiber_fraction=(mean, sigma),
            targetid=self.targetid,
            ra=self.ra,
            dec=self.dec,
            zerr=1e-5,
        )


def mock_targetid(galaxy_id: int) -> int:
    """TARGETID of a simulated galaxy, with DESI's MOCK bit set; its id in BRICKID and OBJID."""
    if not 0 <= galaxy_id < 1 << 42:
        raise InputError(f"galaxy_id {galaxy_id} does not fit into a TARGETID (0 to 2^42 - 1)")
    return int(encode_targetid(9010, galaxy_id >> 22, galaxy_id & ((1 << 22) - 1))) | MOCK_BIT


class MockMaker:
    """Makes mock observations of simulated galaxies.

    Parameters
    ----------
    config
        See `MockConfig`.
    galaxies
        In place of those that `config` names.
    """

    def __init__(self, config: MockConfig | None = None, galaxies: SimulatedGalaxies | None = None) -> None:
        self.config = config or MockConfig()
        self.galaxies = load_galaxies(self.config.galaxies) if galaxies is None else galaxies
        library = SSPLibrary.default() if self.config.library is None else SSPLibrary.load(self.config.library)
        self.model = SEDModel(library, self.config.solar_z, self.config.n_sub)
        self.noise = self._noise()
        self.cosmology = Cosmology(self.config.cosmology)

    def _noise(self) -> Noise:
        """The noise model that the configuration names."""
        if self.config.noise == "shipped":
            return NoiseModel.load()
        from provabgs.mocks.specsim_noise import load_specsim  # most installations lack what it needs

        return load_specsim(self.config.conditions.airmass)

    def _streams(self, i: int) -> list[np.random.Generator]:
        """Generators for sky position, dust, photometry and spectrum of galaxy number `i`."""
        root = np.random.SeedSequence([self.config.seed, int(self.galaxies.galaxy_id[i])])
        return [np.random.default_rng(child) for child in root.spawn(4)]

    def check(self, i: int) -> None:
        """Raise `InputError` when galaxy number `i` cannot be made into a mock, with the reason."""
        flag = RowFlag(int(self.galaxies.flags[i]))
        if not flag.usable:
            raise InputError(f"galaxy {self.galaxies.galaxy_id[i]} (row {i}) cannot be used: {flag.name}")
        if not self.galaxies.redshift[i] > 0:
            raise InputError(
                f"galaxy {self.galaxies.galaxy_id[i]} (row {i}) is at redshift {self.galaxies.redshift[i]:g}; "
                "observe it at a redshift > 0"
            )

    def light(self, i: int) -> tuple[DustParameters, GalaxySED, MockPhotometry]:
        """Dust, spectrum and photometry of galaxy number `i`: all that selection needs."""
        self.check(i)
        _, rng_dust, rng_photometry, _ = self._streams(i)
        dust_of = draw_dust(self.galaxies, i, rng_dust)
        sed = self.model.sed(self.galaxies, i, dust_of)
        observed = self.model.observed(sed.total, float(self.galaxies.redshift[i]), self.cosmology)
        photometry = simulate_photometry(
            self.galaxies, i, sed, observed, self.cosmology, dust_of.cos_inclination, rng_photometry
        )
        return dust_of, sed, photometry

    def make(self, i: int) -> MockGalaxy:
        """The mock observation of galaxy number `i`, selected or not.

        Raises
        ------
        InputError
            When its histories cannot be used (flags) or its redshift is not positive.
        """
        rng_sky, _, _, rng_spectrum = self._streams(i)
        dust_of, sed, photometry = self.light(i)
        z = float(self.galaxies.redshift[i])
        spectrum = simulate_spectrum(
            sed,
            self.model,
            z,
            photometry.fiber_fraction,
            self.noise,
            self.config.conditions,
            self.cosmology,
            rng_spectrum,
        )
        ra = float(rng_sky.uniform(0.0, 360.0))
        dec = float(np.degrees(np.arcsin(rng_sky.uniform(-0.3, 0.5))))
        targetid = mock_targetid(int(self.galaxies.galaxy_id[i]))
        return MockGalaxy(i, targetid, z, ra, dec, dust_of, sed, photometry, spectrum, self.config.conditions)

    def passes(self, i: int) -> bool:
        """Whether galaxy number `i` is within the magnitude limit."""
        return bool(bgs_selected(self.light(i)[2].flux, self.config.r_max))

    def order(self) -> np.ndarray:
        """Usable galaxies in the order in which they are tried: a fixed random permutation of the sample."""
        usable = np.flatnonzero(self.galaxies.usable & (self.galaxies.redshift > 0))
        return np.random.default_rng(np.random.SeedSequence([self.config.seed, 1 << 43])).permutation(usable)

    def selected(self) -> Iterator[int]:
        """Rows that pass the magnitude limit, in random order, ``config.n`` of them at most."""
        found = 0
        for i in self.order():
            if self.config.n is not None and found >= self.config.n:
                return
            if self.passes(int(i)):
                found += 1
                yield int(i)
