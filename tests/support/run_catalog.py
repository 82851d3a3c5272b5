"""``python -m tests.support.run_catalog RUN.toml``: the command line's run, for tests that must be able to kill it."""

from __future__ import annotations

import sys

import typer

from provabgs.cli.run import run_command
from provabgs.core.errors import ProvabgsError

if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(run_command)
    try:
        app()
    except ProvabgsError as error:
        print(f"provabgs: error: {error}", file=sys.stderr)
        sys.exit(2)
