"""Configuration files: TOML in, a checked pydantic model out, errors that name the file, the key and the cure."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from provabgs.core.errors import ConfigError
from provabgs.core.files import read_text

Model = TypeVar("Model", bound=BaseModel)

BESIDE_FILE = "paths are relative to the configuration file"
"""Marks, as in ``Annotated[Path, BESIDE_FILE]``, a field whose relative paths start from the file's own directory."""
MOST_ERRORS = 5
"""Errors named in one message."""


@dataclass(frozen=True)
class Names:
    """Marks, beside `BESIDE_FILE`, a field in which these words are names, and anything else is a path."""

    names: frozenset[str]


def load_config_file(model: type[Model], path: str | Path, *, missing: str = "") -> Model:
    """Read a TOML file, make its paths absolute (`BESIDE_FILE`) and check it.

    Parameters
    ----------
    model
        What the file describes.
    path
        The file.
    missing
        Added to the message when there is no such file.

    Returns
    -------
    Model
        The checked configuration.

    Raises
    ------
    ConfigError
        When the file is missing or not TOML, and for every unknown key or value that is not allowed.
    """
    path = Path(path)
    data = read_toml(path, missing)
    return check_config(model, with_absolute_paths(model, data, path.resolve().parent), str(path))


def read_toml(path: Path, missing: str = "") -> dict[str, Any]:
    """Content of a TOML file.

    Parameters
    ----------
    path
        The file.
    missing
        Added to the message when there is no such file.

    Raises
    ------
    ConfigError
        When the file is missing or not TOML.
    """
    try:
        return tomllib.loads(read_text(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{missing}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None


def check_config(model: type[Model], data: Any, where: str, table: str = "") -> Model:
    """Check a configuration given as a dictionary.

    Parameters
    ----------
    model
        What `data` must describe.
    data
        Tables, keys and values.
    where
        File or other origin, named in errors.
    table
        Name of the table that `data` is, when it is part of a file.

    Raises
    ------
    ConfigError
        For every unknown key or value that is not allowed.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error, model, table)}") from None


def explain(error: ValidationError, model: type[BaseModel], table: str = "") -> str:
    """Pydantic's errors as phrases: the key, what was found, what is allowed.

    Parameters
    ----------
    error
        What validating `model` raised.
    model
        What was validated; its fields give descriptions, and names to compare misspelt keys with.
    table
        Name of the table of a file that `model` describes; empty for the whole file.
    """
    return "; ".join(_phrase(e, model, table) for e in error.errors()[:MOST_ERRORS])


def with_absolute_paths(model: type[BaseModel], data: Any, folder: Path) -> Any:
    """`data` with the relative paths of fields marked `BESIDE_FILE` starting from `folder`.

    Parameters
    ----------
    model
        What `data` describes; what does not fit it is left for `check_config` to name.
    data
        Tables, keys and values of a file.
    folder
        The file's directory.
    """
    if not isinstance(data, Mapping):
        return data

    def at(value: Any, known: frozenset[str]) -> Any:
        if isinstance(value, list):
            return [at(v, known) for v in value]
        is_path = isinstance(value, str) and value and value not in known
        # without "..", so that messages name places as people know them
        return os.path.normpath(folder / Path(value).expanduser()) if is_path else value

    out = dict(data)
    for name in data.keys() & model.model_fields.keys():
        field = model.model_fields[name]
        if BESIDE_FILE in field.metadata:
            known = frozenset[str]().union(*(m.names for m in field.metadata if isinstance(m, Names)))
            out[name] = at(data[name], known)
        elif (inner := _table_of(field)) is not None:
            out[name] = with_absolute_paths(inner, data[name], folder)
    return out


def overlay(base: Any, changes: Mapping[str, Any]) -> Any:
    """`base` with every entry of `changes` that is not None laid over it, table by table.

    Parameters
    ----------
    base
        Tables, keys and values; anything but a table is returned as it is, for `check_config` to name.
    changes
        Options of the command line; members of enumerations stand for their values.
    """
    if not isinstance(base, Mapping):
        return base
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping):
            merged[key] = overlay(merged.get(key, {}), value)
        elif value is not None:
            merged[key] = value.value if isinstance(value, Enum) else value
    return merged


def _phrase(error: Any, model: type[BaseModel], table: str) -> str:
    """One of pydantic's errors as one phrase."""
    location = [str(part) for part in error["loc"]]
    key = _key(error, model, [table, *location] if table else location, rooted=not table)
    if error["type"] == "missing":
        return f"{key} is required{_described(model, location)}"
    if error["type"] == "extra_forbidden":
        known = list(_fields(model, location[:-1]))
        close = difflib.get_close_matches(location[-1], known, n=1)
        return f"{key} is no key{f'; did you mean {close[0]}?' if close else ''} (allowed: {', '.join(known)})"
    if error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return f"{key} = {error['input']!r}: must be a table"
    message = str(error["msg"]).removeprefix("Value error, ")
    if isinstance(error["input"], Mapping) and error["type"] == "value_error":
        return f"{key}{' ' if key.endswith(']') else ': '}{message}"  # keys that do not go together: it names them
    return f"{key} = {error['input']!r}: {message}{_described(model, location)}"


def _key(error: Any, model: type[BaseModel], location: list[str], rooted: bool) -> str:
    """A key as people find it in the file: ``[table] key.subkey``, or ``key`` outside of all tables."""
    if len(location) != 1 or not rooted:
        return f"[{location[0]}] {'.'.join(location[1:])}".strip() if location else "the file"
    field = model.model_fields.get(location[0])
    is_table = _table_of(field) is not None if field is not None else isinstance(error["input"], Mapping)
    return f"[{location[0]}]" if is_table else location[0]


def _table_of(field: FieldInfo | None) -> type[BaseModel] | None:
    """The model of a field that is a table (or may be left out), None for a plain value."""
    if field is None:
        return None
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _fields(model: type[BaseModel], location: list[str]) -> dict[str, FieldInfo]:
    """Fields of the table that a location leads to."""
    parts = iter(location)
    for part in parts:
        field = model.model_fields.get(part)
        inner = _table_of(field)
        if field is None or inner is None:
            return {}
        if get_origin(field.annotation) is dict:  # tables by a name of the user's own, which is no key
            next(parts, None)
        model = inner
    return dict(model.model_fields)


def _described(model: type[BaseModel], location: list[str]) -> str:
    """A field's description in parentheses."""
    field = _fields(model, location[:-1]).get(location[-1]) if location else None
    return f" ({field.description})" if field is not None and field.description else ""
