"""The projection of the model onto one galaxy's data: everything that is fixed once the galaxy is given.

At a known redshift all of observing is linear in the rest-frame spectrum: luminosity distance, velocity dispersion,
pixel averaging, resolution matrix, filters, masks, weights. `project` computes these operators once, in float64; the
exact likelihood applies them to spectra, the compressed one reduces them further.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import SPECTRUM_UNIT
from provabgs.core.errors import InputError, UnusableTargetError
from provabgs.core.status import Status
from provabgs.observe import data_error  # noqa: F401, registers its noise terms
from provabgs.observe.as_configured import as_configured, dispersion_kms, fits_dispersion
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.dispersion import Chain, Dispersion, dispersion_table, unbroadened_kms
from provabgs.observe.dispersion_range import allowed_dispersions
from provabgs.observe.filters import MISSING_TOLERANCE, band_weights, load_filter, missing_fraction
from provabgs.observe.linespread import beyond_library, resolution_matrix, spread_matrix, velocity_sigma
from provabgs.observe.masks import masked_pixels
from provabgs.observe.noise import FitData, Noise, NoiseModel, smooth_flux, template_covariance
from provabgs.observe.observation import Observation, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.outliers import find_outliers
from provabgs.observe.stellar_fit import Light, LightData, stellar_light
from provabgs.sps.library import SSPLibrary
from provabgs.sps.resolution import library_sigma
from provabgs.sps.ultraviolet import UltravioletShapes


@dataclass(frozen=True, eq=False)
class SpectrumProjection:
    """Pixels that enter the likelihood, all cameras concatenated, and the operator that predicts them."""

    operator: sparse.csr_matrix
    """``(npix, nwave)`` from f_lambda at the model's nodes (1e-17 erg/s/cm2/A) to pixels."""
    wave: FloatArray
    """``(npix,)`` observed Angstrom."""
    flux: FloatArray
    """``(npix,)`` 1e-17 erg/s/cm2/A."""
    ivar: FloatArray
    """``(npix,)`` with the white terms of the noise model added."""
    camera: tuple[str, ...]
    """``(npix,)`` camera names."""
    templates: FloatArray
    """``(npix, ntemplate)`` additive templates of the noise model, at unit prior sigma."""
    clipped: FloatArray = field(default_factory=lambda: np.zeros(0))
    """Observed wavelengths of outliers that were left out, Angstrom."""
    dispersion: Dispersion | None = None
    """Where the velocity dispersion is fitted; `operator` then acts on spectra that it has broadened."""

    @cached_property
    def coefficient_covariance(self) -> FloatArray:
        """``(ntemplate, ntemplate)`` of the templates' coefficients, given the spectrum and the model."""
        return template_covariance(self.templates, self.ivar)


@dataclass(frozen=True, eq=False)
class PhotometryProjection:
    """Bands that enter the likelihood."""

    operator: FloatArray
    """``(nband, nwave)`` from f_lambda at the model's nodes (1e-17 erg/s/cm2/A) to nanomaggies."""
    bands: tuple[str, ...]
    flux: FloatArray
    """``(nband,)`` nanomaggies."""
    ivar: FloatArray
    """``(nband,)`` with the white terms of the noise model added."""
    templates: FloatArray
    """``(nband, ntemplate)`` the noise model's templates; where there is a spectrum, of the same coefficients."""


@dataclass(frozen=True, eq=False)
class Projection:
    """All fixed quantities of one galaxy's likelihood.

    Attributes
    ----------
    flux_factor
        Multiplies rest-frame Lsun/A to f_lambda in 1e-17 erg/s/cm2/A at ``wave_model``.
    wave_model
        ``(nwave,)`` observed wavelength of the library's nodes, Angstrom.
    t_age
        Age of the universe at the galaxy, Gyr.
    template_terms
        ``(ntemplate,)`` the noise term that each template is of.
    light_error
        Sigma of ln of the factor common to the model of all data that the noise model leaves to the mass.
    note
        What the user should know of how the noise was found; empty as a rule.
    """

    redshift: float
    t_age: float
    flux_factor: float
    wave_model: FloatArray
    spectrum: SpectrumProjection | None
    photometry: PhotometryProjection | None
    fiber_fraction: tuple[float, float] | None
    template_terms: tuple[str, ...] = ()
    light_error: float = 0.0
    note: str = ""

    @property
    def n_data(self) -> tuple[int, int]:
        """Numbers of pixels and of bands in the likelihood."""
        return (
            self.spectrum.flux.size if self.spectrum else 0,
            self.photometry.flux.size if self.photometry else 0,
        )


def require_redshift(observation: Observation, options: ObservingOptions) -> None:
    """Refuse a galaxy beyond the redshifts that are fitted.

    Parameters
    ----------
    observation
        The galaxy.
    options
        Their `z_max` is the largest.

    Raises
    ------
    UnusableTargetError
        Names the galaxy, its redshift and the cure.
    """
    if observation.redshift > options.z_max:
        raise UnusableTargetError(
            f"TARGETID {observation.targetid}: redshift {observation.redshift:g} is beyond z_max = {options.z_max:g}; "
            "raise z_max if the SSP library covers the spectrum there, or leave this target out",
            Status.REDSHIFT_OUT_OF_RANGE,
        )


def project(observation: Observation, library: SSPLibrary, options: ObservingOptions | None = None) -> Projection:
    """Compute the operators of one galaxy.

    Parameters
    ----------
    observation
        The galaxy's data.
    library
        SSP library: its wavelengths are those of the model.
    options
        Masks, dispersions, noise terms and cosmology; defaults when None.

    Returns
    -------
    Projection
        Operators from a rest-frame spectrum to pixels and bands, with the data and their noise.

    Raises
    ------
    UnusableTargetError
        When the redshift is outside (0, z_max], a band is unknown, a band or pixel lies beyond the library or beyond
        the components of its error, or masks leave nothing to fit.
    ConfigError
        When a term of the noise model is unknown or is that of another library, or the library's width is to be
        subtracted and is not known.
    """
    options = options or ObservingOptions()
    observation = as_configured(observation, options)
    z = observation.redshift
    require_redshift(observation, options)
    cosmology = Cosmology(options.cosmology)
    distance = cosmology.luminosity_distance_cm(z)
    wave_model = library.wave * (1 + z)
    if options.library_width == "subtracted":
        library_sigma(library)  # a library without a known resolution is no galaxy's fault
    try:
        pixels = _pixels(observation, options, library)
        if pixels is not None and options.clip_sigma is not None:
            pixels = pixels.without_outliers(library, options.clip_sigma)
        bands = _bands(observation, wave_model)
    except UnusableTargetError:
        raise
    except InputError as err:
        raise UnusableTargetError(
            f"TARGETID {observation.targetid} at z = {z:g}: {err}", Status.REDSHIFT_OUT_OF_RANGE
        ) from err
    if pixels is None and bands is None:
        raise UnusableTargetError(
            f"TARGETID {observation.targetid}: masks leave no pixel and no band to fit; widen the data or narrow "
            "line_mask_half_width_aa",
            Status.NO_VALID_PIXELS,
        )
    spectrum, photometry, noise, note = _with_noise(observation, wave_model, pixels, bands, library, options)
    return Projection(
        redshift=z,
        t_age=cosmology.age_gyr(z),
        # a flux density per Angstrom is stretched over (1 + z) times as many Angstrom
        flux_factor=library.lsun_cgs / (4 * np.pi * distance**2) / (1 + z) / SPECTRUM_UNIT,
        wave_model=wave_model,
        spectrum=spectrum,
        photometry=photometry,
        fiber_fraction=observation.fiber_fraction,
        light_error=noise.light_error,
        template_terms=noise.template_terms,
        note=note,
    )


def _with_noise(
    observation: Observation,
    wave_model: FloatArray,
    pixels: _Pixels | None,
    bands: _Bands | None,
    library: SSPLibrary,
    options: ObservingOptions,
) -> tuple[SpectrumProjection | None, PhotometryProjection | None, Noise, str]:
    """Pixels and bands with the noise model's variance and templates, all else that it says, and a note."""
    z = observation.redshift
    p = pixels if pixels is not None else _Pixels.empty(wave_model.size)
    b = bands if bands is not None else _Bands.empty(wave_model.size)
    light = Light(p.level, b.flux)
    if options.relative_to == "stars":
        seen = LightData(
            p.wave / (1 + z), p.flux, p.variance, p.level, p.broadened,
            b.flux, b.variance, b.weights, observation.fiber_fraction or (1.0, 0.0),
        )  # fmt: skip
        light = stellar_light(seen, library)
    data = FitData(
        z, p.wave, p.flux, p.variance, light.level, p.camera, _line_profiles(p, library.line_nodes),
        b.names, b.flux, b.variance, light.band_level, b.floor, b.weights, wave_model, library,
    )  # fmt: skip
    noise = NoiseModel.of(options)(data)
    assert noise.pixel_templates is not None
    assert noise.band_templates is not None
    spectrum = photometry = None
    if pixels is not None:
        ivar = 1 / np.asarray(noise.pixel_variance)
        spectrum = SpectrumProjection(
            p.operator, p.wave, p.flux, ivar, p.camera, noise.pixel_templates, p.clipped, p.dispersion
        )
    if bands is not None:
        ivar = 1 / np.asarray(noise.band_variance)
        photometry = PhotometryProjection(b.weights, b.names, b.flux, ivar, noise.band_templates)
    return spectrum, photometry, noise, light.note


def _line_profiles(pixels: _Pixels, line_nodes: NDArray[np.int64]) -> FloatArray:
    """Emission lines of unit luminosity as the spectrograph sees them, ``(npix, nline)``."""
    if not line_nodes.size:
        return np.zeros((pixels.flux.size, 0))
    operator, dispersion = pixels.operator, pixels.dispersion
    lines = operator[:, line_nodes] if dispersion is None else operator @ dispersion.middle[:, line_nodes]
    return np.asarray(lines.toarray())


def camera_operator(
    spectrum: Spectrum,
    wave_model: FloatArray,
    vdisp_kms: float | FloatArray,
    line_nodes: NDArray[np.int64] | None = None,
    gas_vdisp_kms: float | None = None,
    library_aa: FloatArray | None = None,
) -> sparse.csr_matrix:
    """Operator of one camera, all its pixels: velocity dispersion, pixel average, resolution.

    Emission on `line_nodes` is broadened by the gas's dispersion, where one is given. (So is starlight there: over the
    1e-6 of a wavelength that such a node covers, 0.1 % of the flux in a line's core moves by a pixel or two.)

    Parameters
    ----------
    spectrum
        The camera's pixels and resolution.
    wave_model
        ``(nwave,)`` observed wavelength of the model, Angstrom.
    vdisp_kms
        Stellar velocity dispersion, km/s; a number, or one for each pixel.
    line_nodes
        ``(nline,)`` indices of emission lines on `wave_model`.
    gas_vdisp_kms
        Velocity dispersion of the gas, km/s; that of the stars when None.
    library_aa
        ``(nwave,)`` width of the library's own lines on `wave_model`, to be subtracted from the stars' dispersion;
        None to subtract nothing.

    Returns
    -------
    sparse.csr_matrix
        ``(npix, nwave)``.
    """
    sigma_aa = spectrum.sigma_aa if spectrum.resolution is None else 0.0
    width = full = velocity_sigma(spectrum.wave, vdisp_kms, sigma_aa)
    if library_aa is not None:
        stars = velocity_sigma(spectrum.wave, vdisp_kms)
        width = np.hypot(beyond_library(stars, np.interp(spectrum.wave, wave_model, library_aa)), sigma_aa)
    matrix = spread_matrix(wave_model, spectrum.wave, width)
    if line_nodes is not None and line_nodes.size and (gas_vdisp_kms is not None or library_aa is not None):
        # the gas's lines are as narrow as the gas makes them: no library has widened them
        own = full if gas_vdisp_kms is None else velocity_sigma(spectrum.wave, gas_vdisp_kms, sigma_aa)
        gas = spread_matrix(wave_model, spectrum.wave, own)
        of_gas = np.zeros(wave_model.size)
        of_gas[line_nodes] = 1.0
        matrix = (matrix + (gas - matrix) @ sparse.diags(of_gas)).tocsr()
    if spectrum.resolution is None:
        return matrix
    return (resolution_matrix(spectrum.resolution) @ matrix).tocsr()


class _Pixels(NamedTuple):
    """Pixels that are fitted, all cameras, before the noise model."""

    operator: sparse.csr_matrix
    wave: FloatArray
    flux: FloatArray
    variance: FloatArray
    level: FloatArray
    camera: tuple[str, ...]
    clipped: FloatArray
    dispersion: Dispersion | None = None

    @classmethod
    def empty(cls, n_wave: int) -> _Pixels:
        none = np.zeros(0)
        return cls(sparse.csr_matrix((0, n_wave)), none, none, none, none, (), none)

    @property
    def broadened(self) -> sparse.csr_matrix | Chain:
        """The operator, with the middle of the range of dispersions where they are free."""
        return self.operator if self.dispersion is None else Chain(self.operator, self.dispersion.middle)

    def without_outliers(self, library: SSPLibrary, sigma: float) -> _Pixels:
        """The pixels less isolated ones that no stars can make."""
        bad = find_outliers(self.broadened, self.flux, self.variance, self.level, library, sigma)
        if not bad.any():
            return self
        kept = ~bad
        camera = tuple(c for c, keep in zip(self.camera, kept.tolist(), strict=True) if keep)
        wave, flux, variance, level = (a[kept] for a in (self.wave, self.flux, self.variance, self.level))
        return _Pixels(self.operator[kept], wave, flux, variance, level, camera, self.wave[bad], self.dispersion)


class _Bands(NamedTuple):
    """Bands that are fitted, before the noise model."""

    weights: FloatArray
    names: tuple[str, ...]
    flux: FloatArray
    variance: FloatArray
    floor: FloatArray

    @classmethod
    def empty(cls, n_wave: int) -> _Bands:
        return cls(np.zeros((0, n_wave)), (), np.zeros(0), np.zeros(0), np.zeros(0))


def _pixels(observation: Observation, options: ObservingOptions, library: SSPLibrary) -> _Pixels | None:
    """Pixels see the library's own light alone: what is borrowed is too coarse for spectra."""
    pieces = []
    wave_model, lines = library.own_wave * (1 + observation.redshift), library.line_nodes - library.borrowed
    free, library_aa = fits_dispersion(observation, options), None
    if options.library_width == "subtracted" and not free:
        library_aa = library_sigma(library)[library.borrowed :] * (1 + observation.redshift)
    for spectrum in sorted(observation.spectra, key=lambda s: s.wave[0]):
        good = (spectrum.ivar > 0) & ~masked_pixels(observation, spectrum.wave, options)
        if options.red_end_aa is not None:
            good &= spectrum.wave <= options.red_end_aa * (1 + observation.redshift)
        if spectrum.resolution is not None:
            good &= spectrum.resolution.sum(axis=0) > 0
        if not good.any():
            continue
        level = smooth_flux(spectrum.flux, np.where(good, spectrum.ivar, 0.0))[good]
        vdisp = unbroadened_kms(wave_model, spectrum.wave) if free else dispersion_kms(observation, options)
        operator = camera_operator(spectrum, wave_model, vdisp, lines, options.gas_vdisp_kms, library_aa)[good]
        if library.borrowed:
            operator = sparse.hstack([sparse.csr_matrix((operator.shape[0], library.borrowed)), operator]).tocsr()
        names = (spectrum.camera,) * int(good.sum())
        pieces.append((operator, spectrum.wave[good], spectrum.flux[good], 1 / spectrum.ivar[good], level, names))
    if not pieces:
        return None
    operators, *columns, names = zip(*pieces, strict=True)
    wave, flux, variance, level = (np.concatenate(c) for c in columns)
    camera = tuple(n for group in names for n in group)
    operator, dispersion = sparse.vstack(operators).tocsr(), None
    if free:
        dispersion = allowed_dispersions(operator, flux, variance, level, dispersion_table(library, options))
    return _Pixels(operator, wave, flux, variance, level, camera, np.zeros(0), dispersion)


def _bands(observation: Observation, wave_model: FloatArray) -> _Bands | None:
    phot = observation.photometry
    if phot is None or phot.n_valid == 0:
        return None
    good = np.flatnonzero(phot.ivar > 0)
    names = tuple(phot.bands[i] for i in good)
    try:
        for band in names:
            load_filter(band)
    except InputError as err:
        raise UnusableTargetError(f"TARGETID {observation.targetid}: {err}", Status.INPUT_ERROR) from err
    covered = [i for i, b in enumerate(names) if _covers(b, wave_model)]
    if covered or observation.spectra:  # the bands that the model does not reach are left out: `bands_left_out`
        good, names = good[covered], tuple(names[i] for i in covered)
    if not names:
        return None
    weights = np.array([band_weights(b, wave_model) for b in names])
    floor = np.full(len(phot.bands), np.nan) if phot.floor is None else phot.floor
    return _Bands(weights, names, phot.flux[good], 1 / phot.ivar[good], floor[good])


def _covers(band: str, wave_model: FloatArray) -> bool:
    return missing_fraction(band, wave_model[0], wave_model[-1]) <= MISSING_TOLERANCE


def needs_ultraviolet(observation: Observation, wave: FloatArray) -> bool:
    """Whether a measured band is reached by a library that is continued into the ultraviolet, and not by itself.

    Parameters
    ----------
    observation
        The galaxy.
    wave
        ``(nwave,)`` rest-frame wavelengths of the library, Angstrom.

    Returns
    -------
    bool
        False where the library's red end keeps a band out.
    """
    if observation.photometry is None:
        return False
    z, below = observation.redshift, UltravioletShapes.default().wave
    for band, ivar in zip(observation.photometry.bands, observation.photometry.ivar, strict=True):
        try:
            load_filter(band)
        except InputError:  # `project` says what is wrong
            continue
        own, longer = wave * (1 + z), np.array([below[0], wave[-1]]) * (1 + z)
        if ivar > 0 and not _covers(band, own) and _covers(band, longer):
            return True
    return False


def bands_left_out(observation: Observation, projection: Projection) -> str:
    """Which measured bands of a galaxy are not fitted because the model does not reach them; empty for none.

    Parameters
    ----------
    observation
        The galaxy.
    projection
        Its projection.

    Returns
    -------
    str
        Names them, with the fraction of their response that lies beyond the model.
    """
    if observation.photometry is None:
        return ""
    fitted = projection.photometry.bands if projection.photometry is not None else ()
    measured = [b for b, w in zip(observation.photometry.bands, observation.photometry.ivar, strict=True) if w > 0]
    low, high = float(projection.wave_model[0]), float(projection.wave_model[-1])
    out = [f"{b} ({missing_fraction(b, low, high):.0%} of it)" for b in measured if b not in fitted]
    return f"not fitted, beyond the model's {low:.0f}-{high:.0f} A: {', '.join(out)}" if out else ""
