"""Mock galaxies from the exact model, with DESI's grids and a Gaussian resolution matrix, for tests of the engine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.jax import jax, jnp
from provabgs.inference.likelihood import ExactLikelihood, fit_parameters
from provabgs.inference.priors import Prior, latent_from_unit, theta_from_latent, unit_from_theta
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from provabgs.sps.model import SPSModel
from provabgs.surveys import load_system
from tests.support.parameters import prior_draws, put

GRIDS = {"b": (3600.0, 2751, 2.2), "r": (5760.0, 2326, 1.2), "z": (7520.0, 2881, 0.9)}
"""Camera: first wavelength, pixels of 0.8 A, noise relative to the pivot."""
RESOLUTION_PIXELS = 0.95
BAND_SIGMA = np.array([0.03, 0.04, 0.08, 0.7, 1.6])
"""Photometric noise, nanomaggies: g, r, z, W1, W2."""
LATENT_LIMIT = (-8.0, 8.0)
"""Standard-normal coordinates beyond which a double no longer tells the prior's edge from its neighbour."""
NO_FLOOR = ObservingOptions(line_mask="none", floor_spectrum=0, floor_optical=0, floor_infrared=0)


def draw_theta(rng: np.random.Generator) -> FloatArray:
    """One galaxy from the prior, of 1e9 to 10^11.5 Msun."""
    theta = prior_draws(1, rng)[0]
    put(theta, logmstar=rng.uniform(9, 11.5))
    return put(theta, f_fiber=rng.uniform(0.2, 0.8))


def gaussian_resolution(n: int) -> FloatArray:
    """Band-format resolution matrix ``(11, n)`` of a Gaussian line-spread function."""
    shape = np.exp(-0.5 * (np.arange(5, -6, -1) / RESOLUTION_PIXELS) ** 2)
    return np.repeat((shape / shape.sum())[:, None], n, axis=1)


def mock(
    model: SPSModel,
    theta: FloatArray,
    redshift: float,
    snr: float,
    rng: np.random.Generator,
    photsys: str = "S",
    cameras: str = "brz",
    photometry: bool = True,
) -> Observation:
    """Noisy data of a galaxy with a fit's theta ``(size,)``; `snr` is per pixel, at the median flux, for noise of 1."""
    theta, f_fiber = np.array(theta), fit_parameters(model).index("f_fiber")
    if not (cameras and photometry):
        theta[f_fiber] = 1.0
    spectra = []
    for c in cameras:
        start, n, _ = GRIDS[c]
        wave: FloatArray = start + 0.8 * np.arange(n, dtype=np.float64)
        spectra.append(Spectrum(c, wave, np.ones(n), np.ones(n), gaussian_resolution(n)))
    bands = load_system("legacy").filters(photsys)
    blank = Observation(redshift, tuple(spectra), Photometry(bands, np.ones(5), np.ones(5)))
    truth = ExactLikelihood(project(blank, model.library, NO_FLOOR), model)
    pixels, fluxes = truth.predict(jnp.asarray(theta)[None])
    noisy = []
    if pixels is not None:
        flux: FloatArray = np.asarray(pixels, np.float64)[0]
        unit = np.median(flux) / snr
        for s, part in zip(spectra, np.split(flux, np.cumsum([s.wave.size for s in spectra])[:-1]), strict=True):
            sigma = unit * GRIDS[s.camera][2]
            data = part + sigma * rng.standard_normal(part.size)
            noisy.append(Spectrum(s.camera, s.wave, data, np.full(part.size, sigma**-2), s.resolution))
    band_sigma: FloatArray = BAND_SIGMA * min(1.0, 8 / snr)
    phot = Photometry(bands, np.asarray(fluxes)[0] + band_sigma * rng.standard_normal(5), band_sigma**-2.0)
    fiber = float(theta[f_fiber])
    both = bool(cameras) and photometry
    return Observation(redshift, tuple(noisy), phot if photometry else None, (fiber, 0.1 * fiber) if both else None)


def near(
    log_likelihood: Callable[[jax.Array], jax.Array],
    theta: FloatArray,
    prior: Prior,
    rng: np.random.Generator,
    n: int = 32,
    drop: float = 30.0,
) -> jax.Array:
    """Points ``(n, size)`` up to `drop` nats below the truth, uniform in nats, along random latent directions.

    The start must be the truth itself, however far out in the prior: at S/N 100 a latent coordinate moved by 0.1 costs
    1e5 nats, and points around such a start are nowhere near the maximum.
    """
    start = np.clip(np.asarray(latent_from_unit(unit_from_theta(jnp.asarray(theta)[None], prior)))[0], *LATENT_LIMIT)
    top = float(log_likelihood(theta_from_latent(jnp.asarray(start)[None], prior))[0])
    direction = rng.standard_normal((n, start.size))
    direction /= np.linalg.norm(direction, axis=1)[:, None]
    step, target, best = np.full(n, 1e-3), rng.uniform(0, drop, n), np.repeat(start[None], n, axis=0)
    for _ in range(22):
        trial = start + step[:, None] * direction
        fine = top - np.asarray(log_likelihood(theta_from_latent(jnp.asarray(trial), prior))) < target
        best = np.where(fine[:, None], trial, best)
        step = np.where(fine, step * 1.7, step * 0.5)
    return theta_from_latent(jnp.asarray(best), prior)
