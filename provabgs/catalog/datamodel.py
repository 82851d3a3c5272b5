"""The data model: every column of summary, shard and exports as entries of one form, for people and machines.

`entries` lists those of any catalog's schema; ``python docs/data_model.py`` writes the page and the file of the
documentation from it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from provabgs.catalog.columns import LOG_PROB, Schema
from provabgs.catalog.export import published_columns
from provabgs.catalog.fastspec import parts
from provabgs.catalog.models import CAMERAS, UNITS
from provabgs.catalog.standard_columns import NEXT, QUANTITY_UCDS, Column
from provabgs.catalog.summary import summary_columns

TYPES: dict[str, str] = {
    "S": "text", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64", "f4": "float32", "f8": "float64",
}  # fmt: skip
_SHAPES = {"PROVABGS_MCMC": "(100, 13)", "PROVABGS_THETA_BF": "(13,)", "PROVABGS_LOGMSTAR": "(100,)",
           "LOGMSTAR_FORMED": "(100,)"}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One column or dataset.

    Attributes
    ----------
    table
        ``summary``, ``shard``, ``provabgs`` (the published layout), or an HDU of ``export --models``.
    also
        Other tables that have the same column under the same name, ``shard`` for a field of its compound dataset.
    name, type, unit, description, null, ucd, since
        As of `Column`; the type with its shape where it is no scalar.
    """

    table: str
    also: tuple[str, ...]
    name: str
    type: str
    unit: str
    description: str
    null: str
    ucd: str
    since: str


def entries(schema: Schema) -> tuple[Entry, ...]:
    """Everything that files of a catalog hold.

    Parameters
    ----------
    schema
        Of the catalog.

    Returns
    -------
    tuple of Entry
        Table by table, in the order of their columns. FITS and VOTable exports of the summary have its columns.
    """
    summary, published = summary_columns(schema), published_columns(schema)
    names = {c.name for c in summary}
    others = {"shard": {c.name for c in schema.columns}, "provabgs": {c.name for c in published}}
    others |= {hdu: set(columns) for hdu, columns in parts(schema, list(names)).items()}
    out = [
        _entry("summary", c, tuple(table for table, columns in others.items() if c.name in columns)) for c in summary
    ]
    out += [_entry("shard", c) for c in schema.columns if c.name not in names]
    out += _datasets(schema)
    out += [_entry("provabgs", c, shape=_SHAPES.get(c.name, "")) for c in published if c.name not in names]
    return (*out, *_images())


def _entry(table: str, c: Column, also: tuple[str, ...] = (), shape: str = "") -> Entry:
    kind = f"{TYPES[c.dtype]} {shape}".strip()
    return Entry(table, also, c.name, kind, c.unit, c.description, c.null, c.ucd, c.since)


def _datasets(schema: Schema) -> list[Entry]:
    """Datasets of a shard beside its summary."""
    codes = "uint16 or float32 (N, S)"
    none = "code 65535: past N_SAMPLES, or the galaxy's model lacks it; 65533: -inf; 65534: inf"
    out = [_dataset("targetid", "int64 (N,)", "DESI target identifier of each row", ucd="meta.id")]
    log_prob = (LOG_PROB, "", "log posterior density of each draw", "stat.likelihood")
    drawn = ((q.column, q.unit, q.description, QUANTITY_UCDS.get(q.column, "")) for q in schema.quantities)
    for column, unit, text, ucd in (*drawn, log_prob):
        told = f"draws: {text}; value = offset + step * code"
        out.append(_dataset(f"samples/{column}", codes, told, unit, none, ucd))
        told = f"offset and step of the codes of {column}; absent for float32 draws"
        out.append(_dataset(f"scale/{column}", "float32 (N, 2)", told))
    models = "distinct models: parameters, derived properties, measured quantities, JSON; MODEL_ID is the row"
    sums = "SHA-256 of every 128 rows of targetid, summary and each sample column"
    return [
        *out,
        _dataset("configs", "text (n,)", "distinct fit configurations, JSON; CONFIG_ID is the row"),
        _dataset("versions", "text (n,)", "distinct tables of versions, JSON; VERSIONS_ID is the row"),
        _dataset("models", "text (n,)", models),
        _dataset("pieces", "uint8 (2 + columns, N / 128, 32)", sums, ucd="meta.checksum"),
    ]


def _dataset(name: str, kind: str, description: str, unit: str = "", null: str = "never", ucd: str = "") -> Entry:
    return Entry("shard", (), name, kind, unit, description, null, ucd, "0.1.0")


def _images() -> list[Entry]:
    """Images of model spectra."""
    text = "model of the fiber's light: 16, 50 and 84 % quantiles of draws, velocity dispersion of the fit"
    null, ucd = "there are no draws, or the library does not cover the camera", "phot.flux.density;em.wl"
    shapes = {f"MODELS_{g.camera}": f"float32 (N, 3, {g.n})" for g in CAMERAS}
    return [Entry(hdu, (), "(image)", shape, UNITS["observed"], text, null, ucd, NEXT) for hdu, shape in shapes.items()]


def to_json(found: tuple[Entry, ...]) -> str:
    """Entries as JSON: a list of objects, one a line."""
    return "[\n" + ",\n".join(json.dumps(asdict(e)) for e in found) + "\n]\n"
