"""Photometry from a file of its own: Tractor, sweep, targeting, or FastSpecFit catalogs.

Which fluxes are free of Galactic dust already:

================================  ==============  ====================================================
file                              FLUX_*          FIBERFLUX_*
================================  ==============  ====================================================
FIBERMAP, Tractor, sweep          no              no
FastSpecFit METADATA >= 3.3.0     yes             yes
FastSpecFit METADATA < 3.3.0      yes             no, against its documentation (fastspecfit issue 237)
================================  ==============  ====================================================
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from provabgs.core.errors import DataFileError
from provabgs.core.identity import exact_id
from provabgs.desi.coadd import FIBERMAP_COLUMNS
from provabgs.desi.columns import Kind
from provabgs.desi.fitsfile import Columns, FitsFile, open_fits
from provabgs.desi.structure import Hdu
from provabgs.desi.targetid import encode_targetid, fits_targetid

SWEEP_COLUMNS: dict[str, Kind] = {
    **FIBERMAP_COLUMNS,
    **dict.fromkeys(("RA", "DEC"), "number"),
    **dict.fromkeys(("OBJID", "BRICK_PRIMARY"), "whole"),
    "TYPE": "text",
}
"""What is read of a catalog, where present."""
SAME_SOURCE_ARCSEC = 10.0
"""A row of the target's own TARGETID that lies farther away is of another source, whatever it says."""
_FIBERFLUX_FIXED = (3, 3, 0)
"""First FastSpecFit that corrects FIBERFLUX as documented (change log of 2026-05-18)."""


class Match(NamedTuple):
    """A catalog row found for a target."""

    row: dict[str, Any]
    how: str
    """``"TARGETID"``, ``"RELEASE,BRICKID,OBJID"`` or ``"position (0.12 arcsec)"``."""
    note: str = ""
    """What is odd about it, for people."""
    file: str = ""
    """Name of the file that holds it, where a catalog is of several."""


@dataclass(frozen=True, eq=False)
class PhotometryCatalog:
    """A table of photometry, searchable by TARGETID and by position.

    Attributes
    ----------
    path, kind
        The file; ``"tractor"`` (any uncorrected table) or ``"fastspecfit"``.
    columns
        What was read, ``(nrow,)`` each.
    flux_corrected, fiberflux_corrected
        Whether FLUX_*, FIBERFLUX_* are free of Galactic dust.
    notes
        What of the table could not be used, for people.
    """

    path: Path
    kind: str
    columns: Columns
    flux_corrected: bool
    fiberflux_corrected: bool
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> PhotometryCatalog:
        """Read a catalog.

        Parameters
        ----------
        path
            The file.
        verify
            Whether checksums are looked at.

        Raises
        ------
        DataFileError
            When it is missing, broken, or carries no fluxes.
        """
        file = Path(path)
        with open_fits(file, verify=verify) as fits:
            fastspecfit = bool({"FASTSPEC", "FASTPHOT", "SPECPHOT"} & set(fits.names))
            if fastspecfit and "METADATA" not in fits.names:
                raise DataFileError(
                    f"{file}: this FastSpecFit file has no METADATA, where its photometry lies (FLUX_SYNTH_* are "
                    "synthesised, not measured); give one that has"
                )
            table = fits["METADATA"] if fastspecfit else photometry_table(fits)
            columns, odd = fits.read_columns(table, SWEEP_COLUMNS)
            version = _fastspecfit_version(fits.hdus[0]) if fastspecfit else None
        if "TARGETID" in odd:
            raise DataFileError(f"{file}: {table.label}: column TARGETID {odd['TARGETID']}")
        if not any(k.startswith("FLUX_IVAR_") for k in columns):
            raise DataFileError(f"{file}: has no columns FLUX_* and FLUX_IVAR_*; give a Tractor or FastSpecFit catalog")
        corrected = version is not None and version >= _FIBERFLUX_FIXED
        notes = tuple(f"{file.name} column {name} {why}, not used" for name, why in odd.items())
        return cls(file, "fastspecfit" if fastspecfit else "tractor", columns, fastspecfit, corrected, notes)

    def find(
        self, targetid: int, ra: float = math.nan, dec: float = math.nan, radius_arcsec: float = 1.0
    ) -> Match | None:
        """The row of a target: by TARGETID, by the source that TARGETID encodes, else nearest within a radius.

        Parameters
        ----------
        targetid
            DESI's.
        ra, dec
            Degrees; NaN to forgo the search by position.
        radius_arcsec
            Greatest separation accepted by position.

        Returns
        -------
        Match or None
            Without a row, but with a note, where only a source elsewhere has the TARGETID; None where there is none.
        """
        found = self._of_targetid(exact_id(targetid), ra, dec)
        if found is not None and found.row:
            return found
        note = found.note if found is not None else ""
        if self._tree is None or not (math.isfinite(ra) and math.isfinite(dec)):
            return found
        rows, tree = self._tree
        distance, nearest = tree.query(unit_vectors(np.array([ra]), np.array([dec]))[0])
        arcsec = chord_arcsec(distance)
        if arcsec > radius_arcsec:
            return found
        return Match(self._row(int(rows[nearest])), f"position ({arcsec:.2f} arcsec)", note)

    def _of_targetid(self, targetid: int, ra: float, dec: float) -> Match | None:
        """The row of a TARGETID; without a row where it is of a source elsewhere, None where there is none."""
        rows, ids = self._by_targetid
        first, stop = np.searchsorted(ids, targetid, side="left"), np.searchsorted(ids, targetid, side="right")
        if first == stop:
            return None
        here = rows[first:stop]
        how = "TARGETID" if "TARGETID" in self.columns else "RELEASE,BRICKID,OBJID"
        place = self._positions
        if place is None or not (math.isfinite(ra) and math.isfinite(dec)):
            note = f"{here.size} rows of {self.path.name} have its TARGETID, first taken" if here.size > 1 else ""
            return Match(self._row(int(here[0])), how, note)
        apart = np.linalg.norm(
            unit_vectors(place[0][here], place[1][here]) - unit_vectors(np.array([ra]), np.array([dec])), axis=1
        )
        apart = np.where(np.isfinite(apart), apart, 0.0)
        nearest = int(np.argmin(apart))
        arcsec = chord_arcsec(float(apart[nearest]))
        if arcsec > SAME_SOURCE_ARCSEC:
            note = f"{self.path.name}: the row of its TARGETID lies {arcsec:.0f} arcsec away, not used"
            return Match({}, "", note)
        note = f"{here.size} rows of {self.path.name} have its TARGETID, nearest taken" if here.size > 1 else ""
        return Match(self._row(int(here[nearest])), how, note)

    def _row(self, index: int) -> dict[str, Any]:
        return {k: v[index].item() for k, v in self.columns.items()}

    @property
    def _positions(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Degrees, None where the table has none."""
        for prefix in ("TARGET_", ""):
            if f"{prefix}RA" in self.columns and f"{prefix}DEC" in self.columns:
                return self.columns[f"{prefix}RA"].astype(float), self.columns[f"{prefix}DEC"].astype(float)
        return None

    @cached_property
    def _primary(self) -> np.ndarray:
        """Rows that count: sources outside a brick's primary area are listed again by the neighbouring brick."""
        size = next(iter(self.columns.values())).size
        keep = self.columns["BRICK_PRIMARY"].astype(bool) if "BRICK_PRIMARY" in self.columns else np.ones(size, bool)
        if "TYPE" in self.columns:
            keep = keep & (self.columns["TYPE"] != "DUP")
        return np.flatnonzero(keep)

    @cached_property
    def _by_targetid(self) -> tuple[np.ndarray, np.ndarray]:
        """Primary rows and their TARGETIDs, sorted by TARGETID, in file order within one (a sweep has millions)."""
        c, rows = self.columns, self._primary
        objid = c.get("OBJID", c.get("BRICK_OBJID"))
        if "TARGETID" in c:
            ids = c["TARGETID"][rows]
        elif objid is not None and "RELEASE" in c and "BRICKID" in c:
            rows = rows[fits_targetid(c["RELEASE"][rows], c["BRICKID"][rows], objid[rows])]
            ids = encode_targetid(c["RELEASE"][rows], c["BRICKID"][rows], objid[rows])
        else:
            return rows[:0], np.zeros(0, dtype=np.int64)
        order = np.argsort(ids, kind="stable")
        return rows[order], ids[order]

    @cached_property
    def _tree(self) -> tuple[np.ndarray, cKDTree] | None:
        """Rows with a position and a search tree over their unit vectors."""
        place = self._positions
        if place is None:
            return None
        ra, dec = place
        rows = self._primary[np.isfinite(ra[self._primary]) & np.isfinite(dec[self._primary])]
        return (rows, cKDTree(unit_vectors(ra[rows], dec[rows]))) if rows.size else None


def chord_arcsec(chord: float) -> float:
    """Angle of a chord, which is what the search tree measures."""
    return math.degrees(2.0 * math.asin(min(chord / 2.0, 1.0))) * 3600.0


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """``(n, 3)`` unit vectors of positions in degrees."""
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)


def photometry_table(fits: FitsFile) -> Hdu:
    """The first table with a FLUX_R (or any FLUX_IVAR_*) column, whatever its name."""
    for hdu in fits.hdus[1:]:
        if hdu.is_table and any(name.startswith("FLUX_IVAR_") for name in fits.fields(hdu)):
            return hdu
    found = ", ".join(n for n in fits.names if n) or "none"
    raise DataFileError(
        f"{fits.path}: no table has FLUX_* and FLUX_IVAR_* (HDUs: {found}); give a Tractor, sweep or FastSpecFit file"
    )


def _fastspecfit_version(primary: Hdu) -> tuple[int, ...] | None:
    """FastSpecFit's version from DESI's DEPNAMnn/DEPVERnn keywords, None when the header does not say."""
    for key in primary.cards:
        if key.startswith("DEPNAM") and primary.text(key).lower() == "fastspecfit":
            parts = re.match(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?", primary.text(f"DEPVER{key[6:]}"))
            return tuple(int(p or 0) for p in parts.groups()) if parts else None
    return None
