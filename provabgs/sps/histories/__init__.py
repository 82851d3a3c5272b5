"""Star-formation and metallicity histories: the protocol, the published family, and the registry of names."""

from __future__ import annotations

from provabgs.sps.histories.base import Histories, HistoryTables, LinearBlock, Moments, SmoothHistories
from provabgs.sps.histories.bases import HistoryBases
from provabgs.sps.histories.nmf import NMFHistories

__all__ = ["Histories", "HistoryBases", "HistoryTables", "LinearBlock", "Moments", "NMFHistories", "SmoothHistories"]
