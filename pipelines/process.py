"""The fit process: one galaxy after another, at arm's length from everything that must survive it.

Started by `provabgs.pipelines.supervisor` as ``python -m provabgs.pipelines.process``. A galaxy that hangs, exhausts
the memory or takes the interpreter down with it ends this process and nothing else.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from provabgs.core.errors import DataFileError, ProvabgsError
from provabgs.core.messages import first_line
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation
from provabgs.pipelines.config import RunConfig
from provabgs.pipelines.inputs import Reader, load_object, make_reader


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


def _answer(config: RunConfig, reader: Reader, fit: Any, request: dict[str, Any], replies: Connection) -> None:
    """Fit one batch; every galaxy is announced before it is touched."""
    settings = FitConfig.model_validate_json(request["fit"]) if request["fit"] else config.fit
    places = {key: k for k, key in enumerate(zip(request["targetids"], request["rows"], strict=True))}
    try:
        for result in reader.read(Path(request["path"]), request["targetids"], request["rows"]):
            place = places.get((result.targetid, result.row))
            if place is None:
                continue
            if result.observation is None:
                replies.send(("unusable", place, int(result.status or 0), result.message))
                continue
            _set_alarm(config)
            replies.send(("started", place))
            try:
                posterior = fit(result.observation, settings, config.run.seed)
            except Exception as error:
                text = first_line(error)
                replies.send(("raised", place, f"{type(error).__name__}: {text}"))
            else:
                name = request["name"]
                replies.send(("done", place, complete(posterior, result.observation, result.row, name, result.message)))
    except (DataFileError, OSError) as error:
        replies.send(("unreadable", str(error)))
    except ProvabgsError as error:
        replies.send(("broken", str(error)))
    else:
        replies.send(("end",))
    finally:
        signal.alarm(0)


def complete(posterior: Posterior, observation: Observation, row: int, name: str, note: str) -> Posterior:
    """Add to a posterior where it came from."""
    meta = {**observation.meta, **posterior.meta, "INPUT": name, "ROW": row}
    meta.pop("COADD", None)  # INPUT says it without a machine's own paths
    meta = {k: Path(v).name if k in ("REDROCK", "PHOTOMETRY") and isinstance(v, str) else v for k, v in meta.items()}
    message = "; ".join(m for m in (posterior.message, note) if m)
    return replace(posterior, meta=meta, message=message)


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
