"""A real posterior with a narrow part: the starburst of ``make demo`` may have burst in the last 100 Myr, or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import provabgs
from provabgs.core.status import Status
from provabgs.desi import read_observation

TARGETID = 39633345008634465


def test_the_recent_burst_is_not_always_missed(reference_dir: Path) -> None:
    """33 to 44 % of the posterior by seeds 0 to 3; seed 4 is CONVERGED with 1 % of it (docs/studies/speed.md)."""
    desi = reference_dir / "desi"
    data = read_observation(
        desi / "coadd-4-80613-thru20210324.fits",
        TARGETID,
        redrock=desi / "redrock-4-80613-thru20210324.fits",
        photometry=desi / "tractor-1054p567.fits",
    )
    config = provabgs.FitConfig.model_validate({"observing": {"line_mask": "extended"}})
    shares = []
    for seed in (1, 0, 2):
        posterior = provabgs.fit(data, config=config, seed=seed)
        assert posterior.status == Status.CONVERGED
        shares.append(np.mean(posterior["tburst"] < 0.1))
        if 0.2 < shares[-1] < 0.6:
            return
    raise AssertionError(f"shares of draws with a burst in the last 100 Myr: {shares}")
