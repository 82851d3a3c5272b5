"""Where a DESI production lies: environment, read-only mounts, and its table of tiles, as desispec has them.

DESI's own tools (desispec's ``specprod_root`` and ``get_readonly_filepath``) look for production NAME in
``$DESI_SPECTRO_REDUX/NAME``, else in ``$DESI_ROOT/spectro/redux/NAME``, and read below ``$DESI_ROOT_READONLY``, where
that exists, what they would write below ``$DESI_ROOT``. Nothing here writes.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from provabgs.core.errors import DataFileError, InputError
from provabgs.core.files import read_text


class Tile(NamedTuple):
    """A tile in a production's table of tiles: survey, program (FAPRGRM), last night of its exposures."""

    survey: str
    program: str
    last_night: int


def production_root(
    specprod: str | None = None, redux: str | Path | None = None, env: Mapping[str, str] | None = None
) -> Path:
    """Folder of a production, to read from.

    Parameters
    ----------
    specprod
        Name such as ``"iron"``; ``$SPECPROD`` if None.
    redux
        Folder that holds productions; if None, ``$DESI_SPECTRO_REDUX``, else ``$DESI_ROOT/spectro/redux``.
    env
        In place of the environment.

    Raises
    ------
    InputError
        When name or folder is not given anywhere, or there is no such folder.
    """
    env = os.environ if env is None else env
    name = specprod or env.get("SPECPROD", "")
    if not name:
        raise InputError("specprod is not given and $SPECPROD is not set; name a production such as iron")
    if redux is None:
        desi_root = env.get("DESI_ROOT") or env.get("DESI_ROOT_READONLY")
        redux = env.get("DESI_SPECTRO_REDUX") or (desi_root and Path(desi_root) / "spectro" / "redux")
    if not redux:
        raise InputError("give redux, the folder that holds productions, or set $DESI_SPECTRO_REDUX or $DESI_ROOT")
    root = readonly(Path(redux) / name, env)
    if not root.is_dir():
        raise InputError(f"{root}: no such production; check specprod and redux ($DESI_SPECTRO_REDUX, $DESI_ROOT)")
    return root


def readonly(path: Path, env: Mapping[str, str] | None = None) -> Path:
    """`path` below ``$DESI_ROOT_READONLY`` in place of ``$DESI_ROOT``, where both are set and the first exists.

    Parameters
    ----------
    path
        Any path; one outside of ``$DESI_ROOT`` stays as it is.
    env
        In place of the environment.
    """
    env = os.environ if env is None else env
    written, read = env.get("DESI_ROOT"), env.get("DESI_ROOT_READONLY")
    if not written or not read or not Path(read).is_dir() or not path.is_relative_to(written):
        return path
    return Path(read) / path.relative_to(written)


def tiles_of(root: Path) -> dict[int, Tile]:
    """A production's ``tiles-SPECPROD.csv`` by TILEID; empty without one.

    Raises
    ------
    DataFileError
        When the file lacks a column, or holds what is no tile.
    """
    found = sorted(root.glob("tiles-*.csv"))
    return _read_tiles(found[0], found[0].stat().st_mtime_ns) if found else {}


@lru_cache(maxsize=8)
def _read_tiles(path: Path, _changed: int) -> dict[int, Tile]:
    tiles = {}
    rows = csv.DictReader(read_text(path).splitlines())
    names = {(n or "").strip().upper(): n for n in rows.fieldnames or ()}
    program = names.get("FAPRGRM", names.get("PROGRAM"))
    if missing := [n for n in ("TILEID", "SURVEY") if n not in names] or ([] if program else ["FAPRGRM"]):
        raise DataFileError(f"{path}: has no column {', '.join(missing)}; give a production's table of tiles")
    for number, row in enumerate(rows, start=2):
        try:
            night = int(row[names["LASTNIGHT"]]) if "LASTNIGHT" in names else 0
            tiles[int(row[names["TILEID"]])] = Tile(
                row[names["SURVEY"]].strip().lower(), row[program].strip().lower(), night
            )
        except (TypeError, ValueError, AttributeError):
            raise DataFileError(f"{path}, line {number}: TILEID or LASTNIGHT is no integer; fetch it again") from None
    return tiles
