"""HDF5 files of the grids that ship: named arrays with units, provenance, and a hash over the content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import h5py

from provabgs.core.errors import DataFileError, InputError

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
    with h5py.File(Path(path), "w") as f:
        f.attrs["format"] = form
        f.attrs["sha256"] = grid.digest()
        f.create_group("provenance").attrs.update(grid.provenance)
        for name, values in texts.items():
            f.create_dataset(name, data=[text.encode() for text in values])
        for name, unit in units.items():
            array = getattr(grid, name)
            f.create_dataset(name, data=array, **(_PACKED if array.ndim > 1 else {})).attrs["unit"] = unit


def load_grid(
    path: str | Path, form: str, what: str, recipe: str, build: Callable[[h5py.File, dict[str, str]], G]
) -> G:
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
        From the open file and the provenance to the grid.

    Returns
    -------
    Grid
        Its content matches its hash.

    Raises
    ------
    DataFileError
        When the file is missing, not HDF5, not such a grid, or its content does not match its hash.
    """
    path = Path(path)
    if not path.exists():
        raise DataFileError(f"{path}: no such file; make a {what} as {recipe} says")
    try:
        with h5py.File(path, "r") as f:
            found, expected = f.attrs.get("format"), str(f.attrs.get("sha256"))
            if found != form:
                raise DataFileError(f"{path}: not a {what} of format {form!r} (found {found!r})")
            grid = build(f, {k: str(v) for k, v in f["provenance"].attrs.items()})
    except (OSError, KeyError, InputError) as err:
        raise DataFileError(f"{path}: cannot be read as a {what} ({err}); make or copy it again") from err
    if grid.digest() != expected:
        raise DataFileError(f"{path}: content does not match its recorded SHA-256; damaged, copy it again")
    return grid
