"""Wording of errors that other libraries raise."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def on_one_line(text: object) -> str:
    r"""A message as a terminal may have it: control characters, of file names above all, as their escapes.

    Parameters
    ----------
    text
        Anything that has a text.

    Returns
    -------
    str
        One line; what cannot be printed is written as ``\x1b`` and the like.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def first_line(error: BaseException) -> str:
    """First line of an exception's text, or its type's name where it has none.

    Parameters
    ----------
    error
        Any exception; messages of HDF5, Parquet or astropy run over many lines.

    Returns
    -------
    str
        One line without white space at its ends.
    """
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to add to a message about an unknown name.

    Parameters
    ----------
    name
        The name that was not found.
    known
        Names that would have been.

    Returns
    -------
    str
        ``"; did you mean 'x'? known: ..."``, without the question where nothing is close.
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    asked = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{asked} known: {', '.join(names)}"


def reason(error: OSError) -> str:
    """Why the system refused: its own word for the error number, or the first line of what HDF5 or Parquet say.

    Parameters
    ----------
    error
        As raised by the system, or by a library, which sets no error number.

    Returns
    -------
    str
        One line.
    """
    return error.strerror or first_line(error)
