"""``provabgs emulator``: train one, see what one is. Parses and prints; heavy imports wait inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provabgs.cli.stopped import stopped

if TYPE_CHECKING:
    from provabgs.pipelines.emulator import TrainingReport
    from provabgs.pipelines.emulator_config import EmulatorConfig

emulator_app = typer.Typer(
    help="Neural emulators of the SPS model: train one, or see what one is.", no_args_is_help=True
)


@emulator_app.command("train", short_help="Train an emulator, or go on with the training.")
def train_command(
    path: Annotated[Path, typer.Argument(help="TOML file; pipelines/emulator.toml made what ships.")],
    workers: Annotated[int | None, typer.Option(help="Worker processes, in place of [cluster] workers.")] = None,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Spectra on a Slurm cluster: [cluster] kind = 'slurm'.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Train an emulator and write its weights; the same command goes on after any interruption."""
    from provabgs.core.progress import Display
    from provabgs.pipelines.emulator import train_emulator
    from provabgs.pipelines.emulator_config import load_emulator_config

    config = adjusted(load_emulator_config(path), workers, slurm)
    with Display("training", quiet=quiet) as show:
        try:
            report = train_emulator(config, show)
        except KeyboardInterrupt as stop:
            raise stopped(stop, "stopped; shards and checkpoint are kept: run the same command to go on") from None
    _show_report(report)


@emulator_app.command("info", short_help="Say what weights are: conventions, range, errors.")
def info_command(file: Annotated[Path, typer.Argument(help="Weights to look at, .h5.")]) -> None:
    """Say what weights are: conventions, training range, errors, where they come from, and their hash."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from provabgs.emulator.component import CHECKED
    from provabgs.emulator.weights import load_emulator

    emulator = load_emulator(file)
    table = Table(title=f"{file} ({file.stat().st_size / 1e6:.1f} MB)", show_header=False, title_justify="left")
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    network = emulator.arrays.network
    sizes = [network.hidden[0][0].shape[0], *(b.size for _, b in network.hidden), emulator.layout.n_output]
    rows = {
        "conventions": emulator.conventions,
        "wavelength": f"{emulator.wave.size} nodes, {emulator.wave[0]:.1f} to {emulator.wave[-1]:.1f} Angstrom, vacuum",
        "network": " - ".join(str(n) for n in sizes),
        "basis functions": ", ".join(f"{k} {len(f)}" for k, f in emulator.functions._asdict().items()),
        **{
            name: f"{low:.6g} to {high:.6g}"
            for name, low, high in zip(CHECKED, emulator.low, emulator.high, strict=True)
        },
        "SSP library": emulator.library_digest,
        **{key.replace("_", " "): value for key, value in emulator.provenance.items()},
    }
    for name, value in rows.items():
        table.add_row(name, Text(value))  # as Text: brackets in a provenance are not markup
    Console().print(table)


def adjusted(config: EmulatorConfig, workers: int | None, slurm: bool) -> EmulatorConfig:
    """Command-line options over the file's."""
    update = ({} if workers is None else {"workers": workers}) | ({"kind": "slurm"} if slurm else {})
    return config.model_copy(update={"cluster": config.cluster.model_copy(update=update)})


def _show_report(report: TrainingReport) -> None:
    if report.errors is None or report.trained is None:
        return
    typer.echo(f"wrote {report.output}")
    typer.echo(report.errors.describe())
    curve = report.trained.history
    typer.echo(f"network: {curve[-1].step} steps, held-out error {100 * min(h.held_out for h in curve):.4f} %")
    typer.echo(f"spectra: {report.n_computed} draws computed, {report.n_found} found")
    typer.echo("seconds: " + ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in report.wall_s.items()))
