"""The script of a job that brings Dask workers, written by dask-jobqueue.

No more than the script is taken from there: dask-jobqueue's clusters match no worker to its job when a job has several
workers, and so replace none (`provabgs.pipelines.jobs` does).
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distributed.security import Security

from provabgs.core.errors import MissingDependencyError
from provabgs.core.threads import ONE_THREAD
from provabgs.pipelines.batch_systems import SYSTEMS
from provabgs.pipelines.cluster_options import ClusterOptions, seconds_of


def job_script(
    options: ClusterOptions,
    scheduler: str,
    name: str,
    logs: Path,
    security: Security | None,
    environment: Mapping[str, str],
) -> str:
    """The script of one job: a header, the prologue, and single-threaded Dask workers, one per core.

    Parameters
    ----------
    options
        The ``[cluster]`` table.
    scheduler
        Address that workers connect to.
    name
        Of the job; its workers are called ``NAME-0``, ``NAME-1`` ...
    logs
        Folder of the job's own output.
    security
        Key pair, in files that the job's node can read; None for no encryption.
    environment
        Exported to the workers.

    Raises
    ------
    MissingDependencyError
        When dask-jobqueue is not installed.
    """
    made = job_class(options.kind)(
        scheduler=scheduler, name=name, **job_arguments(options, logs, security, environment)
    )
    return str(made.job_script())


def ask_batch_system(options: ClusterOptions) -> str:
    """What the batch system says of such a job, its expected start among it, without taking it.

    Raises
    ------
    Refused
        With the batch system's own words.
    MissingDependencyError
        When dask-jobqueue is not installed.
    """
    with tempfile.TemporaryDirectory() as logs:
        return SYSTEMS[options.kind].ask(job_script(options, "tls://127.0.0.1:0", "job", Path(logs), None, {}))


def job_class(kind: str) -> Any:
    """dask-jobqueue's job of a batch system; raises MissingDependencyError when it is not installed."""
    try:
        with keep_interrupt_handler():
            import dask_jobqueue
    except ImportError:
        raise MissingDependencyError(
            f"[cluster] kind = {kind!r} needs dask-jobqueue: pip install 'provabgs[hpc]'"
        ) from None
    return {"slurm": dask_jobqueue.slurm.SLURMJob, "pbs": dask_jobqueue.pbs.PBSJob, "lsf": dask_jobqueue.lsf.LSFJob}[
        kind
    ]


@contextlib.contextmanager
def keep_interrupt_handler() -> Iterator[None]:
    """Undo what an import does to Ctrl-C: dask-jobqueue's leaves the interpreter with exit code 0."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread, where it could not be changed either
            signal.signal(signal.SIGINT, before)


def job_arguments(
    options: ClusterOptions, logs: Path, security: Security | None, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Arguments of dask-jobqueue's job classes.

    Parameters
    ----------
    options, logs, security, environment
        As of `job_script`.
    """
    # the last one counts: a fit that needs more memory than its share is the batch system's affair, not Dask's
    extra = ["--memory-limit", "0", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    extra += ["--lifetime-stagger", f"'{seconds_of(options.lifetime_stagger):g} s'"]
    if options.lifetime:
        extra += ["--lifetime", f"'{seconds_of(options.lifetime):g} s'"]
    if security is not None:
        for what, file in security.get_tls_config_for_role("worker").items():
            if what != "ciphers":
                extra += [f"--tls-{what.replace('_', '-')}", shlex.quote(file)]
    exports = {**ONE_THREAD, **environment}
    arguments: dict[str, Any] = {
        "cores": options.cores,
        "processes": options.cores,
        "memory": options.memory,
        "walltime": _walltime(options),
        "queue": options.queue,
        "job_name": options.job_name,
        "log_directory": str(logs),
        "interface": options.interface,
        "protocol": "tls" if security is not None else None,
        "python": options.python,
        "job_extra_directives": list(options.directives),
        "job_script_prologue": [*(f"export {k}='{v}'" for k, v in exports.items()), *options.prologue],
        "worker_extra_args": extra,
    }
    if options.account:
        arguments["project" if options.kind == "lsf" else "account"] = options.account
    return arguments


def _walltime(options: ClusterOptions) -> str:
    """The walltime as the batch system writes it: LSF has no seconds."""
    minutes, seconds = divmod(int(seconds_of(options.walltime)), 60)
    clock = f"{minutes // 60:02d}:{minutes % 60:02d}"
    return clock if options.kind == "lsf" else f"{clock}:{seconds:02d}"
