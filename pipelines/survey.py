"""The published catalog's survey columns, from what an observation carries."""

from __future__ import annotations

from typing import Any

import numpy as np

from provabgs.observe.observation import Observation

_BANDS = {"g": "MAG_G", "r": "MAG_R", "z": "MAG_Z", "W1": "MAG_W1"}
_BGS_FAINT, _BGS_BRIGHT = 1 << 0, 1 << 1
"""Bits of BGS_TARGET and of its SV1-SV3 forerunners (desitarget's targetmask.yaml)."""


def survey_columns(observation: Observation) -> dict[str, Any]:
    """Magnitudes (AB, free of Galactic dust), the BGS Faint colour and the BGS selection of one galaxy.

    The colour is Hahn et al. 2023 (arXiv:2208.08512): ``(z - W1) - 1.2 (g - r) + 1.2``.
    """
    columns: dict[str, Any] = {}
    light = observation.photometry
    if light is not None:
        for band, flux, ivar in zip(light.bands, light.flux, light.ivar, strict=True):
            name = _BANDS.get(band.rpartition("-")[2])
            if name and ivar > 0 and flux > 0:
                columns[name] = float(22.5 - 2.5 * np.log10(flux))
    fiber = observation.meta.get("FIBERFLUX_R")
    if isinstance(fiber, (int, float)) and fiber > 0:
        columns["FIBMAG_R"] = float(22.5 - 2.5 * np.log10(fiber))
    if all(name in columns for name in _BANDS.values()):
        g, r, z, w1 = (columns[name] for name in _BANDS.values())
        columns["SCHLEGEL_COLOR"] = (z - w1) - 1.2 * (g - r) + 1.2
    found = [observation.meta.get(key) for key in ("BGS_TARGET", "SV1_BGS_TARGET", "SV2_BGS_TARGET", "SV3_BGS_TARGET")]
    bits = [int(b) for b in found if isinstance(b, (int, np.integer))]
    if bits:  # each survey phase has its own column; the others are 0
        columns["IS_BGS_BRIGHT"] = int(any(b & _BGS_BRIGHT for b in bits))
        columns["IS_BGS_FAINT"] = int(any(b & _BGS_FAINT for b in bits))
    return {k: v for k, v in columns.items() if k not in observation.meta}
