"""Errors of emulators, by name: weights that cannot be used, parameters that were not trained for."""

from __future__ import annotations

from provabgs.core.errors import DataFileError, InputError


class EmulatorFileError(DataFileError):
    """A weights file is missing, damaged, of another version, or trained for another model."""


class EmulatorRangeError(InputError):
    """Parameters lie outside the range that an emulator was trained on, or are NaN."""
