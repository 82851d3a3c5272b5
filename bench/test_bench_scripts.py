"""The scripts of this folder at the size of their ``--smoke``, so that `make bench` times and prints them, too.

One in full: ``python -m bench.store_speed --galaxies 100000``.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from studies.support.command import ROOT

SCRIPTS = (
    "fit_speed",
    "emulator_speed",
    "store_speed",
    "hats_speed",
    "population_speed",
    "learn_speed",
    "scheduler_speed",
    "run_speed",
)
pytestmark = pytest.mark.benchmark


@pytest.mark.parametrize("script", SCRIPTS)
def test_script(benchmark: Any, script: str) -> None:
    """Start to end, imports and compilation included."""
    command = [sys.executable, "-m", f"bench.{script}", "--smoke"]
    benchmark.pedantic(lambda: subprocess.run(command, cwd=ROOT, check=True), rounds=1)
