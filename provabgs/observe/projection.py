"""The projection of the model onto one galaxy's data: everything that is fixed once the galaxy is given.

At a known redshift all of observing is linear in the rest-frame spectrum: luminosity distance, velocity dispersion,
pixel averaging, resolution matrix, filters, masks, weights. `project` computes these operators once, in float64; the
exact likelihood applies them to spectra, the compressed one reduces them further.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize, sparse

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import SPECTRUM_UNIT
from provabgs.core.errors import InputError, UnusableTargetError
from provabgs.core.status import Status
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.filters import band_weights, effective_wavelength, load_filter
from provabgs.observe.linespread import resolution_matrix, spread_matrix, velocity_sigma
from provabgs.observe.masks import emission_line_mask
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.sps.library import SSPLibrary

SMOOTHING_PIXELS = 101
"""Window over which the spectrum is averaged to set its noise floor and calibration templates."""
INFRARED_AA = 2.5e4
"""Effective wavelength from which a band takes the infrared noise floor."""
FLOOR_OPTICAL, FLOOR_INFRARED = 0.02, 0.05
"""Noise floors, fractions of the flux, of bands whose survey and whose fit say nothing of them."""


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
    """``(npix,)`` with the noise floor added."""
    camera: tuple[str, ...]
    """``(npix,)`` camera names."""
    templates: FloatArray
    """``(npix, ntemplate)`` additive nuisance templates (calibration, lines), scaled to unit prior sigma."""


@dataclass(frozen=True, eq=False)
class PhotometryProjection:
    """Bands that enter the likelihood."""

    operator: FloatArray
    """``(nband, nwave)`` from f_lambda at the model's nodes (1e-17 erg/s/cm2/A) to nanomaggies."""
    bands: tuple[str, ...]
    flux: FloatArray
    """``(nband,)`` nanomaggies."""
    ivar: FloatArray
    """``(nband,)`` with the noise floor added."""


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
    """

    redshift: float
    t_age: float
    flux_factor: float
    wave_model: FloatArray
    spectrum: SpectrumProjection | None
    photometry: PhotometryProjection | None
    fiber_fraction: tuple[float, float] | None

    @property
    def n_data(self) -> tuple[int, int]:
        """Numbers of pixels and of bands in the likelihood."""
        return (
            self.spectrum.flux.size if self.spectrum else 0,
            self.photometry.flux.size if self.photometry else 0,
        )


def project(observation: Observation, library: SSPLibrary, options: ObservingOptions | None = None) -> Projection:
    """Compute the operators of one galaxy.

    Raises
    ------
    UnusableTargetError
        When the redshift is outside (0, z_max], a band is unknown, a band or pixel lies beyond the library, or masks
        leave nothing to fit.
    """
    options = options or ObservingOptions()
    z = observation.redshift
    if z > options.z_max:
        raise UnusableTargetError(
            f"TARGETID {observation.targetid}: redshift {z:g} is beyond z_max = {options.z_max:g}; raise z_max if the "
            "SSP library covers the spectrum there, or leave this target out",
            Status.REDSHIFT_OUT_OF_RANGE,
        )
    cosmology = Cosmology(options.cosmology)
    distance = cosmology.luminosity_distance_cm(z)
    wave_model = library.wave * (1 + z)
    try:
        spectrum = _project_spectrum(observation, wave_model, options, library.line_nodes)
        photometry = _project_photometry(observation, wave_model, options)
    except UnusableTargetError:
        raise
    except InputError as err:
        raise UnusableTargetError(
            f"TARGETID {observation.targetid} at z = {z:g}: {err}", Status.REDSHIFT_OUT_OF_RANGE
        ) from err
    if spectrum is None and photometry is None:
        raise UnusableTargetError(
            f"TARGETID {observation.targetid}: masks leave no pixel and no band to fit; widen the data or narrow "
            "line_mask_half_width_aa",
            Status.NO_VALID_PIXELS,
        )
    return Projection(
        redshift=z,
        t_age=cosmology.age_gyr(z),
        flux_factor=library.lsun_cgs / (4 * np.pi * distance**2) / (1 + z) / SPECTRUM_UNIT,
        wave_model=wave_model,
        spectrum=spectrum,
        photometry=photometry,
        fiber_fraction=observation.fiber_fraction,
    )


def camera_operator(
    spectrum: Spectrum,
    wave_model: FloatArray,
    vdisp_kms: float,
    line_nodes: NDArray[np.int64] | None = None,
    gas_vdisp_kms: float | None = None,
) -> sparse.csr_matrix:
    """Operator of one camera, all its pixels: velocity dispersion, pixel average, resolution; ``(npix, nwave)``.

    Light on `line_nodes` is broadened by the gas's dispersion, where one is given. (So are the stars there: over the
    1e-6 of a wavelength that such a node covers, 0.1 % of their light in a line's core moves by a pixel or two.)
    """
    sigma_aa = spectrum.sigma_aa if spectrum.resolution is None else 0.0
    matrix = spread_matrix(wave_model, spectrum.wave, velocity_sigma(spectrum.wave, vdisp_kms, sigma_aa))
    if line_nodes is not None and line_nodes.size and gas_vdisp_kms is not None:
        gas = spread_matrix(wave_model, spectrum.wave, velocity_sigma(spectrum.wave, gas_vdisp_kms, sigma_aa))
        of_gas = np.zeros(wave_model.size)
        of_gas[line_nodes] = 1.0
        matrix = (matrix + (gas - matrix) @ sparse.diags(of_gas)).tocsr()
    if spectrum.resolution is None:
        return matrix
    return (resolution_matrix(spectrum.resolution) @ matrix).tocsr()


def _project_spectrum(
    observation: Observation, wave_model: FloatArray, options: ObservingOptions, line_nodes: NDArray[np.int64]
) -> SpectrumProjection | None:
    pieces = []
    for spectrum in sorted(observation.spectra, key=lambda s: s.wave[0]):
        masked = emission_line_mask(
            spectrum.wave, observation.redshift, options.line_mask, options.line_mask_half_width_aa
        )
        good = (spectrum.ivar > 0) & ~masked
        if spectrum.resolution is not None:
            good &= spectrum.resolution.sum(axis=0) > 0
        if not good.any():
            continue
        smooth = smooth_flux(spectrum, good)
        variance = 1 / np.where(good, spectrum.ivar, 1.0) + (options.floor_spectrum * smooth) ** 2
        operator = camera_operator(spectrum, wave_model, options.vdisp_kms, line_nodes, options.gas_vdisp_kms)[good]
        names = (spectrum.camera,) * int(good.sum())
        pieces.append((operator, spectrum.wave[good], spectrum.flux[good], 1 / variance[good], names, smooth[good]))
    if not pieces:
        return None
    operators, *columns, names, smooths = zip(*pieces, strict=True)
    wave, flux, ivar = (np.concatenate(c) for c in columns)
    operator = sparse.vstack(operators).tocsr()
    templates = calibration_templates(wave, np.concatenate(smooths), options)
    if line_nodes.size:
        lines = observed_lines(flux, ivar, operator[:, line_nodes].toarray())
        ivar = 1 / (1 / ivar + (options.floor_line * lines.sum(axis=1)) ** 2)
        if options.line_scatter > 0:
            templates = np.hstack([templates, options.line_scatter * lines])
    return SpectrumProjection(operator, wave, flux, ivar, tuple(n for group in names for n in group), templates)


def smooth_flux(spectrum: Spectrum, good: NDArray[np.bool_]) -> FloatArray:
    """Inverse-variance weighted running mean of the good pixels, ``(npix,)``: the level that noise floors refer to."""
    ivar = np.where(good, spectrum.ivar, 0.0)
    weighted = ndimage.uniform_filter1d(spectrum.flux * ivar, SMOOTHING_PIXELS, mode="nearest")
    weight = ndimage.uniform_filter1d(ivar, SMOOTHING_PIXELS, mode="nearest")
    return np.divide(weighted, weight, out=np.zeros_like(weighted), where=weight > 0)


def observed_lines(flux: FloatArray, ivar: FloatArray, profiles: FloatArray) -> FloatArray:
    """The emission lines that a spectrum shows, each with its own flux; ``(npix, nfound)``.

    The model's line ratios are good to tens of per cent and its profiles to a few, spectra of bright lines to one per
    cent: each line's flux is left free to differ from the model's (a template each), and the noise floor rises with the
    line. As with the calibration, such relative errors are linearised about the data: fluxes are those of a
    non-negative fit of all profiles ``(npix, nline)`` to the spectrum above its running median.
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


def calibration_templates(wave: FloatArray, level: FloatArray, options: ObservingOptions) -> FloatArray:
    """Templates of a low-order flux-calibration error, ``(npix, ntemplate)``, each at one prior sigma.

    A multiplicative error ``1 + sum_k c_k P_k(x)`` (Legendre, x in [-1, 1] over the whole spectrum) is linearised about
    the smoothed data, so that the coefficients can be marginalised analytically in every likelihood path.
    """
    if options.calibration_order is None:
        return np.zeros((wave.size, 0))
    x = 2 * (wave - wave.min()) / max(np.ptp(wave), 1.0) - 1
    legendre = np.polynomial.legendre.legvander(x, options.calibration_order)
    return options.calibration_sigma * level[:, None] * legendre


def _project_photometry(
    observation: Observation, wave_model: FloatArray, options: ObservingOptions
) -> PhotometryProjection | None:
    phot = observation.photometry
    if phot is None or phot.n_valid == 0:
        return None
    good = np.flatnonzero(phot.ivar > 0)
    bands = tuple(phot.bands[i] for i in good)
    try:
        for band in bands:
            load_filter(band)
    except InputError as err:
        raise UnusableTargetError(f"TARGETID {observation.targetid}: {err}", Status.INPUT_ERROR) from err
    floor = band_floors(phot, options, good)
    flux = phot.flux[good]
    variance = 1 / phot.ivar[good] + (floor * flux) ** 2
    operator = np.array([band_weights(b, wave_model) for b in bands])
    return PhotometryProjection(operator, bands, flux, 1 / variance)


def band_floors(photometry: Photometry, options: ObservingOptions, index: NDArray[np.intp]) -> FloatArray:
    """Noise floors of some bands: those of the fit's options, else of the survey, else the defaults.

    Parameters
    ----------
    photometry
        Bands, with the floors of the survey where it has any.
    options
        ``floor_optical`` and ``floor_infrared`` overrule the survey where they are given.
    index
        ``(n,)`` positions of bands with known filters.

    Returns
    -------
    numpy.ndarray
        ``(n,)`` fractions of the flux.
    """
    infrared = np.array([effective_wavelength(photometry.bands[i]) > INFRARED_AA for i in index], dtype=bool)
    survey = np.full(len(index), np.nan) if photometry.floor is None else photometry.floor[index]
    floor = np.where(np.isnan(survey), np.where(infrared, FLOOR_INFRARED, FLOOR_OPTICAL), survey)
    for chosen, where in ((options.floor_optical, ~infrared), (options.floor_infrared, infrared)):
        if chosen is not None:
            floor = np.where(where, chosen, floor)
    return floor
