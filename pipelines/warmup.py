"""A fit or two that fill the compilation cache before a thousand processes ask for the same functions."""

from __future__ import annotations

import time

from provabgs.core.errors import InputError
from provabgs.inference.config import FitConfig
from provabgs.observe.options import ASSUMED_VDISP_KMS
from provabgs.pipelines.config import RunConfig
from provabgs.pipelines.plan import Plan, make_plan
from provabgs.pipelines.supervisor import Batch, FitProcess

MOST_ROWS = 32
"""Rows that are tried for one that can be fitted."""


def warm_up(config: RunConfig) -> str:
    """Fit the first galaxy of a run that can be fitted, and keep nothing but what was compiled.

    Where the data choose whether the velocity dispersion is fitted, the galaxy is fitted both ways.

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
            batch = _batch(plan, row)
            posterior = [process.fit(batch, fit)[0] for fit in _ways(config.fit)][-1]
            if posterior.status.has_samples:
                return (
                    f"TARGETID {plan.targetid[row]} of {plan.names[plan.file[row]]}: {time.monotonic() - start:.0f} s"
                )
            said = f"{posterior.status.name}: {posterior.message}"
    raise InputError(f"none of the first {min(len(plan), MOST_ROWS)} rows can be fitted; the last: {said}")


def _ways(fit: FitConfig) -> list[FitConfig]:
    """Settings that compile all that galaxies of a run need."""
    observing = fit.observing
    chosen = (ASSUMED_VDISP_KMS, "fit") if observing.vdisp_kms == "auto" else (observing.vdisp_kms,)
    return [fit.model_copy(update={"observing": observing.model_copy(update={"vdisp_kms": v})}) for v in chosen]


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
