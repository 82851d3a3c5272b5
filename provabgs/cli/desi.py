"""``provabgs desi list``: which coadds of a production a selection takes, before a run takes them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provabgs.core.config import check_config
from provabgs.core.errors import ConfigError
from provabgs.core.messages import on_one_line

if TYPE_CHECKING:
    from provabgs.desi.selection import DesiSelection, FoundCoadd

desi_app = typer.Typer(help="Productions of DESI.", no_args_is_help=True)


@desi_app.callback()
def _group() -> None:
    """Productions of DESI."""


@desi_app.command("list")
def list_command(
    config: Annotated[Path | None, typer.Argument(help="TOML file of a run, for its [inputs.desi].")] = None,
    specprod: Annotated[str | None, typer.Option(help="Production, such as iron; else $SPECPROD.")] = None,
    redux: Annotated[Path | None, typer.Option(help="Folder of productions; else $DESI_SPECTRO_REDUX.")] = None,
    survey: Annotated[list[str] | None, typer.Option(help="Survey; may repeat.")] = None,
    program: Annotated[list[str] | None, typer.Option(help="Program; may repeat.")] = None,
    group: Annotated[str | None, typer.Option(help="healpix, uniqpix, cumulative or pernight.")] = None,
    healpix: Annotated[list[int] | None, typer.Option(help="Pixel of nside 64; may repeat.")] = None,
    uniqpix: Annotated[list[int] | None, typer.Option(help="Pixel as healpix + 4 nside^2; may repeat.")] = None,
    tile: Annotated[list[int] | None, typer.Option(help="TILEID; may repeat.")] = None,
    night: Annotated[str | None, typer.Option(help="'last', or YYYYMMDD.")] = None,
    petal: Annotated[list[int] | None, typer.Option(help="Petal, 0 to 9; may repeat.")] = None,
    targets: Annotated[list[str] | None, typer.Option(help="Targets such as BGS_BRIGHT to count; may repeat.")] = None,
    count: Annotated[bool, typer.Option("--count", help="Read each coadd and count its targets, too.")] = False,
) -> None:
    """List the coadds that a selection takes.

    One a line; a summary goes to stderr.
    """
    from provabgs.desi.selection import find_coadds

    given: dict[str, Any] = {
        "specprod": specprod, "redux": redux, "survey": survey, "program": program, "group": group,
        "healpix": healpix, "uniqpix": uniqpix, "tile": tile, "petal": petal, "targets": targets,
        "night": int(night) if night is not None and night.isdigit() else night,
    }  # fmt: skip
    selection = _selection(config, {k: v for k, v in given.items() if v is not None})
    found = find_coadds(selection)
    for coadd in found:
        typer.echo(coadd.coadd)
    for (where, kind), n in sorted(Counter((f"{f.survey}/{f.program}", f.group) for f in found).items()):
        typer.echo(f"{n} coadds of {where.strip('/') or 'unknown survey'} by {kind}", err=True)
    if lost := [f for f in found if not f.redrock.is_file()]:
        typer.echo(f"{len(lost)} have no redrock file beside them, the first {lost[0].coadd}", err=True)
    if count:
        _count(found, selection.targets)


def _selection(config: Path | None, given: dict[str, Any]) -> DesiSelection:
    """What the options say, over what the file says."""
    from provabgs.desi.selection import DesiSelection

    base: dict[str, Any] = {}
    if config is not None:
        from provabgs.pipelines.config import load_config

        base = load_config(config).inputs.desi.model_dump(exclude_defaults=True)
    if not base and not given:
        raise ConfigError("give a run's configuration, or options such as --survey main --program bright")
    return check_config(DesiSelection, {**base, **given}, "provabgs desi list", "inputs.desi")


def _count(found: list[FoundCoadd], targets: tuple[str, ...]) -> None:
    """Rows, targets and repeated TARGETIDs of coadds, to stderr."""
    from provabgs.core.errors import DataFileError
    from provabgs.desi.coadd import CoaddFile

    rows = 0
    samples: dict[int, Counter[str]] = {}
    for coadd in found:
        try:
            file = CoaddFile.open(coadd.coadd)
            ids = file.targetids[file.chosen(targets)]
        except DataFileError as error:
            typer.echo(f"unreadable: {on_one_line(error)}", err=True)
            continue
        rows += ids.size
        for targetid in ids[ids >= 0].tolist():
            samples.setdefault(targetid, Counter())[file.origin.label] += 1
    apart = sum(len(labels) > 1 for labels in samples.values())
    twice = sum(max(labels.values()) > 1 for labels in samples.values())
    typer.echo(f"{rows} rows, {len(samples)} targets; {apart} of them in several surveys or programs", err=True)
    if twice:
        typer.echo(f"{twice} targets more than once in one survey and program", err=True)
