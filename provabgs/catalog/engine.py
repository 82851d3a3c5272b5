"""The database (DuckDB) behind a catalog: it reads one table, verified, and does nothing else."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from provabgs.catalog.evaluate import Value, from_arrow
from provabgs.catalog.seal import Seal
from provabgs.core.errors import InputError
from provabgs.core.messages import first_line

TABLE = "galaxies"
_TYPES: dict[pa.DataType, str] = {
    pa.int8(): "TINYINT", pa.int16(): "SMALLINT", pa.int32(): "INTEGER", pa.int64(): "BIGINT",
    pa.float32(): "FLOAT", pa.float64(): "DOUBLE", pa.string(): "VARCHAR",
}  # fmt: skip


def quoted(name: str) -> str:
    """A column's name in SQL, whatever characters it holds."""
    return '"' + name.replace('"', '""') + '"'


class Engine:
    """One summary, in a file or in memory, as a table that SELECT statements may read.

    Parameters
    ----------
    schema
        Names and types of its columns.
    source
        A sealed Parquet file, or the table itself.
    """

    def __init__(self, schema: pa.Schema, source: Seal | pa.Table) -> None:
        self.schema = schema
        self._seal = source if isinstance(source, Seal) else None
        self._numbers = itertools.count(1)
        self._connection = duckdb.connect(
            config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
        )
        if isinstance(source, Seal):
            text = str(source.path.resolve()).replace("'", "''")
            self._connection.execute(f"SET allowed_paths = ['{text}']")
            self._connection.execute(f"CREATE VIEW {TABLE} AS SELECT * FROM read_parquet('{text}')")
        else:
            self._connection.register("source", source)
            self._connection.execute(f"CREATE TABLE {TABLE} AS SELECT * FROM source")
        # the file system beyond the one file is closed, and so are the settings
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def condition(self, names: Sequence[str], evaluate: Callable[[Mapping[str, Value]], NDArray[np.bool_]]) -> str:
        """SQL that is true for the rows for which a function of columns is.

        Parameters
        ----------
        names
            Columns of the table.
        evaluate
            ``(n,)`` truth from ``(n,)`` values by column.

        Returns
        -------
        str
            A condition on the table.
        """

        def call(*columns: pa.ChunkedArray) -> pa.Array:
            values = {name: from_arrow(column) for name, column in zip(names, columns, strict=True)}
            return pa.array(np.broadcast_to(evaluate(values), len(columns[0])))

        if not names:
            return "TRUE" if evaluate({}) else "FALSE"
        function = f"query_{next(self._numbers)}"
        types = [_TYPES[self.schema.field(name).type] for name in names]
        # the database counts the parameters
        parameters = [inspect.Parameter(f"c{i}", inspect.Parameter.POSITIONAL_ONLY) for i in range(len(names))]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        connection: Any = self._connection  # its annotations know other spellings of these arguments alone
        connection.create_function(function, call, types, "BOOLEAN", type="arrow", null_handling="special")
        return f"{function}({', '.join(map(quoted, names))})"

    def fetch(self, sql: str, wanted: pa.Table | None = None) -> pa.Table:
        """The result of a SELECT statement.

        Parameters
        ----------
        sql
            The statement.
        wanted
            A second table, ``wanted`` in the statement.

        Returns
        -------
        pyarrow.Table
            All rows.

        Raises
        ------
        InputError
            When the database refuses.
        DataFileError
            When a column that the statement names is damaged, or the file was written anew.
        """
        self._check(sql)
        try:
            cursor = self._connection.cursor()
            if wanted is not None:
                cursor.register("wanted", wanted)
            found: pa.Table = cursor.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise InputError(f"the query failed: {first_line(error)}") from None
        if self._seal is not None:
            self._seal.check_unchanged()
        return found

    def reader(self, sql: str, rows: int) -> Any:
        """The result of a SELECT statement in batches of at most `rows`; raises as `fetch`."""
        self._check(sql)
        relation: Any = self._connection.sql(sql)
        # DuckDB 2 renamed the method
        make = relation.to_arrow_reader if hasattr(relation, "to_arrow_reader") else relation.fetch_arrow_reader
        return make(rows)

    def _check(self, sql: str) -> None:
        """Verify what a statement reads, and that it only reads."""
        statements = self._connection.extract_statements(sql)
        if [s.type for s in statements] != [duckdb.StatementType.SELECT]:
            raise InputError("a catalog answers one SELECT at a time, and nothing else")
        if self._seal is not None:
            self._seal.check_unchanged()
            self._seal.verify(name for name in self.schema.names if quoted(name) in sql)


def open_file(path: Path, schema: pa.Schema) -> Engine:
    """The engine of a summary in a file; raises DataFileError when it is damaged."""
    return Engine(schema, Seal(path))
