"""The command ``provabgs``: collects the commands and turns our errors into one line and exit code 2."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from provabgs import __version__
from provabgs.cli.cluster import cluster_app
from provabgs.cli.compare import compare_command
from provabgs.cli.demo import demo
from provabgs.cli.desi import desi_app
from provabgs.cli.emulator import emulator_app
from provabgs.cli.fit import fit
from provabgs.cli.gallery import gallery_command, view_command
from provabgs.cli.mock import mock_app
from provabgs.cli.plot import plot
from provabgs.cli.population import population_app
from provabgs.cli.query import export_command, query_command
from provabgs.cli.run import config_app, run_command
from provabgs.cli.ssp import ssp_app
from provabgs.core.errors import ProvabgsError
from provabgs.core.messages import on_one_line

EXIT_BAD_INPUT = 2
"""Exit code of every error that the user can mend."""

app = typer.Typer(
    name="provabgs",
    help="Posteriors of galaxy properties from DESI spectra and Legacy Surveys photometry.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(short_help="Make mock galaxies, fit them, show the fits: a first job.")(demo)
app.command()(fit)
app.command(short_help="Draw spectrum, bands, corner, histories, a summary page.")(plot)
app.command("view", short_help="Show a posterior file in a browser.")(view_command)
app.command("gallery", short_help="Build a static site of a catalog, a page per galaxy.")(gallery_command)
app.command("run", short_help="Fit a whole catalog on a Dask cluster, or go on with it.")(run_command)
app.command("query", short_help="Choose galaxies of a catalog; print or save them.")(query_command)
app.command("export", short_help="Write a catalog in the published layout, or for ArviZ.")(export_command)
app.command("compare", short_help="Compare a catalog with FastSpecFit, CIGALE, MPA-JHU.")(compare_command)
app.add_typer(config_app, name="config")
app.add_typer(cluster_app, name="cluster", short_help="Keys, job scripts and checks of clusters.")
app.add_typer(desi_app, name="desi", short_help="DESI productions: which coadds a selection takes.")
app.add_typer(ssp_app, name="ssp", short_help="SSP libraries: build one, or see what one is.")
app.add_typer(mock_app, name="mock")
app.add_typer(population_app, name="population", short_help="Populations from posteriors: densities, priors.")
app.add_typer(emulator_app, name="emulator", short_help="Neural emulators of the model: train, inspect.")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"provabgs {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point. `ProvabgsError` becomes one line on stderr and exit code 2, without a traceback."""
    try:
        app()
    except ProvabgsError as err:
        print(f"provabgs: error: {on_one_line(err)}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


if __name__ == "__main__":
    main()
