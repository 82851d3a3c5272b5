"""Circles and pixels on the sky as conditions on the summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy import units as u
from astropy_healpix import HEALPix
from numpy.typing import NDArray

from provabgs.catalog.evaluate import Numbers, Value
from provabgs.catalog.hats_layout import INDEX_ORDER, healpix29
from provabgs.catalog.records import NSIDE
from provabgs.catalog.summary_reader import Condition

PIXEL = "HPIX_64"
"""Column of HEALPix pixels, by which the rows of a catalog are sorted."""
_ORDER = NSIDE.bit_length() - 1
_NARROW = 30.0
"""Radius, degrees, up to which pixels are listed: wider circles leave few row groups out."""


def cone_condition(ra: float, dec: float, radius: float) -> Condition:
    """The condition that holds within a circle on the sky.

    Parameters
    ----------
    ra, dec
        Centre, degrees.
    radius
        Degrees.

    Returns
    -------
    Condition
        On RA and DEC; row groups that lie elsewhere are skipped.
    """
    centre = _direction(np.float64(ra), np.float64(dec))
    # half the chord keeps its precision at arcsecond radii, where a cosine would not
    limit = (2 * np.sin(np.radians(radius) / 2)) ** 2

    def inside(values: Mapping[str, Value]) -> NDArray[np.bool_]:
        a, d = values["RA"], values["DEC"]
        assert isinstance(a, Numbers)
        assert isinstance(d, Numbers)
        direction = _direction(a.values.astype(np.float64), d.values.astype(np.float64))
        result: NDArray[np.bool_] = sum((x - c) ** 2 for x, c in zip(direction, centre, strict=True)) <= limit
        return result

    within = (PIXEL, _pixels(ra, dec, radius)) if radius < _NARROW else None
    return Condition(("RA", "DEC"), inside, within)


def pixel_condition(order: int, number: int) -> Condition:
    """The condition that holds within a HEALPix pixel.

    Parameters
    ----------
    order
        Its order; a pixel has 2^order parts along a side.
    number
        Its number, nested.

    Returns
    -------
    Condition
        On RA and DEC; row groups that lie elsewhere are skipped.
    """
    shift = 2 * (INDEX_ORDER - order)

    def inside(values: Mapping[str, Value]) -> NDArray[np.bool_]:
        a, d = values["RA"], values["DEC"]
        assert isinstance(a, Numbers)
        assert isinstance(d, Numbers)
        result = np.isfinite(a.values) & (np.abs(d.values) <= 90)
        ra, dec = (x.values[result].astype(np.float64) for x in (a, d))
        result[result] = healpix29(ra, dec) >> shift == number
        return result

    finer = 2 * (_ORDER - order)
    held = np.arange(number << finer, number + 1 << finer) if finer >= 0 else np.array([number >> -finer])
    return Condition(("RA", "DEC"), inside, (PIXEL, held))


def _pixels(ra: float, dec: float, radius: float) -> NDArray[np.int64]:
    grid = HEALPix(nside=NSIDE, order="nested")
    return np.unique(grid.cone_search_lonlat(ra * u.deg, dec * u.deg, radius=(radius + 1.0) * u.deg)).astype(np.int64)


def _direction(ra: Any, dec: Any) -> tuple[Any, Any, Any]:
    """Unit vector, x, y, z, of a position in degrees."""
    a, d = np.radians(ra), np.radians(dec)
    return np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)
