"""A catalog's draws in the coordinates of a learnt prior, in memory or, if they are many, in a scratch file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from provabgs.core.arrays import FloatArray, IntArray, SingleArray, thin
from provabgs.inference.learnt.coordinates import Coordinates
from provabgs.inference.learnt.mixture import Mixture
from provabgs.inference.learnt.prior import half_of
from provabgs.population.learnt.em import Block, log_density_of
from provabgs.population.sources import Source

IN_MEMORY = 1 << 30
"""Bytes of draws above which they go to a scratch file."""
ROWS = 1 << 16
"""Draws in a block."""


@dataclass(frozen=True, eq=False)
class DrawTable:
    """Draws of galaxies, those of one half after those of the other, by TARGETID.

    Attributes
    ----------
    y
        ``(n, S, D)`` coordinates and scaled redshift.
    log_weight
        ``(n, S)`` minus ln of the inference prior, minus ln S_i; -inf where a draw does not count.
    weight
        ``(n,)`` of the galaxies, or ``(m, n)`` for each of m mixtures.
    targetid
        ``(n,)``.
    """

    y: SingleArray
    log_weight: SingleArray
    weight: FloatArray
    targetid: IntArray

    def __len__(self) -> int:
        return len(self.targetid)

    def __iter__(self) -> Iterator[Block]:
        size = max(1, ROWS // self.y.shape[1])
        for first in range(0, len(self), size):
            rows = slice(first, first + size)
            yield Block(np.asarray(self.y[rows]), np.asarray(self.log_weight[rows]), self.weight[..., rows])

    def half(self, number: int) -> DrawTable:
        """The galaxies of one half."""
        n = int(np.sum(half_of(self.targetid) == 0))
        return self.part(slice(0, n) if number == 0 else slice(n, len(self)))

    def part(self, rows: slice | IntArray) -> DrawTable:
        """Some of the galaxies."""
        return DrawTable(self.y[rows], self.log_weight[rows], self.weight[..., rows], self.targetid[rows])

    def weighted(self, factor: FloatArray) -> DrawTable:
        """The galaxies with their weights times a factor, ``(n,)`` or ``(m, n)``."""
        return replace(self, weight=self.weight * factor)


class Scratch:
    """Room for arrays: memory, or files of a temporary folder that is removed at the end.

    Parameters
    ----------
    in_memory
        Bytes above which an array becomes a file.
    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self.in_memory = in_memory
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._number = 0

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def array(self, shape: tuple[int, ...]) -> Any:
        """An array of single precision to be filled."""
        if 4 * float(np.prod([float(n) for n in shape])) <= self.in_memory:
            return np.empty(shape, dtype=np.float32)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="provabgs-learn-")
        self._number += 1
        path = Path(self._folder.name) / f"{self._number}.npy"
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)


def read_draws(
    source: Source,
    weight: FloatArray,
    coordinates: Coordinates,
    base: Mixture,
    scaled: FloatArray,
    n_draws: int,
    scratch: Scratch,
) -> DrawTable:
    """Draws of a source in coordinates, weighted by one over the inference prior; one shard in memory at a time.

    Parameters
    ----------
    source
        Galaxies with draws.
    weight
        ``(n,)`` of the galaxies.
    coordinates
        Of the learnt prior.
    base
        Density of the inference prior in them.
    scaled
        ``(n,)`` scaled redshifts.
    n_draws
        Most draws of a galaxy, evenly chosen.
    scratch
        Where the draws go.

    Returns
    -------
    DrawTable
        A draw with a NaN property does not count.
    """
    ids = np.asarray(source.columns["TARGETID"], dtype=np.int64)
    z = np.asarray(source.columns["Z"], dtype=np.float64)
    order = np.lexsort((ids, half_of(ids)))
    place = np.empty(len(ids), dtype=np.int64)
    place[order] = np.arange(len(ids))
    n_samples = int(np.max(np.asarray(source.columns["N_SAMPLES"], dtype=np.float64)))
    width, d = min(n_draws, n_samples), len(coordinates.names)
    y, log_weight = scratch.array((len(ids), width, d + 1)), scratch.array((len(ids), width))
    for chunk in source.chunks(list(coordinates.names)):
        size = max(1, (1 << 20) // next(iter(chunk.values.values())).shape[1])
        for first in range(0, len(chunk.positions), size):
            rows = chunk.positions[first : first + size]
            values = np.stack([chunk.values[n][first : first + size] for n in coordinates.names], axis=-1)
            there = (~np.isnan(values)).any(axis=-1).sum(axis=1)
            values = _thinned(values, there, width)
            u = coordinates(values, z[rows])
            block = np.concatenate([u, np.broadcast_to(scaled[rows][:, None, None], (*u.shape[:2], 1))], axis=-1)
            good = np.isfinite(block).all(axis=-1)
            block = np.where(good[..., None], block, 0.0).astype(np.float32)
            log_base = log_density_of(base, block)
            n_draw = np.maximum(good.sum(axis=1, keepdims=True), 1)
            y[place[rows]] = block
            log_weight[place[rows]] = np.where(good, -log_base - np.log(n_draw), -np.inf)
    return DrawTable(y, log_weight, weight[order], ids[order])


def _thinned(values: FloatArray, there: IntArray, width: int) -> FloatArray:
    """At most `width` of the draws that each galaxy has, evenly chosen; draws that are there come first."""
    if len(np.unique(there)) == 1:
        return values[:, thin(values.shape[1], width) if there[0] == values.shape[1] else thin(int(there[0]), width)]
    out = np.full((len(values), width, values.shape[2]), np.nan)
    for i, n in enumerate(there):
        chosen = thin(int(n), width)
        out[i, : len(chosen)] = values[i, chosen]
    return out
