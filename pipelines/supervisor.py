"""The worker's side of a fit process: time limits, crashes, retries, quarantine."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import NamedTuple

from dask.utils import parse_bytes

from provabgs.core.errors import ProvabgsError
from provabgs.core.memory import resident_bytes
from provabgs.core.status import Status
from provabgs.core.threads import ONE_THREAD
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.pipelines.config import RunConfig

MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
"""Also of a fit process, for glibc: memory that is freed is kept for the next array, as glibc does by itself.

Dask's workers are told to give every freed 64 kB back to the system, which their children inherit: a fit that makes and
frees megabytes a thousand times a second then spends half of its time on page faults (docs/studies/runs.md).
"""


def fit_environment() -> dict[str, str]:
    """Environment of a fit process: this process's own, but one core, and memory kept."""
    one_thread = {k: v for k, v in ONE_THREAD.items() if k != "XLA_FLAGS" or k not in os.environ}
    return {**os.environ, **one_thread, **MEMORY}


class FitterError(ProvabgsError):
    """The fit process cannot work at all: no galaxy is to blame, and the run must stop."""


@dataclass(frozen=True)
class Batch:
    """Galaxies of one input file that one task fits."""

    path: str
    name: str
    targetids: tuple[int, ...]
    rows: tuple[int, ...]
    ra: tuple[float, ...]
    dec: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.targetids)

    def take(self, places: list[int]) -> Batch:
        """Some of the galaxies."""
        return Batch(
            self.path,
            self.name,
            targetids=tuple(self.targetids[k] for k in places),
            rows=tuple(self.rows[k] for k in places),
            ra=tuple(self.ra[k] for k in places),
            dec=tuple(self.dec[k] for k in places),
        )

    def failed(self, place: int, status: Status, message: str, config: FitConfig, seed: int) -> Posterior:
        """A row without samples for one of the galaxies, of which nothing but the plan is known.

        Parameters
        ----------
        place
            Which galaxy of the batch.
        status, message
            Why there are no samples.
        config, seed
            Of the fit that was asked for.
        """
        return Posterior.without_samples(
            status,
            message,
            config,
            seed,
            targetid=self.targetids[place],
            ra=self.ra[place],
            dec=self.dec[place],
            meta={"INPUT": self.name, "ROW": self.rows[place]},
        )


class _Failure(NamedTuple):
    """Why a pass over a batch ended early."""

    kind: str
    place: int | None
    message: str
    posterior: Posterior | None = None
    """What the fit itself says, where it could."""


class FitProcess:
    """A fit process and its replacements; `fit` returns one posterior per galaxy whatever happens inside.

    Parameters
    ----------
    config
        The run's configuration.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.limits = config.execution
        self._most_memory = parse_bytes(self.limits.memory) if self.limits.memory else math.inf
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: Connection | None = None
        self._replies: Connection | None = None
        self._lifeline = -1
        self._n_fits = 0
        self._failed_starts = 0

    def fit(self, batch: Batch, fit: FitConfig | None = None) -> list[Posterior]:
        """Fit every galaxy of a batch, by the settings `fit` or else by those of the configuration.

        Galaxies that exceed the time limit become TIMED_OUT; those that kill the process or raise are tried again in a
        fresh one, after the others, and become CRASHED after `tries`. A file that cannot be read gives INPUT_ERROR.

        Raises
        ------
        FitterError
            When the process cannot start or says that no galaxy can be fitted.
        """
        settings = fit or self.config.fit
        results: dict[int, Posterior] = {}
        tries: Counter[int | None] = Counter()

        def failed(place: int, status: Status, message: str) -> None:
            results[place] = batch.failed(place, status, message, settings, self.config.run.seed)

        while pending := sorted((k for k in range(len(batch)) if k not in results), key=lambda k: tries[k]):
            failure = self._pass(batch, pending, results, fit)
            if failure is None:
                for k in (k for k in pending if k not in results):
                    failed(k, Status.INPUT_ERROR, f"{batch.name}: the reader gave no such row")
                continue
            tries[failure.place] += 1
            if failure.kind == "unreadable" or (failure.place is None and tries[None] >= self.limits.tries):
                for k in (k for k in pending if k not in results):
                    failed(k, Status.INPUT_ERROR, failure.message)
            elif failure.kind == "timeout" and failure.place is not None:
                failed(failure.place, Status.TIMED_OUT, failure.message)
            elif failure.place is not None and (n := tries[failure.place]) >= self.limits.tries:
                message = f"{failure.message} ({n} tries)"
                if failure.posterior is not None:
                    results[failure.place] = replace(failure.posterior, message=message)
                else:
                    failed(failure.place, Status.CRASHED, message)
        return [results[k] for k in range(len(batch))]

    def _pass(
        self, batch: Batch, pending: list[int], results: dict[int, Posterior], fit: FitConfig | None
    ) -> _Failure | None:
        """Send the pending galaxies; collect results until all are done or something fails."""
        if self._n_fits >= self.limits.restart_after > 0 or self._held() > self._most_memory:
            self.close()
        self._start()
        assert self._requests is not None
        assert self._replies is not None
        part = batch.take(pending)
        current: int | None = None
        try:
            settings = fit.model_dump_json() if fit is not None else None
            self._requests.send(
                {"path": part.path, "name": part.name, "targetids": part.targetids, "rows": part.rows, "fit": settings}
            )
            while True:
                if not self._replies.poll(self._limit(current)):
                    self.close()
                    return self._too_slow(batch, current)
                kind, *rest = self._replies.recv()
                if kind == "end":
                    return None
                if kind == "broken":
                    raise FitterError(f"no galaxy can be fitted: {rest[0]}")
                if kind == "unreadable":
                    return _Failure("unreadable", current, rest[0])
                place = pending[rest[0]]
                if kind == "started":
                    current = place
                    continue
                if kind == "raised":
                    # the pass goes on in a fresh request, so that a process in an unknown state is not trusted further
                    self.close()
                    return _Failure("crash", place, f"the fit raised {rest[1].message}", rest[1])
                current = None
                results[place] = rest[1]
                self._n_fits += rest[1].status.has_samples  # the others have compiled nothing
        except (EOFError, OSError):
            how = self.close()
            return _Failure("crash", current, f"{'the fit' if current is not None else batch.name} {how}")

    def _held(self) -> float:
        """Resident memory of the process, bytes; 0 where the system does not tell."""
        return 0.0 if self._process is None else float(resident_bytes(self._process.pid))

    def _limit(self, current: int | None) -> float:
        """Seconds to wait for the next message."""
        if current is None:
            return self.limits.start_limit_s
        return self.limits.time_limit_s + (self.limits.start_limit_s if self._n_fits == 0 else 0.0)

    def _too_slow(self, batch: Batch, current: int | None) -> _Failure:
        if current is None:
            return _Failure("timeout", None, f"{batch.name}: not read within {self.limits.start_limit_s:g} s")
        return _Failure("timeout", current, f"no result within the time limit of {self.limits.time_limit_s:g} s")

    def _start(self) -> None:
        """Start the process unless it runs; raises FitterError when it cannot."""
        while self._process is None:
            self._spawn()
            assert self._requests is not None
            assert self._replies is not None
            try:
                self._requests.send(self.config.model_dump_json())
                ready = self._replies.poll(self.limits.start_limit_s)
                kind, *rest = self._replies.recv() if ready else ("slow",)
            except (EOFError, OSError):
                kind, rest = "dead", []
            if kind == "broken":
                self.close()
                raise FitterError(rest[0])
            if kind == "ready":
                self._failed_starts = 0
                return
            how = self.close()
            self._failed_starts += 1
            if self._failed_starts >= self.limits.tries:
                raise FitterError(f"the fit process does not start: it {how} {self._failed_starts} times")

    def _spawn(self) -> None:
        request_out, request_in = os.pipe()
        reply_out, reply_in = os.pipe()
        lifeline_out, self._lifeline = os.pipe()
        theirs = (request_out, reply_in, lifeline_out)
        command = [sys.executable, "-m", "provabgs.pipelines.process", *map(str, theirs)]
        self._process = subprocess.Popen(
            command, pass_fds=theirs, env=fit_environment(), stdin=subprocess.DEVNULL,
            process_group=0,  # a terminal's Ctrl-C is not for it: it leaves with its lifeline
        )  # fmt: skip
        for descriptor in theirs:
            os.close(descriptor)
        self._requests = Connection(request_in, readable=False)
        self._replies = Connection(reply_out, writable=False)
        self._n_fits = 0

    def close(self) -> str:
        """End the process; says how it ended if it had done so by itself."""
        if self._process is None:
            return "was not running"
        try:
            code = self._process.wait(timeout=1.0 if self._replies is not None and self._at_end() else 0.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            code = None
        for connection in (self._requests, self._replies):
            if connection is not None:
                connection.close()
        os.close(self._lifeline)
        self._process = self._requests = self._replies = None
        return _how(code)

    def _at_end(self) -> bool:
        """Whether the process has closed its end, and so is about to leave."""
        assert self._replies is not None
        try:
            return bool(self._replies.poll(0)) and self._replies.recv() is None
        except (EOFError, OSError):
            return True

    def __enter__(self) -> FitProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _how(code: int | None) -> str:
    """A process's end in words."""
    if code is None:
        return "was stopped"
    if code < 0:
        return f"died of {signal.Signals(-code).name}"
    return f"left with exit code {code}"
