"""HDF5 files of ours, read whole and with suspicion: whatever a file holds, its numbers or one error come out.

Only what lies in the file itself is read: no links to other files, no numbers kept elsewhere, nothing executed. Sizes
are checked before anything is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from provabgs.core.errors import ConfigError, DataFileError
from provabgs.core.messages import first_line

MAX_BYTES = 4 << 30
"""Largest sum of arrays in a file; the largest library known has 0.1 GB."""
MAX_OBJECTS = 10_000
LIBVER = ("v110", "v110")
DAMAGE = (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError)
"""What h5py raises on damaged structures, and what is raised where contents do not fit together."""


def open_file(path: str | Path, mode: str = "r", **options: Any) -> h5py.File:
    """Open an HDF5 file without HDF5's locks, which some file systems (Lustre, NFS, /dvs_ro) do not have.

    None is needed: files are written under names of their own, renamed when they are complete, and never changed.

    Parameters
    ----------
    path
        The file.
    mode
        As of `h5py.File`.
    **options
        Of `h5py.File`.
    """
    return h5py.File(path, mode, locking=False, **options)


@contextmanager
def create(path: str | Path, mode: str = "w") -> Iterator[h5py.File]:
    """A file to write, of whose structure HDF5 notices damage.

    HDF5's older form, and the heap in which it keeps texts of any length, have no checksums: flipped bits there can
    hang whoever reads them. The newer form has checksums, and texts of fixed length need no heap.

    Parameters
    ----------
    path
        The file.
    mode
        ``"w"`` to replace it, ``"a"`` to add to it.

    Yields
    ------
    h5py.File
        Open; HDF5 1.10 and later read it.
    """
    with open_file(path, mode, libver=LIBVER) as f:
        yield f
        fix_texts(f)


def fix_texts(f: h5py.File) -> None:
    """Give the texts among all attributes of a file a fixed length."""
    objects: list[Any] = [f]
    f.visititems(lambda _, item: objects.append(item))
    for item in objects:
        for name, value in list(item.attrs.items()):
            if isinstance(value, str):
                data = value.encode()
                item.attrs.create(name, np.array(data, dtype=fixed([data])))


def fixed(texts: Iterable[bytes]) -> np.dtype[Any]:
    """The type of texts as long as the longest of some."""
    return h5py.string_dtype("utf-8", max((len(text) for text in texts), default=0) or 1)


def attribute(owner: Any, name: str) -> Any:
    """An attribute of an HDF5 object, a text as str whether its length is fixed or not.

    Parameters
    ----------
    owner
        File, group or dataset.
    name
        Of the attribute.

    Returns
    -------
    Any
        Text, number or array.

    Raises
    ------
    KeyError
        When there is none.
    """
    value = owner.attrs[name]
    return value.decode() if isinstance(value, bytes) else value


def format_of(f: h5py.File) -> str | None:
    """What an open file says that it is: its attribute ``format``; None where that is absent or no text."""
    try:
        found = attribute(f, "format")
    except DAMAGE:
        return None
    return found[:60] if isinstance(found, str) else None


class Contents(NamedTuple):
    """All of a file.

    Attributes
    ----------
    attrs
        Attributes by the path of their group, ``""`` for the file's own.
    arrays
        Arrays by path.
    """

    attrs: dict[str, dict[str, Any]]
    arrays: dict[str, NDArray[Any]]

    def number(self, name: str, group: str = "") -> float:
        """A finite number among the attributes; raises ValueError for anything else."""
        value = np.asarray(self.attrs[group][name])
        if value.shape != () or value.dtype.kind not in "fiu" or not np.isfinite(value):
            raise ValueError(f"{name} is {str(value)[:40]!r}, not a finite number")
        return float(value)

    def whole(self, name: str, group: str = "") -> int:
        """An integer among the attributes; raises ValueError for anything else."""
        value = self.number(name, group)
        if value != int(value):
            raise ValueError(f"{name} is {value:g}, not an integer")
        return int(value)

    def text(self, name: str, group: str = "") -> str:
        """A text among the attributes; raises ValueError for anything else."""
        value = self.attrs[group][name]
        if not isinstance(value, str):
            raise ValueError(f"{name} is no text")
        return value

    def words(self, group: str) -> dict[str, str]:
        """All attributes of a group as texts."""
        return {k: str(v) for k, v in self.attrs[group].items()}

    def numbers(self, name: str) -> NDArray[Any]:
        """An array of finite numbers, as it is stored; raises ValueError for anything else."""
        array = self.arrays[name]
        if array.dtype.kind not in "fiu" or array.ndim == 0:
            raise ValueError(f"{name} is no array of numbers")
        if not np.all(np.isfinite(array)):
            raise ValueError(f"{name} holds NaN or infinite numbers")
        return array

    def texts(self, name: str) -> tuple[str, ...]:
        """A one-dimensional array of texts; raises ValueError for anything else."""
        array = self.arrays[name]
        if array.ndim != 1 or array.dtype.kind not in "SO":
            raise ValueError(f"{name} is no list of texts")
        return tuple(text.decode() for text in array.tolist())


@contextmanager
def reading(
    path: Path, form: str, what: str, cure: str, error: type[DataFileError] = DataFileError
) -> Iterator[Contents]:
    """All of a file, for a block that makes an object of it; what goes wrong inside is an error about the file.

    Parameters
    ----------
    path
        The file.
    form
        Name of its format, the attribute ``format``.
    what
        What it should be, with article, for messages.
    cure
        How to get a good one.
    error
        Kind of error.

    Yields
    ------
    Contents
        Everything in the file.

    Raises
    ------
    DataFileError
        When the file is missing, no plain file, not HDF5, damaged, too large, of another format, or holds links; and
        for any error of the block that comes from its contents.
    """
    if not path.is_file():
        raise error(f"{path}: {'no plain file' if path.exists() else 'no such file'}; {cure}")
    try:
        yield _all(path, form, what)
    except (error, ConfigError):
        raise
    except _Foreign as err:
        raise error(f"{path}: {err}; {cure}") from None
    except DAMAGE as err:
        key = str(err.args[0]) if isinstance(err, KeyError) and err.args else ""
        reason = f"it lacks {key!r}" if key and " " not in key else key or first_line(err)
        raise error(f"{path}: cannot be read as {what} ({reason}); {cure}") from err


class _Foreign(ValueError):
    """A file of another format."""


def _all(path: Path, form: str, what: str) -> Contents:
    with open_file(path) as f:
        if (found := format_of(f)) != form:
            raise _Foreign(f"not {what} of format {form!r} (found {found!r})")
        return _everything(f)


def under(f: h5py.File, name: str) -> Contents | None:
    """All that lies below a group of an open file, read with the same suspicion as a file by `reading`.

    Parameters
    ----------
    f
        Open file.
    name
        Path of the group.

    Returns
    -------
    Contents
        By paths that start from the group; None when there is no such group.

    Raises
    ------
    ValueError
        For links, numbers in other files, and more than is plausible; what h5py raises is in `DAMAGE`.
    """
    here: Any = f
    for part in name.split("/"):
        link = here.get(part, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name} is a link, which the file must not hold")
        here = here[part]
    if not isinstance(here, h5py.Group):
        raise ValueError(f"{name} is no group")
    return _everything(here)


def _everything(top: h5py.Group) -> Contents:
    contents = Contents({}, {})
    waiting: list[tuple[str, Any]] = [("", top)]
    n_bytes = 0
    seen: set[Any] = set()
    while waiting:
        name, item = waiting.pop()
        address = h5py.h5o.get_info(item.id).addr
        if address in seen or len(seen) > MAX_OBJECTS:
            raise ValueError(f"{name or 'the file'} is linked to twice, or there are too many objects")
        seen.add(address)
        if isinstance(item, h5py.Dataset):
            n_bytes += _size(name, item)
            if n_bytes > MAX_BYTES:
                raise ValueError(f"its arrays have more than {MAX_BYTES >> 30} GiB")
            contents.arrays[name] = np.asarray(item[()])
            continue
        contents.attrs[name] = {str(key): attribute(item, key) for key in item.attrs}
        for key in item:
            if not isinstance(item.get(key, getlink=True), h5py.HardLink):
                raise ValueError(f"{key} is a link, which the file must not hold")
            waiting.append((f"{name}/{key}" if name else key, item[key]))
    return contents


def _size(name: str, dataset: h5py.Dataset) -> int:
    """Bytes of an array in memory, which must lie in this file."""
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"the numbers of {name} lie in another file")
    n = float(np.prod([float(n) for n in dataset.shape or ()]))
    words = h5py.check_string_dtype(dataset.dtype) is not None and n < MAX_OBJECTS
    if dataset.shape is None or not (words or dataset.dtype.kind in "fiu"):
        raise ValueError(f"{name} holds neither numbers nor a few texts")
    return int(n) * dataset.dtype.itemsize
