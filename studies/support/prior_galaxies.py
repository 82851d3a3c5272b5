"""Galaxies of the prior with data from the exact model: DESI-like cameras with white noise, and five bands.

The noise is all that there is: fits of them use no noise floors, so that their likelihood is the one that the noise was
drawn from. With the preset "honest" what is wrong with stars, calibration and fiber is drawn from its noise model too,
and the velocity dispersion from its prior where a fit would fit it.
`tests/support/engine_mocks.py` has galaxies with DESI's resolution matrices in place of a Gaussian width.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, ModelOptions
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.prior_draws import draw_prior
from provabgs.inference.priors import Prior
from provabgs.observe.as_configured import fits_dispersion
from provabgs.observe.nuisance import DISPERSION, FIBER_FRACTION
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ASSUMED_VDISP_KMS, ObservingOptions
from provabgs.observe.projection import project
from provabgs.sps.model import SPSModel
from provabgs.sps.parameters import ParameterSet

CAMERAS = {"b": (3600.0, 2751), "r": (5760.0, 2326), "z": (7520.0, 2881)}
"""First wavelength, Angstrom, and number of pixels of 0.8 Angstrom."""
LSF_SIGMA_AA = {"b": 0.67, "r": 0.64, "z": 0.74}
BANDS = ("decam2014-g", "decam2014-r", "decam2014-z", "wise2010-W1", "wise2010-W2")
BAND_SIGMA = np.array([0.03, 0.04, 0.08, 0.7, 1.6])
"""nanomaggies; what the Legacy Surveys reach on compact galaxies (docs/guide/mocks.md)."""
BAND_FLOOR = np.array([0.02, 0.02, 0.02, 0.05, 0.05])
"""Of the flux: what a fit's default floors stand for, here as noise that is really there."""
NO_FLOOR = ObservingOptions(line_mask="none", floor_spectrum=0, floor_optical=0, floor_infrared=0)


def default_model() -> SPSModel:
    """The model of the default configuration."""
    return load_model(FitConfig().model)


def parameters_of(model: SPSModel) -> ParameterSet:
    """Parameters of fits of these galaxies: the model's, and the fiber's fraction."""
    return ParameterSet((*model.parameters, FIBER_FRACTION))


def draw_theta(model: SPSModel, fraction: float, rng: np.random.Generator) -> FloatArray:
    """One draw of the prior of a model, ``(1, n)``; `fraction` is the mean of f_fiber, its sigma a tenth of that."""
    prior = Prior.of(parameters_of(model), normal={"f_fiber": (fraction, 0.1 * fraction)})
    return draw_prior(prior, 1, rng)


def options_of(preset: str) -> ObservingOptions:
    """Options of fits whose likelihood the data of `simulate` are drawn from."""
    return NO_FLOOR if preset == "published" else FitConfig.model_validate({"preset": preset}).observing


def simulate(
    seed: int, preset: str = "published", options: ModelOptions | None = None
) -> tuple[Observation, FloatArray]:
    """A galaxy of the prior at redshift 0.02-0.55 and S/N 1-32 per pixel, and its theta ``(1, n)``.

    Parameters
    ----------
    seed
        Of the galaxy.
    preset
        What is wrong with its data: nothing with "published", a draw of the noise model with "honest".
    options
        Model of the galaxy, whose prior it is drawn from; the default one if left out.
    """
    model = load_model(options or FitConfig().model)
    rng = np.random.default_rng([seed, 77])
    z, snr = rng.uniform(0.02, 0.55), 10 ** rng.uniform(0, 1.5)
    fraction = rng.uniform(0.2, 0.8)
    theta = draw_theta(model, fraction, rng)
    if preset == "published":
        return observe(theta, z, snr, fraction, rng, seed, model), theta
    noise, observing = copy.deepcopy(rng), options_of(preset)
    made = _with_errors(perfect(theta, z, snr, fraction, seed, model), observing, rng)
    if fits_dispersion(made, observing):  # the S/N decides, which the dispersion does not change
        low, high = np.log(DISPERSION.bounds)
        vdisp = float(np.exp(np.random.default_rng([seed, 79]).uniform(low, high)))
        made = _with_errors(perfect(theta, z, snr, fraction, seed, model, vdisp), observing, noise)
    return made, theta


def perfect(
    theta: FloatArray,
    z: float,
    snr: float,
    fraction: float,
    targetid: int,
    model: SPSModel | None = None,
    vdisp: float = ASSUMED_VDISP_KMS,
) -> Observation:
    """Data of one galaxy without noise, and the errors that photon noise would have; see `observe`."""
    pixels, bands = _predicted(theta, z, model or default_model(), vdisp)
    sigma = np.median(pixels) / snr
    photometry = Photometry(BANDS, bands, BAND_SIGMA**-2.0)
    fiber, meta = (fraction, 0.1 * fraction), {"SNR": float(snr), "VDISP": vdisp}
    return Observation(z, _cameras(pixels, sigma), photometry, fiber, targetid=targetid, meta=meta)


def _with_errors(clean: Observation, options: ObservingOptions, rng: np.random.Generator) -> Observation:
    """Noise, templates and the common factor of light, drawn from the noise model of the options, added to the data.

    The factor comes first: errors are fractions of the light that is seen.
    """
    everything = options.model_copy(update={"line_mask": "none", "clip_sigma": None, "relative_to": "stars"})
    library = default_model().library
    clean = _brighter(clean, np.exp(project(clean, library, everything).light_error * rng.standard_normal()))
    noise = project(clean, library, everything)
    assert noise.spectrum is not None
    assert noise.photometry is not None
    coefficients = rng.standard_normal(noise.spectrum.templates.shape[1])
    drawn = []
    for part in (noise.spectrum, noise.photometry):
        wrong = part.templates @ coefficients + rng.standard_normal(part.flux.size) / np.sqrt(part.ivar)
        drawn.append(part.flux + wrong)
    pixels, bands = drawn
    ends = np.cumsum([s.wave.size for s in clean.spectra])
    spectra = [replace(s, flux=flux) for s, flux in zip(clean.spectra, np.split(pixels, ends[:-1]), strict=True)]
    assert clean.photometry is not None
    return replace(clean, spectra=tuple(spectra), photometry=replace(clean.photometry, flux=bands))


def _brighter(observation: Observation, factor: float) -> Observation:
    assert observation.photometry is not None
    spectra = tuple(replace(s, flux=factor * s.flux) for s in observation.spectra)
    return replace(
        observation,
        spectra=spectra,
        photometry=replace(observation.photometry, flux=factor * observation.photometry.flux),
    )


def observe(
    theta: FloatArray,
    z: float,
    snr: float,
    fraction: float,
    rng: np.random.Generator,
    targetid: int,
    model: SPSModel | None = None,
) -> Observation:
    """Noisy data of one galaxy.

    Parameters
    ----------
    theta
        ``(1, n)`` parameters.
    z
        Redshift.
    snr
        Median S/N of a pixel.
    fraction
        Mean of the prior of f_fiber; its width is a tenth of that.
    rng
        Source of the noise.
    targetid
        Identifier; ``meta["SNR"]`` keeps `snr`.
    model
        That `theta` is of; the default one if left out.
    """
    pixels, bands = _predicted(theta, z, model or default_model())
    sigma = np.median(pixels) / snr
    spectra = _cameras(pixels + sigma * rng.standard_normal(pixels.size), sigma)
    band_sigma = np.hypot(BAND_SIGMA, BAND_FLOOR * bands)
    photometry = Photometry(BANDS, bands + band_sigma * rng.standard_normal(5), band_sigma**-2.0)
    meta = {"SNR": float(snr)}
    return Observation(z, spectra, photometry, (fraction, 0.1 * fraction), targetid=targetid, meta=meta)


def _predicted(
    theta: FloatArray, z: float, model: SPSModel, vdisp: float = ASSUMED_VDISP_KMS
) -> tuple[FloatArray, FloatArray]:
    """Pixels of all cameras and bands without noise."""
    blank = np.ones(sum(n for _, n in CAMERAS.values()))
    empty = Observation(z, _cameras(blank, 1.0), Photometry(BANDS, np.ones(5), np.ones(5)))
    options = NO_FLOOR
    if vdisp != ASSUMED_VDISP_KMS:  # as the likelihood has it that fits the dispersion
        options, theta = options.model_copy(update={"vdisp_kms": "fit"}), np.append(theta, [[vdisp]], axis=1)
    predicted = ExactLikelihood(project(empty, model.library, options), model).predict(theta)
    pixels, bands = (np.asarray(p, np.float64)[0] for p in predicted)
    return pixels, bands


def _cameras(pixels: FloatArray, sigma: float) -> tuple[Spectrum, ...]:
    """Spectra of all cameras from their pixels, one after another, with white noise of one sigma."""
    ends = np.cumsum([n for _, n in CAMERAS.values()])
    out = []
    for (name, (first, n)), flux in zip(CAMERAS.items(), np.split(pixels, ends[:-1]), strict=True):
        wave: FloatArray = first + 0.8 * np.arange(n, dtype=np.float64)
        out.append(Spectrum(name, wave, flux, np.full(n, sigma**-2), sigma_aa=LSF_SIGMA_AA[name]))
    return tuple(out)
