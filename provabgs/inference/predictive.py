"""What a posterior says about the data: model pixels, bands, whole spectrum and histories of some of its draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray, IntArray, thin
from provabgs.core.constants import C_AA, NANOMAGGY_CGS, SPECTRUM_UNIT
from provabgs.core.errors import InputError
from provabgs.core.jax import jnp
from provabgs.inference.averaged_posterior import parts_of
from provabgs.inference.backends import load_model, model_for
from provabgs.inference.config import FitConfig
from provabgs.inference.light_error import as_fitted
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.likelihood.marginal import template_coefficients
from provabgs.inference.posterior import Posterior
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.filters import effective_wavelength
from provabgs.observe.masks import masked_pixels
from provabgs.observe.observation import Observation
from provabgs.observe.projection import Projection, project
from provabgs.sps.derived import history_curves

CHUNK = 16
"""Draws whose spectra are in memory at a time."""
N_TIME = 400


class SpectrumPrediction(NamedTuple):
    """Pixels: data, and the model of each draw; flux in 1e-17 erg/s/cm2/A."""

    wave: FloatArray
    """``(npix,)`` observed vacuum Angstrom, cameras one after the other."""
    flux: FloatArray
    sigma: FloatArray
    """``(npix,)``, noise floor included."""
    camera: NDArray[np.str_]
    masked: NDArray[np.bool_]
    """``(npix,)`` pixels that the fit left out (emission lines)."""
    clipped: NDArray[np.bool_]
    """``(npix,)`` outliers that the fit left out besides."""
    model: FloatArray
    """``(ndraw, npix)``, expected errors of the noise model's templates (calibration, ...) included."""


class PhotometryPrediction(NamedTuple):
    """Bands: data, the model of each draw, and the spectrum behind them; nanomaggies."""

    bands: tuple[str, ...]
    wave: FloatArray
    """``(nband,)`` effective wavelength, Angstrom."""
    flux: FloatArray
    sigma: FloatArray
    """``(nband,)``, noise floor included."""
    model: FloatArray
    """``(ndraw, nband)``, expected errors of the noise model's templates included."""


class Predictive(NamedTuple):
    """Everything that figures of one galaxy show.

    `sed` is ``(ndraw, nsed)`` at observed wavelengths `sed_wave`, nanomaggies, NaN beyond a draw's own library; `sfr`
    ``(ndraw, ntime)`` in Msun/yr and `zh` ``(ndraw, ntime)`` absolute metallicity (PROVABGS convention) at lookback
    times `time`, Gyr.
    """

    spectrum: SpectrumPrediction | None
    photometry: PhotometryPrediction | None
    sed_wave: FloatArray
    sed: FloatArray
    time: FloatArray
    sfr: FloatArray
    zh: FloatArray


def predict(posterior: Posterior, observation: Observation, n_draws: int = 200) -> Predictive:
    """Model the data of a galaxy with evenly spaced draws of its posterior.

    Draws of a posterior that is averaged over several libraries, or amplitudes of their error, are each predicted under
    their own. Noise and the wavelengths of whole spectra are then those of the one with the most draws.

    Parameters
    ----------
    posterior
        With samples and the configuration of the fit.
    observation
        The data that were fitted.
    n_draws
        Number of draws.

    Returns
    -------
    Predictive
        Pixels, bands, spectrum and histories of the draws.

    Raises
    ------
    InputError
        For a posterior without samples.
    """
    keep = _kept(posterior, n_draws)
    config = FitConfig.model_validate_json(posterior.config)
    parts = [(a.config, rows[np.isin(rows, keep)]) for a, rows in parts_of(posterior, config)]
    parts = sorted((p for p in parts if p[1].size), key=lambda p: -p[1].size)
    made = [_predict(posterior, rows, observation, fitted) for fitted, rows in parts]
    return _in_order(made, np.argsort(np.concatenate([rows for _, rows in parts])))


def predict_histories(posterior: Posterior, n_draws: int = 200) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Star formation and metallicity histories of evenly spaced draws, for which no data are needed.

    Parameters
    ----------
    posterior
        With samples and the configuration of the fit.
    n_draws
        Number of draws.

    Returns
    -------
    time, sfr, zh
        ``(ntime,)`` Gyr of lookback, ``(ndraw, ntime)`` Msun/yr and absolute metallicity, as of `Predictive`.

    Raises
    ------
    InputError
        For a posterior without samples.
    """
    config = FitConfig.model_validate_json(posterior.config)
    keep = _kept(posterior, n_draws)
    t_age = Cosmology(config.observing.cosmology).age_gyr(posterior.redshift)
    time = np.linspace(0, t_age, N_TIME)
    sfr, zh = (np.empty((keep.size, N_TIME)) for _ in range(2))
    for a, rows in parts_of(posterior, config):
        mine = np.isin(keep, rows)
        if mine.any():
            model = load_model(a.config.model)
            draws, total = posterior.samples[keep[mine]], model.linear_block.total
            stars = as_fitted(draws, posterior.parameters, total, model.parameters)
            sfr[mine], zh[mine] = history_curves(model, stars, t_age, time)
    return time, sfr, zh


def _kept(posterior: Posterior, n_draws: int) -> IntArray:
    """Evenly spaced draws; refuses a posterior that has none."""
    if len(posterior.samples) == 0:
        raise InputError(f"TARGETID {posterior.targetid}: no samples to predict from, STATUS {posterior.status.name}")
    return thin(len(posterior.samples), n_draws)


def _predict(posterior: Posterior, rows: IntArray, observation: Observation, config: FitConfig) -> Predictive:
    """Predictions of the draws of one fit."""
    model = model_for(config.model, observation, config.engine)
    everything = {"line_mask": "none", "clip_sigma": None}
    projection = project(observation, model.library, config.observing.model_copy(update=everything))
    likelihood = ExactLikelihood(projection, model)
    draws, total = posterior.samples[rows], model.linear_block.total
    theta = as_fitted(draws, posterior.parameters, total, likelihood.parameters)
    pixels, bands, sed = [], [], []
    for i in range(0, len(theta), CHUNK):
        part = jnp.asarray(theta[i : i + CHUNK])
        spec, phot = likelihood.predict(part)
        pixels.append(None if spec is None else np.asarray(spec))
        bands.append(None if phot is None else np.asarray(phot))
        stars = likelihood.parameters.select(part, model.parameters)
        sed.append(np.asarray(model.spectrum(stars, likelihood.tables)) * projection.flux_factor)
    time = np.linspace(0, projection.t_age, N_TIME)
    sfr, zh = history_curves(model, likelihood.parameters.select(theta, model.parameters), projection.t_age, time)
    wave = projection.wave_model
    # 1 nmgy is a flux per frequency: f_nu = f_lambda lambda^2 / c
    to_nanomaggies = SPECTRUM_UNIT * wave**2 / C_AA / NANOMAGGY_CGS
    spectrum, photometry = _data(posterior, observation, projection, config, pixels, bands)
    return Predictive(
        spectrum,
        photometry,
        wave,
        np.concatenate(sed) * to_nanomaggies,
        time,
        sfr,
        zh,
    )


def _in_order(made: list[Predictive], order: IntArray) -> Predictive:
    """Predictions of several fits as one, draws in their order; spectra on the wavelengths of the first."""
    first = made[0]
    if len(made) == 1:
        return first

    def joined(arrays: list[FloatArray]) -> FloatArray:
        return np.concatenate(arrays)[order]

    def on_first(p: Predictive) -> FloatArray:
        return np.array([np.interp(first.sed_wave, p.sed_wave, row, left=np.nan, right=np.nan) for row in p.sed])

    spectra = [p.spectrum for p in made if p.spectrum is not None]
    bands = [p.photometry for p in made if p.photometry is not None]
    return first._replace(
        spectrum=spectra[0]._replace(model=joined([s.model for s in spectra])) if spectra else None,
        photometry=bands[0]._replace(model=joined([b.model for b in bands])) if bands else None,
        sed=joined([on_first(p) for p in made]),
        sfr=joined([p.sfr for p in made]),
        zh=joined([p.zh for p in made]),
    )


def _data(
    posterior: Posterior,
    observation: Observation,
    projection: Projection,
    config: FitConfig,
    pixels: list[FloatArray | None],
    bands: list[FloatArray | None],
) -> tuple[SpectrumPrediction | None, PhotometryPrediction | None]:
    """Pixels and bands with the model of each draw, and with the errors that the noise model's templates make of it."""
    spec, phot = projection.spectrum, projection.photometry
    if spec is not None:
        model = np.concatenate([p for p in pixels if p is not None])
        masked = masked_pixels(observation, spec.wave, config.observing) | (config.use == "photometry")
        clipped = clipped_pixels(posterior, spec.wave) & ~masked
    if phot is not None:
        in_bands = np.concatenate([b for b in bands if b is not None])
    # coefficients are those of the data that were fitted; data that were not are predicted with them
    coefficients, _ = template_coefficients(
        projection,
        spec.flux - model if spec is not None and config.use != "photometry" else None,
        phot.flux - in_bands if phot is not None and config.use != "spectrum" else None,
        ~(masked | clipped) if spec is not None else None,
    )
    spectrum = photometry = None
    if spec is not None:
        model = model + coefficients @ spec.templates.T
        sigma, camera = 1 / np.sqrt(spec.ivar), np.array(spec.camera)
        spectrum = SpectrumPrediction(spec.wave, spec.flux, sigma, camera, masked, clipped, model)
    if phot is not None:
        wave = np.array([effective_wavelength(b) for b in phot.bands])
        in_bands = in_bands + coefficients @ phot.templates.T
        photometry = PhotometryPrediction(phot.bands, wave, phot.flux, 1 / np.sqrt(phot.ivar), in_bands)
    return spectrum, photometry


def clipped_pixels(posterior: Posterior, wave: FloatArray) -> NDArray[np.bool_]:
    """Pixels that the fit left out as outliers.

    Parameters
    ----------
    posterior
        Knows their wavelengths.
    wave
        ``(npix,)`` observed wavelengths, Angstrom.

    Returns
    -------
    numpy.ndarray
        ``(npix,)`` True where left out.
    """
    # a wavelength that no pixel has stands for none; they are stored to 0.1 A
    distance = np.abs(wave[:, None] - np.append(posterior.quality.clipped, np.inf)).min(axis=1)
    return np.asarray(distance < 0.06)


def bands_of(draws: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """2.5, 16, 50, 84 and 97.5 % quantiles over the first axis."""
    low95, low68, median, high68, high95 = np.quantile(draws, [0.025, 0.16, 0.5, 0.84, 0.975], axis=0)
    return low95, low68, median, high68, high95
