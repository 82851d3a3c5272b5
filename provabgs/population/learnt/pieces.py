"""Work on many galaxies in pieces, by this process or by others, and the scratch files that they read.

Pieces are cut, and their sums added, in one order, whoever does the work: what is learnt is the same, to the last bit,
with any number of workers.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import numpy as np

from provabgs.core.arrays import FloatArray, SingleArray
from provabgs.core.errors import InputError
from provabgs.inference.learnt.mixture import Mixture
from provabgs.population.learnt.em import Block, Sums, totals_of

IN_MEMORY = 1 << 30
"""Bytes of draws above which they go to a scratch file."""
ROWS = 1 << 16
"""Draws in a block."""
BLOCKS = 16
"""Blocks in a piece: 2^20 draws, 29 MB for five properties and redshift."""

Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Calls a function with each item and gives its results in the order of the items, as ``map`` does."""


class Labour(NamedTuple):
    """Who does the work on pieces."""

    each: Each = map
    folder: Path | None = None
    """Where scratch files go, seen by all workers; None for this process alone, which puts few draws in memory."""


class Rows(NamedTuple):
    """Rows of an array in a scratch file, for whichever process reads them."""

    path: Path
    first: int
    last: int

    def array(self) -> SingleArray:
        """The rows, mapped into memory.

        Raises
        ------
        InputError
            When this machine does not see the file.
        """
        try:
            rows: SingleArray = np.load(self.path, mmap_mode="r")[self.first : self.last]
        except OSError as error:
            raise InputError(
                f"{self.path}: a worker cannot read this scratch file ({error.strerror or error}); --scratch must name "
                "a folder that all workers see"
            ) from None
        return rows


@dataclass(frozen=True, eq=False)
class Piece:
    """Some galaxies: draws in memory or rows of scratch files, and weights ``(n,)`` or ``(m, n)``."""

    y: SingleArray | Rows
    log_weight: SingleArray | Rows
    weight: FloatArray

    def __iter__(self) -> Iterator[Block]:
        y, log_weight = (part.array() if isinstance(part, Rows) else part for part in (self.y, self.log_weight))
        size = max(1, ROWS // y.shape[1])
        for first in range(0, len(y), size):
            rows = slice(first, first + size)
            yield Block(np.asarray(y[rows]), np.asarray(log_weight[rows]), self.weight[..., rows])


class InPieces(Protocol):
    """Galaxies that can be cut."""

    def __iter__(self) -> Iterator[Block]: ...

    def pieces(self, of: Sequence[int] | None = None) -> Iterator[Piece]:
        """All galaxies in order; of several rows of weights those of some mixtures."""
        ...


def totals_in_pieces(
    mixtures: Sequence[Mixture],
    galaxies: InPieces,
    background: float,
    of: Sequence[int] | None = None,
    *,
    each: Each = map,
) -> list[Sums]:
    """`provabgs.population.learnt.em.totals_of`, piece by piece.

    Parameters
    ----------
    mixtures
        The densities so far.
    galaxies
        A table.
    background, of
        See there.
    each
        Who sums over the pieces; their sums are added here, in the order of the galaxies.

    Returns
    -------
    list of Sums
        One for each mixture.
    """
    found = each(partial(_totals_of_piece, tuple(mixtures), background), galaxies.pieces(of))
    return reduce(
        lambda a, b: [Sums(*(x + y for x, y in zip(*two, strict=True))) for two in zip(a, b, strict=True)], found
    )


def _totals_of_piece(mixtures: Sequence[Mixture], background: float, piece: Piece) -> list[Sums]:
    return totals_of(mixtures, piece, background)


class Scratch:
    """Room for arrays: memory, or files of a temporary folder that is removed at the end.

    Parameters
    ----------
    in_memory
        Bytes above which an array becomes a file.
    folder
        Where the temporary folder is made; the system's place for such if left out.
    """

    def __init__(self, in_memory: int = IN_MEMORY, folder: Path | None = None) -> None:
        self.in_memory, self.parent = in_memory, folder
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._number = 0

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def array(self, shape: tuple[int, ...]) -> Any:
        """An array of single precision to be filled.

        Parameters
        ----------
        shape
            Of the array.

        Returns
        -------
        numpy.ndarray or numpy.memmap
            Of the shape.

        Raises
        ------
        InputError
            When the disk has no room for it.
        """
        size = 4 * int(np.prod([float(n) for n in shape]))
        if size <= self.in_memory:
            return np.empty(shape, dtype=np.float32)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="provabgs-learn-", dir=self.parent)
        # a mapped file that outgrows the disk ends the process without a word
        if (free := shutil.disk_usage(self._folder.name).free) < size:
            raise InputError(
                f"{self._folder.name}: draws need {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; name another "
                "folder with --scratch, or use fewer --draws"
            )
        self._number += 1
        path = Path(self._folder.name).absolute() / f"{self._number}.npy"
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)


def path_of(array: SingleArray) -> Path | None:
    """The scratch file of an array; None for one in memory."""
    return Path(str(array.filename)) if isinstance(array, np.memmap) and array.filename else None
