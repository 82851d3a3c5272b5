"""The layout of HATS (Hierarchical Adaptive Tiling Scheme): pixels of adaptive order, names of files, properties.

A directory as `hats-import` writes it and `lsdb` opens it: ``dataset/Norder=K/Dir=D/Npix=N.parquet``, each file with
the galaxies of one HEALPix pixel (nested, order K), the pixels together covering every galaxy once. The layout is
described at https://www.ivoa.net/documents/Notes/HATS/.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from astropy import units as u
from astropy_healpix import lonlat_to_healpix

from provabgs import __version__
from provabgs.core.arrays import FloatArray, IntArray

INDEX = "_healpix_29"
"""Column of each galaxy's HEALPix pixel (nested) at order 29, by which a file's rows are sorted."""
INDEX_ORDER = 29
DRAWS = "DRAWS"
"""Nested column of posterior draws."""
DATASET, METADATA, COMMON_METADATA = "dataset", "_metadata", "_common_metadata"
COLLECTION = "collection.properties"
"""File at the root of a catalog with a margin, which names both."""
PROPERTIES = ("hats.properties", "properties")
"""Names of the file of properties: the one that readers look for first, and its older name."""
MAX_ORDER = 18
"""Finest pixels, 0.8 arcsec: a file of more galaxies than asked for is left whole there."""
METADATA_SHA256 = "provabgs_metadata_sha256"
"""Property that holds the SHA-256 of ``dataset/_metadata``."""
_VERSION, _RELEASE = "v1.0", "2025-08-22"


class Pixel(NamedTuple):
    """A HEALPix pixel, nested numbering."""

    order: int
    number: int

    @property
    def name(self) -> str:
        """Path of the pixel's file below ``dataset/``."""
        return f"Norder={self.order}/Dir={self.number // 10_000 * 10_000}/Npix={self.number}.parquet"


def healpix29(ra: FloatArray, dec: FloatArray) -> IntArray:
    """HEALPix pixels of order 29, nested.

    Parameters
    ----------
    ra, dec
        ``(n,)`` degrees, finite.

    Returns
    -------
    numpy.ndarray
        ``(n,)``.
    """
    found = lonlat_to_healpix(ra * u.deg, dec * u.deg, 1 << INDEX_ORDER, order="nested")
    return np.asarray(found, dtype=np.int64)


def partition(index: IntArray, most: int) -> list[tuple[Pixel, int]]:
    """The coarsest pixels that hold no more than so many galaxies each.

    Parameters
    ----------
    index
        ``(n,)`` from `healpix29`, in any order.
    most
        Galaxies of a pixel; a pixel of `MAX_ORDER` may hold more.

    Returns
    -------
    list of (Pixel, int)
        Those with galaxies, and how many, in the order of the sky's curve.
    """
    return [(pixel, n) for pixel, n in tiling(index, most) if n]


def tiling(index: IntArray, most: int) -> list[tuple[Pixel, int]]:
    """The pixels of `partition` with the empty ones between them, so that they tile the sky.

    Parameters
    ----------
    index
        ``(n,)`` from `healpix29`, in any order.
    most
        Galaxies of a pixel.
    """
    ordered = np.sort(index)
    found: list[tuple[Pixel, int]] = []

    def divide(pixel: Pixel, low: int, high: int) -> None:
        if high - low <= most or pixel.order == MAX_ORDER:
            found.append((pixel, high - low))
            return
        first = 4 * pixel.number
        edges = np.arange(first, first + 5) << 2 * (INDEX_ORDER - pixel.order - 1)
        places = low + np.searchsorted(ordered[low:high], edges)
        for child in range(4):
            divide(Pixel(pixel.order + 1, first + child), int(places[child]), int(places[child + 1]))

    for base in range(12):
        low, high = np.searchsorted(ordered, np.array([base, base + 1]) << 2 * INDEX_ORDER)
        divide(Pixel(0, base), int(low), int(high))
    return found


def properties(name: str, parts: list[tuple[Pixel, int]], bytes_written: int, **more: str) -> str:
    """The text of ``hats.properties``.

    Parameters
    ----------
    name
        Of the catalog.
    parts
        From `partition`.
    bytes_written
        Size of all files.
    **more
        Further keys.

    Returns
    -------
    str
        One ``key=value`` a line.
    """
    covered = sum(1 / (12 * 4.0**pixel.order) for pixel, _ in parts)
    known = {
        "obs_collection": name,
        "dataproduct_type": "object",
        "hats_nrows": sum(n for _, n in parts),
        "hats_col_ra": "RA",
        "hats_col_dec": "DEC",
        "hats_col_healpix": INDEX,
        "hats_col_healpix_order": INDEX_ORDER,
        "hats_npix_suffix": ".parquet",
        "hats_max_rows": max((n for _, n in parts), default=0),
        "hats_estsize": -(-bytes_written // 1024),
        "hats_order": max((pixel.order for pixel, _ in parts), default=0),
        "moc_sky_fraction": f"{covered:.5g}",
        "hats_builder": f"provabgs v{__version__}",
        "hats_creation_date": f"{datetime.now(UTC):%Y-%m-%dT%H:%MUTC}",
        "hats_release_date": _RELEASE,
        "hats_version": _VERSION,
    }
    return "#HATS catalog\n" + "".join(f"{key}={value}\n" for key, value in (known | more).items())


def collection(name: str, margin: str) -> str:
    """The text of ``collection.properties``.

    Parameters
    ----------
    name
        Of the collection and of the catalog in it.
    margin
        Name of the margin's directory.
    """
    known = {"obs_collection": name, "hats_primary_table_url": name, "all_margins": margin, "default_margin": margin}
    return "#HATS collection\n" + "".join(f"{key}={value}\n" for key, value in known.items())


def partition_info(parts: list[tuple[Pixel, int]]) -> str:
    """The text of ``partition_info.csv``."""
    return "Norder,Npix\n" + "".join(f"{pixel.order},{pixel.number}\n" for pixel, _ in parts)


def read_properties(text: str) -> dict[str, str]:
    """Key and value of each line of a file of properties."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and line[0] not in "#!")
    return {key.strip(): value.strip() for key, found, value in pairs if found}
