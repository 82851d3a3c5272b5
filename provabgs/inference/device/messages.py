"""What fit processes and a device server say to each other, over a socket that only this user can open."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Kind = Literal["pilot", "marginal", "linear", "likelihood"]
ROWS = 1024
"""Rows of one galaxy in a call: one shape is compiled."""


class Common(NamedTuple):
    """Arrays of a galaxy that have the same shapes for all galaxies of a model."""

    prior: Any
    share: Any
    """See `provabgs.inference.marginalised.share_of`."""


class Request(NamedTuple):
    """What is evaluated, apart from the galaxy and the rows."""

    recipe: tuple[str, str]
    """`SPSModel.recipe` of the galaxy's model."""
    kind: Kind
    low_snr: bool
    """See `provabgs.inference.marginalised.marginalise`."""


class Open(NamedTuple):
    """A galaxy to be kept until it is closed. Answer: its number, or a `Refusal`."""

    recipe: tuple[str, str]
    data: Any
    common: Common


class Evaluate(NamedTuple):
    """Rows of a galaxy, each array ``(n * ROWS, ...)``. Answer: a tuple of arrays, or a `Refusal`."""

    galaxy: int
    kind: Kind
    low_snr: bool
    rows: tuple[Any, ...]


class Close(NamedTuple):
    """A galaxy that is done with. No answer."""

    galaxy: int


class Ask(NamedTuple):
    """For the server's counters. Answer: `Counters`."""


class Counters(NamedTuple):
    """What a server has done."""

    galaxies: int
    calls: int
    evaluations: int
    """Rows that were asked for."""
    padding: int
    """Rows that filled calls up."""
    busy_s: float
    """Time in calls, from their dispatch to the arrival of their results; compilation included."""


class Refusal(NamedTuple):
    """Why the server does not do it; the fit process evaluates for itself."""

    reason: str
