"""A catalog's draws in the coordinates of a learnt prior, in memory or, if they are many, in a scratch file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from provabgs.core.arrays import FloatArray, IntArray, SingleArray, thin
from provabgs.core.progress import report, unheard
from provabgs.inference.learnt.coordinates import Coordinates
from provabgs.inference.learnt.mixture import Mixture
from provabgs.inference.learnt.prior import half_of
from provabgs.population.learnt.em import Block, log_density_of
from provabgs.population.learnt.pieces import BLOCKS, ROWS, Each, Piece, Rows, Scratch, path_of
from provabgs.population.sources import Source


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
    first
        Row of the scratch files, if `y` and `log_weight` are such, that the table begins with.
    """

    y: SingleArray
    log_weight: SingleArray
    weight: FloatArray
    targetid: IntArray
    first: int = 0

    def __len__(self) -> int:
        return len(self.targetid)

    def __iter__(self) -> Iterator[Block]:
        yield from Piece(self.y, self.log_weight, self.weight)

    def pieces(self, of: Sequence[int] | None = None) -> Iterator[Piece]:
        """All galaxies in order, in pieces that another process can sum over.

        Parameters
        ----------
        of
            Which rows of the weights; all if left out.
        """
        weight = self.weight if of is None or self.weight.ndim == 1 else self.weight[list(of)]
        size = BLOCKS * max(1, ROWS // self.y.shape[1])
        for first in range(0, len(self), size):
            rows = slice(first, min(first + size, len(self)))
            y, log_weight = (self._rows(array, rows) for array in (self.y, self.log_weight))
            yield Piece(y, log_weight, weight[..., rows])

    def _rows(self, array: SingleArray, rows: slice) -> SingleArray | Rows:
        path = path_of(array)
        return array[rows] if path is None else Rows(path, self.first + rows.start, self.first + rows.stop)

    def half(self, number: int) -> DrawTable:
        """The galaxies of one half."""
        n = int(np.sum(half_of(self.targetid) == 0))
        return self.part(slice(0, n) if number == 0 else slice(n, len(self)))

    def part(self, rows: slice | IntArray) -> DrawTable:
        """Some of the galaxies; those of an array of numbers are read into memory."""
        first = self.first + rows.indices(len(self))[0] if isinstance(rows, slice) else 0
        return DrawTable(self.y[rows], self.log_weight[rows], self.weight[..., rows], self.targetid[rows], first)

    def weighted(self, factor: FloatArray) -> DrawTable:
        """The galaxies with their weights times a factor, ``(n,)`` or ``(m, n)``."""
        return replace(self, weight=self.weight * factor)


class Conversion(NamedTuple):
    """What turns draws into coordinates."""

    coordinates: Coordinates
    base: Mixture
    width: int
    """Draws of a galaxy that are kept."""


def read_draws(
    source: Source,
    weight: FloatArray,
    conversion: Conversion,
    scaled: FloatArray,
    scratch: Scratch,
    each: Each = map,
) -> DrawTable:
    """Draws of a source in coordinates, weighted by one over the inference prior; one shard in memory at a time.

    Parameters
    ----------
    source
        Galaxies with draws.
    weight
        ``(n,)`` of the galaxies.
    conversion
        Coordinates of the learnt prior, density of the inference prior in them, and most draws of a galaxy that are
        kept, evenly chosen.
    scaled
        ``(n,)`` scaled redshifts.
    scratch
        Where the draws go.
    each
        Who reads the shards.

    Returns
    -------
    DrawTable
        A draw with a NaN property does not count.
    """
    ids = np.asarray(source.columns["TARGETID"], dtype=np.int64)
    order = np.lexsort((ids, half_of(ids)))
    place = np.empty(len(ids), dtype=np.int64)
    place[order] = np.arange(len(ids))
    n_samples = int(np.max(np.asarray(source.columns["N_SAMPLES"], dtype=np.float64)))
    conversion = conversion._replace(width=min(conversion.width, n_samples))
    d = len(conversion.coordinates.names)
    y = scratch.array((len(ids), conversion.width, d + 1))
    log_weight = scratch.array((len(ids), conversion.width))
    source, done = replace(source, root=source.root.absolute()), 0
    parts = _by_shard(source)
    found = each(partial(_converted, conversion), ((source.take(at), scaled[at]) for at in parts))
    for at, (block, log_block) in zip(parts, found, strict=True):
        report("reading draws", done := done + len(at), len(ids))
        y[place[at]], log_weight[place[at]] = block, log_block
    for array in (y, log_weight):
        if isinstance(array, np.memmap):
            array.flush()  # other machines read it
    return DrawTable(y, log_weight, weight[order], ids[order])


def _by_shard(source: Source) -> list[IntArray]:
    """Positions of the galaxies of each shard."""
    _, inverse = np.unique(source.columns["SHARD"].astype(str), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)


def _converted(conversion: Conversion, of: tuple[Source, FloatArray]) -> tuple[SingleArray, SingleArray]:
    """Coordinates and scaled redshift ``(n, width, d + 1)`` and ln weights ``(n, width)`` of galaxies of one shard."""
    (source, scaled), (coordinates, base, width) = of, conversion
    z = np.asarray(source.columns["Z"], dtype=np.float64)
    y = np.empty((len(source), width, len(coordinates.names) + 1), dtype=np.float32)
    log_weight = np.empty((len(source), width), dtype=np.float32)
    with unheard():
        chunks = list(source.chunks(list(coordinates.names)))
    for chunk in chunks:
        size = max(1, (1 << 20) // next(iter(chunk.values.values())).shape[1])
        for first in range(0, len(chunk.positions), size):
            rows = chunk.positions[first : first + size]
            values = np.stack([chunk.values[n][first : first + size] for n in coordinates.names], axis=-1)
            there = (~np.isnan(values)).any(axis=-1).sum(axis=1)
            u = coordinates(_thinned(values, there, width), z[rows])
            block = np.concatenate([u, np.broadcast_to(scaled[rows][:, None, None], (*u.shape[:2], 1))], axis=-1)
            good = np.isfinite(block).all(axis=-1)
            block = np.where(good[..., None], block, 0.0).astype(np.float32)
            log_base = log_density_of(base, block)
            n_draw = np.maximum(good.sum(axis=1, keepdims=True), 1)
            y[rows], log_weight[rows] = block, np.where(good, -log_base - np.log(n_draw), -np.inf)
    return y, log_weight


def _thinned(values: FloatArray, there: IntArray, width: int) -> FloatArray:
    """At most `width` of the draws that each galaxy has, evenly chosen; draws that are there come first."""
    if len(np.unique(there)) == 1:
        return values[:, thin(values.shape[1], width) if there[0] == values.shape[1] else thin(int(there[0]), width)]
    out = np.full((len(values), width, values.shape[2]), np.nan)
    for i, n in enumerate(there):
        chosen = thin(int(n), width)
        out[i, : len(chosen)] = values[i, chosen]
    return out
