"""Magnitudes, colours, k-corrections and luminosities of the draws of a posterior."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.inference.measured.quantity import Drawn, Measured
from provabgs.inference.measured.spectra import Spectra
from provabgs.observe.absolute import (
    SOLAR_MAGNITUDES,
    absolute_weights,
    distance_modulus,
    log_nu_luminosity,
    magnitude,
    uncovered,
)
from provabgs.observe.filters import MISSING_TOLERANCE, band_weights
from provabgs.sps.model import SPSModel

REST_BANDS: tuple[str, ...] = (
    "galex-fuv", "galex-nuv", "bessell-U", "bessell-V", "twomass-J", "sdss2010-u", "sdss2010-g", "sdss2010-r",
    "sdss2010-i", "sdss2010-z", "decam2014-g", "decam2014-r", "decam2014-z",
)  # fmt: skip
"""Bands of rest-frame absolute magnitudes."""
SHIFTED_BANDS: tuple[str, ...] = ("sdss2010-u", "sdss2010-g", "sdss2010-r", "sdss2010-i", "sdss2010-z")
"""Bands of absolute magnitudes that are band-shifted."""
COLOURS: tuple[tuple[str, str, str], ...] = (
    ("NUV_R", "galex-nuv", "sdss2010-r"),
    ("U_V", "bessell-U", "bessell-V"),
    ("V_J", "bessell-V", "twomass-J"),
)
LUMINOSITIES_AA: tuple[float, ...] = (1500.0, 2800.0, 5100.0)
_SHORT = {"sdss2010": "SDSS", "decam2014": "DECAM", "bessell": "BESSELL", "twomass": "2MASS", "galex": "GALEX"}


def column_of(band: str) -> str:
    """A filter's name as it stands in a column: ``sdss2010-r`` is SDSS_R, ``wise2010-W1`` is WISE2010_W1."""
    group, _, letter = band.rpartition("-")
    return re.sub(r"[^A-Z0-9]+", "_", f"{_SHORT.get(group, group)}_{letter}".upper()).strip("_")


def light(spectra: Spectra, bands: Iterable[str], shift: float, log_mass: FloatArray | None) -> list[Drawn]:
    """All that follows from whole spectra.

    Parameters
    ----------
    spectra
        Of the draws.
    bands
        Filters in which the galaxy was observed.
    shift
        Redshift of band-shifted magnitudes and of k-corrections.
    log_mass
        ``(n,)`` log10 of the surviving mass of the same draws, Msun; None without mass-to-light ratios.

    Returns
    -------
    list of Drawn
        One value per draw.
    """
    rest = {b: _absolute(spectra, b, 0.0) for b in REST_BANDS}
    shifted = {b: _absolute(spectra, b, shift) for b in SHIFTED_BANDS}
    results = [Drawn(_absmag(b, 0.0, spectra), m) for b, m in rest.items()]
    results += [Drawn(_absmag(b, shift, spectra), m) for b, m in shifted.items()]
    results += _colours(rest, spectra)
    for band in bands:
        results += _observed(spectra, band, shift)
    results += [
        Drawn(_luminosity(at, spectra), log_nu_luminosity(spectra.all_wave, spectra.all_luminosity, at))
        for at in LUMINOSITIES_AA
    ]
    if log_mass is not None:
        results += [Drawn(_mass_to_light(b), log_mass - 0.4 * (sun - rest[b])) for b, sun in SOLAR_MAGNITUDES.items()]
    return results


def _absolute(spectra: Spectra, band: str, shift: float) -> FloatArray:
    """Absolute magnitudes ``(n,)``; NaN where the library does not reach the band."""
    weights, luminosity = _weights(spectra.model, None, band, shift), spectra.luminosity
    if weights is None and spectra.below is not None:
        weights, luminosity = _weights(spectra.model, spectra.below, band, shift), spectra.all_luminosity
    return np.full(len(luminosity), np.nan) if weights is None else magnitude(luminosity @ weights)


@lru_cache(maxsize=64)
def _weights(model: SPSModel, below: SPSModel | None, band: str, shift: float) -> FloatArray | None:
    """Weights on the wavelengths of a model, after those of the one below it."""
    wave = model.library.wave
    if below is not None:
        wave = np.concatenate([below.library.wave[: below.library.borrowed], wave])
    return absolute_weights(band, wave, model.library.lsun_cgs, shift)


def _observed(spectra: Spectra, band: str, shift: float) -> list[Drawn]:
    """Model magnitude in a band that was observed, and the k-correction from it."""
    wave, luminosity = spectra.wave, spectra.luminosity
    if uncovered(band, wave, spectra.redshift) > MISSING_TOLERANCE:
        wave, luminosity = spectra.all_wave, spectra.all_luminosity
    if uncovered(band, wave, spectra.redshift) <= MISSING_TOLERANCE:
        weights = band_weights(band, wave * (1 + spectra.redshift))
        apparent = magnitude(luminosity @ (weights * spectra.flux_factor))
    else:
        apparent = np.full(len(luminosity), np.nan)
    correction = apparent - distance_modulus(spectra.distance_cm) - _absolute(spectra, band, shift)
    name, null = column_of(band), "the library does not reach the band at the galaxy's redshift (MESSAGE says so)"
    tag = f"{round(10 * shift):02d}"
    return [
        Drawn(
            Measured(
                f"model_mag_{name.lower()}", f"MODEL_MAG_{name}", f"m_{{\\rm {name}}}".replace("_", r"\_", 0), "mag",
                f"model AB magnitude in {band}, whole galaxy, without Galactic extinction and noise templates",
                null=null, ucd="phot.mag",
            ),
            apparent,
        ),
        Drawn(
            Measured(
                f"kcorr{tag}_{name.lower()}", f"KCORR{tag}_{name}", f"K_{{{shift:g}}}", "mag",
                f"k-correction: observed magnitude in {band} - distance modulus - absolute magnitude in {band} shifted "
                f"to z = {shift:g}",
                null=f"{null}, or not at z = {shift:g}", ucd="phot.mag;arith.diff",
            ),
            correction,
        ),
    ]  # fmt: skip


def _absmag(band: str, shift: float, spectra: Spectra) -> Measured:
    """Absolute magnitude; says how much of a band the library lacks, if it does."""
    name, tag = column_of(band), f"{round(10 * shift):02d}"
    where = "rest frame" if shift == 0 else f"band shifted to z = {shift:g}"
    return Measured(
        f"absmag{tag}_{name.lower()}", f"ABSMAG{tag}_{name}", f"M^{{{shift:g}}}_{{{band.rpartition('-')[2]}}}", "mag",
        f"absolute AB magnitude in {band}, {where}, dust of the galaxy included{_borrowed((band,), shift, spectra)}",
        null=_beyond((band,), shift, spectra), ucd="phot.mag;phys.magAbs",
    )  # fmt: skip


def _beyond(bands: tuple[str, ...], shift: float, spectra: Spectra) -> str:
    wave = spectra.all_wave
    lost = max(uncovered(b, wave, shift) for b in bands)
    if lost <= MISSING_TOLERANCE:
        return "there are no draws"
    return f"always: {lost:.0%} of the band lies beyond the library's {wave[0]:.0f}-{wave[-1]:.0f} A"


def _borrowed(bands: tuple[str, ...], shift: float, spectra: Spectra) -> str:
    """What is to be said of a band part of which is another library's light; empty for nothing."""
    if spectra.below is None:
        return ""
    share = max(uncovered(b, spectra.wave, shift) - uncovered(b, spectra.all_wave, shift) for b in bands)
    if share <= MISSING_TOLERANCE:
        return ""
    return f"; {share:.0%} of the band below the library's {spectra.wave[0]:.0f} A, in BC03's shape"


def _colours(rest: dict[str, FloatArray], spectra: Spectra) -> list[Drawn]:
    out = []
    for name, blue, red in COLOURS:
        quantity = Measured(
            f"colour_{name.lower()}", f"COLOR_{name}", name.replace("_", " - "), "mag",
            f"rest-frame colour, {blue} - {red}, AB, dust of the galaxy included"
            f"{_borrowed((blue, red), 0.0, spectra).replace('the band', blue)}",
            null=_beyond((blue, red), 0.0, spectra), ucd="phot.color",
        )  # fmt: skip
        out.append(Drawn(quantity, rest[blue] - rest[red]))
    return out


def _luminosity(at_aa: float, spectra: Spectra) -> Measured:
    below = at_aa < spectra.wave[0] and spectra.below is not None
    shape = f"; below the library's {spectra.wave[0]:.0f} A, in BC03's shape" if below else ""
    return Measured(
        f"logl_{at_aa:.0f}", f"LOGL_{at_aa:.0f}", f"\\log \\nu L_\\nu({at_aa:.0f})", "dex(Lsun)",
        f"log10 of nu L_nu at {at_aa:.0f} A, rest frame, mean over 100 A, dust of the galaxy included"
        f"{shape}",
        null="the library does not reach the wavelength", ucd="phys.luminosity",
    )  # fmt: skip


def _mass_to_light(band: str) -> Measured:
    name = column_of(band)
    return Measured(
        f"logml_{name.lower()}", f"LOGML_{name}", f"\\log M_\\ast/L_{{{band.rpartition('-')[2]}}}", "dex(Msun / Lsun)",
        f"log10 of surviving mass over luminosity in {band}, solar units of the band, dust of the galaxy included",
        ucd="phys.mass;arith.ratio",
    )  # fmt: skip
