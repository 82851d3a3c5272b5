"""How a command ends that a signal stopped."""

from __future__ import annotations

import contextlib

import typer

from provabgs.pipelines.stopping import exit_code


def stopped(stop: KeyboardInterrupt, text: str) -> typer.Exit:
    """What to raise: an exit with the signal's own code, after a line for people.

    Parameters
    ----------
    stop
        What the command caught.
    text
        What is kept, and how to go on.
    """
    with contextlib.suppress(OSError):  # the terminal may be what ended
        typer.echo(text, err=True)
    return typer.Exit(exit_code(stop))
