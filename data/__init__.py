"""Data that ship with the package; each file carries its provenance in its attributes (see README.md here)."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from provabgs.core.errors import DataFileError


def data_path(name: str) -> Path:
    """Path of a shipped data file.

    Raises
    ------
    DataFileError
        When no such file ships with the package.
    """
    path = Path(str(resources.files(__name__).joinpath(name)))
    if not path.exists():
        raise DataFileError(f"{name}: not among the data that ship with provabgs; reinstall the package")
    return path
