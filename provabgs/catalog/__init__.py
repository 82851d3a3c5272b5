"""The posterior store: write, open, query, export.

Parquet's reader is imported when `Catalog` is first asked for: the hundreds of fit processes of a run, which import
this package too, do without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from provabgs.catalog.shard import read_shard as read_posteriors
from provabgs.catalog.shard import write_shard as write_posteriors

if TYPE_CHECKING:
    from provabgs.catalog.query import Catalog
    from provabgs.catalog.store import write_catalog

__all__ = ["Catalog", "read_posteriors", "write_catalog", "write_posteriors"]


def __getattr__(name: str) -> Any:
    if name == "Catalog":
        from provabgs.catalog.query import Catalog

        return Catalog
    if name == "write_catalog":
        from provabgs.catalog.store import write_catalog

        return write_catalog
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
