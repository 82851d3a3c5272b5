"""Noise terms for what is wrong with models and data of real galaxies: templates, calibration, aperture.

Each is a `NoiseTerm` (`provabgs.observe.noise`). Relative errors are linearised about the light of a first
stellar fit, or about the smoothed data (``observing.relative_to``), so that their coefficients are marginalised
analytically in every likelihood.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError, UnusableTargetError
from provabgs.core.status import Status
from provabgs.observe.noise import NOISE_TERMS, FitData, Noise
from provabgs.observe.options import ObservingOptions
from provabgs.observe.template_error import TemplateError
from provabgs.sps.library import SSPLibrary

BAND_TAIL = 0.01
"""Fraction of a band's response at either end that may lie beyond the components, which are constant there."""


class StellarTemplateError:
    """Error of the stellar library: `template_error`, and `template_error_group`, `_file` and `_floor`.

    Components of the difference between SSP libraries (docs/studies/template_error.md), each with one coefficient for
    the galaxy's pixels and bands. What the components leave is white noise of pixels and bands. A file of components
    of other stars than the model's is refused for every galaxy; the components that ship stand in for those of any
    library (`stand_in`). A galaxy with data beyond their wavelengths is refused.

    The factor common to all data, an error of the mass-to-light ratio of 15 to 20 %, is taken out of the components:
    the mass is free to take it up exactly, and `Noise.light_error` says how large it is. As a template relative to the
    *data*, which hold their noise, it draws the mass down: half of the mass, with half of the data added to it, fits
    the noise too, and wins (Peelle's pertinent puzzle; docs/studies/honest.md has the numbers).
    """

    name = "template-error"

    def __call__(self, data: FitData, options: ObservingOptions) -> Noise:
        """See `NoiseTerm`; the fraction of a band is the mean over its response."""
        if options.template_error == 0:
            return Noise()
        amplitude = _one_amplitude(options)
        error = template_error_of(options, data.library)
        rest, model = data.wave / (1 + data.redshift), data.wave_model / (1 + data.redshift)
        _require_range(error, options, data)
        weights = data.band_weights / np.maximum(data.band_weights.sum(axis=1, keepdims=True), 1e-300)
        pixels = amplitude * error.components(rest)
        bands = amplitude * (weights @ error.components(model))
        common = _common_factor(pixels, bands, data)
        white = options.template_error_floor
        return Noise(
            (white * error.floor(rest, transfer=True) * data.level) ** 2,
            (white * (weights @ error.floor(model, transfer=True)) * data.band_level) ** 2,
            (pixels - common) * data.level[:, None],
            (bands - common) * data.band_level[:, None],
            light_error=float(np.linalg.norm(common)),
        )


def _one_amplitude(options: ObservingOptions) -> float:
    if isinstance(options.template_error, tuple):
        raise ConfigError(
            f"observing.template_error = {list(options.template_error)}: one fit has one amplitude; `fit_one` averages "
            "over several"
        )
    return options.template_error


def template_error_of(options: ObservingOptions, library: SSPLibrary | None = None) -> TemplateError:
    """The components that a configuration names; those of a file are checked against the stars of the model.

    Parameters
    ----------
    options
        `template_error_file` and `template_error_group` are read.
    library
        The model's; not checked when None.

    Returns
    -------
    TemplateError
        Read once per process.

    Raises
    ------
    DataFileError
        When the file is missing or damaged.
    ConfigError
        When it has no such group, or is a file of another library's components.
    """
    error = _components(options.template_error_file, options.template_error_group)
    if library is not None and options.template_error_file is not None:
        try:
            _check_stars(error, library)
        except ConfigError as err:
            raise ConfigError(f"{_told(options)}: {err}") from None
    return error


def stand_in(options: ObservingOptions, library: SSPLibrary) -> str:
    """A note for the user where the components that ship stand in for those of another library.

    The components are differences between three libraries of different stars, isochrones and codes: how far any one
    library of this kind is from the sky. Components learnt for the library itself also have its own corners.

    Parameters
    ----------
    options
        Of the fit.
    library
        The model's.

    Returns
    -------
    str
        Empty where the components are the library's own, or there are none.
    """
    used = "template-error" in options.noise and options.template_error != 0
    if not used or options.template_error_file is not None:
        return ""
    return _stand_in(_components(None, options.template_error_group), library)


@lru_cache(maxsize=16)
def _stand_in(error: TemplateError, library: SSPLibrary) -> str:
    try:
        error.check_stars(library)
    except ConfigError:
        source = library.provenance.get("source", "an unknown source")
        return (
            f"the template error of the library that ships stands in for that of {source}; build its own with `python "
            "-m provabgs.data.build_template_error`"
        )
    return ""


def _common_factor(pixels: FloatArray, bands: FloatArray, data: FitData) -> FloatArray:
    """Mean of each component ``(n,)`` over pixels ``(npix, n)`` and bands ``(nband, n)``, weighted as the data are."""
    weight = np.concatenate([data.level**2 / data.variance, data.band_level**2 / data.band_variance])
    both = np.concatenate([pixels, bands])
    return np.asarray(weight @ both / weight.sum() if weight.sum() > 0 else both.mean(axis=0))


@lru_cache(maxsize=4)
def _components(path: Path | None, group: str) -> TemplateError:
    return TemplateError.default(group) if path is None else TemplateError.load(path, group)


@lru_cache(maxsize=16)
def _check_stars(error: TemplateError, library: SSPLibrary) -> None:
    """Once per library: a hash takes as long as a hundred galaxies' templates."""
    error.check_stars(library)


def _told(options: ObservingOptions) -> str:
    """The file of the components as messages name it."""
    path = options.template_error_file
    return "the components that ship" if path is None else f"template_error_file {path}"


def _require_range(error: TemplateError, options: ObservingOptions, data: FitData) -> None:
    """Refuse a galaxy whose pixels or bands lie beyond the components."""
    needed = {"the spectrum": data.wave} if data.wave.size else {}
    for band, weights in zip(data.bands, data.band_weights, strict=True):
        share = np.cumsum(np.abs(weights))
        inside = (share > BAND_TAIL * share[-1]) & (share < (1 - BAND_TAIL) * share[-1])
        own = np.arange(inside.size) >= (0 if data.library is None else data.library.borrowed)
        if (inside & own).any() or not inside.any():  # the floor of bands holds the error of borrowed light
            needed[band] = data.wave_model[inside & own] if inside.any() else data.wave_model
    for what, wave in needed.items():
        low, high = wave.min() / (1 + data.redshift), wave.max() / (1 + data.redshift)
        if not error.covers(low, high):
            raise UnusableTargetError(
                f"{_told(options)} covers {error.wave[0]:.0f}-{error.wave[-1]:.0f} A, {what} at z = {data.redshift:g} "
                f"needs {low:.0f}-{high:.0f} A at rest; build components over this range, leave these data out, or "
                "set observing.template_error = 0",
                Status.REDSHIFT_OUT_OF_RANGE,
            )


class CameraCalibration:
    """Smooth multiplicative error of each camera: `camera_order`, `camera_sigma`.

    Legendre polynomials of each camera's wavelengths. The error common to all pixels is taken out: f_fiber, or the mass
    where there is a spectrum alone, has that freedom already.
    """

    name = "camera-calibration"

    def __call__(self, data: FitData, options: ObservingOptions) -> Noise:
        """See `NoiseTerm`."""
        if options.camera_sigma == 0 or not data.wave.size:
            return Noise()
        cameras = np.array(data.camera)
        shapes = np.zeros((data.wave.size, 0))
        for camera in dict.fromkeys(data.camera):
            own = cameras == camera
            wave = data.wave[own]
            x = 2 * (wave - wave.min()) / max(np.ptp(wave), 1.0) - 1
            block = np.zeros((data.wave.size, options.camera_order + 1))
            block[own] = np.polynomial.legendre.legvander(x, options.camera_order)
            shapes = np.hstack([shapes, block])
        return Noise(pixel_templates=options.camera_sigma * _without_constant(shapes, data) * data.level[:, None])


class FiberColour:
    """Colour of the flux in the fiber against that of the whole galaxy: `fiber_colour_sigma`.

    A tilt of the spectrum in ln wavelength, of one sigma over its range, and a curvature of half of it; where there are
    bands to compare with.
    """

    name = "fiber-colour"

    def __call__(self, data: FitData, options: ObservingOptions) -> Noise:
        """See `NoiseTerm`."""
        if options.fiber_colour_sigma == 0 or not data.wave.size or not data.bands:
            return Noise()
        log_wave = np.log(data.wave)
        x = 2 * (log_wave - log_wave.min()) / max(np.ptp(log_wave), 1e-3) - 1
        shapes = np.column_stack([x, 0.5 * (1.5 * x**2 - 0.5)])
        return Noise(pixel_templates=options.fiber_colour_sigma * _without_constant(shapes, data) * data.level[:, None])


def _without_constant(shapes: FloatArray, data: FitData) -> FloatArray:
    """Shapes ``(npix, n)`` less their means, weighted as the data see them."""
    weight = data.level**2 / data.variance
    total = weight.sum()
    return shapes - (weight @ shapes / total if total > 0 else shapes.mean(axis=0))


for _term in (StellarTemplateError(), CameraCalibration(), FiberColour()):
    NOISE_TERMS.register(_term.name, _term)
