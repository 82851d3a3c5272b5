"""Jobs of a batch system, against a made-up queue: what is sent, replaced, let go, told, and given up."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provabgs.core.errors import ConfigError
from provabgs.pipelines.batch_systems import SYSTEMS, BatchSystem, JobState, Refused
from provabgs.pipelines.cluster_options import ClusterOptions
from provabgs.pipelines.clusters import open_cluster
from provabgs.pipelines.jobs import IDLE_S, JobPool, JobsLost
from provabgs.pipelines.waiting import REPEAT_WITH_WORKERS_S, duration, in_words, last_words

QUEUE = """#!{python}
import json, os, sys
path, words = os.environ["MADE_UP_QUEUE"], sys.argv[1:]
jobs = json.load(open(path))
if words[0] == "sub":
    if "refuse" in jobs:
        sys.exit("no such account")
    number = str(len(jobs) + 1)
    jobs[number] = "PENDING"
    if "dies" in jobs:  # together with the run that has sent it, which learns no id
        json.dump(jobs, open(path, "w"))
        os.kill(os.getppid(), 9)
        sys.exit(1)
    print("Submitted job", number)
elif words[0] == "show":
    if "away" in jobs:
        sys.exit("connection refused")
    print("\\n".join(f"{{k}}|{{v}}|why" for k, v in jobs.items() if v != "GONE"))
elif words[0] == "name":
    if words[1] == os.environ["MADE_UP_NAME"]:
        jobs = {{k: v if k in ("dies", "refuse", "away") else "CANCELLED" for k, v in jobs.items()}}
else:
    jobs.update(dict.fromkeys(words[1:], "CANCELLED"))
json.dump(jobs, open(path, "w"))
"""


class Bed:
    """A made-up queue, a made-up scheduler, and a pool between them whose thread sleeps."""

    def __init__(self, folder: Path, **options: Any) -> None:
        command = folder / "queue"
        command.write_text(QUEUE.format(python=sys.executable))
        command.chmod(0o755)
        self.path = folder / "jobs.json"
        self.path.write_text("{}")
        os.environ["MADE_UP_QUEUE"] = str(self.path)
        slurm = SYSTEMS["slurm"]
        self.system = BatchSystem(
            submit=(str(command), "sub"), query=(str(command), "show"), cancel=(str(command), "cancel"),
            cancel_named=f'{command} name "$1"', parse=slurm.parse, ended=slurm.ended,
        )  # fmt: skip
        self.scheduler = SimpleNamespace(workers={}, tasks={}, task_prefixes={})
        self.folder, self.said, self.gave_up = folder, list[str](), list[bool]()
        self.options = ClusterOptions(**{"kind": "slurm", "cores": 2, "workers": 4, "poll_s": 3600, **options})
        os.environ["MADE_UP_NAME"] = self.options.job_name
        self.load(100)

    def pool(self) -> JobPool:
        def script(name: str) -> str:
            return f"#!/bin/sh\n# {name}\n"

        give_up: Callable[[], None] = lambda: self.gave_up.append(True)  # noqa: E731
        return JobPool(
            self.system, self.options, script, self.scheduler, self.folder, self.folder, self.said.append, give_up
        )

    def load(self, n: int) -> None:
        self.scheduler.tasks = {k: SimpleNamespace(state="queued") for k in range(n)}

    def done(self, n: int) -> None:
        self.scheduler.task_prefixes = {"fit": SimpleNamespace(state_counts={"memory": n})}

    def states(self, **jobs: str) -> None:
        self.path.write_text(json.dumps({**self.queue(), **{k.removeprefix("j"): v for k, v in jobs.items()}}))

    def queue(self) -> dict[str, str]:
        return dict(json.loads(self.path.read_text()))

    def workers(self, *names: str, busy: bool = True) -> None:
        self.scheduler.workers = {n: SimpleNamespace(name=n, processing={"t": 1} if busy else {}) for n in names}


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def test_lost_jobs_are_replaced_and_all_end_with_the_run(bed: Bed) -> None:
    with bed.pool() as pool:
        assert list(bed.queue()) == ["1", "2"]
        assert (bed.folder / "jobs.txt").read_text() == "provabgs\n1\n2\n"
        bed.states(j1="RUNNING", j2="TIMEOUT")
        pool.look()
        assert set(pool.jobs) == {"1", "3"}
        bed.states(j1="GONE", j3="GONE")  # as long as the work lasts
        bed.load(1)
        pool.look()
        assert set(pool.jobs) == {"4"}
    assert bed.queue()["4"] == "CANCELLED"
    assert not (bed.folder / "jobs.txt").exists()
    assert "ended: job 2: TIMEOUT (why)" in bed.said
    assert "jobs sent: 3" in bed.said


def test_waiting_is_told_once_until_it_changes(bed: Bed) -> None:
    with bed.pool() as pool:
        pool.look()
        pool.look()
        told = [s for s in bed.said if s.startswith("no worker yet")]
        assert len(told) == 1
        assert told[0].startswith("no worker yet; jobs 1, 2: PENDING (why), since ")
        bed.states(j1="RUNNING")
        pool.look()
        assert "job 2: PENDING (why); job 1: RUNNING (why)" in bed.said[-1]
        bed.workers(f"{pool.jobs['1'].name}-0")
        pool._said_at -= 2 * REPEAT_WITH_WORKERS_S
        pool.look()
        pool.look()
        told = [s for s in bed.said if s.startswith("1 workers at work, others awaited; job 2: PENDING (why), since ")]
        assert len(told) == 1
        bed.workers(*(f"{j.name}-0" for j in pool.jobs.values()))
        pool.look()
        assert len([s for s in bed.said if s.startswith("no worker yet")]) == 2


def test_jobs_in_vain_end_the_run_and_name_the_log(bed: Bed) -> None:
    with bed.pool() as pool:
        for k in range(1, 5):
            bed.states(**{f"j{k}": "FAILED"})
            pool.look()
        (bed.folder / "provabgs-61.err").write_text("of another job")
        bed.states(j5="FAILED", j6="FAILED")
        with pytest.raises(JobsLost, match=r"6 jobs in a row ended without a worker; job 6 .*left no log"):
            pool.look()


def test_jobs_whose_workers_finish_nothing_end_the_run_later(bed: Bed) -> None:
    def rounds(n: int) -> None:
        for _ in range(n):
            bed.workers(*(f"{j.name}-0" for j in pool.jobs.values()))
            pool.look()
            bed.workers()
            bed.states(**dict.fromkeys((f"j{k}" for k in pool.jobs), "COMPLETED"))
            pool.look()

    with bed.pool() as pool:
        rounds(4)
        bed.done(7)  # something was done: the count starts again
        rounds(5)
        with pytest.raises(JobsLost, match="10 jobs in a row ended before any batch was done"):
            rounds(1)


def test_refusals(bed: Bed) -> None:
    bed.states(refuse="x")
    with pytest.raises(Refused, match="queue refuses the job: no such account"), bed.pool():
        pass
    bed.path.write_text("{}")
    with bed.pool() as pool:
        bed.states(j1="RUNNING", j2="FAILED", refuse="x")
        for _ in range(3):
            pool.look()  # one job works on
        bed.states(j1="FAILED")
        for _ in range(4):
            pool.look()
        with pytest.raises(JobsLost, match="no such account"):
            pool.look()


def test_a_silent_batch_system_is_told_and_nothing_else_done(bed: Bed) -> None:
    with bed.pool() as pool:
        bed.states(away="x")
        for _ in range(4):
            pool.look()
        assert set(pool.jobs) == {"1", "2"}
        assert any("does not answer" in s and "connection refused" in s for s in bed.said)


def test_adaptive_numbers_follow_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed = Bed(tmp_path, workers=2, max_workers=8)
    with bed.pool() as pool:
        assert len(pool.jobs) == 1
        bed.load(5)
        pool.look()
        assert len(pool.jobs) == 3
        bed.load(50)
        pool.look()
        assert len(pool.jobs) == 4
        first, second = list(pool.jobs.values())[:2]
        bed.workers(f"{first.name}-0", f"{second.name}-1", busy=False)
        bed.load(3)
        pool.look()
        assert set(pool.jobs) == {first.id, second.id}  # those that wait go first
        bed.load(0)
        pool.look()
        assert len(pool.jobs) == 2  # idle, but not for long
        assert first.idle_since is not None
        first.idle_since -= 2 * IDLE_S
        pool.look()
        assert set(pool.jobs) == {second.id}


def test_jobs_of_a_dead_run_are_cancelled(bed: Bed) -> None:
    bed.states(j1="PENDING")
    (bed.folder / "jobs.txt").write_text("other\n1\n")
    os.environ["MADE_UP_NAME"] = "other"
    with bed.pool():
        assert bed.queue() == {"1": "CANCELLED", "2": "PENDING", "3": "PENDING"}
    assert "jobs of an earlier run are cancelled where they still wait: 1" in bed.said


def test_failures_of_the_watch_reach_the_run(tmp_path: Path) -> None:
    bed = Bed(tmp_path, poll_s=1)
    with bed.pool() as pool:
        bed.scheduler.tasks = None  # whatever goes wrong
        pool._thread.join(timeout=20)
        assert bed.gave_up == [True]
        assert isinstance(pool.failure, JobsLost)


def test_local_workers_that_do_not_start_are_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(**options: object) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr("provabgs.pipelines.clusters.LocalCluster", busy)
    with (
        pytest.raises(ConfigError, match=r"workers = 2: they do not start \(Nanny failed"),
        open_cluster(ClusterOptions(workers=2), 1, tmp_path),
    ):
        pass


def test_queues_of_other_systems_are_read() -> None:
    pbs = """
server:
                                                            Req'd  Req'd   Elap
Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time
--------------- -------- -------- ---------- ------ --- --- ------ ----- - -----
123.server      me       workq    provabgs      --    1   2    1gb 00:10 Q   --
124.server      me       workq    provabgs    4711    1   2    1gb 00:10 R 00:01
"""
    assert SYSTEMS["pbs"].parse(pbs) == {"123": JobState("QUEUED"), "124": JobState("RUNNING")}
    assert SYSTEMS["lsf"].parse("12 PEND\n13 RUN\n") == {"12": JobState("PEND"), "13": JobState("RUN")}
    assert str(SYSTEMS["slurm"].parse("7|PENDING|Resources\n")["7"]) == "PENDING (Resources)"


def test_words(tmp_path: Path) -> None:
    (tmp_path / "provabgs-12.err").write_text("starting\nno module named dask\n\n")
    (tmp_path / "provabgs-12.out").touch()
    (tmp_path / "provabgs-121.err").write_text("of another job, and longer than the other one")
    assert last_words(tmp_path, "12", "FAILED").endswith("provabgs-12.err, ends: no module named dask")
    assert in_words((str(k), "RUNNING") for k in range(6)) == "jobs 0, 1, 2, 3 and 2 more: RUNNING"
    assert [duration(s) for s in (40, 300, 11520)] == ["40 s", "5 min", "3.2 h"]


@pytest.mark.parametrize("moment", ["later", "between sending a job and noting its id"])
def test_the_guard_outlives_a_kill(bed: Bed, moment: str) -> None:
    if moment != "later":
        bed.states(dies="x")
    script = (
        "import os, sys\nfrom pathlib import Path\nsys.path.insert(0, os.getcwd())\n"
        "from tests.unit.test_jobs import Bed\n"
        "bed = Bed(Path(sys.argv[1]))\nbed.path.write_text(sys.argv[2])\n"
        "bed.pool().__enter__()\nos.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(bed.folder), bed.path.read_text()], timeout=120)
    for _ in range(100):
        if "PENDING" not in bed.queue().values():
            break
        subprocess.run(["sleep", "0.1"])
    sent = {"1": "CANCELLED", "2": "CANCELLED"} if moment == "later" else {"dies": "x", "2": "CANCELLED"}
    assert bed.queue() == sent
    assert stat.S_ISREG((bed.folder / "jobs.txt").stat().st_mode)
