"""Wording of errors that other libraries raise."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """First line of an exception's text, or its type's name where it has none.

    Parameters
    ----------
    error
        Any exception; messages of HDF5, DuckDB or astropy run over many lines.

    Returns
    -------
    str
        One line without white space at its ends.
    """
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
