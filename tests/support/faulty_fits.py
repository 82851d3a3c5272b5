"""Fits and readers that misbehave on purpose; switched by marker files in the folder PROVABGS_FAULTS.

Fits wait while ``held`` exists, so that a fault can be put in the middle of a run however fast the machine is.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from provabgs.core.errors import DataFileError
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation
from provabgs.observe.target import TargetResult
from provabgs.pipelines import dry_run
from provabgs.pipelines.inputs import PhotometryTableReader

SLOW_S = float(os.environ.get("PROVABGS_SLOW_S", "0.02"))
HANGS, SEGFAULTS, RAISES, EXITS = 100_003, 100_017, 200_006, 200_009
"""TARGETIDs that do so while ``PROVABGS_FAULTS/hostile`` exists."""


def _faulty(name: str) -> bool:
    return (Path(os.environ.get("PROVABGS_FAULTS", "/nonexistent")) / name).exists()


def fit_observation(observation: Observation, config: FitConfig, seed: int) -> Posterior:
    time.sleep(SLOW_S)
    while _faulty("held"):
        time.sleep(0.1)
    if _faulty("hostile"):
        if observation.targetid == HANGS:
            while True:  # neither sleeping nor answering
                pass
        if observation.targetid == SEGFAULTS:
            os.kill(os.getpid(), signal.SIGSEGV)
        if observation.targetid == RAISES:
            raise ZeroDivisionError("a bug in the fit")
        if observation.targetid == EXITS:
            os._exit(7)
    return dry_run.fit_observation(observation, config, seed)


class FlakyReader(PhotometryTableReader):
    """Lists files as usual; cannot read t1.fits while ``PROVABGS_FAULTS/unreadable`` exists."""

    def read(self, path: Path, targetids: Sequence[int], rows: Sequence[int]) -> Iterator[TargetResult]:
        if path.name == "t1.fits" and _faulty("unreadable"):
            raise DataFileError(f"{path}: the file server is away")
        return super().read(path, targetids, rows)
