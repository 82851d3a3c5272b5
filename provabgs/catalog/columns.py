"""Catalog columns: shards, the Parquet summary, queries and exports read from here.

A `Schema` holds the parameters and derived properties of one model; the columns of their quantiles, best fits and
diagnostics follow from it. A catalog of several models has the columns of all (`union`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from provabgs.catalog.standard_columns import (
    CLIPPED,
    FIT_QUALITY,
    IDENTITY,
    LOCATION,
    NEXT,
    NO_DRAWS,
    PROVENANCE,
    QUALITY,
    SURVEY,
    Column,
    statistic,
)
from provabgs.core.errors import ConfigError, DataFileError
from provabgs.inference.measured.quantity import QUANTILES as MEASURED_QUANTILES
from provabgs.inference.measured.quantity import Measured
from provabgs.inference.standard import PARAMETERS, PROPERTIES
from provabgs.sps.derived import DerivedProperty
from provabgs.sps.parameters import Parameter, Quantity

DIAGNOSTICS: dict[str, str] = {
    "RHAT": "R-hat", "ESS_BULK": "bulk effective sample size", "ESS_TAIL": "tail effective sample size",
}  # fmt: skip
"""Suffixes of convergence diagnostics, and what they are."""
NOT_VARYING = f"{NO_DRAWS}, or the quantity does not vary"
LOG_PROB = "LOG_PROB"
"""Column of the log posterior density of each draw."""

QUANTILES: dict[str, float] = {"P16": 0.16, "P50": 0.50, "P84": 0.84}
"""Suffixes of the quantile columns and the quantiles they hold."""

_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
SURVEY_COLUMN_KEYS = ("name", "dtype", "unit", "description")
SURVEY_COLUMNS = "SURVEY_COLUMNS"
"""Key of `Posterior.meta` under which a reader describes columns of its own: name to unit and description."""


def survey_column(name: str, dtype: str = "f4", unit: str = "", description: str = "") -> Column:
    """A column that a reader fills.

    Parameters
    ----------
    name
        Upper-case letters, digits and underscores.
    dtype
        ``"f4"``, ``"f8"``, or ``"i1"`` for a selection.
    unit, description
        In words that astropy and people understand.

    Returns
    -------
    Column
        For the schema of a catalog.

    Raises
    ------
    ValueError
        For a name or type that cannot be one.
    """
    if not _NAME.fullmatch(name) or dtype not in ("f4", "f8", "i1"):
        raise ValueError(
            f"survey column {name!r} ({dtype}): need an upper-case name of at most 40 characters, f4, f8 or i1"
        )
    return Column(name, dtype, unit, description, null="the reader does not know it")


@dataclass(frozen=True)
class Schema:
    """Parameters and derived properties of a fit.

    Attributes
    ----------
    parameters
        In the order of theta.
    properties
        Derived ones.
    survey
        Columns beyond `SURVEY` that the reader filled (`SURVEY_COLUMNS` of its meta): magnitudes of another survey, ...
    measured
        What was measured after the fit, of which no draws are kept.

    Raises
    ------
    ConfigError
        When two quantities share a name, or two columns would, a reader's own included.
    """

    parameters: tuple[Parameter, ...]
    properties: tuple[DerivedProperty, ...]
    survey: tuple[Column, ...] = ()
    measured: tuple[Measured, ...] = ()

    def __post_init__(self) -> None:
        # queries may mix draws and the summary's columns, so that no name may be in both
        columns = [*self.sample_columns, *(c.name for c in self.columns)]
        for what, names in (("name", [q.name for q in self.quantities]), ("column", columns)):
            if twice := [n for n, times in Counter(names).items() if times > 1]:
                raise ConfigError(f"a catalog would have the {what} {twice[0]!r} twice; rename one of them")

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """All of which draws are kept: parameters, then derived properties."""
        return (*self.parameters, *self.properties)

    @cached_property
    def column_of(self) -> dict[str, str]:
        """Python name to column name of every quantity."""
        return {q.name: q.column for q in self.quantities}

    @cached_property
    def sample_columns(self) -> tuple[str, ...]:
        """Datasets of a shard's ``samples`` group."""
        return (*(q.column for q in self.quantities), LOG_PROB)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Every column of the summary, in order."""
        of_draws = (*self._statistics(), *self.measured_columns)
        return (*IDENTITY, *self.survey_columns, *QUALITY, *FIT_QUALITY, CLIPPED, *of_draws, *PROVENANCE)

    @cached_property
    def measured_columns(self) -> tuple[Column, ...]:
        """Columns of what was measured after the fit."""
        return tuple(_measured_column(q, suffix) for q in self.measured for suffix in q.suffixes)

    @property
    def survey_columns(self) -> tuple[Column, ...]:
        """All columns that a reader may fill."""
        return (*SURVEY, *self.survey)

    @property
    def table_columns(self) -> tuple[Column, ...]:
        """Every column that a table of a catalog may have: the summary's, and where draws are."""
        return (*self.columns, *LOCATION)

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """Columns of the summary by name."""
        return {c.name: c for c in self.columns}

    def _statistics(self) -> tuple[Column, ...]:
        """Quantiles, best fit, R-hat and effective sample sizes of every quantity, prior edges of parameters."""
        columns: list[Column] = []
        for quantity in self.quantities:
            what, unit, name = quantity.description, quantity.unit, quantity.column
            for suffix, q in QUANTILES.items():
                ucd = "stat.median" if suffix == "P50" else "stat.value"
                columns.append(statistic(name, suffix, "f4", unit, f"{100 * q:.0f} % quantile: {what}", ucd))
            columns.append(statistic(name, "BF", "f8", unit, f"best fit: {what}", "stat.fit"))
            for suffix, text in DIAGNOSTICS.items():
                columns.append(Column(f"{name}_{suffix}", "f4", "", f"{text}: {what}", NOT_VARYING, "stat.param"))
        columns += [
            Column(f"{p.column}_EDGE", "f4", "", f"fraction of draws piled up at a prior edge: {p.description}",
                   NOT_VARYING, "stat.probability")
            for p in self.parameters
        ]  # fmt: skip
        return tuple(columns)

    def to_json(self) -> str:
        """As JSON, for shards and the summary's metadata."""
        parts = {
            "parameters": [p.as_dict() for p in self.parameters],
            "properties": [p.as_dict() for p in self.properties],
            "survey": [{k: getattr(c, k) for k in SURVEY_COLUMN_KEYS} for c in self.survey],
            "measured": [q.as_dict() for q in self.measured],
        }
        return json.dumps(parts, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """Inverse of `to_json`.

        Raises
        ------
        DataFileError
            For text that is no such description.
        """
        try:
            data = json.loads(text)
            parameters = tuple(Parameter.from_dict(d) for d in data["parameters"])
            properties = tuple(DerivedProperty.from_dict(d) for d in data["properties"])
            measured = tuple(Measured.from_dict(d) for d in data["measured"])
            return cls(parameters, properties, tuple(survey_column(**c) for c in data["survey"]), measured)
        except (ValueError, KeyError, TypeError) as error:
            raise DataFileError(f"not the description of a model ({type(error).__name__}: {error})") from None


STANDARD = Schema(tuple(PARAMETERS), PROPERTIES)
"""Of the default fit."""


def union(schemas: Iterable[Schema]) -> Schema:
    """The quantities of all schemas, each once, in the order met; the standard one for none.

    Parameters
    ----------
    schemas
        One per model. A quantity that is a parameter of one model and derived in another counts as a parameter.

    Returns
    -------
    Schema
        Its columns are those of every model.

    Raises
    ------
    DataFileError
        When two models give one column to different quantities, or one quantity two columns; when two readers fill one
        column in different units.
    """
    schemas = list(schemas)
    if not schemas:
        return STANDARD
    columns: dict[str, Quantity] = {}
    names: dict[str, Quantity] = {}
    for quantity in (q for schema in schemas for q in (*schema.quantities, *schema.measured)):
        for other in (columns.setdefault(quantity.column, quantity), names.setdefault(quantity.name, quantity)):
            _check_same(other, quantity)
    parameters = {p.column: p for schema in reversed(schemas) for p in reversed(schema.parameters)}
    properties = {d.column: d for schema in reversed(schemas) for d in reversed(schema.properties)}
    try:
        return Schema(
            tuple(parameters[c] for c in columns if c in parameters),
            tuple(properties[c] for c in columns if c in properties and c not in parameters),
            _survey(c for schema in schemas for c in schema.survey),
            _measured(q for schema in schemas for q in schema.measured),
        )
    except ConfigError as error:
        raise DataFileError(f"{error}, or keep these fits in separate catalogs") from None


def _measured_column(quantity: Measured, suffix: str) -> Column:
    """One column of a quantity that was measured."""
    if suffix in MEASURED_QUANTILES:
        text = f"{100 * MEASURED_QUANTILES[suffix]:.0f} % quantile: {quantity.description}"
    else:
        text = f"{quantity.description}{', standard deviation' if suffix else ''}"
    parts = {"_P50": (quantity.ucd, "stat.median"), "_ERR": ("stat.error", quantity.ucd), "": (quantity.ucd,)}
    ucd = ";".join(part for part in parts.get(suffix, (quantity.ucd, "stat.value")) if part)
    return Column(quantity.column + suffix, "f4", quantity.unit, text, quantity.null, ucd, NEXT)


def _check_same(first: Quantity, second: Quantity) -> None:
    """Refuse two quantities in one column, and one quantity in two."""
    a, b = (f"{q.column} holds {q.name!r} [{q.unit}]" for q in (first, second))
    if a != b:
        raise DataFileError(f"column {a} in some fits, {b} in others; keep these fits in separate catalogs")


def _measured(quantities: Iterable[Measured]) -> tuple[Measured, ...]:
    """Each quantity once, as the first model describes it."""
    known: dict[str, Measured] = {}
    for quantity in quantities:
        known.setdefault(quantity.column, quantity)
    return tuple(known.values())


def _survey(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Each column of readers once; one that two of them fill differently is refused."""
    known: dict[str, Column] = {}
    for column in columns:
        first = known.setdefault(column.name, column)
        if (first.dtype, first.unit) != (column.dtype, column.unit):
            a, b = (f"{c.dtype} [{c.unit}]" for c in (first, column))
            raise DataFileError(f"survey column {column.name} is {a} in some rows, {b} in others; rename one of them")
    return tuple(known.values())


VOLATILE: frozenset[str] = frozenset({"RUNTIME_S", "VERSIONS_ID", "CONFIG_ID", "MODEL_ID"})
"""Columns that may differ between two runs that made the same catalog: wall time, and positions in per-shard tables."""
