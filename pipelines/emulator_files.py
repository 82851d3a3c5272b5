"""Work files of an emulator's training: arrays with checksums, of the very settings that they were made with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provabgs.core.atomic import atomic_path
from provabgs.core.hdf5 import create, reading

FORMAT = "provabgs-emulator-work-1"


def keep(path: Path, settings: str, arrays: Mapping[str, ArrayLike]) -> None:
    """Write arrays, atomically.

    Parameters
    ----------
    path
        The file.
    settings
        All that they depend on.
    arrays
        By name, groups in it separated by slashes.
    """
    with atomic_path(path) as temporary, create(temporary) as f:
        f.attrs["format"], f.attrs["settings"] = FORMAT, settings
        for name, values in arrays.items():
            array = np.asarray(values)
            f.create_dataset(name, data=array, **({"fletcher32": True} if array.size and array.ndim else {}))


def kept(path: Path, settings: str) -> dict[str, NDArray[Any]]:
    """The arrays of a file, verified.

    Parameters
    ----------
    path
        The file.
    settings
        Those that it must have been made with.

    Raises
    ------
    DataFileError
        When it is missing, damaged, or of other settings.
    """
    with reading(path, FORMAT, "a work file of an emulator", "remove it and run the same command") as contents:
        if contents.text("settings") != settings:
            raise ValueError("it was made with other settings")
        return contents.arrays
