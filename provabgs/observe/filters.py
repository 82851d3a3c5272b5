"""Filter curves, and the exact projection of a sampled spectrum onto a band.

Curves come from speclite, as in DESI's own software: ``decam2014-*``, ``BASS-*``, ``MzLS-*``, ``wise2010-*``,
``sdss2010-*``, ``galex-fuv``/``galex-nuv`` and every other group that speclite ships. What this module adds is the
weight vector of a band on a model's own wavelength grid, so that a band flux is one dot product.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import speclite.filters
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import C_AA, NANOMAGGY_CGS, SPECTRUM_UNIT
from provabgs.core.errors import InputError

BANDS_NORTH: tuple[str, ...] = ("BASS-g", "BASS-r", "MzLS-z", "wise2010-W1", "wise2010-W2")
"""Legacy Surveys bands at PHOTSYS N (BASS g, r and MzLS z)."""
BANDS_SOUTH: tuple[str, ...] = ("decam2014-g", "decam2014-r", "decam2014-z", "wise2010-W1", "wise2010-W2")
"""Legacy Surveys bands at PHOTSYS S (DECam)."""

MISSING_TOLERANCE = 1e-4
"""Share of a band's photon response that may lie outside the model's wavelengths before the band is refused."""

_GAUSS_NODE = 1.0 / np.sqrt(3.0)


class Filter(NamedTuple):
    """One filter curve.

    Attributes
    ----------
    name
        Canonical speclite name.
    wave
        ``(n,)`` wavelength, Angstrom, increasing.
    response
        ``(n,)`` photon response (dimensionless, any normalisation), >= 0, linear between the nodes.
    """

    name: str
    wave: FloatArray
    response: FloatArray


def bands_for(photsys: str) -> tuple[str, ...]:
    """The g, r, z, W1, W2 filters of one Legacy Surveys photometric system, ``"N"`` or ``"S"``."""
    system = str(photsys).strip().upper()
    if system == "N":
        return BANDS_NORTH
    if system == "S":
        return BANDS_SOUTH
    raise InputError(f"PHOTSYS {photsys!r} is not known; give 'N' (BASS + MzLS) or 'S' (DECam)")


def short_name(name: str) -> str:
    """The band's letter without its group: ``short_name("decam2014-g") == "g"``."""
    return name.rpartition("-")[2]


@lru_cache(maxsize=128)
def load_filter(name: str) -> Filter:
    """Read one filter curve by its speclite name (the letter case of the band is forgiven).

    Raises
    ------
    InputError
        When speclite has no such group or band; the message lists what there is.
    """
    groups = {str(g).lower(): str(g) for g in speclite.filters.filter_group_names}
    group, _, band = name.partition("-")
    if not band or group.lower() not in groups:
        raise InputError(
            f"filter {name!r} is not known; names are GROUP-BAND with GROUP one of {', '.join(sorted(groups.values()))}"
        )
    names = [str(n) for n in speclite.filters.load_filters(f"{groups[group.lower()]}-*").names]
    matches = [n for n in names if n == name] or [n for n in names if n.lower() == name.lower()]
    if not matches:
        raise InputError(f"filter {name!r} is not known; this group has {', '.join(names)}")
    raw = speclite.filters.load_filter(matches[0])
    wave = np.array(raw.wavelength, dtype=np.float64)
    response = np.clip(np.array(raw.response, dtype=np.float64), 0.0, None)
    wave.setflags(write=False)
    response.setflags(write=False)
    return Filter(matches[0], wave, response)


def _cumulative_ab(curve: Filter) -> FloatArray:
    """Running integral of R / lambda over the curve, exact for the piecewise-linear R; shape of ``curve.wave``."""
    x0, x1 = curve.wave[:-1], curve.wave[1:]
    slope = np.diff(curve.response) / (x1 - x0)
    pieces = (curve.response[:-1] - slope * x0) * np.log(x1 / x0) + slope * (x1 - x0)
    return np.concatenate([[0.0], np.cumsum(pieces)])


def missing_fraction(name: str, wave_min: float, wave_max: float) -> float:
    """Share of the band's response (R/lambda, that is: for a spectrum flat in f_nu) outside [wave_min, wave_max]."""
    curve = load_filter(name)
    running = _cumulative_ab(curve)
    low, high = np.interp([wave_min, wave_max], curve.wave, running)
    return float(1.0 - max(high - low, 0.0) / running[-1])


def _check_coverage(curve: Filter, wave: FloatArray) -> None:
    """Refuse a model grid that is not increasing, or that leaves out a part of the band that matters."""
    if wave.ndim != 1 or wave.size < 2 or not np.all(np.isfinite(wave)) or not np.all(np.diff(wave) > 0):
        raise InputError(f"filter {curve.name}: model wavelengths must be one-dimensional, finite and increasing")
    missing = missing_fraction(curve.name, wave[0], wave[-1])
    if missing > MISSING_TOLERANCE:
        inside = curve.wave[curve.response > 1e-3 * curve.response.max()]
        raise InputError(
            f"filter {curve.name} ({inside[0]:.0f}-{inside[-1]:.0f} A) is not covered by the model's observed "
            f"wavelengths {wave[0]:.0f}-{wave[-1]:.0f} A ({missing:.2%} of its response lies outside); "
            "extend the model's range or leave this band out"
        )


def band_weights(name: str, wave_obs: ArrayLike) -> FloatArray:
    """Weights that turn a spectrum into its flux in one band by a dot product.

    The AB flux of a band with photon response R is
    ``int R lam f_lam dlam / int R (c / lam) f_0 dlam``, ``f_0`` = 3631 Jy. Both R and the model are taken as linear
    between their own nodes; on every interval of the union of the two grids the numerator's integrand is then a
    cubic, which two Gauss-Legendre nodes integrate exactly. Coarse and fine model grids therefore agree to the
    extent that the model itself is linear between its nodes, however narrow the filter's features are.

    Parameters
    ----------
    name
        Filter, see `load_filter`.
    wave_obs
        ``(npix,)`` observed wavelengths at which the model is sampled, Angstrom, increasing.

    Returns
    -------
    weights
        ``(npix,)``, such that ``weights @ f`` is in nanomaggies for ``f`` in 1e-17 erg/s/cm2/Angstrom. Zero outside
        the band.

    Raises
    ------
    InputError
        When more than `MISSING_TOLERANCE` of the response lies outside `wave_obs`, or the name is unknown.
    """
    curve = load_filter(name)
    wave = np.asarray(wave_obs, dtype=np.float64)
    _check_coverage(curve, wave)
    low, high = max(wave[0], curve.wave[0]), min(wave[-1], curve.wave[-1])
    nodes = np.unique(np.concatenate([wave, curve.wave]))
    nodes = nodes[(nodes >= low) & (nodes <= high)]
    half, centre = 0.5 * np.diff(nodes), 0.5 * (nodes[1:] + nodes[:-1])
    lam = np.concatenate([centre - _GAUSS_NODE * half, centre + _GAUSS_NODE * half])
    mass = np.concatenate([half, half]) * lam * np.interp(lam, curve.wave, curve.response)
    # Share each quadrature node between the two model pixels that bracket it (the model's hat functions).
    left = np.clip(np.searchsorted(wave, lam, side="right") - 1, 0, wave.size - 2)
    right_share = (lam - wave[left]) / (wave[left + 1] - wave[left])
    weights = np.bincount(left, mass * (1.0 - right_share), minlength=wave.size)
    weights += np.bincount(left + 1, mass * right_share, minlength=wave.size)
    one_nanomaggy = _cumulative_ab(curve)[-1] * C_AA * NANOMAGGY_CGS
    return weights * (SPECTRUM_UNIT / one_nanomaggy)


def effective_wavelength(name: str) -> float:
    """Photon-weighted mean wavelength, Angstrom, for a spectrum flat in f_nu: ``int R dlam / int (R / lam) dlam``.

    speclite's attribute of this name is for one flat in f_lambda and 1-2 % longer.
    """
    curve = load_filter(name)
    return float(np.trapezoid(curve.response, curve.wave) / _cumulative_ab(curve)[-1])


def is_legacy_band(name: str) -> tuple[str, str] | None:
    """``(band letter, PHOTSYS)`` of a Legacy Surveys or WISE filter (PHOTSYS ``""`` for WISE), else None."""
    match = re.fullmatch(r"(BASS|MzLS|decam2014|wise2010)-(\w+)", name)
    if match is None:
        return None
    system = {"BASS": "N", "MzLS": "N", "decam2014": "S", "wise2010": ""}[match.group(1)]
    return match.group(2), system
