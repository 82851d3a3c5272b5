"""How well a posterior describes its data: predictive p-values, largest residual, tension, what the noise model took.

Given theta, data of a galaxy are Gaussian with covariance ``N + T T^T``, the noise model's templates T included, so
that chi^2 of replicated data has a chi^2 distribution whatever theta is. The posterior-predictive p-value of the
discrepancy chi^2 is therefore the mean over draws of its tail probability, without a simulation (Gelman, Meng & Stern
1996).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from provabgs.core.arrays import BoolArray, FloatArray, thin
from provabgs.inference.binned_spectrum import binned_chi2
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.likelihood.marginal import band_coupling, chi2_of, template_coefficients
from provabgs.observe.projection import Projection

N_DRAWS = 127
"""Draws that p-values and tension are computed from; with the best fit, spectra fill whole chunks."""
WINDOWS_AA = (50.0, 100.0)
"""Widths of the windows in which a residual is sought, rest frame, Angstrom: broader than lines of a slow rotator,
narrower than what calibration templates follow."""
DETERMINED = 0.5
"""A direction of the coefficients counts where data take more than this share of its prior variance away."""
PREDICTED = 0.1
"""A direction of the bands counts in the tension where less than 1 - this of its variance is the posterior's own."""
TERMS: dict[str, str] = {
    "template-error": "template",
    "calibration": "calibration",
    "camera-calibration": "calibration",
    "fiber-colour": "fiber_colour",
}
"""Noise terms and the numbers of `Quality` that tell how much of them was used; every other term is in ``noise``."""


@dataclass(frozen=True, eq=False)
class Quality:
    """Numbers that say how well a fit describes its data; NaN where the data that they need are absent.

    Attributes
    ----------
    p_spec, p_spec_binned, p_phot
        Posterior-predictive p-values of chi^2 of the spectrum's pixels, of its bins of
        `provabgs.inference.binned_spectrum.BIN_PIXELS`, and of the bands given the spectrum.
    tension
        Distance of the bands from what the spectrum and the prior predict for them, sigmas.
    residual, residual_wave, residual_width
        Largest mean residual over a window, in its own sigmas, with its centre and width, rest frame, Angstrom.
    template_rms, calibration_rms, fiber_colour_rms, noise_rms
        Rms coefficient of the templates of a noise term, prior sigmas, over the coefficients that the data determine.
        About 1 where the term is as large as the noise model says.
    template_p, calibration_p, fiber_colour_p, noise_p
        Probability of larger coefficients.
    clipped
        Observed wavelengths of pixels that were left out as outliers, Angstrom.
    """

    p_spec: float = float("nan")
    p_spec_binned: float = float("nan")
    p_phot: float = float("nan")
    tension: float = float("nan")
    residual: float = float("nan")
    residual_wave: float = float("nan")
    residual_width: float = float("nan")
    template_rms: float = float("nan")
    template_p: float = float("nan")
    calibration_rms: float = float("nan")
    calibration_p: float = float("nan")
    fiber_colour_rms: float = float("nan")
    fiber_colour_p: float = float("nan")
    noise_rms: float = float("nan")
    noise_p: float = float("nan")
    clipped: FloatArray = field(default_factory=lambda: np.zeros(0))


class _Residuals(NamedTuple):
    """Data minus model of some parameter vectors; None where there are no such data."""

    pixels: FloatArray | None
    bands: FloatArray | None


def assess(exact: ExactLikelihood, samples: FloatArray, best: FloatArray) -> tuple[Quality, tuple[float, float]]:
    """Judge a fit.

    Parameters
    ----------
    exact
        The galaxy's exact likelihood.
    samples
        ``(n, size)`` draws of the posterior.
    best
        ``(size,)`` best fit.

    Returns
    -------
    quality
        All numbers that the data allow.
    chi2
        Of spectrum and bands at the best fit, as of `ExactLikelihood.chi2`.
    """
    projection = exact.projection
    n_pix, n_band = projection.n_data
    both = exact.predict(np.append(samples[thin(len(samples), N_DRAWS)], best[None], axis=0))
    model, of_best = ([None if m is None else m[part] for m in both] for part in (slice(-1), slice(-1, None)))
    chi2_spec, chi2_phot = chi2_of(projection, *model)
    drawn, at_best = _residuals(projection, *model), _residuals(projection, *of_best)
    coefficients, covariance = template_coefficients(projection, *_joined(at_best, drawn))
    numbers = _noise_used(projection, coefficients[1:], covariance)
    if n_pix:
        numbers["p_spec"] = float(np.mean(stats.chi2.sf(chi2_spec, n_pix)))
        numbers["p_spec_binned"] = _binned_p(projection, drawn)
        numbers |= _largest_residual(projection, at_best, coefficients[0])
    if n_band:
        numbers["p_phot"] = float(np.mean(stats.chi2.sf(chi2_phot, n_band)))
    if n_pix and n_band:
        numbers["tension"] = bands_tension(_given_spectrum(projection, drawn))
    clipped = projection.spectrum.clipped if projection.spectrum is not None else np.zeros(0)
    spectrum, bands = chi2_of(projection, *of_best)
    return Quality(**numbers, clipped=clipped), (float(spectrum[0]), float(bands[0]))


def _residuals(projection: Projection, pixels: FloatArray | None, bands: FloatArray | None) -> _Residuals:
    spectrum, photometry = projection.spectrum, projection.photometry
    return _Residuals(
        spectrum.flux - pixels if spectrum is not None and pixels is not None else None,
        photometry.flux - bands if photometry is not None and bands is not None else None,
    )


def _joined(first: _Residuals, rest: _Residuals) -> _Residuals:
    both = zip(first, rest, strict=True)
    return _Residuals(*(None if a is None or b is None else np.concatenate([a, b]) for a, b in both))


def _binned_p(projection: Projection, residuals: _Residuals) -> float:
    assert projection.spectrum is not None
    assert residuals.pixels is not None
    return float(np.mean(stats.chi2.sf(*binned_chi2(projection.spectrum, residuals.pixels))))


def _given_spectrum(projection: Projection, residuals: _Residuals) -> FloatArray:
    """Whitened residuals of the bands given those of the spectrum, ``(n, nband)``: unit normal at the true theta."""
    assert projection.photometry is not None
    assert residuals.bands is not None
    coupling = band_coupling(projection)
    if coupling is None:
        return residuals.bands * np.sqrt(projection.photometry.ivar)
    bands = residuals.bands
    if coupling.from_pixels is not None and residuals.pixels is not None:
        bands = bands - residuals.pixels @ coupling.from_pixels.T
    return bands @ coupling.whiten.T


def bands_tension(whitened: FloatArray) -> float:
    """Distance of measured bands from what all else that was fitted predicts for them, sigmas.

    For a linear model with Gaussian noise, the residuals of the bands that a joint fit leaves, r of covariance
    ``1 - P`` (P: scatter of the model over the joint posterior), have ``r^T (1 - P)^-1 r`` equal to the squared
    Mahalanobis distance between the measured bands and those that a fit without them predicts. So the tension follows
    from draws of the joint posterior, to the extent that the posterior is Gaussian.

    Parameters
    ----------
    whitened
        ``(n, nband)`` residuals at draws of the joint posterior, in units of the bands' own errors.

    Returns
    -------
    float
        As many sigmas as make a Gaussian's two-sided tail as improbable. NaN where nothing else that was fitted
        predicts the bands to within three times their own errors.
    """
    values, vectors = np.linalg.eigh(np.cov(whitened.T).reshape(whitened.shape[1], -1))
    left = 1 - values
    use = left > PREDICTED
    if not use.any():
        return float("nan")
    along = whitened.mean(axis=0) @ vectors
    return sigmas(float(np.sum(along[use] ** 2 / left[use])), int(use.sum()))


def sigmas(chi2: float, n: int) -> float:
    """A chi^2 of n degrees of freedom as sigmas of a Gaussian's two-sided tail.

    Parameters
    ----------
    chi2
        Sum of squares.
    n
        Degrees of freedom.

    Returns
    -------
    float
        Finite for any chi^2: beyond the range of double precision the tail's leading term is taken.
    """
    log_tail = float(stats.chi2.logsf(chi2, n))
    if not np.isfinite(log_tail):
        log_tail = (n / 2 - 1) * np.log(chi2 / 2) - chi2 / 2 - float(special.gammaln(n / 2))
    return float(-special.ndtri_exp(log_tail - np.log(2)))


def _noise_used(projection: Projection, coefficients: FloatArray, covariance: FloatArray) -> dict[str, float]:
    """Rms coefficient and its tail probability for each kind of noise term; coefficients as in `coefficient_size`."""
    kinds = np.array([TERMS.get(term, "noise") for term in projection.template_terms])
    numbers: dict[str, float] = {}
    for kind in dict.fromkeys(kinds.tolist()):
        own = kinds == kind
        rms, p = coefficient_size(coefficients[:, own], covariance[np.ix_(own, own)])
        numbers |= {f"{kind}_rms": rms, f"{kind}_p": p}
    return numbers


def coefficient_size(means: FloatArray, covariance: FloatArray) -> tuple[float, float]:
    """Rms of coefficients that data determine, prior sigmas, and the probability of larger ones.

    Over data of the model, posterior means of coefficients of unit prior are Gaussian with covariance 1 minus that of
    the posterior (exactly so where theta enters linearly). The posterior is that of coefficients and theta together:
    what theta can do as well as the templates is not determined, and at the best fit theta has taken it up. Directions
    of which the data say little have means near 0 and do not count.

    Parameters
    ----------
    means
        ``(ndraw, n)`` posterior means of the coefficients given theta, at draws of theta.
    covariance
        ``(n, n)`` posterior covariance given theta.

    Returns
    -------
    rms, p
        NaN where the data determine none.
    """
    known = np.eye(len(covariance)) - covariance - np.cov(means.T).reshape(covariance.shape)
    values, vectors = np.linalg.eigh(known)
    use = values > DETERMINED
    n = int(use.sum())
    if n == 0:
        return float("nan"), float("nan")
    total = float(np.sum((means.mean(axis=0) @ vectors)[use] ** 2 / values[use]))
    return float(np.sqrt(total / n)), float(stats.chi2.sf(total, n))


def _largest_residual(projection: Projection, residuals: _Residuals, coefficients: FloatArray) -> dict[str, float]:
    data = projection.spectrum
    assert data is not None
    assert residuals.pixels is not None
    left = residuals.pixels[0] - data.templates @ coefficients
    found = [largest_window(data.wave / (1 + projection.redshift), left, data.ivar, width) for width in WINDOWS_AA]
    best = int(np.argmax([abs(size) for size, _ in found]))
    size, wave = found[best]
    return {"residual": size, "residual_wave": wave, "residual_width": WINDOWS_AA[best]}


def largest_window(wave: FloatArray, residual: FloatArray, ivar: FloatArray, width: float) -> tuple[float, float]:
    """The window in which the inverse-variance mean of residuals is farthest from 0, in its own sigmas.

    Parameters
    ----------
    wave, residual, ivar
        ``(npix,)`` wavelengths in any order, data minus model and inverse variance.
    width
        Of the window, in the unit of `wave`. One window is centred on each pixel; pixels must cover half of it.

    Returns
    -------
    size, centre
        Sigmas, signed, and wavelength; 0 and NaN where pixels cover half of no window.
    """
    order = np.argsort(wave, kind="stable")
    wave, weighted, ivar = wave[order], (ivar * residual)[order], ivar[order]
    first = np.searchsorted(wave, wave - width / 2, side="left")
    last = np.searchsorted(wave, wave + width / 2, side="right")
    sums = [np.concatenate([[0.0], np.cumsum(x)]) for x in (weighted, ivar)]
    numerator, denominator = (s[last] - s[first] for s in sums)
    pixel = np.median(np.diff(wave)) if wave.size > 1 else width
    covered: BoolArray = (last - first) * pixel >= width / 2
    size = np.where(covered, numerator / np.sqrt(denominator), 0.0)
    top = int(np.argmax(np.abs(size)))
    return float(size[top]), float(wave[top]) if covered.any() else float("nan")
