"""Shards of training spectra: computed by Dask workers, written atomically, kept when a training is stopped.

A shard is a function of the configuration and its own number: any worker may compute it, at any time, again. Spectra
are stored in full only for the principal components; after that, in their coordinates (1/60 of the size).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import DataFileError
from provabgs.emulator.basis import Basis
from provabgs.emulator.training_spectra import Parts, draw_inputs, smooth_ranges, smooth_spectra
from provabgs.pipelines.emulator_config import EmulatorConfig, parse_emulator_config
from provabgs.pipelines.emulator_files import keep, kept
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel

Stage = Literal["basis", "train", "held_out"]

STAGES: tuple[Stage, ...] = ("basis", "train", "held_out")
LIBRARY_NAME, BASIS_NAME = "library.h5", "basis.h5"
_LIGHT, _PARTS = ("young", "old"), ("functions", "weight")
_BLOCK = 125
"""Draws computed at a time, to bound memory."""


class Shard(NamedTuple):
    """Draws and what became of them."""

    x: FloatArray
    """``(n, 3)`` inputs."""
    y: FloatArray
    """``(n, npart, nwave)`` spectra, or ``(n, noutput)`` amplitudes and components."""


def load_training_model(config: EmulatorConfig) -> SPSModel:
    """The model to emulate; an FSPS library must have been made before (`library_path`)."""
    return _load_model(str(library_path(config) or ""), config.source.conventions)


@lru_cache(maxsize=2)
def _load_model(library: str, conventions: str) -> SPSModel:
    ssp = SSPLibrary.load(library) if library else SSPLibrary.default()
    return SPSModel(ssp) if conventions == "paper" else SPSModel.published(ssp)


def library_path(config: EmulatorConfig) -> Path | None:
    """File of the SSP library; None for the one that ships."""
    return config.emulator.work / LIBRARY_NAME if config.source.kind == "fsps" else config.source.library


def shard_sizes(config: EmulatorConfig, stage: Stage) -> list[int]:
    """Draws in each shard of a stage."""
    total = {"basis": config.data.n_basis, "train": config.data.n_train, "held_out": config.data.n_held_out}[stage]
    full, rest = divmod(total, config.data.shard)
    return [config.data.shard] * full + ([rest] if rest else [])


def shard_path(config: EmulatorConfig, stage: Stage, index: int) -> Path:
    """File of a shard."""
    return config.emulator.work / "shards" / f"{stage}-{index:05d}.h5"


def label(config: EmulatorConfig, stage: Stage) -> str:
    """All that a shard depends on, as recorded in it."""
    return f"{config.settings('spectra' if stage == 'basis' else 'shards')} library {library_digest(config)}"


def library_digest(config: EmulatorConfig) -> str:
    """SHA-256 of the SSP library."""
    return _digest(load_training_model(config))


@lru_cache(maxsize=2)
def _digest(model: SPSModel) -> str:
    return model.library.digest()


def is_done(config: EmulatorConfig, stage: Stage, index: int) -> bool:
    """Whether a shard is there, readable, and of these very settings."""
    try:
        arrays = kept(shard_path(config, stage, index), label(config, stage))
        return len(arrays["x"]) == len(arrays["y"]) == shard_sizes(config, stage)[index]
    except (DataFileError, KeyError):
        return False


def compute_shard(config_json: dict, stage: Stage, index: int) -> int:
    """Compute and write one shard (a Dask task); returns its number of draws."""
    config = parse_emulator_config(config_json)
    model = load_training_model(config)
    n = shard_sizes(config, stage)[index]
    rng = np.random.default_rng([config.emulator.seed, STAGES.index(stage), index])
    x = draw_inputs(n, *smooth_ranges(config.data.t_age), rng)
    parts = Parts.of(model, config.data.t_age)
    bases = None if stage == "basis" else read_bases(config)
    pieces = [_describe(model, parts, x[i : i + _BLOCK], bases) for i in range(0, n, _BLOCK)]
    y = np.concatenate(pieces).astype(np.float32 if stage == "basis" else np.float64)
    keep(shard_path(config, stage, index), label(config, stage), {"x": x, "y": y})
    return n


def _describe(model: SPSModel, parts: Parts, x: FloatArray, bases: tuple[Basis, Basis] | None) -> FloatArray:
    """Spectra of all parts, or their coordinates side by side."""
    spectra = smooth_spectra(model, parts, x)
    if bases is None:
        return np.concatenate(spectra, axis=1)
    wave = model.library.wave
    return np.concatenate(
        [b.project(s[:, i], wave) for b, s in zip(bases, spectra, strict=True) for i in range(s.shape[1])], axis=1
    )


def read_shards(config: EmulatorConfig, stage: Stage) -> Shard:
    """All shards of a stage.

    Raises
    ------
    DataFileError
        When one is missing or damaged.
    """
    indices = range(len(shard_sizes(config, stage)))
    found = [kept(shard_path(config, stage, index), label(config, stage)) for index in indices]
    return Shard(*(np.concatenate([arrays[name] for arrays in found]) for name in "xy"))


def write_bases(config: EmulatorConfig, bases: tuple[Basis, Basis]) -> None:
    """Keep the bases of young and old light."""
    arrays = {
        f"{name}/{part}": getattr(basis, part) for name, basis in zip(_LIGHT, bases, strict=True) for part in _PARTS
    }
    keep(config.emulator.work / BASIS_NAME, label(config, "train"), arrays)


def read_bases(config: EmulatorConfig) -> tuple[Basis, Basis] | None:
    """The bases of these very settings; None where they are yet to be found."""
    try:
        return _read_bases(str(config.emulator.work / BASIS_NAME), label(config, "train"))
    except (DataFileError, KeyError):
        return None


@lru_cache(maxsize=2)
def _read_bases(path: str, settings: str) -> tuple[Basis, Basis]:
    arrays = kept(Path(path), settings)
    young, old = (Basis(*(arrays[f"{name}/{part}"] for part in _PARTS)) for name in _LIGHT)
    return young, old
