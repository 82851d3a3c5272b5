"""``provabgs run`` and ``provabgs config init``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provabgs.cli.stopped import stopped
from provabgs.core.errors import ConfigError
from provabgs.core.messages import on_one_line

if TYPE_CHECKING:
    from provabgs.pipelines.config import RunConfig
    from provabgs.pipelines.plan import Plan
    from provabgs.pipelines.run import RunReport

# Dask and the readers take a second to import: only the commands that need them do so

config_app = typer.Typer(help="Configuration files of runs.", no_args_is_help=True)

EXIT_INCOMPLETE = 3
"""Exit code of a run that finished, but without the rows of inputs that could not be read."""


@config_app.command("init")
def init_command(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("run.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented configuration with every key and its default."""
    from provabgs.pipelines.config import template

    if path.exists() and not force:
        raise ConfigError(f"{path} exists; choose another name, or --force to overwrite it")
    path.write_text(template())
    typer.echo(f"wrote {path}; edit [run] output and [inputs] paths, then `provabgs run {path} --dry-run`")


@config_app.command("check")
def check_command(path: Annotated[Path, typer.Argument(help="TOML file of the run.")]) -> None:
    """Check a configuration and print it in full, defaults included."""
    from provabgs.inference.fit import check_names
    from provabgs.pipelines.config import load_config

    config = load_config(path)
    check_names(config.fit)
    typer.echo(config.model_dump_json(indent=1))


def run_command(
    path: Annotated[Path, typer.Argument(help="TOML file; `provabgs config init` writes one.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and what it costs.")] = False,
    workers: Annotated[int | None, typer.Option(help="Fit processes, in place of [cluster] workers.")] = None,
    retry: Annotated[list[str] | None, typer.Option(help="Also fit stored rows of this STATUS again.")] = None,
    scheduler_file: Annotated[
        Path | None, typer.Option(help="Use the running scheduler that wrote this file, whatever [cluster] says.")
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="Folder of the running scheduler's key pair.")] = None,
    targets: Annotated[
        Path | None, typer.Option(help="Table of the TARGETIDs to fit, in place of [inputs] targets.")
    ] = None,
    prior: Annotated[
        Path | None, typer.Option(help="Population prior to fit under, in place of [fit] prior; asks for --output.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the catalog, in place of [run] output.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress line.")] = False,
) -> None:
    """Fit a whole catalog on a Dask cluster; the same command goes on after any interruption."""
    from provabgs.pipelines.config import load_config

    config = _adjusted(load_config(path), workers, retry or [], scheduler_file, keys)
    config = _elsewhere(config, targets, prior, output)
    if dry_run:
        from provabgs.pipelines.plan import make_plan

        _show_plan(make_plan(config), config)
        return
    from provabgs.pipelines.run import run

    try:
        report = run(config, quiet=quiet, announce=typer.echo)
    except KeyboardInterrupt as stop:
        raise stopped(stop, "stopped; finished batches are kept: run the same command to go on") from None
    _show_report(report)
    if report.unreadable:
        raise typer.Exit(EXIT_INCOMPLETE)


def _adjusted(
    config: RunConfig, workers: int | None, retry: list[str], scheduler_file: Path | None, keys: Path | None
) -> RunConfig:
    """Command-line options over the file's."""
    from provabgs.pipelines.config import parse_config

    data = config.model_dump()
    if workers is not None:
        data["cluster"]["workers"] = workers
    if scheduler_file is not None:
        data["cluster"] |= {"kind": "address", "address": None, "scheduler_file": scheduler_file}
    if keys is not None:
        data["cluster"]["keys"] = keys
    data["run"]["retry"] = (*data["run"]["retry"], *retry)
    return parse_config(data, "command line")


def _elsewhere(config: RunConfig, targets: Path | None, prior: Path | None, output: Path | None) -> RunConfig:
    """The same fits of other galaxies, or under a population prior, in a folder of their own."""
    from provabgs.pipelines.config import parse_config

    if targets is None and prior is None and output is None:
        return config
    if output is None or output.absolute() == config.run.output.absolute():
        raise ConfigError(
            f"--targets and --prior make another catalog than {config.run.output}: name its folder with --output"
        )
    data = config.model_dump()
    data["run"]["output"] = output.absolute()
    if targets is not None:
        data["inputs"]["targets"] = targets.absolute()
    if prior is not None:
        data["fit"]["prior"] = str(prior.absolute())
    return parse_config(data, "command line")


def _show_plan(plan: Plan, config: RunConfig) -> None:
    from provabgs.pipelines.cluster_options import BATCH_SYSTEMS
    from provabgs.pipelines.job_script import ask_batch_system
    from provabgs.pipelines.plan import estimate

    cost = estimate(plan, config)
    typer.echo(f"galaxies   {cost.galaxies}")
    typer.echo(f"files      {cost.files}")
    typer.echo(f"shards     {cost.shards} of at most {config.store.shard_rows} galaxies")
    typer.echo(f"core-hours {cost.core_hours:.3g} at {config.execution.seconds_per_galaxy:g} s a galaxy")
    typer.echo(f"wall time  {cost.wall_hours:.3g} h")
    typer.echo(f"disk       {cost.disk_bytes / 1e9:.3g} GB")
    if plan.n_apart:
        typer.echo(f"apart      {plan.n_apart} TARGETIDs have a row in each of several surveys or programs")
    if plan.n_left_out:
        typer.echo(f"left out   {plan.n_left_out} rows of TARGETIDs that came before (duplicates = 'first')")
    _show_problems([(str(p), reason) for p, reason in plan.unreadable], plan.n_missing)
    if config.cluster.kind in BATCH_SYSTEMS:
        typer.echo(f"batch job  {ask_batch_system(config.cluster)}")


def _show_report(report: RunReport) -> None:
    typer.echo(f"{report.n_catalog} rows in {report.output}, {report.n_fitted} fitted now in {report.wall_s:.0f} s")
    for status, n in report.status.items():
        typer.echo(f"  {status:<22} {n}")
    for text in report.damaged:
        typer.echo(f"made again: {on_one_line(text)}", err=True)
    _show_problems(report.unreadable, report.n_missing)


def _show_problems(unreadable: list[tuple[str, str]], n_missing: int) -> None:
    for _, reason in unreadable:
        typer.echo(f"unreadable: {on_one_line(reason)}", err=True)
    if n_missing:
        typer.echo(f"{n_missing} TARGETIDs of the target table are in no input", err=True)
