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
from astropy.io import fits
from scipy.spatial import cKDTree

from provabgs.core.errors import DataFileError
from provabgs.desi.coadd import FIBERMAP_COLUMNS, Columns
from provabgs.desi.fitsfile import column_names, hdu_names, open_fits, read_columns
from provabgs.desi.targetid import encode_targetid

_COLUMNS = tuple(dict.fromkeys((*FIBERMAP_COLUMNS, "RA", "DEC", "OBJID", "BRICK_PRIMARY", "TYPE")))
_FIBERFLUX_FIXED = (3, 3, 0)
"""First FastSpecFit that corrects FIBERFLUX as documented (change log of 2026-05-18)."""


class Match(NamedTuple):
    """A catalog row found for a target."""

    row: dict[str, Any]
    how: str
    """``"TARGETID"``, ``"RELEASE,BRICKID,OBJID"`` or ``"position (0.12 arcsec)"``."""


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
    """

    path: Path
    kind: str
    columns: Columns
    flux_corrected: bool
    fiberflux_corrected: bool

    @classmethod
    def open(cls, path: str | Path) -> PhotometryCatalog:
        """Read a catalog; `DataFileError` when it is missing, broken, or carries no FLUX_R."""
        file = Path(path)
        with open_fits(file, memmap=True) as hdus:
            names = hdu_names(hdus)
            fastspecfit = bool({"FASTSPEC", "FASTPHOT", "SPECPHOT"} & set(names))
            if fastspecfit and "METADATA" not in names:
                raise DataFileError(
                    f"{file}: this FastSpecFit file has no METADATA, where its photometry lies (FLUX_SYNTH_* are "
                    "synthesised, not measured); give one that has"
                )
            table = hdus["METADATA"] if fastspecfit else _first_photometry_table(hdus, file)
            columns = read_columns(table, _COLUMNS, file)
            version = _fastspecfit_version(hdus[0].header) if fastspecfit else None
        if not any(k.startswith("FLUX_IVAR_") for k in columns):
            raise DataFileError(f"{file}: has no columns FLUX_* and FLUX_IVAR_*; give a Tractor or FastSpecFit catalog")
        corrected = version is not None and version >= _FIBERFLUX_FIXED
        return cls(file, "fastspecfit" if fastspecfit else "tractor", columns, fastspecfit, corrected)

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
        """
        rows, ids = self._by_targetid
        place = int(np.searchsorted(ids, targetid))
        if place < ids.size and ids[place] == targetid:
            index = int(rows[place])
            return Match(self._row(index), "TARGETID" if "TARGETID" in self.columns else "RELEASE,BRICKID,OBJID")
        if self._tree is None or not (math.isfinite(ra) and math.isfinite(dec)):
            return None
        rows, tree = self._tree
        distance, nearest = tree.query(_unit_vectors(np.array([ra]), np.array([dec]))[0])
        # Chord to angle; the chord is what the tree measures.
        arcsec = math.degrees(2.0 * math.asin(min(distance / 2.0, 1.0))) * 3600.0
        return (
            Match(self._row(int(rows[nearest])), f"position ({arcsec:.2f} arcsec)") if arcsec <= radius_arcsec else None
        )

    def _row(self, index: int) -> dict[str, Any]:
        return {k: v[index].item() for k, v in self.columns.items()}

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
            ids = encode_targetid(c["RELEASE"][rows], c["BRICKID"][rows], objid[rows])
        else:
            return rows[:0], np.zeros(0, dtype=np.int64)
        order = np.argsort(ids, kind="stable")
        return rows[order], ids[order]

    @cached_property
    def _tree(self) -> tuple[np.ndarray, cKDTree] | None:
        """Rows with a position and a search tree over their unit vectors."""
        prefix = "TARGET_" if "TARGET_RA" in self.columns else ""
        if f"{prefix}RA" not in self.columns or f"{prefix}DEC" not in self.columns:
            return None
        ra, dec = self.columns[f"{prefix}RA"], self.columns[f"{prefix}DEC"]
        rows = self._primary[np.isfinite(ra[self._primary]) & np.isfinite(dec[self._primary])]
        return (rows, cKDTree(_unit_vectors(ra[rows], dec[rows]))) if rows.size else None


def _unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """``(n, 3)`` unit vectors of positions in degrees."""
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)


def _first_photometry_table(hdus: fits.HDUList, path: Path) -> Any:
    """The first table with a FLUX_R (or any FLUX_IVAR_*) column, whatever its name."""
    for hdu in hdus:
        is_table = isinstance(hdu, fits.BinTableHDU)
        if is_table and any(n.upper().startswith("FLUX_IVAR_") for n in column_names(hdu, path)):
            return hdu
    found = ", ".join(n for n in hdu_names(hdus) if n and n != "PRIMARY") or "none"
    raise DataFileError(
        f"{path}: no table has FLUX_* and FLUX_IVAR_* (HDUs: {found}); give a Tractor, sweep or FastSpecFit file"
    )


def _fastspecfit_version(header: fits.Header) -> tuple[int, ...] | None:
    """FastSpecFit's version from DESI's DEPNAMnn/DEPVERnn keywords, None when the header does not say."""
    for key, value in header.items():
        if key.startswith("DEPNAM") and str(value).strip().lower() == "fastspecfit":
            parts = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", str(header.get(f"DEPVER{key[6:]}", "")))
            return tuple(int(p or 0) for p in parts.groups()) if parts else None
    return None
