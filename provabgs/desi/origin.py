"""Survey and program that a coadd is of: one TARGETID may have a coadd in each of them, and each is a row of its own.

Said by the primary header (SURVEY, PROGRAM) of coadds of pixels. FIBERMAP's PROGRAM may be a name within a program
(tertiary38 of dark) and is not asked. Coadds of tiles have neither card; the production's table of tiles knows, and
the names of targeting columns (SV3_DESI_TARGET) tell surveys before main apart.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from provabgs.core.errors import DataFileError
from provabgs.desi.production import tiles_of
from provabgs.desi.structure import Hdu

_NAME = re.compile(r"(?:coadd|spectra)-(cmx|main|special|sv[123])-([a-z][a-z0-9]*)-\d+\.fits(?:\.gz|\.fz)?")
_SV_COLUMN = re.compile(r"(SV[123])_DESI_TARGET")


class Origin(NamedTuple):
    """Where spectra come from; ``""`` and -1 where nothing says so.

    Attributes
    ----------
    survey, program
        Lower case, such as ``"main"`` and ``"bright"``.
    group, number
        SPGRP (``"healpix"``, ``"uniqpix"``, ``"cumulative"`` ...) and SPGRPVAL.
    tile
        TILEID of coadds of tiles.
    note
        What contradicts itself, for people.
    """

    survey: str = ""
    program: str = ""
    group: str = ""
    number: int = -1
    tile: int = -1
    note: str = ""

    @property
    def label(self) -> str:
        """Survey and program as ``main/bright``, ``""`` where unknown."""
        return f"{self.survey}/{self.program}" if self.survey or self.program else ""

    @property
    def columns(self) -> dict[str, Any]:
        """What goes into a catalog's row."""
        known = {"SURVEY": self.survey, "PROGRAM": self.program, "SPGRP": self.group}
        numbers = {"SPGRPVAL": self.number, "TILEID": self.tile}
        return {k: v for k, v in known.items() if v} | {k: v for k, v in numbers.items() if v >= 0}


def origin_of(path: Path, primary: Hdu, columns: Collection[str]) -> Origin:
    """Survey and program of a coadd or spectra file.

    Parameters
    ----------
    path
        The file; its name and place count where the header says nothing.
    primary
        Its first HDU.
    columns
        Upper-case names of FIBERMAP's columns.
    """
    survey, program = primary.text("SURVEY").lower(), primary.text("PROGRAM").lower()
    named = _NAME.fullmatch(path.name)
    note = ""
    if named and survey and (survey, program) != (named[1], named[2]):
        note = f"its header says {survey}/{program} and its name {named[1]}/{named[2]}: taken as the header says"
    if named and not survey:
        survey, program = named[1], named[2]
    tile = _card(primary, "TILEID")
    if tile >= 0 and not survey:
        survey, program = _of_tile(path, tile)
    if not survey:
        found = [match[1].lower() for c in columns if (match := _SV_COLUMN.fullmatch(c))]
        survey = found[0] if len(found) == 1 else ""
    uniqpix = _card(primary, "UNIQPIX")
    number = uniqpix if uniqpix >= 0 else _card(primary, "SPGRPVAL")
    return Origin(survey, program, primary.text("SPGRP").lower(), number, tile, note)


def _card(primary: Hdu, key: str) -> int:
    """A card's integer, -1 without one: none of these is needed to read a spectrum."""
    written = primary.cards.get(key, "")
    return int(written) if re.fullmatch(r"\d{1,18}", written) else -1


def _of_tile(path: Path, tile: int) -> tuple[str, str]:
    """Survey and program of a tile, where the file lies in a production that has a table of tiles."""
    place = path.absolute().parents
    if len(place) < 5 or place[3].name != "tiles":
        return "", ""
    try:
        about = tiles_of(place[4]).get(tile)
    except (DataFileError, OSError):
        return "", ""
    return (about.survey, about.program) if about is not None else ("", "")
