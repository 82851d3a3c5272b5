"""Files that are either complete or absent: temporary name in the same directory, fsync, rename."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"
"""Names with this prefix are unfinished files of a process that died; nobody reads them, `sweep` removes them."""


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it replaces `path` in one step, on failure it is removed.

    A reader, or a second run after a power cut, sees the old file or the new one, never a part of it: the data are
    flushed to the disk before the rename and the directory entry after it.

    Parameters
    ----------
    path
        Final name. Its directory is created when missing.

    Yields
    ------
    Path
        Where to write, in the same directory so that the rename stays within one file system.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        fsync(temporary)
        temporary.replace(path)
        fsync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def fsync(path: Path) -> None:
    """Flush a file or a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(directory: str | Path) -> int:
    """Remove the unfinished files that killed processes left anywhere under `directory`; returns how many."""
    leftovers = [p for p in Path(directory).rglob(f"{TEMPORARY_PREFIX}*") if p.is_file()]
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return len(leftovers)


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Give a temporary directory to fill; on success it takes the name `path` in one step, on failure it is removed.

    Parameters
    ----------
    path
        Final name, which must not exist. Its parent is created when missing.

    Yields
    ------
    Path
        An empty directory beside it.

    Raises
    ------
    FileExistsError
        When there is something under the final name: nothing is overwritten.
    """
    path = Path(path)
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path} exists")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    temporary.mkdir()
    try:
        yield temporary
        for inside in temporary.rglob("*"):
            fsync(inside)
        fsync(temporary)
        if path.exists():
            raise FileExistsError(f"{path} exists")
        temporary.rename(path)
        fsync(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
