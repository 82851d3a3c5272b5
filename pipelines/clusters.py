"""Where workers come from: this machine, a batch system, or a scheduler that runs already."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, Scheduler, SpecCluster
from distributed.security import Security

from provabgs.core.errors import ConfigError
from provabgs.core.messages import first_line
from provabgs.core.threads import ONE_THREAD
from provabgs.pipelines.batch_systems import SYSTEMS
from provabgs.pipelines.cluster_options import BATCH_SYSTEMS, ClusterOptions
from provabgs.pipelines.job_script import job_script
from provabgs.pipelines.jobs import JobPool, of_their_own
from provabgs.pipelines.keys import make_pair, pair_in, read_pair, security

CLUSTER_DIRECTORY = "cluster"
"""In a run's folder: keys and job ids while it runs, and the jobs' logs."""
Say = Callable[[str], None]

_DASK: dict[str, Any] = {
    # fits run in processes of their own: a worker's event loop is never blocked, so a silent worker is a dead one
    "distributed.scheduler.worker-ttl": "5 minutes",
    "distributed.worker.daemon": True,
    # results are counters, not data: nothing to spill, pause or rebalance
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.comm.timeouts.connect": "30s",
    # no idle work stealing and no piling up of tasks on a worker: a batch is long, and lost with its worker
    "distributed.scheduler.worker-saturation": 1.0,
}


def dask_environment() -> dict[str, str]:
    """Our Dask settings as environment variables, for workers that other machines start."""
    return {"DASK_" + key.upper().replace(".", "__").replace("-", "_"): str(value) for key, value in _DASK.items()}


def print_line(text: str) -> None:
    """Say something on standard error."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def open_cluster(options: ClusterOptions, worker_tries: int, folder: Path, say: Say = print_line) -> Iterator[Client]:
    """A Dask client on the configured cluster; the cluster is closed with it, a given scheduler is left running.

    Parameters
    ----------
    options
        The ``[cluster]`` table.
    worker_tries
        How often a task may lose its worker.
    folder
        Of the run: gets ``cluster/`` with keys, job ids and logs of jobs.
    say
        Called with lines for people: what is waited for, and what became of jobs.

    Raises
    ------
    ConfigError
        When kind is 'address' and no scheduler answers there, and when the batch system refuses the job.
    JobsLost
        When jobs end time after time without having had a worker.
    MissingDependencyError
        When dask-jobqueue is needed and not installed.
    """
    with dask.config.set({**_DASK, "distributed.scheduler.allowed-failures": worker_tries - 1}):
        logging.getLogger("distributed").setLevel(logging.ERROR)
        if options.kind == "address":
            yield from _existing(options)
        elif options.kind in BATCH_SYSTEMS:
            yield from _batch(options, folder.absolute() / CLUSTER_DIRECTORY, say)
        else:
            yield from _local(options)


def _existing(options: ClusterOptions) -> Iterator[Client]:
    """Connect to a running scheduler."""
    keys = read_pair(options.keys) if options.tls and options.keys is not None else None
    if options.scheduler_file is not None:
        where, target = (
            f"scheduler_file = {str(options.scheduler_file)!r}",
            {"scheduler_file": str(options.scheduler_file)},
        )
        if not options.scheduler_file.is_file():
            raise ConfigError(f"[cluster] {where}: no such file; is the scheduler running?")
    else:
        where, target = f"address = {options.address!r}", {"address": str(options.address)}
    try:
        client = Client(**target, timeout="30s", security=keys)
    except (OSError, ValueError, TimeoutError, RuntimeError) as error:
        raise ConfigError(f"[cluster] {where}: no scheduler answers ({error})") from None
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):  # the scheduler may be gone
            client.close(timeout=5)


def _local(options: ClusterOptions) -> Iterator[Client]:
    """Workers on this machine."""
    keys = security(*make_pair()) if options.tls else None
    settings: dict[str, Any] = {
        "n_workers": options.workers or os.cpu_count() or 1,
        "threads_per_worker": 1,
        "processes": True,
        "memory_limit": None,
        "dashboard_address": options.dashboard,
        "silence_logs": logging.ERROR,
        "env": ONE_THREAD,
        "security": keys,
        "protocol": "tls://" if keys is not None else "tcp://",
    }
    try:
        cluster = LocalCluster(**settings)
    except (OSError, RuntimeError, TimeoutError) as error:
        raise ConfigError(
            f"[cluster] workers = {settings['n_workers']}: they do not start ({first_line(error)}); is this machine "
            "out of memory, processes or time? Free some, or ask for fewer workers"
        ) from error
    with cluster, Client(cluster) as client:
        yield client


def _batch(options: ClusterOptions, folder: Path, say: Say) -> Iterator[Client]:
    """A scheduler in this process, and jobs that bring its workers."""
    logs, options = log_directory(options, folder), of_their_own(options)
    with contextlib.ExitStack() as stack:
        keys = stack.enter_context(pair_in(folder / "keys")) if options.tls else None
        cluster = stack.enter_context(_scheduler(options, keys))
        client = stack.enter_context(Client(cluster))

        def script(name: str) -> str:
            return job_script(options, cluster.scheduler_address, name, logs, keys, dask_environment())

        pool = JobPool(SYSTEMS[options.kind], options, script, cluster.scheduler, folder, logs, say, client.close)
        stack.enter_context(pool)
        try:
            yield client
        except BaseException:
            if pool.failure is not None:  # the client was closed under whatever worked with it
                raise pool.failure from None
            raise


def log_directory(options: ClusterOptions, folder: Path) -> Path:
    """Where jobs leave their logs, made if need be.

    Parameters
    ----------
    options
        The ``[cluster]`` table.
    folder
        The run's ``cluster/``.

    Raises
    ------
    ConfigError
        When it cannot be made, or has blanks in its name: jobs would end without a word.
    """
    logs = (options.log_directory or folder / "logs").absolute()
    if any(c.isspace() for c in str(logs)):
        raise ConfigError(
            f"[cluster] log_directory = {str(logs)!r}: headers of job scripts take no blanks; choose another"
        )
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"[cluster] log_directory = {logs}: cannot be made ({error.strerror})") from None
    return logs


def _scheduler(options: ClusterOptions, keys: Security | None) -> SpecCluster:
    """A scheduler without workers."""
    settings = {
        "protocol": "tls://" if keys is not None else "tcp://",
        "security": keys,
        "interface": options.interface,
        "dashboard": True,
        "dashboard_address": options.dashboard,
    }
    try:
        return SpecCluster(
            scheduler={"cls": Scheduler, "options": settings}, workers={}, security=keys, silence_logs=logging.ERROR
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"[cluster] interface = {options.interface!r}: no scheduler can listen there ({error})"
        ) from None
