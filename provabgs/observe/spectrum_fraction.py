"""How much of a galaxy's light its spectrum holds, where nobody says: a broad prior about what the data themselves say.

Without a fiber fraction a spectrum and bands used to be taken to hold the same light. For a fiber or a slit that is
wrong by factors, and the fit then bends age and dust to make up for it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.observe.filters import band_weights, missing_fraction
from provabgs.observe.observation import Observation

RELATIVE_SIGMA = 0.3
"""Width of the prior over its mean: the ratio is known far better, and the prior must not decide."""
UNKNOWN = (0.5, 0.25)
"""Mean and sigma where no band lies within the spectrum."""
COVERED = 0.95
"""Fraction of a band's response that the spectrum must cover; beyond its ends it is taken to go on as it is there."""
END_PIXELS = 50
FAR_AA = (500.0, 1e6)
LEAST_SN = 3.0
"""Of a band that counts."""


def with_spectrum_fraction(observation: Observation) -> tuple[Observation, str]:
    """The observation with a prior on its fiber fraction, and what was assumed.

    Parameters
    ----------
    observation
        Returned as it is where it has a fiber fraction, or lacks a spectrum or bands.

    Returns
    -------
    observation
        With a fiber fraction where it needs one.
    note
        For MESSAGE; empty where nothing was assumed.
    """
    fitted = observation.photometry is not None and observation.photometry.n_valid > 0
    if observation.fiber_fraction is not None or not fitted or not any(s.n_valid for s in observation.spectra):
        return observation, ""
    found = ratios(observation)
    if found.size:
        mean = float(np.median(found))
        prior, source = (mean, RELATIVE_SIGMA * mean), f"the ratio of spectrum and bands ({found.size} of them)"
    else:
        prior, source = UNKNOWN, "no band lies within the spectrum"
    note = f"no fiber fraction given: its prior is {prior[0]:.2g} +- {prior[1]:.1g}, {source}"
    return replace(observation, fiber_fraction=prior), note


def ratios(observation: Observation) -> FloatArray:
    """Flux of the spectrum over total flux in each band that the spectrum covers and that was measured, ``(n,)``."""
    good = [s.ivar > 0 for s in observation.spectra]
    wave = np.concatenate([s.wave[g] for s, g in zip(observation.spectra, good, strict=True)])
    flux = np.concatenate([s.flux[g] for s, g in zip(observation.spectra, good, strict=True)])
    wave, first = np.unique(wave, return_index=True)
    flux = flux[first]
    photometry, out = observation.photometry, []
    if photometry is None or wave.size < 2:
        return np.zeros(0)
    ends = np.median(flux[:END_PIXELS]), np.median(flux[-END_PIXELS:])
    far, level = np.concatenate([FAR_AA[:1], wave, FAR_AA[1:]]), np.concatenate([ends[:1], flux, ends[1:]])
    for band, total, ivar in zip(photometry.bands, photometry.flux, photometry.ivar, strict=True):
        if total * np.sqrt(ivar) < LEAST_SN or missing_fraction(band, wave[0], wave[-1]) > 1 - COVERED:
            continue
        within = float(band_weights(band, far) @ level) / float(total)
        if within > 0:
            out.append(within)
    return np.array(out)
