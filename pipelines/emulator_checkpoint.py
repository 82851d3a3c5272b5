"""Checkpoints of a network's training: HDF5, so that nothing read back is ever executed."""

from __future__ import annotations

import numpy as np

from provabgs.core.errors import DataFileError
from provabgs.core.jax import jax, jnp
from provabgs.emulator.encoding import PROBE_AGES_GYR
from provabgs.emulator.training import Look, TrainingState
from provabgs.pipelines.emulator_config import EmulatorConfig
from provabgs.pipelines.emulator_files import keep, kept
from provabgs.pipelines.emulator_shards import library_digest

CHECKPOINT_NAME = "checkpoint.h5"


def store(config: EmulatorConfig, state: TrainingState) -> None:
    """Write the state in place of the last one."""
    leaves = jax.tree.leaves((state.network, state.optimiser, state.best))
    arrays = {f"leaf{i:04d}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    arrays |= {
        "steps": np.array([state.step, state.since_best]),
        "history": np.array([tuple(h) for h in state.history]),
    }
    keep(config.emulator.work / CHECKPOINT_NAME, _label(config), arrays)


def restore(config: EmulatorConfig, fresh: TrainingState) -> TrainingState:
    """The stored state of these very settings, or `fresh` where there is none that can be read."""
    leaves, structure = jax.tree.flatten((fresh.network, fresh.optimiser, fresh.best))
    try:
        stored = kept(config.emulator.work / CHECKPOINT_NAME, _label(config))
        found = [stored[f"leaf{i:04d}"] for i in range(len(leaves))]
        if any(a.shape != np.shape(b) for a, b in zip(found, leaves, strict=True)):
            return fresh
        history = [Look(int(step), float(a), float(b)) for step, a, b in stored["history"]]
        step, since_best = (int(n) for n in stored["steps"])
    except (DataFileError, KeyError, ValueError):
        return fresh
    arrays = [jnp.asarray(a, np.asarray(b).dtype) for a, b in zip(found, leaves, strict=True)]
    network, optimiser, best = jax.tree.unflatten(structure, arrays)
    return TrainingState(network, optimiser, best, step, since_best, history)


def _label(config: EmulatorConfig) -> str:
    """Settings that the network depends on, its encoding included."""
    return f"{config.settings('network')} library {library_digest(config)} probes {PROBE_AGES_GYR}"
