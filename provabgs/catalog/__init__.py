"""The posterior store: write, open, query, export."""

from __future__ import annotations

from provabgs.catalog.catalog import Catalog
from provabgs.catalog.shard import read_shard as read_posteriors
from provabgs.catalog.shard import write_shard as write_posteriors
from provabgs.catalog.store import write_catalog

__all__ = ["Catalog", "read_posteriors", "write_catalog", "write_posteriors"]
