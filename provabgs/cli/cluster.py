"""``provabgs cluster``: what one needs beside a run on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

cluster_app = typer.Typer(
    help="Clusters: keys of a scheduler of your own, job scripts, a warm-up.", no_args_is_help=True
)
RunFile = Annotated[Path, typer.Argument(help="TOML file of the run.")]


@cluster_app.command("keys", short_help="Make the key pair of a scheduler of your own.")
def keys_command(folder: Annotated[Path, typer.Argument(help="Folder to make; only you can enter it.")]) -> None:
    """Make the key pair that lets a scheduler of your own, its workers and runs know one another."""
    from provabgs.pipelines.keys import CERTIFICATE_NAME, KEY_NAME, write_pair

    write_pair(folder)
    where = folder.absolute()
    certificate, key = where / CERTIFICATE_NAME, where / KEY_NAME
    typer.echo(f"wrote {certificate} and {key}; give these to `dask scheduler` and `dask worker`:")
    typer.echo(f"--protocol tls --tls-ca-file {certificate} --tls-cert {certificate} --tls-key {key}")


@cluster_app.command("script", short_help="Write a Slurm script that holds a whole run.")
def script_command(
    path: RunFile,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of the job.")] = 1,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; else it is printed.")] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Hand it to sbatch.")] = False,
) -> None:
    """Write a Slurm script that holds scheduler, workers and run in one job; it requeues itself until all is done."""
    from provabgs.pipelines.allocation import allocation_script
    from provabgs.pipelines.batch_systems import SYSTEMS
    from provabgs.pipelines.clusters import CLUSTER_DIRECTORY, log_directory
    from provabgs.pipelines.config import load_config

    config = load_config(path)
    script = allocation_script(config, path, nodes)
    if output is not None:
        output.write_text(script)
        typer.echo(f"wrote {output}")
    elif not submit:
        typer.echo(script, nl=False)
    if submit:
        log_directory(config.cluster, config.run.output.absolute() / CLUSTER_DIRECTORY)  # sbatch makes none
        typer.echo(f"submitted job {SYSTEMS['slurm'].send(script)}")


@cluster_app.command(
    "serve",
    short_help="Run a command whose fits use this machine's GPU.",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
)
def serve_command(
    context: typer.Context,
    width: Annotated[int, typer.Option(min=1, help="Galaxies in a call.")] = 16,
    galaxies: Annotated[int, typer.Option(min=1, help="Galaxies of one size that the card keeps.")] = 128,
) -> None:
    """Run a command, and beside it a server that evaluates the likelihoods of all its fits on one GPU.

    provabgs cluster serve provabgs run run.toml

    Ask for more workers than there are cores: each waits for the card most of the time. On a batch system, start the
    workers of each job so: [cluster] python = "provabgs cluster serve python". Fits that get no answer go on by
    themselves.
    """
    import os

    from provabgs.inference.device.launch import run_beside_server

    if not context.args:
        raise typer.BadParameter("name a command: provabgs cluster serve provabgs run run.toml")
    raise typer.Exit(run_beside_server(context.args, width, galaxies, os.environ))


@cluster_app.command("warmup", short_help="Compile on this machine what fits will need.")
def warmup_command(path: RunFile) -> None:
    """Fit one galaxy of a run and forget it: compiled functions then wait in the cache for all fit processes."""
    from provabgs.core.jax import cache_folder
    from provabgs.pipelines.config import load_config
    from provabgs.pipelines.warmup import warm_up

    typer.echo(f"{warm_up(load_config(path))}; compiled functions are in {cache_folder() or 'no cache: it is off'}")
