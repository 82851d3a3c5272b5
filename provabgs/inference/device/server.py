"""A server that evaluates likelihoods of many galaxies in one call: ``python -m provabgs.inference.device.server``.

One process per card. Fit processes, as many as there are cores or more, each fit one galaxy at a time and send what is
to be evaluated; a call takes requests of up to `Options.width` galaxies of one size class. Calls are always filled up
to this width, so that a galaxy's numbers do not depend on which others are in the call.

Answers are those of the process itself to rounding. A server that dies leaves fit processes that go on by themselves.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import shutil
import stat
import sys
import tempfile
import threading
import time
import warnings
from collections import OrderedDict, deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import numpy as np

from provabgs.core.compilations import shape_of
from provabgs.core.errors import ProvabgsError
from provabgs.core.jax import jax, jnp
from provabgs.core.messages import first_line
from provabgs.inference.device.client import VARIABLE
from provabgs.inference.device.evaluations import evaluation
from provabgs.inference.device.messages import ROWS, Ask, Close, Counters, Evaluate, Open, Refusal, Request
from provabgs.inference.device.table import Table

LANES = 2

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How a server works.

    Attributes
    ----------
    width
        Galaxies in a call.
    galaxies
        Galaxies that it keeps of each size class; further ones are refused.
    """

    width: int = 16
    galaxies: int = 128


@dataclass(frozen=True)
class _Galaxy:
    recipe: tuple[str, str]
    data: tuple[Table, int]
    common: tuple[Table, int]


@dataclass
class _Work:
    """Rows of one galaxy that wait."""

    galaxy: _Galaxy
    rows: tuple[Any, ...]
    answer: Future[tuple[Any, ...]] = field(default_factory=Future)


class Evaluator:
    """Galaxies on the device, and the queue of what is to be evaluated; used by many threads.

    Parameters
    ----------
    options
        How it works.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self._tables: dict[Any, Table] = {}
        self._galaxies: dict[int, _Galaxy] = {}
        self._next = 0
        self._lock = threading.Condition()
        self._waiting: OrderedDict[Any, deque[_Work]] = OrderedDict()
        self._count = dict.fromkeys(("galaxies", "calls", "evaluations", "padding"), 0)
        self._busy = 0.0
        for _ in range(LANES):
            threading.Thread(target=self._work, daemon=True).start()

    def open(self, message: Open) -> int | Refusal:
        """Keep a galaxy; its number."""
        with self._lock:
            places: list[tuple[Table, int]] = []
            for tree in (message.data, message.common):
                key = shape_of(tree)
                if key not in self._tables:
                    self._tables[key] = Table(tree, self.options.galaxies)
                table = self._tables[key]
                row = table.put(tree)
                if row is None:
                    for other, taken in places:
                        other.drop(taken)
                    return Refusal(f"{self.options.galaxies} galaxies of this size are being fitted already")
                places.append((table, row))
            self._next += 1
            self._count["galaxies"] += 1
            self._galaxies[self._next] = _Galaxy(message.recipe, places[0], places[1])
            return self._next

    def close(self, number: int) -> None:
        """Forget a galaxy."""
        with self._lock:
            galaxy = self._galaxies.pop(number, None)
            if galaxy is not None:
                for table, row in (galaxy.data, galaxy.common):
                    table.drop(row)

    def evaluate(self, message: Evaluate) -> tuple[Any, ...] | Refusal:
        """Wait for the values of rows."""
        pieces = []
        with self._lock:
            galaxy = self._galaxies.get(message.galaxy)
            if galaxy is None:
                return Refusal(f"there is no galaxy {message.galaxy}")
            request = Request(galaxy.recipe, message.kind, message.low_snr)
            shapes = tuple(np.shape(x)[1:] for x in message.rows)
            group = (request, id(galaxy.data[0]), id(galaxy.common[0]), shapes)
            for i in range(0, len(message.rows[0]), ROWS):
                work = _Work(galaxy, tuple(np.asarray(x[i : i + ROWS]) for x in message.rows))
                self._waiting.setdefault(group, deque()).append(work)
                pieces.append(work.answer)
            self._lock.notify_all()
        try:
            values = [piece.result() for piece in pieces]
        except Exception as error:  # the card is out of memory, a model cannot be made: the galaxy is fitted elsewhere
            _LOG.warning("%s: %s", type(error).__name__, first_line(error))
            return Refusal(f"{type(error).__name__}: {first_line(error)}")
        return tuple(np.concatenate(x) if len(x) > 1 else x[0] for x in zip(*values, strict=True))

    def counters(self) -> Counters:
        """What was done so far."""
        with self._lock:
            return Counters(**self._count, busy_s=self._busy)

    def _work(self) -> None:
        """Evaluate for ever; while one lane waits for values of a call, the other puts the next together."""
        while True:
            group, works = self._take()
            try:
                self._call(group, works)
            except Exception as error:
                for work in works:
                    work.answer.set_exception(error)

    def _take(self) -> tuple[Any, list[_Work]]:
        """Requests of one call: of the group that has most, and of these the oldest."""
        with self._lock:
            while not self._waiting:
                self._lock.wait()
            group = max(self._waiting, key=lambda g: len(self._waiting[g]))
            queue = self._waiting[group]
            works = [queue.popleft() for _ in range(min(self.options.width, len(queue)))]
            if not queue:
                del self._waiting[group]
            return group, works

    def _call(self, group: Any, works: list[_Work]) -> None:
        start, missing = time.perf_counter(), self.options.width - len(works)
        filled = works + works[:1] * missing
        rows = [jnp.asarray(np.stack(x)) for x in zip(*(w.rows for w in filled), strict=True)]
        one = works[0].galaxy
        with self._lock:  # tables are replaced where galaxies come
            data = one.data[0].take(jnp.asarray([w.galaxy.data[1] for w in filled]))
            common = one.common[0].take(jnp.asarray([w.galaxy.common[1] for w in filled]))
        values = [np.asarray(x, np.float64) for x in evaluation(group[0])(rows, data, common)]
        for k, work in enumerate(works):
            work.answer.set_result(tuple(x[k] for x in values))
        with self._lock:
            self._busy += time.perf_counter() - start
            self._count["calls"] += 1
            self._count["evaluations"] += ROWS * len(works)
            self._count["padding"] += ROWS * missing


def answer(connection: Connection, evaluator: Evaluator) -> None:
    """Answer one fit process until it leaves; what it had is forgotten then.

    Parameters
    ----------
    connection
        To the process.
    evaluator
        Shared by all of them.
    """
    mine: set[int] = set()
    try:
        while True:
            message = connection.recv()
            if isinstance(message, Open):
                try:
                    opened = evaluator.open(message)
                except (ProvabgsError, RuntimeError, ValueError) as error:  # no room on the card
                    opened = Refusal(f"{type(error).__name__}: {first_line(error)}")
                if not isinstance(opened, Refusal):
                    mine.add(opened)
                connection.send(opened)
            elif isinstance(message, Evaluate):
                connection.send(evaluator.evaluate(message))
            elif isinstance(message, Close):
                evaluator.close(message.galaxy)
                mine.discard(message.galaxy)
            elif isinstance(message, Ask):
                connection.send(evaluator.counters())
    except (EOFError, OSError):
        pass
    finally:
        connection.close()
        for number in mine:
            evaluator.close(number)


def listen(address: Path, key: bytes, options: Options) -> None:
    """Serve until the process ends.

    Parameters
    ----------
    address
        Path of the socket, in a folder that only this user can enter.
    key
        What fit processes must know.
    options
        How the server works.

    Raises
    ------
    OSError
        When the socket cannot be made.
    """
    evaluator = Evaluator(options)
    with Listener(str(address), family="AF_UNIX", backlog=256, authkey=key) as listener:
        address.chmod(stat.S_IRUSR | stat.S_IWUSR)
        while True:
            try:
                connection = listener.accept()
            except (OSError, EOFError, AuthenticationError) as error:  # one that does not know the key, or left at once
                _LOG.warning("a process was not let in: %s", error)
                continue
            threading.Thread(target=answer, args=(connection, evaluator), daemon=True).start()


def main() -> None:
    """Print the value of ``PROVABGS_DEVICE`` for fit processes, and serve."""
    parser = argparse.ArgumentParser(prog="python -m provabgs.inference.device.server", description=__doc__)
    parser.add_argument("--width", type=int, default=Options.width, help="galaxies in a call")
    parser.add_argument("--galaxies", type=int, default=Options.galaxies, help="galaxies of one size that are kept")
    parser.add_argument("--single", action="store_true", help="no double precision at all")
    options = parser.parse_args()
    if options.single:
        warnings.filterwarnings("ignore", "Explicitly requested dtype", UserWarning)
        jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_default_matmul_precision", "highest")
    folder = Path(tempfile.mkdtemp(prefix="provabgs-device-"))
    key = secrets.token_bytes(16)
    print(f"{folder / 'socket'}:{key.hex()}", flush=True)
    print(f"{VARIABLE}: {jax.devices()[0].device_kind}", file=sys.stderr, flush=True)
    threading.Thread(target=_leave_with_parent, args=(folder,), daemon=True).start()
    listen(folder / "socket", key, Options(options.width, options.galaxies))


def _leave_with_parent(folder: Path) -> None:
    """End when standard input closes: whoever started the server is gone. The socket's folder goes, too."""
    while os.read(0, 1024):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
