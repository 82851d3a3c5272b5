"""Which exposures are used, and in which cameras: FIBERSTATUS as desispec reads it.

Bits that make an exposure useless, and bits that spoil one camera, are those of desispec's
``fiberbitmasking.get_all_fiberbitmask_with_amp``. A stuck positioner, one of restricted reach, or a poor position costs
light, which the calibration knows, and is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = {
    "BROKENFIBER": 2,
    "MISSINGPOSITION": 8,
    "BADPOSITION": 9,
    "BADFIBER": 16,
    "BADTRACE": 17,
    "BADFLAT": 18,
    "BADARC": 19,
    "MANYBADCOL": 20,
    "MANYREJECTED": 21,
}
"""Bits of FIBERSTATUS that are fatal in every camera."""
CAMERA_BITS = {"b": 22, "r": 23, "z": 24}
"""BADAMPB, BADAMPR, BADAMPZ: an amplifier of one camera."""
_FATAL = sum(1 << bit for bit in BITS.values())


def camera_is_good(status: int, camera: str) -> bool:
    """Whether desispec takes an exposure into the coadd of a camera.

    Parameters
    ----------
    status
        FIBERSTATUS.
    camera
        ``"b"``, ``"r"``, ``"z"``, or several letters where cameras were combined.
    """
    return not status & (_FATAL | sum(1 << bit for name, bit in CAMERA_BITS.items() if name in camera.lower()))


def exposures_are_good(status: NDArray[Any]) -> NDArray[np.bool_]:
    """``(nexp,)`` whether desispec takes exposures in any camera."""
    amplifiers = sum(1 << bit for bit in CAMERA_BITS.values())
    return ((status & _FATAL) == 0) & ((status & amplifiers) != amplifiers)
