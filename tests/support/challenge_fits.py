"""The dry run's fit for mock challenges: says which data it was told to use, and takes its time."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation
from provabgs.pipelines import dry_run


def fit_observation(observation: Observation, config: FitConfig, seed: int) -> Posterior:
    """Draws that depend on (data, seed), with the settings kept as a real fit keeps them."""
    time.sleep(float(os.environ.get("CHALLENGE_FIT_S", "0")))
    return replace(dry_run.fit_observation(observation, config, seed), config=config.model_dump_json())
