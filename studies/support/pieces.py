"""Pieces of a study's work in files of their own: a study that was stopped goes on from what its folder holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

Arrays = dict[str, NDArray]


def kept_arrays(path: Path, make: Callable[[], Mapping[str, object]]) -> Arrays:
    """Arrays by name from a ``.npz`` file, which is written first where it is not there.

    Parameters
    ----------
    path
        The file; its folder is made.
    make
        Computes the arrays; numbers and text are kept as arrays of no dimension.

    Returns
    -------
    dict
        What the file holds, also directly after `make`: a study that went on prints what one in a single run prints.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part.npz")
        arrays = {name: np.asarray(value) for name, value in make().items()}
        np.savez(partial, **arrays)  # type: ignore[arg-type]  # its first keyword is a flag
        partial.replace(path)
    with np.load(path, allow_pickle=False) as saved:
        return {name: saved[name] for name in saved.files}


def kept_text(path: Path, make: Callable[[], str]) -> str:
    """Text of a file, which is written first where it is not there.

    Parameters
    ----------
    path
        The file; its folder is made.
    make
        Computes the text.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_text(make())
        partial.replace(path)
    return path.read_text()


def save_table(table: Table, path: Path, name: str) -> None:
    """Write a table to an HDF5 file, never leaving half a file.

    Parameters
    ----------
    table
        The rows.
    path
        An ``.h5`` file; an earlier one is replaced.
    name
        Path inside the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part.h5")
    table.write(partial, path=name, overwrite=True)
    partial.replace(path)


def in_order(function: Callable[..., Arrays], jobs: Sequence[tuple[object, ...]], workers: int) -> Iterator[Arrays]:
    """Results of a function in the order of its jobs, each as soon as it and those before it are there.

    Parameters
    ----------
    function
        Of a module, so that other processes can import it.
    jobs
        Arguments of each call.
    workers
        Processes; below 2, this one.
    """
    if workers < 2:
        yield from (function(*job) for job in jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(function, *zip(*jobs, strict=True))
