"""What is measured of a galaxy after its fit: numbers with an uncertainty, of which no draws are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.sps.parameters import Quantity

QUANTILES: dict[str, float] = {"_P16": 0.16, "_P50": 0.50, "_P84": 0.84}
"""Suffixes of a quantity's columns and the quantiles that they hold."""
VALUE_ERROR = ("", "_ERR")
"""Suffixes of the columns of a number measured on the data, and of its standard deviation."""


@dataclass(frozen=True)
class Measured(Quantity):
    """One measured quantity.

    Attributes
    ----------
    suffixes
        Of its columns: `QUANTILES` or `VALUE_ERROR`.
    null
        When its columns are null.
    ucd
        Unified content descriptor of the IVOA, for VOTables.
    """

    suffixes: tuple[str, ...] = tuple(QUANTILES)
    null: str = "there are no draws"
    ucd: str = ""

    def as_dict(self) -> dict[str, Any]:
        """All fields as plain values, for JSON."""
        return asdict(self) | {"suffixes": list(self.suffixes)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Measured:
        """Inverse of `as_dict`."""
        text = {k: str(data[k]) for k in ("name", "column", "symbol", "unit", "description", "null", "ucd")}
        return cls(**text, suffixes=tuple(str(s) for s in data["suffixes"]))


class Drawn(NamedTuple):
    """One quantity and its values ``(n,)``, one for each draw; NaN for draws without one."""

    quantity: Measured
    draws: FloatArray


def quantiles_of(draws: FloatArray) -> FloatArray:
    """The quantiles of `QUANTILES`, ``(3,)``; draws without a value do not count, NaN where none has one."""
    known = draws[~np.isnan(draws)]
    wanted = tuple(QUANTILES.values())
    return np.quantile(known, wanted) if known.size else np.full(len(wanted), np.nan)
