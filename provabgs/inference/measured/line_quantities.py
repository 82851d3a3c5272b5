"""The strong emission lines, and the columns that they have."""

from __future__ import annotations

from provabgs.inference.measured.quantity import VALUE_ERROR, Measured

LINES: dict[str, tuple[float, ...]] = {
    "OII_3727": (3727.09, 3729.88),
    "HBETA": (4862.68,),
    "OIII_4959": (4960.30,),
    "OIII_5007": (5008.24,),
    "NII_6548": (6549.86,),
    "HALPHA": (6564.61,),
    "NII_6584": (6585.27,),
    "SII_6716": (6718.29,),
    "SII_6731": (6732.67,),
}
"""Names as in FastSpecFit's tables, and vacuum wavelengths, Angstrom (NIST); [O II] is the sum of its two lines."""
_TEXT = {name: name.replace("_", " ") for name in LINES}
_NULL = "no usable pixels cover 80 % of the line, or no spectrum was fitted"


def flux_of(name: str) -> Measured:
    """Flux of one of `LINES`."""
    return Measured(
        f"{name.lower()}_flux", f"{name}_FLUX", rf"F_{{\rm {_TEXT[name]}}}", "1e-17 erg / (s cm2)",
        f"flux of {_TEXT[name]} above the posterior's continuum, in the fiber, corrected for Galactic dust",
        suffixes=VALUE_ERROR, null=_NULL, ucd="phot.flux;spect.line",
    )  # fmt: skip


def ew_of(name: str) -> Measured:
    """Equivalent width of one of `LINES`."""
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


def line_quantities() -> tuple[Measured, ...]:
    """All that emission lines give, in the order of columns."""
    of_lines = (q for name in LINES for q in (flux_of(name), ew_of(name)))
    return (*of_lines, LINE_SIGMA, LINE_SHIFT, EBV_BALMER, LOGSFR_HALPHA)
