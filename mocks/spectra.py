"""DESI spectra of simulated galaxies: the whole spectrum times the fiber fraction, resolved, binned and noisy.

Velocity dispersion, pixel averaging and resolution are the operators by which data are fitted
(`provabgs.observe.projection`): what the mock tests is the stellar and dust model, not two resampling codes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from provabgs.core.arrays import FloatArray
from provabgs.mocks.noise import READ_NOISE_E, Camera, Noise
from provabgs.mocks.sed import DISK_DISPERSION_KMS, GalaxySED, SEDModel
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.observation import Spectrum
from provabgs.observe.projection import camera_operator


class Conditions(BaseModel):
    """How a mock spectrum is exposed.

    DESI counts in *effective* time: that which would do as well under a dark sky at zenith. BGS is observed while the
    sky is bright, so that an effective 180 s take about 450 s under a sky 2.5 times as bright; read noise then matters
    less than in a literal exposure of 180 s under a dark sky (``sky_factor = 1``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    effective_s: float = Field(180.0, gt=0, description="effective exposure time, s: nominal dark sky, zenith")
    n_exposure: int = Field(1, ge=1, description="exposures into which it is split")
    sky_factor: float = Field(2.5, gt=0, description="sky brightness over dark sky; the exposure is longer by as much")
    airmass: float = Field(1.0, ge=1, le=3, description="airmass")
    read_noise: float = Field(
        READ_NOISE_E, ge=0, description="read noise, electrons per CCD pixel (specsim has its own)"
    )
    psf_to_fiber: float = Field(
        0.789, gt=0, le=1, description="PSF_TO_FIBER_SPECFLUX: point-source share of light in the fiber (real: 0.79)"
    )

    @property
    def exposure_s(self) -> float:
        """Time on the sky, s."""
        return self.effective_s * self.sky_factor


class MockCamera(NamedTuple):
    """One camera of one mock spectrum, calibrated as DESI does: to the total flux of a point source."""

    camera: str
    wave: FloatArray
    """``(npix,)`` Angstrom."""
    true_flux: FloatArray
    """``(npix,)`` noiseless, 1e-17 erg/s/cm2/A."""
    flux: FloatArray
    ivar: FloatArray
    resolution: FloatArray
    """``(11, npix)`` DESI's band format."""


def noiseless(camera: Camera, sed: GalaxySED, model: SEDModel, redshift: float, cosmology: Cosmology) -> FloatArray:
    """Total flux of a galaxy on the pixels of one camera, ``(npix,)`` 1e-17 erg/s/cm2/A: no fiber loss, no noise."""
    frame = Spectrum(
        camera.name,
        camera.wave,
        np.zeros(camera.wave.size),
        np.ones(camera.wave.size),
        camera.resolution_matrix(),
    )
    out = np.zeros(camera.wave.size)
    for luminosity, dispersion in ((sed.disk, DISK_DISPERSION_KMS), (sed.bulge, sed.bulge_dispersion)):
        if luminosity.any():
            wave, flux = model.observed(luminosity, redshift, cosmology)
            out += camera_operator(frame, wave, dispersion) @ flux
    return out


def simulate_spectrum(
    sed: GalaxySED,
    model: SEDModel,
    redshift: float,
    fiber_fraction: float,
    noise: Noise,
    conditions: Conditions,
    cosmology: Cosmology,
    rng: np.random.Generator,
) -> tuple[MockCamera, ...]:
    """Spectrum of one galaxy in all cameras of `noise`.

    The light in the fiber is the whole galaxy's times `fiber_fraction`; divided by ``conditions.psf_to_fiber`` it is on
    the scale of DESI's coadds. `ivar` is that of the noiseless flux, so that errors do not correlate with noise.
    """
    cameras = []
    for camera in noise.cameras.values():
        true = noiseless(camera, sed, model, redshift, cosmology) * fiber_fraction / conditions.psf_to_fiber
        sigma = camera.sigma(
            true,
            conditions.exposure_s,
            conditions.sky_factor,
            conditions.airmass,
            conditions.read_noise,
            conditions.n_exposure,
        )
        flux = true + sigma * rng.standard_normal(true.size)
        cameras.append(MockCamera(camera.name, camera.wave, true, flux, 1.0 / sigma**2, camera.resolution_matrix()))
    return tuple(cameras)
