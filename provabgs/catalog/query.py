"""Open a catalog of posteriors and ask it questions; everything is lazy and may be larger than memory.

>>> catalog = Catalog.open("run/")                                        # doctest: +SKIP
>>> massive = catalog.select("LOGMSTAR_P50 > 11 and Z < 0.2").cone(150.1, 2.2, 1.0)  # doctest: +SKIP
>>> massive.probability("LOGMSTAR > 11 and SFR_1GYR < 0.1")               # doctest: +SKIP
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy import units as u
from astropy.table import Table
from astropy_healpix import HEALPix
from numpy.typing import ArrayLike, NDArray

from provabgs.catalog import expression
from provabgs.catalog.columns import LOG_PROB, Schema
from provabgs.catalog.layout import SUMMARY_NAME, shard_paths
from provabgs.catalog.models import Kind, ModelSpectrum, model_spectrum, posteriors_at
from provabgs.catalog.names import sample_names, summary_sql
from provabgs.catalog.records import NSIDE
from provabgs.catalog.samples import Places, SampleChunk, read_chunks
from provabgs.catalog.shard import read_summary
from provabgs.catalog.summary import FORMAT, SHARDS, to_arrow
from provabgs.catalog.tables import from_arrow, join_rows
from provabgs.core.errors import DataFileError, InputError
from provabgs.core.messages import first_line
from provabgs.inference.posterior import Posterior

_BASE = "galaxies"


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
    _connection: duckdb.DuckDBPyConnection
    _conditions: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: str | Path) -> Catalog:
        """Open a catalog directory, its ``summary.parquet``, or a single posterior file.

        Reads the summary's footer only, whatever the number of galaxies.

        Raises
        ------
        DataFileError
            When there is no summary, it is damaged, or another version wrote it.
        """
        path = Path(path)
        if path.suffix == ".h5":
            return cls._open_shard(path)
        summary = path / SUMMARY_NAME if path.is_dir() else path
        if not summary.is_file():
            hint = "; its shards are there: `provabgs run` on it finishes it" if shard_paths(path) else ""
            raise DataFileError(f"{summary}: no catalog here{hint}")
        try:
            footer = pq.read_schema(summary)
            pairs = (pq.read_metadata(summary).metadata or {}).items()
            metadata = {k.decode(): v.decode() for k, v in pairs if k.startswith(b"provabgs:")}
        except (pa.ArrowInvalid, OSError) as error:
            raise DataFileError(f"{summary}: truncated or not Parquet ({first_line(error)})") from None
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
        connection = _connect(summary.parent)
        connection.execute(f"CREATE VIEW {_BASE} AS SELECT * FROM read_parquet('{_sql_text(str(summary.resolve()))}')")
        _lock(connection)
        return cls(summary.parent, tuple(footer.names), metadata, schema, shards, connection)

    @classmethod
    def _open_shard(cls, path: Path) -> Catalog:
        """Open one posterior file; its summary is small enough to hold."""
        shard = read_summary(path)
        table = to_arrow(shard.rows, path.name, shard.schema)
        connection = _connect(path.parent)
        connection.register(_BASE, table)
        _lock(connection)
        metadata = {
            "provabgs:format": FORMAT,
            "provabgs:n_galaxies": str(table.num_rows),
            "provabgs:configs": json.dumps(shard.configs),
            "provabgs:versions": json.dumps(shard.versions),
            "provabgs:schema": shard.schema.to_json(),
            SHARDS: json.dumps(shards := {path.name: str(shard.attrs["sha256"])}),
        }
        return cls(path.parent, tuple(table.column_names), metadata, shard.schema, shards, connection)

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database connection; selections made from this catalog end with it."""
        self._connection.close()

    def __len__(self) -> int:
        return int(self._fetch("count(*)").to_pydict()["n"][0])

    # -- choosing galaxies ------------------------------------------------------------------------------------------

    def select(self, query: str) -> Catalog:
        """Galaxies for which a query on the summary is true, for example ``"LOGMSTAR_P50 > 10 and Z < 0.2"``.

        Raises
        ------
        InputError
            For an unknown column (with the closest ones) or anything outside the query language.
        """
        tree = expression.parse(query)
        table = summary_sql(list(self.columns))
        used = expression.names(tree)
        for name in used:
            if name not in table and name in self._sample_names:
                raise InputError(
                    f"{name!r} is a column of samples; here use {name}_P16, {name}_P50 or {name}_P84, or ask for "
                    f"probability({query!r})"
                )
        expression.check_names(used, table, "in the summary")
        return replace(self, _conditions=(*self._conditions, expression.to_sql(tree, table)))

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
        a, d = np.radians([ra, dec])
        x, y, z = (float(v) for v in (np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)))
        # half the chord keeps its precision at arcsecond radii, where a cosine would not
        sky = 'cos(radians("DEC"))'
        chord = (
            f'(pow({sky} * cos(radians("RA")) - ({x!r}), 2) + pow({sky} * sin(radians("RA")) - ({y!r}), 2)'
            f' + pow(sin(radians("DEC")) - ({z!r}), 2))'
        )
        limit = (2 * np.sin(np.radians(radius) / 2)) ** 2
        conditions = [f"{chord} <= {float(limit)!r}"]
        if radius < 30:
            grid = HEALPix(nside=NSIDE, order="nested")
            pixels = np.unique(grid.cone_search_lonlat(ra * u.deg, dec * u.deg, radius=(radius + 1.0) * u.deg))
            conditions.insert(0, f'"HPIX_64" IN ({", ".join(str(int(p)) for p in pixels)})')
        return replace(self, _conditions=(*self._conditions, *conditions))

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
        return from_arrow(self.arrow(columns, limit=limit), self.schema.by_name)

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
        return self._fetch(self._column_sql(columns), limit=limit)

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
        relation: Any = self._connection.sql(self._sql(self._column_sql(columns)))
        # DuckDB 2 renamed the method
        make = relation.to_arrow_reader if hasattr(relation, "to_arrow_reader") else relation.fetch_arrow_reader
        yield from make(rows)

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
            When the table has no TARGETID column, or for an unknown column.
        """
        if "TARGETID" not in table.colnames:
            raise InputError(f"the table has no TARGETID column (it has {', '.join(table.colnames[:8])} ...)")
        wanted = list(columns) if columns is not None else list(self.columns)
        found = self._match(np.asarray(table["TARGETID"], dtype=np.int64), [c for c in wanted if c != "TARGETID"])
        return join_rows(table, found, self.schema.by_name)

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
            For an unknown name, and for a TARGETID that is not among the chosen galaxies.
        """
        expression.check_names(names, self._sample_names, "among the samples")
        located = self._locate(targetids)
        out: dict[str, NDArray[np.float64]] = {}
        for chunk in self._chunks(located, list(names)):
            for name, values in chunk.values.items():
                # shards may keep different numbers of draws: the table is as wide as the widest
                width = max(values.shape[1], out[name].shape[1] if name in out else 0)
                out[name] = _widen(out.get(name), len(located["TARGETID"]), width)
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
        located = self._locate(None, extra=[n for n in used if n not in drawn])
        n_samples = np.asarray(located["N_SAMPLES"])
        result = np.full(n_samples.size, np.nan)
        for chunk in self._chunks(located, drawn or [LOG_PROB]):
            scalars = {n: np.asarray(located[n])[chunk.positions, None] for n in used if n not in drawn}
            width = next(iter(chunk.values.values())).shape[1]
            true = np.broadcast_to(
                expression.evaluate(tree, {**chunk.values, **scalars}), (chunk.positions.size, width)
            )
            n = n_samples[chunk.positions]
            # padding is NaN, for which a comparison is false but its negation true
            kept = np.arange(width)[None, :] < n[:, None]
            result[chunk.positions] = np.where(n > 0, (true & kept).sum(axis=1) / np.maximum(n, 1), np.nan)
        return Table({"TARGETID": located["TARGETID"], "PROBABILITY": result, "N_SAMPLES": n_samples})

    @property
    def _sample_names(self) -> list[str]:
        """Names usable on samples."""
        return sample_names(self.schema)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _sql(self, what: str, tail: str = "") -> str:
        where = f" WHERE {' AND '.join(f'({c})' for c in self._conditions)}" if self._conditions else ""
        return f"SELECT {what} FROM {_BASE}{where}{tail}"

    def _fetch(self, what: str, *, limit: int | None = None) -> pa.Table:
        what = "count(*) AS n" if what == "count(*)" else what
        tail = f" LIMIT {int(limit)}" if limit is not None else ""
        try:
            return self._connection.sql(self._sql(what, tail)).to_arrow_table()
        except duckdb.Error as error:
            raise InputError(f"the query failed: {first_line(error)}") from None

    def _column_sql(self, columns: Sequence[str] | None) -> str:
        if columns is None:
            return "*"
        table = summary_sql(list(self.columns))
        expression.check_names(columns, table, "in the summary")
        return ", ".join(f'{table[c]} AS "{c}"' for c in columns)

    def _locate(self, targetids: ArrayLike | None, extra: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """TARGETID, shard, row and number of samples of the chosen galaxies, or of given ones in their order."""
        wanted = list(dict.fromkeys(["SHARD", "SHARD_ROW", "N_SAMPLES", *extra]))
        if targetids is None:
            found = self._fetch(self._column_sql(["TARGETID", *(w for w in wanted if w != "TARGETID")]))
            return {c: _numpy(found[c]) for c in found.column_names}
        ids = np.atleast_1d(np.asarray(targetids, dtype=np.int64))
        matched = self._match(ids, [w for w in wanted if w != "TARGETID"])
        position = matched["POSITION"].to_numpy()
        missing = np.setdiff1d(np.arange(ids.size), position)
        if missing.size:
            raise InputError(
                f"TARGETID {ids[missing[0]]} is not in this catalog or selection ({missing.size} of {ids.size} are not)"
            )
        return {"TARGETID": ids[position], **{c: _numpy(matched[c]) for c in wanted}}

    def _match(self, ids: NDArray[np.int64], columns: list[str]) -> pa.Table:
        """Rows of the selection with the given TARGETIDs: POSITION in `ids`, then columns, ordered by position."""
        table = summary_sql(list(self.columns))
        expression.check_names(columns, table, "in the summary")
        cursor = self._connection.cursor()
        cursor.register("wanted", pa.table({"TARGETID": ids, "POSITION": np.arange(ids.size)}))
        picked = "".join(f', {table[c]} AS "{c}"' for c in columns)
        inner = self._sql(f'"TARGETID" AS ID{picked}, "SHARD" AS S_, "SHARD_ROW" AS R_')
        outer = "".join(f', s."{c}"' for c in columns)
        return cursor.sql(
            f"SELECT wanted.POSITION{outer} FROM ({inner}) s JOIN wanted ON s.ID = wanted.TARGETID "
            "ORDER BY wanted.POSITION, s.S_, s.R_"
        ).to_arrow_table()

    def _chunks(self, located: dict[str, NDArray[Any]], names: list[str]) -> Iterator[SampleChunk]:
        rows = located["SHARD_ROW"].astype(np.int64)
        places = Places(located["SHARD"], rows, located["TARGETID"])
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


def _connect(directory: Path) -> duckdb.DuckDBPyConnection:
    """A database connection that may read the catalog's directory and nothing else, and downloads nothing."""
    connection = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    connection.execute(f"SET allowed_directories = ['{_sql_text(str(directory.resolve()))}/']")
    return connection


def _lock(connection: duckdb.DuckDBPyConnection) -> None:
    """Close the file system beyond the allowed directory, and the settings themselves."""
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _sql_text(text: str) -> str:
    return text.replace("'", "''")


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """Arrow to numpy: null becomes NaN, text an object array."""
    if pa.types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return column.to_numpy()


def _widen(array: NDArray[np.float64] | None, n: int, width: int) -> NDArray[np.float64]:
    """An ``(n, width)`` array of NaN that holds `array` in its first columns."""
    if array is not None and array.shape[1] == width:
        return array
    wide = np.full((n, width), np.nan)
    if array is not None:
        wide[:, : array.shape[1]] = array
    return wide
