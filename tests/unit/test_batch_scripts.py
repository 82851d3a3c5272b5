"""PBS and LSF, of which no real one was at hand: scripts against their manuals' directives, made-up commands.

PBS Professional 2022 User's Guide, qsub; IBM Spectrum LSF 10.1, bsub. A real Slurm: tests/integration/test_slurm.py.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from provabgs.pipelines.batch_systems import SYSTEMS, Refused
from provabgs.pipelines.cluster_options import ClusterOptions
from provabgs.pipelines.job_script import ask_batch_system, job_script
from provabgs.pipelines.jobs import JobPool, of_their_own

pytest.importorskip("dask_jobqueue", reason="dask-jobqueue (the extra hpc) is not installed")

KNOWN = {
    "pbs": {
        "-N": r"[A-Za-z_][A-Za-z0-9_.+-]{0,14}",  # 15 characters in older versions
        "-q": r"\w+",
        "-A": r"\w+",
        "-l": r"select=\d+:ncpus=\d+:mem=\d+[KMG]B|walltime=\d+:\d\d:\d\d|place=\w+",
        "-e": r"/\S+",
        "-o": r"/\S+",
    },
    "lsf": {
        "-J": r"[A-Za-z0-9_.+-]+",
        "-q": r"\w+",
        "-P": r"\w+",
        "-n": r"\d+",
        "-R": r"span\[hosts=1\]",
        "-M": r"\d+",
        "-W": r"\d+:\d\d",
        "-e": r"/\S+%J\S*",
        "-o": r"/\S+%J\S*",
        "-x": "",
    },
}
MARK = {"pbs": "#PBS", "lsf": "#BSUB"}
NEEDED = {"pbs": {"-N", "-q", "-A", "-l"}, "lsf": {"-J", "-q", "-P", "-n", "-M", "-W"}}
EXTRA = {"pbs": "-l place=scatter", "lsf": "-x"}

COMMANDS = {
    "pbs": {
        "qsub": 'grep -q "^#PBS -q regular" "$1" || {{ echo "qsub: Unknown queue" >&2; exit 170; }}\n'
        'n=$(($(wc -l < {q}) + 1)); echo "$n $(sed -n "s/^#PBS -N //p" "$1")" >> {q}; echo $n.server',
        "qstat": 'while read n name; do printf "%s.server me regular %.10s -- 1 4 8gb 04:00 Q --\\n" $n $name\n'
        "done < {q}",
        "qselect": 'while read n name; do [ "$name" = "$4" ] && echo $n.server; done < {q}; exit 0',
        "qdel": 'for j; do sed -i "/^${{j%.server}} /d" {q}; done',
    },
    "lsf": {
        "bsub": "cat > {q}.sh\n"
        'grep -q "^#BSUB -q regular" {q}.sh || {{ echo "regulr: No such queue. Job not submitted." >&2; exit 255; }}\n'
        'n=$(($(wc -l < {q}) + 1)); echo "$n $(sed -n "s/^#BSUB -J //p" {q}.sh)" >> {q}\n'
        'echo "Job <$n> is submitted to queue <regular>."',
        "bjobs": '[ -s {q} ] || {{ echo "No unfinished job found" >&2; exit 255; }}\n'
        'while read n name; do echo "$n PEND"; done < {q}',
        "bkill": 'if [ "$1" = -J ]; then sed -i "/ $2\\$/d" {q}; else for j; do sed -i "/^$j /d" {q}; done; fi',
    },
}  # fmt: skip
"""As the real ones speak, around a file of ids and names."""


def options(kind: str, **changes: object) -> ClusterOptions:
    common = {"kind": kind, "cores": 4, "workers": 8, "memory": "8GB", "walltime": "1-04:00:00", "queue": "regular"}
    return ClusterOptions.model_validate({**common, "account": "desi", "directives": [EXTRA[kind]], **changes})


@pytest.fixture(params=["pbs", "lsf"])
def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "bin").mkdir()
    (tmp_path / "queue").touch()
    for name, text in COMMANDS[request.param].items():
        command = tmp_path / "bin" / name
        command.write_text("#!/bin/sh\n" + text.format(q=tmp_path / "queue") + "\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return str(request.param)


def test_scripts_hold_directives_that_the_manuals_know(kind: str) -> None:
    script = job_script(of_their_own(options(kind)), "tls://10.0.0.1:1", "job1-1", Path("/logs"), None, {"A": "b c"})
    lines = [line for line in script.splitlines() if line.startswith("#") and not line.startswith("#!")]
    assert all(line.startswith(MARK[kind] + " -") for line in lines), lines
    seen = set()
    for line in lines:
        option, _, value = line.removeprefix(MARK[kind] + " ").partition(" ")
        words = shlex.split(value)
        assert len(words) <= 1
        assert re.fullmatch(KNOWN[kind][option], words[0] if words else ""), line
        seen.add(option)
    assert seen >= NEEDED[kind]
    assert ("28:00:00" if kind == "pbs" else "-W 28:00") in script
    assert script.splitlines()[0].startswith("#!/")
    assert subprocess.run(["sh", "-n"], input=script, text=True).returncode == 0


def test_jobs_are_sent_seen_and_cancelled(kind: str, tmp_path: Path) -> None:
    queue, said = tmp_path / "queue", list[str]()
    asked = of_their_own(options(kind, poll_s=3600))
    scheduler = SimpleNamespace(workers={}, tasks={}, task_prefixes={})
    scheduler.tasks = {k: SimpleNamespace(state="queued") for k in range(9)}

    def script(name: str) -> str:
        return job_script(asked, "tls://10.0.0.1:1", name, tmp_path, None, {})

    queue.write_text("1 of-somebody-else\n")
    with JobPool(SYSTEMS[kind], asked, script, scheduler, tmp_path, tmp_path, said.append, lambda: None) as pool:
        assert queue.read_text() == f"1 of-somebody-else\n2 {asked.job_name}\n3 {asked.job_name}\n"
        pool.look()
        assert said[-1].startswith(f"no worker yet; jobs 2, 3: {'QUEUED' if kind == 'pbs' else 'PEND'}, since ")
        with queue.open("a") as f:
            f.write(f"9 {asked.job_name}\n")  # sent, and its id not yet noted
    assert queue.read_text() == "1 of-somebody-else\n"


def test_jobs_that_leave_the_queue_are_replaced(kind: str, tmp_path: Path) -> None:
    queue, said = tmp_path / "queue", list[str]()
    asked = of_their_own(options(kind, poll_s=3600))
    scheduler = SimpleNamespace(workers={}, tasks={0: SimpleNamespace(state="queued")}, task_prefixes={})

    def script(name: str) -> str:
        return job_script(asked, "tls://10.0.0.1:1", name, tmp_path, None, {})

    with JobPool(SYSTEMS[kind], asked, script, scheduler, tmp_path, tmp_path, said.append, lambda: None) as pool:
        queue.write_text("")
        pool.look()
        assert set(pool.jobs) == {"1", "2"}  # a job may be missing for a while after it was sent
        for job in pool.jobs.values():
            job.sent = time.monotonic() - 2 * SYSTEMS[kind].grace_s
        pool.look()
        assert "ended: jobs 1, 2: gone from the queue" in said
        assert queue.read_text().split() == ["1", asked.job_name]


def test_refusals_are_told_in_their_words(kind: str) -> None:
    words = {"pbs": "qsub refuses the job: qsub: Unknown queue", "lsf": "bsub refuses the job: regulr: No such queue"}
    bad = options(kind, queue="regulr")
    with pytest.raises(Refused, match=words[kind]):
        SYSTEMS[kind].send(job_script(bad, "tls://10.0.0.1:1", "job1-1", Path("/logs"), None, {}))
    assert "cannot be asked beforehand" in ask_batch_system(options(kind))
