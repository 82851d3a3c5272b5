"""TARGETIDs are exact or refused.

A TARGETID has up to 63 bits, a floating-point number holds 53: neighbouring TARGETIDs become one number, and the data
of one galaxy those of another.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from provabgs.core.arrays import IntArray
from provabgs.core.errors import InputError

_DIGITS = re.compile(r"\s*[+-]?\d+\s*")
_LIMITS = np.iinfo(np.int64)


def exact_id(value: Any, what: str = "TARGETID") -> int:
    """A TARGETID as the integer that it is.

    Parameters
    ----------
    value
        Python or numpy integer, or its decimal digits as text.
    what
        Named in errors.

    Returns
    -------
    int
        Fits into 64 bits.

    Raises
    ------
    InputError
        For a floating-point number (whatever its value), and for everything else that is no integer.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, str) and _DIGITS.fullmatch(value) and len(value) < 32:
        value = int(value)
    if isinstance(value, (float, np.floating)):
        raise InputError(f"{what} {value!r} is a floating-point number, which cannot hold one exactly; give an integer")
    if np.ma.is_masked(value) or isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise InputError(f"{what} {value!r:.60} is no integer; give one such as 39627783185368040")
    if not _LIMITS.min <= int(value) <= _LIMITS.max:
        raise InputError(f"{what} {value} does not fit into 64 bits; check it")
    return int(value)


def exact_ids(values: Any, what: str = "TARGETID") -> IntArray:
    """TARGETIDs of a column as 64-bit integers.

    Parameters
    ----------
    values
        ``(n,)`` integers, or text of decimal digits.
    what
        Named in errors.

    Returns
    -------
    numpy.ndarray
        ``(n,)``.

    Raises
    ------
    InputError
        For floating-point numbers, masked entries, and everything else that is no integer.
    """
    array = np.asanyarray(values)
    if array.ndim != 1:
        raise InputError(f"{what} has shape {array.shape}; give one integer a row")
    return exact_array(array, what)


def exact_array(values: Any, what: str) -> IntArray:
    """As `exact_ids`, of any shape.

    Parameters
    ----------
    values
        Integers, or text of decimal digits.
    what
        Named in errors.
    """
    array = np.asanyarray(values)
    if np.ma.is_masked(array):
        raise InputError(f"{what} is blank in {int(np.ma.getmaskarray(array).sum())} rows; give an integer in each")
    array = np.asarray(array)
    if array.dtype.kind == "f" and array.size:
        raise InputError(
            f"{what} is stored as {array.dtype.name}, which holds {np.finfo(array.dtype).nmant + 1} bits and confuses "
            "neighbouring targets; write it as 64-bit integers (int64)"
        )
    if array.dtype.kind == "i" or (array.dtype.kind == "u" and not np.any(array > _LIMITS.max)):
        return array.astype(np.int64)
    return np.array([exact_id(v, what) for v in array.ravel().tolist()], dtype=np.int64).reshape(array.shape)


NO_ID = -1
"""TARGETID of a galaxy that has none."""


def stream_of(targetid: int, data_hash: str) -> int:
    """What the random numbers of a galaxy derive from: its TARGETID, or a hash of its data where it has none.

    Parameters
    ----------
    targetid
        `NO_ID` where there is none.
    data_hash
        Hexadecimal digits (`Observation.digest`).

    Returns
    -------
    int
        Fits into 64 bits.
    """
    return int(data_hash[:15], 16) if targetid == NO_ID and data_hash else targetid


def name_of(targetid: int, data_hash: str) -> str:
    """A galaxy's name in file names: its TARGETID, or the beginning of a hash of its data where it has none.

    Parameters
    ----------
    targetid
        `NO_ID` where there is none.
    data_hash
        Hexadecimal digits.
    """
    return f"galaxy-{data_hash[:12]}" if targetid == NO_ID and data_hash else str(targetid)
