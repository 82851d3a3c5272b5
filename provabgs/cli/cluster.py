"""``provabgs cluster``: what one needs beside a run on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

cluster_app = typer.Typer(help="Clusters: keys of a scheduler of your own.", no_args_is_help=True)


@cluster_app.command("keys")
def keys_command(folder: Annotated[Path, typer.Argument(help="Folder to make; only you can enter it.")]) -> None:
    """Make the key pair that lets a scheduler of your own, its workers and runs know one another."""
    from provabgs.pipelines.keys import CERTIFICATE_NAME, KEY_NAME, write_pair

    write_pair(folder)
    where = folder.absolute()
    certificate, key = where / CERTIFICATE_NAME, where / KEY_NAME
    typer.echo(f"wrote {certificate} and {key}; give these to `dask scheduler` and `dask worker`:")
    typer.echo(f"--protocol tls --tls-ca-file {certificate} --tls-cert {certificate} --tls-key {key}")
