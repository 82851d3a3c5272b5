"""The jobs of a run on a batch system: sent, watched in the queue, replaced when they end, cancelled with the run.

A job ends for many reasons (walltime, lifetime, scancel, preemption, a dead node), and a batch system tells nobody. So
the queue itself is looked at every few seconds.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import string
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provabgs.core.atomic import atomic_path
from provabgs.core.errors import ProvabgsError
from provabgs.pipelines.batch_systems import BatchSystem, JobState, Refused
from provabgs.pipelines.cluster_options import ClusterOptions
from provabgs.pipelines.waiting import REPEAT_S, REPEAT_WITH_WORKERS_S, duration, in_words, last_words, some

IDLE_S = 60.0
"""Adaptive mode: workers that have had nothing to do for so long are let go."""
GUARD_ROUNDS_S = (0, 5, 30)
"""When the guard of a run that was killed cancels: what was being submitted at that moment comes a little later."""
_GUARD = 'read -r _; for s in {rounds}; do sleep $s; [ -e "$0" ] || exit 0; {cancel}; done; exit 0'
_UNFINISHED = frozenset({"waiting", "no-worker", "queued", "processing"})
_SENT = JobState("SENT")


class JobsLost(ProvabgsError):
    """Jobs end before they have done anything, or are refused time after time."""


@dataclass
class Job:
    """One job in the queue."""

    id: str
    name: str
    sent: float
    state: JobState = _SENT
    since: float = field(default_factory=time.time)
    done_before: int = 0
    had_workers: bool = False
    idle_since: float | None = None


class JobPool:
    """Keeps as many jobs in the queue as the work needs.

    Parameters
    ----------
    system
        Commands of the batch system.
    options
        The ``[cluster]`` table, with a job_name that no other run's jobs have (`of_their_own`).
    write_script
        Script of a job of the given name.
    scheduler
        Dask's, in this process: its workers and tasks are looked at.
    folder
        Gets ``jobs.txt``, by which the jobs of a run that was killed are found and cancelled: their name, written
        before the first is sent, and the ids that are known.
    logs
        Where jobs leave their output.
    say
        Called with lines for people.
    give_up
        Called once, when `failure` is set: nothing will get better by waiting.
    """

    def __init__(
        self, system: BatchSystem, options: ClusterOptions, write_script: Callable[[str], str], scheduler: Any,
        folder: Path, logs: Path, say: Callable[[str], None], give_up: Callable[[], None],
    ) -> None:  # fmt: skip
        self.system, self.options, self.write_script, self.scheduler = system, options, write_script, scheduler
        self.ids_path, self.logs, self.say, self.give_up = folder / "jobs.txt", logs, say, give_up
        self.jobs: dict[str, Job] = {}
        self.failure: ProvabgsError | None = None
        self._n_sent = self._refused = self._silent = 0
        self._in_vain: list[Job] = []
        self._said, self._said_at = "", -math.inf
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="jobs")
        self._guard: subprocess.Popen[bytes] | None = None

    # -- life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> JobPool:
        self._cancel_leftovers()
        try:
            self._start_guard()
            self._send(_jobs(max(1, self.options.workers), self.options.cores))
        except BaseException:
            self._end_all()
            raise
        self.say(f"jobs sent: {some(list(self.jobs))}")
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._end_all()

    def _cancel_leftovers(self) -> None:
        """End jobs that a killed run has left."""
        with contextlib.suppress(OSError, ValueError):
            name, *ids = self.ids_path.read_text().split()
            if ids := [i for i in ids if i.isdigit()]:
                self.say(f"jobs of an earlier run are cancelled where they still wait: {some(ids)}")
            self.system.end_named(name)

    def _start_guard(self) -> None:
        """A shell that waits for the death of this process, be it by SIGKILL, and then cancels the jobs."""
        self._note_jobs()
        guard = _GUARD.format(rounds=" ".join(map(str, GUARD_ROUNDS_S)), cancel=self.system.cancel_named)
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", guard, str(self.ids_path), self.options.job_name],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def _end_all(self) -> None:
        self.system.end_named(self.options.job_name)  # one that was being submitted has no id here
        self.jobs.clear()
        with contextlib.suppress(OSError):
            self.ids_path.unlink()
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait()

    def _note_jobs(self) -> None:
        with atomic_path(self.ids_path) as temporary:
            temporary.write_text("".join(f"{word}\n" for word in (self.options.job_name, *self.jobs)))

    # -- sending ----------------------------------------------------------------------------------------------------

    def _send(self, n: int) -> None:
        """Submit jobs; raises Refused at the first that is not taken."""
        for _ in range(n):
            self._n_sent += 1
            name = f"job{os.getpid()}-{self._n_sent}"
            number = self.system.send(self.write_script(name))
            self.jobs[number] = Job(number, name, time.monotonic(), done_before=self._done())
            self._note_jobs()

    def _done(self) -> int:
        """Tasks that were ever finished."""
        return sum(int(p.state_counts["memory"]) for p in list(self.scheduler.task_prefixes.values()))

    def _wanted(self) -> int:
        """Jobs that the unfinished work can use."""
        load = sum(t.state in _UNFINISHED for t in list(self.scheduler.tasks.values()))
        return min(_jobs(load, self.options.cores), self._most())

    def _most(self) -> int:
        """Jobs when there is plenty of work."""
        options = self.options
        return _jobs(options.max_workers or options.workers or options.cores, options.cores)

    # -- watching ---------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stop.wait(self.options.poll_s):
            try:
                self.look()
            except ProvabgsError as error:
                self.failure = error
            except Exception as error:  # whatever it is, a thread that dies in silence would be worse
                self.failure = JobsLost(f"the watch over the jobs failed: {type(error).__name__}: {error}")
            if self.failure is not None:
                self.give_up()
                return

    def look(self) -> None:
        """Look at the queue once, and act.

        Raises
        ------
        JobsLost
            When jobs end without ever having had a worker, or are refused, time after time.
        """
        self._meet_workers()
        try:
            states = self.system.states()
        except OSError as error:
            self._silent += 1
            if self._silent % 6 == 3:
                self.say(f"the batch system does not answer; jobs are left alone until it does: {error}")
            return
        self._silent = 0
        self._bury(states)
        wanted = self._wanted()
        if wanted > len(self.jobs):
            self._replace(wanted - len(self.jobs))
        elif self.options.max_workers is not None:
            self._let_go(max(wanted, _jobs(max(1, self.options.workers), self.options.cores)))
        self._tell()

    def _meet_workers(self) -> None:
        """Note which jobs have workers, and which of them have work."""
        now = time.monotonic()
        busy: dict[str, bool] = {}
        for worker in list(self.scheduler.workers.values()):
            name = str(worker.name)
            for owner in (name, name.rpartition("-")[0]):  # a job of one worker gives it the job's own name
                busy[owner] = busy.get(owner, False) or bool(worker.processing)
        for job in self.jobs.values():
            if job.name in busy:
                job.had_workers = True
                job.idle_since = None if busy[job.name] else job.idle_since or now

    def _bury(self, states: dict[str, JobState]) -> None:
        """Take in the queue's states; forget jobs that ended."""
        now, ended = time.monotonic(), []
        for job in list(self.jobs.values()):
            state = states.get(job.id)
            if state is None and now - job.sent < self.system.grace_s:
                continue
            state = state or JobState("gone from the queue")
            if state != job.state:
                job.state, job.since = state, time.time()
            if job.id not in states or state.state in self.system.ended:
                ended.append(self.jobs.pop(job.id))
        if not ended:
            return
        self._note_jobs()
        self.say(f"ended: {in_words((j.id, str(j.state)) for j in ended)}")
        for job in ended:
            self._in_vain = [*self._in_vain, job] if self._done() == job.done_before else []
        if not self._hopeless():
            return
        what = "before any batch was done" if any(j.had_workers for j in self._in_vain) else "without a worker"
        last = ended[-1]
        text = f"{len(self._in_vain)} jobs in a row ended {what}; {last_words(self.logs, last.id, str(last.state))}"
        if not any(j.had_workers for j in self.jobs.values()):
            raise JobsLost(f"{text}; finished batches are kept: run the same command again once the cause is gone")
        self.say(f"{text}; no more are sent while others work")

    def _hopeless(self) -> bool:
        """Whether jobs end in vain again and again.

        Jobs without any worker count singly; where workers came, as many rounds of all jobs: one fault of the machine
        may end them all at once.
        """
        at_once = max(1, self._most()) if any(j.had_workers for j in self._in_vain) else 1
        return len(self._in_vain) >= self.options.job_tries * at_once

    def _replace(self, n: int) -> None:
        """Send more jobs; a refusal counts only when it comes again and again, and no job is left."""
        if self._hopeless():
            return
        before = set(self.jobs)
        try:
            self._send(n)
            self._refused = 0
        except Refused as error:
            self._refused = 0 if self.jobs else self._refused + 1
            self.say(str(error))
            if self._refused >= self.options.job_tries:
                raise JobsLost(f"{error} ({self._refused} times, and no job is left)") from None
        if sent := [i for i in self.jobs if i not in before]:
            self.say(f"jobs sent: {some(sent)}")

    def _let_go(self, wanted: int) -> None:
        """Adaptive mode: cancel jobs that the work left does not need, those that wait before those that run."""
        now = time.monotonic()
        spare = len(self.jobs) - wanted
        waiting = [j for j in self.jobs.values() if not j.had_workers]
        idle = [j for j in self.jobs.values() if j.idle_since is not None and now - j.idle_since > IDLE_S]
        if gone := [j.id for j in [*reversed(waiting), *idle]][: max(0, spare)]:
            self.say(f"jobs cancelled for want of work: {some(gone)}")
            self.system.end(gone)
            for number in gone:
                del self.jobs[number]
            self._note_jobs()

    # -- telling ----------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Say which jobs are waited for; again every minute while nobody works, more rarely while others do."""
        n_workers = len(self.scheduler.workers)
        awaited = [j for j in self.jobs.values() if not (n_workers and j.had_workers)]
        if n_workers and not awaited:
            return
        text, now = in_words((j.id, str(j.state)) for j in awaited), time.monotonic()
        often = REPEAT_WITH_WORKERS_S if n_workers else REPEAT_S
        if now - self._said_at >= often or (not n_workers and text != self._said):
            since = min((j.since for j in awaited), default=time.time())
            clock = time.strftime("%H:%M:%S", time.localtime(since))
            who = f"{n_workers} workers at work, others awaited" if n_workers else "no worker yet"
            self.say(f"{who}; {text or 'no job in the queue'}, since {clock} ({duration(time.time() - since)})")
            self._said, self._said_at = text, now


def of_their_own(options: ClusterOptions) -> ClusterOptions:
    """The same settings with a name of jobs that only this run's have: a tag of letters, for ids are digits."""
    tag = "".join(secrets.choice(string.ascii_lowercase) for _ in range(6))
    return options.model_copy(update={"job_name": f"{options.job_name}-{tag}"})


def _jobs(workers: int, cores: int) -> int:
    """Jobs that hold so many workers."""
    return math.ceil(workers / cores)
