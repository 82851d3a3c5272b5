"""Read a survey's TOML file into a `PhotometricSystem`; errors name the file, the key and what it may be."""

from __future__ import annotations

import difflib
import json
import tomllib
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from provabgs.core.errors import ConfigError, InputError
from provabgs.observe.curves import CURVE_SUFFIXES, read_filter
from provabgs.observe.filters import load_filter, register_curve
from provabgs.surveys.system import Band, Colour, PhotometricSystem, SelectionFlag, Variants

SHIPPED: tuple[str, ...] = ("legacy", "sdss", "hsc")
"""Surveys that come with the package."""
_TABLES: dict[str, type[BaseModel]] = {"bands": Band, "colours": Colour, "selection": SelectionFlag}


def load_system(survey: str | Path) -> PhotometricSystem:
    """The photometric system of a survey.

    Filter curves that the file names are read and registered, so that photometry finds them by name.

    Parameters
    ----------
    survey
        Name of a shipped survey (`SHIPPED`), or path of a TOML file; docs/surveys.md lists its keys.

    Returns
    -------
    PhotometricSystem
        Checked: every filter is known, catalog columns are the survey's own.

    Raises
    ------
    ConfigError
        For an unknown name, a file that is missing or not TOML, and a key that is unknown, missing or of a wrong type.
    DataFileError
        For a filter curve that cannot be used.
    """
    if not isinstance(survey, (str, Path)):
        raise ConfigError(f"survey = {survey!r}: give the name of a survey or the path of its TOML file")
    if str(survey) in SHIPPED:
        return _shipped(str(survey))
    path = Path(survey)
    if path.suffix != ".toml":
        close = difflib.get_close_matches(str(survey), SHIPPED, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"survey {str(survey)!r} is not known{hint} (shipped: {', '.join(SHIPPED)}; else the path of a TOML file)"
        )
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise ConfigError(f"{path}: {why}; give a survey's TOML file, or one of {', '.join(SHIPPED)}") from None
    system = _with_curves(_parse(text, str(path)), path)
    _check_filters(system, path)
    _check_columns(system, path)
    return system


@lru_cache(maxsize=len(SHIPPED))
def _shipped(name: str) -> PhotometricSystem:
    file = resources.files("provabgs.surveys") / f"{name}.toml"
    return _parse(file.read_text(), f"{name}.toml")


def _parse(text: str, where: str) -> PhotometricSystem:
    """A survey from TOML, its curves not read yet."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not a TOML file: {error}") from None
    try:
        # as JSON, since only there pydantic is strict about types and still takes lists for tuples
        return PhotometricSystem.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(f"{where}: {'; '.join(_explain(e) for e in error.errors()[:5])}") from None


def _explain(error: Any) -> str:
    """One of pydantic's errors as one phrase: key, what was found, what is allowed."""
    location = [str(part) for part in error["loc"]]
    fields = _fields(location[:-1])
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(location[-1], list(fields), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"{key} is no key{hint} (allowed: {', '.join(fields)})"
    about = fields.get(location[-1], "") if location else ""
    about = f" ({about})" if about else ""
    if error["type"] == "missing":
        return f"{key} is required{about}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key} = {error['input']!r}: {message}{about}" if location else message


def _fields(location: list[str]) -> dict[str, str]:
    """Keys of the table that a location leads to, with their descriptions."""
    model: type[BaseModel] | None = PhotometricSystem
    if location[:1] == ["variants"]:
        model = Variants if len(location) == 1 else None
    elif location:
        model = _TABLES.get(location[0]) if len(location) == 2 else None
    return {} if model is None else {k: f.description or "" for k, f in model.model_fields.items()}


def _with_curves(system: PhotometricSystem, path: Path) -> PhotometricSystem:
    """The survey with its curve files read, registered and replaced by their names."""
    bands = {}
    for name, band in system.bands.items():
        named = {v: _registered(f, system.name, v, name, path) for v, f in band.filters().items()}
        chosen = named if isinstance(band.filter, dict) else named[""]
        bands[name] = band.model_copy(update={"filter": chosen})
    return system.model_copy(update={"bands": bands})


def _registered(text: str, survey: str, variant: str, band: str, path: Path) -> str:
    """Filter name of an entry: itself, or that of the curve file which it names, as SURVEY-BAND."""
    if not text.endswith(CURVE_SUFFIXES):
        return text
    try:
        return register_curve(read_filter(path.parent / Path(text).expanduser(), f"{survey}{variant}-{band}")).name
    except InputError as error:
        raise type(error)(f"{path}: bands.{band}.filter: {error}") from None


def _check_filters(system: PhotometricSystem, path: Path) -> None:
    """Refuse filters that nobody knows."""
    for name, band in system.bands.items():
        for filter_name in band.filters().values():
            try:
                known = load_filter(filter_name).name
            except InputError as error:
                raise ConfigError(f"{path}: bands.{name}.filter: {error}") from None
            if known != filter_name:
                raise ConfigError(f"{path}: bands.{name}.filter = {filter_name!r}: write {known!r}")


def _check_columns(system: PhotometricSystem, path: Path) -> None:
    """Refuse to fill a shipped survey's catalog column with something else, such as MAG_G with another g."""
    mine = _definitions(system)
    for other in map(_shipped, SHIPPED):
        theirs = _definitions(other)
        for column in mine:
            if column not in theirs or mine[column][1] == theirs[column][1]:
                continue
            (key, what), survey = mine[column], other.name
            filters = isinstance(what, frozenset) and isinstance(theirs[column][1], frozenset)
            if filters and what <= theirs[column][1]:
                continue
            raise ConfigError(
                f"{path}: {key}: catalog column {column} is that of survey {survey} for something else; choose a name "
                f"of your own, such as {column}_{system.name.upper()}"
            )


def _definitions(system: PhotometricSystem) -> dict[str, tuple[str, Any]]:
    """Key and definition of every catalog column that a survey fills; filters, for magnitudes."""
    found: dict[str, tuple[str, Any]] = {}
    for name, band in system.bands.items():
        filters = frozenset(band.filters().values())
        for key in ("magnitude", "fiber_magnitude"):
            if column := getattr(band, key):
                found[column] = (f"bands.{name}.{key}", filters)
    found |= {name: (f"colours.{name}", colour) for name, colour in system.colours.items()}
    return found | {name: (f"selection.{name}", flag) for name, flag in system.selection.items()}
