"""Nebular emission: the grid, gas of fixed parameters in an SSP library, gas of free ones as an emission."""

from __future__ import annotations

from provabgs.sps.nebular.emission import GAS, NebularEmission
from provabgs.sps.nebular.fixed_gas import on_library, refine, with_nebular
from provabgs.sps.nebular.grid import (
    FLOOR,
    GAS_LOGZ_RANGE,
    LOG_U_RANGE,
    LYMAN_LIMIT_AA,
    GasEmission,
    NebularGrid,
    ionising_photon_rate,
)

__all__ = [
    "FLOOR",
    "GAS",
    "GAS_LOGZ_RANGE",
    "LOG_U_RANGE",
    "LYMAN_LIMIT_AA",
    "GasEmission",
    "NebularEmission",
    "NebularGrid",
    "ionising_photon_rate",
    "on_library",
    "refine",
    "with_nebular",
]
