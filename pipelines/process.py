"""The fit process: one galaxy after another, at arm's length from everything that must survive it.

Started by `provabgs.pipelines.supervisor` as ``python -m provabgs.pipelines.process``. A galaxy that hangs, exhausts
the memory or takes the interpreter down with it ends this process and nothing else.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from provabgs.core.compilations import tidy
from provabgs.core.errors import DataFileError, ProvabgsError
from provabgs.core.status import Status
from provabgs.inference.config import FitConfig
from provabgs.inference.fit import FitFunction, fit_one
from provabgs.inference.posterior import Posterior
from provabgs.observe.target import TargetResult
from provabgs.pipelines.config import RunConfig
from provabgs.pipelines.inputs import Reader, load_object, make_reader
from provabgs.sps.derived import DerivedProperty


def main(requests: Connection, replies: Connection) -> None:
    """Answer requests until the other end closes."""
    config = RunConfig.model_validate_json(requests.recv())
    try:
        reader = make_reader(config.inputs)
        fit = load_object(config.run.fit, "[run] fit")
    except Exception as error:
        replies.send(("broken", f"{type(error).__name__}: {error}"))
        return
    replies.send(("ready",))
    while True:
        try:
            request = requests.recv()
        except EOFError:
            return
        _answer(config, reader, fit, request, replies)


def _answer(config: RunConfig, reader: Reader, fit: FitFunction, request: dict[str, Any], replies: Connection) -> None:
    """Fit one batch; every galaxy is announced before it is touched."""
    settings = FitConfig.model_validate_json(request["fit"]) if request["fit"] else config.fit
    places = {key: k for k, key in enumerate(zip(request["targetids"], request["rows"], strict=True))}
    try:
        for row in _read(reader, request):
            place = places.get((row.targetid, row.row))
            if place is None:
                continue
            if row.observation is not None:
                _set_alarm(config)
                replies.send(("started", place))
            posterior = fit_one(row.named(request["name"]), settings, config.run.seed, fit=fit)
            kind = "raised" if posterior.status == Status.CRASHED else "done"
            if row.observation is not None:
                tidy()
            replies.send((kind, place, portable(posterior)))
    except _Unreadable as error:
        replies.send(("unreadable", str(error)))
    except ProvabgsError as error:
        replies.send(("broken", str(error)))
    else:
        replies.send(("end",))
    finally:
        signal.alarm(0)


def portable(posterior: Posterior) -> Posterior:
    """A posterior that other processes can take: its properties are described, the functions that computed them left.

    Functions, those of plugins above all, are known to the process that fitted and to no other.
    """
    described = tuple(DerivedProperty.from_dict(p.as_dict()) for p in posterior.properties)
    return replace(posterior, properties=described)


class _Unreadable(Exception):
    """The input cannot be read; an error of the fit's own files must not be taken for one."""


def _read(reader: Reader, request: dict[str, Any]) -> Iterator[TargetResult]:
    """Rows of a request."""
    try:
        yield from reader.read(Path(request["path"]), request["targetids"], request["rows"])
    except (DataFileError, OSError) as error:
        raise _Unreadable(str(error)) from error


def _set_alarm(config: RunConfig) -> None:
    """Have the kernel end a hanging process whose parent, which should have done it, is gone.

    The signal keeps its default action, which needs no interpreter: it works while compiled code holds the lock.
    """
    signal.alarm(int(2 * config.execution.time_limit_s + config.execution.start_limit_s) + 60)


def _die_with_parent(lifeline: int) -> None:
    """Leave at once when the parent's end of the pipe closes."""
    os.read(lifeline, 1)
    os._exit(1)


if __name__ == "__main__":
    request_fd, reply_fd, lifeline_fd = (int(x) for x in sys.argv[1:4])
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when a run stops
    os.dup2(2, 1)  # whatever a library prints must not end up in the run's own output
    threading.Thread(target=_die_with_parent, args=(lifeline_fd,), daemon=True).start()
    main(Connection(request_fd, writable=False), Connection(reply_fd, readable=False))
