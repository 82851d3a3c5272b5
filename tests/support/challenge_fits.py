"""The dry run's fit for mock challenges: takes its time."""

from __future__ import annotations

import os
import time

from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation
from provabgs.pipelines import dry_run


def fit_observation(observation: Observation, config: FitConfig, seed: int) -> Posterior:
    """Draws that depend on (data, seed)."""
    time.sleep(float(os.environ.get("CHALLENGE_FIT_S", "0")))
    return dry_run.fit_observation(observation, config, seed)
