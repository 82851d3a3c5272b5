"""``provabgs compare``: a catalog against another code's, in one convention. Parses, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from provabgs.core.atomic import atomic_path
from provabgs.core.errors import InputError

_FIGURES = (".png", ".pdf", ".svg")
_TABLES = {".ecsv": "ascii.ecsv", ".fits": "fits", ".csv": "ascii.csv"}


def compare_command(
    ours: Annotated[Path, typer.Argument(help="Catalog directory, summary.parquet, or a posterior file (.h5).")],
    other: Annotated[Path, typer.Argument(help="The other catalog: .fits, .parquet, .ecsv, .csv or .vot.")],
    layout: Annotated[
        str | None, typer.Option(help="What it is: fastspecfit, provabgs (published), cigale or mpa-jhu.")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="TOML file of columns and conventions, or of what differs from --layout.")
    ] = None,
    where: Annotated[str | None, typer.Option("--where", "-w", help="Query on our summary: 'FLAG == 0'.")] = None,
    bins: Annotated[int, typer.Option(min=1, help="Bins of mass, colour and redshift each.")] = 5,
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", "-o", help="Table (.ecsv, .fits, .csv) or figure (.png, .pdf, .svg); repeatable."),
    ] = None,
) -> None:
    """Offsets and scatter between this catalog and another, conventions converted, by mass, colour and redshift."""
    from provabgs.catalog import Catalog
    from provabgs.catalog.offsets import compare, layout_of, read_other, statistics

    for path in output or []:
        if path.suffix not in (*_FIGURES, *_TABLES):
            raise InputError(f"{path}: unknown kind of file; use {', '.join((*_TABLES, *_FIGURES))}")
    described = layout_of(layout, mapping)
    table = read_other(other, described)
    with Catalog.open(ours) as opened:
        found = compare(opened.select(where) if where else opened, table, described)
    result = statistics(found, bins)
    typer.echo(f"ours minus {described.name}, in our conventions ({described.source or 'as the mapping says'})")
    for name in ("LOW", "HIGH", "OFFSET", "OFFSET_ERR", "SCATTER"):
        result[name].info.format = "%.3f"
    for line in result.pformat(max_lines=-1, max_width=-1):
        typer.echo(line)
    for path in output or []:
        with atomic_path(path) as temporary:
            if path.suffix in _TABLES:
                result.write(temporary, format=_TABLES[path.suffix])
            else:
                from provabgs.plotting.comparison import comparison_figure

                comparison_figure(found, described.name, temporary)
        typer.echo(f"wrote {path}")
