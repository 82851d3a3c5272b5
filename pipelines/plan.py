"""What a run will do: which galaxies, in which shards, at what cost. Made first, shown by ``--dry-run``."""

from __future__ import annotations

import glob
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.catalog.columns import STANDARD
from provabgs.catalog.records import healpix64
from provabgs.core.atomic import atomic_path
from provabgs.core.errors import ConfigError, DataFileError, InputError
from provabgs.core.messages import first_line
from provabgs.desi.selection import find_coadds
from provabgs.pipelines.config import InputOptions, RunConfig
from provabgs.pipelines.inputs import DesiReader, Reader, Scan, make_reader
from provabgs.pipelines.tables import read_table, row_ids

SCAN_CACHE = "scan.npz"
_PARALLEL_FROM = 200
"""Number of files from which listing them is worth several processes."""
ROW_BYTES = 800
"""Measured size of a galaxy's summary row and scales in a shard, and as much again in the Parquet summary."""


@dataclass(frozen=True, eq=False)
class Plan:
    """All targets of a run, as columns.

    Attributes
    ----------
    files, names
        Input files, and the names they go by in the catalog.
    file
        ``(N,)`` position in `files`.
    targetid, row, ra, dec, pixel
        ``(N,)`` identification, row in the file, degrees, HEALPix nside-64 nested pixel (-1 without coordinates).
    unreadable
        Files that could not be listed, with the reason.
    n_missing
        TARGETIDs of the target table that no input holds.
    sample
        ``(N,)`` survey and program of each row, ``""`` where unknown.
    n_apart
        TARGETIDs that have rows in several surveys or programs.
    n_left_out
        Rows that ``duplicates = "first"`` left out.
    """

    files: tuple[Path, ...]
    names: tuple[str, ...]
    file: NDArray[np.int32]
    targetid: NDArray[np.int64]
    row: NDArray[np.int32]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    pixel: NDArray[np.int32]
    sample: NDArray[np.str_]
    unreadable: tuple[tuple[Path, str], ...] = ()
    n_missing: int = 0
    n_apart: int = 0
    n_left_out: int = 0

    def __len__(self) -> int:
        return int(self.targetid.size)

    def take(self, rows: NDArray) -> Plan:
        """The chosen targets."""
        columns = ("file", "targetid", "row", "ra", "dec", "pixel", "sample")
        return replace(self, **{c: getattr(self, c)[rows] for c in columns})

    def groups(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Each pixel with the positions of its targets, ordered by file so that batches read few files."""
        order = np.lexsort((self.row, self.file, self.pixel))
        pixels = self.pixel[order]
        cuts = np.flatnonzero(np.diff(pixels)) + 1
        for rows in np.split(order, cuts) if order.size else ():
            yield int(self.pixel[rows[0]]), rows


class Estimate(NamedTuple):
    """What a run is expected to take."""

    galaxies: int
    files: int
    shards: int
    core_hours: float
    disk_bytes: float
    wall_hours: float


def make_plan(config: RunConfig) -> Plan:
    """List the inputs, apply the target table, and deal with duplicates.

    Files that were listed by an earlier plan in the same output directory and have not changed are not read again.

    Raises
    ------
    ConfigError
        When a path does not exist, nothing matches, or two inputs have one name.
    DataFileError
        When photometry or tables that are joined to coadds cannot be read.
    InputError
        For TARGETIDs in several inputs that `InputOptions.duplicates` refuses.
    """
    reader = make_reader(config.inputs)
    if isinstance(reader, DesiReader):
        reader.check()
    files = find_inputs(config.inputs, reader)
    names = name_inputs(files, config.inputs.root)
    scans, unreadable = _scan_all(files, config)
    plan = _assemble(files, names, scans, unreadable)
    if config.inputs.targets is not None:
        plan = _restrict(plan, config.inputs.targets)
    plan = _duplicates(plan, config.inputs.duplicates)
    if len(plan) == 0 and not unreadable:
        raise ConfigError("[inputs] the inputs hold no target to fit")
    return plan


def estimate(plan: Plan, config: RunConfig) -> Estimate:
    """Core-hours, disk and wall time, from the configured seconds per galaxy."""
    n = len(plan)
    width = 2 if config.store.encoding == "uint16" else 4
    disk = n * (config.store.n_samples * len(STANDARD.sample_columns) * width + 2 * ROW_BYTES)
    _, sizes = np.unique(plan.pixel, return_counts=True)
    shards = int(np.ceil(sizes / config.store.shard_rows).sum())
    core_hours = n * config.execution.seconds_per_galaxy / 3600
    batch_system = config.cluster.kind in ("slurm", "pbs", "lsf")
    workers = config.cluster.max_workers or config.cluster.workers or (
        config.cluster.cores if batch_system else os.cpu_count() or 1)  # fmt: skip
    return Estimate(n, len(plan.files), shards, core_hours, float(disk), core_hours / workers)


def find_inputs(options: InputOptions, reader: Reader) -> list[Path]:
    """Every input file, each once, in order.

    Raises
    ------
    ConfigError
        When a path does not exist or matches nothing.
    """
    found: list[Path] = []
    if options.desi.is_asked_for:
        found += [f.coadd for f in find_coadds(options.desi)]
    for text in options.paths:
        found += _expand(text, reader.pattern)
    if options.file_list is not None:
        try:
            lines = options.file_list.read_text().split("\n")
        except OSError as error:
            raise ConfigError(f"[inputs] file_list = {options.file_list}: {error.strerror}") from None
        entries = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        found += [options.file_list.parent / entry for entry in entries]
    return sorted(set(found))


def _expand(text: str, patterns: tuple[str, ...]) -> list[Path]:
    """Files of one entry of ``paths``."""
    path = Path(text)
    if path.is_file():
        return [path]
    if path.is_dir():
        files = [p for p in _walk(path) if any(fnmatch(p.name, pattern) for pattern in patterns)]
        if not files:
            raise ConfigError(f"[inputs] paths: {text} holds no file like {' or '.join(patterns)}")
        return files
    if path.exists():
        raise ConfigError(f"[inputs] paths: {text} is a pipe or a device, not a file; give files or folders")
    # brackets are part of a name where they match nothing as a pattern
    found = glob.glob(text, recursive=True) or glob.glob(text.replace("[", "[[]"), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not found:
        what = "matches no file" if glob.has_magic(text) else "does not exist"
        raise ConfigError(f"[inputs] paths: {text} {what}")
    return [p for p in map(Path, found) if p.is_file()]


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder, through links to folders too, each folder once."""
    seen: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        about = os.stat(here)  # noqa: PTH116 - os.walk gives text
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()  # a link back to where the walk has been
            continue
        seen.add((about.st_dev, about.st_ino))
        yield from (p for p in (Path(here) / name for name in names) if p.is_file())


def name_inputs(files: list[Path], root: Path | None) -> tuple[str, ...]:
    """Names of inputs in the catalog: independent of where the data lie, so that a moved tree is the same tree.

    Raises
    ------
    ConfigError
        When two files would have one name, or a file is not under `root`.
    """
    try:
        names = tuple(f.name if root is None else f.resolve().relative_to(root.resolve()).as_posix() for f in files)
    except ValueError as error:
        raise ConfigError(f"[inputs] root: {error}") from None
    seen: dict[str, Path] = {}
    for name, file in zip(names, files, strict=True):
        if name in seen:
            raise ConfigError(f"[inputs] {seen[name]} and {file} have one name; set root to a directory above both")
        seen[name] = file
    return names


def _scan_one(job: tuple[Path, InputOptions]) -> Scan | str:
    """List one file: its targets, or why not."""
    path, options = job
    reader = make_reader(options)
    try:
        return reader.scan(path).complete()
    except (DataFileError, OSError) as error:
        return str(error)
    except Exception as error:  # a damaged file may lead a reader anywhere; one file must not stop the plan
        return f"{path}: cannot be listed ({type(error).__name__}: {first_line(error)})"


def _scan_all(files: list[Path], config: RunConfig) -> tuple[list[Scan | None], list[tuple[Path, str]]]:
    """List every file, from the cache where it has not changed."""
    cache = config.run.output / SCAN_CACHE
    options = config.inputs
    made_for = f"{options.reader} {options.options} {options.desi.targets}"
    known = _load_cache(cache, made_for)
    stamps = [_stamp(f) for f in files]
    scans: list[Scan | None] = [known.get((str(f), *s)) if s else None for f, s in zip(files, stamps, strict=True)]
    todo = [i for i, scan in enumerate(scans) if scan is None]
    unreadable: list[tuple[Path, str]] = []
    for i, result in zip(todo, _map([(files[i], config.inputs) for i in todo]), strict=True):
        if isinstance(result, str):
            unreadable.append((files[i], result))
        else:
            scans[i] = result
    if todo and any(s is not None for s in scans):
        _save_cache(cache, made_for, files, stamps, scans)
    return scans, unreadable


def _map(jobs: list[tuple[Path, InputOptions]]) -> Iterable[Scan | str]:
    if len(jobs) < _PARALLEL_FROM:
        return [_scan_one(job) for job in jobs]
    with ProcessPoolExecutor(min(16, os.cpu_count() or 1), multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(_scan_one, jobs, chunksize=20))


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and modification time, None for a file that is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _load_cache(path: Path, made_for: str) -> dict[tuple[str, int, int], Scan]:
    """Scans of an earlier plan with the same reader and options; a missing or damaged cache is an empty one."""
    try:
        with np.load(path, allow_pickle=False) as f:
            data = {k: f[k] for k in f.files}
        if data["made_for"].item() != made_for:
            return {}
        cuts = np.cumsum(data["count"])[:-1]
        columns = [np.split(data[c], cuts) for c in Scan._fields]
        keys = zip(data["path"].tolist(), data["size"].tolist(), data["mtime"].tolist(), strict=True)
        return {key: Scan(*scan) for key, scan in zip(keys, zip(*columns, strict=True), strict=True)}
    except Exception:  # whatever is wrong with it, the files themselves are there to be listed again
        return {}


def _save_cache(
    path: Path, made_for: str, files: list[Path], stamps: list[tuple[int, int] | None], scans: list[Scan | None]
) -> None:
    kept = [(f, t, s) for f, t, s in zip(files, stamps, scans, strict=True) if t is not None and s is not None]
    with atomic_path(path) as temporary, temporary.open("wb") as f:
        columns: dict[str, Any] = {
            "made_for": np.array(made_for),
            "path": np.array([str(f) for f, _, _ in kept]),
            "size": np.array([t[0] for _, t, _ in kept]),
            "mtime": np.array([t[1] for _, t, _ in kept]),
            "count": np.array([s.targetid.size for _, _, s in kept]),
            **{c: np.concatenate([getattr(s, c) for _, _, s in kept]) for c in Scan._fields},
        }
        np.savez(f, **columns)


def _assemble(
    files: list[Path], names: tuple[str, ...], scans: list[Scan | None], unreadable: list[tuple[Path, str]]
) -> Plan:
    """Join the scans."""
    empty = Scan(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0), np.empty(0)).complete()
    full = [s or empty for s in scans]
    file = np.repeat(np.arange(len(full), dtype=np.int32), [s.targetid.size for s in full])
    joined = Scan(*(np.concatenate([getattr(s, c) for s in full]) if full else getattr(empty, c) for c in Scan._fields))
    pixel = healpix64(joined.ra, joined.dec) if joined.ra.size else np.empty(0, np.int32)
    return Plan(
        tuple(files), names, file, joined.targetid, joined.row, joined.ra, joined.dec, pixel, joined.labels,
        tuple(unreadable),
    )  # fmt: skip


def _restrict(plan: Plan, targets: Path) -> Plan:
    """Keep the TARGETIDs of a table."""
    ids, unreadable = row_ids(read_table(targets, required=("TARGETID",)), targets)
    if unreadable:
        row, why = next(iter(unreadable.items()))
        raise ConfigError(f"[inputs] targets = {targets}: row {row}: {why} ({len(unreadable)} such rows)")
    wanted = np.unique(ids)
    n_missing = int(np.setdiff1d(wanted, plan.targetid).size)
    return replace(plan.take(np.isin(plan.targetid, wanted)), n_missing=n_missing)


def _duplicates(plan: Plan, policy: str) -> Plan:
    """Apply the policy to TARGETIDs met more than once; negative ones (no target on the fiber) may repeat."""
    order = np.lexsort((plan.row, plan.file, plan.sample, plan.targetid))
    ids, sample = plan.targetid[order], plan.sample[order]
    same_id = np.zeros(ids.size, dtype=bool)
    same_id[1:] = (ids[1:] == ids[:-1]) & (ids[1:] >= 0)
    elsewhere = np.zeros(ids.size, dtype=bool)
    elsewhere[1:] = same_id[1:] & (sample[1:] != sample[:-1]) & (sample[1:] != "") & (sample[:-1] != "")
    n_apart = int(np.unique(ids[elsewhere]).size)
    if policy == "first":
        first = np.lexsort((plan.row, plan.file, plan.targetid))
        again = np.zeros(first.size, dtype=bool)
        again[1:] = (np.diff(plan.targetid[first]) == 0) & (plan.targetid[first][1:] >= 0)
        return replace(plan.take(np.sort(first[~again])), n_left_out=int(again.sum()))
    repeated = same_id & ~elsewhere if policy == "apart" else same_id
    if policy == "keep" or not repeated.any():
        return replace(plan, n_apart=n_apart)
    second = int(np.flatnonzero(repeated)[0])
    a, b = order[second - 1], order[second]
    where = f", both of {sample[second]}" if policy == "apart" and sample[second] else ""
    raise InputError(
        f"TARGETID {ids[second]} is in {plan.files[plan.file[a]]} (row {plan.row[a]}) and {plan.files[plan.file[b]]} "
        f"(row {plan.row[b]}){where}; {int(repeated.sum())} in all: set [inputs] duplicates to 'first' or 'keep'"
    )
