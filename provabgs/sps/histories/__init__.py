"""Star-formation and metallicity histories: the protocol and the families."""

from __future__ import annotations

from provabgs.sps.histories.base import Histories, HistoryTables, LinearBlock, Moments, SmoothHistories
from provabgs.sps.histories.bases import HistoryBases
from provabgs.sps.histories.bins import BinHistories
from provabgs.sps.histories.composed import ComposedHistories
from provabgs.sps.histories.delayed_tau import DelayedTauHistories
from provabgs.sps.histories.nmf import NMFHistories

__all__ = [
    "BinHistories",
    "ComposedHistories",
    "DelayedTauHistories",
    "Histories",
    "HistoryBases",
    "HistoryTables",
    "LinearBlock",
    "Moments",
    "NMFHistories",
    "SmoothHistories",
]
