"""A galaxy's catalog row is the same whichever way its fit was asked for: Python, `provabgs fit` or `provabgs run`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import provabgs
from provabgs.catalog.block import Block, concatenate
from provabgs.catalog.compare import block_differences
from provabgs.catalog.layout import shard_paths
from provabgs.catalog.records import to_block
from provabgs.catalog.shard import read_block
from provabgs.core.status import Status
from provabgs.desi import read_observation
from provabgs.desi.targets import ReadOptions
from provabgs.inference.config import load_fit_config
from provabgs.inference.posterior import Posterior
from provabgs.pipelines.supervisor import fit_environment
from tests.support.desi_files import Target, source_id, write_pair

ROOT = Path(__file__).resolve().parents[2]
SEED, DRAWS = 11, 40
GOOD, FAR, FARTHER, SKY, DOUBTED = (source_id(k) for k in range(1, 6))
TARGETS = [
    Target(GOOD, fibermap={"FLUX_IVAR_W2": 0.0}),
    Target(FAR, z=0.62),
    Target(FARTHER, z=0.9),
    Target(SKY, fibermap={"OBJTYPE": "SKY"}),
    Target(DOUBTED, zwarn=4),
]
EXPECTED = {
    FARTHER: Status.REDSHIFT_OUT_OF_RANGE,
    SKY: Status.UNOBSERVED,
    DOUBTED: Status.REDSHIFT_WARNING,
}
SETTINGS = f"""
[run]
output = "catalog"
seed = {SEED}
[inputs]
paths = ["data"]
[store]
n_samples = {DRAWS}
encoding = "float32"
[cluster]
workers = 1
[fit]
use = "photometry"
n_samples = {DRAWS}
[fit.observing]
z_max = 0.7
[fit.sampler]
max_eval = 1
aim_eval = 0
"""
"""One stage of annealing and no more; z_max is raised here, and nowhere else."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's file, its input, and the input under the names that the two other ways are given."""
    folder = tmp_path_factory.mktemp("road")
    (folder / "data").mkdir()
    write_pair(folder / "data", TARGETS)
    (folder / "run.toml").write_text(SETTINGS)
    return folder


def coadd(folder: Path) -> Path:
    return folder / "data" / "coadd-main-bright-1.fits"


def of_python(posteriors: Sequence[Posterior]) -> Block:
    return to_block(list(posteriors), n_samples=DRAWS, encoding="float32")


@pytest.fixture(scope="module")
def by_python(folder: Path) -> list[Posterior]:
    return provabgs.fit(coadd(folder), config=load_fit_config(folder / "run.toml"), seed=SEED)


def process(*arguments: str) -> None:
    """A fresh interpreter with the threads of a run's fit processes: the order of sums is part of the last digit."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=900, env=fit_environment(), cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


PYTHON_AND_COMMAND = """
import sys
import provabgs
from provabgs.catalog import write_posteriors
from provabgs.cli.main import main
from provabgs.inference.config import load_fit_config
coadd, config, seed, python, command = sys.argv[1:]
posteriors = provabgs.fit(coadd, config=load_fit_config(config), seed=int(seed))
write_posteriors(python, posteriors, n_samples=None, encoding="float32")
sys.argv = ["provabgs", "fit", coadd, "-c", config, "-o", command, "--seed", seed]
main()
"""


def test_true_fits_give_one_row(folder: Path) -> None:
    """Draws, statistics, survey columns, META, origin, messages: all but wall times."""
    config, files = str(folder / "run.toml"), [str(folder / name) for name in ("python.h5", "command.h5")]
    process("-c", PYTHON_AND_COMMAND, str(coadd(folder)), config, str(SEED), *files)
    process("-m", "tests.support.run_catalog", config)
    python, command = (read_block(Path(file)) for file in files)
    run = concatenate([read_block(p) for p in shard_paths(folder / "catalog")])
    status = dict(zip(python.summary["TARGETID"].tolist(), map(Status, python.summary["STATUS"].tolist()), strict=True))
    assert all(status[t].has_samples for t in (GOOD, FAR))
    assert {t: s for t, s in status.items() if t in EXPECTED} == EXPECTED
    assert set(python.summary["INPUT"]) == {b"coadd-main-bright-1.fits"}
    assert sorted(python.summary["ROW"]) == [0, 1, 2, 3, 4]
    read = python.summary[np.isin(python.summary["TARGETID"], (GOOD, FAR, FARTHER))]
    assert np.isfinite(read["MAG_R"]).all()
    assert np.isfinite(read["SCHLEGEL_COLOR"]).all()
    assert block_differences(python, command) == []
    assert block_differences(python, run) == []


def test_one_targetid_and_one_observation(folder: Path, by_python: list[Posterior]) -> None:
    """Other doors of the same house; an observation alone has lost the reader's notes, and nothing else."""
    config = load_fit_config(folder / "run.toml")
    first = next(p for p in by_python if p.targetid == GOOD)
    alone = provabgs.fit(coadd(folder), targetid=GOOD, config=config, seed=SEED)
    assert block_differences(of_python([first]), of_python([alone])) == []
    observation = provabgs.fit(read_observation(coadd(folder), GOOD), config=config, seed=SEED)
    assert first.message.startswith(observation.message)
    bare = replace(first, message=observation.message)
    assert block_differences(of_python([bare]), of_python([observation])) == []
    unread = provabgs.fit(coadd(folder), targetid=DOUBTED, config=config, seed=SEED)
    assert (unread.status, unread.meta["ROW"]) == (Status.REDSHIFT_WARNING, 4)


def test_the_readers_redshifts_are_a_choice_of_rows(folder: Path) -> None:
    """z_max of the reader refuses rows; the model's reach has one place, `observing.z_max`."""
    config = load_fit_config(folder / "run.toml")
    options = ReadOptions(z_max=0.5)
    found = provabgs.fit(coadd(folder), targetid=FAR, config=config, seed=SEED, options=options)
    assert found.status == Status.REDSHIFT_OUT_OF_RANGE
    assert "(0, 0.5]" in found.message
