"""chi^2 of a spectrum in bins of neighbouring pixels.

Resampled pixels share noise with their neighbours, and so do errors of stellar libraries, which the noise model counts
as larger errors of single pixels. chi^2 of single pixels is then too small, and hides what bins show. A bin is the
inverse-variance mean of pixels. Where pixels have covariance ``W^-1 + N N^T``, bins have one of the same form, with
summed inverse variances and binned templates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from provabgs.core.arrays import FloatArray, IntArray
from provabgs.inference.likelihood.marginal import spectrum_chi2
from provabgs.observe.noise import template_covariance
from provabgs.observe.projection import SpectrumProjection

BIN_PIXELS = 8
"""Good pixels of a bin: 6 A for DESI, 550 km/s for SDSS. Noise that resampled pixels share is spent within four pixels;
errors of stellar libraries are as wide as a galaxy's lines, and the noise model's floor is made for this width."""


def bin_starts(camera: Sequence[str], size: int = BIN_PIXELS) -> IntArray:
    """First pixel of each bin; no bin holds pixels of two cameras.

    Parameters
    ----------
    camera
        Of each pixel; pixels of a camera stand together.
    size
        Pixels of a bin; the last of a camera may have fewer.

    Returns
    -------
    numpy.ndarray
        ``(nbin,)``.
    """
    names = np.asarray(camera)
    first = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    ends = np.append(first[1:], names.size)
    return np.concatenate([np.arange(a, b, size) for a, b in zip(first, ends, strict=True)])


def binned_chi2(data: SpectrumProjection, residuals: FloatArray, size: int = BIN_PIXELS) -> tuple[FloatArray, int]:
    """chi^2 of binned residuals, marginalised over the noise model's templates.

    Parameters
    ----------
    data
        Pixels, errors and templates of a galaxy.
    residuals
        ``(n, npix)`` data minus model.
    size
        Pixels of a bin.

    Returns
    -------
    chi2, n_bin
        ``(n,)``, and their degrees of freedom: at the true parameters chi2 has the chi^2 distribution.
    """
    starts = bin_starts(data.camera, size)
    ivar = np.add.reduceat(data.ivar, starts)
    binned = np.add.reduceat(data.ivar * residuals, starts, axis=1) / ivar
    templates = np.add.reduceat(data.ivar[:, None] * data.templates, starts, axis=0) / ivar[:, None]
    chi2 = spectrum_chi2(binned, ivar, templates, template_covariance(templates, ivar))
    return np.asarray(chi2, dtype=np.float64), starts.size
