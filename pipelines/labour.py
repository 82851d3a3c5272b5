"""Dask workers for loops over pieces: `provabgs population learn` on a cluster."""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, Future
from distributed.scheduler import KilledWorker

from provabgs.core.config import check_config, read_toml, with_absolute_paths
from provabgs.core.errors import ConfigError, ProvabgsError
from provabgs.core.memory import keep_freed
from provabgs.pipelines.cluster_options import ClusterOptions
from provabgs.pipelines.clusters import Say, open_cluster, print_line
from provabgs.pipelines.driver import SchedulerLost
from provabgs.population.learnt.pieces import Labour

WORKER_TRIES = 4
"""A piece that loses its worker this often ends the work."""
AHEAD = 2
"""Pieces that are sent out for each worker."""
LOOK_S = 2.0
"""Seconds between two looks at how many workers there are."""


class EachOnWorkers:
    """``map`` on Dask workers: results come in the order of the items, a few pieces for each worker are under way.

    Parameters
    ----------
    client
        Of the cluster.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._workers, self._looked = 0, -np.inf

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results of a function for each item.

        Parameters
        ----------
        function
            Importable by the workers, or a ``partial`` of such.
        items
            Its arguments.

        Raises
        ------
        ProvabgsError
            What a piece raised, or that it lost its worker again and again.
        SchedulerLost
            When the scheduler goes away.
        """
        under_way: deque[Future] = deque()
        try:
            for item in items:
                if len(under_way) >= self._most():
                    yield _result(under_way.popleft())
                # bound first: Dask looks for futures in what tuples and lists hold
                under_way.append(self.client.submit(partial(_on_worker, function, item), pure=False))
            while under_way:
                yield _result(under_way.popleft())
        finally:
            for future in under_way:
                future.release()

    def _most(self) -> int:
        """As many as the workers of now ask for; who they are is asked now and then."""
        if time.monotonic() - self._looked > LOOK_S:
            self._workers, self._looked = len(self.client.nthreads()), time.monotonic()
        return AHEAD * max(1, self._workers)


def _on_worker(function: Callable[[Any], Any], item: Any) -> Any:
    keep_freed()
    return function(item)


def _result(future: Future) -> Any:
    try:
        result = future.result()
    except KilledWorker as error:
        raise ProvabgsError(
            f"workers died {WORKER_TRIES} times over one piece; short of memory? run again with fewer --workers"
        ) from error
    except CancelledError as error:
        raise SchedulerLost("the Dask scheduler is gone; start one and run the same command again") from error
    future.release()
    return result


def cluster_options(
    file: Path | None = None, workers: int | None = None, scheduler_file: Path | None = None, keys: Path | None = None
) -> ClusterOptions | None:
    """Where the work is done, from the command line; None for this process.

    Parameters
    ----------
    file
        TOML with a ``[cluster]`` table, such as that of a run; its other tables do not count.
    workers
        Worker processes, in place of the table's; without a table on this machine.
    scheduler_file, keys
        Of a running scheduler.

    Raises
    ------
    ConfigError
        For a file without such a table, and for keys and values that are not understood.
    """
    if file is None and workers is None and scheduler_file is None:
        if keys is not None:
            raise ConfigError("--keys are those of a running scheduler: give its --scheduler-file, too")
        return None
    data: dict[str, Any] = {}
    if file is not None:
        tables = read_toml(file)
        if "cluster" not in tables:
            raise ConfigError(f"{file}: has no [cluster] table; add one, or give --workers for this machine")
        data = with_absolute_paths(ClusterOptions, tables["cluster"], file.resolve().parent)
    changes: dict[str, Any] = {} if workers is None else {"workers": workers}
    if scheduler_file is not None:
        changes |= {"kind": "address", "address": None, "scheduler_file": scheduler_file}
    changes |= {} if keys is None else {"keys": keys}
    merged = {**data, **changes} if isinstance(data, dict) else data
    return check_config(ClusterOptions, merged, str(file or "command line"), "cluster")


@contextmanager
def labour_of(
    options: ClusterOptions | None, output: Path, scratch: Path | None = None, say: Say = print_line
) -> Iterator[Labour]:
    """Whoever does the work: this process, or workers that come with the context and go with it.

    Parameters
    ----------
    options
        Where workers come from; None for this process.
    output
        Folder of the result: gets ``cluster/`` where jobs bring the workers.
    scratch
        Folder for scratch files. Left out: the system's place where workers are on this machine, else `output`, which
        the others must see.
    say
        Called with lines for people.
    """
    if scratch is not None and not scratch.is_dir():
        raise ConfigError(f"--scratch {scratch}: no such folder")
    if options is None:
        yield Labour(folder=scratch)
        return
    near = Path(tempfile.gettempdir()) if options.kind == "local" else output
    with open_cluster(options, WORKER_TRIES, output, say) as client:
        yield Labour(EachOnWorkers(client), (scratch or near).absolute())
