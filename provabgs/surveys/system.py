"""What a photometric survey is: its bands and, for each, filter, noise floor, Galactic extinction and columns.

A `PhotometricSystem` is read from a TOML file (`provabgs.surveys.load`); docs/surveys.md explains every key. A
system with *variants* has more than one set of filters, told apart by a column: the Legacy Surveys took g, r, z with
BASS and MzLS (PHOTSYS N) and with DECam (PHOTSYS S).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import InputError
from provabgs.observe.extinction import band_transmission
from provabgs.observe.filters import own_curve
from provabgs.observe.observation import Photometry
from provabgs.observe.plain import NANOMAGGY_JY

COLUMN_NAME = r"^[A-Z][A-Z0-9_]*$"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Band(_Entry):
    """One band of a survey."""

    filter: str | dict[str, str] = Field(description="filter name or curve file; a table of them by variant")
    floor: float = Field(strict=True, ge=0, lt=1, description="noise floor, fraction of the flux")
    flux: str = Field(description="column of the total flux")
    ivar: str = Field(description="column of the inverse variance of the flux")
    extinction: float | dict[str, float] | None = Field(
        None, description="A(band)/E(B-V) for the E(B-V) of SFD; a table by variant; from the filter curve if absent"
    )
    fiberflux: str | None = Field(None, description="column of the flux inside the fiber")
    magnitude: str | None = Field(None, pattern=COLUMN_NAME, description="catalog column of the magnitude")
    fiber_magnitude: str | None = Field(None, pattern=COLUMN_NAME, description="catalog column of the fiber magnitude")
    fitted: bool = Field(True, strict=True, description="fit this band unless the reader is told which bands to fit")

    @field_validator("filter", mode="before")
    @classmethod
    def _name_or_table(cls, value: Any) -> Any:
        names = list(value.values()) if isinstance(value, dict) else [value]
        if not names or not all(isinstance(n, str) and n for n in names):
            raise ValueError('give a filter name or a curve file, or a table of them by variant: { N = "BASS-g" }')
        return value

    @field_validator("extinction", mode="before")
    @classmethod
    def _number_or_table(cls, value: Any) -> Any:
        numbers = list(value.values()) if isinstance(value, dict) else [value]
        if value is not None and not all(
            isinstance(n, (int, float)) and not isinstance(n, bool) and np.isfinite(n) and n >= 0 for n in numbers
        ):
            raise ValueError("give a number >= 0, or a table of numbers by variant: { N = 3.258 }")
        return value

    def filter_at(self, variant: str) -> str | None:
        """Filter at a variant (`""` for systems without), None where the variant lacks the band."""
        return self.filter.get(variant) if isinstance(self.filter, dict) else self.filter

    def filters(self) -> dict[str, str]:
        """Filters by variant; by `""` where all variants share one."""
        return dict(self.filter) if isinstance(self.filter, dict) else {"": self.filter}

    def coefficient(self, name: str) -> float | None:
        """A(band)/E(B-V) in one of the band's filters, None where the filter curve decides."""
        if not isinstance(self.extinction, dict):
            return self.extinction
        variants = [v for v, f in self.filters().items() if f == name]
        return next((self.extinction[v] for v in variants if v in self.extinction), None)


class Variants(_Entry):
    """The sets of filters that a survey's photometry comes in."""

    column: str = Field(description="table column that says which variant a row is of")
    names: tuple[str, ...] = Field(min_length=1, description="values of the column")
    default: str = Field(description="variant of tables without the column")

    @model_validator(mode="after")
    def _default_is_one(self) -> Variants:
        if self.default not in self.names:
            raise ValueError(f"default {self.default!r} is none of {', '.join(self.names)}")
        return self


class Colour(_Entry):
    """A combination of magnitudes, ``constant + sum_k factor_k (m[first_k] - m[second_k])``."""

    terms: tuple[tuple[float, str, str], ...] = Field(min_length=1, description="[factor, first band, second band]")
    constant: float = Field(0.0, strict=True, description="magnitudes")
    description: str = Field("", description="what the colour is for")


class SelectionFlag(_Entry):
    """A selection that a bit of a bit mask records."""

    columns: tuple[str, ...] = Field(min_length=1, description="columns of bit masks; set in any of them counts")
    bit: int = Field(strict=True, ge=0, lt=63, description="number of the bit, from 0")
    description: str = Field("", description="what is selected")


class FilledColumn(NamedTuple):
    """A catalog column that a survey fills: name, numpy type, unit, meaning."""

    name: str
    dtype: str
    unit: str
    description: str


class PhotometricSystem(_Entry):
    """A photometric survey; see the module's and the file's documentation.

    Attributes
    ----------
    name
        Short name, as in ``survey = "sdss"``.
    bands
        `Band` by name, in order of wavelength.
    variants
        None where every row was taken with one set of filters.
    flux_unit
        Unit of flux columns: ``"nanomaggy"``, or an astropy unit of flux density such as ``"nJy"``.
    """

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", description="short name: letters, digits, _")
    description: str = Field("", description="what the survey is, with its reference")
    flux_unit: str = Field("nanomaggy", description="unit of flux columns: nanomaggy, nJy, uJy, ...")
    variants: Variants | None = Field(None, description="sets of filters, told apart by a column")
    bands: dict[str, Band] = Field(min_length=1, description="the bands, a table each")
    colours: dict[str, Colour] = Field(default_factory=dict, description="catalog columns made of magnitudes")
    selection: dict[str, SelectionFlag] = Field(default_factory=dict, description="catalog columns made of bits")

    @field_validator("flux_unit")
    @classmethod
    def _a_flux_density(cls, text: str) -> str:
        nanomaggies_per(text)
        return text

    @model_validator(mode="after")
    def _consistent(self) -> PhotometricSystem:
        known = self.variants.names if self.variants else ()
        for name, band in self.bands.items():
            for key in ("filter", "extinction"):
                table = getattr(band, key)
                unknown = [v for v in table if v not in known] if isinstance(table, dict) else []
                if unknown:
                    have = f"this survey has {', '.join(known)}" if known else "this survey has no [variants]"
                    raise ValueError(f"bands.{name}.{key}: variant {', '.join(unknown)} is not known; {have}")
        for name, colour in self.colours.items():
            for band_name in (b for term in colour.terms for b in term[1:]):
                if band_name not in self.bands:
                    raise ValueError(f"colours.{name}: no band {band_name!r}; bands are {', '.join(self.bands)}")
        names = [c.name for c in self.filled_columns()]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"catalog column {', '.join(twice)} is filled twice")
        return self

    @property
    def photometric_columns(self) -> tuple[str, ...]:
        """Table columns of fluxes, inverse variances and fiber fluxes."""
        kinds = [[b.flux for b in self.bands.values()], [b.ivar for b in self.bands.values()]]
        return (*kinds[0], *kinds[1], *(b.fiberflux for b in self.bands.values() if b.fiberflux))

    @property
    def columns(self) -> tuple[str, ...]:
        """Every table column that is read for this survey, each once."""
        variant = [self.variants.column] if self.variants else []
        bits = [c for flag in self.selection.values() for c in flag.columns]
        return tuple(dict.fromkeys((*self.photometric_columns, *variant, *bits)))

    def filled_columns(self) -> tuple[FilledColumn, ...]:
        """Catalog columns that `provabgs.surveys.survey_columns` fills."""
        found = []
        for name, band in self.bands.items():
            filters = " or ".join(dict.fromkeys(band.filters().values()))
            if band.magnitude:
                text = f"{name} magnitude (AB; {filters}), corrected for Galactic extinction"
                found.append(FilledColumn(band.magnitude, "f4", "mag", text))
            if band.fiber_magnitude:
                text = f"{name} magnitude inside the fiber (AB; {filters})"
                found.append(FilledColumn(band.fiber_magnitude, "f4", "mag", text))
        found += [FilledColumn(n, "f4", "mag", c.description) for n, c in self.colours.items()]
        text = "1 selected, 0 not, -1 unknown"
        found += [FilledColumn(n, "i1", "", f"{s.description or n}: {text}") for n, s in self.selection.items()]
        return tuple(found)

    def variant(self, value: str | None = None) -> str:
        """The variant that a table's value names (case and blanks do not matter), the default for None.

        Raises
        ------
        InputError
            For a value that is none of the survey's; systems without variants take none but None.
        """
        if self.variants is None:
            if value is not None:
                raise InputError(f"survey {self.name} has no variants, {value!r} names none of them")
            return ""
        if value is None:
            return self.variants.default
        text = str(value).strip()
        for name in self.variants.names:
            if text.upper() == name.upper():
                return name
        given = " or ".join(repr(n) for n in self.variants.names)
        raise InputError(f"{self.variants.column} {value!r} is not known in survey {self.name}; give {given}")

    def filters(self, variant: str | None = None, bands: Iterable[str] | None = None) -> tuple[str, ...]:
        """Filter names of one variant.

        Parameters
        ----------
        variant
            As in `variant`.
        bands
            Band names; None takes those that are fitted by default. Bands that the variant lacks are left out.
        """
        at = self.variant(variant)
        names = self.fitted_bands() if bands is None else tuple(bands)
        return tuple(f for n in names if (f := self.band(n).filter_at(at)) is not None)

    def fitted_bands(self) -> tuple[str, ...]:
        """Names of bands that are fitted unless a reader is told otherwise."""
        return tuple(name for name, band in self.bands.items() if band.fitted)

    def band(self, name: str) -> Band:
        """A band by name (its letter case is forgiven); `InputError` lists the bands for another name."""
        exact = self.bands.get(name)
        if exact is not None:
            return exact
        folded = [b for n, b in self.bands.items() if n.lower() == name.strip().lower()]
        if len(folded) != 1:
            raise InputError(f"survey {self.name} has no band {name!r}; bands are {', '.join(self.bands)}")
        return folded[0]

    def band_of(self, filter_name: str) -> Band | None:
        """The band that a filter belongs to, None for a filter of another survey."""
        return next((b for b in self.bands.values() if filter_name in b.filters().values()), None)

    def magnitude_column(self, filter_name: str) -> str | None:
        """Catalog column of magnitudes in a filter (its full name), None where the survey has no such column."""
        band = self.band_of(filter_name)
        return band.magnitude if band is not None else None

    def floors(self, filters: Sequence[str]) -> FloatArray:
        """Noise floors ``(nfilter,)``, fractions of the flux; NaN for filters of another survey."""
        bands = [self.band_of(name) for name in filters]
        return np.array([np.nan if b is None else b.floor for b in bands], dtype=np.float64)

    def transmission(self, filter_name: str, ebv: float, variant: str | None = None) -> float:
        """Galactic transmission (0-1) in one filter.

        Parameters
        ----------
        filter_name
            One of the survey's filters; the curve decides in any other.
        ebv
            SFD E(B-V), magnitudes.
        variant
            Checked against the filter where given.

        Raises
        ------
        InputError
            For an unusable `ebv`, or a filter of another variant.
        """
        band = self.band_of(filter_name)
        if band is None:
            return band_transmission(filter_name, ebv)
        if variant is not None and self.variants and band.filter_at(self.variant(variant)) != filter_name:
            owner = next(v for v, f in band.filters().items() if f == filter_name)
            column = self.variants.column
            raise InputError(
                f"filter {filter_name} belongs to {column} {owner} but {column} is {variant!r}; correct one of them"
            )
        return band_transmission(filter_name, ebv, band.coefficient(filter_name))

    def photometry(
        self, filters: Sequence[str], flux: ArrayLike, ivar: ArrayLike, ebv: float | None = None
    ) -> Photometry:
        """Photometry with the survey's noise floors, corrected for Galactic dust.

        Parameters
        ----------
        filters
            Filter names, from `filters`.
        flux, ivar
            ``(nfilter,)`` nanomaggies and nanomaggies^-2.
        ebv
            SFD E(B-V), magnitudes; None for fluxes that are corrected already.
        """
        f, w = np.asarray(flux, dtype=np.float64), np.asarray(ivar, dtype=np.float64)
        if ebv is not None:
            t = np.array([self.transmission(name, ebv) for name in filters], dtype=np.float64)
            f, w = f / t, w * t**2
        return Photometry(tuple(filters), f, w, self.floors(filters))

    def to_nanomaggies(self) -> float:
        """Nanomaggies per unit of the flux columns."""
        return nanomaggies_per(self.flux_unit)

    def digest(self) -> str:
        """SHA-256 over everything that a fit takes from the survey, its own filter curves included."""
        h = hashlib.sha256(self.model_dump_json().encode())
        for name in dict.fromkeys(f for b in self.bands.values() for f in b.filters().values()):
            curve = own_curve(name)
            if curve is not None:
                h.update(curve.digest().encode())
        return h.hexdigest()


def nanomaggies_per(unit: str) -> float:
    """Nanomaggies per `unit` of flux density; `InputError` (a ValueError) for a unit that is none."""
    if unit in ("nanomaggy", "nmgy"):
        return 1.0
    from astropy import units as u

    try:
        return float(u.Unit(unit).to(u.Jy)) / NANOMAGGY_JY
    except (ValueError, TypeError, u.UnitConversionError):
        raise InputError(f"{unit!r} is no unit of flux density; give nanomaggy, nJy, uJy, mJy or Jy") from None
