"""Catalogs in other people's forms: the published PROVABGS layout, plain tables, ArviZ, HATS."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from astropy.table import Table
from numpy.typing import NDArray

from provabgs import __version__
from provabgs.catalog.columns import LOG_PROB, Schema
from provabgs.catalog.described import table_hdu, write_votable
from provabgs.catalog.fastspec import write_models
from provabgs.catalog.hats import export_hats
from provabgs.catalog.query import Catalog
from provabgs.catalog.seal import seal
from provabgs.catalog.standard_columns import NO_DRAWS, Column
from provabgs.core.arrays import thin
from provabgs.core.atomic import atomic_path
from provabgs.core.errors import InputError, MissingDependencyError
from provabgs.core.hdf5 import open_file
from provabgs.inference.standard import PARAMETERS

PUBLISHED_SAMPLES = 100
"""Draws per galaxy in the published catalog."""
_PUBLISHED: dict[str, str] = {
    "TARGETID": "TARGETID", "RA": "RA", "DEC": "DEC", "Z": "Z_HP", "ZERR": "ZERR", "TSNR2_BGS": "TSNR2_BGS",
    "MAG_G": "MAG_G", "MAG_R": "MAG_R", "MAG_Z": "MAG_Z", "MAG_W1": "MAG_W1", "FIBMAG_R": "FIBMAG_R",
    "SCHLEGEL_COLOR": "SCHLEGEL_COLOR", "HPIX_64": "HPIX_64", "LOGMSTAR_BF": "PROVABGS_LOGMSTAR_BF",
    "Z_MAX": "PROVABGS_Z_MAX", "W_ZFAIL": "PROVABGS_W_ZFAIL", "W_FIBASSIGN": "PROVABGS_W_FIBASSIGN",
    "IS_BGS_BRIGHT": "IS_BGS_BRIGHT", "IS_BGS_FAINT": "IS_BGS_FAINT",
}  # fmt: skip
"""Our column -> the published catalog's."""
_ADDED = (
    "STATUS",
    "RHAT_MAX",
    "ESS_MIN",
    "N_EVAL",
    "CHI2_SPEC",
    "CHI2_PHOT",
    "DOF_SPEC",
    "DOF_PHOT",
    "PRIOR_EDGE",
    "FLAG",
)


def export(catalog: Catalog, path: str | Path, form: str | None = None) -> None:
    """Write the chosen galaxies in another form.

    Parameters
    ----------
    catalog
        A catalog or a selection of one.
    path
        File to write, replaced when it exists; a new directory for ``"hats"``.
    form
        ``"provabgs"`` (published columns, FITS or HDF5 by the suffix), ``"summary"`` (all summary columns, FITS,
        VOTable or Parquet), ``"models"`` (tables and model spectra, see `provabgs.catalog.fastspec`), ``"arviz"``
        (netCDF of draws; needs the extra `arviz`) or ``"hats"`` (see `provabgs.catalog.hats`). None: summary for
        .fits, .vot and .parquet, provabgs for .h5 and .hdf5, arviz for .nc.

    Raises
    ------
    InputError
        When the form and the suffix do not go together, the selection is empty, or the file is one of the catalog's
        own.
    MissingDependencyError
        For ``"arviz"`` without xarray and h5netcdf.
    """
    path = Path(path)
    if form == "hats":
        export_hats(catalog, path)
        return
    suffix = ".h5" if path.suffix == ".hdf5" else path.suffix
    defaults = {".fits": "summary", ".parquet": "summary", ".vot": "summary", ".h5": "provabgs", ".nc": "arviz"}
    form = form or defaults.get(suffix)
    writers: dict[tuple[str | None, str], Callable[[Catalog, Path], None]] = {
        ("summary", ".fits"): lambda c, p: _write_fits(c.table(), p, c.schema.table_columns),
        ("summary", ".parquet"): lambda c, p: _write_parquet(c, p),
        ("summary", ".vot"): lambda c, p: write_votable(c.table(), p, c.schema.table_columns),
        ("provabgs", ".fits"): lambda c, p: _write_fits(published_table(c), p, published_columns(c.schema)),
        ("models", ".fits"): lambda c, p: write_models(c, p),
        ("provabgs", ".h5"): lambda c, p: _write_hdf5(published_table(c), p),
        ("arviz", ".nc"): _write_netcdf,
    }
    if (form, suffix) not in writers:
        choices = ", ".join(f"{f} as {s}" for f, s in writers) + ", hats as a directory"
        raise InputError(f"cannot export {form or 'this'} as {path.suffix or 'a file without suffix'}; can: {choices}")
    refuse_own_files(catalog, path)
    if len(catalog) == 0:
        raise InputError("the selection is empty: there is nothing to export")
    with atomic_path(path) as temporary:
        writers[form, suffix](catalog, temporary)


def refuse_own_files(catalog: Catalog, path: Path) -> None:
    """Refuse to write over what a catalog is read from.

    Parameters
    ----------
    catalog
        That is asked.
    path
        File to write.

    Raises
    ------
    InputError
        When the file is the summary or a shard of the catalog.
    """
    if path.resolve() in {file.resolve() for file in catalog.files}:
        raise InputError(f"{path}: belongs to the catalog that is asked; write to another file")


def published_table(catalog: Catalog, n_samples: int = PUBLISHED_SAMPLES) -> Table:
    """The chosen galaxies with the published catalog's columns, and the quality columns that it lacks.

    PROVABGS_LOGMSTAR and PROVABGS_LOGMSTAR_BF are surviving masses, as in the published catalog, where the mass formed
    is in PROVABGS_MCMC[..., 0] and PROVABGS_THETA_BF[0] alone. LOGMSTAR_FORMED (draws) is added beside it.

    Parameters
    ----------
    catalog
        Selection of a catalog.
    n_samples
        Draws per galaxy.

    Returns
    -------
    Table
        PROVABGS_MCMC is ``(N, n_samples, 13)`` float32 in the published order, PROVABGS_THETA_BF ``(N, 13)``; galaxies
        with fewer draws, and those without, are filled with NaN.

    Raises
    ------
    InputError
        When the fits of the catalog lack one of the published parameters.
    """
    if lacking := [c for c in PARAMETERS.columns if c not in catalog.schema.sample_columns]:
        raise InputError(f"the published layout needs {lacking[0]}, which the fits of this catalog do not have")
    columns = [*_PUBLISHED, *_ADDED, *(f"{p.column}_BF" for p in PARAMETERS)]
    rows = catalog.table(columns)
    names, surviving = list(PARAMETERS.columns), "LOGMSTAR"
    draws = catalog.samples(None, [*names, surviving])
    kept = [thin(int(n), n_samples) for n in np.isfinite(draws[names[0]]).sum(axis=1)]
    out = Table({_PUBLISHED[c]: rows[c] for c in _PUBLISHED})
    out["PROVABGS_MCMC"] = np.stack([_thinned(draws[c], kept, n_samples) for c in names], axis=2)
    out["PROVABGS_THETA_BF"] = np.stack([np.asarray(rows[f"{c}_BF"], dtype=float) for c in names], axis=1)
    out["PROVABGS_LOGMSTAR"] = _thinned(draws[surviving], kept, n_samples)
    out["LOGMSTAR_FORMED"] = _thinned(draws[names[0]], kept, n_samples)
    for name in _ADDED:
        out[name] = rows[name]
    return out


def to_arviz(catalog: Catalog) -> Any:
    """Draws of the chosen galaxies as an xarray Dataset of ArviZ's shape: dimensions chain (1), draw, galaxy.

    `arviz.convert_to_inference_data` and arviz-stats take it as it is. Galaxies without draws are left out; where
    numbers of draws differ, the shorter are filled with NaN. R-hat and ESS of the fit come along as variables of
    dimension galaxy: they are of all chains and cannot be recomputed from thinned draws.

    Raises
    ------
    InputError
        When no galaxy has draws.
    MissingDependencyError
        Without xarray.
    """
    xarray = _optional("xarray")
    catalog = catalog.select("N_SAMPLES > 0")
    if len(catalog) == 0:
        raise InputError("no galaxy of the selection has draws: there is nothing to export for ArviZ")
    draws = catalog.samples(None, catalog.schema.sample_columns)
    fitted = [q for q in catalog.schema.quantities if np.isfinite(np.asarray(draws[q.column])).any()]
    names = [*(q.column for q in fitted), LOG_PROB]
    about = {q.column: {"units": q.unit, "long_name": q.description} for q in fitted}
    data = {n: (("chain", "draw", "galaxy"), np.asarray(draws[n]).T[None], about.get(n, {})) for n in names}
    rows = catalog.table(["Z", "STATUS", "RHAT_MAX", "ESS_MIN"])
    per_galaxy = {
        n: (("galaxy",), np.asarray(rows[n]), {"long_name": catalog.schema.by_name[n].description})
        for n in rows.colnames
    }
    origin = {"inference_library": "provabgs", "inference_library_version": __version__}
    return xarray.Dataset(data | per_galaxy, coords={"galaxy": np.asarray(draws["TARGETID"])}, attrs=origin)


def _optional(module: str) -> Any:
    """A module of the extra `arviz`."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingDependencyError(f"export to ArviZ needs {module}: pip install 'provabgs[arviz]'") from None


def _thinned(values: NDArray[np.float64], kept: list[NDArray[np.int64]], width: int) -> NDArray[np.float32]:
    """Evenly chosen draws of each row, padded with NaN."""
    out = np.full((len(kept), width), np.nan, dtype=np.float32)
    for i, places in enumerate(kept):
        out[i, : places.size] = values[i, places]
    return out


def published_columns(schema: Schema) -> tuple[Column, ...]:
    """What the columns of `published_table` mean."""
    ours = {c.name: c for c in schema.table_columns}
    draws = f"{PUBLISHED_SAMPLES} draws of"
    order = ", ".join(PARAMETERS.columns)
    renamed = [replace(ours[name], name=published) for name, published in _PUBLISHED.items()]
    return (
        *renamed,
        Column("PROVABGS_MCMC", "f4", "", f"{draws} the thirteen parameters: {order}", NO_DRAWS, "stat.value"),
        Column("PROVABGS_THETA_BF", "f8", "", f"best fit: {order}", NO_DRAWS, "stat.fit"),
        Column("PROVABGS_LOGMSTAR", "f4", "dex(Msun)", f"{draws} log10 of the surviving mass", NO_DRAWS, "phys.mass"),
        Column("LOGMSTAR_FORMED", "f4", "dex(Msun)", f"{draws} log10 of the mass formed", NO_DRAWS, "phys.mass"),
        *(ours[name] for name in _ADDED),
    )


def _write_fits(table: Table, path: Path, columns: tuple[Column, ...]) -> None:
    """One binary table, described column by column."""
    table_hdu(table, "PROVABGS", columns).writeto(path)


def _write_parquet(catalog: Catalog, path: Path) -> None:
    """The chosen rows, batch by batch, sealed as a summary is.

    Texts that are unknown are empty: `astropy.table.Table.read` stops at a null among texts, and wants their lengths.
    """
    texts = [field.name for field in catalog.arrow(limit=1).schema if pa.types.is_string(field.type)]
    longest = dict.fromkeys(texts, 1)
    for batch in catalog.batches(texts):
        for name in texts:
            longest[name] = max(longest[name], pc.max(pc.utf8_length(batch[name])).as_py() or 1)
    metadata = {k: v for k, v in catalog.metadata.items() if k.startswith("provabgs:")}
    metadata |= {f"table::len::{name}": str(length) for name, length in longest.items()}
    writer: pq.ParquetWriter | None = None
    try:
        for batch in catalog.batches():
            table = pa.Table.from_batches([batch]).replace_schema_metadata(metadata)
            for name in texts:
                place = table.schema.get_field_index(name)
                table = table.set_column(place, table.schema.field(place), pc.fill_null(table[name], ""))
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    seal(path)


def _write_hdf5(table: Table, path: Path) -> None:
    """One dataset per column, as the published HDF5 files have them."""
    with open_file(path, "w") as f:
        for name in table.colnames:
            column = table[name]
            values = np.ma.filled(column, -1) if column.dtype.kind == "i" else np.asarray(column)
            stored = f.create_dataset(name, data=values, compression="gzip", shuffle=True)
            if column.unit is not None:
                stored.attrs["unit"] = str(column.unit)


def _write_netcdf(catalog: Catalog, path: Path) -> None:
    """A netCDF file of the groups that ArviZ looks for: ``posterior``, and ``sample_stats`` with ln p as ``lp``.

    Draws are stored in single precision, as the store's own are at best.
    """
    _optional("h5netcdf")
    dataset = to_arviz(catalog)
    per_galaxy = ["Z", "STATUS", "RHAT_MAX", "ESS_MIN"]
    posterior = dataset.drop_vars([LOG_PROB, *per_galaxy])
    stats = dataset[[LOG_PROB, *per_galaxy]].rename({LOG_PROB: "lp"})
    for group, part, mode in (("posterior", posterior, "w"), ("sample_stats", stats, "a")):
        drawn = [n for n in part.data_vars if "draw" in part[n].dims]
        packed = {n: {"dtype": "float64" if n == "lp" else "float32", "zlib": True, "complevel": 1} for n in drawn}
        part.to_netcdf(path, mode=mode, group=group, engine="h5netcdf", encoding=packed)
