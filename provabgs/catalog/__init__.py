"""The posterior store: write, open, query, export."""

from __future__ import annotations

from provabgs.catalog.shard import read_shard as read_posteriors
from provabgs.catalog.shard import write_shard as write_posteriors

__all__ = ["read_posteriors", "write_posteriors"]
