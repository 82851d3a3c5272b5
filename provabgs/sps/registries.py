"""Parts of a model by the names that configurations use; `docs/extend.md` shows how to register others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from provabgs.core.registry import Registry
from provabgs.sps.attenuation import Attenuation, CharlotFall
from provabgs.sps.derived import DerivedProperty
from provabgs.sps.dust_emission import DustEmission
from provabgs.sps.emission import Emission
from provabgs.sps.histories import BinHistories, DelayedTauHistories, Histories, NMFHistories

HISTORIES: Registry[Callable[..., Any]] = Registry("history", "model.history")
"""Factories of histories; they take ``model.history_options`` as keyword arguments and return a `Histories`."""
ATTENUATIONS: Registry[Callable[[], Attenuation]] = Registry("dust law", "model.attenuation")
"""Factories of dust laws."""
EMISSIONS: Registry[Callable[..., Emission]] = Registry("emission", "model.emissions")
"""Factories of emissions beyond the nebular one, which ``model.nebular`` and ``model.gas_free`` switch; they take
``model.emission_options.NAME`` as keyword arguments."""
PROPERTIES: Registry[DerivedProperty] = Registry("derived property", "model.properties")
"""Derived properties beyond the published five."""

HISTORIES.register("nmf", NMFHistories)
HISTORIES.register("bins", BinHistories)
HISTORIES.register("tng6", NMFHistories.tng)
HISTORIES.register("delayed-tau", DelayedTauHistories)
ATTENUATIONS.register("charlot-fall", CharlotFall)
EMISSIONS.register("dust", DustEmission)

__all__ = ["ATTENUATIONS", "EMISSIONS", "HISTORIES", "PROPERTIES", "Histories"]
