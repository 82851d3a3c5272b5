"""Regions of the sky for jackknife errors: compact, covering the footprint, with the fraction of its area in each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from astropy import units as u
from astropy_healpix import HEALPix
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError

_PER_PIXEL = 8.0
"""Galaxies per occupied pixel, at the least on average, for occupied pixels to outline the footprint."""
_MAX_ORDER = 10


class SkyRegions(NamedTuple):
    """Regions of the sky."""

    label: NDArray[np.int64]
    """``(n,)`` region of each galaxy, from 0."""
    area_fraction: FloatArray
    """``(nregion,)`` fraction of the footprint in each region, summing to 1."""


def sky_regions(ra: ArrayLike, dec: ArrayLike, n_region: int, rng: np.random.Generator) -> SkyRegions:
    """Divide the footprint into compact regions by k-means on its pixels.

    The footprint is the set of HEALPix pixels that hold galaxies, at the finest resolution at which occupied pixels
    hold eight galaxies on average. Regions consist of whole pixels and their areas are counted in pixels. Regions of
    equal numbers of galaxies would hide the clustering whose variance a jackknife measures.

    Parameters
    ----------
    ra, dec
        ``(n,)`` degrees.
    n_region
        Number of regions; more than the number of bins whose covariance is wanted.
    rng
        Source of the starting points.

    Returns
    -------
    SkyRegions
        Region of each galaxy and area of each region.

    Raises
    ------
    InputError
        For positions that are not on the sky, or a footprint too small for so many regions.
    """
    a, d = np.asarray(ra, dtype=np.float64), np.asarray(dec, dtype=np.float64)
    bad = ~(np.isfinite(a) & np.isfinite(d) & (np.abs(d) <= 90))
    if a.shape != d.shape or a.ndim != 1 or bad.any():
        raise InputError(
            f"{int(bad.sum())} of {a.size} galaxies have no position on the sky; leave them out or use Poisson errors"
        )
    if n_region < 2:
        raise InputError(f"a jackknife needs at least two regions, not {n_region}")
    for order in range(_MAX_ORDER, -1, -1):
        grid = HEALPix(nside=2**order, order="nested")
        pixel = grid.lonlat_to_healpix(a * u.deg, d * u.deg)
        occupied, inverse = np.unique(pixel, return_inverse=True)
        if a.size >= _PER_PIXEL * occupied.size:
            break
    if occupied.size < n_region:
        raise InputError(
            f"{a.size} galaxies outline a footprint of {occupied.size} pixels, too few for {n_region} regions; ask for "
            "fewer, or use Poisson errors"
        )
    lon, lat = grid.healpix_to_lonlat(occupied)
    lon, lat = lon.to_value(u.rad), lat.to_value(u.rad)
    # on unit vectors, where distances do not depend on declination and do not break at ra = 0
    vector = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    means = KMeans(n_region, n_init=4, random_state=int(rng.integers(2**31))).fit(vector)
    of_pixel = means.labels_.astype(np.int64)
    return SkyRegions(of_pixel[inverse], np.bincount(of_pixel, minlength=n_region) / occupied.size)
