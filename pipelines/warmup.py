"""One fit that fills the compilation cache before a thousand processes ask for the same functions at once."""

from __future__ import annotations

import time

from provabgs.core.errors import InputError
from provabgs.pipelines.config import RunConfig
from provabgs.pipelines.plan import Plan, make_plan
from provabgs.pipelines.supervisor import Batch, FitProcess

MOST_ROWS = 32
"""Rows that are tried for one that can be fitted."""


def warm_up(config: RunConfig) -> str:
    """Fit the first galaxy of a run that can be fitted, and keep nothing but what was compiled.

    Returns
    -------
    str
        What was fitted, and how long it took.

    Raises
    ------
    InputError
        When none of the first `MOST_ROWS` rows can be fitted.
    """
    plan = make_plan(config)
    start = time.monotonic()
    said = ""
    with FitProcess(config) as process:
        for row in range(min(len(plan), MOST_ROWS)):
            posterior = process.fit(_batch(plan, row))[0]
            if posterior.status.has_samples:
                return (
                    f"TARGETID {plan.targetid[row]} of {plan.names[plan.file[row]]}: {time.monotonic() - start:.0f} s"
                )
            said = f"{posterior.status.name}: {posterior.message}"
    raise InputError(f"none of the first {min(len(plan), MOST_ROWS)} rows can be fitted; the last: {said}")


def _batch(plan: Plan, row: int) -> Batch:
    """One row of a plan."""
    file = int(plan.file[row])
    return Batch(
        path=str(plan.files[file]),
        name=plan.names[file],
        targetids=(int(plan.targetid[row]),),
        rows=(int(plan.row[row]),),
        ra=(float(plan.ra[row]),),
        dec=(float(plan.dec[row]),),
    )
