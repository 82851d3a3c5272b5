"""Our catalog against another: rows joined, conventions converted, offsets and scatter by mass, colour and redshift."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table

from provabgs.catalog.conventions import LAYOUTS, Layout, Other, distance_ratio, to_ours
from provabgs.catalog.query import Catalog
from provabgs.core.arrays import FloatArray, IntArray
from provabgs.core.config import check_config, read_toml
from provabgs.core.errors import InputError
from provabgs.core.messages import first_line, suggestion
from provabgs.inference.config import FitConfig
from provabgs.observe.cosmology import Cosmology

RADIUS_ARCSEC = 1.0
"""Largest distance of galaxies that are joined by position."""
COLOURS = ("COLOR_U_V_P50", "COLOR_NUV_R_P50")
"""Columns that tell a galaxy's colour, the first that the catalog knows; MAG_G - MAG_R where it knows none."""
LEAST = 5
"""Galaxies of a bin of which statistics are given."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """One quantity of two catalogs, galaxy by galaxy.

    Attributes
    ----------
    quantity
        Our column, without ``_P50``.
    targetid
        ``(n,)``.
    ours, theirs
        ``(n,)`` in our conventions.
    steps
        What each convention added to theirs, ``(n,)``.
    against
        ``(n,)`` mass, colour and redshift of each galaxy, by axis label.
    """

    quantity: str
    targetid: IntArray
    ours: FloatArray
    theirs: FloatArray
    steps: dict[str, FloatArray]
    against: dict[str, FloatArray]

    @property
    def offset(self) -> FloatArray:
        """``(n,)`` ours minus theirs."""
        return self.ours - self.theirs


def layout_of(name: str | None, mapping: Path | None) -> Layout:
    """A layout by its name, or from a TOML file.

    Parameters
    ----------
    name
        One of `LAYOUTS`.
    mapping
        File of a `Layout`; of `name`'s where it leaves something out.

    Raises
    ------
    InputError
        For an unknown name, or where there is neither.
    """
    if name is not None and name not in LAYOUTS:
        raise InputError(f"no layout {name!r}{suggestion(name, LAYOUTS)}; use {', '.join(LAYOUTS)}, or --mapping")
    if mapping is None:
        if name is None:
            raise InputError(f"say what the other table is: --layout {', '.join(LAYOUTS)}, or --mapping FILE.toml")
        return LAYOUTS[name]
    base = LAYOUTS[name].model_dump() if name is not None else {}
    return check_config(Layout, base | read_toml(mapping), str(mapping))


def read_other(path: Path, layout: Layout) -> Table:
    """The columns of another catalog that a layout names.

    Parameters
    ----------
    path
        FITS (every table of it with as many rows is searched), Parquet, ECSV, CSV or VOTable; or one of this package's
        catalogs, posterior files (.h5) or HATS exports.
    layout
        Names the columns.

    Returns
    -------
    Table
        Of the key or position, and of the comparable columns that are there.

    Raises
    ------
    InputError
        When the file cannot be read, or lacks the key or all comparable columns.
    """
    keys = [layout.key] if layout.key is not None else [layout.ra, layout.dec]
    wanted = list(dict.fromkeys([*keys, *(c.column for c in layout.columns.values())]))
    try:
        found = _columns(path, wanted)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as a table ({first_line(error)})") from None
    if lacking := [k for k in keys if k not in found]:
        raise InputError(f"{path}: has no column {lacking[0]}, by which {layout.name} is joined; see --mapping")
    if len(found) == len(keys):
        names = ", ".join(c.column for c in layout.columns.values())
        raise InputError(f"{path}: has none of the columns {names} of {layout.name}; see --mapping")
    return Table(found)


def _columns(path: Path, wanted: list[str]) -> dict[str, Any]:
    if path.is_dir() or path.suffix == ".h5":
        with Catalog.open(path) as ours:
            rows = ours.table([n for n in wanted if n in ours.columns])
        return {n: np.asarray(rows[n]) for n in rows.colnames}
    if path.suffix in (".fits", ".gz", ".fit"):
        found: dict[str, Any] = {}
        with fits.open(path) as hdus:
            for hdu in hdus:
                for name in wanted if isinstance(hdu, fits.BinTableHDU) else ():
                    if name in hdu.columns.names and name not in found:
                        found[name] = np.array(hdu.data[name])
        if len({len(v) for v in found.values()}) > 1:
            raise ValueError("its tables have different numbers of rows")
        return found
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        names = [n for n in wanted if n in pq.read_schema(path).names]
        return {n: c.to_numpy() for n, c in zip(names, pq.read_table(path, columns=names).columns, strict=True)}
    table = Table.read(path)
    return {n: np.ma.filled(table[n], np.nan) if table[n].dtype.kind == "f" else np.asarray(table[n])
            for n in wanted if n in table.colnames}  # fmt: skip


def compare(catalog: Catalog, other: Table, layout: Layout) -> list[Comparison]:
    """Every quantity that both have.

    Parameters
    ----------
    catalog
        Ours, or a selection of it.
    other
        From `read_other`.
    layout
        What the other means.

    Returns
    -------
    list of Comparison
        Galaxies of both with a finite value in both.

    Raises
    ------
    InputError
        When no galaxy, or no quantity, is in both.
    """
    quantities = {q: c for q, c in layout.columns.items() if c.column in other.colnames and our_column(catalog, q)}
    if not quantities:
        raise InputError(f"the catalog and {layout.name} share none of {', '.join(layout.columns)}")
    helpers = ["LOGMSTAR_P50", "LOGMSTAR_FORMED_P50", "F_FIBER_P50", "MAG_G", "MAG_R", *COLOURS]
    columns = ["TARGETID", "RA", "DEC", "Z", *(h for h in helpers if h in catalog.columns)]
    rows = catalog.table(list(dict.fromkeys([*columns, *(str(our_column(catalog, q)) for q in quantities)])))
    mine, theirs = _joined(rows, other, layout)
    if not mine.size:
        raise InputError(f"no galaxy of the catalog is in the other table, joined by {layout.key or 'position'}")
    rows, other = rows[mine], other[theirs]
    redshift = np.asarray(rows["Z"], dtype=np.float64)
    log_distance = distance_ratio(layout.cosmology, redshift, _cosmology(catalog))
    surviving = _float(rows, "LOGMSTAR_P50") - _float(rows, "LOGMSTAR_FORMED_P50")
    log_fiber = np.log10(_float(rows, "F_FIBER_P50"))
    against = {"LOGMSTAR": _float(rows, "LOGMSTAR_P50")} | _colour(rows) | {"Z": redshift}
    out = []
    for quantity, column in quantities.items():
        values = _theirs(other, column, layout)
        converted, steps = to_ours(layout, column, values, log_distance, surviving, log_fiber)
        ours = _float(rows, str(our_column(catalog, quantity)))
        good = np.isfinite(ours) & np.isfinite(converted)
        out.append(
            Comparison(
                quantity,
                np.asarray(rows["TARGETID"], dtype=np.int64)[good],
                ours[good],
                converted[good],
                {k: v[good] for k, v in steps.items()},
                {k: v[good] for k, v in against.items()},
            )
        )
    return out


def our_column(catalog: Catalog, quantity: str) -> str | None:
    """Our column of a quantity: its median, or itself.

    Parameters
    ----------
    catalog
        Ours.
    quantity
        Name without ``_P50``.

    Returns
    -------
    str or None
        None where the catalog has neither.
    """
    return next((c for c in (f"{quantity}_P50", quantity) if c in catalog.columns), None)


def _theirs(other: Table, column: Other, layout: Layout) -> FloatArray:
    values = np.array(other[column.column], dtype=np.float64)
    return np.where(np.isin(values, layout.missing), np.nan, values)


def _float(rows: Table, name: str) -> FloatArray:
    if name not in rows.colnames:
        return np.full(len(rows), np.nan)
    return np.asarray(np.ma.filled(np.ma.asarray(rows[name], dtype=np.float64), np.nan), dtype=np.float64)


def _colour(rows: Table) -> dict[str, FloatArray]:
    """A colour of each galaxy, by its name; none where the catalog has none."""
    rest = {c.removesuffix("_P50"): _float(rows, c) for c in COLOURS}
    observed = {"MAG_G - MAG_R": _float(rows, "MAG_G") - _float(rows, "MAG_R")}
    known = {k: v for k, v in (rest | observed).items() if np.isfinite(v).any()}
    return dict(list(known.items())[:1])


def _cosmology(catalog: Catalog) -> Cosmology:
    """Of the catalog's fits."""
    configs = json.loads(catalog.metadata.get("provabgs:configs", "[]"))
    return Cosmology(FitConfig.model_validate_json(configs[0]).observing.cosmology) if configs else Cosmology()


def _joined(rows: Table, other: Table, layout: Layout) -> tuple[IntArray, IntArray]:
    """Rows of both that are the same galaxy."""
    if layout.key is not None:
        _, mine, theirs = np.intersect1d(
            np.asarray(rows["TARGETID"]), np.asarray(other[layout.key]).astype(np.int64), return_indices=True
        )
        return mine, theirs
    here = SkyCoord(_float(rows, "RA") * u.deg, _float(rows, "DEC") * u.deg)
    there = SkyCoord(_float(other, layout.ra) * u.deg, _float(other, layout.dec) * u.deg)
    nearest, distance, _ = here.match_to_catalog_sky(there)
    mine = np.flatnonzero(distance.arcsec < RADIUS_ARCSEC)
    return mine, np.asarray(nearest)[mine]


def statistics(found: list[Comparison], bins: int = 5) -> Table:
    """Offsets and scatter, of all galaxies and in bins of equal numbers.

    Parameters
    ----------
    found
        From `compare`.
    bins
        Bins of mass, colour and redshift each.

    Returns
    -------
    Table
        QUANTITY; AGAINST with LOW and HIGH (``all`` for all galaxies); N; OFFSET, the median of ours minus theirs;
        OFFSET_ERR, its standard error; SCATTER, half of the 16-84 % range; ADDED, what conventions added to theirs.
    """
    rows = []
    for c in found:
        added = "; ".join(f"{name} {np.median(step):+.3f}" for name, step in c.steps.items())
        rows.append((c.quantity, "all", np.nan, np.nan, *_summary(c.offset), added))
        for name, x in c.against.items():
            known = np.isfinite(x)
            edges = np.quantile(x[known], np.linspace(0, 1, bins + 1)) if known.any() else np.zeros(0)
            for low, high in pairwise(edges.tolist()):
                inside = (x >= low) & ((x < high) | (high == edges[-1]) & (x <= high))
                if inside.sum() >= LEAST:
                    rows.append((c.quantity, name, low, high, *_summary(c.offset[inside]), added))
    names = ("QUANTITY", "AGAINST", "LOW", "HIGH", "N", "OFFSET", "OFFSET_ERR", "SCATTER", "ADDED")
    return Table(rows=rows, names=names)


def _summary(offset: FloatArray) -> tuple[int, float, float, float]:
    if offset.size == 0:
        return 0, float("nan"), float("nan"), float("nan")
    low, median, high = np.quantile(offset, [0.16, 0.5, 0.84])
    scatter = float(high - low) / 2
    # a median of Gaussian numbers is 1.25 times as uncertain as their mean
    return offset.size, float(median), 1.2533 * scatter / float(np.sqrt(offset.size)), scatter
