"""What a reader says of one row of its input: an observation that can be fitted, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from provabgs.core.status import Status
from provabgs.observe.observation import Observation


class TargetResult(NamedTuple):
    """One row of an input: an observation ready to be fitted, or the reason why not.

    Attributes
    ----------
    targetid, row
        Identification; `row` is that of the input's table (the first, of several exposures), -1 when absent.
    observation
        None exactly when `status` is set.
    status
        None for a row that is ready, else why it cannot be fitted.
    message
        Why not; for a ready row, what is worth knowing about it (``""`` for nothing).
    ra, dec
        Degrees, NaN where unknown; of a row without an observation, which has its own.
    input
        Name of the input, as the catalog shall say it; see `named`.
    known
        What else the catalog's row shall say of a row without an observation (SURVEY, PROGRAM).
    """

    targetid: int
    row: int
    observation: Observation | None
    status: Status | None
    message: str
    ra: float = math.nan
    dec: float = math.nan
    input: str = ""
    known: Mapping[str, Any] | None = None

    def named(self, name: str) -> TargetResult:
        """The same row of an input that goes by `name`; a ready row's observation says so, too (INPUT, ROW)."""
        renamed = self._replace(input=name)
        if self.observation is None:
            return renamed
        meta = {**self.observation.meta, **renamed.place}
        return renamed._replace(observation=replace(self.observation, meta=meta))

    @property
    def place(self) -> dict[str, Any]:
        """INPUT and ROW of the catalog, and what else is known of the row."""
        return {**(self.known or {}), "INPUT": self.input, "ROW": self.row}
