"""Runs on a real Slurm: whatever happens to their jobs, they complete or end with a message.

Complete means that the catalog equals an undisturbed one, row by row and draw by draw.
"""

from __future__ import annotations

import grp
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from provabgs.catalog.compare import differences
from provabgs.cli.cluster import cluster_app
from provabgs.pipelines.batch_systems import Refused
from provabgs.pipelines.config import load_config
from provabgs.pipelines.job_script import ask_batch_system
from provabgs.pipelines.run import run
from tests.integration.test_faults import Bench, wait_for, write_inputs
from tests.support.slurm import Slurm, why_not

pytest.importorskip("dask_jobqueue", reason="dask-jobqueue (the extra hpc) is not installed")
pytestmark = [pytest.mark.slurm, pytest.mark.skipif(why_not() is not None, reason=why_not() or "")]

CLUSTER = """
kind = "slurm"
workers = {workers}
cores = 2
memory = "1GB"
walltime = "00:10:00"
interface = "lo"
poll_s = 1
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    made = Slurm(tmp_path_factory.mktemp("slurm") / "s")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs") / "in"
    write_inputs(folder, 40)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, inputs: Path) -> Path:
    bench = Bench(tmp_path_factory.mktemp("undisturbed"), inputs)
    bench.finish()
    return bench.output


class SlurmBench(Bench):
    """A run directory whose run sends jobs to a Slurm."""

    def __init__(self, folder: Path, inputs: Path, slurm: Slurm) -> None:
        super().__init__(folder, inputs)
        self.slurm = slurm
        self.started: list[subprocess.Popen[str]] = []
        self.environment |= {"SLURM_CONF": str(slurm.conf), "PROVABGS_SLOW_S": "0.1"}
        self.cluster()

    def cluster(self, more: str = "", workers: int = 4, batch: int = 8, run: str = "", **changes: str) -> None:
        text = CLUSTER.format(workers=workers)
        for key, value in changes.items():
            text, n = re.subn(rf"^{key} = .*$", f'{key} = "{value}"', text, flags=re.MULTILINE)
            text += "" if n else f'{key} = "{value}"\n'
        self.write(cluster=text + more, run=run)
        text = self.config.read_text().replace("time_limit_s = 60", "time_limit_s = 600")
        self.config.write_text(text.replace("batch = 8", f"batch = {batch}"))

    def start(self, **options: object) -> subprocess.Popen[str]:
        self.started.append(super().start(**options))
        return self.started[-1]

    def running(self, n: int) -> list[str]:
        """Ids of `n` running jobs, once there are so many."""
        wait_for(lambda: len(self.slurm.jobs("RUNNING")) >= n, step=0.2)
        return list(self.slurm.jobs("RUNNING"))

    def start_and_hold(self) -> tuple[subprocess.Popen[str], list[str]]:
        """A run in the middle of its work, where it stays until `release`, and the ids of its two jobs."""
        process = self.start()
        jobs = self.running(2)
        wait_for(lambda: self.n_work_files() >= 1, limit=120)
        (self.faults / "held").touch()
        return process, jobs

    def replaced(self, fault: Callable[[], object], *lost: str) -> list[str]:
        """Let a fault befall jobs; ids of the two that run once others have taken their place."""
        fault()
        wait_for(
            lambda: not set(lost) & set(self.slurm.jobs("RUNNING")) and len(self.slurm.jobs("RUNNING")) == 2, 120, 0.2
        )
        return sorted(self.slurm.jobs("RUNNING"), key=int)

    def release(self) -> None:
        (self.faults / "held").unlink()

    def end(self, process: subprocess.Popen[str], expected: int, limit_s: float = 200.0) -> str:
        out, err = process.communicate(timeout=limit_s)
        assert process.returncode == expected, f"exit code {process.returncode}\n{out}\n{err}"
        wait_for(lambda: not self.slurm.jobs("PENDING,RUNNING"))
        assert not (self.output / "cluster" / "keys").exists()
        assert not (self.output / "cluster" / "jobs.txt").exists()
        return out + err


@pytest.fixture
def bench(tmp_path: Path, inputs: Path, slurm: Slurm) -> Iterator[SlurmBench]:
    made = SlurmBench(tmp_path / "bench", inputs, slurm)
    yield made
    for process in made.started:  # one that a failed test has left
        process.kill()
        process.communicate()
    slurm.ask("scancel", "-u", "root")


def test_lost_jobs_are_replaced(bench: SlurmBench, undisturbed: Path) -> None:
    bench.cluster('directives = ["--no-requeue"]')
    process, (cancelled, _) = bench.start_and_hold()
    keys = bench.output / "cluster" / "keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in keys.iterdir()} == {0o600}
    late, dead = bench.replaced(lambda: bench.slurm.ask("scancel", cancelled), cancelled)
    bench.slurm.ask("scontrol", "update", f"JobId={late}", "EndTime=now")  # Slurm looks twice a minute
    node = bench.slurm.ask("squeue", "-h", "-j", dead, "-o", "%N")
    try:
        bench.replaced(lambda: bench.slurm.kill_node(node), late, dead)
        both = bench.running(2)
        bench.replaced(lambda: bench.slurm.ask("scancel", *both), *both)
        bench.release()
        printed = bench.end(process, 0)
    finally:
        bench.slurm.start_node(node)
        bench.slurm.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
    for number, how in ((cancelled, "CANCELLED"), (late, "TIMEOUT"), (dead, "NODE_FAIL")):
        assert f"job {number}: {how}" in printed, printed
    assert re.search(rf"ended: jobs {both[0]}, {both[1]}: CANCELLED", printed), printed
    assert differences(undisturbed, bench.output) == []
    assert list((bench.output / "cluster" / "logs").glob(f"provabgs-??????-{cancelled}.*"))


def test_adaptive_run_replaces_jobs_that_end_by_themselves(bench: SlurmBench, undisturbed: Path) -> None:
    # there is work for two jobs
    bench.cluster("max_workers = 4", workers=2, run='umask = "0007"\ngroup = "nogroup"')
    process, first = bench.start_and_hold()
    bench.slurm.end_processes(first[0], signal.SIGTERM)
    wait_for(lambda: len(set(bench.slurm.jobs("RUNNING")) - set(first)) == 1)
    bench.release()
    printed = bench.end(process, 0)
    assert re.search(rf"ended: job {first[0]}: (COMPLETED|FAILED)", printed), printed
    group = grp.getgrnam("nogroup").gr_gid
    made = [p for p in bench.output.rglob("*") if "logs" not in p.parts]
    assert len(made) > 10
    assert {(p.stat().st_gid, p.stat().st_mode & 0o0077) for p in made if p.is_file()} == {(group, 0o060)}
    assert differences(undisturbed, bench.output) == []


@pytest.mark.slow
def test_lifetimes(bench: SlurmBench, undisturbed: Path) -> None:
    bench.environment["PROVABGS_SLOW_S"] = "6"  # three minutes of work; two minutes are time to start, and to fit
    bench.cluster('max_workers = 4\nlifetime = "120s"\nlifetime_stagger = "5s"\n', workers=2, batch=2)
    printed = bench.end(bench.start(), 0, limit_s=1200)
    assert printed.count("COMPLETED") >= 2
    assert differences(undisturbed, bench.output) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"memory": "230GB"}, "Requested node configuration is not available"),
        ({"queue": "nosuch"}, "invalid partition specified: nosuch"),
    ],
)
def test_a_refusal_ends_the_run_with_sbatchs_words(
    bench: SlurmBench, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], words: str
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(bench.slurm.conf))
    assert "start at 20" in ask_batch_system(load_config(bench.config).cluster)
    bench.cluster(**change)
    config = load_config(bench.config)
    for refused in (lambda: run(config, quiet=True), lambda: ask_batch_system(config.cluster)):
        with pytest.raises(Refused, match=f"sbatch refuses the job: .*{words}"):
            refused()
    assert not bench.slurm.jobs("PENDING,RUNNING")


def test_jobs_that_die_at_once_end_the_run(bench: SlurmBench) -> None:
    bench.cluster('job_tries = 2\nprologue = ["echo no such module: python >&2", "exit 3"]\n')
    printed = bench.end(bench.start(), 2)
    assert "2 jobs in a row ended without a worker; the log of job" in printed
    assert str(bench.output / "cluster" / "logs") in printed
    assert "ends: no such module: python" in printed


def test_waiting_is_told_and_signals_stop_it(bench: SlurmBench) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGHUP, 130)):
        bench.cluster(queue="closed", log_directory="logs", job_name="bgs")
        process = bench.start()
        assert process.stderr is not None
        told = next(line for line in process.stderr if "PENDING" in line)
        waits = r"no worker yet; jobs \d+, \d+: PENDING \(PartitionDown\), since \d\d:\d\d:\d\d \(\d+ s\)"
        assert re.search(waits, told)
        names = bench.slurm.ask("squeue", "-h", "-o", "%j").splitlines()
        assert len(names) == 2
        assert len(set(names)) == 1
        assert re.fullmatch("bgs-[a-z]{6}", names[0])
        process.send_signal(number)
        assert "stopped; finished batches are kept" in bench.end(process, code)


def test_jobs_of_a_killed_run_are_cancelled(bench: SlurmBench) -> None:
    bench.cluster(queue="closed")
    process = bench.start()
    noted = bench.output / "cluster" / "jobs.txt"
    wait_for(lambda: noted.exists() and len(noted.read_text().split()) == 3)  # their name, and two ids
    assert set(bench.slurm.jobs().values()) == {"PENDING"}
    process.kill()
    process.communicate()
    wait_for(lambda: not bench.slurm.jobs("PENDING"))


def test_a_job_that_is_being_sent_when_its_run_is_killed(bench: SlurmBench, tmp_path: Path) -> None:
    """Its id is in no file: it is found by its name, by the guard and by the next run."""
    slow = tmp_path / "bin" / "sbatch"
    slow.parent.mkdir()
    sbatch = shutil.which("sbatch")
    slow.write_text(f'#!/bin/sh\ntouch {tmp_path}/sending\nsleep 3\n{sbatch} "$@"\ntouch {tmp_path}/sent\n')
    slow.chmod(0o755)
    bench.environment["PATH"] = f"{slow.parent}:{bench.environment['PATH']}"
    bench.cluster(queue="closed")
    process = bench.start()
    wait_for((tmp_path / "sending").exists)
    process.kill()
    process.communicate()
    wait_for((tmp_path / "sent").exists)
    wait_for(lambda: not bench.slurm.jobs("PENDING"))
    assert re.fullmatch(r"provabgs-[a-z]{6}\n", (bench.output / "cluster" / "jobs.txt").read_text())


@pytest.mark.parametrize("how", ["--requeue", "--no-requeue"])
def test_preempted_and_requeued_jobs(bench: SlurmBench, undisturbed: Path, how: str) -> None:
    """Slurm starts a requeued job again by itself; one that may not be requeued is replaced."""
    bench.cluster(f'directives = ["{how}"]')
    process, both = bench.start_and_hold()
    nodes = str(len(bench.slurm.ask("sinfo", "-h", "-p", "urgent", "-N", "-o", "%N").split()))
    urgent = ["-p", "urgent", "-N", nodes, "--exclusive", "--job-name=urgent", "-o", "/dev/null"]
    other = bench.slurm.ask("sbatch", "--parsable", *urgent, "--wrap", "sleep 600")
    wait_for(lambda: bench.slurm.jobs().get(other) == "RUNNING", limit=120, step=0.2)
    bench.slurm.ask("scancel", other)
    if how == "--requeue":
        wait_for(lambda: set(both) <= set(bench.slurm.jobs("RUNNING")), limit=120, step=0.2)
        bench.slurm.ask("scontrol", "requeue", both[0])
        wait_for(lambda: bench.slurm.jobs().get(both[0]) == "PENDING", step=0.2)
    bench.release()
    printed = bench.end(process, 0)
    if how == "--requeue":
        # a job that starts again before the scheduler has missed its old workers fails, since their
        # names are taken, and is replaced as any failed job
        assert not re.search("ended: .*(PREEMPTED|CANCELLED)", printed), printed
    else:
        # one line for both, or a line each, since the queue may be asked between the two ends; and
        # a job sent in between may be preempted in its turn
        lines = re.findall(r"ended: jobs? ([\d, ]+): (?:PREEMPTED|CANCELLED)", printed)
        assert set(both) <= set(", ".join(lines).split(", ")), printed
    assert differences(undisturbed, bench.output) == []


def test_one_job_for_everything(bench: SlurmBench, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", str(bench.slurm.conf))
    for name in ("PYTHONPATH", "PROVABGS_FAULTS", "PROVABGS_SLOW_S"):
        monkeypatch.setenv(name, bench.environment[name])  # sbatch passes them on
    app = typer.Typer()
    app.add_typer(cluster_app, name="cluster")
    done = CliRunner().invoke(app, ["cluster", "script", str(bench.config), "--nodes", "2", "--submit"])
    assert done.exit_code == 0, done.output
    number = done.output.split()[-1]
    wait_for(lambda: bench.slurm.jobs().get(number) not in ("PENDING", "RUNNING", "COMPLETING"), limit=600, step=0.5)
    logs = bench.output / "cluster" / "logs"
    printed = (logs / f"provabgs-{number}.out").read_text()
    assert bench.slurm.jobs("COMPLETED").get(number) == "COMPLETED", printed
    assert differences(undisturbed, bench.output) == [], printed
    assert not (bench.output / "cluster" / "keys").exists()
    workers = (logs / f"workers-{number}.log").read_text()
    assert workers.count("Start worker at") == 4
