"""Runs that start in a tenth of a second: forked from a process that has imported everything, workers in threads.

Of a true run are left out: the processes of Dask's workers (threads of the run here, without TLS) and the start of the
interpreters. Driver, plan, lock, supervisor, fit processes, work files, merging, shards and summary are the product's.
"""

from __future__ import annotations

import functools
import mmap
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from astropy.table import Table
from distributed import Client, LocalCluster

from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation
from provabgs.pipelines import clusters, dask_worker, driver, dry_run, process, run, supervisor
from provabgs.pipelines.config import RunConfig

PHASES = ("start-up", "fitting", "merging", "summary")
WORKERS = 2
MARKER = "PROVABGS_STUDY_CRASHES"
"""Environment variable: a file; while it exists, every ninth galaxy's fit raises."""


def fit_observation(observation: Observation, config: FitConfig, seed: int) -> Posterior:
    """The dry run's posterior, or an exception where one is asked for."""
    if observation.targetid % 9 == 0 and Path(os.environ.get(MARKER, "/nonexistent")).exists():
        raise ZeroDivisionError("asked for")
    return dry_run.fit_observation(observation, config, seed)


def write_inputs(folder: Path, files: int, rows: int) -> None:
    """Tables of fluxes in some six HEALPix pixels; one row of each cannot be fitted."""
    rng = np.random.default_rng(11)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(files):
        table = Table({"TARGETID": 1000 * (k + 1) + np.arange(rows)})
        table["RA"], table["DEC"] = 150.0 + 1.2 * rng.random(rows), 2.0 + 1.2 * rng.random(rows)
        table["Z"] = rng.uniform(0.02, 0.5, rows)
        table["Z"][k] = np.nan
        for band in ("G", "R", "Z"):
            table[f"FLUX_{band}"], table[f"FLUX_IVAR_{band}"] = rng.uniform(5, 50, rows), np.full(rows, 100.0)
        table.write(folder / f"t{k}.fits", overwrite=True)


class Phase:
    """Where a forked run is, seen by its parent through shared memory."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 2)

    @property
    def now(self) -> int:
        """Index into `PHASES`."""
        return 2 if self._memory[1] else self._memory[0]

    def watch(self) -> None:
        """In the child: follow the run."""
        self._memory[:] = b"\0\0"
        lock = threading.Lock()
        fit, merge, finish = driver.Driver.run, dask_worker.merge_group, run._finish

        def fitting(self_: driver.Driver) -> None:
            self._memory[0] = 1
            fit(self_)

        @functools.wraps(merge)
        def merging(*arguments: Any) -> Any:
            with lock:
                self._memory[1] += 1
            try:
                return merge(*arguments)
            finally:
                with lock:
                    self._memory[1] -= 1

        def summary(*arguments: Any) -> None:
            self._memory[0] = 3
            finish(*arguments)

        setattr(driver.Driver, "run", fitting)  # noqa: B010
        setattr(run, "_finish", summary)  # noqa: B010
        for module in (driver, dask_worker):
            setattr(module, "merge_group", merging)  # noqa: B010


class ForkServer:
    """Starts fit processes by fork: a child of a process that has no threads yet."""

    def __init__(self) -> None:
        self.path = f"\0provabgs-{secrets.token_hex(8)}"  # a name without a file: those of sockets must be short
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(64)
        self.pid = os.fork()
        if self.pid == 0:
            with suppress(BaseException):
                self._serve(listener)
            os._exit(1)
        listener.close()

    def _serve(self, listener: socket.socket) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        parent = os.getppid()
        listener.settimeout(5.0)
        while os.getppid() == parent:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection, suppress(OSError):  # the run that asks may be killed before it is answered
                self._answer(listener, connection)

    def _answer(self, listener: socket.socket, connection: socket.socket) -> None:
        """Fork a fit process for the run at the other end, and tell it the process id."""
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
        whole = len(descriptors) == 3  # less: it was killed before it asked
        if whole:
            pid = os.fork()
            if pid == 0:
                listener.close()
                connection.close()
                with suppress(BaseException):
                    _fit_process(*descriptors)
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
        if whole:
            connection.sendall(pid.to_bytes(8, "little"))

    def popen(self, _command: object, *, pass_fds: tuple[int, ...], **_options: object) -> _Forked:
        """In place of ``subprocess.Popen`` for the supervisor."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.path)
            socket.send_fds(connection, [b"x"], list(pass_fds))
            return _Forked(int.from_bytes(connection.recv(8), "little"))

    def close(self) -> None:
        """End the server; fit processes end with their runs."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class _Forked:
    """What the supervisor asks of a process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; TimeoutExpired as of subprocess."""
        end = time.monotonic() + (np.inf if timeout is None else timeout)
        while Path(f"/proc/{self.pid}").exists():
            if time.monotonic() >= end:
                raise supervisor.subprocess.TimeoutExpired("fit", timeout or 0.0)
            time.sleep(0.002)
        return 0

    def kill(self) -> None:
        """SIGKILL."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def _fit_process(requests: int, replies: int, lifeline: int) -> None:
    """The main program of `provabgs.pipelines.process`, less the start of an interpreter."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.Thread(target=process._die_with_parent, args=(lifeline,), daemon=True).start()
    process.main(process.Connection(requests, writable=False), process.Connection(replies, readable=False))


def _threads(_options: object) -> Iterator[Client]:
    """In place of a local cluster of processes."""
    with (
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=False, dashboard_address=None, memory_limit=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def fork_run(config: RunConfig, server: ForkServer, phase: Phase, log: Path) -> int:
    """Start a run in a child of this process, which must have no threads of Python's own; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(words, 1)
        os.dup2(words, 2)
        phase.watch()
        popen: Callable[..., Any] = server.popen
        there = supervisor.subprocess
        fake = SimpleNamespace(Popen=popen, DEVNULL=there.DEVNULL, TimeoutExpired=there.TimeoutExpired)
        setattr(supervisor, "subprocess", fake)  # noqa: B010
        setattr(clusters, "_local", _threads)  # noqa: B010
        run.run(config, quiet=True)
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(code)
