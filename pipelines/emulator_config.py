"""Configuration of an emulator's training, read from TOML as runs are; see `provabgs.pipelines.config`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from provabgs.core.config import BESIDE_FILE, check_config, load_config_file
from provabgs.emulator.training import TrainingOptions
from provabgs.inference.config import Conventions
from provabgs.pipelines.cluster_options import ClusterOptions, Section

Product = Literal["weights", "network", "shards", "spectra"]
MIN_AGE_GYR = 1.0
MAX_AGE_GYR = 14.5


class EmulatorOptions(Section):
    """What to make, and where."""

    output: Annotated[Path, BESIDE_FILE] = Field(description="weights to write, .h5")
    work: Annotated[Path, BESIDE_FILE] = Field(
        description="directory of shards and checkpoints; a training that was stopped goes on from them"
    )
    seed: int = Field(20231123, ge=0, lt=2**31, description="seed of every draw")


class SourceOptions(Section):
    """Where spectra come from."""

    kind: Literal["library", "fsps"] = Field(
        "library", description="'library': a stored SSP library; 'fsps': python-fsps, run once to fill one (SPS_HOME)"
    )
    library: Annotated[Path | None, BESIDE_FILE] = Field(
        None, description="SSP library of kind 'library'; the one that ships if absent"
    )
    conventions: Conventions = Field("paper", description="conventions of the model, as in a fit")
    logzsol: tuple[float, ...] | None = Field(None, description="fsps: metallicities; the isochrones' own if absent")
    wave_range: tuple[float, float] = Field((2000.0, 60000.0), description="fsps: rest wavelengths kept, Angstrom")
    nebular: bool = Field(False, description="fsps: nebular continuum and lines, at FSPS's default gas parameters")
    timeout_s: float = Field(3600.0, gt=0, description="fsps: longest wait for the engine, s")

    @model_validator(mode="after")
    def _fits_together(self) -> SourceOptions:
        if self.kind == "fsps" and self.library is not None:
            raise ValueError("kind 'fsps' computes its own library; leave `library` out")
        if self.kind == "library" and (self.nebular or self.logzsol is not None):
            raise ValueError("`nebular` and `logzsol` belong to kind 'fsps'; a stored library is taken as it is")
        return self


class DataOptions(Section):
    """Range and number of spectra."""

    t_age: tuple[float, float] = Field((7.0, 13.85), description="ages of the universe at the galaxies, Gyr")
    tburst_min: float = Field(0.01, gt=0, description="youngest burst, Gyr")
    n_basis: int = Field(1200, ge=16, description="draws from which principal components are found")
    n_train: int = Field(40_000, ge=100, description="draws to learn from (each gives one spectrum per SFH basis)")
    n_held_out: int = Field(4000, ge=50, description="draws to stop on, and to report errors of")
    shard: int = Field(500, ge=1, le=5000, description="draws per shard")

    @model_validator(mode="after")
    def _in_order(self) -> DataOptions:
        low, high = self.t_age
        if not MIN_AGE_GYR <= low < high <= MAX_AGE_GYR:
            raise ValueError(f"t_age must increase, within {MIN_AGE_GYR:g}-{MAX_AGE_GYR:g} Gyr")
        return self


class BasisOptions(Section):
    """Numbers of principal components."""

    young: int = Field(13, ge=1, le=256, description="of young stars of smooth histories")
    old: int = Field(44, ge=1, le=256, description="of their old stars")
    burst: int = Field(160, ge=1, le=256, description="of bursts")


class NetworkOptions(Section):
    """The network and its training."""

    hidden: tuple[int, ...] = Field((128, 128, 128), min_length=1, description="units of each hidden layer")
    steps: int = Field(20_000, ge=1, description="most gradient steps")
    batch: int = Field(1024, ge=1, description="spectra per step")
    learning_rate: float = Field(3e-3, gt=0, description="peak; 2 % warm-up, cosine decay to a thousandth")
    check_every: int = Field(500, ge=1, description="steps between looks at the held-out set, and checkpoints")
    patience: int = Field(12, ge=1, description="looks without a new best after which training stops")

    def options(self) -> TrainingOptions:
        """As the trainer takes them."""
        return TrainingOptions(**self.model_dump())


class EmulatorConfig(Section):
    """An emulator."""

    emulator: EmulatorOptions
    source: SourceOptions = Field(default_factory=SourceOptions)
    data: DataOptions = Field(default_factory=DataOptions)
    basis: BasisOptions = Field(default_factory=BasisOptions)
    network: NetworkOptions = Field(default_factory=NetworkOptions)
    cluster: ClusterOptions = Field(default_factory=ClusterOptions)

    def settings(self, product: Product = "weights") -> str:
        """Settings that decide about a product, as JSON: no paths (a library is told by its hash).

        What does not matter to a product is left out, so that, say, more shards or other bursts do not spoil what is
        there: ``"weights"`` depend on everything, the ``"network"`` not on bursts, ``"shards"`` of coordinates not on
        the network or on how many shards there are, those of ``"spectra"`` not on the principal components either.
        """
        exclude: dict[str, Any] = {"emulator": {"output", "work"}, "source": {"library"}, "cluster": True}
        if product == "network":
            exclude |= {"basis": {"burst"}}
        elif product == "shards":
            exclude |= {"network": True, "basis": {"burst"}, "data": {"tburst_min", "n_train", "n_held_out"}}
        elif product == "spectra":
            counts = {"tburst_min", "n_basis", "n_train", "n_held_out"}
            exclude |= {"network": True, "basis": True, "data": counts}
        return self.model_dump_json(exclude=exclude)


def load_emulator_config(path: str | Path) -> EmulatorConfig:
    """Read the TOML file of a training; relative paths are taken from its own directory.

    Raises
    ------
    ConfigError
        When the file is missing or not TOML, and for every unknown key or value that is not allowed.
    """
    return load_config_file(EmulatorConfig, path, missing="; pipelines/emulator.toml is the one that made what ships")


def parse_emulator_config(data: dict[str, Any], where: str = "configuration") -> EmulatorConfig:
    """Check a configuration given as a dictionary; errors as in `load_emulator_config`."""
    return check_config(EmulatorConfig, data, where)
