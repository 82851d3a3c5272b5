"""Where workers come from: this machine, a batch system, or a scheduler that runs already."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import dask
from distributed import Client, LocalCluster

from provabgs.core.errors import ConfigError, MissingDependencyError
from provabgs.pipelines.config import ClusterOptions
from provabgs.pipelines.supervisor import ONE_THREAD

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


@contextlib.contextmanager
def open_cluster(options: ClusterOptions, worker_tries: int) -> Iterator[Client]:
    """A Dask client on the configured cluster; the cluster is closed with it, a given scheduler is left running.

    Raises
    ------
    ConfigError
        When kind is 'address' and no scheduler answers there, or options do not fit together.
    MissingDependencyError
        When dask-jobqueue is needed and not installed.
    """
    with dask.config.set({**_DASK, "distributed.scheduler.allowed-failures": worker_tries - 1}):
        logging.getLogger("distributed").setLevel(logging.ERROR)
        if options.kind == "address":
            yield from _existing(options)
            return
        with _make_cluster(options) as cluster, Client(cluster) as client:
            if options.max_workers is not None:
                cluster.adapt(minimum=max(1, options.workers), maximum=options.max_workers, interval="10s")
            yield client


def _existing(options: ClusterOptions) -> Iterator[Client]:
    """Connect to a running scheduler."""
    if not options.address:
        raise ConfigError("[cluster] address is required when kind is 'address': tcp://host:8786")
    try:
        client = Client(options.address, timeout="30s")
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(f"[cluster] address = {options.address!r}: no scheduler answers ({error})") from None
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):  # the scheduler may be gone
            client.close(timeout=5)


def _make_cluster(options: ClusterOptions) -> Any:
    """A cluster of our own."""
    if options.kind == "local":
        return LocalCluster(
            n_workers=options.workers or os.cpu_count() or 1,
            threads_per_worker=1,
            processes=True,
            memory_limit=None,
            dashboard_address=options.dashboard,
            silence_logs=logging.ERROR,
            env=ONE_THREAD,
        )
    cluster = _jobqueue_class(options.kind)(**job_arguments(options))
    cluster.scale(n=options.workers or options.cores)
    return cluster


def _jobqueue_class(kind: str) -> Any:
    try:
        import dask_jobqueue
    except ImportError:
        raise MissingDependencyError(
            f"[cluster] kind = {kind!r} needs dask-jobqueue: pip install 'provabgs[hpc]'"
        ) from None
    return {"slurm": dask_jobqueue.SLURMCluster, "pbs": dask_jobqueue.PBSCluster, "lsf": dask_jobqueue.LSFCluster}[kind]


def job_arguments(options: ClusterOptions) -> dict[str, Any]:
    """Arguments of dask-jobqueue's cluster classes: one single-threaded worker per core, staggered lifetimes."""
    extra = ["--lifetime-stagger", options.lifetime_stagger]
    extra = ["--lifetime", options.lifetime, *extra] if options.lifetime else []
    arguments: dict[str, Any] = {
        "cores": options.cores,
        "processes": options.cores,
        "memory": options.memory,
        "walltime": options.walltime,
        "queue": options.queue,
        "job_extra_directives": list(options.directives),
        "job_script_prologue": [*(f"export {k}='{v}'" for k, v in ONE_THREAD.items()), *options.prologue],
        "worker_extra_args": extra,
        "scheduler_options": {"dashboard_address": options.dashboard},
    }
    if options.account:
        arguments["project" if options.kind == "lsf" else "account"] = options.account
    return arguments
