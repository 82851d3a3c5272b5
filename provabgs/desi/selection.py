"""Which coadds of a production are taken: by survey, program, pixel, tile and night, as DESI's own tools choose them.

A selection is a table of a run's configuration (``[inputs.desi]``) or the options of ``provabgs desi list``. Whatever
is asked for by number is there, or the selection is refused with what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from provabgs.core.config import BESIDE_FILE
from provabgs.core.errors import InputError
from provabgs.desi.paths import CoaddPaths, healpix_paths, tile_paths, uniqpix_overlaps, uniqpix_paths
from provabgs.desi.production import Tile, production_root, tiles_of
from provabgs.desi.target_bits import check_targets

Group = Literal["auto", "healpix", "uniqpix", "cumulative", "pernight"]
FOLDERS = {"healpix": "healpix", "uniqpix": "spectra"}
"""Folder below a production's root, by the kind of pixel that groups its coadds."""
_MOST_NAMED = 5
_TILE_NAME = re.compile(r"coadd-(\d)-(\d+)-(?:thru)?(\d{8})\.fits(?:\.gz|\.fz)?")
_PIXEL_NAME = re.compile(r"coadd-([a-z0-9]+)-([a-z0-9]+)-(\d+)\.fits(?:\.gz|\.fz)?")


def _several(value: Any) -> Any:
    """One name or number stands for a list of it."""
    return (value,) if isinstance(value, (str, int)) and not isinstance(value, bool) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
Numbers = Annotated[tuple[Annotated[int, Field(strict=True, ge=0)], ...], BeforeValidator(_several)]


class FoundCoadd(NamedTuple):
    """One coadd of a production.

    Attributes
    ----------
    coadd, redrock
        The files, as far as the layout says; redrock's need not exist.
    survey, program
        As the folder or the table of tiles says, ``""`` where neither does.
    group, number
        ``"healpix"``, ``"uniqpix"``, ``"cumulative"`` or ``"pernight"``, and the pixel's or tile's number.
    """

    coadd: Path
    redrock: Path
    survey: str
    program: str
    group: str
    number: int


class DesiSelection(BaseModel):
    """Coadds of a DESI production, in place of (or beside) paths."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    specprod: str | None = Field(None, description="production, such as iron (DR1) or loa (DR2); $SPECPROD if left out")
    redux: Annotated[Path | None, BESIDE_FILE] = Field(
        None, description="folder that holds productions; $DESI_SPECTRO_REDUX or $DESI_ROOT/spectro/redux if left out"
    )
    survey: Names = Field((), description="surveys: main, sv1, sv3, special ...")
    program: Names = Field((), description="programs: bright, dark, backup, other")
    group: Group = Field(
        "auto",
        description="how spectra are grouped; 'auto': as the numbers given say, else pixels as the production has",
    )
    healpix: Numbers = Field((), description="nested pixels of nside 64; all if left out")
    uniqpix: Numbers = Field((), description="pixels as healpix + 4 nside^2, of productions that group so")
    tile: Numbers = Field((), description="TILEIDs")
    night: Literal["last"] | int | tuple[int, ...] = Field(
        "last", description="'last', or nights YYYYMMDD: the last of a cumulative coadd, the night of one per night"
    )
    petal: Numbers = Field((), description="petals 0 to 9 of tiles; those that are there if left out")
    targets: Names = Field(
        (), description="rows that are any of these targets: BGS_BRIGHT, BGS_FAINT, LRG ...; all if left out"
    )

    @property
    def is_asked_for(self) -> bool:
        """Whether any coadd is chosen: `targets` choose rows of those that paths name, too."""
        fields = DesiSelection.model_fields.items()
        return any(getattr(self, name) != field.default for name, field in fields if name != "targets")

    @model_validator(mode="after")
    def _consistent(self) -> DesiSelection:
        given = [name for name in ("healpix", "uniqpix", "tile") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are different groupings of the same spectra; give one of them")
        kinds = {"healpix": ("healpix",), "uniqpix": ("uniqpix",), "tile": ("cumulative", "pernight")}
        if given and self.group not in ("auto", *kinds[given[0]]):
            raise ValueError(f"group = {self.group!r} does not go with {given[0]}")
        on_tiles = bool(self.tile) or self.group in ("cumulative", "pernight")
        if not on_tiles and (self.petal or self.night != "last"):
            raise ValueError("petal and night choose among coadds of tiles; give tile, or group = 'cumulative'")
        if self.is_asked_for and not on_tiles and not (self.survey and self.program):
            raise ValueError("give survey and program, or tiles: a target may have a coadd in each of them")
        if any(p > 9 for p in self.petal):
            raise ValueError("petals are 0 to 9")
        check_targets(self.targets)
        return self


def find_coadds(selection: DesiSelection) -> list[FoundCoadd]:
    """The coadds that a selection takes, in the order of survey, program and number.

    Parameters
    ----------
    selection
        At least a survey and a program, or tiles.

    Raises
    ------
    InputError
        When the production, or anything that is asked for by number, is not there, and when nothing matches.
    """
    try:
        root = production_root(selection.specprod, selection.redux)
        on_tiles = bool(selection.tile) or selection.group in ("cumulative", "pernight")
        found = _of_tiles(root, selection) if on_tiles else _of_pixels(root, selection)
    except OSError as error:
        raise InputError(f"[inputs.desi] {error.filename}: {error.strerror}; check permissions and mount") from None
    if not found:
        raise InputError(f"{root}: no coadd of the selection ({_said(selection)}); check survey, program and group")
    return found


def _said(selection: DesiSelection) -> str:
    """A selection in one line."""
    given = selection.model_dump(exclude_defaults=True, exclude={"specprod", "redux"})
    return ", ".join(f"{k} {v if isinstance(v, str) else ' '.join(map(str, v))}" for k, v in given.items()) or "all"


def _of_pixels(root: Path, selection: DesiSelection) -> list[FoundCoadd]:
    """Coadds of pixels."""
    kind = _pixel_kind(root, selection)
    found: list[FoundCoadd] = []
    for survey in selection.survey:
        for program in selection.program:
            folder = root / FOLDERS[kind] / survey / program
            if not folder.is_dir():
                raise InputError(f"{folder}: no such folder; {root.name} has {_present(root / FOLDERS[kind])}")
            wanted = selection.healpix or selection.uniqpix
            numbers = wanted or sorted(_pixels_below(folder, survey, program))
            made = [_pixel(root, kind, survey, program, number) for number in numbers]
            if wanted:
                _require(made, folder)
            found += made
    return found


def _pixel_kind(root: Path, selection: DesiSelection) -> str:
    """Kind of pixel that a selection asks for; refused where the production has the other."""
    kind = "healpix" if selection.healpix else "uniqpix" if selection.uniqpix else selection.group
    has = [k for k, folder in FOLDERS.items() if (root / folder).is_dir()]
    if kind == "auto":
        if not has:
            raise InputError(f"{root}: has neither healpix/ nor spectra/; give tile, or another production")
        return has[0]
    if kind in has:
        return kind
    if kind == "healpix" and "uniqpix" in has:
        covering = _covering(root, selection)
        raise InputError(
            f"{root.name} groups spectra by uniqpix, pixels of several sizes, not by healpix; give "
            f"{f'uniqpix = {covering}, which cover them (and more)' if selection.healpix else 'group = uniqpix'}"
        )
    raise InputError(f"{root}: has no folder {FOLDERS[kind]}/, where coadds by {kind} are; give healpix or tile")


def _covering(root: Path, selection: DesiSelection) -> list[int]:
    """UNIQPIX numbers of a production that overlap the healpix asked for."""
    numbers: set[int] = set()
    for survey in selection.survey:
        for program in selection.program:
            numbers.update(_pixels_below(root / "spectra" / survey / program, survey, program))
    return sorted(u for u in numbers if u >= 4 and any(uniqpix_overlaps(u, h) for h in selection.healpix))


def _pixel(root: Path, kind: str, survey: str, program: str, number: int) -> FoundCoadd:
    paths = (healpix_paths if kind == "healpix" else uniqpix_paths)(root, survey, program, number)
    return FoundCoadd(*paths, survey, program, kind, number)


def _pixels_below(folder: Path, survey: str, program: str) -> Iterator[int]:
    """Pixels of which a folder ``SURVEY/PROGRAM`` has a coadd."""
    for path in folder.glob("*/*/coadd-*.fits*"):
        name = _PIXEL_NAME.fullmatch(path.name)
        if name and (name[1], name[2], name[3]) == (survey, program, path.parent.name):
            yield int(name[3])


def _require(found: Sequence[FoundCoadd], folder: Path) -> None:
    """Refuse coadds that are asked for and not there."""
    lost = [f.number for f in found if not f.coadd.is_file()]
    if lost:
        few = ", ".join(map(str, lost[:_MOST_NAMED])) + (", ..." if len(lost) > _MOST_NAMED else "")
        raise InputError(
            f"{folder}: has no coadd of {found[0].group} {few} ({len(lost)} of {len(found)}); leave it out"
        )


def _present(folder: Path) -> str:
    """Surveys and programs below a folder, for messages."""
    pairs = sorted(f"{p.parent.name}/{p.name}" for p in folder.glob("*/*") if p.is_dir())
    return ", ".join(pairs) or "no survey"


def _of_tiles(root: Path, selection: DesiSelection) -> list[FoundCoadd]:
    """Coadds of petals of tiles."""
    kind = "pernight" if selection.group == "pernight" else "cumulative"
    folder, known = root / "tiles" / kind, tiles_of(root)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {root.name} has no coadds of tiles of this kind")
    tiles: Iterable[int] = selection.tile or sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
    if (selection.survey or selection.program) and not known:
        raise InputError(f"{root}: has no tiles-*.csv, which says the survey and program of tiles; give tile alone")
    found: list[FoundCoadd] = []
    for tile in tiles:
        about = known.get(tile, Tile("", "", 0))
        if (selection.survey and about.survey not in selection.survey) or (
            selection.program and about.program not in selection.program
        ):
            if selection.tile:
                raise InputError(
                    f"tile {tile} is of {about.survey or 'unknown'}/{about.program or 'unknown'}, not of the survey "
                    "and program that are asked for; leave it out"
                )
            continue
        for night in _nights(folder / str(tile), selection.night):
            found += _petals(root, kind, tile, night, about, selection.petal)
    return found


def _nights(folder: Path, wanted: str | int | tuple[int, ...]) -> list[int]:
    """Nights of a tile that are taken."""
    have = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []
    if not have:
        raise InputError(f"{folder}: no such tile; check its number")
    if wanted == "last":
        return have[-1:]
    nights = [wanted] if isinstance(wanted, int) else [int(n) for n in wanted]
    if lost := [n for n in nights if n not in have]:
        raise InputError(
            f"{folder}: has no night {lost[0]} (it has {', '.join(map(str, have))}); or give night = 'last'"
        )
    return nights


def _petals(root: Path, kind: str, tile: int, night: int, about: Tile, wanted: Sequence[int]) -> list[FoundCoadd]:
    """Coadds of one night of a tile; petals that were not observed are no error unless they are asked for."""
    made = [_tile(tile_paths(root, tile, petal, night, kind), about, kind, tile) for petal in wanted or range(10)]
    there = [f for f in made if f.coadd.is_file()]
    if wanted and len(there) < len(made):
        lost = next(f for f in made if f not in there)
        raise InputError(f"{lost.coadd}: no such file; leave its petal out")
    return there


def _tile(paths: CoaddPaths, about: Tile, kind: str, tile: int) -> FoundCoadd:
    return FoundCoadd(*paths, about.survey, about.program, kind, tile)
