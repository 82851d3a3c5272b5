"""The continuum that a posterior puts under the emission lines: model pixels of draws, in the windows of lines."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray, IntArray, thin
from provabgs.core.identity import stream_of
from provabgs.inference.likelihood.exact import fit_parameters, has_dispersion
from provabgs.inference.likelihood.marginal import template_coefficients
from provabgs.inference.measured.spectra import Spectra
from provabgs.inference.posterior import Posterior
from provabgs.inference.predictive import clipped_pixels
from provabgs.observe.line_profiles import Window, window
from provabgs.observe.masks import masked_pixels
from provabgs.observe.observation import Observation
from provabgs.observe.projection import Projection, SpectrumProjection, project

N_DRAWS = 32
"""Draws of the continuum."""
LINE_TERM = "emission-lines"
"""Noise term whose templates are lines, not continuum."""


class Continuum(NamedTuple):
    """Continuum under one window of lines."""

    window: Window
    """Its ivar is 0 where there is no continuum."""
    draws: FloatArray
    """``(ndraw, npix)`` 1e-17 erg/s/cm2/A."""


def continua(
    posterior: Posterior, observation: Observation, spectra: Spectra, ranges: list[tuple[float, float]]
) -> tuple[list[Continuum | None], FloatArray]:
    """Continuum of draws in windows of the spectrum: starlight without lines, and the noise model's smooth templates.

    Parameters
    ----------
    posterior
        Knows the pixels that its fit left out as outliers.
    observation
        The galaxy.
    spectra
        Draws of one fit, with `fitted` parameters.
    ranges
        Rest-frame wavelengths of the windows, vacuum, Angstrom.

    Returns
    -------
    continua, f_fiber
        One per range, None where no pixel lies in it; and the fraction of the light in the fiber, ``(ndraw,)``.
    """
    everything = {"line_mask": "none", "clip_sigma": None}
    projection = project(observation, spectra.model.library, spectra.config.observing.model_copy(update=everything))
    spectrum = projection.spectrum
    assert spectrum is not None
    pick = thin(len(spectra.rows), N_DRAWS)
    names = fit_parameters(spectra.model, has_dispersion(projection))
    f_fiber = np.asarray(names.get(spectra.fitted[pick], "f_fiber"))
    flux = without_lines(spectra)[pick] * spectra.flux_factor * f_fiber[:, None]
    if spectrum.dispersion is not None:
        flux = spectrum.dispersion.table.broaden(flux, np.asarray(names.get(spectra.fitted[pick], "vdisp")))
    pixels = (spectrum.operator @ flux.T).T
    pixels += _smooth(posterior, observation, spectra, projection, pick, pixels)
    place = _places(observation, spectrum)
    out: list[Continuum | None] = []
    for low, high in ranges:
        found = window(observation, low, high)
        out.append(None if found is None else _in_window(found, place, pixels))
    return out, f_fiber


def without_lines(spectra: Spectra) -> FloatArray:
    """Luminosities with lines of the gas, where the model has any, replaced by the mean of what is beside them."""
    nodes = spectra.model.library.line_nodes
    if not nodes.size:
        return spectra.luminosity
    out = np.array(spectra.luminosity)
    out[:, nodes] = 0.5 * (out[:, nodes - 1] + out[:, nodes + 1])
    return out


def _smooth(
    posterior: Posterior,
    observation: Observation,
    spectra: Spectra,
    projection: Projection,
    pick: IntArray,
    pixels: FloatArray,
) -> FloatArray:
    """Errors of template and calibration ``(ndraw, npix)``: a draw of their posterior for each draw of the galaxy's.

    Their coefficients are those that the fitted pixels and bands say, given the draw; lines are not among those, so
    that the continuum under a line is as uncertain as the coefficients leave it.
    """
    spectrum, photometry, config = projection.spectrum, projection.photometry, spectra.config
    assert spectrum is not None
    use = np.array([term != LINE_TERM for term in projection.template_terms], dtype=bool)
    if not use.any():
        return np.zeros_like(pixels)
    bands = None
    if photometry is not None and config.use == "both":
        bands = photometry.flux - spectra.luminosity[pick] * spectra.flux_factor @ photometry.operator.T
    left_out = masked_pixels(observation, spectrum.wave, config.observing) | clipped_pixels(posterior, spectrum.wave)
    mean, covariance = template_coefficients(projection, spectrum.flux - pixels, bands, ~left_out)
    rng = np.random.default_rng([posterior.seed, stream_of(posterior.targetid, posterior.data_hash) & (2**64 - 1), 3])
    drawn = mean + rng.multivariate_normal(np.zeros(len(covariance)), covariance, len(mean), method="eigh")
    return np.asarray(drawn[:, use] @ spectrum.templates[:, use].T)


def _places(observation: Observation, spectrum: SpectrumProjection) -> FloatArray:
    """For each pixel of the observation its place among the projected ones, -1 for those that are not."""
    camera, out = np.array(spectrum.camera), []
    for s in observation.spectra:
        own = np.flatnonzero(camera == s.camera)
        place = np.full(s.wave.size, -1)
        place[np.searchsorted(s.wave, spectrum.wave[own])] = own
        out.append(place)
    return np.concatenate(out)


def _in_window(found: Window, place: FloatArray, pixels: FloatArray) -> Continuum:
    own = place[found.places]
    known = own >= 0
    draws = np.zeros((len(pixels), own.size))
    draws[:, known] = pixels[:, own[known]]
    ivar = np.where(known, found.ivar, 0.0)
    return Continuum(Window(found.stretches, found.wave, found.flux, ivar, found.places, found.redshift), draws)
