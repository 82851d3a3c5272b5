"""What commands print on a terminal of 80 columns: help texts whole, tables uncut, places as people know them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from astropy.table import Table
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from provabgs.cli.main import app
from provabgs.cli.progress import progress, rate
from provabgs.cli.report import CHALLENGE, challenge_table, near
from provabgs.core.config import load_config_file
from provabgs.pipelines.challenge import ChallengeRun

WIDTH = 80


def commands(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every command and group with its words."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


EVERY = list(commands(get_command(app)))


def squeezed(text: str) -> str:
    """Text with all white space, and hyphens at which lines may break, as single spaces."""
    return " ".join(text.replace("\b", " ").split())


def test_all_commands_are_looked_at() -> None:
    words = {" ".join(path) for path, _ in EVERY}
    assert {"fit", "gallery", "view", "mock challenge", "population mass-function", "config init"} <= words


@pytest.mark.parametrize(("path", "command"), EVERY, ids=lambda x: " ".join(x) if isinstance(x, tuple) else "")
def test_help_says_all_that_was_written(
    path: tuple[str, ...], command: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("TERMINAL_WIDTH", str(WIDTH))
    shown = CliRunner().invoke(app, [*path, "--help"]).output
    assert max(map(len, shown.splitlines())) <= WIDTH
    # three dots are a name that may be repeated, or else a text that was cut
    assert not re.search(r"[\w,;:]\.\.\.$|\.\.\.\n", shown.replace("[ARGS]...", "").replace("}...", ""))
    said = squeezed(shown)
    for parameter in command.params:  # type: ignore[attr-defined]
        text = getattr(parameter, "help", None)
        assert squeezed(text or "") in said, f"{parameter.name}: {text}"
    for paragraph in (getattr(command, "help", None) or "").split("\n\n"):
        assert squeezed(paragraph) in said


def test_the_check_sees_swallowed_brackets() -> None:
    rich = typer.Typer(rich_markup_mode="rich")

    @rich.command()
    def one(config: str = typer.Option("", help="its [fit] table is read.")) -> None:
        pass

    assert "its [fit] table" not in squeezed(CliRunner().invoke(rich, ["--help"]).output)
    assert "its [fit] table is read." in squeezed(CliRunner().invoke(app, ["fit", "--help"]).output)


def challenge_summary() -> Table:
    names = ("both", "spectrum", "photometry")
    properties = ("logmstar_surviving", "log_sfr_100myr")
    rows = [(m, p, 2000, -0.01234, 0.6648, 0.75, 1.0, 123.456) for m in names for p in properties]
    return Table(rows=rows, names=list(CHALLENGE))


def test_the_challenge_table_fits() -> None:
    console = Console(width=WIDTH, file=io.StringIO())
    console.print(challenge_table(challenge_summary()))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = text.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= WIDTH
    assert "…" not in text
    assert "logmstar_surviving" in text
    assert " ".join(lines[1].split()) == "data property n bias scatter in 68% conv. s/fit"
    assert " ".join(lines[3].split()) == "both logmstar_surviving 2000 -0.012 0.665 75% 100% 123.5"


def test_places_are_named_without_detours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mocks").mkdir()
    (tmp_path / "mocks" / "demo.toml").write_text('output = "../demo/challenge"\n[mock]\nn = 1\n')
    config = load_config_file(ChallengeRun, tmp_path / "mocks" / "demo.toml")
    assert config.output == tmp_path.resolve() / "demo" / "challenge"
    monkeypatch.chdir(tmp_path)
    assert near(config.output / "results") == "demo/challenge/results"
    assert near(Path("/elsewhere/a")) == "/elsewhere/a"


@pytest.mark.parametrize(
    ("done", "elapsed", "text"),
    [(0, 1.0, ""), (3, 0.0, ""), (2, 10.0, "5.0 s each"), (100, 1.0, "100/s"), (20_000, 1.0, "20,000/s")],
)
def test_rates(done: int, elapsed: float, text: str) -> None:
    assert rate(done, elapsed) == text


def test_progress_prints_nothing_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("reading") as show:
        show("reading: [bold]a", 1, 3)
        show("writing", 3, 3)
    assert capfd.readouterr() == ("", "")


def test_progress_tells_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with progress("reading") as show:
        show("fitting: [bold]39633345008634465", 5, 10)
    said = capsys.readouterr().err
    assert "fitting: [bold]39633345008634465" in said
    assert "5/10" in said
    assert "left" in said
