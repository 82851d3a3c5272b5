"""A real Slurm of three small nodes on this machine's loopback interface, for tests: no systemd, no cgroups, no config.

Needs root and ``apt-get install slurmctld slurmd slurm-client munge``.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "munged")
NODES = ("n1", "n2", "n3")
CPUS, MEMORY_MB = 2, 4000


def why_not() -> str | None:
    """Why no Slurm can be started here; None where it can."""
    if absent := [p for p in PROGRAMS if shutil.which(p) is None]:
        names = "slurmctld slurmd slurm-client munge"
        return f"Slurm is not installed ({', '.join(absent)} not found): apt-get install {names}"
    return None if os.getuid() == 0 else "only root can start Slurm's daemons"


def free_ports(n: int) -> list[int]:
    """Ports that nobody uses at the moment."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Slurm:
    """The daemons, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf)}

    def start(self) -> None:
        """Start a munge, a controller and the nodes; returns when all nodes are idle."""
        for name in ("state", "spool", "log", "munge"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        munge = self.folder / "munge"
        (munge / "key").write_bytes(os.urandom(1024))
        (munge / "key").chmod(0o400)
        files = [f"--{what}={munge / name}" for what, name in
                 (("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"),
                  ("seed-file", "seed"))]  # fmt: skip
        subprocess.run(["munged", "--force", *files], check=True, capture_output=True)
        self.conf.write_text(self._configuration())
        self._run("slurmctld", "-f", str(self.conf))
        for node in NODES:
            self.start_node(node)
        end = time.monotonic() + 60
        while self.ask("sinfo", "-h", "-p", "regular", "-t", "idle", "-o", "%D") != str(len(NODES)):
            assert time.monotonic() < end, self.ask("sinfo")
            time.sleep(0.5)

    def _configuration(self) -> str:
        host, (controller, *ports) = socket.gethostname().split(".")[0], free_ports(1 + len(NODES))
        log, munge = self.folder / "log", self.folder / "munge"
        nodes = "\n".join(
            f"NodeName={n} NodeHostname={host} NodeAddr=127.0.0.1 Port={p} CPUs={CPUS} RealMemory={MEMORY_MB}"
            for n, p in zip(NODES, ports, strict=True)
        )
        return f"""
ClusterName=rehearsal
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={munge}/socket,cred_expire=15
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool/%n
SlurmctldPidFile={log}/slurmctld.pid
SlurmdPidFile={log}/slurmd.%n.pid
SlurmctldLogFile={log}/slurmctld.log
SlurmdLogFile={log}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=30
KillWait=2
MinJobAge=300
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=regular Nodes={",".join(NODES)} Default=YES MaxTime=01:00:00 State=UP PriorityTier=1
PartitionName=urgent Nodes={",".join(NODES)} MaxTime=01:00:00 State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=closed Nodes={",".join(NODES)} MaxTime=01:00:00 State=DOWN
"""

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        self._run("slurmd", "-f", str(self.conf), "-N", node)

    def kill_node(self, node: str) -> None:
        """End a node's daemon and all that it runs, as a power cut does; the controller is told at once."""
        self._kill(self.folder / "log" / f"slurmd.{node}.pid", signal.SIGKILL)
        jobs = self.ask("squeue", "-h", "-w", node, "-o", "%A").split()
        self.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=power")
        for job in jobs:
            self.end_processes(job, signal.SIGKILL)

    def end_processes(self, job: str, number: signal.Signals) -> None:
        """Send a signal to everything that runs in a job."""
        for process in Path("/proc").glob("[0-9]*"):
            if f"SLURM_JOB_ID={job}".encode() in _environment(process).split(b"\0"):
                _kill(int(process.name), number)

    def ask(self, *command: str) -> str:
        """Output of a Slurm command."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def jobs(self, *states: str) -> dict[str, str]:
        """States of the jobs in the queue by their ids."""
        chosen = ["-t", ",".join(states)] if states else []
        rows = self.ask("squeue", "-h", "-o", "%A %T", *chosen).splitlines()
        return dict(row.split() for row in rows)

    def stop(self) -> None:
        """End everything that was started."""
        if jobs := list(self.jobs()):
            self.ask("scancel", *jobs)
        pids = [*self.folder.glob("log/*.pid"), self.folder / "munge" / "pid"]
        for path in pids:
            self._kill(path, signal.SIGTERM)

    def _run(self, *command: str) -> None:
        subprocess.run(command, env=self.environment, check=True, capture_output=True)

    def _kill(self, path: Path, number: signal.Signals) -> None:
        if path.exists():
            _kill(int(path.read_text()), number)


def _environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
