"""HDF5 files of the grids that ship: named arrays with units, provenance, and a hash over the content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from provabgs.core.errors import DataFileError
from provabgs.core.hdf5 import Contents, create, fixed, reading

_PACKED = {"compression": "gzip", "compression_opts": 9, "shuffle": True}


class Grid(Protocol):
    """A grid with provenance, which knows the hash of its content."""

    @property
    def provenance(self) -> dict[str, str]:
        """Sources, licence and command."""
        ...

    def digest(self) -> str:
        """SHA-256 over the content."""
        ...


G = TypeVar("G", bound=Grid)


def save_grid(path: str | Path, grid: Grid, form: str, units: Mapping[str, str], texts: Mapping[str, Any]) -> None:
    """Write a grid.

    Parameters
    ----------
    path
        File to write.
    grid
        Has the arrays as attributes.
    form
        Name of the format.
    units
        Unit of each array, by name.
    texts
        Sequences of texts to write besides, by name.
    """
    with create(path) as f:
        f.attrs["format"] = form
        f.attrs["sha256"] = grid.digest()
        f.create_group("provenance").attrs.update(grid.provenance)
        for name, values in texts.items():
            data = [text.encode() for text in values]
            f.create_dataset(name, data=np.array(data, dtype=fixed(data)))
        for name, unit in units.items():
            array = getattr(grid, name)
            f.create_dataset(name, data=array, **(_PACKED if array.ndim > 1 else {})).attrs["unit"] = unit


def load_grid(path: str | Path, form: str, what: str, recipe: str, build: Callable[[Contents, dict[str, str]], G]) -> G:
    """Read a grid that `save_grid` wrote.

    Parameters
    ----------
    path
        The file.
    form
        Name of the format.
    what
        The grid, as messages name it.
    recipe
        The page that says how to make one.
    build
        From the file's contents and the provenance to the grid.

    Returns
    -------
    Grid
        Its content matches its hash.

    Raises
    ------
    DataFileError
        When the file is missing, not HDF5, not such a grid, or its content does not match its hash.
    """
    with reading(Path(path), form, f"a {what}", f"make a {what} as {recipe} says, or copy it again") as contents:
        grid = build(contents, contents.words("provenance"))
        if grid.digest() != contents.text("sha256"):
            raise DataFileError(f"{path}: content does not match its recorded SHA-256; damaged, copy it again")
    return grid
