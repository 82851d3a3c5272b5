"""``provabgs demo``: the first job of whoever has just installed the package, with nothing but what comes with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provabgs.cli.stopped import stopped

if TYPE_CHECKING:
    from provabgs.pipelines.challenge import ChallengeRun


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything that is made.")] = Path("demo"),
    galaxies: Annotated[int, typer.Option(min=1, max=100, help="Mock galaxies.")] = 4,
    also: Annotated[
        list[Path] | None,
        typer.Option(help="Posterior file to show in the gallery, too; may be repeated.", show_default=False),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False,
) -> None:
    """Make mock galaxies as DESI would observe them, fit them, show the fits in a gallery.

    Needs no data and no network, and takes some minutes. Each galaxy is fitted twice: spectrum with photometry, and
    photometry alone. Prints how the posteriors compare with the truth, and how to open the gallery. Stopped, the same
    command goes on where it was.
    """
    from provabgs.catalog import Catalog
    from provabgs.cli.gallery import build, say
    from provabgs.cli.mock import report
    from provabgs.core.errors import InputError
    from provabgs.gallery.site import check_folder
    from provabgs.pipelines.challenge import run_challenge

    missing = [path for path in also or [] if not path.is_file()]
    if missing:
        raise InputError(f"--also {missing[0]}: no such file")
    site = output / "gallery"
    check_folder(site)  # before minutes are spent on what goes there
    config = demo_challenge(output / "challenge", galaxies)
    try:
        run_challenge(config, quiet=quiet, announce=lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt as stop:
        raise stopped(stop, "stopped; finished fits are kept: run the same command to go on") from None
    report(config)
    files = [*(also or []), *sorted((config.output / "fits").glob("*/*.h5"))]
    with Catalog.open_files(files) as catalog:
        say(build(catalog, site, "provabgs demo", 500))


def demo_challenge(output: Path, galaxies: int) -> ChallengeRun:
    """A small mock challenge.

    Parameters
    ----------
    output
        Its folder.
    galaxies
        Number of mocks.
    """
    from provabgs.inference.config import FitConfig
    from provabgs.mocks.make import MockConfig
    from provabgs.pipelines.challenge import ChallengeRun
    from provabgs.pipelines.cluster_options import ClusterOptions

    return ChallengeRun(
        output=output,
        mock=MockConfig(n=galaxies, r_max=20.0),
        fit=FitConfig(n_samples=1000),
        modes=("both", "photometry"),
        chunk=2,
        cluster=ClusterOptions(workers=min(2, os.cpu_count() or 1)),
    )
