"""Catalog columns: shards, the Parquet summary, queries and exports read from here.

A `Schema` holds the parameters and derived properties of one model; the columns of their quantiles, best fits and
diagnostics follow from it. A catalog of several models has the columns of all (`union`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property

from provabgs.core.errors import ConfigError, DataFileError
from provabgs.inference.measured.quantity import QUANTILES as MEASURED_QUANTILES
from provabgs.inference.measured.quantity import Measured
from provabgs.inference.standard import PARAMETERS, PROPERTIES
from provabgs.sps.derived import DerivedProperty
from provabgs.sps.parameters import Parameter, Quantity


@dataclass(frozen=True)
class Column:
    """One column of the summary: name, numpy type (``"S"`` for text of any length), unit and meaning."""

    name: str
    dtype: str
    unit: str
    description: str


LOG_PROB = "LOG_PROB"
"""Column of the log posterior density of each draw."""

QUANTILES: dict[str, float] = {"P16": 0.16, "P50": 0.50, "P84": 0.84}
"""Suffixes of the quantile columns and the quantiles they hold."""

SURVEY: tuple[Column, ...] = (
    Column("TSNR2_BGS", "f4", "", "template signal-to-noise squared for BGS"),
    Column("MAG_G", "f4", "mag", "g-band magnitude, corrected for Galactic extinction"),
    Column("MAG_R", "f4", "mag", "r-band magnitude, corrected for Galactic extinction"),
    Column("MAG_Z", "f4", "mag", "z-band magnitude, corrected for Galactic extinction"),
    Column("MAG_W1", "f4", "mag", "W1 magnitude (AB), corrected for Galactic extinction"),
    Column("FIBMAG_R", "f4", "mag", "r-band magnitude inside the fiber"),
    Column("SCHLEGEL_COLOR", "f4", "mag", "(z - W1) - 1.2 (g - r) + 1.2, the BGS Faint selection colour"),
    Column("Z_MAX", "f4", "", "largest redshift at which the galaxy passes the selection"),
    Column("W_ZFAIL", "f4", "", "weight for redshift failures"),
    Column("W_FIBASSIGN", "f4", "", "weight for fiber assignment"),
    Column("IS_BGS_BRIGHT", "i1", "", "1 in BGS Bright, 0 not, -1 unknown"),
    Column("IS_BGS_FAINT", "i1", "", "1 in BGS Faint, 0 not, -1 unknown"),
    Column("EBV", "f4", "mag", "Galactic reddening"),
    Column("ZWARN", "i8", "", "redrock's warning bits, -1 unknown"),
    Column("SPECTYPE", "S", "", "redrock's spectral type"),
    Column("PHOTSYS", "S", "", "N (BASS, MzLS) or S (DECam) photometry"),
    Column("SURVEY", "S", "", "DESI survey"),
    Column("PROGRAM", "S", "", "DESI program"),
    Column("INPUT", "S", "", "file that the row was read from, as the run names it"),
    Column("ROW", "i4", "", "row in that file, from 0, -1 unknown"),
)
"""Columns filled from `Posterior.meta` where it has a key of that name; unknown is NaN, -1 or empty."""

IDENTITY: tuple[Column, ...] = (
    Column("TARGETID", "i8", "", "DESI target identifier"),
    Column("RA", "f8", "deg", "right ascension"),
    Column("DEC", "f8", "deg", "declination"),
    Column("Z", "f8", "", "redshift of the fit (Z_HP in the published catalog)"),
    Column("ZERR", "f4", "", "redshift error"),
    Column("HPIX_64", "i4", "", "HEALPix pixel, nside 64, nested; -1 without coordinates"),
    Column("STATUS", "i2", "", "provabgs.core.status.Status"),
)

QUALITY: tuple[Column, ...] = (
    Column("RHAT_MAX", "f4", "", "largest rank-normalised split R-hat"),
    Column("ESS_MIN", "f4", "", "smallest bulk or tail effective sample size"),
    Column("N_EVAL", "i8", "", "likelihood evaluations spent"),
    Column("N_DIVERGENT", "i4", "", "divergent transitions"),
    Column("LOG_EVIDENCE", "f8", "", "log evidence where the sampler gives it"),
    Column("LOG_EVIDENCE_SPREAD", "f4", "", "log evidence of the best independent start over the second best"),
    Column("ENGINE_DLNL", "f4", "", "scatter in ln L of the likelihood backend about the exact likelihood"),
    Column("RUNTIME_S", "f4", "s", "wall time of the fit"),
    Column("CHI2_SPEC", "f8", "", "chi^2 of the best fit, spectrum"),
    Column("CHI2_PHOT", "f8", "", "chi^2 of the best fit, photometry"),
    Column("DOF_SPEC", "i4", "", "pixels in CHI2_SPEC"),
    Column("DOF_PHOT", "i4", "", "bands in CHI2_PHOT"),
    Column("PRIOR_EDGE", "i8", "", "bit k: more than 5 % of draws of the fit's parameter k pile up at a prior edge"),
    Column("N_DRAWS", "i4", "", "draws that the fit returned"),
    Column("N_SAMPLES", "i4", "", "draws kept in the store"),
)

FIT_QUALITY: tuple[Column, ...] = (
    Column("FLAG", "i4", "", "what is doubtful, bits of provabgs.inference.flags.Flag; 0 is the recommended cut"),
    Column("P_SPEC", "f8", "", "posterior-predictive p-value of chi^2, spectrum"),
    Column("P_PHOT", "f8", "", "posterior-predictive p-value of chi^2, photometry given the spectrum"),
    Column("TENSION", "f4", "", "distance of the bands from what spectrum and prior predict for them, sigmas"),
    Column("RESIDUAL", "f4", "", "largest mean residual over a window of the spectrum, in its sigmas, signed"),
    Column("RESIDUAL_WAVE", "f4", "Angstrom", "centre of that window, rest frame, vacuum"),
    Column("RESIDUAL_WIDTH", "f4", "Angstrom", "width of that window, rest frame"),
    Column("TEMPLATE_RMS", "f4", "", "rms coefficient of template error at the best fit, prior sigmas; 1 expected"),
    Column("TEMPLATE_P", "f8", "", "probability of larger coefficients of template error"),
    Column("CALIBRATION_RMS", "f4", "", "rms coefficient of calibration errors at the best fit, prior sigmas"),
    Column("CALIBRATION_P", "f8", "", "probability of larger coefficients of calibration errors"),
    Column("FIBER_COLOUR_RMS", "f4", "", "rms coefficient of the fiber's colour at the best fit, prior sigmas"),
    Column("FIBER_COLOUR_P", "f8", "", "probability of larger coefficients of the fiber's colour"),
    Column("NOISE_RMS", "f4", "", "rms coefficient of all other noise templates at the best fit, prior sigmas"),
    Column("NOISE_P", "f8", "", "probability of larger coefficients of all other noise templates"),
    Column("N_CLIPPED", "i4", "", "pixels masked as outliers"),
)
"""How well the data are described: FLAG, the numbers of `provabgs.inference.quality.Quality`, and outliers."""

CLIPPED = Column("CLIPPED", "S", "Angstrom", "observed wavelengths of the pixels masked as outliers, the first 1000")
"""Kept in shards and posterior files, not in the Parquet summary."""

PROVENANCE: tuple[Column, ...] = (
    Column("SAMPLER", "S", "", "sampler that made the draws"),
    Column("SEED", "i8", "", "seed of the fit"),
    Column("DATA_HASH", "S", "", "SHA-256 of the fitted data"),
    Column("CONFIG_ID", "i4", "", "row of the shard's `configs`"),
    Column("VERSIONS_ID", "i4", "", "row of the shard's `versions`"),
    Column("MODEL_ID", "i4", "", "row of the shard's `models`, -1 without samples"),
    Column("MESSAGE", "S", "", "why there are no samples, or what to mind"),
    Column("META", "S", "", "what else the reader kept, JSON"),
)


_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
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
    return Column(name, dtype, unit, description)


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
                columns.append(Column(f"{name}_{suffix}", "f4", unit, f"{100 * q:.0f} % quantile: {what}"))
            columns.append(Column(f"{name}_BF", "f8", unit, f"best fit: {what}"))
            columns.append(Column(f"{name}_RHAT", "f4", "", f"R-hat: {what}"))
            columns.append(Column(f"{name}_ESS_BULK", "f4", "", f"bulk effective sample size: {what}"))
            columns.append(Column(f"{name}_ESS_TAIL", "f4", "", f"tail effective sample size: {what}"))
        columns += [
            Column(f"{p.column}_EDGE", "f4", "", f"fraction of draws piled up at a prior edge: {p.description}")
            for p in self.parameters
        ]
        return tuple(columns)

    def to_json(self) -> str:
        """As JSON, for shards and the summary's metadata."""
        parts = {
            "parameters": [p.as_dict() for p in self.parameters],
            "properties": [p.as_dict() for p in self.properties],
            "survey": [asdict(c) for c in self.survey],
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
    return Column(quantity.column + suffix, "f4", quantity.unit, text)


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
