"""Options and helpers that the commands of ``provabgs population`` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provabgs.core.errors import ConfigError, InputError

if TYPE_CHECKING:
    from astropy.table import Table

    from provabgs.inference.config import FitConfig

Input = Annotated[
    Path,
    typer.Argument(help="Catalog directory, posterior file (.h5), or folder of a mock challenge.", metavar="INPUT"),
]
Where = Annotated[str | None, typer.Option("--where", "-w", help="Query on the summary: 'Z < 0.2 and MAG_R < 19.5'.")]
Mode = Annotated[str, typer.Option(help="Of a mock challenge: both, spectrum or photometry.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for tables and figures.")]
NotConverged = Annotated[
    bool, typer.Option("--include-not-converged", help="Take galaxies whose fit did not converge, too.")
]
FitFile = Annotated[
    Path | None,
    typer.Option(help="TOML with a [fit] table: the configuration that the draws are believed to be made under."),
]
Seed = Annotated[int, typer.Option(help="Of all random numbers.")]


def claimed_config(path: Path | None) -> FitConfig | None:
    """The fit configuration of a TOML file; None without a file.

    Raises
    ------
    ConfigError
        For a key or value that is not understood.
    """
    if path is None:
        return None
    from pydantic import ValidationError

    from provabgs.inference.config import FitConfig, read_toml

    try:
        return FitConfig.model_validate(read_toml(path).get("fit", {}))
    except ValidationError as err:
        first = err.errors()[0]
        raise ConfigError(f"{path}: fit.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def numbers(text: str, n: int, option: str) -> list[float]:
    """Numbers of an option such as ``0.01,0.3``.

    Parameters
    ----------
    text
        As given.
    n
        How many there must be.
    option
        Name of the option, for the message.

    Raises
    ------
    InputError
        For another number of values, or values that are not numbers.
    """
    try:
        values = [float(v) for v in text.split(",")]
    except ValueError:
        values = []
    if len(values) != n:
        raise InputError(f"{option} {text!r}: give {n} numbers, by commas")
    return values


def made(folder: Path) -> Path:
    """A folder, made when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def is_challenge(path: Path) -> bool:
    """Whether a folder is that of a mock challenge."""
    return path.is_dir() and (path / "mocks").is_dir() and (path / "fits").is_dir()


def print_table(table: Table, title: str) -> None:
    """Print a table to the terminal.

    Parameters
    ----------
    table
        Numbers are shown with three digits.
    title
        Above the table.
    """
    from rich.console import Console
    from rich.table import Table as RichTable

    shown = RichTable(title=title)
    for name in table.colnames:
        shown.add_column(name)
    for row in table:
        shown.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row))
    Console().print(shown)
