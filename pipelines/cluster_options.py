"""The ``[cluster]`` table of a configuration: where the work is done, checked before anything is sent anywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from dask.utils import parse_bytes, parse_timedelta
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from provabgs.core.config import BESIDE_FILE

BATCH_SYSTEMS = ("slurm", "pbs", "lsf")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)")
_DURATION = re.compile(r"\d+(\.\d+)? *(s|m|h|d|seconds?|minutes?|hours?|days?|min|sec)")


class Section(BaseModel):
    """A table of a configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def seconds_of(text: str) -> float:
    """Seconds of a duration: '04:00:00', '1-12:00:00' (days first), '220m' or '4h'.

    Raises
    ------
    ValueError
        For anything else: batch systems disagree about what '240' and '04:00' mean.
    """
    if clock := _CLOCK.fullmatch(text.strip()):
        days, hours, minutes, seconds = (int(x or 0) for x in clock.groups())
        found = 86400.0 * days + 3600 * hours + 60 * minutes + seconds
    elif _DURATION.fullmatch(text.strip()):
        found = float(parse_timedelta(text.strip()))
    else:
        raise ValueError("must be hours:minutes:seconds ('04:00:00', '1-12:00:00') or a number and a unit ('220m')")
    if found <= 0:
        raise ValueError("must be longer than 0 s")
    return found


def memory_text(text: str) -> str:
    """A size as it was written: '230GB', '4GiB'.

    Raises
    ------
    ValueError
        For what is no number with a unit.
    """
    try:
        usable = parse_bytes(text) > 0
    except ValueError:
        usable = False
    if not usable or text.strip().isdigit():
        raise ValueError("must be a number and a unit: '230GB', '4GiB'")
    return text


class ClusterOptions(Section):
    """Where the work is done."""

    kind: Literal["local", "slurm", "pbs", "lsf", "address"] = Field("local", description="where workers come from")
    workers: int = Field(0, ge=0, description="fit processes; 0: all cores here (local), else one job's worth")
    max_workers: int | None = Field(None, ge=1, description="adaptive: between `workers` and this many, as work allows")
    address: str | None = Field(None, description="running scheduler, for kind 'address': tls://host:8786")
    scheduler_file: Annotated[Path | None, BESIDE_FILE] = Field(
        None, description="in place of `address`: the file that `dask scheduler --scheduler-file` writes"
    )
    keys: Annotated[Path | None, BESIDE_FILE] = Field(
        None, description="kind 'address': folder of the scheduler's key pair (`provabgs cluster keys FOLDER`)"
    )
    tls: bool = Field(True, description="let in nobody without this run's key, and encrypt; false: any user may enter")
    dashboard: str = Field(
        "127.0.0.1:0",
        description="address of the Dask dashboard; port 0: any free one; ':8787' shows it to everybody",
    )
    interface: str | None = Field(None, description="network interface of scheduler and workers: 'ib0', 'hsn0'")
    cores: int = Field(128, ge=1, description="batch systems: fit processes per job")
    memory: str = Field("230GB", description="batch systems: memory per job")
    walltime: str = Field("04:00:00", description="batch systems: time limit of a job")
    lifetime: str | None = Field(None, description="workers end themselves after this, before the walltime: '230m'")
    lifetime_stagger: str = Field("8m", description="spread of lifetimes, so that not all workers end at once")
    queue: str | None = Field(None, description="batch systems: queue or partition")
    account: str | None = Field(None, description="batch systems: account or project")
    job_name: str = Field(
        "provabgs", pattern=r"^[A-Za-z0-9_.+-]+$", description="batch systems: name of the jobs, before a tag"
    )
    log_directory: Annotated[Path | None, BESIDE_FILE] = Field(
        None, description="batch systems: where jobs leave their logs; else logs/ in the run's folder"
    )
    python: str | None = Field(
        None, description="batch systems: the jobs' interpreter, if not this one: 'shifter --image=NAME python'"
    )
    directives: tuple[str, ...] = Field((), description="further lines of the job header: '--constraint=cpu'")
    prologue: tuple[str, ...] = Field((), description="shell lines run in the job before the workers start")
    poll_s: float = Field(10.0, ge=1, description="batch systems: seconds between looks at the queue")
    job_tries: int = Field(5, ge=1, description="batch systems: stop after so many jobs in a row without any worker")

    @field_validator("memory")
    @classmethod
    def _is_memory(cls, text: str) -> str:
        return memory_text(text)

    @field_validator("walltime", "lifetime", "lifetime_stagger")
    @classmethod
    def _is_duration(cls, text: str | None) -> str | None:
        if text is not None:
            seconds_of(text)
        return text

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.max_workers is not None and self.max_workers < self.workers:
            raise ValueError(f"max_workers = {self.max_workers} is less than workers = {self.workers}")
        if self.kind == "address":
            self._check_address()
        if self.kind in BATCH_SYSTEMS and self.lifetime is not None:
            longest = seconds_of(self.lifetime) + seconds_of(self.lifetime_stagger)
            if longest >= seconds_of(self.walltime):
                raise ValueError(
                    f"lifetime = {self.lifetime!r} and lifetime_stagger = {self.lifetime_stagger!r} reach beyond "
                    f"walltime = {self.walltime!r}: the batch system would kill workers before they end themselves"
                )
        return self

    def _check_address(self) -> None:
        if (self.address is None) == (self.scheduler_file is None):
            raise ValueError(
                "kind = 'address' needs the scheduler's address ('tls://host:8786') or its scheduler_file, one of them"
            )
        if not self.tls:
            return
        if self.address is not None and not self.address.startswith("tls://"):
            raise ValueError(
                f"address = {self.address!r} is not encrypted, and every user who reaches it may run code as you: "
                "start the scheduler with keys (`provabgs cluster keys FOLDER`) and use tls://, or set tls = false"
            )
        if self.keys is None:
            raise ValueError("keys is required with kind = 'address': `provabgs cluster keys FOLDER` makes them")
