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
from provabgs.inference.measured.continuum import continua
from provabgs.inference.measured.lines import LINES, Kinematics, Line, measure_lines, ranges
from provabgs.inference.measured.quantity import QUANTILES, VALUE_ERROR, Measured, quantiles_of
from provabgs.inference.measured.spectra import Spectra
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation

INTRINSIC_RATIO = 2.86
K_HALPHA, K_HBETA = 2.53, 3.61
"""A(lambda) / E(B - V) of Cardelli et al. (1989)."""
LOG_SFR_PER_LUMINOSITY = -41.27 + np.log10(0.63 / 0.67)
"""Msun/yr per erg/s of H alpha, Chabrier IMF."""
LEAST_SNR = 3.0
"""Of H alpha and of H beta, for a rate."""
PER_DRAW = 8
"""Noise realisations for each draw of the continuum."""
_TEXT = {name: name.replace("_", " ") for name in LINES}
_NULL = "no usable pixels cover 80 % of the line, or no spectrum was fitted"


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
    rng = np.random.default_rng([posterior.seed, posterior.targetid & (2**64 - 1), 2])
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
        out[_flux(name)] = none if line is None else np.array([line.flux, line.flux_err])
        out[_ew(name)] = none if line is None else np.array([line.ew, line.ew_err])
    out[LINE_SIGMA], out[LINE_SHIFT] = np.array([kinematics.sigma]), np.array([kinematics.shift])
    for quantity, draws in ((EBV_BALMER, ebv), (LOGSFR_HALPHA, log_sfr)):
        out[quantity] = np.full(len(QUANTILES), np.nan) if draws is None else quantiles_of(draws)
    return out


def _flux(name: str) -> Measured:
    return Measured(
        f"{name.lower()}_flux", f"{name}_FLUX", rf"F_{{\rm {_TEXT[name]}}}", "1e-17 erg / (s cm2)",
        f"flux of {_TEXT[name]} above the posterior's continuum, in the fiber, corrected for Galactic dust",
        suffixes=VALUE_ERROR, null=_NULL, ucd="phot.flux;spect.line",
    )  # fmt: skip


def _ew(name: str) -> Measured:
    return Measured(
        f"{name.lower()}_ew", f"{name}_EW", rf"{{\rm EW}}_{{\rm {_TEXT[name]}}}", "Angstrom",
        f"equivalent width of {_TEXT[name]}, rest frame, positive in emission",
        suffixes=VALUE_ERROR, null=f"{_NULL}, or the continuum is below 3 sigma", ucd="spect.line.eqWidth",
    )  # fmt: skip


LINE_SIGMA = Measured(
    "line_sigma", "LINE_SIGMA", r"\sigma_{\rm lines}", "km / s", "velocity dispersion of the emission lines",
    suffixes=("",), null="no line is seen (chi^2 drops by less than 25); lines then have 100 km/s",
    ucd="spect.line.width",
)  # fmt: skip
LINE_SHIFT = Measured(
    "line_shift", "LINE_SHIFT", r"\Delta v_{\rm lines}", "km / s",
    "velocity of the emission lines with respect to the redshift", suffixes=("",),
    null="no line is seen; lines are then at the redshift", ucd="spect.dopplerVeloc.opt",
)  # fmt: skip
EBV_BALMER = Measured(
    "ebv_balmer", "EBV_BALMER", r"E(B-V)_{\rm Balmer}", "mag",
    "reddening of H alpha over H beta, from 2.86, curve of Cardelli et al. (1989); 0 where the ratio is below 2.86",
    null="H alpha or H beta is absent or below 3 sigma", ucd="phys.absorption;spect.line",
)  # fmt: skip
LOGSFR_HALPHA = Measured(
    "log_sfr_halpha", "LOGSFR_HALPHA", r"\log_{10} {\rm SFR}_{\rm H\alpha}", "dex(Msun / yr)",
    "log10 of the SFR from H alpha, Balmer decrement, over f_fiber (Kennicutt & Evans 2012, Chabrier IMF)",
    null="H alpha or H beta is absent or below 3 sigma", ucd="phys.SFR",
)  # fmt: skip
