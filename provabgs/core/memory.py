"""Memory of a process that fits galaxy after galaxy: caches of so many bytes, and what a process gives back.

Tables that a window of wavelengths needs are made once and kept, since the next galaxy may need them too; a number of
tables bounds nothing where a table may take a kilobyte or ten megabytes, so that `bounded_cache` counts bytes.
"""

from __future__ import annotations

import ctypes
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import update_wrapper
from pathlib import Path
from threading import Lock
from typing import Generic, ParamSpec, Protocol, TypeVar


class Sized(Protocol):
    """What a `BoundedCache` keeps."""

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps alive, at most."""
        ...


P = ParamSpec("P")
R = TypeVar("R", bound=Sized)


class BoundedCache(Generic[P, R]):
    """A function whose results are kept as long as they take no more than so many bytes together.

    The result that was asked for longest ago goes first. The newest is kept whatever it takes.

    Parameters
    ----------
    function
        Of positional arguments that can be hashed; its result says its size as ``nbytes``.
    most_bytes
        Bytes of all results.
    """

    def __init__(self, function: Callable[P, R], most_bytes: int) -> None:
        update_wrapper(self, function)
        self._function, self.most_bytes = function, most_bytes
        self._kept: OrderedDict[tuple[Hashable, ...], R] = OrderedDict()
        self._lock = Lock()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result, from before if it is kept."""
        key = (*args, *sorted(kwargs.items()))
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        result = self._function(*args, **kwargs)
        with self._lock:
            result = self._kept.setdefault(key, result)
            while len(self._kept) > 1 and self.held_bytes > self.most_bytes:
                self._kept.popitem(last=False)
        return result

    @property
    def held_bytes(self) -> int:
        """Bytes of the results that are kept."""
        return sum(r.nbytes for r in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._kept.clear()


def bounded_cache(most_bytes: int) -> Callable[[Callable[P, R]], BoundedCache[P, R]]:
    """Decorator: `BoundedCache` of so many bytes, in place of `functools.lru_cache` of so many results."""
    return lambda function: BoundedCache(function, most_bytes)


def resident_bytes(pid: int | str = "self") -> int:
    """Resident memory of a process; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def give_back() -> None:
    """Give memory that is free inside this process back to the system: between fits no array is about to need it.

    The C library keeps what is freed in the midst of what is not (`provabgs.pipelines.supervisor.MEMORY` says why it
    should during a fit), and a process that fits galaxies of other shapes each time frays its heap.
    """
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library, which gives back by itself
        return


def keep_freed() -> None:
    """Have glibc keep what is freed for the next array, as it does where nobody tells it otherwise; else do nothing.

    Dask tells its workers to give every freed 64 kB back to the system: loops over megabytes then take 1.8 times the
    processor time, for page faults.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_TRIM_THRESHOLD, 64 << 20)
    mallopt(_MMAP_THRESHOLD, 32 << 20)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of ``mallopt``."""
