"""Options of ``provabgs fit`` for tables joined by TARGETID: the keys of a run's ``[inputs.joins]``, one by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provabgs.core.errors import ConfigError

if TYPE_CHECKING:
    from provabgs.desi.joins import JoinOptions

Zcatalog = Annotated[
    Path | None, typer.Option(help="Redshift catalog to use in place of the redrock file.", show_default=False)
]
Vi = Annotated[
    Path | None, typer.Option(help="Redshifts of visual inspection, taken before any other.", show_default=False)
]
ViQuality = Annotated[
    float | None, typer.Option(help="Least VI_QUALITY that is fitted. (default: 2.5)", show_default=False)
]
Weights = Annotated[
    Path | None, typer.Option(help="Table of weights for the catalog, such as an LSS catalog's.", show_default=False)
]
Columns = Annotated[
    list[str] | None,
    typer.Option(help="Of --weights: W_NAME=COLUMN or W_NAME=1/COLUMN; may be repeated.", show_default=False),
]
FastSpecFit = Annotated[
    Path | None, typer.Option(help="FastSpecFit's file: dispersions and line fluxes.", show_default=False)
]


def join_options(
    zcatalog: Path | None,
    vi: Path | None,
    vi_quality: float | None,
    weights: Path | None,
    columns: list[str] | None,
    fastspecfit: Path | None,
) -> JoinOptions:
    """What a run's ``[inputs.joins]`` would say.

    Parameters
    ----------
    zcatalog, vi, weights, fastspecfit
        Tables; None for those that are not joined.
    vi_quality
        Least quality of an inspection.
    columns
        ``NAME=SOURCE`` of each weight.

    Raises
    ------
    ConfigError
        For columns of another form, or without a table of weights.
    """
    from provabgs.core.config import check_config
    from provabgs.desi.joins import JoinOptions

    pairs = dict(_pair(text) for text in columns or ())
    if pairs and weights is None:
        raise ConfigError("--columns name columns of --weights, which is not given")
    given: dict[str, Any] = {
        "zcatalog": zcatalog, "vi": vi, "vi_quality": vi_quality, "weights": weights, "columns": pairs,
        "fastspecfit": fastspecfit,
    }  # fmt: skip
    return check_config(JoinOptions, {k: v for k, v in given.items() if v is not None}, "provabgs fit", "inputs.joins")


def _pair(text: str) -> tuple[str, str]:
    name, found, source = text.partition("=")
    if not found:
        raise ConfigError(f"--columns {text!r}: give NAME=COLUMN or NAME=1/COLUMN")
    return name.strip(), source.strip()
