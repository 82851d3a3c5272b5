"""Read a survey's TOML file into a `PhotometricSystem`; errors name the file, the key and what it may be."""

from __future__ import annotations

import difflib
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from provabgs.core.config import load_config_file
from provabgs.core.errors import ConfigError, InputError
from provabgs.observe.curves import CURVE_SUFFIXES, read_filter
from provabgs.observe.filters import load_filter, register_curve
from provabgs.surveys.system import PhotometricSystem

SHIPPED: tuple[str, ...] = ("legacy", "sdss", "hsc")
"""Surveys that come with the package."""


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
    missing = f"; give a survey's TOML file, or one of {', '.join(SHIPPED)}"
    system = _with_curves(load_config_file(PhotometricSystem, path, missing=missing), path)
    _check_filters(system, path)
    _check_columns(system, path)
    return system


@lru_cache(maxsize=len(SHIPPED))
def _shipped(name: str) -> PhotometricSystem:
    with resources.as_file(resources.files("provabgs.surveys") / f"{name}.toml") as path:
        return load_config_file(PhotometricSystem, path)


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
