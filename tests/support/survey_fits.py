"""A stand-in for the fit that needs the filters of its bands, as a fit does."""

from __future__ import annotations

from dataclasses import replace

from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.observe.filters import effective_wavelength
from provabgs.observe.observation import Observation
from provabgs.pipelines import dry_run


def fit_observation(observation: Observation, config: FitConfig, seed: int) -> Posterior:
    """The dry run's posterior, with the effective wavelengths of the bands in MESSAGE."""
    assert observation.photometry is not None
    waves = [f"{band} {effective_wavelength(band):.0f}" for band in observation.photometry.bands]
    return replace(dry_run.fit_observation(observation, config, seed), message=", ".join(waves))
