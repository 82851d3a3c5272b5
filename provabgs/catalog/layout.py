"""Where a catalog's files lie in its directory."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

SUMMARY_NAME = "summary.parquet"
SHARD_DIRECTORY = "shards"
SUPERSEDED_DIRECTORY = "superseded"
"""Shards that were replaced since the summary was written; see `provabgs.catalog.generations`."""
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


def superseded_name(name: str, sha256: str) -> str:
    """Where a replaced shard is kept, relative to the catalog: ``superseded/12/1234.0.3f5a....h5``.

    Parameters
    ----------
    name
        Shard relative to the catalog.
    sha256
        Its checksum.

    Returns
    -------
    str
        With forward slashes.
    """
    path = PurePosixPath(name)
    return f"{SUPERSEDED_DIRECTORY}/{path.parent.name}/{path.stem}.{sha256[:32]}.h5"


def superseded_paths(root: str | Path, pixel: int) -> list[Path]:
    """Replaced shards of a pixel that are kept for readers of the summary, oldest first.

    Parameters
    ----------
    root
        Directory of the catalog.
    pixel
        HEALPix pixel, nested, nside 64.
    """
    folder = Path(root) / SUPERSEDED_DIRECTORY / str(pixel // 100)
    return sorted(folder.glob(f"{pixel}.*.h5"), key=lambda p: (p.stat().st_mtime_ns, p.name))
