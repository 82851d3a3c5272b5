"""The loop that hands work to the cluster and takes back what became of it.

The scheduler only ever holds a window of tasks, a few per worker, so that it stays light with ten million galaxies.
Nothing but counters passes through it: galaxies are read, and posteriors written, by the workers.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from distributed import Client, Future
from distributed.scheduler import KilledWorker
from numpy.typing import NDArray

from provabgs.core.errors import ProvabgsError
from provabgs.core.status import Status
from provabgs.pipelines.cluster_options import BATCH_SYSTEMS
from provabgs.pipelines.config import RunConfig
from provabgs.pipelines.dask_worker import Group, fit_batch, has_files, inspect_group, merge_group, store_batch
from provabgs.pipelines.plan import Plan
from provabgs.pipelines.progress import Progress
from provabgs.pipelines.supervisor import Batch
from provabgs.pipelines.waiting import REPEAT_S, duration

_MERGE_PRIORITY, _INSPECT_PRIORITY, _FIT_PRIORITY = 20, 10, 0
_WINDOW = 64


class SchedulerLost(ProvabgsError):
    """The Dask scheduler cannot be reached any more."""


@dataclass
class _Task:
    """One call on the cluster."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    pixel: int
    priority: int
    tries: int = 0


@dataclass
class _State:
    """One group while work on it is under way."""

    rows: NDArray[np.int64]
    outstanding: int = 0
    rounds: int = 0


@dataclass
class Driver:
    """Carries out a plan on a cluster.

    Attributes
    ----------
    client, config, plan, progress
        What to work with.
    damaged
        Files that were damaged and made again, for the report.
    """

    client: Client
    config: RunConfig
    plan: Plan
    progress: Progress
    damaged: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.config_json = self.config.model_dump_json()
        self._groups: dict[int, _State] = {}
        self._ready: deque[_Task] = deque()
        self._running: dict[str, tuple[Future, _Task]] = {}
        self._finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._n_threads = 1
        self._looked = self._silent_since = self._alone_since = self._told = 0.0

    def run(self) -> None:
        """Do everything that is left to do.

        Raises
        ------
        SchedulerLost
            When the scheduler stays out of reach.
        StorageError, FitterError, ConfigError
            When a worker reports something that no retry will mend.
        """
        source = self._source()
        more = True
        while more or self._ready or self._running:
            more = self._fill(source) and more
            self._wait()
            self._look_at_cluster()
            self.progress.show(self._n_threads)
        self.progress.show(self._n_threads, last=True)

    def _fill(self, source: Iterator[_Task]) -> bool:
        """Hand tasks to the scheduler until the window is full; False when the source is used up."""
        while len(self._running) < self._window() and self.client.status == "running":
            task = self._ready.popleft() if self._ready else next(source, None)
            if task is None:
                return False
            self._submit(task)
        return True

    # -- tasks ------------------------------------------------------------------------------------------------------

    def _source(self) -> Iterator[_Task]:
        """Tasks in order of the plan: groups on disk are inspected first, the others are fitted straight away."""
        for pixel, rows in self.plan.groups():
            self._groups[pixel] = _State(rows)
            if has_files(self.config.run.output, pixel):
                yield self._on_group(inspect_group, pixel, _INSPECT_PRIORITY)
            else:
                yield from self._batches(pixel, np.arange(rows.size))

    def _on_group(self, function: Callable[..., Any], pixel: int, priority: int) -> _Task:
        rows = self._groups[pixel].rows
        plan = self.plan
        used, file = np.unique(plan.file[rows], return_inverse=True)
        names = tuple(plan.names[f] for f in used)
        group = Group(pixel, names, file.astype(np.int32), plan.targetid[rows], plan.row[rows])
        return _Task(function, (self.config_json, group), pixel, priority)

    def _batches(self, pixel: int, missing: NDArray[np.int64]) -> list[_Task]:
        """Tasks that fit the missing rows of a group, each from one file."""
        state, plan, size = self._groups[pixel], self.plan, self.config.execution.batch
        rows = state.rows[missing]
        tasks = []
        for chunk in np.split(rows, np.flatnonzero(np.diff(plan.file[rows])) + 1):
            for start in range(0, chunk.size, size):
                tasks.append(self._fit_task(pixel, self._batch(chunk[start : start + size])))
        state.outstanding += len(tasks)
        return tasks

    def _batch(self, rows: NDArray[np.int64]) -> Batch:
        plan, file = self.plan, int(self.plan.file[rows[0]])
        return Batch(
            path=str(plan.files[file]),
            name=plan.names[file],
            targetids=tuple(plan.targetid[rows].tolist()),
            rows=tuple(plan.row[rows].tolist()),
            ra=tuple(plan.ra[rows].tolist()),
            dec=tuple(plan.dec[rows].tolist()),
        )

    def _fit_task(self, pixel: int, batch: Batch) -> _Task:
        return _Task(fit_batch, (self.config_json, pixel, batch), pixel, _FIT_PRIORITY)

    def _submit(self, task: _Task) -> None:
        try:
            future = self.client.submit(task.function, *task.arguments, pure=False, priority=task.priority)
        except (OSError, RuntimeError):
            if self.client.status == "running":
                raise
            self._ready.append(task)  # the scheduler went away this moment
            return
        self._running[str(future.key)] = (future, task)
        future.add_done_callback(self._finished.put)

    # -- results ----------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Take back what is finished; wait up to a second for the first of it."""
        if not self._running and self.client.status == "running":
            return
        try:
            future = self._finished.get(timeout=1.0)
            while True:
                self._take(future)
                future = self._finished.get_nowait()
        except queue.Empty:
            return

    def _take(self, future: Future) -> None:
        """Act on one finished task."""
        entry = self._running.pop(str(future.key), None)
        if entry is None:
            return
        task = entry[1]
        try:
            result = future.result() if future.status == "finished" else None
        except (OSError, CancelledError):
            self._ready.append(task)  # its worker or the scheduler died before the result was fetched
            return
        if future.status == "finished":
            self._succeeded(task, result)
        elif future.status == "error":
            self._failed(task, future.exception())
        else:  # cancelled or lost with the scheduler's connection: it may come back
            self._ready.append(task)

    def _succeeded(self, task: _Task, result: Any) -> None:
        if task.function is fit_batch:
            self.progress.add_fitted(result.counts)
            self._batch_done(task.pixel)
            return
        self.damaged += result.damaged
        state = self._groups[task.pixel]
        if task.function is inspect_group:
            self.progress.add_stored(result.counts)
        elif result.complete:
            del self._groups[task.pixel]
            return
        else:
            # rows counted as done have vanished from the disk: fit them again, but not for ever
            state.rounds += 1
            if state.rounds > self.config.execution.tries:
                raise ProvabgsError(
                    f"{self.config.run.output}: work files of pixel {task.pixel} keep vanishing or breaking; is "
                    "another program writing there, or the disk failing?"
                )
        if result.missing.size:
            self._ready.extend(self._batches(task.pixel, result.missing))
        elif not result.complete:
            self._ready.appendleft(self._on_group(merge_group, task.pixel, _MERGE_PRIORITY))
        else:
            del self._groups[task.pixel]

    def _batch_done(self, pixel: int) -> None:
        """Count a batch off; the last one of a group starts its merge."""
        state = self._groups[pixel]
        state.outstanding -= 1
        if state.outstanding == 0:
            self._ready.appendleft(self._on_group(merge_group, pixel, _MERGE_PRIORITY))

    def _failed(self, task: _Task, error: BaseException | None) -> None:
        """A task raised, or its workers died under it."""
        if isinstance(error, ProvabgsError):
            raise error
        if isinstance(error, KilledWorker) and task.function is fit_batch:
            self._divide(task)
            return
        task.tries += 1
        if task.tries >= self.config.execution.tries:
            what, why = task.function.__name__, f"{type(error).__name__}: {error}"
            raise ProvabgsError(f"{what} of pixel {task.pixel} failed {task.tries} times: {why}") from error
        self._ready.append(task)

    def _divide(self, task: _Task) -> None:
        """Halve a batch that keeps losing its workers until the galaxy at fault is alone; give that one up."""
        batch: Batch = task.arguments[2]
        if len(batch) == 1:
            text = f"its worker died {self.config.execution.worker_tries} times"
            failed = batch.failed(0, Status.CRASHED, text, self.config.fit, self.config.run.seed)
            store_batch(self.config, task.pixel, batch, [failed])
            self.progress.add_fitted(Counter({int(Status.CRASHED): 1}))
            self._batch_done(task.pixel)
            return
        half = len(batch) // 2
        for places in (list(range(half)), list(range(half, len(batch)))):
            self._ready.append(self._fit_task(task.pixel, batch.take(places)))
        self._groups[task.pixel].outstanding += 1

    # -- cluster ----------------------------------------------------------------------------------------------------

    def _window(self) -> int:
        """Tasks to keep on the scheduler: enough for every worker, and to show an adaptive cluster its load."""
        return max(_WINDOW, 4 * self._n_threads, 2 * (self.config.cluster.max_workers or 0))

    def _tell_of_want(self, now: float) -> None:
        """Say each minute that there is no worker; a batch system's jobs are told of by `JobPool`."""
        if self._n_threads or self.config.cluster.kind in BATCH_SYSTEMS:
            self._alone_since = 0.0
            return
        self._alone_since = self._alone_since or now
        if now - max(self._told, self._alone_since) > REPEAT_S:
            self._told = now
            where = self.config.cluster.address or self.config.cluster.scheduler_file or "this machine"
            self.progress.say(f"no worker at {where} for {duration(now - self._alone_since)}; are workers started?")

    def _look_at_cluster(self) -> None:
        """Count workers every few seconds; raise when the scheduler has been silent for too long."""
        now = time.monotonic()
        if now - self._looked < 2.0:
            return
        self._looked = now
        if self.client.status == "running":
            self._silent_since = 0.0
            with contextlib.suppress(OSError):
                workers = self.client.scheduler_info(n_workers=-1)["workers"]
                self._n_threads = sum(w["nthreads"] for w in workers.values())
                self._tell_of_want(now)
            return
        self._silent_since = self._silent_since or now
        limit = self.config.execution.scheduler_limit_s
        if self.client.status == "closed" or now - self._silent_since > limit:
            raise SchedulerLost(
                "the Dask scheduler is gone; finished batches are on disk: start one and run the same command again"
            )
