"""`Posterior` objects to catalog rows and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

import numpy as np
from astropy import units as u
from astropy_healpix import HEALPix
from numpy.typing import NDArray

from provabgs.catalog.block import Block
from provabgs.catalog.columns import (
    LOG_PROB,
    QUANTILES,
    SURVEY_COLUMNS,
    Schema,
    survey_column,
    union,
)
from provabgs.catalog.encode import Encoding, quantise
from provabgs.catalog.standard_columns import FIT_QUALITY, SURVEY, Column
from provabgs.core.arrays import thin
from provabgs.core.errors import DataFileError, InputError
from provabgs.core.status import Status
from provabgs.inference.flags import flags_of
from provabgs.inference.measured.quantity import Measured
from provabgs.inference.posterior import Diagnostics, Posterior
from provabgs.inference.prior_edge import EDGE_FRACTION
from provabgs.inference.quality import Quality
from provabgs.inference.standard import PARAMETERS, PROPERTIES
from provabgs.sps.derived import DerivedProperty
from provabgs.sps.parameters import ParameterSet, Quantity

NSIDE = 64
"""HEALPix resolution of the shards, nested order, as in DESI's own directories."""
DEFAULT_SAMPLES = 256
"""Draws kept per galaxy by default."""
MOST_CLIPPED = 1000
"""Wavelengths of masked pixels kept per galaxy."""


def healpix64(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.int32]:
    """Nested nside-64 HEALPix pixel of positions.

    Parameters
    ----------
    ra, dec
        ``(n,)`` degrees.

    Returns
    -------
    NDArray
        ``(n,)`` pixel; -1 where a coordinate is NaN or outside the sky.
    """
    ra, dec = np.atleast_1d(ra).astype(float), np.atleast_1d(dec).astype(float)
    pixel = np.full(ra.shape, -1, dtype=np.int32)
    good = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
    if good.any():
        grid = HEALPix(nside=NSIDE, order="nested")
        pixel[good] = grid.lonlat_to_healpix(ra[good] * u.deg, dec[good] * u.deg)
    return pixel


def to_block(
    posteriors: list[Posterior], *, n_samples: int | None = DEFAULT_SAMPLES, encoding: Encoding = "uint16"
) -> Block:
    """Turn posteriors into catalog rows.

    Parameters
    ----------
    posteriors
        In the order that the rows shall have.
    n_samples
        Draws to keep of each, evenly spaced; None keeps all. Galaxies with fewer are padded with NaN.
    encoding
        ``"uint16"`` (see `provabgs.catalog.encode`) or ``"float32"``.

    Returns
    -------
    Block
        One row per posterior.

    Raises
    ------
    InputError
        For an empty list, and for samples whose shapes do not agree with one another.
    """
    if not posteriors:
        raise InputError("there are no posteriors to write")
    for posterior in posteriors:
        _check(posterior)
    kept = [thin(p.samples.shape[0], n_samples or p.samples.shape[0]) for p in posteriors]
    width = n_samples or max(1, *(k.size for k in kept))
    models = tuple(sorted({_model(p) for p in posteriors if len(p.samples)}))
    schema = union(Schema.from_json(m) for m in models)
    samples, scale = _sample_arrays(posteriors, kept, width, encoding, schema)
    configs = tuple(sorted({p.config for p in posteriors}))
    versions = tuple(sorted({_json(p.versions) for p in posteriors}))
    rows = [_row(p, k.size, configs, versions, models, schema) for p, k in zip(posteriors, kept, strict=True)]
    summary = _structured(rows, schema)
    summary["HPIX_64"] = healpix64(summary["RA"], summary["DEC"])
    return Block(summary, samples, scale, configs, versions, models)


def to_posteriors(block: Block) -> list[Posterior]:
    """Turn catalog rows back into posteriors, in row order.

    Raises
    ------
    DataFileError
        For a STATUS code that this version does not know.
    """
    values = {column: block.values(column) for column in block.samples}
    log_prob = block.values(LOG_PROB)
    schemas = [Schema.from_json(m) for m in block.models]
    return [_posterior(block, schemas, i, {k: v[i] for k, v in values.items()}, log_prob[i]) for i in range(len(block))]


def _check(posterior: Posterior) -> None:
    """Refuse samples that do not fit together, naming the galaxy."""
    n, who = posterior.samples.shape[0], f"TARGETID {posterior.targetid}"
    if posterior.samples.ndim != 2:
        raise InputError(f"{who}: samples have shape {posterior.samples.shape}, expected two axes")
    posterior.parameters.check(posterior.samples, f"{who}: sample array")
    lengths = {LOG_PROB: posterior.log_prob.size, **{k: v.size for k, v in posterior.derived.items()}}
    for what, length in lengths.items():
        if length != n:
            raise InputError(f"{who}: {what} has {length} entries for {n} samples")
    if not 0 <= posterior.seed < 2**63:
        raise InputError(f"{who}: seed {posterior.seed} is outside 0 .. 2^63 - 1")
    described = {p.name for p in posterior.properties}
    if n and (odd := sorted(described ^ posterior.derived.keys())):
        lack = "no draws" if odd[0] in described else "no description"
        raise InputError(f"{who}: derived property {odd[0]!r} has {lack}; `derived` and `properties` must agree")


def _sample_arrays(
    posteriors: list[Posterior], kept: list[NDArray[np.int64]], width: int, encoding: Encoding, schema: Schema
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Thinned, padded and encoded samples per column, and the scales of the codes."""
    samples: dict[str, Any] = {}
    scale: dict[str, NDArray[np.float32]] = {}
    for name, column in (*schema.column_of.items(), ("", LOG_PROB)):
        values = np.full((len(posteriors), width), np.nan)
        for i, (posterior, keep) in enumerate(zip(posteriors, kept, strict=True)):
            if column == LOG_PROB:
                draws = posterior.log_prob
            elif name in posterior.parameters or name in posterior.derived:
                draws = posterior[name]
            else:
                draws = np.full(posterior.samples.shape[0], np.nan)
            values[i, : keep.size] = draws[keep]
        if encoding == "uint16":
            samples[column], scale[column] = quantise(values)
        else:
            samples[column] = values.astype(np.float32)
    return samples, scale


def _row(
    posterior: Posterior,
    n_kept: int,
    configs: tuple[str, ...],
    versions: tuple[str, ...],
    models: tuple[str, ...],
    schema: Schema,
) -> dict[str, Any]:
    """One summary row as a dictionary; columns left out are filled with their unknown value."""
    p, d = posterior, posterior.diagnostics
    row: dict[str, Any] = {
        "TARGETID": p.targetid, "RA": p.ra, "DEC": p.dec, "Z": p.redshift, "ZERR": p.zerr, "STATUS": int(p.status),
        "RHAT_MAX": d.rhat_max, "ESS_MIN": d.ess_min, "N_EVAL": d.n_eval, "N_DIVERGENT": d.n_divergent,
        "LOG_EVIDENCE": d.log_evidence, "ENGINE_DLNL": d.engine_dlnl, "LOG_EVIDENCE_SPREAD": d.evidence_spread,
        "VDISP_FIXED": d.vdisp_fixed,
        "RUNTIME_S": d.runtime_s, "CHI2_SPEC": p.chi2_spec, "CHI2_PHOT": p.chi2_phot,
        "DOF_SPEC": p.dof_spec, "DOF_PHOT": p.dof_phot, "N_DRAWS": p.samples.shape[0], "N_SAMPLES": n_kept,
        "SAMPLER": d.sampler, "SEED": p.seed, "DATA_HASH": p.data_hash, "MESSAGE": p.message,
        "CONFIG_ID": configs.index(p.config), "VERSIONS_ID": versions.index(_json(p.versions)),
        "MODEL_ID": models.index(_model(p)) if len(p.samples) else -1,
    }  # fmt: skip
    edge = [p.prior_edge.get(n, float("nan")) for n in p.parameters.names]
    # a 64-bit integer has 63 bits; parameters beyond them have their EDGE columns alone
    row["PRIOR_EDGE"] = sum(1 << k for k, fraction in enumerate(edge[:63]) if fraction > EDGE_FRACTION)
    row |= _quality_columns(p)
    best = p.best
    for quantity in p.quantities if len(p.samples) else ():
        name, column = quantity.name, quantity.column
        quantiles = p.quantiles(name, tuple(QUANTILES.values()))
        row.update({f"{column}_{s}": q for s, q in zip(QUANTILES, quantiles, strict=True)})
        row[f"{column}_BF"] = best.get(name, np.nan)
        for suffix, table in (("RHAT", d.rhat), ("ESS_BULK", d.ess_bulk), ("ESS_TAIL", d.ess_tail)):
            row[f"{column}_{suffix}"] = table.get(name, np.nan)
        if name in p.prior_edge:
            row[f"{column}_EDGE"] = p.prior_edge[name]
    for measured in p.measured_quantities:
        numbers = p.measured[measured.name].tolist()
        row |= {measured.column + s: v for s, v in zip(measured.suffixes, numbers, strict=True)}
    promoted = {c.name: p.meta[c.name] for c in schema.survey_columns if _fits(c.dtype, p.meta.get(c.name))}
    row.update(promoted)
    row["META"] = _json({k: v for k, v in p.meta.items() if k not in promoted})
    return row


def _quality_columns(posterior: Posterior) -> dict[str, Any]:
    """FLAG, the numbers of `Quality`, and the pixels that were masked."""
    quality = posterior.quality
    numbers = {c.name: getattr(quality, c.name.lower()) for c in FIT_QUALITY if hasattr(quality, c.name.lower())}
    clipped = " ".join(f"{w:.1f}" for w in quality.clipped[:MOST_CLIPPED])
    return numbers | {"FLAG": int(flags_of(posterior)), "N_CLIPPED": quality.clipped.size, "CLIPPED": clipped}


def _quality(row: np.void) -> Quality:
    """Inverse of `_quality_columns`."""
    names = {f.name for f in fields(Quality)} - {"clipped"}
    clipped = np.array(_plain(row["CLIPPED"]).split(), dtype=np.float64)
    return Quality(**{name: float(row[name.upper()]) for name in names}, clipped=clipped)


def _fits(dtype: str, value: Any) -> bool:
    """Whether a value of `Posterior.meta` can stand in a survey column of this type."""
    if value is None:
        return False
    if dtype == "S":
        return isinstance(value, str)
    return isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)) and not (
        dtype.startswith("i") and not np.isfinite(value)
    )


def _structured(rows: list[dict[str, Any]], schema: Schema) -> NDArray[np.void]:
    """Rows as a structured array: text as wide as it must be, unknown NaN, -1 or empty, no infinities."""
    fields: list[tuple[str, str]] = []
    data: dict[str, NDArray[Any]] = {}
    for column in schema.columns:
        if column.dtype == "S":
            values = np.array([str(r.get(column.name, "")).encode() or b"" for r in rows])
            fields.append((column.name, f"S{max(1, values.dtype.itemsize)}"))
        else:
            unknown = np.nan if column.dtype.startswith("f") else -1
            values = np.array([r.get(column.name, unknown) for r in rows])
            if column.dtype.startswith("f"):
                values = np.where(np.isfinite(values.astype(float)), values.astype(float), np.nan)
            fields.append((column.name, column.dtype))
        data[column.name] = values
    table = np.zeros(len(rows), dtype=np.dtype(fields))
    for name, values in data.items():
        table[name] = values
    return table


def _json(value: dict[str, Any]) -> str:
    """Canonical JSON of a dictionary; numpy scalars become plain ones, anything else its text."""

    def plain(x: Any) -> Any:
        return x.item() if isinstance(x, np.generic) else str(x)

    return json.dumps(value, sort_keys=True, default=plain)


def _model(posterior: Posterior) -> str:
    """Schema of a posterior's quantities, JSON."""
    try:
        described = dict(posterior.meta.get(SURVEY_COLUMNS, {}))
        known = {c.name for c in SURVEY}
        survey = tuple(survey_column(name, **about) for name, about in described.items() if name not in known)
    except (TypeError, ValueError) as error:
        raise InputError(f"TARGETID {posterior.targetid}: {SURVEY_COLUMNS} of its reader: {error}") from None
    return _schema_text(posterior.parameters, posterior.properties, survey, posterior.measured_quantities)


@lru_cache(maxsize=64)
def _schema_text(
    parameters: ParameterSet,
    properties: tuple[DerivedProperty, ...],
    survey: tuple[Column, ...],
    measured: tuple[Measured, ...],
) -> str:
    """JSON of a schema: thousands of rows share one."""
    return Schema(tuple(parameters), properties, survey, measured).to_json()


def _posterior(
    block: Block, schemas: list[Schema], i: int, values: dict[str, NDArray[np.float64]], log_prob: NDArray[np.float64]
) -> Posterior:
    """One row as a posterior."""
    row = block.summary[i]
    schema = schemas[row["MODEL_ID"]] if row["MODEL_ID"] >= 0 else Schema(tuple(PARAMETERS), PROPERTIES)
    n = int(row["N_SAMPLES"])
    try:
        status = Status(int(row["STATUS"]))
    except ValueError:
        raise DataFileError(
            f"TARGETID {row['TARGETID']} has STATUS {row['STATUS']}, unknown to this version; upgrade provabgs"
        ) from None
    survey = block.schema.survey_columns
    meta = {c.name: _plain(row[c.name]) for c in survey if not _unknown(row[c.name])}
    return Posterior(
        targetid=int(row["TARGETID"]),
        redshift=float(row["Z"]),
        status=status,
        message=_plain(row["MESSAGE"]),
        parameters=ParameterSet(schema.parameters),
        properties=schema.properties,
        samples=np.stack([values[p.column][:n] if n else np.empty(0) for p in schema.parameters], axis=1),
        log_prob=log_prob[:n],
        derived={p.name: values[p.column][:n] if n else np.empty(0) for p in schema.properties},
        best_fit=np.array([_number(row, f"{p.column}_BF") for p in schema.parameters]),
        best_fit_derived=_named(row, schema.properties, "BF"),
        diagnostics=_diagnostics(row, schema),
        chi2_spec=float(row["CHI2_SPEC"]),
        chi2_phot=float(row["CHI2_PHOT"]),
        dof_spec=int(row["DOF_SPEC"]),
        dof_phot=int(row["DOF_PHOT"]),
        prior_edge=_named(row, schema.parameters, "EDGE"),
        quality=_quality(row),
        measured_quantities=schema.measured,
        measured={q.name: np.array([_number(row, q.column + s) for s in q.suffixes]) for q in schema.measured},
        ra=float(row["RA"]),
        dec=float(row["DEC"]),
        zerr=float(row["ZERR"]),
        meta={**json.loads(_plain(row["META"]) or "{}"), **meta},
        seed=int(row["SEED"]),
        config=block.configs[int(row["CONFIG_ID"])],
        versions=json.loads(block.versions[int(row["VERSIONS_ID"])]),
        data_hash=_plain(row["DATA_HASH"]),
    )


def _diagnostics(row: np.void, schema: Schema) -> Diagnostics:
    """Diagnostics of one row; quantities without a finite value are left out."""
    quantities = schema.quantities
    return Diagnostics(
        rhat=_named(row, quantities, "RHAT"),
        ess_bulk=_named(row, quantities, "ESS_BULK"),
        ess_tail=_named(row, quantities, "ESS_TAIL"),
        n_eval=int(row["N_EVAL"]),
        n_divergent=int(row["N_DIVERGENT"]),
        runtime_s=float(row["RUNTIME_S"]),
        sampler=_plain(row["SAMPLER"]),
        log_evidence=float(row["LOG_EVIDENCE"]),
        engine_dlnl=float(row["ENGINE_DLNL"]),
        evidence_spread=float(row["LOG_EVIDENCE_SPREAD"]),
        vdisp_fixed=float(row["VDISP_FIXED"]),
    )


def _number(row: np.void, column: str) -> float:
    """An entry of a row, NaN where the row has no such column."""
    return float(row[column]) if column in (row.dtype.names or ()) else float("nan")


def _named(row: np.void, quantities: Sequence[Quantity], suffix: str) -> dict[str, float]:
    """Finite entries of a family of columns, by Python name."""
    values = {q.name: _number(row, f"{q.column}_{suffix}") for q in quantities}
    return {name: v for name, v in values.items() if np.isfinite(v)}


def _plain(value: Any) -> Any:
    """A numpy scalar as plain Python, bytes as text."""
    return value.decode() if isinstance(value, bytes) else value.item()


def _unknown(value: Any) -> bool:
    """Whether a survey entry is the filler of its type."""
    if isinstance(value, bytes):
        return value == b""
    return bool(np.isnan(value)) if np.issubdtype(type(value), np.floating) else bool(value == -1)
