"""The mock challenge: make mock observations, fit each from its spectrum, its photometry and both, in resumable pieces.

Everything lies in one directory: ``mocks/`` (DESI files and truth, in chunks), ``fits/MODE/`` (one file of posteriors
per chunk), ``challenge.json`` (what was asked for). A chunk that is there is not made again; each file appears at once
under its final name. A galaxy's result depends on configuration and seed alone, never on workers or order. The
mock files are ordinary DESI files: `provabgs run` fits them as well, on a cluster.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import h5py
from astropy.table import Table, vstack
from pydantic import BaseModel, ConfigDict, Field

from provabgs.catalog import read_posteriors, write_posteriors
from provabgs.desi import read_observations
from provabgs.errors import ConfigError, DataFileError, ProvabgsError
from provabgs.inference.config import FitConfig, read_toml
from provabgs.inference.fit import fit_observation
from provabgs.inference.posterior import Posterior
from provabgs.mocks.files import coadd_name, read_truth, truth_table, write_desi_files, write_truth
from provabgs.mocks.make import MockConfig, MockMaker
from provabgs.status import Status

Mode = Literal["both", "spectrum", "photometry"]
MODES: tuple[Mode, ...] = ("both", "spectrum", "photometry")
STORED_DRAWS = 400
"""Posterior draws kept per galaxy and mode."""
Progress = Callable[[int, int, str], None]
"""Called with chunks done, chunks in all, and what was done last."""


class ChallengeConfig(BaseModel):
    """A mock challenge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: Path = Field(description="directory of the challenge; one that was stopped goes on from what it holds")
    mock: MockConfig = Field(default_factory=MockConfig, description="the mock observations")
    fit: FitConfig = Field(default_factory=FitConfig, description="the fits; `use` is set by the modes")
    modes: tuple[Mode, ...] = Field(MODES, min_length=1, description="data to fit: both, spectrum, photometry")
    seed: int = Field(0, ge=0, description="seed of the fits")
    chunk: int = Field(10, ge=1, description="galaxies per piece: what is lost when a run is stopped")
    workers: int = Field(1, ge=1, description="processes")

    def identity(self) -> str:
        """JSON of everything on which results depend: not where they lie nor how many processes make them."""
        return self.model_dump_json(exclude={"output", "workers", "modes"})


class Job(NamedTuple):
    """One chunk fitted in one mode."""

    mode: Mode
    chunk: int
    coadd: Path
    shard: Path


def load_challenge(path: str | Path) -> ChallengeConfig:
    """Read a challenge's TOML file; relative paths are taken from the file's own directory.

    Raises
    ------
    ConfigError
        When the file is missing, is not TOML, or holds an unknown key or a value that is not allowed.
    """
    from pydantic import ValidationError

    path = Path(path)
    data = read_toml(path, f"; `provabgs mock init {path}` writes one")
    try:
        config = ChallengeConfig.model_validate(data)
    except ValidationError as err:
        first = err.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {key}: {first['msg']}; `provabgs mock init` shows all keys") from None
    return config.model_copy(update={"output": path.parent / config.output})


def claim(config: ChallengeConfig) -> None:
    """Make the output directory this challenge's own.

    Raises
    ------
    ConfigError
        When it holds another challenge.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    note = config.output / "challenge.json"
    if note.exists():
        if json.loads(note.read_text()) != json.loads(config.identity()):
            raise ConfigError(f"{config.output}: holds a challenge of another configuration; choose another output")
        return
    temporary = note.with_name(".challenge.json.tmp")
    temporary.write_text(config.identity())
    temporary.replace(note)


def make_mocks(config: ChallengeConfig, progress: Progress | None = None) -> Table:
    """Make all mock observations that are not there yet; returns the truth table, in the order of selection.

    Raises
    ------
    ConfigError
        When the output directory holds another challenge, or no galaxy passes the selection.
    """
    claim(config)
    folder = config.output / "mocks"
    maker = MockMaker(config.mock)
    rows = list(_selection(config, maker))
    if not rows:
        raise ConfigError(f"no simulated galaxy is brighter than r = {config.mock.r_max}; raise r_max")
    pieces = [rows[i : i + config.chunk] for i in range(0, len(rows), config.chunk)]
    for number, piece in enumerate(pieces):
        truth = _truth_path(folder, number)
        if not truth.exists():  # written last: its presence says that the chunk is whole
            mocks = [maker.make(i) for i in piece]
            write_desi_files(mocks, folder, number)
            write_truth(truth_table(mocks, maker.galaxies), truth, maker.galaxies.provenance)
        if progress:
            progress(number + 1, len(pieces), f"mock galaxies {number * config.chunk + len(piece)} of {len(rows)}")
    return load_truth(config.output)


def _selection(config: ChallengeConfig, maker: MockMaker) -> list[int]:
    """Rows that pass the magnitude limit, remembered: looking for them costs a spectrum each."""
    note = config.output / "mocks" / "selection.json"
    if note.exists():
        return [int(i) for i in json.loads(note.read_text())]
    rows = list(maker.selected())
    note.parent.mkdir(parents=True, exist_ok=True)
    temporary = note.with_name(".selection.json.tmp")
    temporary.write_text(json.dumps(rows))
    temporary.replace(note)
    return rows


def _truth_path(folder: Path, chunk: int) -> Path:
    return folder / f"truth-{chunk}.fits"


def load_truth(output: str | Path) -> Table:
    """Truth of all chunks of a challenge.

    Raises
    ------
    DataFileError
        When there is none.
    """
    folder = Path(output) / "mocks"
    found = sorted(folder.glob("truth-*.fits"), key=lambda p: int(p.stem.removeprefix("truth-")))
    if not found:
        raise DataFileError(f"{folder}: no truth tables; make mocks with `provabgs mock make`")
    return vstack([read_truth(p) for p in found], metadata_conflicts="silent")


def pending(config: ChallengeConfig) -> Iterator[Job]:
    """Fits that are still to be made, all modes of a chunk together so that every prefix of a run is a challenge."""
    folder = config.output / "mocks"
    chunks = sorted(int(p.stem.removeprefix("truth-")) for p in folder.glob("truth-*.fits"))
    for chunk in chunks:
        for mode in config.modes:
            shard = config.output / "fits" / mode / f"chunk-{chunk}.h5"
            if not shard.exists():
                yield Job(mode, chunk, folder / coadd_name(chunk), shard)


def fit_chunk(job: Job, fit: FitConfig, seed: int) -> int:
    """Fit the galaxies of one chunk in one mode and store their posteriors; returns how many converged."""
    config = fit.model_copy(update={"use": job.mode})
    posteriors = []
    for result in read_observations(job.coadd):
        if result.observation is None:
            status = Status.INPUT_ERROR if result.status is None else result.status
            posteriors.append(Posterior(result.targetid, float("nan"), status, result.message))
        else:
            posteriors.append(fit_observation(result.observation, config, seed))
    job.shard.parent.mkdir(parents=True, exist_ok=True)
    write_posteriors(job.shard, posteriors, n_samples=STORED_DRAWS, attrs={"mode": job.mode})
    return sum(p.status == Status.CONVERGED for p in posteriors)


def run_challenge(config: ChallengeConfig, progress: Progress | None = None, limit: int | None = None) -> int:
    """Make the mocks and fit them; returns the number of pieces fitted now.

    Parameters
    ----------
    limit
        Fit at most this many pieces, then stop; the next call goes on.
    """
    make_mocks(config, progress)
    jobs = list(pending(config))[:limit]
    if config.workers == 1:
        for done, job in enumerate(jobs, start=1):
            converged = fit_chunk(job, config.fit, config.seed)
            if progress:
                progress(done, len(jobs), f"{job.mode}, chunk {job.chunk}: {converged} converged")
        return len(jobs)
    context = multiprocessing.get_context("spawn")  # forked JAX deadlocks
    with _single_threaded(), ProcessPoolExecutor(config.workers, mp_context=context) as pool:
        waiting = {pool.submit(fit_chunk, job, config.fit, config.seed): job for job in jobs}
        for done, future in enumerate(as_completed(waiting), start=1):
            job = waiting[future]
            try:
                converged = future.result()
            except BrokenProcessPool as err:
                raise ProvabgsError(
                    f"a fit process died near chunk {job.chunk} ({job.mode}); short of memory? what is done is kept, "
                    "run again with fewer workers"
                ) from err
            if progress:
                progress(done, len(jobs), f"{job.mode}, chunk {job.chunk}: {converged} converged")
    return len(jobs)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Environment in which processes started now use one thread each; restored afterwards."""
    wanted = {
        "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def load_posteriors(output: str | Path, mode: Mode) -> dict[int, Posterior]:
    """Posteriors of one mode by TARGETID; empty when none are fitted.

    Raises
    ------
    DataFileError
        When a file is damaged.
    """
    out: dict[int, Posterior] = {}
    for path in sorted((Path(output) / "fits" / mode).glob("chunk-*.h5")):
        with h5py.File(path, "r") as f:
            if f.attrs.get("mode", mode) != mode:
                raise DataFileError(f"{path}: holds fits of mode {f.attrs['mode']!r}, not {mode!r}; do not move files")
        out |= {p.targetid: p for p in read_posteriors(path)}
    return out
