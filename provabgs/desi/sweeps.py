"""Photometry from a folder of sweep files: the file of each galaxy by its place on the sky, and of it few rows.

Sweeps hold the primary sources of the Legacy Surveys' Tractor catalogs by rectangles in RA and Dec, lower edges
included, which their names give: ``sweep-240p005-250p010.fits`` (10 by 5 degrees in Data Release 9, 5 by 5 in DR10)
lies in ``REGION/sweep/VERSION/``, REGION being north (BASS, MzLS) or south (DECam). Files beside them with the same
name and an ending (-pz photometric redshifts, -lc light curves, -ex more columns) hold no fluxes. Source: legacysurvey
pages ``dr9/files``, ``dr10/files``; legacypipe's ``generate-sweep-files.py``.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provabgs.core.errors import DataFileError, UnusableTargetError
from provabgs.core.identity import exact_id
from provabgs.desi.catalogs import SAME_SOURCE_ARCSEC, SWEEP_COLUMNS, Match, PhotometryCatalog, photometry_table
from provabgs.desi.columns import Kind
from provabgs.desi.fitsfile import open_fits
from provabgs.desi.photometry import find_photsys
from provabgs.desi.targetid import decode_targetid, encode_targetid, fits_targetid

_NAME = re.compile(r"sweep-(\d{3})([pm])(\d{3})-(\d{3})([pm])(\d{3})\.fits(?:\.gz)?")
_BESIDE = re.compile(r"sweep-\d{3}[pm]\d{3}-\d{3}[pm]\d{3}-[a-z][a-z0-9]*\.fits(?:\.gz)?")
_LIKE_A_SWEEP = re.compile(r"sweep-.*\.fits(\.[a-z]+)?")
_DESCENDED = re.compile(r"north|south|sweeps?|\d+\.\d+")
"""Folders below the one given in which sweeps are looked for; a release has millions of files elsewhere."""
_REGIONS = {"north": "N", "south": "S"}
_KEYS: dict[str, Kind] = {
    **dict.fromkeys(("RELEASE", "BRICKID", "OBJID"), "whole"), **dict.fromkeys(("RA", "DEC"), "number"),
}  # fmt: skip
KEPT = 4
"""Sweeps of which a process keeps the index, 32 bytes a source (DR9's largest have some three million)."""


class Sweep(NamedTuple):
    """One file and the part of the sky that its name gives, degrees.

    Attributes
    ----------
    path
        The file.
    ra, dec
        Least and greatest; the greatest is outside.
    photsys
        ``"N"`` or ``"S"`` by the folder north or south that it lies in, ``""`` elsewhere.
    """

    path: Path
    ra: tuple[float, float]
    dec: tuple[float, float]
    photsys: str

    def covers(self, ra: float, dec: float, margin: float = 0.0) -> bool:
        """Whether a place lies in it.

        Parameters
        ----------
        ra, dec
            Degrees.
        margin
            Degrees by which it is widened on each side.
        """
        wide = _width(margin, abs(dec) + margin)
        inside = (ra - self.ra[0] + wide) % 360.0 < self.ra[1] - self.ra[0] + 2 * wide
        return inside and self.dec[0] - margin <= dec < self.dec[1] + margin

    def overlaps(self, other: Sweep) -> bool:
        """Whether both hold the same sky of one region."""
        apart = any(a[1] <= b[0] or b[1] <= a[0] for a, b in ((self.ra, other.ra), (self.dec, other.dec)))
        return not apart and self.photsys == other.photsys


@dataclass(frozen=True, eq=False)
class SweepFolder:
    """A folder of sweep files, searched as a `provabgs.desi.catalogs.PhotometryCatalog` is.

    Attributes
    ----------
    path
        The folder.
    sweeps
        Its sweeps, by path.
    odd
        Names of files that begin as sweeps do and say no place.
    verify
        Whether checksums are looked at.
    """

    path: Path
    sweeps: tuple[Sweep, ...]
    odd: tuple[str, ...] = ()
    verify: bool = True
    flux_corrected: bool = False
    fiberflux_corrected: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = True) -> SweepFolder:
        """List the sweeps of a folder, or of ``north``, ``south``, ``sweep`` and versions such as ``10.1`` below it.

        Parameters
        ----------
        folder
            The folder.
        verify
            Whether checksums are looked at.

        Raises
        ------
        DataFileError
            When there is no sweep, or two hold the same sky of one region.
        """
        root = Path(folder)
        sweeps, odd = [], []
        for path in _files(root):
            if (sweep := parse_sweep(path)) is not None:
                sweeps.append(sweep)
            elif not _BESIDE.fullmatch(path.name):
                odd.append(path.name)
        if not sweeps:
            seen = f" ({odd[0]} says no place)" if odd else ""
            raise DataFileError(
                f"{root}: holds no sweep file{seen}; give a file, or a folder with files such as "
                "sweep-240p005-250p010.fits, or with north/ or south/ that hold them"
            )
        _check_apart(sweeps)
        return cls(root, tuple(sweeps), tuple(odd), verify)

    @classmethod
    def of_file(cls, path: Path, *, verify: bool = True) -> SweepFolder | None:
        """One sweep alone, whatever sky its name gives; None for a file that is no sweep.

        Parameters
        ----------
        path
            The file.
        verify
            Whether checksums are looked at.

        Raises
        ------
        DataFileError
            When the file is a sweep by its name and cannot be read.
        """
        if parse_sweep(path) is None:
            return None
        with open_fits(path, verify=verify) as fits:
            names = fits.fields(photometry_table(fits))
        if "TARGETID" in names or not set(_KEYS) <= set(names):
            return None
        indexed(path, verify=verify)
        return cls(path, (Sweep(path, (0.0, 360.0), (-90.0, 90.1), ""),), (), verify)

    def find(
        self, targetid: int, ra: float = math.nan, dec: float = math.nan, radius_arcsec: float = 1.0
    ) -> Match | None:
        """The row of a target, as `provabgs.desi.catalogs.PhotometryCatalog.find` finds it in the file that covers it.

        Of two regions that cover the place, that of the target's RELEASE is taken (else of its place), and the other
        where the first does not hold the target.

        Parameters
        ----------
        targetid
            DESI's.
        ra, dec
            Degrees.
        radius_arcsec
            Greatest separation accepted by position.

        Raises
        ------
        DataFileError
            When the file that covers the place cannot be read.
        """
        if not (math.isfinite(ra) and math.isfinite(dec)):
            return Match({}, "", f"{self.path.name}: which sweep holds it cannot be told without RA and Dec")
        covering = self._covering(targetid, ra, dec, max(radius_arcsec, SAME_SOURCE_ARCSEC) / 3600.0)
        if not covering:
            odd = f" ({self.odd[0]} says no place)" if self.odd else ""
            return Match({}, "", f"no sweep of {self.path.name} covers RA {ra:.4f}, Dec {dec:.4f}{odd}")
        notes = []
        for sweep in covering:
            found = indexed(sweep.path, verify=self.verify).find(targetid, ra, dec, radius_arcsec)
            if found is None:
                continue
            if found.row:
                return found
            notes.append(found.note)
        return Match({}, "", "; ".join(notes)) if notes else None

    def _covering(self, targetid: int, ra: float, dec: float, margin: float) -> list[Sweep]:
        """Sweeps that may hold a target: of its own region first, and there those that its place is in."""
        row = {"RELEASE": decode_targetid(targetid).release if targetid >= 0 else 0, "RA": ra, "DEC": dec}
        try:
            own = find_photsys(row).name
        except UnusableTargetError:  # a place that is none
            own = ""
        near = [s for s in self.sweeps if s.covers(ra, dec, margin)]
        return sorted(near, key=lambda s: (s.photsys not in (own, ""), not s.covers(ra, dec)))


def open_photometry(path: str | Path, *, verify: bool = True) -> PhotometryCatalog | SweepFolder:
    """Photometry from a file, or from a folder of sweeps.

    Parameters
    ----------
    path
        The file or folder.
    verify
        Whether checksums are looked at.

    Raises
    ------
    DataFileError
        When it is missing, broken, or carries no fluxes.
    """
    path = Path(path)
    if path.is_dir():
        return SweepFolder.open(path, verify=verify)
    return SweepFolder.of_file(path, verify=verify) or PhotometryCatalog.open(path, verify=verify)


def check_photometry(path: str | Path, *, verify: bool = True) -> None:
    """Look whether there is photometry, without reading much of it.

    Parameters
    ----------
    path
        A file, or a folder of sweeps.
    verify
        Whether checksums are looked at.

    Raises
    ------
    DataFileError
        When it is missing, or carries no fluxes.
    """
    path = Path(path)
    if path.is_dir():
        SweepFolder.open(path, verify=verify)
        return
    with open_fits(path, verify=verify) as fits:
        photometry_table(fits)


def parse_sweep(path: Path) -> Sweep | None:
    """The sky that a sweep's name gives; None for a name that gives none, and for those without fluxes (-pz ...)."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        return None
    sign = {"p": 1.0, "m": -1.0}
    ra = (float(found[1]), float(found[4]))
    dec = (sign[found[2]] * float(found[3]), sign[found[5]] * float(found[6]))
    if not (0 <= ra[0] < ra[1] <= 360 and -90 <= dec[0] < dec[1] <= 90):
        return None
    regions = [_REGIONS[p.name] for p in path.absolute().parents[:3] if p.name in _REGIONS]
    return Sweep(path, ra, dec, regions[0] if regions else "")


def _width(angle: float, dec: float) -> float:
    """How far an angle reaches in RA at a declination, degrees; all around at the poles."""
    return angle / math.cos(math.radians(dec)) if dec < 90 - 1e-9 else 360.0


def _files(root: Path) -> Iterator[Path]:
    """Files that are named as sweeps, by path."""
    for here, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if _DESCENDED.fullmatch(f))
        yield from (Path(here, name) for name in sorted(names) if _LIKE_A_SWEEP.fullmatch(name))


def _check_apart(sweeps: list[Sweep]) -> None:
    """Refuse sweeps of the same sky: which of two releases or copies is meant is not guessed."""
    ordered = sorted(sweeps, key=lambda s: (s.photsys, s.dec, s.ra))
    edges = np.array([(*s.ra, *s.dec) for s in ordered])
    for k, sweep in enumerate(ordered):
        rest = edges[k + 1 :]
        near = (rest[:, 0] < sweep.ra[1]) & (rest[:, 1] > sweep.ra[0])
        near &= (rest[:, 2] < sweep.dec[1]) & (rest[:, 3] > sweep.dec[0])
        for other in (ordered[k + 1 + j] for j in np.flatnonzero(near)):
            if sweep.overlaps(other):
                raise DataFileError(
                    f"{sweep.path} and {other.path} cover the same sky: which of them is meant cannot be told; give "
                    "the folder of one release, or move one of them away"
                )


@dataclass(frozen=True, eq=False)
class IndexedSweep:
    """A sweep of which identifiers and places are in memory; rows are read when they are asked for.

    Attributes
    ----------
    path, verify
        The file, and whether checksums are looked at.
    ids, id_rows
        ``(n,)`` TARGETIDs of its sources in rising order, and the row of each.
    dec, ra, place_rows
        ``(n,)`` degrees in rising order of `dec`, and the row of each.
    """

    path: Path
    verify: bool
    ids: NDArray[np.int64]
    id_rows: NDArray[np.int32]
    dec: NDArray[np.float64]
    ra: NDArray[np.float64]
    place_rows: NDArray[np.int32]

    def find(self, targetid: int, ra: float, dec: float, radius_arcsec: float) -> Match | None:
        """The row of a target, see `provabgs.desi.catalogs.PhotometryCatalog.find`.

        Parameters
        ----------
        targetid
            DESI's.
        ra, dec
            Degrees.
        radius_arcsec
            Greatest separation accepted by position.
        """
        first, stop = (int(np.searchsorted(self.ids, exact_id(targetid), side=side)) for side in ("left", "right"))
        rows = np.union1d(self.id_rows[first:stop], self._near(ra, dec, radius_arcsec / 3600.0)).astype(np.int64)
        if not rows.size:
            return None
        with open_fits(self.path, verify=self.verify) as fits:
            columns, odd = fits.read_columns(photometry_table(fits), SWEEP_COLUMNS, rows=rows)
        notes = tuple(f"{self.path.name} column {name} {why}, not used" for name, why in odd.items())
        found = PhotometryCatalog(self.path, "tractor", columns, False, False).find(targetid, ra, dec, radius_arcsec)
        if found is None:
            return None
        note = "; ".join([*([found.note] if found.note else []), *notes])
        return found._replace(note=note, file=self.path.name)

    def _near(self, ra: float, dec: float, radius: float) -> NDArray[np.int32]:
        """Rows within a radius and a little more, degrees."""
        radius *= 1.01
        first, stop = (int(np.searchsorted(self.dec, dec + d)) for d in (-radius, radius))
        wide = _width(radius, abs(dec) + radius)
        apart = np.abs((self.ra[first:stop] - ra + 180.0) % 360.0 - 180.0)
        return self.place_rows[first:stop][apart <= wide]


def indexed(path: Path, *, verify: bool = True) -> IndexedSweep:
    """A sweep's index; a file that this process has indexed and that has not changed is not read again.

    Parameters
    ----------
    path
        The file.
    verify
        Whether checksums are looked at.

    Raises
    ------
    DataFileError
        When the file cannot be read, or has neither identifiers nor places.
    """
    try:
        about = path.stat()
    except OSError:
        raise DataFileError(f"{path}: no such file any more; was the folder changed?") from None
    made = _index(str(path), about.st_size, about.st_mtime_ns, verify)
    if isinstance(made, str):
        raise DataFileError(made)
    return made


@lru_cache(maxsize=KEPT)
def _index(name: str, _size: int, _changed: int, verify: bool) -> IndexedSweep | str:
    """A sweep's index; or why there is none, so that a damaged file is read once and not for each of its galaxies."""
    path = Path(name)
    try:
        with open_fits(path, verify=verify) as fits:
            table = photometry_table(fits)
            columns, odd = fits.read_columns(table, _KEYS)
    except DataFileError as error:
        return str(error)
    if missing := [n for n in _KEYS if n not in columns]:
        why = f"{missing[0]} {odd[missing[0]]}" if missing[0] in odd else f"{missing[0]} is missing"
        return f"{path}: {table.label} is no sweep: column {why}; fetch it again"
    parts = tuple(columns[n] for n in ("RELEASE", "BRICKID", "OBJID"))
    known = np.flatnonzero(fits_targetid(*parts))
    ids = encode_targetid(*(p[known] for p in parts))
    by_id = np.argsort(ids, kind="stable")
    ra, dec = columns["RA"], columns["DEC"]
    by_dec = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    by_dec = by_dec[np.argsort(dec[by_dec], kind="stable")]
    rows = known[by_id].astype(np.int32)
    return IndexedSweep(path, verify, ids[by_id], rows, dec[by_dec], ra[by_dec], by_dec.astype(np.int32))
