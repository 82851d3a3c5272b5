"""What is joined to coadds: redshifts, visual inspection, weights and FastSpecFit's results.

Each table is joined by exact TARGETID, and by SURVEY and PROGRAM where it has them; see `provabgs.desi.tables`.

Sources of the layouts: desidatamodel (``zcatalog/v1``: zpix, ztile and zall with Z, ZERR ..., in ztile a row for each
tile; ``zcatalog/v2``: Z_BEST, ZERR_BEST ...; LSS catalogs ``*_full.dat.fits`` and ``*_clustering.dat.fits``), DESI's
visual inspection (``EDR_VI_*_v1.csv``: VI_Z, VI_QUALITY, VI_SPECTYPE; merged tables before: best_z, best_quality,
best_spectype; a quality of 2.5 or more is a sure redshift, Lan et al. 2023, ApJ 943, 68) and FastSpecFit's data model
(``fastspec-SURVEY-PROGRAM-*.fits``: VDISP in SPECPHOT, before version 3 in FASTSPEC; lines in FASTSPEC).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from provabgs.core.config import BESIDE_FILE
from provabgs.core.errors import DataFileError, UnusableTargetError
from provabgs.core.status import Status
from provabgs.desi.columns import Kind
from provabgs.desi.origin import Origin
from provabgs.desi.redrock import Redshift
from provabgs.desi.tables import Joined, JoinTable

_REDSHIFT: dict[str, Kind] = {
    **dict.fromkeys(("Z", "ZERR", "DELTACHI2"), "number"), "ZWARN": "whole", "SPECTYPE": "text",
}  # fmt: skip
_BEST = "_BEST"
"""Ending of these columns from Data Release 2 on, where Redrock's own have moved to another file."""
_VI_NAMES = (("VI_Z", "VI_QUALITY", "VI_SPECTYPE"), ("BEST_Z", "BEST_QUALITY", "BEST_SPECTYPE"))
_SOURCE = re.compile(r"(1/)?([A-Za-z][A-Za-z0-9_]*)")
_COLUMN = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
WEIGHTS = {"W_ZFAIL": ("WEIGHT_ZFAIL",), "W_FIBASSIGN": ("1/FRACZ_TILELOCID", "WEIGHT_COMP")}
"""Catalog columns of weights, and what of an LSS catalog (full, clustering) they are where nothing else is said."""
FASTSPEC_LINES = ("OII_3726", "OII_3729", "HBETA", "OIII_5007", "HALPHA", "NII_6584", "SII_6716", "SII_6731")
_FLUX_UNIT = "1e-17 erg/(s cm2)"
VDISP_RANGE = (30.0, 450.0)
"""km/s. FastSpecFit's dispersions beyond are not taken for a fit: the edges of `provabgs.observe.nuisance`."""


class JoinOptions(BaseModel):
    """Tables joined to DESI's coadds by TARGETID, and SURVEY and PROGRAM where they have them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    zcatalog: Annotated[Path | None, BESIDE_FILE] = Field(
        None, description="redshifts in place of redrock's: zpix-SURVEY-PROGRAM.fits, zall-pix-SPECPROD.fits, ..."
    )
    vi: Annotated[Path | None, BESIDE_FILE] = Field(
        None, description="redshifts of visual inspection, in place of any other where it has the target"
    )
    vi_quality: float = Field(2.5, ge=0, le=4, description="least VI_QUALITY of a redshift that is fitted")
    weights: Annotated[Path | None, BESIDE_FILE] = Field(None, description="weights, such as an LSS catalog's")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="catalog column of each number of the table of weights: NAME or 1/NAME; as an LSS catalog has "
        "W_ZFAIL and W_FIBASSIGN if empty",
    )
    fastspecfit: Annotated[Path | None, BESIDE_FILE] = Field(
        None, description="FastSpecFit's dispersions and line fluxes: fastspec-SURVEY-PROGRAM.fits"
    )

    @field_validator("columns")
    @classmethod
    def _are_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        for name, source in columns.items():
            if not _COLUMN.fullmatch(name):
                raise ValueError(f"{name!r} is no catalog column: upper-case letters, digits, _")
            if not _SOURCE.fullmatch(source):
                raise ValueError(f"{name} = {source!r}: give a column of the table, or 1/COLUMN")
        return columns


class Joins(NamedTuple):
    """The tables, opened; None for those that are not joined."""

    options: JoinOptions
    zcatalog: JoinTable | None
    vi: JoinTable | None
    weights: JoinTable | None
    fastspecfit: JoinTable | None
    verify: bool

    def redshift(self, targetid: int, origin: Origin) -> Redshift | None:
        """The redshift that a table gives; None where none does and redrock is asked.

        Parameters
        ----------
        targetid, origin
            Of the spectrum.

        Raises
        ------
        UnusableTargetError
            When the redshift catalog has no row for the target, and for an unsure or impossible inspection.
        InputError
            For rows that contradict one another.
        """
        if self.vi is not None and (seen := self._inspected(self.vi, targetid)) is not None:
            return seen
        if self.zcatalog is None:
            return None
        end = redshift_ending(self.zcatalog)
        kinds: dict[str, Kind] = {f"{name}{end}": kind for name, kind in _REDSHIFT.items()}
        found = self._of(self.zcatalog, targetid, origin, kinds)
        if found.row is None:
            why = found.note or f"{self.zcatalog.path.name} has no row for it"
            raise UnusableTargetError(f"no redshift: {why}", Status.NO_REDSHIFT)
        row = {name.removesuffix(end): value for name, value in found.row.items()}
        own = self.zcatalog.path.name
        notes = [f"{own} has no {name}: taken as good" for name in ("ZWARN", "SPECTYPE") if name not in row]
        note = "; ".join([*notes, *([found.note] if found.note else [])])
        return Redshift(
            float(row["Z"]), float(row.get("ZERR", math.nan)), int(row.get("ZWARN", 0)),
            str(row.get("SPECTYPE", "")).upper(), float(row.get("DELTACHI2", math.nan)), source="zcatalog", note=note,
        )  # fmt: skip

    def _of(self, table: JoinTable, targetid: int, origin: Origin, kinds: Mapping[str, Kind]) -> Joined:
        """What a table says of the target of a spectrum; of rows of several tiles or pixels, that of the spectrum's."""
        apart = {"TILEID": origin.tile, "SPGRPVAL": origin.number}
        return table.join(targetid, origin.survey, origin.program, kinds, verify=self.verify, apart=apart)

    def _inspected(self, table: JoinTable, targetid: int) -> Redshift | None:
        """The redshift of visual inspection; it is of the target, whichever spectrum was looked at."""
        z, quality, kind = vi_names(table)
        kinds: dict[str, Kind] = {z: "number", quality: "number", kind: "text"}
        found = table.join(targetid, "", "", kinds, verify=self.verify)
        if found.row is None:
            return None
        grade = float(found.row[quality])
        if not grade >= self.options.vi_quality:
            raise UnusableTargetError(
                f"{table.path.name}: {quality} is {grade:g}, less than {self.options.vi_quality:g}",
                Status.REDSHIFT_WARNING,
            )
        spectype = str(found.row[kind]).strip().upper()
        return Redshift(float(found.row[z]), spectype=spectype, source="VI", note=found.note)

    def columns(self, targetid: int, origin: Origin) -> tuple[dict[str, Any], list[str]]:
        """Catalog columns that weights and FastSpecFit fill, and notes for people.

        Parameters
        ----------
        targetid, origin
            Of the spectrum.

        Raises
        ------
        InputError
            For rows that contradict one another.
        """
        filled: dict[str, Any] = {}
        described: dict[str, dict[str, str]] = {}
        notes: list[str] = []
        if self.weights is not None:
            self._weights(self.weights, targetid, origin, filled, described, notes)
        if self.fastspecfit is not None:
            self._fastspecfit(self.fastspecfit, targetid, origin, filled, described, notes)
        return (filled | {"SURVEY_COLUMNS": described} if filled else {}), notes

    def _weights(
        self, table: JoinTable, targetid: int, origin: Origin, filled: dict[str, Any],
        described: dict[str, dict[str, str]], notes: list[str],
    ) -> None:  # fmt: skip
        wanted = weight_columns(self.options, table)
        kinds: dict[str, Kind] = dict.fromkeys((column for column, _ in wanted.values()), "number")
        found = self._of(table, targetid, origin, kinds)
        if found.row is None:
            notes.append(found.note or f"{table.path.name} has no weights for it")
            return
        notes += [found.note] if found.note else []
        for name, (column, inverse) in wanted.items():
            value = float(found.row[column])
            if not (math.isfinite(value) and (value > 0 or not inverse)):
                notes.append(f"{column} of {table.path.name} is {value:g}: {name} is unknown")
                continue
            filled[name] = 1.0 / value if inverse else value
            text = f"{'1 / ' if inverse else ''}{column} of {table.path.name}"
            described[name] = {"dtype": "f8", "unit": "", "description": text}

    def _fastspecfit(
        self, table: JoinTable, targetid: int, origin: Origin, filled: dict[str, Any],
        described: dict[str, dict[str, str]], notes: list[str],
    ) -> None:  # fmt: skip
        numbers = ("VDISP", *(f"{line}_FLUX" for line in FASTSPEC_LINES))
        kinds: dict[str, Kind] = dict.fromkeys((f"{n}{end}" for n in numbers for end in ("", "_IVAR")), "number")
        found = self._of(table, targetid, origin, kinds)
        if found.row is None:
            notes.append(found.note or f"{table.path.name} has no row for it")
            return
        notes += [found.note] if found.note else []
        for name in numbers:
            unit = "km/s" if name == "VDISP" else _FLUX_UNIT
            value = float(found.row.get(name, math.nan))
            ivar = float(found.row.get(f"{name}_IVAR", math.nan))
            if not (math.isfinite(value) and math.isfinite(ivar) and ivar > 0):
                continue  # FastSpecFit keeps a nominal value with ivar 0 where it measured nothing
            for column, number, what in ((name, value, ""), (f"{name}_ERR", ivar**-0.5, ", standard deviation")):
                filled[f"FASTSPEC_{column}"] = number
                text = f"FastSpecFit's {name}{what}"
                described[f"FASTSPEC_{column}"] = {"dtype": "f4", "unit": unit, "description": text}


def given_dispersion(columns: Mapping[str, Any]) -> float:
    """FastSpecFit's dispersion for a fit to take, km/s; NaN where it measured none within `VDISP_RANGE`."""
    value = float(columns.get("FASTSPEC_VDISP", math.nan))
    return value if VDISP_RANGE[0] <= value <= VDISP_RANGE[1] else math.nan


def vi_names(table: JoinTable) -> tuple[str, str, str]:
    """Columns of redshift, quality and spectral type of a table of visual inspection; `DataFileError` without."""
    for names in _VI_NAMES:
        if names[0] in table.names:
            table.require(names, "a table of visual inspection")
            return names
    table.require(_VI_NAMES[0], "a table of visual inspection")
    raise AssertionError


def weight_columns(options: JoinOptions, table: JoinTable) -> Mapping[str, tuple[str, bool]]:
    """Column of a table of weights, and whether its inverse is meant, by catalog column.

    Parameters
    ----------
    options
        Those given; without any, what the table has of `WEIGHTS`.
    table
        Must have the columns.

    Raises
    ------
    DataFileError
        When it does not.
    """
    wanted = {name: _parsed(source) for name, source in options.columns.items()}
    if not options.columns:
        for name, sources in WEIGHTS.items():
            there = [about for about in map(_parsed, sources) if about[0] in table.names]
            wanted |= {name: there[0]} if there else {}
        if not wanted:
            raise DataFileError(
                f"{table.path}: has neither WEIGHT_ZFAIL nor FRACZ_TILELOCID or WEIGHT_COMP; say which columns are "
                'weights: columns = { W_FIBASSIGN = "WEIGHT" }'
            )
    table.require([column for column, _ in wanted.values()], "the table of weights that columns asks for")
    return wanted


def _parsed(source: str) -> tuple[str, bool]:
    """Column, and whether its inverse is meant, of ``NAME`` or ``1/NAME``."""
    found = _SOURCE.fullmatch(source)
    assert found is not None
    return found[2].upper(), bool(found[1])


def redshift_ending(table: JoinTable) -> str:
    """Ending of the columns Z, ZERR, ZWARN ... of a redshift catalog: ``"_BEST"`` or none; `DataFileError` without."""
    if f"Z{_BEST}" in table.names:
        return _BEST
    table.require(["Z"], "a redshift catalog")
    return ""


def open_joins(options: JoinOptions, *, verify: bool = True) -> Joins | None:
    """Open the tables and look whether they have the columns that they should; None where there is none.

    Parameters
    ----------
    options
        Which tables.
    verify
        Whether checksums are looked at.

    Raises
    ------
    DataFileError
        When a table is missing, damaged, or not what it should be.
    """
    paths = (options.zcatalog, options.vi, options.weights, options.fastspecfit)
    if not any(paths):
        return None
    zcatalog, vi, weights, fastspecfit = (None if p is None else JoinTable.open(p, verify=verify) for p in paths)
    if zcatalog is not None:
        redshift_ending(zcatalog)
    if vi is not None:
        vi_names(vi)
    if weights is not None:
        weight_columns(options, weights)
    if fastspecfit is not None:
        fastspecfit.require(["VDISP", "VDISP_IVAR"], "FastSpecFit's catalog")
    return Joins(options, zcatalog, vi, weights, fastspecfit, verify)
