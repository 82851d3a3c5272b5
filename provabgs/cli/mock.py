"""``provabgs mock``: mock observations and the mock challenge. Parses and prints; the work is in `provabgs.mocks`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provabgs.cli.stopped import stopped

if TYPE_CHECKING:
    from provabgs.mocks.challenge import ChallengeConfig

mock_app = typer.Typer(help="Mock galaxies of known truth, and how well they are recovered.", no_args_is_help=True)

TEMPLATE = """\
# A mock challenge. `provabgs mock challenge FILE` runs it and goes on where it was stopped.
output = "challenge"          # directory, relative to this file
seed = 0                      # of the fits
modes = ["both", "spectrum", "photometry"]
chunk = 10                    # galaxies per piece: what is lost when a run is stopped

[mock]
n = 20                        # galaxies, drawn at random from those that pass the cut; leave out for all
seed = 20220203
r_max = 20.0                  # magnitude limit, measured r
# galaxies = "mine.h5"        # simulated galaxies; the L-GALAXIES sample that ships if left out
# noise = "shipped"           # or "specsim", with the extra specsim and the DESIMODEL data
# n_sub = 1                   # time slices per history bin

[mock.conditions]
effective_s = 180.0           # as DESI counts: equivalent time under a dark sky at zenith
# sky_factor = 2.5            # brightness over dark sky, as BGS is observed; the exposure is longer by as much
# airmass = 1.0

[fit]
n_samples = 1000

[fit.sampler]
# name = "auto"
# time_limit_s = 300.0

[cluster]                     # as for `provabgs run`; `provabgs config init` lists all keys
workers = 1                   # fit processes; 0 for all cores here
# kind = "local"              # or slurm, pbs, lsf, address
# address = "tls://host:8786" # with kind = "address", and keys
"""


ConfigArgument = Annotated[Path, typer.Argument(help="Challenge configuration, TOML; `provabgs mock init` writes one.")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Fit processes, in place of [cluster] workers.")]


@mock_app.command()
def init(path: Annotated[Path, typer.Argument(help="File to write.")] = Path("challenge.toml")) -> None:
    """Write a commented configuration to start from."""
    from provabgs.core.errors import InputError

    if path.exists():
        raise InputError(f"{path}: exists already; choose another name or remove it")
    path.write_text(TEMPLATE)
    typer.echo(f"wrote {path}")


@mock_app.command()
def make(config: ConfigArgument) -> None:
    """Make mock observations.

    Writes DESI coadd and redrock files, and the truth, under OUTPUT/mocks.
    """
    from provabgs.cli.report import near
    from provabgs.core.progress import Display
    from provabgs.mocks.challenge import make_mocks
    from provabgs.pipelines.challenge import load_challenge

    challenge = load_challenge(config)
    with Display("making mocks") as show:
        truth = make_mocks(challenge, lambda done, total, what: show(f"making mocks: {what}", done, total))
    typer.echo(f"{len(truth)} mock galaxies in {near(challenge.output / 'mocks')}")


@mock_app.command()
def challenge(
    config: ConfigArgument,
    workers: WorkersOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Fit at most this many pieces now.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress line.")] = False,
) -> None:
    """Make mocks, fit them on a Dask cluster, say what came out.

    Writes tables and figures of how well truth was recovered. Stop it at any time; the same command goes on where it
    was.
    """
    from provabgs.pipelines.challenge import load_challenge, run_challenge

    loaded = load_challenge(config)
    if workers is not None:
        loaded = loaded.model_copy(update={"workers": workers})
    try:
        run_challenge(loaded, limit=limit, quiet=quiet, announce=lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt as stop:
        raise stopped(stop, "stopped; finished pieces are kept: run the same command to go on") from None
    report(loaded)


@mock_app.command()
def score(
    config: ConfigArgument,
    divide_by_prior: Annotated[
        bool, typer.Option(help="Divide posteriors by the prior that parameters induce on each property.")
    ] = False,
) -> None:
    """Tables and figures of what is fitted so far."""
    from provabgs.pipelines.challenge import load_challenge

    report(load_challenge(config), divide_by_prior)


def report(config: ChallengeConfig, divide_by_prior: bool = False) -> None:
    """Write and print how well truth was recovered.

    Parameters
    ----------
    config
        A challenge with fits.
    divide_by_prior
        Divide posteriors by the induced prior.
    """
    from rich.console import Console

    from provabgs.cli.report import challenge_table, near
    from provabgs.mocks.report import write_report

    summary, written = write_report(config, divide_by_prior)
    console = Console()
    console.print("posterior median minus truth, dex (age: Gyr)", style="bold")
    console.print(challenge_table(summary))
    console.print(f"{len(written)} files in {near(config.output / 'results')}", highlight=False, soft_wrap=True)
