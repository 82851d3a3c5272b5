"""Filter curves, and the exact projection of a sampled spectrum onto a band.

Curves come from speclite, as in DESI's own software: ``decam2014-*``, ``BASS-*``, ``MzLS-*``, ``wise2010-*``,
``sdss2010-*``, ``galex-fuv``/``galex-nuv`` and every other group that speclite ships. Others are given as arrays or
files (`FilterCurve`, `register_filter`, `provabgs.observe.curves.read_filter`). What this module adds is the weight
vector of a band on a model's own wavelength grid, so that a band flux is one dot product.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from provabgs.core.arrays import FloatArray
from provabgs.core.constants import C_AA, NANOMAGGY_CGS, SPECTRUM_UNIT
from provabgs.core.errors import InputError

MISSING_TOLERANCE = 1e-4
"""Fraction of a band's photon response that may lie outside the model's wavelengths before the band is refused."""

_GAUSS_NODE = 1.0 / np.sqrt(3.0)
_SHORTEST_AA = 100.0
"""Wavelengths without a unit that end below this are taken for microns or nanometres, and refused."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True, eq=False)
class FilterCurve:
    """One filter curve.

    Attributes
    ----------
    name
        speclite's name, or your own: letters, digits, ``_ . + -``. Plots show what follows the last ``-``.
    wave
        ``(n,)`` wavelength, Angstrom (vacuum), strictly increasing; a Quantity of length is converted.
    response
        ``(n,)`` photon response (dimensionless, any normalisation), >= 0, linear between the nodes and 0 outside of
        them. Multiply a response per unit energy by the inverse of the wavelength first.

    Raises
    ------
    InputError
        For a name or curve that cannot be used; the message says why.
    """

    name: str
    wave: FloatArray
    response: FloatArray

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise InputError(f"filter name {self.name!r}: use letters, digits and _ . + - only, for example 'mine-g'")
        has_unit = getattr(self.wave, "unit", None) is not None
        wave = _plain(self.wave, "Angstrom", f"filter {self.name}: wavelengths")
        response = _plain(self.response, "", f"filter {self.name}: response")
        _check_curve(self.name, wave, response, has_unit)
        for key, array in (("wave", wave), ("response", response)):
            array.setflags(write=False)
            object.__setattr__(self, key, array)

    def digest(self) -> str:
        """SHA-256 of name and curve."""
        h = hashlib.sha256(self.name.encode())
        h.update(self.wave.tobytes() + self.response.tobytes())
        return h.hexdigest()


def _plain(values: Any, unit: str, what: str) -> FloatArray:
    """A float64 copy of an array or Quantity in `unit`; InputError for another kind of unit or masked entries."""
    if getattr(values, "unit", None) is not None:
        from astropy import units as u  # only where there are units

        try:
            values = u.Quantity(values).to_value(u.Unit(unit))
        except (u.UnitConversionError, TypeError, ValueError):
            raise InputError(f"{what} are in {values.unit}; give {unit or 'dimensionless numbers'}") from None
    if np.ma.is_masked(values):
        raise InputError(f"{what} hold masked values; leave these nodes out")
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} are no numbers") from None


def _check_curve(name: str, wave: FloatArray, response: FloatArray, has_unit: bool) -> None:
    """Refuse what is no filter curve; the message says what is wrong and the cure."""
    if wave.ndim != 1 or wave.shape != response.shape or wave.size < 2:
        raise InputError(
            f"filter {name}: wavelengths have shape {wave.shape}, response {response.shape}; give two one-dimensional "
            "arrays of one length, at least 2"
        )
    if not np.all(np.isfinite(wave)) or wave[0] <= 0 or not np.all(np.diff(wave) > 0):
        raise InputError(f"filter {name}: wavelengths must be positive and strictly increasing; sort them")
    if wave[-1] < _SHORTEST_AA and not has_unit:
        raise InputError(f"filter {name}: wavelengths end at {wave[-1]:g}; give Angstrom, or a Quantity with its unit")
    if not np.all(np.isfinite(response)) or np.any(response < 0):
        first = int(np.flatnonzero(~(response >= 0) | ~np.isfinite(response))[0])
        raise InputError(
            f"filter {name}: response is {response[first]:g} at {wave[first]:g} A; give finite numbers >= 0"
        )
    if not np.any(response > 0):
        raise InputError(f"filter {name}: response is 0 everywhere; give the photon response")


_OWN: dict[str, FilterCurve] = {}
"""Curves that speclite does not have, by name; a name never changes its curve, so caches by name stay right."""


def register_filter(name: str, wavelength_aa: ArrayLike, response: ArrayLike) -> FilterCurve:
    """Make a filter curve known by name, in this process.

    Parameters
    ----------
    name
        Name for `Photometry.bands`, for example ``"mine-g"``.
    wavelength_aa
        ``(n,)`` Angstrom (vacuum), strictly increasing, or a Quantity of length.
    response
        ``(n,)`` photon response, see `FilterCurve`.

    Returns
    -------
    FilterCurve
        The curve, which `Photometry` takes in place of a name too.

    Raises
    ------
    InputError
        For a curve that cannot be used, and for a name that belongs to speclite or to another curve.
    """
    return register_curve(FilterCurve(name, np.asanyarray(wavelength_aa), np.asanyarray(response)))


def register_curve(curve: FilterCurve) -> FilterCurve:
    """Make a `FilterCurve` known by its name; as `register_filter`, which see for errors."""
    known = _OWN.get(curve.name)
    if known is None:
        if _from_speclite(curve.name):
            raise InputError(f"filter name {curve.name!r} is one of speclite's; choose another name for your own curve")
        _OWN[curve.name] = curve
        return curve
    if known.digest() != curve.digest():
        raise InputError(f"filter name {curve.name!r} belongs to another curve already; choose another name")
    return known


def own_curve(name: str) -> FilterCurve | None:
    """The registered curve of that name, None for speclite's and unknown ones."""
    return _OWN.get(name)


def short_name(name: str) -> str:
    """The band's letter without its group, for labels: ``short_name("decam2014-g") == "g"``."""
    return name.rpartition("-")[2]


def load_filter(name: str) -> FilterCurve:
    """One filter curve by name: a registered one, or speclite's (the letter case of speclite's bands is forgiven).

    Raises
    ------
    InputError
        When there is no such filter; the message lists what there is.
    """
    return _OWN.get(name) or _speclite_filter(name)


def _from_speclite(name: str) -> bool:
    """Whether speclite has a filter of exactly this name."""
    try:
        return _speclite_filter(name).name == name
    except InputError:
        return False


@lru_cache(maxsize=128)
def _speclite_filter(name: str) -> FilterCurve:
    import speclite.filters  # slow to import, and not needed to read a table of fluxes

    groups = {str(g).lower(): str(g) for g in speclite.filters.filter_group_names}
    group, _, band = name.partition("-")
    if not band or group.lower() not in groups:
        own = f"; registered ones are {', '.join(_OWN)}" if _OWN else ""
        raise InputError(
            f"filter {name!r} is not known; names are GROUP-BAND with GROUP one of "
            f"{', '.join(sorted(groups.values()))}{own}; give other curves to register_filter"
        )
    names = [str(n) for n in speclite.filters.load_filters(f"{groups[group.lower()]}-*").names]
    matches = [n for n in names if n == name] or [n for n in names if n.lower() == name.lower()]
    if not matches:
        raise InputError(f"filter {name!r} is not known; this group has {', '.join(names)}")
    raw = speclite.filters.load_filter(matches[0])
    response = np.clip(np.array(raw.response, dtype=np.float64), 0.0, None)
    return FilterCurve(matches[0], np.array(raw.wavelength, dtype=np.float64), response)


def _cumulative_ab(curve: FilterCurve) -> FloatArray:
    """Running integral of R / lambda over the curve, exact for the piecewise-linear R; shape of ``curve.wave``."""
    x0, x1 = curve.wave[:-1], curve.wave[1:]
    slope = np.diff(curve.response) / (x1 - x0)
    pieces = (curve.response[:-1] - slope * x0) * np.log(x1 / x0) + slope * (x1 - x0)
    return np.concatenate([[0.0], np.cumsum(pieces)])


def missing_fraction(name: str, wave_min: float, wave_max: float) -> float:
    """Fraction of a band's response (R/lambda, that is, for a spectrum flat in f_nu) outside a range of wavelengths.

    Parameters
    ----------
    name
        Filter.
    wave_min
        Lower end of the range, Angstrom.
    wave_max
        Upper end of the range, Angstrom.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    InputError
        For an unknown filter.
    """
    curve = load_filter(name)
    running = _cumulative_ab(curve)
    low, high = np.interp([wave_min, wave_max], curve.wave, running)
    return float(1.0 - max(high - low, 0.0) / running[-1])


def _check_coverage(curve: FilterCurve, wave: FloatArray) -> None:
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
    # Divide each quadrature node between the two model pixels that bracket it (the model's hat functions).
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
