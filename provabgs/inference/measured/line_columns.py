"""Columns of emission lines, and the star-formation rate that H alpha gives.

The rate is that of Kennicutt & Evans (2012, ARA&A 50, 531): log SFR = log L(H alpha) - 41.27 for Kroupa's IMF, times
0.63 / 0.67 for Chabrier's (Madau & Dickinson 2014, ARA&A 52, 415), the IMF of the masses. H alpha is corrected for dust
by the Balmer decrement: intrinsic H alpha / H beta of 2.86 (case B, 1e4 K), extinction curve of Cardelli, Clayton &
Mathis (1989, ApJ 345, 245) with R_V = 3.1. Its luminosity is that of the fiber over f_fiber: the whole galaxy's if
lines and continuum have one shape. Nothing tells an active nucleus from young stars.
"""

from __future__ import annotations

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import SPECTRUM_UNIT
from provabgs.core.identity import stream_of
from provabgs.inference.measured.continuum import continua
from provabgs.inference.measured.line_quantities import (
    EBV_BALMER,
    LINE_SHIFT,
    LINE_SIGMA,
    LINES,
    LOGSFR_HALPHA,
    ew_of,
    flux_of,
)
from provabgs.inference.measured.lines import Kinematics, Line, measure_lines, ranges
from provabgs.inference.measured.quantity import QUANTILES, Measured, quantiles_of
from provabgs.inference.measured.spectra import Spectra
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation

INTRINSIC_RATIO = 2.86
K_HALPHA, K_HBETA = 2.53, 3.61
"""A(lambda) / E(B - V) of Cardelli et al. (1989, equations 3a and 3b) at 6564.6 and 4862.7 A, R_V = 3.1."""
LOG_SFR_PER_LUMINOSITY = -41.27 + np.log10(0.63 / 0.67)
"""Msun/yr per erg/s of H alpha, Chabrier IMF."""
LEAST_SNR = 3.0
"""Of H alpha and of H beta, for a rate."""
PER_DRAW = 8
"""Noise realisations for each draw of the continuum."""


def line_columns(posterior: Posterior, observation: Observation, spectra: Spectra) -> dict[Measured, FloatArray]:
    """Everything that emission lines give.

    Parameters
    ----------
    posterior
        Of the galaxy; gives the random stream.
    observation
        The data that were fitted.
    spectra
        Draws of one fit.

    Returns
    -------
    dict
        Values by quantity; all NaN for a fit without a spectrum.
    """
    if not observation.spectra or spectra.config.use == "photometry":
        return _table({}, Kinematics(np.nan, np.nan), None, None)
    under, f_fiber = continua(posterior, observation, spectra, ranges())
    lines, kinematics = measure_lines(under)
    rng = np.random.default_rng([posterior.seed, stream_of(posterior.targetid, posterior.data_hash) & (2**64 - 1), 2])
    ebv, log_sfr = star_formation(lines, f_fiber, spectra.distance_cm, rng)
    return _table(lines, kinematics, ebv, log_sfr)


def star_formation(
    lines: dict[str, Line], f_fiber: FloatArray, distance_cm: float, rng: np.random.Generator
) -> tuple[FloatArray | None, FloatArray | None]:
    """Reddening and star-formation rate of draws.

    Parameters
    ----------
    lines
        Measured lines by name.
    f_fiber
        ``(ndraw,)`` fraction of the light in the fiber.
    distance_cm
        Luminosity distance, cm.
    rng
        Of the pixels' noise.

    Returns
    -------
    ebv, log_sfr
        ``(n,)`` mag, and log10 of Msun/yr; None where a line is absent or below 3 sigma. A ratio below the intrinsic
        one counts as no dust.
    """
    alpha, beta = lines.get("HALPHA"), lines.get("HBETA")
    if alpha is None or beta is None or min(alpha.flux / alpha.flux_err, beta.flux / beta.flux_err) < LEAST_SNR:
        return None, None
    fiber = np.repeat(f_fiber, PER_DRAW)
    fluxes = [np.repeat(x.draws, PER_DRAW) + x.pixel_error * rng.standard_normal(fiber.size) for x in (alpha, beta)]
    floor = [0.01 * x.flux for x in (alpha, beta)]  # a draw's noise may exceed its line
    f_alpha, f_beta = (np.maximum(f, least) for f, least in zip(fluxes, floor, strict=True))
    ebv = np.maximum(2.5 / (K_HBETA - K_HALPHA) * np.log10(f_alpha / f_beta / INTRINSIC_RATIO), 0.0)
    luminosity = 4 * np.pi * distance_cm**2 * SPECTRUM_UNIT * f_alpha / fiber
    return ebv, np.log10(luminosity) + 0.4 * K_HALPHA * ebv + LOG_SFR_PER_LUMINOSITY


def _table(
    lines: dict[str, Line], kinematics: Kinematics, ebv: FloatArray | None, log_sfr: FloatArray | None
) -> dict[Measured, FloatArray]:
    out: dict[Measured, FloatArray] = {}
    none = np.full(2, np.nan)
    for name in LINES:
        line = lines.get(name)
        out[flux_of(name)] = none if line is None else np.array([line.flux, line.flux_err])
        out[ew_of(name)] = none if line is None else np.array([line.ew, line.ew_err])
    out[LINE_SIGMA], out[LINE_SHIFT] = np.array([kinematics.sigma]), np.array([kinematics.shift])
    for quantity, draws in ((EBV_BALMER, ebv), (LOGSFR_HALPHA, log_sfr)):
        out[quantity] = np.full(len(QUANTILES), np.nan) if draws is None else quantiles_of(draws)
    return out
