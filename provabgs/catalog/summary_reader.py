"""Rows of a summary that conditions choose, a row group at a time; what is read is verified.

No database stands behind a query: a condition is a function of columns, evaluated on the row groups of the Parquet
file in turn. Memory stays that of one row group and of the chosen rows, whatever the number of galaxies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from provabgs.catalog.evaluate import Numbers, Value, from_arrow
from provabgs.catalog.seal import DAMAGE, Seal


class Condition(NamedTuple):
    """What rows must satisfy.

    Attributes
    ----------
    columns
        Columns of the summary that it needs.
    holds
        ``(n,)`` truth from ``(n,)`` values by column.
    within
        Column and sorted values, one of which a row must have: row groups without any are not read.
    """

    columns: tuple[str, ...]
    holds: Callable[[Mapping[str, Value]], NDArray[np.bool_]]
    within: tuple[str, NDArray[np.int64]] | None = None


def one_of(name: str, ids: NDArray[np.int64]) -> Condition:
    """The condition that an integer of a row is among some.

    Parameters
    ----------
    name
        Column.
    ids
        ``(n,)``.

    Returns
    -------
    Condition
        On that column alone.
    """
    wanted = np.unique(ids)

    def holds(values: Mapping[str, Value]) -> NDArray[np.bool_]:
        found = values[name]
        assert isinstance(found, Numbers)
        return np.isin(found.values, wanted) & found.known

    return Condition((name,), holds)


class SummaryReader:
    """One summary, in a file or in memory.

    Parameters
    ----------
    schema
        Names and types of its columns.
    source
        A sealed Parquet file, or the table itself.
    texts
        Metadata of the whole.
    """

    def __init__(self, schema: pa.Schema, source: Seal | pa.Table, texts: Mapping[str, str] | None = None) -> None:
        self.schema, self.texts = schema.remove_metadata(), dict(texts or {})
        self._source = source
        self.path = source.path if isinstance(source, Seal) else None

    @property
    def _footer(self) -> pq.FileMetaData | None:
        """Of the row groups; None for a table in memory."""
        return self._source.metadata if isinstance(self._source, Seal) else None

    def values(self, names: Sequence[str]) -> dict[str, Value]:
        """Columns without rows: for a condition that is tried before anything is read."""
        return {name: from_arrow(pa.array([], self.schema.field(name).type)) for name in names}

    def count(self, conditions: Sequence[Condition]) -> int:
        """Number of rows for which all conditions hold.

        Raises
        ------
        DataFileError
            When a column that a condition needs is damaged, or the file was written anew since it was opened.
        """
        return sum(mask.size if mask.all() else int(mask.sum()) for _, mask in self._groups(conditions, ()))

    def rows(self, columns: Sequence[str], conditions: Sequence[Condition]) -> Iterator[pa.Table]:
        """The rows for which all conditions hold, a row group at a time.

        Parameters
        ----------
        columns
            Columns wanted, each once.
        conditions
            What a row must satisfy.

        Yields
        ------
        pyarrow.Table
            The columns in the order asked for; no empty tables.

        Raises
        ------
        DataFileError
            When a column that is needed is damaged, or the file was written anew since it was opened.
        """
        for table, mask in self._groups(conditions, columns):
            if mask.any():
                yield table if mask.all() else table.filter(pa.array(mask))

    def _groups(
        self, conditions: Sequence[Condition], columns: Sequence[str]
    ) -> Iterator[tuple[pa.Table, NDArray[np.bool_]]]:
        """Of each row group the columns wanted, and which rows are chosen."""
        needed = tuple(dict.fromkeys(name for c in conditions for name in c.columns))
        others = [name for name in columns if name not in needed]
        with self._opened((*needed, *others)) as file:
            for index in self._possible(conditions):
                first, n_rows = self._read(file, index, needed)
                values = {name: from_arrow(first[name]) for name in needed}
                mask = np.ones(n_rows, dtype=bool)
                for condition in conditions:
                    mask &= np.broadcast_to(condition.holds(values), n_rows)
                if not mask.any() or not columns:
                    yield self.empty(columns), mask
                    continue
                second, _ = self._read(file, index, others)
                both = [(first if name in needed else second)[name] for name in columns]
                yield pa.Table.from_arrays(both, schema=self._fields(columns)), mask

    def _fields(self, names: Sequence[str]) -> pa.Schema:
        return pa.schema([self.schema.field(name) for name in names])

    def empty(self, columns: Sequence[str]) -> pa.Table:
        """A table of the columns without rows."""
        return self._fields(columns).empty_table()

    def _possible(self, conditions: Sequence[Condition]) -> list[int]:
        """Row groups that may hold chosen rows, by the smallest and largest values that the footer gives."""
        if self._footer is None:
            return [0]
        groups = range(self._footer.num_row_groups)
        return [i for i in groups if all(self._may_hold(i, c) for c in conditions)]

    def _may_hold(self, index: int, condition: Condition) -> bool:
        if condition.within is None:
            return True
        assert self._footer is not None
        name, wanted = condition.within
        statistics = self._footer.row_group(index).column(self._footer_column(name)).statistics
        if statistics is None or not statistics.has_min_max:
            return True
        first, last = np.searchsorted(wanted, [statistics.min, statistics.max + 1])
        return bool(last > first)

    def _footer_column(self, name: str) -> int:
        """Place of a column in the footer."""
        return int(self.schema.get_field_index(name))

    def _opened(self, names: Sequence[str]) -> AbstractContextManager[pq.ParquetFile | None]:
        """The open file, of which the columns have been verified; None for a table in memory."""
        source = self._source
        if not isinstance(source, Seal):
            return nullcontext()
        source.check_unchanged()
        source.verify(names)
        try:
            file: AbstractContextManager[pq.ParquetFile] = pq.ParquetFile(source.path, metadata=source.metadata)
        except DAMAGE as error:
            raise source.unreadable(error) from None
        return file

    def _read(self, file: pq.ParquetFile | None, index: int, names: Sequence[str]) -> tuple[pa.Table, int]:
        """Columns of a row group, and its number of rows."""
        source = self._source
        if not isinstance(source, Seal):
            return source.select(list(names)), source.num_rows
        assert file is not None
        n_rows = source.metadata.row_group(index).num_rows
        if not names:
            return pa.table({}), n_rows
        try:
            table = file.read_row_group(index, columns=list(names))
        except DAMAGE as error:
            raise source.unreadable(error) from None
        source.check_unchanged()
        return table, n_rows
