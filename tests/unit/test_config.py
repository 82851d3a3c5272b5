"""Configuration files: one reader, and errors that name the file, the key and the cure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from provabgs.core.config import BESIDE_FILE, check_config, load_config_file, overlay, with_absolute_paths
from provabgs.core.errors import ConfigError
from provabgs.inference.config import BESIDE_FIT, FitConfig, ModelOptions, SamplerOptions, load_fit_config
from provabgs.inference.fit import check_names
from provabgs.observe.options import ObservingOptions
from provabgs.pipelines.challenge import ChallengeRun, load_challenge
from provabgs.pipelines.config import RunConfig, load_config
from provabgs.pipelines.run import run


class Oven(BaseModel):
    """A table."""

    model_config = ConfigDict(extra="forbid")
    degrees: float = Field(180.0, gt=0, description="temperature, C")
    heat: Literal["top", "bottom"] = "top"
    manual: Annotated[Path | None, BESIDE_FILE] = None


class Recipe(BaseModel):
    """A file."""

    model_config = ConfigDict(extra="forbid")
    name: str
    pages: Annotated[tuple[str, ...], BESIDE_FILE] = ()
    oven: Oven | None = None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "name is required"),
        ('name = "a"\nnmae = "b"', r"nmae is no key; did you mean name\? \(allowed: name, pages, oven\)"),
        ('name = "a"\n[ovne]', r"\[ovne\] is no key; did you mean oven\?"),
        ('name = "a"\noven = 3', r"\[oven\] = 3: must be a table"),
        ('name = "a"\n[oven]\ndegree = 3', r"\[oven\] degree is no key; did you mean degrees\?"),
        ('name = "a"\n[oven]\ndegrees = -3', r"\[oven\] degrees = -3: .* greater than 0 \(temperature, C\)"),
        ('name = "a"\n[oven]\nheat = "side"', r"\[oven\] heat = 'side': .*'top' or 'bottom'"),
    ],
)
def test_errors_name_file_key_and_cure(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "cake.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config_file(Recipe, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_relative_paths_start_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cake.toml"
    path.write_text('name = "a"\npages = ["1.txt", "/abs/2.txt"]\n[oven]\nmanual = "m.pdf"\n')
    recipe = load_config_file(Recipe, path)
    assert recipe.pages == (str(tmp_path / "1.txt"), "/abs/2.txt")
    assert recipe.oven is not None
    assert recipe.oven.manual == tmp_path / "m.pdf"
    assert with_absolute_paths(Recipe, {"oven": 3, "pages": 4}, tmp_path) == {
        "oven": 3,
        "pages": 4,
    }


def test_command_line_over_file() -> None:
    base = {"a": 1, "t": {"x": 1, "y": 2}}
    assert overlay(base, {"a": None, "t": {"x": 5, "y": None}, "u": {"z": None}}) == {
        "a": 1, "t": {"x": 5, "y": 2}, "u": {},
    }  # fmt: skip
    assert base["t"] == {"x": 1, "y": 2}
    with pytest.raises(ConfigError, match=r"\[fit\] sampler = 'emcee': must be a table"):
        check_config(FitConfig, overlay({"sampler": "emcee"}, {"sampler": {"name": "annealed"}}), "x.toml", "fit")


# ---- the table of a fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('fit = "x"', r"\[fit\] = 'x': must be a table"),
        ("[fit]\n[sampler]\nname = 'emcee'", r"\[sampler\] is an option of the fit; make it \[fit\.sampler\]"),
        ("engine = 'exact'\n[fit]", r"engine is an option of the fit; make it a line under \[fit\]"),
        ("[fti]", r"\[fti\] belongs to no fit, run or mock challenge; did you mean fit\?"),
        ("[run]\noutput = 'x'", r"has no \[fit\] table"),
        ("[fit]\nengin = 'exact'", r"\[fit\] engin is no key; did you mean engine\?"),
        ("[fit.model]\ngas_free = true", r"\[fit\] model: gas_free = true needs nebular = true"),
    ],
)
def test_errors_of_a_fit_table(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "fit.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_fit_config(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_the_fit_table_of_a_run_and_of_a_challenge(tmp_path: Path) -> None:
    """The three commands read the same table of the same file."""
    assert set(BESIDE_FIT) | {"fit"} == {*RunConfig.model_fields, *ChallengeRun.model_fields}
    fit = "[fit]\nn_samples = 7\n[fit.observing]\nz_max = 0.8\n[fit.model]\nlibrary = 'ssp.h5'\n"
    (tmp_path / "run.toml").write_text("[run]\noutput = 'o'\n[inputs]\npaths = ['in']\n" + fit)
    (tmp_path / "mock.toml").write_text("output = 'o'\nchunk = 3\n" + fit)
    alone = load_fit_config(tmp_path / "run.toml")
    assert (alone.n_samples, alone.observing.z_max, alone.model.library) == (7, 0.8, tmp_path / "ssp.h5")
    assert load_config(tmp_path / "run.toml").fit == alone
    assert load_challenge(tmp_path / "mock.toml").fit == load_fit_config(tmp_path / "mock.toml") == alone
    assert load_challenge(tmp_path / "mock.toml").output == tmp_path / "o"


def test_a_challenge_names_its_misspelt_keys(tmp_path: Path) -> None:
    path = tmp_path / "mock.toml"
    path.write_text("output = 'o'\nchunks = 3\n")
    with pytest.raises(ConfigError, match=r"chunks is no key; did you mean chunk\?"):
        load_challenge(path)
    path.write_text("output = 'o'\nchunk = 0\n")
    with pytest.raises(ConfigError, match=r"mock\.toml: chunk = 0: .*greater than or equal to 1"):
        load_challenge(path)


def test_stored_configurations_hold_every_option() -> None:
    """Nothing is left out, and what is read back is what was written."""
    for config in (FitConfig(), FitConfig(model=ModelOptions(nebular=True, gas_free=True))):
        stored = config.model_dump(mode="json")
        assert set(stored) == set(FitConfig.model_fields)
        assert set(stored["model"]) == set(ModelOptions.model_fields)
        assert set(stored["observing"]) == set(ObservingOptions.model_fields)
        assert FitConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sampler": {"name": "anealed"}}, r"sampler\.name = 'anealed': .*did you mean 'annealed'\?"),
        ({"model": {"history": "bin"}}, r"model\.history = 'bin': .*did you mean 'bins'\?"),
        ({"model": {"attenuation": "grey"}}, r"model\.attenuation = 'grey': .*charlot-fall"),
        ({"model": {"emissions": ["glow"]}}, r"model\.emissions = 'glow'"),
        ({"model": {"properties": ["colour"]}}, r"model\.properties = 'colour'"),
        ({"plugins": ["no.such.module"]}, r"plugins: 'no\.such\.module' cannot be imported"),
    ],
)
def test_names_are_checked_before_any_fit(config: dict, message: str, tmp_path: Path) -> None:
    checked = FitConfig.model_validate(config)
    with pytest.raises(ConfigError, match=message):
        check_names(checked)
    options = {"run": {"output": tmp_path / "out"}, "inputs": {"paths": [str(tmp_path)]}, "fit": config}
    with pytest.raises(ConfigError, match=message):
        run(RunConfig.model_validate(options))
    assert not (tmp_path / "out").exists()


def test_names_that_are_known() -> None:
    check_names(FitConfig())
    check_names(FitConfig(sampler=SamplerOptions(name="emcee"), model=ModelOptions(nebular=True)))


def test_the_preset_delayed_has_histories_of_its_own() -> None:
    """The noise of the default; another family asked for takes none of the preset's options."""
    preset = FitConfig(preset="delayed")
    assert preset.observing == FitConfig().observing
    assert preset.model.history == "delayed-tau"
    assert preset.model.history_options == {"burst": True, "residual": True, "metallicity": "enriching"}
    assert FitConfig.model_validate_json(preset.model_dump_json()) == preset
    other = FitConfig.model_validate({"preset": "delayed", "model": {"history": "tng6"}}).model
    assert (other.history, other.history_options) == ("tng6", {})
    plain = FitConfig.model_validate({"preset": "delayed", "model": {"history_options": {"burst": False}}}).model
    assert (plain.history, plain.history_options) == ("delayed-tau", {"burst": False})
