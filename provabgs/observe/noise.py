"""The noise model: what keeps data from the model beyond photon noise, in the form that every likelihood takes.

A noise term adds *white* variance to pixels and bands, or *templates*: shapes over pixels and bands together, each at
one prior sigma, with one coefficient per galaxy that is marginalised analytically. A template that touches pixels and
bands correlates them. Terms are applied in order, and each sees the variance that those before it left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from scipy import ndimage, optimize

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError
from provabgs.core.registry import Registry
from provabgs.observe.filters import effective_wavelength
from provabgs.observe.options import ObservingOptions
from provabgs.sps.library import SSPLibrary

SMOOTHING_PIXELS = 101
"""Window over which the spectrum is averaged to say how bright it is."""
INFRARED_AA = 2.5e4
"""Effective wavelength from which a band takes the infrared noise floor, Angstrom."""
FLOOR_OPTICAL, FLOOR_INFRARED = 0.02, 0.05
"""Noise floors, fractions of the flux, of bands for which neither the survey nor the fit's options give one."""


@dataclass(frozen=True, eq=False)
class FitData:
    """What noise terms see of a galaxy: the pixels and bands that are fitted.

    Attributes
    ----------
    redshift
        Of the galaxy.
    wave, flux, variance
        ``(npix,)`` observed Angstrom, 1e-17 erg/s/cm2/A and its square; empty without a spectrum.
    level
        ``(npix,)`` light to which relative errors refer: the smoothed flux, or that of a first stellar fit.
    camera
        ``(npix,)`` camera names.
    line_profiles
        ``(npix, nline)`` emission lines of unit luminosity as the spectrograph sees them; of a library with gas only.
    bands, band_flux, band_variance
        ``(nband,)`` filter names, nanomaggies and their square.
    band_level
        ``(nband,)`` light to which relative errors refer, nanomaggies: the flux, or that of a first stellar fit.
    band_floor
        ``(nband,)`` noise floors of the survey, fractions of the flux, NaN where it has none.
    band_weights
        ``(nband, nwave)`` from f_lambda at `wave_model` to nanomaggies.
    wave_model
        ``(nwave,)`` observed Angstrom of the model's nodes.
    library
        The model's stars, for terms that know of one library; None where a term need not ask.
    """

    redshift: float
    wave: FloatArray
    flux: FloatArray
    variance: FloatArray
    level: FloatArray
    camera: tuple[str, ...]
    line_profiles: FloatArray
    bands: tuple[str, ...]
    band_flux: FloatArray
    band_variance: FloatArray
    band_level: FloatArray
    band_floor: FloatArray
    band_weights: FloatArray
    wave_model: FloatArray
    library: SSPLibrary | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of pixels and of bands."""
        return self.flux.size, self.band_flux.size


class Noise(NamedTuple):
    """What one term adds."""

    pixel_variance: FloatArray | float = 0.0
    """``(npix,)``."""
    band_variance: FloatArray | float = 0.0
    """``(nband,)``."""
    pixel_templates: FloatArray | None = None
    """``(npix, ntemplate)``, each at one prior sigma; None where the templates touch bands alone."""
    band_templates: FloatArray | None = None
    """``(nband, ntemplate)``, of the same coefficients; None where they touch pixels alone."""
    scale: float = 1.0
    """Factor on the variance of pixels, this term's included."""
    template_terms: tuple[str, ...] = ()
    """``(ntemplate,)`` the term that each template is of; set by `NoiseModel`."""
    light_error: float = 0.0
    """Sigma of ln of a factor common to the model of all data, which no template holds: the mass takes it up."""


@runtime_checkable
class NoiseTerm(Protocol):
    """One term; `docs/extend.md` has a worked example."""

    name: str

    def __call__(self, data: FitData, options: ObservingOptions) -> Noise:
        """Variance and templates for a galaxy."""
        ...


class NoiseFloor:
    """White noise of a fixed fraction of the flux.

    `floor_spectrum` is that of pixels. Bands have the floors of their survey, or of `floor_optical` and
    `floor_infrared` (from 2.5 um) where these are given. What a band sees of light that the library has borrowed
    (`SSPLibrary.borrowed`) has an error of `floor_ultraviolet` besides, whatever survey or options say of the rest.
    """

    name = "floor"

    def __call__(self, data: FitData, options: ObservingOptions) -> Noise:
        """See `NoiseTerm`."""
        floor = band_floors(data.bands, data.band_floor, options)
        if data.library is not None and data.library.borrowed:
            floor = np.hypot(floor, options.floor_ultraviolet * borrowed_share(data.band_weights, data.library))
        return Noise((options.floor_spectrum * data.level) ** 2, (floor * data.band_level) ** 2)


def borrowed_share(weights: FloatArray, library: SSPLibrary) -> FloatArray:
    """Share of each band, for a spectrum flat in f_lambda, that lies where a library's light is another's.

    Parameters
    ----------
    weights
        ``(nband, nwave)`` of bands on the library's wavelengths.
    library
        The model's.

    Returns
    -------
    FloatArray
        ``(nband,)`` between 0 and 1.
    """
    total = np.maximum(weights.sum(axis=1), 1e-300)
    return np.asarray(weights[:, : library.borrowed].sum(axis=1) / total)


def band_floors(bands: Sequence[str], survey: FloatArray, options: ObservingOptions) -> FloatArray:
    """Noise floors of bands: those of the fit's options, else of the survey, else the defaults.

    Parameters
    ----------
    bands
        Filter names.
    survey
        ``(nband,)`` floors of the survey, fractions of the flux; NaN where it has none.
    options
        ``floor_optical`` and ``floor_infrared`` overrule the survey where they are given.

    Returns
    -------
    numpy.ndarray
        ``(nband,)`` fractions of the flux.
    """
    infrared = np.array([effective_wavelength(b) > INFRARED_AA for b in bands], dtype=bool)
    floor = np.where(np.isnan(survey), np.where(infrared, FLOOR_INFRARED, FLOOR_OPTICAL), survey)
    for chosen, where in ((options.floor_optical, ~infrared), (options.floor_infrared, infrared)):
        if chosen is not None:
            floor = np.where(where, chosen, floor)
    return floor


class Calibration:
    """A smooth multiplicative calibration error of the spectrum: `calibration_order`, `calibration_sigma`.

    An error ``1 + sum_k c_k P_k(x)`` (Legendre, x in [-1, 1] over the whole spectrum) is linearised about the level.
    """

    name = "calibration"

    def __call__(self, data: FitData, options: ObservingOptions) -> Noise:
        """See `NoiseTerm`."""
        if options.calibration_order is None or not data.wave.size:
            return Noise()
        x = 2 * (data.wave - data.wave.min()) / max(np.ptp(data.wave), 1.0) - 1
        legendre = np.polynomial.legendre.legvander(x, options.calibration_order)
        return Noise(pixel_templates=options.calibration_sigma * data.level[:, None] * legendre)


class EmissionLines:
    """Freedom of modelled emission lines: `floor_line` and `line_scatter`; nothing without nebular emission.

    The model's line ratios are good to tens of per cent and its profiles to a few, spectra of bright lines to one per
    cent: each line's flux may differ from the model's (a template each), and the noise floor rises with the line.
    """

    name = "emission-lines"

    def __call__(self, data: FitData, options: ObservingOptions) -> Noise:
        """See `NoiseTerm`."""
        if not data.line_profiles.shape[1]:
            return Noise()
        lines = observed_lines(data.flux, 1 / data.variance, data.line_profiles)
        templates = options.line_scatter * lines if options.line_scatter > 0 else None
        return Noise((options.floor_line * lines.sum(axis=1)) ** 2, pixel_templates=templates)


NOISE_TERMS: Registry[NoiseTerm] = Registry("noise term", "observing.noise")
"""Terms by the name used in ``observing.noise``."""
for _term in (NoiseFloor(), Calibration(), EmissionLines()):
    NOISE_TERMS.register(_term.name, _term)


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Noise terms in order.

    Attributes
    ----------
    terms
        Applied one after another.
    options
        Options that terms read.
    """

    terms: tuple[NoiseTerm, ...]
    options: ObservingOptions

    @classmethod
    def of(cls, options: ObservingOptions) -> NoiseModel:
        """The terms that a configuration names.

        Raises
        ------
        ConfigError
            For an unknown name, with the closest one.
        """
        return cls(tuple(NOISE_TERMS[name] for name in options.noise), options)

    def __call__(self, data: FitData) -> Noise:
        """Total noise of a galaxy: variances with photon noise, and the templates of all terms side by side.

        Raises
        ------
        ConfigError
            When a term returns arrays of another shape than the data.
        """
        pixels: list[FloatArray] = []
        bands: list[FloatArray] = []
        terms: list[str] = []
        light_error = 0.0
        for term in self.terms:
            noise = term(data, self.options)
            light_error = float(np.hypot(light_error, noise.light_error))
            data = _with_variance(term, data, noise)
            templates = _templates(term, data, noise)
            if templates is not None:
                pixels.append(templates[0])
                bands.append(templates[1])
                terms += [term.name] * templates[0].shape[1]
        n_pix, n_band = data.shape
        return Noise(
            data.variance,
            data.band_variance,
            np.hstack(pixels) if pixels else np.zeros((n_pix, 0)),
            np.hstack(bands) if bands else np.zeros((n_band, 0)),
            template_terms=tuple(terms),
            light_error=light_error,
        )


def _with_variance(term: NoiseTerm, data: FitData, noise: Noise) -> FitData:
    n_pix, n_band = data.shape
    for what, value, n in (("pixel", noise.pixel_variance, n_pix), ("band", noise.band_variance, n_band)):
        if np.shape(value) not in ((), (n,)) or not np.all(np.isfinite(value)) or np.any(np.asarray(value) < 0):
            raise ConfigError(
                f"noise term {term.name!r}: its {what} variance must be finite, >= 0 and of shape ({n},), "
                f"not {np.shape(value)}"
            )
    return replace(
        data,
        variance=noise.scale * (data.variance + noise.pixel_variance),
        band_variance=data.band_variance + noise.band_variance,
    )


def _templates(term: NoiseTerm, data: FitData, noise: Noise) -> tuple[FloatArray, FloatArray] | None:
    """A term's templates over pixels and bands, zeros where it does not touch them; None where it has none."""
    pixels, bands = noise.pixel_templates, noise.band_templates
    given = pixels if pixels is not None else bands
    if given is None:
        return None
    n = given.shape[-1]
    n_pix, n_band = data.shape
    pixels = np.zeros((n_pix, n)) if pixels is None else pixels
    bands = np.zeros((n_band, n)) if bands is None else bands
    if pixels.shape != (n_pix, n) or bands.shape != (n_band, n):
        raise ConfigError(
            f"noise term {term.name!r}: templates of shapes {pixels.shape} and {bands.shape}, expected ({n_pix}, {n}) "
            f"over pixels and ({n_band}, {n}) over bands"
        )
    return pixels, bands


def smooth_flux(flux: FloatArray, ivar: FloatArray) -> FloatArray:
    """Inverse-variance weighted running mean of a camera's pixels, the level that noise floors refer to.

    Parameters
    ----------
    flux, ivar
        ``(npix,)``; pixels with ivar 0 do not count.

    Returns
    -------
    numpy.ndarray
        ``(npix,)``.
    """
    weighted = ndimage.uniform_filter1d(flux * ivar, SMOOTHING_PIXELS, mode="nearest")
    weight = ndimage.uniform_filter1d(ivar, SMOOTHING_PIXELS, mode="nearest")
    return np.divide(weighted, weight, out=np.zeros_like(weighted), where=weight > 0)


def observed_lines(flux: FloatArray, ivar: FloatArray, profiles: FloatArray) -> FloatArray:
    """The emission lines that a spectrum shows, each with its own flux.

    Fluxes are those of a non-negative fit of all profiles to the spectrum above its running median: as with the
    calibration, relative errors of lines are linearised about the data.

    Parameters
    ----------
    flux, ivar
        ``(npix,)``.
    profiles
        ``(npix, nline)`` lines of unit luminosity.

    Returns
    -------
    numpy.ndarray
        ``(npix, nfound)``.
    """
    above = flux - ndimage.median_filter(flux, size=2 * SMOOTHING_PIXELS + 1, mode="nearest")
    peak = profiles.max(axis=0, initial=0.0)
    seen = np.flatnonzero(peak > 0.1 * peak.max(initial=0.0))  # not those of which a wing reaches the first pixel
    if seen.size == 0:
        return np.zeros((flux.size, 0))
    unit = profiles[:, seen] / peak[seen]
    root = np.sqrt(ivar)
    fluxes, _ = optimize.nnls(root[:, None] * unit, root * above, maxiter=100 * seen.size)
    return unit[:, fluxes > 0] * fluxes[fluxes > 0]


def template_covariance(templates: FloatArray, ivar: FloatArray) -> FloatArray:
    """Posterior covariance of template coefficients of unit prior, ``(I + N^T W N)^-1``.

    Parameters
    ----------
    templates
        N, ``(npix, ntemplate)``, the unit of the flux.
    ivar
        W, ``(npix,)`` inverse variance of the flux.

    Returns
    -------
    FloatArray
        ``(ntemplate, ntemplate)``.
    """
    weighted = np.sqrt(ivar)[:, None] * templates
    normal = np.eye(templates.shape[1]) + weighted.T @ weighted  # a product of a matrix with itself costs half
    return np.asarray(np.linalg.inv(normal), dtype=np.float64)
