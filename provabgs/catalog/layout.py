"""Where a catalog's files lie in its directory."""

from __future__ import annotations

import re
from pathlib import Path

SUMMARY_NAME = "summary.parquet"
SHARD_DIRECTORY = "shards"
DEFAULT_SHARD_ROWS = 2000
"""Most galaxies in a shard: about 20 MB at 256 samples. A fuller pixel is divided into parts."""
_SHARD_NAME = re.compile(r"-?\d+\.\d+\.h5")


def shard_paths(root: str | Path) -> list[Path]:
    """Every shard under a catalog's directory, ordered by HEALPix pixel and part."""
    found = [p for p in (Path(root) / SHARD_DIRECTORY).rglob("*.h5") if _SHARD_NAME.fullmatch(p.name)]
    return sorted(found, key=lambda p: [int(x) for x in p.stem.split(".")])


def shard_name(pixel: int, part: int) -> str:
    """Path of a shard relative to the catalog, ``shards/12/1234.0.h5``, as DESI groups its pixels by hundreds.

    Parameters
    ----------
    pixel
        HEALPix pixel, nested, nside 64.
    part
        Number of the file within the pixel, from 0.

    Returns
    -------
    str
        With forward slashes.
    """
    return f"{SHARD_DIRECTORY}/{pixel // 100}/{pixel}.{part}.h5"
