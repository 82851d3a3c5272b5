"""Errors that name what is wrong, where, and the mend.

Every message is one line: the file (and row) at fault, what was found, what to do about it. The command line prints
the message alone and exits with a code other than 0; inside a catalog the same error becomes one row's STATUS.
"""

from __future__ import annotations


class ProvabgsError(Exception):
    """Base class of everything this package raises on purpose."""


class InputError(ProvabgsError, ValueError):
    """A value, array or option handed to the package cannot be used as it is."""


class DataFileError(InputError):
    """A file is missing, truncated, or not what it was said to be."""


class UnusableTargetError(InputError):
    """One target cannot be fitted; carries the `provabgs.core.status.Status` for its catalog row."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ConfigError(InputError):
    """A configuration key or value is not understood."""


class MissingDependencyError(ProvabgsError, ImportError):
    """An optional package, or the data it reads, is not installed."""
