"""A whole training in half a minute: shards, interruption, damage, checkpoint, weights; and FSPS as its source."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from provabgs.cli.emulator import emulator_app
from provabgs.core.errors import InputError
from provabgs.core.jax import jnp
from provabgs.emulator.weights import load_emulator
from provabgs.pipelines import emulator as pipeline
from provabgs.pipelines.emulator_config import EmulatorConfig, parse_emulator_config
from provabgs.pipelines.emulator_shards import is_done, shard_path
from provabgs.sps.model import SPSModel
from tests.support.parameters import stars_of
from tests.support.small_library import draws, small_library
from tests.support.sps_home import write_stand_in


def make_config(folder: Path, **source: object) -> EmulatorConfig:
    """Small: 30 wavelengths in a hundred, a network of 2 x 32."""
    return parse_emulator_config(
        {
            "emulator": {"output": folder / "weights.h5", "work": folder / "work", "seed": 5},
            "source": source,
            "data": {"t_age": (8.0, 13.5), "n_basis": 120, "n_train": 900, "n_held_out": 200, "shard": 300},
            "basis": {"young": 4, "old": 10, "burst": 20},
            "network": {"hidden": (32, 32), "steps": 1200, "batch": 256, "check_every": 200},
            "cluster": {"workers": 1},
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("emulator")
    small_library(np.geomspace(2000.0, 12000.0, 160)).save(path / "ssp.h5")
    return path


@pytest.fixture(scope="module")
def config(folder: Path) -> EmulatorConfig:
    return make_config(folder, library=folder / "ssp.h5")


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def trained(config: EmulatorConfig) -> list[pipeline.TrainingReport]:
    """Stopped while the network trains, then run again, then once more."""

    def stop(what: str, done: int, total: int) -> None:
        if what.startswith("network") and done >= 600:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "CHECKPOINT_S", 0.0)
        with pytest.raises(Stopped):
            pipeline.train_emulator(config, stop)
        assert not config.emulator.output.exists()
        damaged = shard_path(config, "train", 1)
        damaged.write_bytes(damaged.read_bytes()[:500])
        return [pipeline.train_emulator(config), pipeline.train_emulator(config)]


def test_goes_on_where_it_was_stopped(trained: list[pipeline.TrainingReport]) -> None:
    first, second = trained
    assert first.n_computed == 300  # the damaged shard alone
    assert first.n_found == 920
    assert second.n_computed == 0
    assert first.trained is not None
    assert second.trained is not None
    assert [h.step for h in first.trained.history] == [200, 400, 600, 800, 1000, 1200]
    assert second.trained.history == first.trained.history  # from the checkpoint: nothing is trained again


def test_an_interrupted_training_is_the_same_training(
    trained: list[pipeline.TrainingReport], config: EmulatorConfig
) -> None:
    checkpoint = config.emulator.work / "checkpoint.h5"
    checkpoint.unlink()
    again = pipeline.train_emulator(config)
    assert again.trained is not None
    assert trained[0].trained is not None
    assert again.trained.history == trained[0].trained.history


def test_weights_are_what_they_should_be(
    trained: list[pipeline.TrainingReport], config: EmulatorConfig, folder: Path
) -> None:
    from provabgs.sps.library import SSPLibrary

    emulator, model = load_emulator(config.emulator.output), SPSModel(SSPLibrary.load(folder / "ssp.h5"))
    rng = np.random.default_rng(1)
    th, t_age = draws(300, rng), rng.uniform(8.0, 13.5, 300)
    exact = np.asarray(model.spectrum(jnp.asarray(stars_of(th)), model.tables(t_age)))
    error = np.abs(np.asarray(emulator.spectrum(jnp.asarray(stars_of(th)), model, t_age)) / exact - 1)
    median, p99 = np.percentile(error, [50, 99])
    assert median < 0.004
    assert p99 < 0.05
    reported = trained[0].errors
    assert reported is not None
    assert reported.median == pytest.approx(median, rel=0.5)  # other draws, same errors
    assert "median" in emulator.provenance["errors"]
    assert str(folder) not in str(emulator.provenance)
    assert not list(config.emulator.work.rglob(".tmp-*"))


def test_shards_of_other_settings_are_not_taken(config: EmulatorConfig, trained: list) -> None:
    assert is_done(config, "train", 0)
    other = config.model_copy(update={"data": config.data.model_copy(update={"t_age": (8.5, 13.5)})})
    assert not is_done(other, "train", 0)
    with h5py.File(shard_path(config, "basis", 0)) as f:
        assert f["y"].shape[0] == 120


def test_one_training_at_a_time(config: EmulatorConfig, trained: list) -> None:
    from provabgs.pipelines.lock import DirectoryLock

    with DirectoryLock(config.emulator.work), pytest.raises(InputError, match="another run is at work"):
        pipeline.train_emulator(config)


def test_command_line(config: EmulatorConfig, trained: list, folder: Path) -> None:
    toml = folder / "e.toml"
    toml.write_text(
        '[emulator]\noutput = "again.h5"\nwork = "work"\nseed = 5\n[source]\nlibrary = "ssp.h5"\n'
        "[data]\nt_age = [8.0, 13.5]\nn_basis = 120\nn_train = 900\nn_held_out = 200\nshard = 300\n"
        "[basis]\nyoung = 4\nold = 10\nburst = 20\n"
        "[network]\nhidden = [32, 32]\nsteps = 1200\nbatch = 256\ncheck_every = 200\n"
    )
    result = CliRunner().invoke(emulator_app, ["train", str(toml), "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "0 draws computed, 1220 found" in result.output
    assert "99.9 %" in result.output
    info = CliRunner().invoke(emulator_app, ["info", str(folder / "again.h5")])
    assert info.exit_code == 0
    assert "paper" in info.output
    assert "32 - 32" in info.output


@pytest.mark.slow
def test_from_fsps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """python-fsps itself fills the library, on stand-in data (black bodies)."""
    if importlib.util.find_spec("fsps") is None:
        pytest.skip("python-fsps is not installed (pip install 'provabgs[fsps]')")
    monkeypatch.setenv("SPS_HOME", str(write_stand_in(tmp_path / "home")))
    config = make_config(tmp_path, kind="fsps", logzsol=(-1.0, 0.0, 0.5), wave_range=(2300.0, 4000.0))
    config = config.model_copy(update={"network": config.network.model_copy(update={"steps": 200})})
    steps: list[str] = []
    report = pipeline.train_emulator(config, lambda what, *_: steps.append(what))
    assert any(s.startswith("FSPS: log Z/Zsun") for s in steps)
    assert "python-fsps" in load_emulator(config.emulator.output).provenance["ssp_library"]
    assert report.errors is not None
    assert report.errors.median < 0.01
