"""TARGETID: how DESI packs a Legacy Surveys source into 64 bits.

Layout of desitarget's ``targetid_mask`` (Myers et al. 2023, AJ 165, 50): OBJID in bits 0-21, BRICKID in
22-41, RELEASE in 42-57, MOCK in 58, SKY in 59, GAIADR above.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.core.errors import InputError
from provabgs.core.identity import exact_array, exact_id

_OBJID_BITS, _BRICKID_BITS, _RELEASE_BITS = 22, 20, 16
_BRICKID_SHIFT, _RELEASE_SHIFT = _OBJID_BITS, _OBJID_BITS + _BRICKID_BITS


class DecodedTargetID(NamedTuple):
    """The parts of a TARGETID."""

    release: int
    brickid: int
    objid: int
    mock: bool
    sky: bool


def encode_targetid(release: ArrayLike, brickid: ArrayLike, objid: ArrayLike) -> NDArray[np.int64]:
    """TARGETIDs of Legacy Surveys sources.

    Parameters
    ----------
    release, brickid, objid
        Integers of one common shape, as in the columns of a Tractor or sweep file.

    Raises
    ------
    InputError
        When a part does not fit into its bits.
    """
    parts = (("RELEASE", release, _RELEASE_BITS), ("BRICKID", brickid, _BRICKID_BITS), ("OBJID", objid, _OBJID_BITS))
    arrays = []
    for name, values, bits in parts:
        a = exact_array(values, name)
        if np.any((a < 0) | (a >= 1 << bits)):
            raise InputError(f"{name} must lie in 0..{(1 << bits) - 1} to form a TARGETID")
        arrays.append(a)
    return (arrays[0] << _RELEASE_SHIFT) | (arrays[1] << _BRICKID_SHIFT) | arrays[2]


def fits_targetid(release: ArrayLike, brickid: ArrayLike, objid: ArrayLike) -> NDArray[np.bool_]:
    """Which sources have parts that fit into a TARGETID: others are no sources of the Legacy Surveys.

    Parameters
    ----------
    release, brickid, objid
        Integers of one common shape.
    """
    limits = ((release, _RELEASE_BITS), (brickid, _BRICKID_BITS), (objid, _OBJID_BITS))
    inside = [(np.asarray(values) >= 0) & (np.asarray(values) < 1 << bits) for values, bits in limits]
    return np.logical_and.reduce(inside)


def decode_targetid(targetid: int) -> DecodedTargetID:
    """Split a TARGETID (>= 0, else `InputError`) into its parts."""
    t = exact_id(targetid)
    if t < 0:
        raise InputError(f"TARGETID {t} is negative: an unassigned or stuck fiber, not a source")
    return DecodedTargetID(
        release=(t >> _RELEASE_SHIFT) & ((1 << _RELEASE_BITS) - 1),
        brickid=(t >> _BRICKID_SHIFT) & ((1 << _BRICKID_BITS) - 1),
        objid=t & ((1 << _OBJID_BITS) - 1),
        mock=bool((t >> 58) & 1),
        sky=bool((t >> 59) & 1),
    )
