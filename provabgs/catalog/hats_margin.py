"""The margin of a HATS catalog: to each pixel, the galaxies just outside of it, for cross-matches across its edges.

Built as `lsdb` and `hats-import` build theirs: at the finest order whose pixels are wider than the threshold, a galaxy
belongs to the margin of every pixel of the catalog, or of the empty sky around it, that one of the eight neighbours of
its own pixel lies in. The margin is complete within the threshold and reaches somewhat beyond it.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy_healpix import neighbours
from numpy.typing import NDArray

from provabgs.catalog.hats_layout import COMMON_METADATA, DATASET, INDEX, INDEX_ORDER, METADATA, Pixel, tiling
from provabgs.core.arrays import IntArray

_SHAPE = 1.6
"""Mean over least distance of neighbouring pixels' centres, as `hats` has it."""
_MEAN_ARCSEC = math.sqrt(4 * math.pi / 12) * math.degrees(1) * 3600
"""Mean width of a pixel of order 0."""


def margin_order(threshold: float) -> int:
    """The finest order whose pixels are wider than a threshold in arcsec, not finer than that of the index."""
    return max(0, min(INDEX_ORDER - 1, math.floor(math.log2(_MEAN_ARCSEC / (_SHAPE * threshold)))))


class Margin:
    """Collects galaxies near the edges of pixels while a catalog is written, then writes them.

    Parameters
    ----------
    index
        ``(n,)`` pixel of order 29 of every galaxy of the catalog, in any order.
    most
        Galaxies of a pixel, as the catalog is divided.
    threshold
        Arcsec.
    """

    def __init__(self, index: IntArray, most: int, threshold: float) -> None:
        self.threshold, self.order = threshold, margin_order(threshold)
        self.pixels = [pixel for pixel, _ in tiling(index, most)]
        shift = [2 * (INDEX_ORDER - p.order) for p in self.pixels]
        self._first = np.array([p.number << s for p, s in zip(self.pixels, shift, strict=True)], dtype=np.int64)
        self._held: dict[int, list[pa.Table]] = {}

    def pairs(self, index: IntArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Galaxies in margins.

        Parameters
        ----------
        index
            ``(n,)`` pixel of order 29 of each galaxy.

        Returns
        -------
        rows, pixels
            ``(m,)`` position of a galaxy in `index` and of a pixel in `pixels`, whose margin it is in.
        """
        shift = 2 * (INDEX_ORDER - self.order)
        own = index >> shift
        around = np.vstack([own, neighbours(own, 1 << self.order, order="nested")]).T  # (n, 9), -1 where there is none
        low = np.searchsorted(self._first, around << shift, side="right") - 1
        high = np.searchsorted(self._first, (around + 1) << shift, side="left") - 1
        home = np.searchsorted(self._first, index, side="right") - 1
        rows, column = np.nonzero((around >= 0) & ((low != home[:, None]) | (high != home[:, None])))
        ends = zip(rows.tolist(), low[rows, column].tolist(), high[rows, column].tolist(), strict=True)
        found = [(row, k) for row, first, last in ends for k in range(first, last + 1) if k != home[row]]
        unique = np.unique(np.array(found, dtype=np.int64).reshape(-1, 2), axis=0)
        return unique[:, 0], unique[:, 1]

    def add(self, table: pa.Table, index: IntArray) -> None:
        """Keep those of some galaxies that are in a margin.

        Parameters
        ----------
        table
            Rows of the catalog's files.
        index
            Their pixels of order 29.
        """
        rows, pixels = self.pairs(index)
        for pixel in np.unique(pixels).tolist():
            self._held.setdefault(pixel, []).append(table.take(pa.array(rows[pixels == pixel])))

    def write(self, folder: Path, schema: pa.Schema, **options: object) -> list[tuple[Pixel, int]]:
        """Write the dataset of the margin.

        Parameters
        ----------
        folder
            Root of the margin's catalog.
        schema
            That of the catalog.
        **options
            Of the Parquet writer.

        Returns
        -------
        list of (Pixel, int)
            Pixels that have a margin, and how many galaxies are in it.
        """
        parts, footers = [], []
        dataset = folder / DATASET
        dataset.mkdir(parents=True)
        for k in sorted(self._held):
            pixel, table = self.pixels[k], pa.concat_tables(self._held[k]).sort_by([(INDEX, "ascending")])
            path = dataset / pixel.name
            path.parent.mkdir(parents=True, exist_ok=True)
            collected: list[pq.FileMetaData] = []
            with pq.ParquetWriter(path, schema, metadata_collector=collected, **options) as writer:
                writer.write_table(table.cast(schema))
            collected[0].set_file_path(pixel.name)
            footers += collected
            parts.append((pixel, table.num_rows))
        pq.write_metadata(schema, dataset / COMMON_METADATA)
        pq.write_metadata(schema, dataset / METADATA, metadata_collector=footers)
        return parts
