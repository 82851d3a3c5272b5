"""Columns of a catalog that a survey needs: measured magnitudes, fiber magnitudes and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.core.identity import exact_ids
from provabgs.inference.posterior import Posterior
from provabgs.population.rows import RowSelection
from provabgs.population.survey.selection import LEGACY, Selection
from provabgs.population.weights import OnBad, combine_weights

if TYPE_CHECKING:
    from astropy.table import Table

    from provabgs.catalog.query import Catalog

Columns = dict[str, NDArray[Any]]

NEEDED = (
    *("TARGETID", "Z", "RA", "DEC", "STATUS", "N_SAMPLES", "MAG_G", "MAG_R", "MAG_Z", "MAG_W1", "FIBMAG_R"),
    *("PHOTSYS", "Z_MAX", "W_ZFAIL", "W_FIBASSIGN"),
)
"""Summary columns that are read where the catalog has them."""
SURVEY_WEIGHTS = ("W_ZFAIL", "W_FIBASSIGN")
"""Weights that apply unless others are named."""


def read_columns(catalog: Catalog, extra: Table | None = None) -> Columns:
    """Summary columns of a catalog as plain arrays: numbers in double precision with NaN for nulls, and PHOTSYS.

    Parameters
    ----------
    catalog
        Any selection of a catalog.
    extra
        Table of TARGETID and columns that replace the catalog's; rows that it does not know become NaN.

    Returns
    -------
    dict
        ``(n,)`` per column of `NEEDED` and of `extra`.

    Raises
    ------
    InputError
        When `extra` has no TARGETID.
    """
    table = catalog.table([c for c in NEEDED if c in catalog.columns])
    columns = {c: np.asarray(table[c]) if c in ("PHOTSYS", "TARGETID") else _numbers(table, c) for c in table.colnames}
    if extra is not None:
        columns |= _matched(columns["TARGETID"].astype(np.int64), extra)
    return columns


def _numbers(table: Table, name: str) -> FloatArray:
    return np.asarray(np.ma.filled(np.ma.asarray(table[name], dtype=np.float64), np.nan))


def _matched(targetid: NDArray[np.int64], extra: Table) -> Columns:
    """Columns of a table in the order of the catalog; NaN for galaxies that the table does not have."""
    if "TARGETID" not in extra.colnames:
        raise InputError(f"the table of extra columns has no TARGETID (it has {', '.join(extra.colnames[:8])})")
    ids = exact_ids(extra["TARGETID"], "TARGETID of the table of extra columns")
    order = np.argsort(ids, kind="stable")
    place = np.clip(np.searchsorted(ids[order], targetid), 0, max(ids.size - 1, 0))
    found = ids[order][place] == targetid if ids.size else np.zeros(targetid.size, dtype=bool)
    names = [n for n in extra.colnames if n != "TARGETID"]
    return {n: np.where(found, _numbers(extra, n)[order][place], np.nan) for n in names}


def survey_weights(
    columns: Mapping[str, NDArray[Any]],
    names: Sequence[str] | None,
    on_bad: OnBad,
    rows: RowSelection,
    notes: list[str],
) -> FloatArray:
    """Product of weight columns; rows with a bad weight are dropped from `rows`.

    Parameters
    ----------
    columns
        From `read_columns`.
    names
        Columns to multiply; None takes those of `SURVEY_WEIGHTS` that any galaxy has.
    on_bad
        See `provabgs.population.weights.combine_weights`.
    rows
        Rows that are still in; changed here.
    notes
        Assumptions, for people; extended here.

    Returns
    -------
    numpy.ndarray
        ``(n,)``; NaN for rows with a bad weight.

    Raises
    ------
    InputError
        For a column that the catalog lacks, and for bad weights where `on_bad` says so.
    """
    if names is None:
        names = [c for c in SURVEY_WEIGHTS if c in columns and np.isfinite(columns[c].astype(np.float64)).any()]
        if not names:
            notes.append("no survey weights known, all 1")
    if missing := [c for c in names if c not in columns]:
        raise InputError(f"weights {', '.join(missing)} are not in the catalog; give them in `extra`")
    # rows that are out already need no weight
    named = {c: np.where(rows.keep, columns[c].astype(np.float64), 1.0) for c in names}
    combined = combine_weights(named, rows.n_rows, on_bad, columns["TARGETID"], "the catalog")
    for name, w in named.items():
        rows.drop(~(np.isfinite(w) & (w > 0)), f"with a bad {name}")
    return combined.weight


def measured_photometry(
    columns: Mapping[str, NDArray[Any]], selection: Selection, anchor: bool, rows: RowSelection, notes: list[str]
) -> tuple[dict[str, FloatArray], FloatArray | None]:
    """Measured magnitudes and fiber offsets; rows without the fiber magnitude that a selection needs are dropped.

    Parameters
    ----------
    columns
        From `read_columns`.
    selection
        Limits of the survey.
    anchor
        Whether measured magnitudes are wanted at all.
    rows
        Rows that are still in; changed here.
    notes
        Assumptions, for people; extended here.

    Returns
    -------
    observed
        ``(n,)`` magnitudes by filter, for filters of the selection that any galaxy was measured in.
    fiber_offset
        ``(n,)`` fiber minus total magnitude in r; None when the selection does not need it.

    Raises
    ------
    InputError
        When the galaxies belong to another photometric system (PHOTSYS) than the filters of the selection.
    """
    _check_photometric_system(columns, selection, rows, notes)
    observed: dict[str, FloatArray] = {}
    for band in selection.bands:
        name = LEGACY.magnitude_column(band)
        measured = columns[name].astype(np.float64) if anchor and name is not None and name in columns else None
        if measured is not None and np.isfinite(measured[rows.keep]).any():
            observed[band] = measured
        else:
            notes.append(f"no measured {band}: magnitudes are the model's")
    if not selection.needs_fiber:
        return observed, None
    offset = columns["FIBMAG_R"].astype(np.float64) - columns["MAG_R"].astype(np.float64)
    rows.drop(~np.isfinite(offset), "without a fiber magnitude")
    return observed, offset


def _check_photometric_system(
    columns: Mapping[str, NDArray[Any]], selection: Selection, rows: RowSelection, notes: list[str]
) -> None:
    if "PHOTSYS" not in columns:
        return
    systems = {str(s) for s in np.unique(columns["PHOTSYS"][rows.keep].astype(str))} & {"N", "S"}
    if len(systems) == 2:
        notes.append("galaxies of PHOTSYS N and S share one selection")
    elif systems:
        (mine,) = systems
        theirs = LEGACY.filters("S" if mine == "N" else "N")
        if other := [b for b in selection.bands if b in theirs and b not in LEGACY.filters(mine)]:
            raise InputError(
                f"the galaxies have PHOTSYS {mine}, {selection.name} is for {', '.join(other)}; choose its filters"
            )


def with_survey_columns(posteriors: Sequence[Posterior], columns: Mapping[str, Sequence[float]]) -> list[Posterior]:
    """Posteriors with survey columns in their metadata, from which `write_catalog` makes summary columns.

    Mock challenges keep magnitudes in their truth tables; this function joins magnitudes and posteriors.

    Parameters
    ----------
    posteriors
        Of n galaxies.
    columns
        ``(n,)`` values by name (MAG_R, W_ZFAIL, ...).

    Returns
    -------
    list
        Copies of the posteriors.

    Raises
    ------
    InputError
        For a column of another length.
    """
    for name, values in columns.items():
        if len(values) != len(posteriors):
            raise InputError(f"{name} has {len(values)} values for {len(posteriors)} posteriors")
    return [
        replace(p, meta={**p.meta, **{name: float(values[i]) for name, values in columns.items()}})
        for i, p in enumerate(posteriors)
    ]
