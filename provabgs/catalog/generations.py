"""Shards and summary change together: a replaced shard is kept until the summary that refers to it is replaced, too.

A run replaces shards one after another, and hours may pass, or the run may die, before the summary is written anew.
Each shard that the old summary may refer to is kept meanwhile under ``superseded/`` by its checksum. A summary names
its shards with their checksums, so that its readers find the shards that it was built from, whatever has come since.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

from provabgs.catalog.block import Block
from provabgs.catalog.layout import SUPERSEDED_DIRECTORY, superseded_name
from provabgs.catalog.shard import write_block
from provabgs.catalog.shard_file import open_shard
from provabgs.core.atomic import atomic_path
from provabgs.core.errors import DataFileError
from provabgs.core.hdf5 import DAMAGE, attribute


def replace_shard(root: Path, name: str, block: Block, *, attrs: Mapping[str, Any] | None = None) -> None:
    """Write a shard; one that was there is kept for the readers of the present summary.

    Parameters
    ----------
    root
        Directory of the catalog.
    name
        Shard relative to it.
    block
        Its new rows.
    attrs
        Added to the file's attributes.
    """
    _keep(root, name)
    write_block(root / name, block, attrs=attrs)


def remove_shard(root: Path, name: str) -> None:
    """Take a shard out of the catalog; readers of the present summary keep it.

    Parameters
    ----------
    root
        The catalog's directory.
    name
        Of the shard, relative to it.
    """
    _keep(root, name)
    (root / name).unlink(missing_ok=True)


def forget_superseded(root: Path) -> None:
    """Remove shards that no summary refers to any more; call when a summary has been written."""
    shutil.rmtree(root / SUPERSEDED_DIRECTORY, ignore_errors=True)


def open_generation(root: Path, name: str, sha256: str) -> h5py.File:
    """Open the shard that a summary was built from.

    Parameters
    ----------
    root
        Directory of the catalog.
    name
        Shard relative to it.
    sha256
        The shard's checksum, as the summary has it.

    Returns
    -------
    h5py.File
        Open for reading.

    Raises
    ------
    DataFileError
        When the name leaves the directory, or neither the shard nor a superseded one is what the summary was built
        from.
    """
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
        raise DataFileError(f"{root}: the summary names shard {name!r}, outside of the catalog; build it again")
    found = "nothing"
    for path in (root / name, root / superseded_name(name, sha256)):
        if path.exists():
            f = open_shard(path)
            found = _sha256(f)
            if found == sha256:
                return f
            f.close()
    raise DataFileError(
        f"{root / name}: not the shard that the summary was built from (SHA-256 {found[:12]}, expected {sha256[:12]}); "
        "open the catalog again if a run has just finished it, or else repeat `provabgs run` with the same "
        "configuration"
    )


def _keep(root: Path, name: str) -> None:
    """Keep a shard under its checksum, as a link where the file system has them; a damaged one serves no reader."""
    try:
        with open_shard(root / name) as f:
            sha256 = _sha256(f)
    except DataFileError:
        return
    kept = root / superseded_name(name, sha256)
    if kept.exists():
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(root / name, kept)
    except OSError:
        with atomic_path(kept) as temporary:
            shutil.copyfile(root / name, temporary)


def _sha256(f: h5py.File) -> str:
    try:
        return str(attribute(f, "sha256"))
    except DAMAGE:
        return "unreadable"
