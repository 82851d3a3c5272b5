"""Circles on the sky as conditions on the summary."""

from __future__ import annotations

import numpy as np
from astropy import units as u
from astropy_healpix import HEALPix

from provabgs.catalog.records import NSIDE


def cone_conditions(ra: float, dec: float, radius: float) -> list[str]:
    """SQL that is true within a circle on the sky.

    Parameters
    ----------
    ra, dec
        Centre, degrees.
    radius
        Degrees.

    Returns
    -------
    list of str
        Conditions, all of which must hold; the first skips row groups that lie elsewhere.
    """
    a, d = np.radians([ra, dec])
    x, y, z = (float(v) for v in (np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)))
    # half the chord keeps its precision at arcsecond radii, where a cosine would not
    sky = 'cos(radians("DEC"))'
    chord = (
        f'(pow({sky} * cos(radians("RA")) - ({x!r}), 2) + pow({sky} * sin(radians("RA")) - ({y!r}), 2)'
        f' + pow(sin(radians("DEC")) - ({z!r}), 2))'
    )
    conditions = [f"{chord} <= {float((2 * np.sin(np.radians(radius) / 2)) ** 2)!r}"]
    if radius < 30:
        grid = HEALPix(nside=NSIDE, order="nested")
        pixels = np.unique(grid.cone_search_lonlat(ra * u.deg, dec * u.deg, radius=(radius + 1.0) * u.deg))
        conditions.insert(0, f'"HPIX_64" IN ({", ".join(str(int(p)) for p in pixels)})')
    return conditions
