"""Checkpoints of a network's training: HDF5, so that nothing read back is ever executed."""

from __future__ import annotations

import h5py
import numpy as np

from provabgs.core.atomic import atomic_path
from provabgs.core.jax import jax, jnp
from provabgs.emulator.encoding import PROBE_AGES_GYR
from provabgs.emulator.training import Look, TrainingState
from provabgs.pipelines.emulator_config import EmulatorConfig
from provabgs.pipelines.emulator_shards import library_digest

CHECKPOINT_NAME = "checkpoint.h5"


def store(config: EmulatorConfig, state: TrainingState) -> None:
    """Write the state in place of the last one."""
    with (
        atomic_path(config.emulator.work / CHECKPOINT_NAME) as temporary,
        h5py.File(temporary, "w") as f,
    ):
        f.attrs["settings"] = _label(config)
        f.attrs["step"], f.attrs["since_best"] = state.step, state.since_best
        f["history"] = np.array([tuple(h) for h in state.history])
        for i, leaf in enumerate(jax.tree.leaves((state.network, state.optimiser, state.best))):
            f[f"leaf{i:04d}"] = np.asarray(leaf)


def restore(config: EmulatorConfig, fresh: TrainingState) -> TrainingState:
    """The stored state of these very settings, or `fresh` where there is none that can be read."""
    leaves, structure = jax.tree.flatten((fresh.network, fresh.optimiser, fresh.best))
    try:
        with h5py.File(config.emulator.work / CHECKPOINT_NAME, "r") as f:
            if str(f.attrs["settings"]) != _label(config):
                return fresh
            found = [f[f"leaf{i:04d}"][()] for i in range(len(leaves))]
            if any(a.shape != np.shape(b) for a, b in zip(found, leaves, strict=True)):
                return fresh
            history = [Look(int(step), float(a), float(b)) for step, a, b in f["history"][()]]
            step, since_best = int(f.attrs["step"]), int(f.attrs["since_best"])
    except (OSError, KeyError):
        return fresh
    arrays = [jnp.asarray(a, np.asarray(b).dtype) for a, b in zip(found, leaves, strict=True)]
    network, optimiser, best = jax.tree.unflatten(structure, arrays)
    return TrainingState(network, optimiser, best, step, since_best, history)


def _label(config: EmulatorConfig) -> str:
    """Settings that the network depends on, its encoding included."""
    return f"{config.settings('network')} library {library_digest(config)} probes {PROBE_AGES_GYR}"
