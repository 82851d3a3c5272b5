"""Readers of inputs: what is in a file (cheap, for the plan), and its galaxies one by one (in the fit process)."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from provabgs.core.errors import ConfigError, DataFileError, InputError, UnusableTargetError
from provabgs.core.messages import first_line
from provabgs.core.status import Status
from provabgs.desi import ReadOptions, iter_observations
from provabgs.desi.coadd import CoaddFile
from provabgs.desi.joins import open_joins
from provabgs.desi.sweeps import check_photometry
from provabgs.observe.observation import Observation
from provabgs.observe.target import TargetResult
from provabgs.pipelines.config import InputOptions
from provabgs.pipelines.tables import floats, fluxes, is_blank, read_table, row_ids
from provabgs.sdss import SpecOptions, read_spec
from provabgs.surveys import Band, load_system, survey_columns


class Scan(NamedTuple):
    """What a file holds: one entry per target. Coordinates in degrees, NaN where unknown.

    `sample` says which survey and program a row is of (``"main/bright"``): rows of one TARGETID that differ in it are
    kept apart. None and ``""`` are unknown.
    """

    targetid: NDArray[np.int64]
    row: NDArray[np.int32]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    sample: NDArray[np.str_] | None = None

    def complete(self) -> Scan:
        """The same with an entry of `sample` for each target."""
        return self if self.sample is not None else self._replace(sample=np.full(self.targetid.size, "", "U1"))

    @property
    def labels(self) -> NDArray[np.str_]:
        """`sample`, of a scan that is complete."""
        assert self.sample is not None
        return self.sample


class Reader(Protocol):
    """A kind of input. Give your own as ``reader = "module:object"``; it is called with the `InputOptions`."""

    pattern: tuple[str, ...]
    """Glob patterns by which its files are found in a directory."""

    def scan(self, path: Path) -> Scan:
        """List a file's targets; raises DataFileError when it cannot be read."""
        ...

    def read(self, path: Path, targetids: Sequence[int], rows: Sequence[int]) -> Iterator[TargetResult]:
        """Yield the given targets; raises DataFileError when the file cannot be read."""
        ...


def make_reader(options: InputOptions) -> Reader:
    """The reader that a configuration names.

    Raises
    ------
    ConfigError
        For a name that is none, or options that it does not take.
    """
    known: dict[str, Callable[[InputOptions], Reader]] = {
        "desi": DesiReader, "photometry": PhotometryTableReader, "sdss": SDSSReader
    }  # fmt: skip
    factory = known.get(options.reader) or load_object(options.reader, "[inputs] reader")
    lacking = [name for name in ("pattern", "scan", "read") if not hasattr(factory, name)]
    if not isinstance(factory, type) or lacking:  # looked at before it is called: a name may be anything
        raise ConfigError(
            f"[inputs] reader = {options.reader!r} is no reader (it lacks {', '.join(lacking) or 'a class'}); name a "
            "class with pattern, scan and read, as docs/guide/survey.md says"
        )
    reader: Reader = factory(options)
    return reader


def load_object(spec: str, key: str) -> Any:
    """The object that ``"module:name"`` names.

    Raises
    ------
    ConfigError
        When the module or the name cannot be found; `key` says which setting it came from.
    """
    module, _, name = spec.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a module may raise anything while it is imported
        raise ConfigError(f"{key} = {spec!r}: give 'module:object' ({first_line(error)})") from None


def check_module(spec: str, key: str) -> None:
    """Raise ConfigError unless ``"module:name"`` names a module that exists; does not import it."""
    module, colon, name = spec.partition(":")
    try:
        found = bool(colon and name) and importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise ConfigError(f"{key} = {spec!r}: give 'module:object' of a module that can be imported")


class DesiReader:
    """DESI coadds (or spectra) with redrock files beside them."""

    pattern: tuple[str, ...] = ("coadd-*.fits", "coadd-*.fits.gz", "coadd-*.fits.fz")

    def __init__(self, options: InputOptions) -> None:
        self.photometry = options.photometry
        changes = {k: tuple(v) if isinstance(v, list) else v for k, v in options.options.items()}
        self.options = replace(ReadOptions().with_changes(changes), targets=options.desi.targets, joins=options.joins)

    def check(self) -> None:
        """Raise `DataFileError` for photometry or tables that cannot be read, before galaxies are fitted without."""
        if self.photometry is not None:
            check_photometry(self.photometry, verify=self.options.verify)
        open_joins(self.options.joins, verify=self.options.verify)

    def scan(self, path: Path) -> Scan:
        """Read the FIBERMAP."""
        file = CoaddFile.open(path, verify=self.options.verify)
        if file.coadded:
            rows = np.arange(file.targetids.size)
        else:
            rows = np.array([r[0] for r in file.groups().values()], dtype=int)
        rows = rows[file.chosen(self.options.targets)[rows]]
        unknown = np.full(file.targetids.size, np.nan)
        ra, dec = (np.asarray(file.fibermap.get(c, unknown), dtype=float)[rows] for c in ("TARGET_RA", "TARGET_DEC"))
        return Scan(file.targetids[rows], rows.astype(np.int32), ra, dec, np.full(rows.size, file.origin.label))

    def read(self, path: Path, targetids: Sequence[int], rows: Sequence[int]) -> Iterator[TargetResult]:
        """Read the chosen targets' spectra."""
        wanted = set(rows)
        # every entry of a coadd that repeats a TARGETID comes back, so choose by row
        for result in iter_observations(path, None, self.photometry, list(dict.fromkeys(targetids)), self.options):
            if result.row in wanted:
                yield result


class SDSSReader:
    """Spectra of SDSS and BOSS, one file each; ``[inputs] options`` are those of `provabgs.sdss.SpecOptions`."""

    pattern: tuple[str, ...] = ("spec-*.fits", "spec-*.fits.gz")

    def __init__(self, options: InputOptions) -> None:
        known = [f.name for f in fields(SpecOptions)]
        for name in options.options:
            if name not in known:
                raise ConfigError(f"[inputs] options.{name} is no option of the sdss reader ({', '.join(known)})")
        self.options = SpecOptions(**options.options)

    def scan(self, path: Path) -> Scan:
        """Read the file: it holds one target."""
        target = read_spec(path, self.options)
        seen = target.observation
        ra, dec = (target.ra, target.dec) if seen is None else (seen.ra, seen.dec)
        return Scan(np.array([target.targetid]), np.zeros(1, np.int32), np.array([ra]), np.array([dec]))

    def read(self, path: Path, targetids: Sequence[int], rows: Sequence[int]) -> Iterator[TargetResult]:
        """Read the one target."""
        del rows
        target = read_spec(path, self.options)
        if target.targetid in targetids:
            yield target


class PhotometryTableReader:
    """Tables (FITS, Parquet, ECSV, CSV) of fluxes, for fits of photometry alone.

    Columns TARGETID, RA, DEC, Z, and those that the survey's file names. ``[inputs] options``:

    survey
        Name of a shipped survey or path of a survey's TOML file, see `provabgs.surveys.load_system` ("legacy").
    bands
        Bands to fit; those that the survey fits by default, of these the ones that the table has.
    variant
        Set of filters of tables without the column that says so (PHOTSYS for the Legacy Surveys).
    dereddened
        Whether the fluxes are corrected for Galactic dust (true); else the table has SFD's E(B-V) in EBV.
    """

    pattern: tuple[str, ...] = ("*.fits", "*.parquet", "*.ecsv", "*.csv")
    _KEYS = ("survey", "bands", "variant", "dereddened")

    def __init__(self, options: InputOptions) -> None:
        given = options.options
        if unknown := [k for k in given if k not in self._KEYS]:
            close = difflib.get_close_matches(unknown[0], self._KEYS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(
                f"[inputs] options.{unknown[0]} is no option of the photometry reader{hint} "
                f"(allowed: {', '.join(self._KEYS)})"
            )
        self.survey = load_system(given.get("survey", "legacy"))
        self.dereddened = given.get("dereddened", True)
        if not isinstance(self.dereddened, bool):
            raise ConfigError(f"[inputs] options.dereddened = {self.dereddened!r}: give true or false")
        try:
            names = given.get("bands", self.survey.fitted_bands())
            self.bands = tuple(self.survey.band(name) for name in names)
            self.variant = self.survey.variant(given.get("variant"))
            self.variant_given = "variant" in given
        except (InputError, AttributeError, TypeError) as error:
            raise ConfigError(f"[inputs] options: {first_line(error)}") from None

    def scan(self, path: Path) -> Scan:
        """Read the identifying columns."""
        table = read_table(path, required=("TARGETID", "RA", "DEC", "Z"))
        ids, _ = row_ids(table, path)
        ra, dec = (floats(table, c) for c in ("RA", "DEC"))
        return Scan(ids, np.arange(ids.size, dtype=np.int32), ra, dec)

    def read(self, path: Path, targetids: Sequence[int], rows: Sequence[int]) -> Iterator[TargetResult]:
        """Turn the chosen rows into observations."""
        required = ("TARGETID", "RA", "DEC", "Z", *(() if self.dereddened else ("EBV",)))
        table = read_table(path, required, (*self.survey.columns, "EBV"))
        present = [b for b in self.bands if b.flux in table.colnames and b.ivar in table.colnames]
        if not present:
            pairs = ", ".join(f"{b.flux} with {b.ivar}" for b in self.bands)
            raise DataFileError(f"{path}: has no flux of survey {self.survey.name} ({pairs}); choose another survey")
        ids, why = row_ids(table, path)
        for name, power in [(b.flux, 1) for b in present] + [(b.ivar, -2) for b in present]:
            table[name] = fluxes(table, name, self.survey.flux_unit, power, path)
        for name in {"RA", "DEC", "Z", "EBV", *self.survey.photometric_columns} & set(table.colnames):
            table[name] = floats(table, name)
        for targetid, row in zip(targetids, rows, strict=True):
            if row >= len(table) or int(ids[row]) != targetid:
                continue
            ra, dec = float(table["RA"][row]), float(table["DEC"][row])
            try:
                if row in why:
                    raise UnusableTargetError(f"row {row}: {why[row]}", Status.INPUT_ERROR)
                observation = self._observation(table, row, targetid, present)
            except UnusableTargetError as error:
                yield TargetResult(targetid, row, None, Status(error.status), str(error), ra, dec)
            except InputError as error:
                yield TargetResult(targetid, row, None, Status.BAD_DATA, str(error), ra, dec)
            else:
                yield TargetResult(targetid, row, observation, None, "; ".join(self._notes(table, row)))

    def _notes(self, table: Table, row: int) -> list[str]:
        """What is assumed of a row, for people."""
        notes = []
        variants = self.survey.variants
        if variants and not self.variant_given and variants.column not in table.colnames:
            notes.append(f"no column {variants.column}: filters of {self.variant}")
        if not self.dereddened and table["EBV"][row] == 0:
            notes.append("EBV is 0: nothing is corrected for Galactic dust")
        return notes

    def _observation(self, table: Table, row: int, targetid: int, present: list[Band]) -> Observation:
        values = {c: table[c][row] for c in (*self.survey.columns, "EBV") if c in table.colnames}
        variants = self.survey.variants
        here = values.get(variants.column) if variants else None
        if variants and here is not None and is_blank(here):
            raise UnusableTargetError(
                f"{variants.column} is blank: give {' or '.join(variants.names)}, which filters took the fluxes",
                Status.BAD_DATA,
            )
        variant = self.variant if here is None else self.survey.variant(str(here))
        names = {b.flux: name for b in present if (name := b.filter_at(variant)) is not None}
        bands = [b for b in present if b.flux in names]
        unit = self.survey.to_nanomaggies()
        photometry = self.survey.photometry(
            [names[b.flux] for b in bands],
            np.array([float(values[b.flux]) * unit for b in bands]),
            np.array([float(values[b.ivar]) / unit**2 for b in bands]),
            None if self.dereddened else float(values["EBV"]),
        )
        meta = {variants.column: variant} if variants else {}
        return Observation(
            redshift=float(table["Z"][row]),
            photometry=photometry,
            targetid=targetid,
            ra=float(table["RA"][row]),
            dec=float(table["DEC"][row]),
            meta={**meta, "PHOTOMETRIC_SYSTEM": self.survey.name, **survey_columns(self.survey, photometry, values)},
        )
