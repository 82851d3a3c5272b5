"""Write a whole catalog from posteriors in memory; the runs in `provabgs.pipelines` write theirs shard by shard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from provabgs.catalog.encode import Encoding
from provabgs.catalog.generations import replace_shard
from provabgs.catalog.layout import DEFAULT_SHARD_ROWS, shard_name
from provabgs.catalog.records import DEFAULT_SAMPLES, healpix64, to_block
from provabgs.catalog.summary import build_summary
from provabgs.inference.posterior import Posterior


def write_catalog(
    root: str | Path,
    posteriors: list[Posterior],
    *,
    n_samples: int | None = DEFAULT_SAMPLES,
    encoding: Encoding = "uint16",
    shard_rows: int = DEFAULT_SHARD_ROWS,
    attrs: Mapping[str, Any] | None = None,
    allow_mixed: bool = False,
) -> None:
    """Write posteriors as a catalog directory: shards by HEALPix pixel, then the summary.

    Parameters
    ----------
    root
        Directory of the catalog.
    posteriors
        Rows, in any order.
    n_samples
        Draws to keep of each, evenly spaced; None keeps all.
    encoding
        ``"uint16"`` (see `provabgs.catalog.encode`) or ``"float32"``.
    shard_rows
        Largest number of rows per shard.
    attrs
        Added to the attributes of every shard.
    allow_mixed
        Allow rows of different configurations or versions.

    Raises
    ------
    InputError
        For an empty list or inconsistent samples.
    DataFileError
        When versions or configurations are mixed and `allow_mixed` is off.
    """
    root = Path(root)
    pixels = healpix64(np.array([p.ra for p in posteriors]), np.array([p.dec for p in posteriors]))
    for pixel in np.unique(pixels):
        rows = np.flatnonzero(pixels == pixel)
        for part, start in enumerate(range(0, rows.size, shard_rows)):
            chosen = [posteriors[i] for i in rows[start : start + shard_rows]]
            block = to_block(chosen, n_samples=n_samples, encoding=encoding)
            replace_shard(root, shard_name(int(pixel), part), block, attrs=attrs)
    build_summary(root, allow_mixed=allow_mixed)
