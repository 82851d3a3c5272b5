"""``provabgs compare``: a catalog against another code's, in one convention. Parses, calls, prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provabgs.core.atomic import atomic_path
from provabgs.core.errors import InputError

if TYPE_CHECKING:
    from astropy.table import Table

    from provabgs.catalog import Catalog
    from provabgs.catalog.conventions import Layout
    from provabgs.catalog.offsets import Comparison
    from provabgs.observe.observation import Observation

ROUNDING = 1e-6
"""How far sums of parts may be off."""
_FIGURES = (".png", ".pdf", ".svg")
_TABLES = {".ecsv": "ascii.ecsv", ".fits": "fits", ".csv": "ascii.csv"}


def compare_command(
    ours: Annotated[Path, typer.Argument(help="Catalog directory, summary.parquet, or a posterior file (.h5).")],
    other: Annotated[
        Path, typer.Argument(help="The other catalog: .fits, .parquet, .ecsv, .csv, .vot, or one of this package.")
    ],
    layout: Annotated[
        str | None, typer.Option(help="What it is: fastspecfit, provabgs (published), cigale, mpa-jhu, or own.")
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
    explain: Annotated[
        int, typer.Option(min=0, help="Galaxies to fit again under the other's conventions, one after another.")
    ] = 0,
    fits: Annotated[
        Path | None, typer.Option(help="With --explain: folder of those fits; the same command goes on with it.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="With --explain: TOML of the run, to read data of a catalog's galaxies again.")
    ] = None,
) -> None:
    """Offsets and scatter between this catalog and another, conventions converted, by mass, colour and redshift."""
    from provabgs.catalog import Catalog
    from provabgs.catalog.offsets import compare, layout_of, read_other, statistics

    for path in output or []:
        if path.suffix not in (*_FIGURES, *_TABLES):
            raise InputError(f"{path}: unknown kind of file; use {', '.join((*_TABLES, *_FIGURES))}")
    if explain and fits is None:
        raise InputError("--explain needs --fits FOLDER, where the fits are kept")
    described = layout_of(layout, mapping)
    table = read_other(other, described)
    with Catalog.open(ours) as opened:
        found = compare(opened.select(where) if where else opened, table, described)
        parts = _explained(opened, found, described, explain, fits, data) if fits is not None and explain else None
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
    if parts is not None:
        _tell(parts)


def _explained(
    catalog: Catalog, found: list[Comparison], layout: Layout, n: int, folder: Path, data: Path | None
) -> Table:
    """Fit a sample again and split the offsets; the table is kept beside the fits."""
    from provabgs.catalog.explain import config_of, refit, sample, split, steps_of
    from provabgs.core.progress import Display

    steps, chosen = steps_of(config_of(catalog), layout), sample(found, n)
    with Display("fits", unit="fits") as show:
        files = list(refit(steps, chosen, _data_of(catalog, data), folder, progress=show))
    parts = split(found, steps, chosen, files)
    with atomic_path(folder / "parts.ecsv") as temporary:
        parts.write(temporary, format="ascii.ecsv")
    return parts


def _data_of(catalog: Catalog, run: Path | None) -> Callable[[int], Observation]:
    """Where the data of a galaxy are: in a posterior file, or in the inputs of a run."""
    if run is not None:
        from provabgs.pipelines.config import load_config
        from provabgs.pipelines.reread import data_of

        read = data_of(load_config(run))
        return lambda targetid: read(next(catalog.posteriors([targetid])))
    from provabgs.catalog.observed import read_fitted

    rows = catalog.arrow(["TARGETID", "SHARD", "SHARD_ROW"])
    place = {t: (shard, row) for t, shard, row in zip(*(rows[c].to_pylist() for c in rows.column_names), strict=True)}

    def of_file(targetid: int) -> Observation:
        shard, row = place[targetid]
        return read_fitted(catalog.root / shard, row)

    return of_file


def _tell(parts: Table) -> None:
    """Print the parts of the offsets, and whether they are all."""
    from provabgs.catalog.explain import residual

    typer.echo("what the offset is made of (mean of ours minus theirs; parts in the order of the conventions)")
    for name in ("MEAN", "MEAN_ERR"):
        parts[name].info.format = "%+.3f" if name == "MEAN" else "%.3f"
    for line in parts.pformat(max_lines=-1, max_width=-1):
        typer.echo(line)
    for quantity, n in parts.meta["INCOMPLETE"].items():
        if n:
            typer.echo(f"{quantity}: {n} galaxies are left out, of which a fit gave no value")
    for part, n in parts.meta["NOT_CONVERGED"].items():
        typer.echo(f"{part}: {n} fits did not converge; they are used all the same")
    if (off := residual(parts)) > ROUNDING:
        typer.echo(f"the parts do not add up to the total: they miss it by {off:.2g}")
