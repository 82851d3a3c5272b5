"""The mock challenge on Dask clusters: the same draws for any number of workers, whatever stopped it on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from distributed import LocalCluster

from provabgs.catalog.block import Block, concatenate
from provabgs.catalog.compare import block_differences
from provabgs.catalog.shard import read_block
from provabgs.core.errors import ConfigError, InputError
from provabgs.mocks.challenge import load_posteriors, load_selection, load_truth, make_mocks, pending
from provabgs.mocks.make import MockConfig
from provabgs.pipelines.challenge import ChallengeRun, run_challenge
from provabgs.pipelines.cluster_options import ClusterOptions
from provabgs.pipelines.keys import write_pair
from provabgs.pipelines.lock import DirectoryLock

ROOT = Path(__file__).resolve().parents[2]
FIT = "tests.support.challenge_fits:fit_observation"
MODES = ("both", "photometry")
N, CHUNK = 5, 2
N_PIECES = 6
LIMIT_S = 300.0


@pytest.fixture(autouse=True)
def dry_run_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the dry run's fits within reach of this process and of those that it starts."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


def challenge(output: Path, workers: int = 1, **changes: object) -> ChallengeRun:
    fields = {"output": output, "mock": MockConfig(n=N), "modes": MODES, "chunk": CHUNK, "workers": workers, **changes}
    return ChallengeRun.model_validate(fields)


def everything(output: Path, mode: str) -> Block:
    return concatenate([read_block(p) for p in sorted((output / "fits" / mode).glob("chunk-*.h5"))])


def assert_equal(first: Path, second: Path) -> None:
    assert load_truth(first).pformat(max_lines=-1) == load_truth(second).pformat(max_lines=-1)
    for mode in MODES:
        assert block_differences(everything(first, mode), everything(second, mode)) == []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        assert run_challenge(challenge(output), fit=FIT, quiet=True) == N_PIECES
    return output


def test_modes_are_fitted_with_their_own_data(undisturbed: Path) -> None:
    ids = set(load_truth(undisturbed)["TARGETID"].tolist())
    assert len(ids) == N
    for mode in MODES:
        found = load_posteriors(undisturbed, mode)
        assert set(found) == ids
        assert {json.loads(p.config)["use"] for p in found.values()} == {mode}
    state = json.loads((undisturbed / "progress.json").read_text())
    assert (state["total"], state["done"]) == (N * len(MODES), N * len(MODES))
    assert state["status"] == {"CONVERGED": N * len(MODES)}


def test_any_number_of_workers_selects_makes_and_fits_the_same(undisturbed: Path, tmp_path: Path) -> None:
    config = challenge(tmp_path / "two", workers=2)
    assert run_challenge(config, fit=FIT, quiet=True) == N_PIECES
    assert run_challenge(config, fit=FIT, quiet=True) == 0
    assert_equal(undisturbed, config.output)
    serial = challenge(tmp_path / "serial")
    make_mocks(serial)
    assert load_selection(serial) == load_selection(config)
    for path in sorted((serial.output / "mocks").iterdir()):
        assert path.read_bytes() == (config.output / "mocks" / path.name).read_bytes(), path.name


def test_killed_run_goes_on_to_the_same_end(undisturbed: Path, tmp_path: Path) -> None:
    path = tmp_path / "challenge.toml"
    path.write_text(
        f'output = "out"\nmodes = {json.dumps(MODES)}\nchunk = {CHUNK}\n[mock]\nn = {N}\n[cluster]\nworkers = 2\n'
    )
    command = [sys.executable, "-m", "tests.support.run_challenge", str(path)]
    environment = {**os.environ, "CHALLENGE_FIT_S": "0.4"}
    killed = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    end = time.monotonic() + LIMIT_S
    try:
        while not list((tmp_path / "out" / "fits").glob("*/chunk-*.h5")):
            assert time.monotonic() < end, "no piece was fitted"
            time.sleep(0.05)
        family = psutil.Process(killed.pid).children(recursive=True)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    n_left = N_PIECES - len(list((tmp_path / "out" / "fits").glob("*/chunk-*.h5")))
    assert n_left > 0
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(n_left)
    assert f"{2 * N}/{2 * N} (100.0 %)" in done.stderr
    assert_equal(undisturbed, tmp_path / "out")


def test_damaged_piece_is_made_again_on_a_running_scheduler(undisturbed: Path, tmp_path: Path) -> None:
    config = challenge(tmp_path / "out")
    assert run_challenge(config, fit=FIT, quiet=True, limit=5) == 5
    assert len(list(pending(config))) == 1
    victim = config.output / "fits" / "both" / "chunk-1.h5"
    victim.write_bytes(victim.read_bytes()[:-200])
    said: list[str] = []
    keys = tmp_path / "keys"
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", security=write_pair(keys)) as cluster:
        there = ClusterOptions(kind="address", address=cluster.scheduler_address, keys=keys)
        config = challenge(tmp_path / "out", workers=None, cluster=there)
        assert run_challenge(config, fit=FIT, quiet=True, announce=said.append) == 2
    assert any("made again" in line and "chunk-1" in line for line in said)
    assert_equal(undisturbed, config.output)


def test_one_run_at_a_time(undisturbed: Path) -> None:
    with DirectoryLock(undisturbed), pytest.raises(InputError, match="run"):
        run_challenge(challenge(undisturbed), fit=FIT)


def test_no_scheduler_at_the_address(tmp_path: Path) -> None:
    nowhere = ClusterOptions(kind="address", address="tcp://127.0.0.1:1", tls=False)
    with pytest.raises(ConfigError, match="no scheduler answers"):
        run_challenge(challenge(tmp_path / "out", cluster=nowhere), fit=FIT)
    with pytest.raises(ConfigError, match="can be imported"):
        run_challenge(challenge(tmp_path / "out"), fit="no_such_module:fit")


def test_directory_of_another_challenge_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    config = challenge(tmp_path / "other")
    config.output.mkdir()
    note = json.loads((undisturbed / "challenge.json").read_text())
    assert note == json.loads(config.identity())
    changes: list[dict] = [
        {**note, "seed": 1},
        {**note, "fit": {**note["fit"], "n_samples": 7}},
        {**note, "fit": {**note["fit"], "novelty": True}},
        {k: v for k, v in note.items() if k != "chunk"},
    ]
    for other in changes:
        (config.output / "challenge.json").write_text(json.dumps(other))
        with pytest.raises(ConfigError, match="another configuration"):
            make_mocks(config)
    assert not (config.output / "mocks").exists()
