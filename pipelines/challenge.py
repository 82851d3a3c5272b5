"""The mock challenge on a Dask cluster: mocks made and fitted in pieces, on as many workers as there are.

The directory is described in `provabgs.mocks.challenge`. A piece is one chunk of galaxies fitted in one mode. Fits run
in processes of their own (`provabgs.pipelines.supervisor`), with its time limits and its quarantine for galaxies that
hang or crash; what a piece holds depends on configuration and seed alone, not on who fits it nor when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from distributed import Client, as_completed
from distributed.scheduler import KilledWorker
from pydantic import Field

from provabgs.catalog.shard import read_block
from provabgs.core.atomic import sweep
from provabgs.core.config import load_config_file
from provabgs.core.errors import DataFileError, ProvabgsError
from provabgs.core.progress import Display, Show
from provabgs.inference.fit import check_names
from provabgs.mocks.challenge import (
    ChallengeConfig,
    Job,
    claim,
    has_chunk,
    job_of,
    load_selection,
    n_chunks,
    pending,
    store_selection,
)
from provabgs.mocks.make import MockMaker
from provabgs.pipelines.challenge_tasks import fit_piece, make_piece, passing
from provabgs.pipelines.cluster_options import ClusterOptions
from provabgs.pipelines.clusters import open_cluster
from provabgs.pipelines.config import (
    DEFAULT_FIT,
    ExecutionOptions,
    InputOptions,
    RunConfig,
    RunOptions,
)
from provabgs.pipelines.driver import SchedulerLost
from provabgs.pipelines.inputs import check_module
from provabgs.pipelines.lock import DirectoryLock
from provabgs.pipelines.progress import Progress
from provabgs.pipelines.stopping import orderly_stop

WORKER_TRIES = 4
"""A piece that loses its worker this often stops the challenge."""
BLOCK = 50
"""Galaxies that one task holds against the magnitude limit."""
Announce = Callable[[str], None]
"""Called with lines for people."""


class ChallengeRun(ChallengeConfig):
    """A mock challenge, and where it is run."""

    workers: int | None = Field(None, ge=1, description="short for [cluster] workers")
    cluster: ClusterOptions = Field(
        default_factory=ClusterOptions, description="where the work is done, as for `provabgs run`"
    )

    @property
    def where(self) -> ClusterOptions:
        """The cluster, with the short form of its number of workers."""
        return self.cluster if self.workers is None else self.cluster.model_copy(update={"workers": self.workers})

    def settings(self, fit: str = DEFAULT_FIT) -> RunConfig:
        """What fit processes are told: reader, fit, limits; `use` differs from piece to piece."""
        limit = max(ExecutionOptions().time_limit_s, 3 * self.fit.sampler.time_limit_s)
        return RunConfig(
            run=RunOptions(output=self.output.absolute(), seed=self.seed, fit=fit),
            inputs=InputOptions(paths=(str(self.output.absolute() / "mocks"),)),
            fit=self.fit,
            execution=ExecutionOptions(time_limit_s=limit, worker_tries=WORKER_TRIES),
        )


def load_challenge(path: str | Path) -> ChallengeRun:
    """Read a challenge's TOML file; relative paths are taken from the file's own directory.

    Raises
    ------
    ConfigError
        When the file is missing, is not TOML, or holds an unknown key or a value that is not allowed.
    """
    return load_config_file(ChallengeRun, path, missing=f"; `provabgs mock init {path}` writes one")


def run_challenge(
    config: ChallengeRun, *, limit: int | None = None, quiet: bool = False, announce: Announce = lambda _: None,
    fit: str = DEFAULT_FIT,
) -> int:  # fmt: skip
    """Make the mocks and fit them; returns the number of pieces fitted now.

    May be stopped at any moment and called again.

    Parameters
    ----------
    limit
        Fit at most this many pieces, then stop; the next call goes on.
    quiet
        No progress line.
    announce
        Called with lines for people.
    fit
        The fit, as 'module:function'.

    Raises
    ------
    ConfigError, InputError
        For settings that cannot be used, a directory of another challenge, or one on which a run is at work.
    StorageError, SchedulerLost, FitterError
        When the disk, the scheduler or the fit itself fails as a whole; the same call goes on from there.
    """
    check_module(fit, "fit")
    check_names(config.fit)
    claim(config)
    with DirectoryLock(config.output), orderly_stop():
        sweep(config.output)
        stored = _stored(config, announce)
        rows = load_selection(config)
        n_made = 0 if rows is None else sum(has_chunk(config, k) for k in range(n_chunks(config, rows)))
        if rows is not None and n_made == n_chunks(config, rows) and not list(pending(config)):
            return 0
        with open_cluster(config.where, WORKER_TRIES, config.output, announce) as client:
            announce(f"dashboard: {client.dashboard_link}")
            with Display("selecting mocks", quiet=quiet) as show:
                rows = _make_mocks(client, config, show)
            with Progress(config.output, len(rows) * len(config.modes), quiet=quiet, unit="fits") as progress:
                progress.add_stored(stored)
                return _fit(client, config, list(pending(config))[:limit], progress, fit)


def _stored(config: ChallengeRun, announce: Announce) -> Counter[int]:
    """STATUS of what is fitted already; damaged pieces are removed, to be made again."""
    counts: Counter[int] = Counter()
    for mode in config.modes:
        for path in sorted((config.output / "fits" / mode).glob("chunk-*.h5")):
            try:
                counts.update(read_block(path).summary["STATUS"].tolist())
            except DataFileError as error:
                if "written in format" in str(error):
                    raise
                path.unlink()
                announce(f"made again: {error}")
    return counts


def _make_mocks(client: Client, config: ChallengeRun, show: Show) -> list[int]:
    """Select galaxies and make the chunks that are not there; returns the selected rows."""
    settings = config.model_copy(update={"output": config.output.absolute()}).model_dump_json(
        include=set(ChallengeConfig.model_fields)
    )
    rows = load_selection(config)
    if rows is None:
        rows = store_selection(config, _select(client, config, settings, show))
    missing = [k for k in range(n_chunks(config, rows)) if not has_chunk(config, k)]
    what = f"making {len(rows)} mocks in chunks"
    for done, _ in enumerate(_results(client, make_piece, [(settings, rows, k) for k in missing]), start=1):
        show(what, done, len(missing))
    return rows


def _select(client: Client, config: ChallengeRun, settings: str, show: Show) -> list[int]:
    """The rows that `MockMaker.selected` gives, in its order, looked for in parallel."""
    order = [int(i) for i in MockMaker(config.mock).order()]
    wanted = len(order) if config.mock.n is None else config.mock.n
    at_once = BLOCK * max(1, sum(client.nthreads().values()))
    found: list[int] = []
    for start in range(0, len(order), at_once):
        part = order[start : start + at_once]
        blocks = [part[i : i + BLOCK] for i in range(0, len(part), BLOCK)]
        kept = dict(_results(client, passing, [(settings, block) for block in blocks]))
        found += [row for k in range(len(blocks)) for row in kept[k]]
        show("selecting mocks", min(len(found), wanted), wanted)
        if len(found) >= wanted:
            break
    return found[:wanted]


def _fit(client: Client, config: ChallengeRun, jobs: Sequence[Job], progress: Progress, fit: str) -> int:
    """Fit pieces in order; returns their number."""
    settings = config.settings(fit).model_dump_json()
    arguments = [(settings, job_of(_absolute(config), job.mode, job.chunk)) for job in jobs]
    for _, report in _results(client, fit_piece, arguments):
        progress.add_fitted(report.counts)
        progress.show(sum(client.nthreads().values()))
    progress.show(sum(client.nthreads().values()), last=True)
    return len(jobs)


def _absolute(config: ChallengeRun) -> ChallengeRun:
    return config.model_copy(update={"output": config.output.absolute()})


def _results(
    client: Client, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[int, Any]]:
    """Call `function` with each of the arguments on the cluster; yields (place, result) as they come.

    Raises
    ------
    SchedulerLost
        When the scheduler goes away.
    ProvabgsError
        What a task raised, or that it lost its worker again and again.
    """
    places = {client.submit(function, *a, pure=False): k for k, a in enumerate(arguments)}
    for future in as_completed(list(places)):
        place = places.pop(future)
        try:
            result = future.result()
        except KilledWorker as error:
            raise ProvabgsError(
                f"workers died {WORKER_TRIES} times over one piece; short of memory? what is done is kept: run the "
                "same command with fewer workers"
            ) from error
        except (CancelledError, OSError) as error:
            raise SchedulerLost(
                f"the Dask scheduler is gone ({type(error).__name__}); finished pieces are on disk: run the same "
                "command again"
            ) from error
        future.release()
        yield place, result
