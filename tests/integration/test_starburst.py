"""A real posterior with a narrow part: the starburst of ``make demo`` may have burst in the last 100 Myr, or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import provabgs
from provabgs.core.status import Status
from provabgs.desi import read_observation

TARGETID = 39633345008634465


def test_every_seed_finds_the_recent_burst(reference_dir: Path) -> None:
    """32 to 37 % of the posterior by seeds 0 to 11 (docs/studies/speed.md); started from the prior, seed 4 had 1 %."""
    desi = reference_dir / "desi"
    data = read_observation(
        desi / "coadd-4-80613-thru20210324.fits",
        TARGETID,
        redrock=desi / "redrock-4-80613-thru20210324.fits",
        photometry=desi / "tractor-1054p567.fits",
    )
    config = provabgs.FitConfig.model_validate({"observing": {"line_mask": "extended"}})
    for seed in (3, 4):
        posterior = provabgs.fit(data, config=config, seed=seed)
        assert posterior.status == Status.CONVERGED
        share = np.mean(posterior["tburst"] < 0.1)
        assert 0.27 < share < 0.43, f"seed {seed}: {share:.2f} of the draws have a burst in the last 100 Myr"
