"""Columns of FITS tables: what a header says of one, and its values as what they should be."""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.errors import InputError
from provabgs.core.identity import exact_array
from provabgs.desi.structure import Hdu

Kind = Literal["id", "whole", "number", "text"]
"""What a column holds: TARGETIDs, integers (or logicals), numbers, text."""

_FORMAT = re.compile(r"(\d*)([LXBIJKAEDCMPQ])(.*)")
DTYPES = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_WIDTHS = {"L": 1, "B": 1, "I": 2, "J": 4, "K": 8, "A": 1, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}


class Field(NamedTuple):
    """One column of a table, as its header describes it."""

    name: str
    number: int
    repeat: int
    code: str
    offset: int


def field_of(hdu: Hdu, k: int, offset: int) -> Field:
    """Column number `k`."""
    written = hdu.text(f"TFORM{k}")
    found = _FORMAT.match(written)
    if found is None or len(found[1]) > 7:
        raise hdu.damaged(f"card TFORM{k} = {written!r:.40} is no column format")
    return Field(hdu.text(f"TTYPE{k}").upper(), k, int(found[1] or 1), found[2], offset)


def width_of(field: Field) -> int:
    """Bytes of one value."""
    return -(-field.repeat // 8) if field.code == "X" else field.repeat * _WIDTHS[field.code]


def scaled(hdu: Hdu, field: Field, values: NDArray[Any]) -> NDArray[Any]:
    """A column with TSCAL and TZERO applied; integers stay integers where they only say that there is no sign."""
    if field.code == "A":
        return np.char.strip(np.char.decode(values, "ascii", "replace"))
    if field.code == "L":
        return values == b"T"
    zero, scale = hdu.number(f"TZERO{field.number}", 0.0), hdu.number(f"TSCAL{field.number}", 1.0)
    return rescaled(values, zero, scale)


def rescaled(stored: NDArray[Any], zero: float, scale: float) -> NDArray[Any]:
    """``scale * stored + zero`` in this machine's byte order."""
    native = np.array(stored, dtype=stored.dtype.newbyteorder("="))
    if (zero, scale) == (0.0, 1.0):
        return native
    if native.dtype.kind == "i" and scale == 1.0 and zero == 2.0 ** (8 * native.dtype.itemsize - 1):
        unsigned = np.dtype(f"u{native.dtype.itemsize}")
        return native.view(unsigned) ^ unsigned.type(1 << (8 * native.dtype.itemsize - 1))
    with np.errstate(over="ignore", invalid="ignore"):
        return native * np.float64(scale) + np.float64(zero)


def as_kind(values: NDArray[Any], kind: Kind, name: str) -> NDArray[Any]:
    """A column as what it should hold; `InputError` says what it holds instead."""
    have = values.dtype.kind
    if kind == "id":
        return exact_array(values, name)
    if (kind == "text") != (have == "U"):
        wanted = {"text": "text", "whole": "integers", "number": "numbers"}[kind]
        raise InputError(f"{name} holds {'text' if have == 'U' else 'numbers'}, not {wanted}")
    if kind == "whole" and have == "f":
        whole = np.isfinite(values) & (np.abs(values) < 2.0**53)
        if not np.all(whole) or np.any(values != np.trunc(values)):
            raise InputError(f"{name} holds numbers that are no integers")
        return values.astype(np.int64)
    return values
