"""``provabgs query`` and ``provabgs export``: questions to a catalog from the shell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provabgs.core.errors import InputError
from provabgs.core.messages import on_one_line

if TYPE_CHECKING:
    from astropy.table import Table

    from provabgs.catalog import Catalog

# pyarrow and astropy take their time to import: only the commands that need them do so

_DEFAULT_COLUMNS = ["TARGETID", "RA", "DEC", "Z", "STATUS", "LOGMSTAR_P50", "LOGSFR_1GYR_P50", "T_AGE_MW_P50"]
_SUFFIXES = {".fits": "fits", ".ecsv": "ascii.ecsv", ".csv": "ascii.csv"}

CatalogPath = Annotated[
    str, typer.Argument(help="Catalog directory, summary.parquet, posterior file (.h5), or HATS export (also a URL).")
]
Where = Annotated[str | None, typer.Option("--where", "-w", help="Query on the summary: 'LOGMSTAR_P50 > 10'.")]
Cone = Annotated[str | None, typer.Option(help="RA,DEC,RADIUS in degrees.")]


def query_command(
    catalog: CatalogPath,
    where: Where = None,
    cone: Cone = None,
    probability: Annotated[str | None, typer.Option("--probability", "-p", help="Query on samples.")] = None,
    select: Annotated[str | None, typer.Option("--select", "-s", help="Columns, by commas; '*' for all.")] = None,
    samples: Annotated[str | None, typer.Option(help="Sample columns, by commas: draws, with --output.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help=".fits, .ecsv, .csv, .parquet; .nc: draws for ArviZ.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Rows to print.")] = 20,
    count: Annotated[bool, typer.Option("--count", help="Only count the galaxies.")] = False,
    columns: Annotated[bool, typer.Option("--columns", help="List the columns and leave.")] = False,
) -> None:
    """Choose galaxies of a catalog and print or save what is known of them."""
    from provabgs.catalog import Catalog
    from provabgs.catalog.export import export, refuse_own_files
    from provabgs.core.progress import Display, report

    with Catalog.open(catalog) as opened:
        if columns:
            _list_columns(opened)
            return
        chosen = choose(opened, where, cone)
        if count:
            typer.echo(len(chosen))
            return
        if output is not None and output.suffix in (".parquet", ".nc") and not (probability or samples or select):
            with Display(f"writing {output.name}", unit="galaxies", reports=True):
                export(chosen, output)
            return
        if output is not None:
            refuse_own_files(chosen, output)
        with Display("reading", unit="galaxies", reports=True):
            table = _table(chosen, probability, select, samples, None if output else limit)
            if output is not None:
                report(f"writing {output.name}", 0, 0)
                _save(table, output)
                return
        _show(table, limit)


def export_command(
    catalog: CatalogPath,
    output: Annotated[
        Path, typer.Argument(help="File to write: .fits, .vot, .parquet, .h5 or .nc; with --hats a new directory.")
    ],
    form: Annotated[
        str | None, typer.Option("--as", "--format", help="provabgs, summary, models, arviz or hats; by suffix.")
    ] = None,
    models: Annotated[
        bool, typer.Option("--models", help="Tables and model spectra, FITS as of FastSpecFit; same as --as models.")
    ] = False,
    hats: Annotated[
        bool, typer.Option("--hats", help="Directory of Parquet by HEALPix pixel, as lsdb reads; same as --as hats.")
    ] = False,
    draws: Annotated[int, typer.Option(min=0, help="With --hats: draws of each galaxy, as a nested column.")] = 0,
    rows: Annotated[int, typer.Option(min=1, help="With --hats: most galaxies of a file.")] = 100_000,
    margin: Annotated[
        float, typer.Option(min=0, help="With --hats: arcsec of margin for cross-matches; 0 for none.")
    ] = 5.0,
    where: Where = None,
    cone: Cone = None,
) -> None:
    """Write a catalog, or part of one, in the published layout, as a plain table, for ArviZ, or in HATS for lsdb."""
    from provabgs.catalog import Catalog
    from provabgs.catalog.export import export
    from provabgs.catalog.hats import export_hats
    from provabgs.core.progress import Display

    form = "models" if models else "hats" if hats else form
    if draws and form != "hats":
        raise InputError("--draws is for --hats")
    with Catalog.open(catalog) as opened:
        chosen = choose(opened, where, cone)
        with Display(f"writing {output.name}", unit="galaxies", reports=True):
            if form == "hats":
                export_hats(chosen, output, draws=draws, rows=rows, margin=margin)
            else:
                export(chosen, output, form)
        typer.echo(f"wrote {len(chosen)} galaxies to {output}")


def choose(catalog: Catalog, where: str | None, cone: str | None) -> Catalog:
    """Apply --where and --cone."""
    if where:
        catalog = catalog.select(where)
    if cone:
        try:
            ra, dec, radius = (float(x) for x in cone.split(","))
        except ValueError:
            raise InputError(f"--cone {cone!r}: give RA,DEC,RADIUS in degrees") from None
        catalog = catalog.cone(ra, dec, radius)
    return catalog


def _table(
    catalog: Catalog, probability: str | None, select: str | None, samples: str | None, limit: int | None
) -> Table:
    """What was asked for, as one table."""
    if samples:
        return catalog.samples(None, [c.strip() for c in samples.split(",")])
    usual = [c for c in _DEFAULT_COLUMNS if c in catalog.columns]
    wanted = usual if select is None else [c.strip() for c in select.split(",")]
    names = None if wanted == ["*"] else wanted
    if probability is None:
        return catalog.table(names, limit=limit)
    import numpy as np

    table = catalog.table(names)
    table["PROBABILITY"] = catalog.probability(probability)["PROBABILITY"]
    order = np.argsort(-np.nan_to_num(np.asarray(table["PROBABILITY"]), nan=-1.0), kind="stable")
    return table[order]


def _show(table: Table, limit: int) -> None:
    """Print."""
    for line in table[:limit].pformat(max_lines=-1, max_width=-1):
        typer.echo(on_one_line(line))


def _save(table: Table, output: Path) -> None:
    """Write a file."""
    if output.suffix not in _SUFFIXES:
        raise InputError(
            f"{output}: unknown kind of table; use {', '.join(_SUFFIXES)}, .parquet (whole rows) or .nc (draws)"
        )
    from provabgs.core.atomic import atomic_path

    with atomic_path(output) as temporary:
        table.write(temporary, format=_SUFFIXES[output.suffix])
    print(f"wrote {len(table)} rows to {output}", file=sys.stderr)


def _list_columns(catalog: Catalog) -> None:
    """Every column of the summary and every name usable on samples."""
    from provabgs.catalog.names import SAMPLE_FORMULAS, sample_names

    typer.echo(f"# summary of {catalog.metadata.get('provabgs:n_galaxies', '?')} galaxies")
    for name in catalog.columns:
        known = catalog.schema.by_name.get(name)
        about = f"{known.description}{f' [{known.unit}]' if known.unit else ''}" if known else ""
        typer.echo(f"{name:<26} {about}")
    typer.echo("# samples")
    for name in sample_names(catalog.schema):
        typer.echo(f"{name:<26} {SAMPLE_FORMULAS.get(name, '')}".rstrip())
