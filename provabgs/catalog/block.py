"""A block of catalog rows as arrays: what a shard holds, before and after it is a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provabgs.catalog.columns import Schema, union
from provabgs.catalog.encode import Encoding, dequantise, quantise
from provabgs.core.errors import InputError


@dataclass(frozen=True, eq=False)
class Block:
    """N galaxies in column form, samples as they are stored.

    Attributes
    ----------
    summary
        ``(N,)`` structured array, fields of the schema's columns.
    samples
        ``(N, S)`` per sample column: 16-bit codes or float32 values.
    scale
        ``(N, 2)`` offset and step per sample column; empty for float32 samples.
    configs, versions, models
        Distinct fit configurations, version tables and schemas of models (JSON), to which CONFIG_ID, VERSIONS_ID and
        MODEL_ID point.
    """

    summary: NDArray[np.void]
    samples: dict[str, NDArray[np.uint16] | NDArray[np.float32]]
    scale: dict[str, NDArray[np.float32]]
    configs: tuple[str, ...]
    versions: tuple[str, ...]
    models: tuple[str, ...] = ()

    @property
    def schema(self) -> Schema:
        """Quantities of all models of the block; the standard ones where no galaxy has samples."""
        return union(Schema.from_json(m) for m in self.models)

    def __len__(self) -> int:
        return int(self.summary.size)

    @property
    def encoding(self) -> Encoding:
        """How the samples are stored."""
        return "uint16" if self.scale else "float32"

    @property
    def n_samples(self) -> int:
        """S, the width of the sample arrays."""
        return int(next(iter(self.samples.values())).shape[1])

    def values(self, column: str, rows: NDArray[np.int64] | slice | None = None) -> NDArray[np.float64]:
        """Draws of one column as numbers.

        Parameters
        ----------
        column
            Sample column.
        rows
            ``(N,)`` rows wanted; all when None.

        Returns
        -------
        NDArray
            ``(N, S)`` in the column's unit; entries past a row's N_SAMPLES are NaN.
        """
        chosen = slice(None) if rows is None else rows
        stored = self.samples[column][chosen]
        if self.scale:
            return dequantise(stored.astype(np.uint16, copy=False), self.scale[column][chosen])
        return stored.astype(np.float64)

    def take(self, rows: NDArray[np.int64]) -> Block:
        """The given rows, in the given order."""
        return replace(
            self,
            summary=self.summary[rows],
            samples={k: v[rows] for k, v in self.samples.items()},
            scale={k: v[rows] for k, v in self.scale.items()},
        )


def concatenate(blocks: list[Block]) -> Block:
    """Join blocks of equal encoding and S; stored samples are copied bit by bit, never coded anew.

    Raises
    ------
    InputError
        When the list is empty or the blocks differ in encoding or number of samples.
    """
    if not blocks:
        raise InputError("there are no blocks to join")
    kinds = {(b.encoding, b.n_samples) for b in blocks}
    if len(kinds) > 1:
        raise InputError(f"cannot join blocks stored differently (encoding, samples): {sorted(kinds)}")
    configs, versions, models = (
        _union([getattr(b, name) for b in blocks]) for name in ("configs", "versions", "models")
    )
    schema = union(Schema.from_json(m) for m in models)
    columns = schema.sample_columns
    summaries = [with_columns(_renumber(b, configs, versions, models), schema) for b in blocks]
    return Block(
        summary=_stack(summaries),
        samples={k: np.concatenate([_samples(b, k)[0] for b in blocks]) for k in columns},
        scale={k: np.concatenate([_samples(b, k)[1] for b in blocks]) for k in columns} if blocks[0].scale else {},
        configs=configs,
        versions=versions,
        models=models,
    )


def with_columns(summary: NDArray[np.void], schema: Schema) -> NDArray[np.void]:
    """Summary rows with exactly the columns of a schema, in its order; columns that they lack are unknown.

    Parameters
    ----------
    summary
        ``(N,)`` structured rows.
    schema
        Whose columns are wanted.

    Returns
    -------
    numpy.ndarray
        ``(N,)`` structured; NaN, -1 or empty text where unknown.
    """
    have = summary.dtype.names or ()
    if have == tuple(c.name for c in schema.columns):
        return summary
    types = [(c.name, summary.dtype[c.name].str if c.name in have else c.dtype) for c in schema.columns]
    out = np.zeros(len(summary), dtype=types)
    for c in schema.columns:
        if c.name in have:
            out[c.name] = summary[c.name]
        elif c.dtype != "S":
            out[c.name] = np.nan if c.dtype.startswith("f") else -1
    return out


def _samples(block: Block, column: str) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Stored samples and scales of a column; of one that the block lacks, those of no value at all."""
    if column in block.samples:
        return block.samples[column], block.scale.get(column, np.empty((0, 2), np.float32))
    nothing = np.full((len(block), block.n_samples), np.nan)
    return quantise(nothing) if block.scale else (nothing.astype(np.float32), np.empty((0, 2), np.float32))


def _union(tables: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Distinct texts, sorted so that the order of the blocks does not show."""
    return tuple(sorted({text for table in tables for text in table}))


def _renumber(
    block: Block, configs: tuple[str, ...], versions: tuple[str, ...], models: tuple[str, ...]
) -> NDArray[np.void]:
    """The block's summary with its pointers turned to the joined tables."""
    summary = block.summary.copy()
    tables = (
        ("CONFIG_ID", block.configs, configs),
        ("VERSIONS_ID", block.versions, versions),
        ("MODEL_ID", block.models, models),
    )
    for field, own, joined in tables:
        # the last entry serves -1: no such row
        lookup = np.array([*(joined.index(text) for text in own), -1], dtype=np.int32)
        summary[field] = lookup[summary[field]]
    return summary


def _stack(summaries: list[NDArray[np.void]]) -> NDArray[np.void]:
    """Concatenate structured arrays whose text fields have different widths."""
    names = summaries[0].dtype.names or ()
    dtype = np.dtype([(n, max((s.dtype[n] for s in summaries), key=lambda d: d.itemsize)) for n in names])
    return np.concatenate([s.astype(dtype) for s in summaries])
