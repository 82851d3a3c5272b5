"""``provabgs plot``: figures of a posterior file. Parses, calls, prints."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class FigureFormat(StrEnum):
    """Formats of figure files."""

    png = "png"
    pdf = "pdf"


def plot(
    posteriors: Annotated[Path, typer.Argument(help="File written by `provabgs fit`.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the figures.")] = Path("figures"),
    targetid: Annotated[
        list[int] | None, typer.Option(help="Draw this TARGETID; may be repeated. (default: all)", show_default=False)
    ] = None,
    file_format: Annotated[FigureFormat, typer.Option("--format", help="Format of the files.")] = FigureFormat.png,
    n_draws: Annotated[int, typer.Option(min=10, help="Draws that bands are computed from.")] = 200,
    everything: Annotated[
        bool, typer.Option("--all", help="A second corner plot, of every parameter and property.")
    ] = False,
) -> None:
    """Draw spectrum, photometry, corner, histories and a one-page summary of every galaxy with samples."""
    from provabgs.catalog.observed import read_fitted
    from provabgs.catalog.shard import read_shard
    from provabgs.core.errors import InputError
    from provabgs.core.progress import Display
    from provabgs.plotting.galaxy import draw_galaxy

    rows = list(enumerate(read_shard(posteriors)))
    if targetid:
        missing = set(targetid) - {p.targetid for _, p in rows}
        if missing:
            raise InputError(f"{posteriors}: holds no TARGETID {', '.join(map(str, sorted(missing)))}")
        rows = [(row, p) for row, p in rows if p.targetid in targetid]
    drawable = [(row, p) for row, p in rows if len(p.samples)]
    if not drawable:
        row, p = rows[0]
        raise InputError(f"{posteriors}, row {row}: no samples to draw, STATUS {p.status.name}: {p.message}")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file; give the name of a folder for the figures")
    written = []
    with Display("drawing") as show:
        for done, (row, posterior) in enumerate(drawable):
            show(f"drawing: {posterior.targetid}", done, len(drawable))
            written += draw_galaxy(
                posterior,
                read_fitted(posteriors, row),
                output,
                file_format=file_format.value,
                n_draws=n_draws,
                everything=everything,
            )
    for path in written:
        typer.echo(str(path))
