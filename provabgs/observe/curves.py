"""Filter curves from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from provabgs.core.errors import DataFileError, InputError
from provabgs.core.messages import first_line
from provabgs.observe.filters import FilterCurve

TABLE_FORMATS = {".ecsv": "ascii.ecsv", ".fits": "fits"}
"""Formats whose columns may carry units."""
TEXT_SUFFIXES = (".dat", ".txt", ".csv")
CURVE_SUFFIXES = (*TABLE_FORMATS, *TEXT_SUFFIXES)
"""Endings that mark a curve file; anything else is a filter's name."""
_WAVE_NAMES = ("wavelength", "wave", "lambda", "lam")
_RESPONSE_NAMES = ("response", "transmission", "throughput", "trans")


def read_filter(path: str | Path, name: str) -> FilterCurve:
    """Read a filter curve; register it with `provabgs.observe.filters.register_curve` to use it by name.

    Parameters
    ----------
    path
        Text with two columns (``.dat``, ``.txt``, ``.csv``; blanks or commas, ``#`` comments) or a table (``.ecsv``,
        ``.fits``) with columns named wavelength (wave, lambda) and response (transmission, throughput), else its
        first two. Wavelengths are in Angstrom (vacuum) unless the column has a unit; the response is per photon.
    name
        Name of the filter.

    Returns
    -------
    FilterCurve
        Checked as `FilterCurve` says.

    Raises
    ------
    DataFileError
        When the file is missing, is no such file, or holds what is no filter curve.
    """
    path = Path(path)
    if path.suffix not in CURVE_SUFFIXES:
        raise DataFileError(f"{path}: unknown kind of filter curve; use {', '.join(CURVE_SUFFIXES)}")
    if not path.is_file():
        raise DataFileError(f"{path}: no such file; give the path of a filter curve")
    try:
        wave, response = _from_table(path) if path.suffix in TABLE_FORMATS else _from_text(path)
        return FilterCurve(name, wave, response)
    except DataFileError:
        raise
    except InputError as error:
        raise DataFileError(f"{path}: {error}") from None
    except Exception as error:  # readers raise whatever the damage leads to
        raise DataFileError(f"{path}: cannot be read as a filter curve ({first_line(error)})") from None


def _from_text(path: Path) -> tuple[Any, Any]:
    """Two columns of numbers; one line of column names may stand above them."""
    text = (line.partition("#")[0].strip() for line in path.read_text().replace(",", " ").splitlines())
    lines = [line for line in text if line]
    if lines and lines[0][0].isalpha():
        del lines[0]
    if not lines:
        raise DataFileError(f"{path}: holds no numbers; give wavelength (Angstrom) and photon response")
    rows = np.loadtxt(lines, ndmin=2)
    if rows.shape[1] != 2:
        raise DataFileError(f"{path}: has {rows.shape[1]} columns; give wavelength (Angstrom) and photon response")
    return rows[:, 0], rows[:, 1]


def _from_table(path: Path) -> tuple[Any, Any]:
    """Two columns of a table, with their units."""
    from astropy.table import Table

    table = Table.read(path, format=TABLE_FORMATS[path.suffix])
    if len(table.colnames) < 2:
        raise DataFileError(f"{path}: has {len(table.colnames)} column; give wavelength and photon response")
    names = {n.lower(): n for n in table.colnames}
    wave = next((names[n] for n in _WAVE_NAMES if n in names), table.colnames[0])
    response = next((names[n] for n in _RESPONSE_NAMES if n in names), table.colnames[1])
    return table[wave], table[response]
