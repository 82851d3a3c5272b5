"""What Dask workers do: look at a group of rows, fit a batch, merge a group's batches into shards.

A group is one HEALPix pixel. Its finished batches wait as small files under ``work/PIXEL/`` until all are there; then
they are merged with what the pixel's shards hold already. Every file is atomic and every function may be repeated.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.catalog.block import Block, concatenate
from provabgs.catalog.digest import digest
from provabgs.catalog.generations import remove_shard, replace_shard
from provabgs.catalog.layout import shard_name, superseded_paths
from provabgs.catalog.records import to_block
from provabgs.catalog.shard import read_block, write_block
from provabgs.core.errors import ConfigError, DataFileError, ProvabgsError
from provabgs.core.messages import reason
from provabgs.core.status import Status
from provabgs.inference.posterior import Posterior
from provabgs.pipelines.config import RunConfig
from provabgs.pipelines.sharing import set_umask
from provabgs.pipelines.supervisor import Batch, FitProcess

WORK_DIRECTORY = "work"
Key = tuple[int, str, int]
"""Identity of a row: TARGETID, input name, row in it."""


class StorageError(ProvabgsError):
    """The output directory does not take files: the run must stop, and can go on when it does again."""


@dataclass(frozen=True)
class Group:
    """The planned rows of one pixel, in columns (cheap to send)."""

    pixel: int
    names: tuple[str, ...]
    file: NDArray[np.int32]
    targetid: NDArray[np.int64]
    row: NDArray[np.int32]

    def keys(self) -> list[Key]:
        """Identity of each row."""
        files = [self.names[f] for f in self.file.tolist()]
        return list(zip(self.targetid.tolist(), files, self.row.tolist(), strict=True))


class GroupState(NamedTuple):
    """What is on disk for a group: planned rows yet to be fitted, status of the others, files that were damaged."""

    missing: NDArray[np.int64]
    counts: Counter[int]
    complete: bool
    damaged: tuple[str, ...]


class BatchReport(NamedTuple):
    """What became of a batch: galaxies by status, and seconds of fitting."""

    counts: Counter[int]
    seconds: float

    @classmethod
    def of(cls, posteriors: list[Posterior]) -> BatchReport:
        """Of fitted galaxies."""
        seconds = sum(p.diagnostics.runtime_s for p in posteriors if np.isfinite(p.diagnostics.runtime_s))
        return cls(Counter(int(p.status) for p in posteriors), seconds)


_LOCAL = threading.local()


def fit_batch(config_json: str, pixel: int, batch: Batch) -> BatchReport:
    """Fit a batch in this worker's fit process and store it as a work file.

    Raises
    ------
    StorageError
        When the file cannot be written.
    FitterError
        When no galaxy can be fitted at all.
    """
    config, process = fit_process(config_json)
    posteriors = process.fit(batch)
    store_batch(config, pixel, batch, posteriors)
    return BatchReport.of(posteriors)


def store_batch(config: RunConfig, pixel: int, batch: Batch, posteriors: list[Posterior]) -> None:
    """Write a batch's work file; raises StorageError when the disk does not take it."""
    name = hashlib.sha256(repr((batch.name, batch.targetids, batch.rows)).encode()).hexdigest()[:20]
    block = to_block(posteriors, n_samples=config.store.n_samples, encoding=config.store.encoding)
    path = config.run.output / WORK_DIRECTORY / str(pixel) / f"{name}.h5"
    with _storage(path):
        write_block(path, block)


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[None]:
    """Turn what the disk says on writing a file into a StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path.parent}: cannot write ({reason(error)}); free space there and run again") from None


def fit_process(config_json: str) -> tuple[RunConfig, FitProcess]:
    """The thread's own fit process for a configuration: model and compiled functions are loaded once."""
    if getattr(_LOCAL, "config_json", None) != config_json:
        if hasattr(_LOCAL, "process"):
            _LOCAL.process.close()
        _LOCAL.config = _configured(config_json)
        _LOCAL.process = FitProcess(_LOCAL.config)
        _LOCAL.config_json = config_json
    return _LOCAL.config, _LOCAL.process


def has_files(root: Path, pixel: int) -> bool:
    """Whether anything of a group is on disk."""
    return bool(_shards(root, pixel)) or (root / WORK_DIRECTORY / str(pixel)).is_dir()


def _configured(config_json: str) -> RunConfig:
    """The run's configuration; this process makes its files by the umask that it names."""
    config = RunConfig.model_validate_json(config_json)
    set_umask(config.run)
    return config


def inspect_group(config_json: str, group: Group) -> GroupState:
    """Read and verify everything on disk for a group; damaged files are removed, to be made again."""
    config = _configured(config_json)
    stored, damaged = _load(config, group.pixel)
    retry = {int(Status[name]) for name in config.run.retry}
    rows = _latest(stored, retry)
    keys = group.keys()
    missing = np.array([i for i, key in enumerate(keys) if key not in rows], dtype=np.int64)
    status = [int(stored[b].block.summary["STATUS"][i]) for b, i in (rows[k] for k in keys if k in rows)]
    pending = any(s.is_work for s in stored)
    return GroupState(missing, Counter(status), not missing.size and not pending, tuple(damaged))


def merge_group(config_json: str, group: Group) -> GroupState:
    """Merge a group's work files into its shards; rewrites only the shards whose rows change.

    Rows that the shards hold beyond the plan are kept. When planned rows turn out to be missing (a file was damaged or
    removed meanwhile) nothing is written and they are reported.

    Raises
    ------
    StorageError
        When a shard cannot be written.
    """
    config = _configured(config_json)
    root = config.run.output
    stored, damaged = _load(config, group.pixel)
    # a row that is to be retried is replaced by its work file, but kept where there is none
    rows = _latest(stored, set())
    missing = np.array([i for i, key in enumerate(group.keys()) if key not in rows], dtype=np.int64)
    if missing.size:
        return GroupState(missing, Counter(), False, tuple(damaged))
    joined = concatenate([s.block for s in stored])
    offsets = np.cumsum([0, *(len(s.block) for s in stored)])
    order = np.array([offsets[b] + i for b, i in (rows[k] for k in sorted(rows))])
    parts = range(0, order.size, config.store.shard_rows)
    for part, start in enumerate(parts):
        block = concatenate([joined.take(order[start : start + config.store.shard_rows])])
        path = root / shard_name(group.pixel, part)
        old = next((s.block for s in stored if s.path == path), None)
        if old is None or digest(old) != digest(block):
            with _storage(path):
                replace_shard(root, shard_name(group.pixel, part), block)
    for shard in _shards(root, group.pixel):
        if int(shard.stem.split(".")[1]) >= len(parts):
            with _storage(shard):
                remove_shard(root, shard.relative_to(root).as_posix())
    shutil.rmtree(root / WORK_DIRECTORY / str(group.pixel), ignore_errors=True)
    counts = Counter(joined.summary["STATUS"][order].tolist())
    return GroupState(missing, counts, True, tuple(damaged))


class _Stored(NamedTuple):
    path: Path
    block: Block
    is_work: bool


def _shards(root: Path, pixel: int) -> list[Path]:
    """A group's shards in order of their part."""
    folder = (root / shard_name(pixel, 0)).parent
    found = [p for p in folder.glob(f"{pixel}.*.h5") if p.stem.split(".")[1].isdigit()]
    return sorted(found, key=lambda p: int(p.stem.split(".")[1]))


def _load(config: RunConfig, pixel: int) -> tuple[list[_Stored], list[str]]:
    """Replaced shards, shards, then work files of a group; damaged ones are removed and named."""
    root = config.run.output
    # oldest first: of two work files that hold a row, the one written last counts
    work = sorted((root / WORK_DIRECTORY / str(pixel)).glob("[!.]*.h5"), key=lambda p: (p.stat().st_mtime_ns, p.name))
    stored: list[_Stored] = []
    damaged: list[str] = []
    # a merge that was cut short has rows of the pixel's shards in these alone
    for path in (*superseded_paths(root, pixel), *_shards(root, pixel), *work):
        try:
            block = read_block(path)
        except DataFileError as error:
            if path.exists() and "written in format" in str(error):
                raise
            path.unlink(missing_ok=True)
            damaged.append(str(error))
            continue
        if (block.encoding, block.n_samples) != (config.store.encoding, config.store.n_samples):
            raise ConfigError(
                f"{path}: holds {block.n_samples} samples as {block.encoding}, [store] asks for "
                f"{config.store.n_samples} as {config.store.encoding}; restore the setting or choose another output"
            )
        stored.append(_Stored(path, block, path in work))
    return stored, damaged


def _latest(stored: list[_Stored], retry: set[int]) -> dict[Key, tuple[int, int]]:
    """Where the row of each key is: later files win over earlier ones; rows with a status in `retry` do not count."""
    rows: dict[Key, tuple[int, int]] = {}
    for b, (_, block, _work) in enumerate(stored):
        table = block.summary
        names = [n.decode() for n in table["INPUT"].tolist()]
        columns = zip(table["TARGETID"].tolist(), names, table["ROW"].tolist(), strict=True)
        for i, (key, status) in enumerate(zip(columns, table["STATUS"].tolist(), strict=True)):
            if status not in retry:
                rows[key] = (b, i)
    return rows
