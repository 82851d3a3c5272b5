"""Open a catalog of posteriors and ask it questions; everything is lazy and may be larger than memory.

>>> catalog = Catalog.open("run/")                                        # doctest: +SKIP
>>> massive = catalog.select("LOGMSTAR_P50 > 11 and Z < 0.2").cone(150.1, 2.2, 1.0)  # doctest: +SKIP
>>> massive.probability("LOGMSTAR > 11 and SFR_1GYR < 0.1")               # doctest: +SKIP
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from provabgs.catalog import expression, tables
from provabgs.catalog.columns import LOG_PROB, Schema, union
from provabgs.catalog.evaluate import Numbers, Value, at, from_arrow, number, truth
from provabgs.catalog.hats_layout import INDEX_ORDER
from provabgs.catalog.hats_reader import HatsReader, is_hats
from provabgs.catalog.layout import SUMMARY_NAME, shard_paths
from provabgs.catalog.models import Kind, ModelSpectrum, model_spectrum, posteriors_at
from provabgs.catalog.names import sample_names, summary_formulas
from provabgs.catalog.samples import Places, SampleChunk, read_chunks
from provabgs.catalog.seal import Seal
from provabgs.catalog.shard import read_summary
from provabgs.catalog.sky import PIXEL, cone_condition, pixel_condition
from provabgs.catalog.summary import ARROW_TYPES, FORMAT, SHARDS, to_arrow
from provabgs.catalog.summary_reader import Condition, SummaryReader, one_of
from provabgs.catalog.tables import to_numpy, widen
from provabgs.core.errors import DataFileError, InputError
from provabgs.core.identity import exact_ids
from provabgs.inference.posterior import Posterior

_PLACE = ("TARGETID", "SHARD", "SHARD_ROW")


@dataclass(frozen=True, eq=False)
class Catalog:
    """A catalog, or the part of one that `select` and `cone` left; nothing is read before it is asked for.

    Attributes
    ----------
    root
        Directory that shard names are relative to.
    columns
        Columns of the summary.
    metadata
        Versions, configurations and counts written with the summary.
    schema
        Parameters and derived properties of which the catalog holds draws.
    shards
        SHA-256 of each shard by its name: those that the summary was built from.
    """

    root: Path
    columns: tuple[str, ...]
    metadata: dict[str, str]
    schema: Schema
    shards: Mapping[str, str]
    _reader: SummaryReader
    _conditions: tuple[Condition, ...] = ()

    @classmethod
    def open(cls, path: str | Path) -> Catalog:
        """Open a catalog directory, its ``summary.parquet``, a single posterior file, or a HATS export (also by URL).

        Reads the summary's footer only, whatever the number of galaxies.

        Raises
        ------
        DataFileError
            When there is no summary, it is damaged, or another version wrote it.
        """
        if is_hats(path):
            return cls._described(HatsReader(path), path)
        path = Path(path)
        if path.suffix == ".h5":
            return cls.open_files([path])
        summary = path / SUMMARY_NAME if path.is_dir() else path
        if not summary.is_file():
            hint = "; its shards are there: `provabgs run` on it finishes it" if shard_paths(path) else ""
            raise DataFileError(f"{summary}: no catalog here{hint}")
        seal = Seal(summary)
        return cls._described(SummaryReader(seal.schema, seal, seal.texts), summary)

    @classmethod
    def _described(cls, reader: SummaryReader, summary: str | Path) -> Catalog:
        """A catalog from the metadata of its summary."""
        metadata = {k: v for k, v in reader.texts.items() if k.startswith("provabgs:")}
        found = metadata.get("provabgs:format")
        if found != FORMAT:
            raise DataFileError(
                f"{summary}: format is {found!r}, this version reads {FORMAT!r}; build the summary again "
                "(`provabgs run` on its directory) or use the provabgs that wrote it"
            )
        try:
            schema = Schema.from_json(metadata.get("provabgs:schema", ""))
            shards = _shards(metadata)
        except DataFileError as error:
            raise DataFileError(f"{summary}: {error}; build the summary again (`provabgs run`)") from None
        if odd := [f.name for f in reader.schema if not f.name.isidentifier() or f.type not in ARROW_TYPES.values()]:
            raise DataFileError(f"{summary}: column {odd[0]!r} is none of ours; build the summary again")
        root = Path(summary) if isinstance(reader, HatsReader) else Path(summary).parent
        return cls(root, tuple(reader.schema.names), metadata, schema, shards, reader)

    @classmethod
    def open_files(cls, paths: Sequence[str | Path]) -> Catalog:
        """Open several posterior files as one catalog; their summaries are held in memory.

        Raises
        ------
        InputError
            For no file at all.
        DataFileError
            When one is no posterior file or is damaged, or when two files have different quantities in one column.
        """
        files = list(dict.fromkeys(Path(p) if len(paths) == 1 else Path(p).resolve() for p in paths))
        if not files:
            raise InputError("no posterior file was given")
        read = [read_summary(p) for p in files]
        root = files[0].parent if len(files) == 1 else Path(os.path.commonpath([p.parent for p in files]))
        names = [p.relative_to(root).as_posix() for p in files]
        schema = union(s.schema for s in read)
        table = pa.concat_tables([to_arrow(s.rows, name, schema) for s, name in zip(read, names, strict=True)])
        metadata = {
            "provabgs:format": FORMAT,
            "provabgs:n_galaxies": str(table.num_rows),
            "provabgs:configs": json.dumps(list(dict.fromkeys(c for s in read for c in s.configs))),
            "provabgs:versions": json.dumps(list(dict.fromkeys(v for s in read for v in s.versions))),
            "provabgs:schema": schema.to_json(),
            SHARDS: json.dumps(shards := {n: str(s.attrs["sha256"]) for n, s in zip(names, read, strict=True)}),
        }
        reader = SummaryReader(table.schema, table, metadata)
        return cls(root, tuple(table.column_names), metadata, schema, shards, reader)

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing stays open between questions: a catalog may also be used without ``with``."""

    @property
    def files(self) -> list[Path]:
        """Files that answers are read from."""
        if isinstance(self._reader, HatsReader):
            return self._reader.files
        shards = [self.root / name for name in self.shards]
        return shards if self._reader.path is None else [self._reader.path, *shards]

    def require_shards(self) -> None:
        """Raise InputError for a HATS export, which has draws but no posteriors."""
        if isinstance(self._reader, HatsReader):
            raise InputError(f"{self.root}: a HATS export holds no posteriors; ask the catalog that it was made from")

    def __len__(self) -> int:
        return self._reader.count(self._conditions)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from provabgs.catalog.notebook import catalog_html

        return catalog_html(self)

    # -- choosing galaxies ------------------------------------------------------------------------------------------

    def select(self, query: str) -> Catalog:
        """Galaxies for which a query on the summary is true, for example ``"LOGMSTAR_P50 > 10 and Z < 0.2"``.

        Raises
        ------
        InputError
            For an unknown column (with the closest ones) or anything outside the query language.
        """
        tree = expression.parse(query)
        formulas = self._formulas
        known = [*self.columns, *formulas]
        used = expression.names(tree)
        for name in used:
            if name not in known and name in self._sample_names:
                raise InputError(
                    f"{name!r} is a column of samples; here use {name}_P16, {name}_P50 or {name}_P84, or ask for "
                    f"probability({query!r})"
                )
        expression.check_names(used, known, "in the summary")
        computed = {n: expression.parse(formulas[n]) for n in used if n in formulas}
        stored = tuple(dict.fromkeys(n for u in used for n in _stored(u, formulas)))

        def chosen(values: Mapping[str, Value]) -> NDArray[np.bool_]:
            return truth(tree, {**values, **{n: number(t, values) for n, t in computed.items()}}, query)

        # asked of no rows first, so that a query without sense is refused at once
        chosen(self._reader.values(stored))
        return self._with(Condition(stored, chosen))

    def cone(self, ra: float, dec: float, radius: float) -> Catalog:
        """Galaxies within a circle on the sky.

        Parameters
        ----------
        ra, dec
            Centre, degrees.
        radius
            Degrees.

        Returns
        -------
        Catalog
            A narrower selection.

        Raises
        ------
        InputError
            For a position or radius that is not on the sky.
        """
        if not (np.isfinite([ra, dec, radius]).all() and abs(dec) <= 90 and 0 < radius <= 180):
            raise InputError(f"cone({ra}, {dec}, {radius}): need finite degrees, |dec| <= 90, 0 < radius <= 180")
        expression.check_names(("RA", "DEC", PIXEL), self.columns, "in the summary")
        return self._with(cone_condition(ra, dec, radius))

    def pixel(self, order: int, number: int) -> Catalog:
        """Galaxies within a HEALPix pixel.

        Parameters
        ----------
        order
            From 0 to 29; 6 for nside 64.
        number
            Nested.

        Returns
        -------
        Catalog
            A narrower selection.

        Raises
        ------
        InputError
            For a pixel that there is not.
        """
        if not (0 <= order <= INDEX_ORDER and 0 <= number < 12 << 2 * order):
            raise InputError(f"pixel({order}, {number}): need an order from 0 to 29 and one of its 12 * 4^order pixels")
        expression.check_names(("RA", "DEC", PIXEL), self.columns, "in the summary")
        return self._with(pixel_condition(order, number))

    # -- reading ----------------------------------------------------------------------------------------------------

    def table(self, columns: Sequence[str] | None = None, *, limit: int | None = None) -> Table:
        """The chosen galaxies' summary rows as an astropy Table with units.

        Parameters
        ----------
        columns
            Columns wanted; all when None.
        limit
            Largest number of rows; all when None.

        Returns
        -------
        Table
            One row per galaxy.

        Raises
        ------
        InputError
            For an unknown column.
        """
        return tables.from_arrow(self.arrow(columns, limit=limit), self.schema.by_name)

    def arrow(self, columns: Sequence[str] | None = None, *, limit: int | None = None) -> pa.Table:
        """The chosen galaxies' summary rows as an Arrow table, which pandas, polars and DuckDB take over as it is.

        Parameters
        ----------
        columns
            Columns wanted; all when None.
        limit
            Largest number of rows; all when None.

        Returns
        -------
        pa.Table
            One row per galaxy.

        Raises
        ------
        InputError
            For an unknown column.
        """
        if limit is not None and limit < 0:
            raise InputError(f"limit is {limit}; give a number of rows from 0")
        found, n_rows = [], 0
        for piece in self._pieces(columns, with_empty=True):
            if limit is not None and n_rows + piece.num_rows > limit:
                piece = piece.slice(0, limit - n_rows)
            found.append(piece)
            n_rows += piece.num_rows
            if limit is not None and n_rows >= limit:
                break
        return pa.concat_tables(found)

    def batches(self, columns: Sequence[str] | None = None, *, rows: int = 100_000) -> Iterator[pa.RecordBatch]:
        """The chosen galaxies' summary rows in pieces, for tables larger than memory.

        Parameters
        ----------
        columns
            Columns wanted; all when None.
        rows
            Largest number of rows per piece.

        Yields
        ------
        pa.RecordBatch
            Consecutive rows.

        Raises
        ------
        InputError
            For an unknown column.
        """
        for piece in self._pieces(columns):
            yield from piece.combine_chunks().to_batches(max_chunksize=rows)

    def join(self, table: Table, columns: Sequence[str] | None = None) -> Table:
        """Rows of an astropy Table that have a TARGETID among the chosen galaxies, with the catalog's columns added.

        Columns that both have get the suffix ``_PROVABGS``. Rows keep the table's order; a TARGETID that the catalog
        holds several times repeats its row.

        Parameters
        ----------
        table
            With a TARGETID column.
        columns
            Catalog columns to add; all when None.

        Returns
        -------
        Table
            Rows of `table` that have a match.

        Raises
        ------
        InputError
            When the table has no TARGETID column, for TARGETIDs that are no integers, or for an unknown column.
        """
        if "TARGETID" not in table.colnames:
            raise InputError(f"the table has no TARGETID column (it has {', '.join(table.colnames[:8])} ...)")
        wanted = list(columns) if columns is not None else list(self.columns)
        found = self._match(exact_ids(table["TARGETID"]), [c for c in wanted if c != "TARGETID"])
        return tables.join_rows(table, found, self.schema.by_name)

    def samples(self, targetids: ArrayLike | None = None, names: Sequence[str] = ("LOGMSTAR",)) -> Table:
        """Posterior draws of the chosen galaxies.

        Parameters
        ----------
        targetids
            Galaxies, in the order wanted; None for all chosen ones.
        names
            Sample columns or computed ones such as SFR_1GYR; see `provabgs.catalog.names.sample_names`.

        Returns
        -------
        Table
            TARGETID and one ``(n, S)`` column per name, NaN past a galaxy's draws.

        Raises
        ------
        InputError
            For an unknown name, and for a TARGETID that is no integer or not among the chosen galaxies.
        """
        expression.check_names(names, self._sample_names, "among the samples")
        located = self._locate(targetids)
        out: dict[str, NDArray[np.float64]] = {}
        for chunk in self._chunks(located, list(names)):
            for name, values in chunk.values.items():
                # shards may keep different numbers of draws: the table is as wide as the widest
                width = max(values.shape[1], out[name].shape[1] if name in out else 0)
                out[name] = widen(out.get(name), len(located["TARGETID"]), width)
                out[name][chunk.positions, : values.shape[1]] = values
        result = Table({"TARGETID": located["TARGETID"]})
        for name in names:
            result[name] = out.get(name, np.empty((0, 0)))
        return result

    def posteriors(self, targetids: ArrayLike | None = None) -> Iterator[Posterior]:
        """Posteriors of the chosen galaxies as a fit returns them, with the draws that the catalog keeps.

        Parameters
        ----------
        targetids
            Galaxies, in the order wanted; None for all chosen ones.

        Yields
        ------
        Posterior
            One after another; memory stays that of one shard where galaxies of a shard follow one another.

        Raises
        ------
        InputError
            For a TARGETID that is not among the chosen galaxies.
        """
        self.require_shards()
        located = self._locate(targetids)
        rows = located["SHARD_ROW"].astype(np.int64)
        yield from posteriors_at(self.root, self.shards, located["SHARD"], rows)

    def spectrum(self, targetid: int, kind: Kind = "rest", draws: int = 100) -> ModelSpectrum:
        """Model spectra of one galaxy, from its stored draws; the data are not needed.

        Parameters
        ----------
        targetid
            Galaxy.
        kind
            ``"rest"`` (Lsun/Angstrom) or ``"observed"`` (1e-17 erg/s/cm2/Angstrom).
        draws
            How many; all stored ones where there are fewer.

        Returns
        -------
        ModelSpectrum
            See `provabgs.catalog.models.ModelSpectrum`.

        Raises
        ------
        InputError
            For another kind, a TARGETID that is not among the chosen galaxies, or one without draws.
        """
        return model_spectrum(next(self.posteriors([targetid])), kind, draws)

    def chunks(self, rows: pa.Table, names: Sequence[str]) -> Iterator[SampleChunk]:
        """Draws of some rows of `arrow`, in pieces that fit in memory.

        Parameters
        ----------
        rows
            With TARGETID, SHARD and SHARD_ROW.
        names
            Sample columns or computed ones.

        Returns
        -------
        iterator of SampleChunk
            Positions among the rows, and ``(n, S)`` draws by name.
        """
        expression.check_names(names, self._sample_names, "among the samples")
        return self._chunks({c: to_numpy(rows[c]) for c in _PLACE}, list(names))

    def iter_samples(self, names: Sequence[str]) -> Iterator[Table]:
        """Draws of all chosen galaxies, one Table per shard, for catalogs whose samples do not fit in memory."""
        expression.check_names(names, self._sample_names, "among the samples")
        located = self._locate(None)
        for chunk in self._chunks(located, list(names)):
            yield Table({"TARGETID": located["TARGETID"][chunk.positions], **chunk.values})

    def probability(self, query: str) -> Table:
        """For each chosen galaxy the fraction of its draws for which a query on samples is true.

        The query may mix samples (LOGMSTAR, SFR_1GYR) and columns of the summary (Z, MAG_R).

        Returns
        -------
        Table
            TARGETID, PROBABILITY (NaN without samples) and N_SAMPLES, whose inverse limits the precision.

        Raises
        ------
        InputError
            For an unknown name or anything outside the query language.
        """
        tree = expression.parse(query)
        used = expression.names(tree)
        known = [*self._sample_names, *self.columns]
        expression.check_names(used, known, "among samples or summary")
        drawn = [n for n in used if n in self._sample_names]
        scalars = [n for n in used if n not in drawn]
        rows = self.arrow([*_PLACE, "N_SAMPLES", *scalars])
        located = {c: to_numpy(rows[c]) for c in (*_PLACE, "N_SAMPLES")}
        values = {n: from_arrow(rows[n]) for n in scalars}
        nothing: dict[str, Value] = {n: Numbers(np.empty((0, 1))) for n in drawn}
        truth(tree, {**nothing, **{n: at(v, np.empty(0, int)) for n, v in values.items()}}, query)
        result = np.full(len(rows), np.nan)
        for chunk in self._chunks(located, drawn or [LOG_PROB]):
            draws: dict[str, Value] = {n: Numbers(v) for n, v in chunk.values.items()}
            width = next(iter(chunk.values.values())).shape[1]
            here = {**draws, **{n: at(v, chunk.positions) for n, v in values.items()}}
            true = np.broadcast_to(truth(tree, here, query), (chunk.positions.size, width))
            n = located["N_SAMPLES"][chunk.positions]
            # padding is no draw, whatever is true of it
            kept = np.arange(width)[None, :] < n[:, None]
            result[chunk.positions] = np.where(n > 0, (true & kept).sum(axis=1) / np.maximum(n, 1), np.nan)
        return Table({"TARGETID": located["TARGETID"], "PROBABILITY": result, "N_SAMPLES": located["N_SAMPLES"]})

    @property
    def _sample_names(self) -> list[str]:
        """Names usable on samples."""
        return sample_names(self.schema)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _with(self, condition: Condition) -> Catalog:
        return replace(self, _conditions=(*self._conditions, condition))

    def _pieces(self, columns: Sequence[str] | None, *, with_empty: bool = False) -> Iterator[pa.Table]:
        """The chosen rows in pieces: stored columns, published names, and powers of ten of stored logarithms."""
        names, formulas = list(dict.fromkeys(self.columns if columns is None else columns)), self._formulas
        expression.check_names(names, [*self.columns, *formulas], "in the summary")
        trees = {n: expression.parse(formulas[n]) for n in names if n in formulas}
        stored = tuple(dict.fromkeys(c for n in names for c in _stored(n, formulas)))
        first = [self._reader.empty(stored)] if with_empty else []
        for piece in chain(first, self._reader.rows(stored, self._conditions)):
            values = {n: from_arrow(piece[n]) for n in stored} if trees else {}
            for name, tree in trees.items():
                piece = piece.append_column(name, pa.array(number(tree, values).values, from_pandas=True))
            yield piece.select(names)

    @property
    def _formulas(self) -> dict[str, str]:
        """Names of the summary that are no columns of it."""
        return summary_formulas(self.columns)

    def _locate(self, targetids: ArrayLike | None) -> dict[str, NDArray[Any]]:
        """TARGETID, shard and row of the chosen galaxies, or of given ones in their order."""
        if targetids is None:
            found = self.arrow(_PLACE)
            return {c: to_numpy(found[c]) for c in _PLACE}
        ids = exact_ids(np.atleast_1d(targetids))
        matched = self._match(ids, ["SHARD", "SHARD_ROW"])
        position = matched["POSITION"].to_numpy()
        missing = np.setdiff1d(np.arange(ids.size), position)
        if missing.size:
            raise InputError(
                f"TARGETID {ids[missing[0]]} is not in this catalog or selection ({missing.size} of {ids.size} are not)"
            )
        return {"TARGETID": ids[position], **{c: to_numpy(matched[c]) for c in ("SHARD", "SHARD_ROW")}}

    def _match(self, ids: NDArray[np.int64], columns: list[str]) -> pa.Table:
        """Rows of the selection with the given TARGETIDs: POSITION in `ids`, then columns, ordered by position."""
        found = self._with(one_of("TARGETID", ids)).arrow(["TARGETID", "SHARD", "SHARD_ROW", *columns])
        found = found.sort_by([("TARGETID", "ascending"), ("SHARD", "ascending"), ("SHARD_ROW", "ascending")])
        held = found["TARGETID"].to_numpy()
        first, last = (np.searchsorted(held, ids, side) for side in ("left", "right"))
        times = last - first  # a catalog of several models may hold a galaxy several times
        position = np.repeat(np.arange(ids.size), times)
        row = np.repeat(first, times) + np.arange(position.size) - np.repeat(np.cumsum(times) - times, times)
        return found.select(columns).take(row).add_column(0, "POSITION", pa.array(position))

    def _chunks(self, located: dict[str, NDArray[Any]], names: list[str]) -> Iterator[SampleChunk]:
        rows = located["SHARD_ROW"].astype(np.int64)
        places = Places(located["SHARD"], rows, located["TARGETID"])
        if isinstance(self._reader, HatsReader):
            return self._reader.chunks(places, names, self.schema)
        return read_chunks(self.root, places, self.shards, names, self.schema)


def _shards(metadata: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 of each shard by its name."""
    try:
        found = json.loads(metadata.get(SHARDS, ""))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DataFileError("has no checksums of shards")
    return {str(name): str(sha256) for name, sha256 in found.items()}


def _stored(name: str, formulas: Mapping[str, str]) -> list[str]:
    """The columns from which a name of the summary is made."""
    return expression.names(expression.parse(formulas[name])) if name in formulas else [name]
