"""``provabgs gallery`` and ``provabgs view``: catalogs and posterior files in a browser. Parses, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from provabgs.catalog import Catalog
    from provabgs.gallery.site import Site

Pages = Annotated[int, typer.Option(min=0, help="Most galaxies whose pages show data and draws.")]
Title = Annotated[str, typer.Option(help="Heading. (default: name of the catalog)", show_default=False)]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser.")]


def gallery_command(
    catalog: Annotated[
        list[Path],
        typer.Argument(help="Catalog directory, summary.parquet, or posterior files (.h5).", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the site.", show_default=False)],
    where: Annotated[
        str | None, typer.Option("--where", "-w", help="Query on the summary: 'LOGMSTAR_P50 > 10'.")
    ] = None,
    cone: Annotated[str | None, typer.Option(help="RA,DEC,RADIUS in degrees.")] = None,
    pages: Pages = 500,
    data: Annotated[
        Path | None,
        typer.Option(help="TOML file of the run: spectra and bands are read from its inputs again."),
    ] = None,
    title: Title = "",
) -> None:
    """Build a static site of a catalog: an overview, and a page per galaxy.

    The site opens in a browser from the folder, without a network, and from any web server. A site that is there is
    replaced; any other folder is left alone.
    """
    from provabgs.catalog import Catalog
    from provabgs.cli.query import choose

    one = len(catalog) == 1
    with Catalog.open(catalog[0]) if one else Catalog.open_files(catalog) as opened:
        name = title or (catalog[0].resolve().stem if one else f"{len(catalog)} posterior files")
        say(build(choose(opened, where, cone), output, name, pages, data))


def view_command(
    file: Annotated[Path, typer.Argument(help="Posterior file, or a catalog.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the site. (default: a temporary one)", show_default=False),
    ] = None,
    pages: Pages = 500,
    open_it: Open = True,
) -> None:
    """Show a posterior file in a browser: spectrum, bands, histories, corner plot, what does not fit.

    Prints the address of the page; remove the folder when you are done with it.
    """
    import tempfile
    import webbrowser

    from provabgs.catalog import Catalog

    with Catalog.open(file) as opened:
        folder = output if output is not None else Path(tempfile.mkdtemp(prefix="provabgs-view-"))
        site = build(opened, folder, file.resolve().stem, pages)
    typer.echo(site.page.as_uri())
    if open_it:
        webbrowser.open(site.page.as_uri())


def build(catalog: Catalog, output: Path, title: str, pages: int, data: Path | None = None) -> Site:
    """Build a site and show how far it is."""
    from provabgs.core.progress import Display
    from provabgs.gallery.site import build_site

    observation_of = None
    if data is not None:
        from provabgs.pipelines.config import load_config
        from provabgs.pipelines.reread import data_of

        observation_of = data_of(load_config(data))
    with Display("reading") as show:
        return build_site(catalog, output, title=title, pages=pages, observation_of=observation_of, progress=show)


def say(site: Site) -> None:
    """What was built, and how to open it."""
    from provabgs.cli.report import near

    pages = "" if site.n_pages == site.n_galaxies else f", {site.n_pages} of them with data and draws"
    galaxies = "1 galaxy" if site.n_galaxies == 1 else f"{site.n_galaxies:,} galaxies"
    typer.echo(f"{galaxies}{pages}, {site.n_bytes / 1e6:.1f} MB")
    typer.echo(f"open {near(site.page)} in a browser")
