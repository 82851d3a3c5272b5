"""A fit process's side of a device server: it asks, and evaluates for itself where it gets no answer.

`provabgs.inference.device.server` writes where it listens to the variable ``PROVABGS_DEVICE`` of processes that it is
for. Without the variable, without a server behind it, or once the server is lost or refuses, every answer is None.
"""

from __future__ import annotations

import logging
import os
import weakref
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from threading import Lock
from typing import Any

import numpy as np

from provabgs.core.arrays import FloatArray
from provabgs.core.chunks import padded
from provabgs.core.jax import jax
from provabgs.inference.device.messages import ROWS, Close, Common, Evaluate, Kind, Open, Refusal
from provabgs.inference.likelihood.base import LinearSystem
from provabgs.inference.priors import Prior

VARIABLE = "PROVABGS_DEVICE"
"""Names the server's socket and its key: ``/folder/socket:key in hexadecimal``."""
PATIENCE_S = 600.0
"""Longest wait for an answer; a first call of its shape compiles."""

_LOG = logging.getLogger(__name__)


class Server:
    """The connection of this process; broken for good after the first failure."""

    def __init__(self, address: str) -> None:
        path, _, key = address.rpartition(":")
        self._lock = Lock()
        self._connection: Connection | None = None
        try:
            self._connection = Client(path, family="AF_UNIX", authkey=bytes.fromhex(key))
        except (OSError, EOFError, ValueError, AuthenticationError) as error:
            self._lose(f"{type(error).__name__}: {error}")

    def say(self, message: Any, answered: bool = True) -> Any:
        """Send a message.

        Parameters
        ----------
        message
            One of `provabgs.inference.device.messages`.
        answered
            Whether there will be an answer to wait for.

        Returns
        -------
        Any
            The answer, or a `Refusal` where there is none.
        """
        with self._lock:
            if self._connection is None:
                return Refusal("no server")
            try:
                self._connection.send(message)
                if not answered:
                    return None
                if not self._connection.poll(PATIENCE_S):
                    raise TimeoutError(f"no answer within {PATIENCE_S:g} s")
                return self._connection.recv()
            except (OSError, EOFError, TimeoutError) as error:
                self._lose(f"{type(error).__name__}: {error}")
                return Refusal("the server is lost")

    def _lose(self, why: str) -> None:
        _LOG.warning("the device server of %s does not answer (%s): this process evaluates for itself", VARIABLE, why)
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class ServedGalaxy:
    """One galaxy at the server; it is forgotten there when this object goes.

    Parameters
    ----------
    server
        The connection; None where there is none.
    number
        The server's number of the galaxy.
    """

    def __init__(self, server: Server | None = None, number: int = -1) -> None:
        self._server, self._number = server, number
        if server is not None:
            weakref.finalize(self, server.say, Close(number), False)

    def ask(self, kind: Kind, low_snr: bool, *rows: FloatArray) -> tuple[FloatArray, ...] | None:
        """What the server makes of rows, or None.

        Parameters
        ----------
        kind
            What is evaluated.
        low_snr
            Which of the two integrals over masses.
        *rows
            Each ``(n, ...)``, any n > 0.

        Returns
        -------
        tuple or None
            Arrays ``(n, ...)`` in double precision.
        """
        if self._server is None:
            return None
        n = len(rows[0])
        answer = self._server.say(Evaluate(self._number, kind, low_snr, tuple(padded(x, ROWS) for x in rows)))
        if isinstance(answer, Refusal):
            _LOG.warning("the device server refuses (%s): this galaxy is evaluated here", answer.reason)
            self._server = None
            return None
        return tuple(x[:n] for x in answer)


UNSERVED = ServedGalaxy()
"""A galaxy that no server has."""
_servers: dict[str, Server] = {}


def has_server() -> bool:
    """Whether this process is for a device server."""
    return bool(os.environ.get(VARIABLE))


def serve(system: LinearSystem, prior: Prior, share: Any) -> ServedGalaxy:
    """Give a galaxy to the server of this process.

    Parameters
    ----------
    system
        Its normal equations.
    prior
        Its prior.
    share
        See `provabgs.inference.marginalised.share_of`.

    Returns
    -------
    ServedGalaxy
        `UNSERVED` where there is no server, or where it cannot make the model or has no room.
    """
    address = os.environ.get(VARIABLE, "")
    if not address or system.recipe is None:
        return UNSERVED
    if address not in _servers:
        _servers[address] = Server(address)
    server = _servers[address]
    arrays = jax.tree.map(np.asarray, (system.data, Common(prior, share)))
    answer = server.say(Open(system.recipe, *arrays))
    if isinstance(answer, Refusal):
        _LOG.debug("not served: %s", answer.reason)
        return UNSERVED
    return ServedGalaxy(server, int(answer))
