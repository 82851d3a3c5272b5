"""chi^2 marginalised over the noise model's templates, which may touch pixels and bands together.

With residuals r_s of whitened pixels and r_b of bands, templates N_s and N_b of one coefficient vector of unit prior,
the marginal chi^2 of the spectrum is ``|r_s|^2 - |L^-1 N_s^T r_s|^2`` with ``L L^T = I + N_s^T N_s``. Given the
spectrum, the bands are Gaussian about ``K r_s``, ``K = N_b (L L^T)^-1 N_s^T``, with covariance
``C = V_b + N_b (L L^T)^-1 N_b^T``; the two parts add up to the joint chi^2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import linalg

from provabgs.core.arrays import BoolArray, FloatArray
from provabgs.observe.projection import Projection


class BandCoupling(NamedTuple):
    """What templates that touch bands do to the photometry's chi^2."""

    from_pixels: FloatArray | None
    """``(nband, npix)`` from residuals of pixels to expected residuals of bands; None where there is no spectrum, or
    no template touches both."""
    whiten: FloatArray
    """``(nband, nband)`` inverse Cholesky factor of the bands' covariance given the spectrum."""


def band_coupling(projection: Projection) -> BandCoupling | None:
    """The coupling of a galaxy's bands to its spectrum.

    Parameters
    ----------
    projection
        With the noise model's templates.

    Returns
    -------
    BandCoupling or None
        None where no template touches a band: bands are then independent.
    """
    bands, spectrum = projection.photometry, projection.spectrum
    if bands is None or not np.any(bands.templates):
        return None
    n_b, from_pixels = bands.templates, None
    covariance = np.eye(n_b.shape[1])
    if spectrum is not None:
        covariance = spectrum.coefficient_covariance
        both = np.any(bands.templates, axis=0) & np.any(spectrum.templates, axis=0)
        if both.any():
            from_pixels = n_b @ covariance @ (spectrum.templates * spectrum.ivar[:, None]).T
    total = np.diag(1 / bands.ivar) + n_b @ covariance @ n_b.T
    factor = linalg.cholesky(total, lower=True)
    return BandCoupling(from_pixels, linalg.solve_triangular(factor, np.eye(len(total)), lower=True))


def spectrum_chi2(residual: Any, ivar: Any, templates: Any, template_cov: Any) -> Any:
    """chi^2 ``(batch,)`` of the spectrum: r^T W r - (N^T W r)^T (I + N^T W N)^-1 (N^T W r).

    Parameters
    ----------
    residual
        ``(batch, npix)`` data minus model.
    ivar
        ``(npix,)``.
    templates
        ``(npix, ntemplate)``.
    template_cov
        Posterior covariance of the templates' coefficients.

    Returns
    -------
    array
        Of NumPy or JAX, as the arguments are.
    """
    weighted = ivar * residual
    projected = weighted @ templates
    return (weighted * residual).sum(axis=1) - ((projected @ template_cov) * projected).sum(axis=1)


def template_coefficients(
    projection: Projection, pixels: FloatArray | None, bands: FloatArray | None, fitted: BoolArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Posterior mean and covariance of the templates' coefficients, given pixels and bands together.

    Parameters
    ----------
    projection
        The galaxy.
    pixels, bands
        ``(n, npix)`` and ``(n, nband)`` residuals, data minus model; None where there are no such data.
    fitted
        ``(npix,)`` pixels that count; all when None.

    Returns
    -------
    mean
        ``(n, ntemplate)`` in prior sigmas. Where the model is right, its covariance is 1 minus `covariance`.
    covariance
        ``(ntemplate, ntemplate)``.
    """
    n = len(projection.template_terms)
    normal, right = np.eye(n), np.zeros((1, n))
    for side, residual, use in ((projection.spectrum, pixels, fitted), (projection.photometry, bands, None)):
        if side is not None and residual is not None:
            weighted = side.templates * np.where(True if use is None else use, side.ivar, 0.0)[:, None]
            normal = normal + side.templates.T @ weighted
            right = right + residual @ weighted
    covariance = np.asarray(np.linalg.inv(normal), dtype=np.float64)
    return right @ covariance, covariance


def bands_chi2(residual: Any, ivar: Any, coupling: BandCoupling | None, pixels: Any = None) -> Any:
    """chi^2 ``(batch,)`` of the bands, given the spectrum where templates touch both.

    Parameters
    ----------
    residual
        ``(batch, nband)`` data minus model.
    ivar
        ``(nband,)``.
    coupling
        From `band_coupling`.
    pixels
        ``(batch, npix)`` residuals of the spectrum; read where the coupling asks for them.

    Returns
    -------
    array
        Of NumPy or JAX.
    """
    if coupling is None:
        return (ivar * residual**2).sum(axis=1)
    if coupling.from_pixels is not None:
        residual = residual - pixels @ coupling.from_pixels.T
    return ((residual @ coupling.whiten.T) ** 2).sum(axis=1)


def chi2_of(
    projection: Projection, pixels: FloatArray | None, bands: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """chi^2 of predicted pixels and bands apart; their sum is the joint one.

    Parameters
    ----------
    projection
        The galaxy.
    pixels, bands
        ``(n, npix)`` and ``(n, nband)`` model; None where there are no such data.

    Returns
    -------
    spectrum, photometry
        Each ``(n,)``; 0 where there are no data.
    """
    n = len(pixels if pixels is not None else bands if bands is not None else [])
    spectrum, photometry = projection.spectrum, projection.photometry
    spec, phot, residual = np.zeros(n), np.zeros(n), None
    if pixels is not None and spectrum is not None:
        residual = spectrum.flux - pixels
        cov = spectrum.coefficient_covariance
        spec = spectrum_chi2(residual, spectrum.ivar, spectrum.templates, cov)
    if bands is not None and photometry is not None:
        phot = bands_chi2(photometry.flux - bands, photometry.ivar, band_coupling(projection), residual)
    return spec, phot
