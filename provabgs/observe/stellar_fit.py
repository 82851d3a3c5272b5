"""A first stellar fit of a galaxy: the light that relative errors of the noise model are fractions of.

A template of the noise model is a fraction of the light. Were it a fraction of the smoothed *data*, it would hold their
noise: a model that is too faint in the blue, a share of the data added to it, then fits that noise too (Peelle's
pertinent puzzle; docs/studies/honest.md has the numbers). A non-negative sum of a few SSPs behind a few screens of
dust, fitted to pixels and bands together, has too few degrees of freedom for that.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from provabgs.core.arrays import FloatArray
from provabgs.observe.dispersion import Chain
from provabgs.sps.attenuation import LAMBDA_V, R_V_CALZETTI, calzetti_curve, drude_profile
from provabgs.sps.library import SSPLibrary

AGES_GYR, N_METALS = (0.003, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0), 2
"""SSPs that the fit is made of."""
SCREENS = (
    (0.0, 0.0), (0.3, 0.0), (0.3, -1.5), (1.0, 0.3), (1.0, -0.7), (1.0, -1.7), (2.5, 0.5), (2.5, -0.7), (2.5, -1.7),
)  # fmt: skip
"""Optical depth and slope of the dust, as `provabgs.sps.attenuation.ism_optical_depth` has them."""
MODEL_ERROR = 0.05
"""Error of the fit, fraction of the light: that of a library's colours."""
GROUP = 8
"""Neighbouring pixels that are fitted as their mean: the continuum is wanted, not the lines."""
ROUNDS = 2
"""Fits; error and f_fiber of each are those of the fit before."""
OFF_SIGMA, OFF_FRACTION = 5.0, 0.3
"""A band this far off the fit, in sigmas and as a fraction, shows other light than that of stars: it is left out of the
next fit, and keeps its own flux."""
RIDGE = 1e-9
"""On the diagonal of normal equations of columns of unit length, against rounding."""
LEAST_RATIO = 0.2
"""Of bands to their fit: bands may be noise about nothing."""
NO_STARS = "no stars fit the data: the noise model's relative errors are fractions of the smoothed data"


class Light(NamedTuple):
    """What relative errors are fractions of."""

    level: FloatArray
    """``(npix,)`` of pixels, the unit of the flux."""
    band_level: FloatArray
    """``(nband,)`` nanomaggies."""
    note: str = ""
    """Says so where these are the data themselves."""


class LightData(NamedTuple):
    """What is fitted, and the operators from spectra at the model's nodes to it."""

    rest_wave: FloatArray
    """``(npix,)`` Angstrom."""
    flux: FloatArray
    variance: FloatArray
    level: FloatArray
    """``(npix,)`` smoothed flux."""
    operator: sparse.csr_matrix | Chain
    """``(npix, nwave)``, broadening included."""
    band_flux: FloatArray
    band_variance: FloatArray
    band_weights: FloatArray
    """``(nband, nwave)``."""
    fiber_fraction: tuple[float, float] = (1.0, 0.0)
    """Mean and sigma of the prior of f_fiber."""


def stellar_light(data: LightData, library: SSPLibrary) -> Light:
    """The light of a galaxy's stars in its pixels and bands.

    Parameters
    ----------
    data
        The galaxy.
    library
        Stars.

    Returns
    -------
    Light
        The smoothed data, with a note, where no stars fit: data that are not positive on the whole.
    """
    pixels, bands = _templates(data, library)
    fraction, sigma = data.fiber_fraction
    starts = np.arange(0, data.flux.size, GROUP)
    grouped, flux, level = (_means(a, starts) for a in (pixels, data.flux, data.level))
    variance = np.concatenate([_means(data.variance, starts) / GROUP, data.band_variance])
    target, light = np.concatenate([flux, data.band_flux]), np.concatenate([level, data.band_flux])
    counts, other = np.ones(target.size), np.zeros(data.band_flux.size, dtype=bool)
    for _ in range(ROUNDS):
        columns = np.concatenate([fraction * grouped, bands])
        weight = counts / (variance + (MODEL_ERROR * light) ** 2)
        coefficients = _non_negative(columns, target, weight)
        light = columns @ coefficients
        level, band_level = fraction * pixels @ coefficients, bands @ coefficients
        off = np.abs(data.band_flux - band_level)
        other = (off > OFF_SIGMA * np.sqrt(data.band_variance)) & (off > OFF_FRACTION * band_level)
        counts[starts.size :] = ~other
        fraction *= _fiber_ratio(light, target, weight, starts.size, sigma / data.fiber_fraction[0])
    if not coefficients.any():
        return Light(data.level, data.band_flux, NO_STARS)
    return Light(level, np.where(other, data.band_flux, band_level))


def _means(values: FloatArray, starts: NDArray[np.int64]) -> FloatArray:
    """Means over groups of neighbouring pixels, along the first axis; the last group may be shorter."""
    if not starts.size:
        return values
    sums = np.add.reduceat(values, starts, axis=0)
    return np.asarray((sums.T / np.diff(starts, append=len(values))).T)


def _non_negative(columns: FloatArray, target: FloatArray, weight: FloatArray) -> FloatArray:
    """Coefficients >= 0 of the columns ``(n, ncolumn)``, from their normal equations."""
    length = np.sqrt(np.maximum(weight @ columns**2, 1e-300))
    weighted = columns / length * weight[:, None]
    gram = (columns / length).T @ weighted
    factor = np.linalg.cholesky(gram + RIDGE * np.eye(len(gram)))
    found, _ = optimize.nnls(factor.T, np.linalg.solve(factor, target @ weighted), maxiter=30 * len(gram))
    return np.asarray(found / length)


def _fiber_ratio(light: FloatArray, target: FloatArray, weight: FloatArray, n_pix: int, sigma: float) -> float:
    """Factor on f_fiber that brings the bands of a fit to their data, of a prior about 1 of width `sigma`."""
    model, bands = light[n_pix:], target[n_pix:]
    normal = sigma**2 * (weight[n_pix:] * model)
    return 1 / max(float((1 + normal @ bands) / (1 + normal @ model)), LEAST_RATIO)


def _templates(data: LightData, library: SSPLibrary) -> tuple[FloatArray, FloatArray]:
    """Pixels ``(npix, n)`` and bands ``(nband, n)`` of every SSP behind every screen."""
    stars, at_nodes = _stars(library)
    at_pixels = _screens(data.rest_wave)
    seen = np.asarray(data.operator @ stars)
    n = stars.shape[1] * at_nodes.shape[1]
    pixels = (at_pixels[:, :, None] * seen[:, None, :]).reshape(len(seen), n)
    bands = np.stack([(data.band_weights * screen) @ stars for screen in at_nodes.T], axis=1)
    return pixels, bands.reshape(len(data.band_weights), n)


@lru_cache(maxsize=8)
def _stars(library: SSPLibrary) -> tuple[FloatArray, FloatArray]:
    """A few SSPs ``(nwave, nssp)``, and the transmission of the screens ``(nwave, nscreen)``, of a library."""
    ages = np.unique([int(np.argmin(np.abs(library.age_gyr - a))) for a in AGES_GYR])
    metals = np.unique(np.linspace(library.logzsol.size // 3, library.logzsol.size - 1, N_METALS).round().astype(int))
    ssps = library.spectrum[np.ix_(metals, ages)].reshape(-1, library.wave.size)
    return np.ascontiguousarray(ssps.T, dtype=np.float64), _screens(library.wave)


def _screens(rest_wave: FloatArray) -> FloatArray:
    """Transmission ``(n, nscreen)`` of the screens of dust."""
    curve, bump, log_ratio = calzetti_curve(rest_wave), drude_profile(rest_wave), np.log(rest_wave / LAMBDA_V)
    depth = [t * np.exp(n * log_ratio) * (curve + (0.85 - 1.9 * n) * bump / R_V_CALZETTI) for t, n in SCREENS]
    return np.exp(-np.stack(depth, axis=1))
