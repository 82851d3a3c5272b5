"""A command together with a device server that lives as long as it does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from provabgs.core.errors import MissingDependencyError
from provabgs.inference.device.client import VARIABLE


@contextmanager
def device_server(width: int, galaxies: int, *more: str) -> Iterator[str]:
    """A server in a process of its own while the context lasts.

    Parameters
    ----------
    width
        Galaxies in a call.
    galaxies
        Galaxies of one size class that it keeps.
    *more
        Further arguments of ``python -m provabgs.inference.device.server``.

    Yields
    ------
    str
        Value of the variable ``PROVABGS_DEVICE`` for processes that are to use it.

    Raises
    ------
    MissingDependencyError
        When the server does not start; what it said is on standard error.
    """
    arguments = ("--width", str(width), "--galaxies", str(galaxies), *more)
    command = [sys.executable, "-m", "provabgs.inference.device.server", *arguments]
    # a terminal's Ctrl-C is not for it: it leaves when its standard input closes
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            raise MissingDependencyError("the device server does not start: see above (is the card's driver there?)")
        try:
            yield address
        finally:
            process.stdin.close()


def run_beside_server(command: Sequence[str], width: int, galaxies: int, environment: Mapping[str, str]) -> int:
    """Run a command whose fit processes use a server on this machine.

    Parameters
    ----------
    command
        Program and arguments.
    width, galaxies
        As of `device_server`.
    environment
        Of the command; `VARIABLE` is added, and JAX told to leave the card to the server.

    Returns
    -------
    int
        Exit status of the command.

    Raises
    ------
    MissingDependencyError
        When the server does not start.
    OSError
        When the command does not.
    """
    with device_server(width, galaxies) as address:
        process = subprocess.Popen(command, env={**environment, VARIABLE: address, "JAX_PLATFORMS": "cpu"})
        while True:
            try:
                code = process.wait()
            except KeyboardInterrupt:  # the command has it, too, and knows how to stop
                continue
            return 128 - code if code < 0 else code
