"""Batch systems by their own commands: send a job, ask whether it would be taken, look at the queue, cancel."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from provabgs.core.errors import ConfigError

COMMAND_LIMIT_S = 120.0
"""A command of the batch system that has not answered by then has failed."""


class Refused(ConfigError):
    """The batch system does not take the job; the message is its own."""


class JobState(NamedTuple):
    """What the queue says of one job."""

    state: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.state} ({self.reason})" if self.reason not in ("", "None") else self.state


@dataclass(frozen=True)
class BatchSystem:
    """The commands of one kind of batch system.

    Attributes
    ----------
    submit, query, cancel
        Command lines; the script, nothing, or job ids follow. ``USER`` stands for the user's name.
    cancel_named
        Shell command that cancels the user's jobs of a name, ``$1``.
    test
        Says whether a script would be taken, and when it would start; None where there is no such command.
    parse
        The output of `query` as states by job id.
    ended
        States of jobs that will not run any more.
    script_on_stdin
        The script is read from standard input.
    grace_s
        How long after its submission a job may be missing from the queue, seconds.
    """

    submit: tuple[str, ...]
    query: tuple[str, ...]
    cancel: tuple[str, ...]
    cancel_named: str
    parse: Callable[[str], dict[str, JobState]]
    ended: frozenset[str]
    test: tuple[str, ...] | None = None
    script_on_stdin: bool = False
    grace_s: float = 0.0

    def send(self, script: str) -> str:
        """Submit a job; its id.

        Raises
        ------
        Refused
            With the batch system's own words.
        """
        done = self._with_script(self.submit, script)
        found = re.search(r"\d+", done.stdout)
        if done.returncode != 0 or found is None:
            raise Refused(f"{self.submit[0]} refuses the job: {_words(done)}")
        return found.group()

    def ask(self, script: str) -> str:
        """What the batch system says of a script without taking it, the expected start among it.

        Raises
        ------
        Refused
            With the batch system's own words.
        """
        if self.test is None:
            return f"{self.submit[0]} cannot be asked beforehand"
        done = self._with_script(self.test, script)
        if done.returncode != 0:
            raise Refused(f"{self.submit[0]} refuses the job: {_words(done)}")
        return _words(done)

    def states(self) -> dict[str, JobState]:
        """The user's jobs in the queue, by id.

        Raises
        ------
        OSError
            When the batch system does not answer.
        """
        user = pwd.getpwuid(os.getuid()).pw_name
        done = _run([user if part == "USER" else part for part in self.query])
        if done.returncode != 0 and "no unfinished job" not in done.stderr.lower():
            raise OSError(f"{self.query[0]}: {_words(done)}")
        return self.parse(done.stdout)

    def end(self, ids: Iterable[str]) -> None:
        """Cancel jobs; those that ended by themselves do not matter."""
        if ids := list(ids):
            with contextlib.suppress(OSError):
                _run([*self.cancel, *ids])

    def end_named(self, name: str) -> None:
        """Cancel jobs by their name, those whose ids nobody knows among them."""
        with contextlib.suppress(OSError):
            _run(["/bin/sh", "-c", self.cancel_named, "sh", name])

    def _with_script(self, command: tuple[str, ...], script: str) -> subprocess.CompletedProcess[str]:
        with tempfile.NamedTemporaryFile("w+", suffix=".sh", prefix="provabgs-job-") as file:
            file.write(script)
            file.flush()
            try:
                return _run([*command, *([] if self.script_on_stdin else [file.name])], script)
            except OSError as error:
                raise Refused(f"no job can be submitted: {error}") from None


def _run(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    """A command's result, shielded from Ctrl-C; raises OSError when it is not there or does not answer."""
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, start_new_session=True
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"{command[0]} did not answer within {COMMAND_LIMIT_S:g} s") from None
    except FileNotFoundError:
        raise OSError(f"{command[0]}: no such command on this machine") from None


def _words(done: subprocess.CompletedProcess[str]) -> str:
    """What a command said, on one line."""
    text = " ".join((done.stderr.strip() or done.stdout.strip()).split())
    return text or f"exit code {done.returncode}"


def _parse_slurm(text: str) -> dict[str, JobState]:
    """``squeue -o '%A|%T|%r'``."""
    rows = (line.split("|", 2) for line in text.splitlines() if line.count("|") >= 2)
    return {number: JobState(state, reason) for number, state, reason in rows}


_PBS_STATES = {"Q": "QUEUED", "R": "RUNNING", "H": "HELD", "W": "WAITING", "E": "EXITING", "S": "SUSPENDED",
               "C": "COMPLETED", "F": "FINISHED", "T": "MOVING", "B": "RUNNING", "X": "FINISHED",
               "U": "SUSPENDED"}  # fmt: skip


def _parse_pbs(text: str) -> dict[str, JobState]:
    """``qstat -u USER``: a table whose tenth column is the state's letter."""
    found = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) >= 10 and (number := re.match(r"\d+", parts[0])):
            found[number.group()] = JobState(_PBS_STATES.get(parts[9], parts[9]))
    return found


def _parse_lsf(text: str) -> dict[str, JobState]:
    """``bjobs -noheader -o 'jobid stat'``."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: JobState(row[1]) for row in rows if len(row) == 2 and row[0].isdigit()}


_SLURM_ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
                "REVOKED", "TIMEOUT")  # fmt: skip

SYSTEMS: Mapping[str, BatchSystem] = {
    "slurm": BatchSystem(
        submit=("sbatch",),
        test=("sbatch", "--test-only"),
        # ended jobs are listed for some minutes too, so that the run can say how they ended
        query=("squeue", "-h", "-t", "all", "-u", "USER", "-o", "%A|%T|%r"),
        cancel=("scancel",),
        cancel_named='scancel -u "$(id -un)" -n "$1"',
        parse=_parse_slurm,
        ended=frozenset(_SLURM_ENDED),
    ),
    "pbs": BatchSystem(
        submit=("qsub",),
        query=("qstat", "-u", "USER"),
        cancel=("qdel",),
        cancel_named='qselect -u "$(id -un)" -N "$1" | xargs -r qdel',
        parse=_parse_pbs,
        ended=frozenset({"COMPLETED", "FINISHED"}),
        grace_s=30.0,
    ),
    "lsf": BatchSystem(
        submit=("bsub",),
        query=("bjobs", "-noheader", "-o", "jobid stat", "-u", "USER"),
        cancel=("bkill",),
        cancel_named='bkill -J "$1" 0',
        parse=_parse_lsf,
        ended=frozenset({"DONE", "EXIT", "ZOMBI"}),
        script_on_stdin=True,
        grace_s=30.0,
    ),
}
