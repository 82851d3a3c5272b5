"""One HDF5 file of posteriors: a shard of a catalog, or the output of a single fit.

Layout (plain h5py reads all of it; filters: shuffle, lzf or gzip, Fletcher-32, all inside h5py)::

    /targetid         (N,) int64, as in /summary
    /summary          (N,) compound: one row per galaxy, see provabgs.catalog.columns
    /samples/COLUMN   (N, S) uint16 codes or float32 values, one dataset per parameter, derived property and LOG_PROB
    /scale/COLUMN     (N, 2) float32 offset and step: value = offset + step * code (65533 -inf, 65534 inf, 65535 NaN)
    /configs          distinct fit configurations, JSON;  /versions  distinct version tables, JSON
    /models           distinct schemas of models (parameters and derived properties), JSON
    /pieces           (2 + columns, N / 128, 32) SHA-256 of 128 rows of each array, see provabgs.catalog.digest
    attributes        format, encoding, sha256 of the contents, tables_sha256, and what the writer adds
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from provabgs.catalog.block import Block
from provabgs.catalog.columns import Schema, union
from provabgs.catalog.digest import IDS, PIECE_ROWS, digest, pieces, tables_digest
from provabgs.catalog.encode import Encoding
from provabgs.catalog.records import DEFAULT_SAMPLES, to_block, to_posteriors
from provabgs.catalog.shard_file import FORMAT, Verified, dataset, open_shard, texts
from provabgs.core.atomic import atomic_path
from provabgs.core.errors import DataFileError
from provabgs.core.hdf5 import DAMAGE, LIBVER, attribute, fix_texts, fixed
from provabgs.core.messages import first_line
from provabgs.inference.posterior import Posterior

_GZIP_LEVEL = 1


def write_shard(
    path: str | Path,
    posteriors: list[Posterior],
    *,
    attrs: Mapping[str, Any] | None = None,
    n_samples: int | None = DEFAULT_SAMPLES,
    encoding: Encoding = "uint16",
) -> None:
    """Write posteriors to one HDF5 file, atomically.

    Parameters
    ----------
    path
        Final name; an existing file is replaced in one step.
    posteriors
        Rows, in order.
    attrs
        Added to the file's attributes; dictionaries are stored as JSON.
    n_samples
        Draws kept per galaxy, evenly spaced; None keeps all of them.
    encoding
        ``"uint16"`` (error at most 8e-6 of a galaxy's range of draws) or ``"float32"``.

    Raises
    ------
    InputError
        For an empty list or inconsistent samples.
    OSError
        When the disk does not take the file; nothing is left behind.
    """
    write_block(path, to_block(posteriors, n_samples=n_samples, encoding=encoding), attrs=attrs)


def read_shard(path: str | Path) -> list[Posterior]:
    """Read every posterior of a file, its checksum verified.

    Raises
    ------
    DataFileError
        When the file is missing, truncated, corrupt, not a posterior file, or of another format version.
    """
    return to_posteriors(read_block(path))


def write_block(path: str | Path, block: Block, *, attrs: Mapping[str, Any] | None = None) -> None:
    """Write rows that are in column form already; see `write_shard`.

    The file is composed in memory and written in one piece: a full disk is then a plain OSError, where HDF5 would be
    left with a file that it can neither finish nor close, and parallel file systems like one long write better.

    Parameters
    ----------
    path
        Final name; an existing file is replaced in one step.
    block
        Rows.
    attrs
        Added to the file's attributes; dictionaries are stored as JSON.

    Raises
    ------
    OSError
        When the disk is full, or the folder cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(_image(block, attrs or {}))


def _image(block: Block, attrs: Mapping[str, Any]) -> bytes:
    """The HDF5 file of a block."""
    # HDF5 knows files in memory by their names alone: two threads must not take the same
    name = f"shard-{secrets.token_hex(8)}"
    with h5py.File(name, "w", driver="core", backing_store=False, libver=LIBVER) as f:
        for key, value in attrs.items():
            f.attrs[key] = json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value
        f.attrs["format"] = FORMAT
        f.attrs["encoding"] = block.encoding
        f.attrs["n_galaxies"] = len(block)
        checksums = pieces(block)
        f.attrs["sha256"] = digest(block, checksums)
        f.attrs["tables_sha256"] = tables_digest(block.configs, block.versions)
        f.create_dataset("pieces", data=checksums, fletcher32=True, chunks=checksums.shape)
        f.create_dataset(IDS, data=block.summary["TARGETID"].astype(np.int64))
        _dataset(f, "summary", block.summary)
        units = {q.column: q.unit for q in block.schema.quantities}
        for column, array in block.samples.items():
            _dataset(f, f"samples/{column}", array).attrs["unit"] = units.get(column, "")
        for column, array in block.scale.items():
            _dataset(f, f"scale/{column}", array)
        for name, texts_ in (("configs", block.configs), ("versions", block.versions), ("models", block.models)):
            data = [text.encode() for text in texts_]
            f.create_dataset(name, data=np.array(data, dtype=fixed(data)))
        fix_texts(f)
        f.flush()
        image: bytes = f.id.get_file_image()
    return image


def read_block(path: str | Path, *, verify: bool = True) -> Block:
    """Read a file in column form.

    Parameters
    ----------
    path
        File written by `write_block` or `write_shard`.
    verify
        Recompute the checksum over everything read.

    Returns
    -------
    Block
        All rows of the file.

    Raises
    ------
    DataFileError
        As `read_shard`.
    """
    with open_shard(path) as f:
        try:
            models = texts(f, "models")
            columns = union(Schema.from_json(m) for m in models).sample_columns
            block = Block(
                summary=_rows(dataset(f, "summary")),
                samples={c: dataset(f, f"samples/{c}")[:] for c in columns},
                scale={c: dataset(f, f"scale/{c}")[:] for c in columns} if attribute(f, "encoding") == "uint16" else {},
                configs=texts(f, "configs"),
                versions=texts(f, "versions"),
                models=models,
            )
            whole = not verify or (
                np.array_equal(checksums := pieces(block), dataset(f, "pieces")[:])
                and digest(block, checksums) == attribute(f, "sha256")
                and np.array_equal(dataset(f, IDS)[:], block.summary["TARGETID"])
            )
        except DAMAGE as error:
            raise _corrupt(path, first_line(error)) from None
    if not whole:
        raise _corrupt(path, "contents do not match their checksum")
    return block


class ShardSummary(NamedTuple):
    """A shard without its samples."""

    rows: NDArray[np.void]
    """``(N,)`` summary rows."""
    configs: tuple[str, ...]
    versions: tuple[str, ...]
    models: tuple[str, ...]
    attrs: dict[str, Any]

    @property
    def schema(self) -> Schema:
        """Quantities of all models of the shard."""
        return union(Schema.from_json(m) for m in self.models)


def read_summary(path: str | Path) -> ShardSummary:
    """Read the summary rows, tables and attributes of a shard, all verified, without its samples.

    Raises
    ------
    DataFileError
        As `read_shard`.
    """
    with open_shard(path) as f:
        try:
            verified = Verified(f)
            attrs = {
                k: v.item() if isinstance(v, np.generic) else v for k, v in ((k, attribute(f, k)) for k in f.attrs)
            }
            configs, versions = texts(f, "configs"), texts(f, "versions")
            rows = _rows(dataset(f, "summary"))
            verified.check_summary(rows)
            if tables_digest(configs, versions) != attrs["tables_sha256"]:
                raise ValueError("configurations or versions do not match their checksum")
            return ShardSummary(rows, configs, versions, verified.models, attrs)
        except DAMAGE as error:
            raise _corrupt(path, first_line(error)) from None


def read_models(path: str | Path) -> dict[str, Schema]:
    """Schemas of the models of a shard by their JSON texts; raises DataFileError as `read_shard`."""
    with open_shard(path) as f:
        try:
            return {text: Schema.from_json(text) for text in Verified(f).models}
        except DAMAGE as error:
            raise _corrupt(path, first_line(error)) from None


def _rows(dataset: h5py.Dataset) -> NDArray[np.void]:
    """A compound dataset as a structured array of plain numpy types, without h5py's notes on text encodings."""
    rows = dataset[:]
    return rows.view(np.dtype([(name, rows.dtype[name].str) for name in rows.dtype.names]))


def _dataset(f: h5py.File, name: str, array: NDArray[Any]) -> h5py.Dataset:
    """A chunked, compressed, checksummed dataset."""
    chunks = (min(PIECE_ROWS, array.shape[0]), *array.shape[1:])
    # 16-bit codes hardly compress (gzip: 5 %, at a sixth of the reading speed), but those of empty rows do: lzf
    compression: dict[str, Any] = (
        {"compression": "lzf"} if array.dtype == np.uint16 else {"compression": "gzip", "compression_opts": _GZIP_LEVEL}
    )
    return f.create_dataset(name, data=array, chunks=chunks, shuffle=True, fletcher32=True, **compression)


def _corrupt(path: str | Path, why: str) -> DataFileError:
    """The error for a damaged file."""
    return DataFileError(f"{path}: corrupt posterior file ({why}); remove it and fit its rows again")
