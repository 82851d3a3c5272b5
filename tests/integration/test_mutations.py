"""Thousands of damaged files: each is refused in one line, or read; no traceback, no hang, no silent change.

DESI files (`tests.support.mutations`) and files of our own (`tests.support.store_mutations`: shards, summaries,
manifests, SSP libraries, grids, weights, priors). `pytest tests/integration/test_mutations.py -m slow` reads 20,000.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mutations import SLOW_S

SEED = 22
BATCH_LIMIT_S = 900
ROOT = Path(__file__).resolve().parents[2]
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


KINDS = ("mutations", "store_mutations")


def damaged(kind: str, folder: Path, first: int, count: int) -> list[dict]:
    """Outcomes of mutations, read in a process of their own with limits on memory and time."""
    command = [sys.executable, "-m", f"tests.support.{kind}", str(folder), str(SEED), str(first), str(count)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **THREADS},
        capture_output=True,
        text=True,
        timeout=BATCH_LIMIT_S,
        check=False,
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"ended at mutation {first + len(records)}: {done.stderr[-500:]}"
    assert len(records) == count
    return records


def check(records: list[dict]) -> None:
    raised = [r for r in records if r["outcome"].startswith("raised")]
    assert not raised, raised[:3]
    slow = [r for r in records if r["seconds"] > SLOW_S]
    assert len(slow) <= len(records) // 500, slow[:3]  # a busy machine stalls now and then, a hang does so each time
    silent = [r for r in records if r["silent"]]
    assert not silent, silent[:3]
    refused = sum(r["outcome"].startswith("refused") for r in records)
    assert 0.2 * len(records) < refused < 0.95 * len(records)  # neither everything nor nothing was noticed


@pytest.mark.parametrize("kind", KINDS)
def test_two_thousand_damaged_files(kind: str, tmp_path: Path) -> None:
    check(damaged(kind, tmp_path, 0, 1000))


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(10))
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_thousand_damaged_files(kind: str, batch: int, tmp_path: Path) -> None:
    check(damaged(kind, tmp_path, 1000 * batch, 1000))
