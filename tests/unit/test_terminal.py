"""What commands print on a terminal of 80 columns: help texts whole, tables uncut, places as people know them."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from astropy.table import Table
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from provabgs.catalog import write_catalog
from provabgs.cli.main import app
from provabgs.cli.report import CHALLENGE, challenge_table, near
from provabgs.core.config import load_config_file
from provabgs.core.progress import Display, Pace, duration, next_line, rate_text, report, unheard
from provabgs.core.status import Status
from provabgs.pipelines.challenge import ChallengeRun
from provabgs.pipelines.dry_run import synthetic_posterior
from provabgs.pipelines.progress import Progress

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
    ("rate", "unit", "text"),
    [(0.0, "", ""), (0.2, "", "5.0 s each"), (100.0, "", "100/s"), (20_000.0, "galaxies", "20,000 galaxies/s")],
)
def test_rates(rate: float, unit: str, text: str) -> None:
    assert rate_text(rate, unit) == text


@pytest.mark.parametrize(("seconds", "text"), [(65.2, "1m05s"), (3 * 3600 + 240, "3h04m"), (86400 + 7200, "1d02h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Clock:
    """Time that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_pace_is_that_of_the_last_minutes() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.skip(1000)  # an earlier run's
    assert pace.left(1000, 2000) is None
    for _ in range(10):
        clock.now += 100.0
        pace.note(1000 + int(clock.now))  # one a second
    for _ in range(10):
        clock.now += 100.0
        pace.note(2000 + int(2 * (clock.now - 1000.0)))  # two
    assert pace.rate == pytest.approx(2.0)
    assert pace.left(4000, 5000) == pytest.approx(500.0)


def test_the_log_of_a_long_run_stays_short(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten hours at a galaxy in ten seconds: a line after half a minute, a hundred lines in all, each of them whole."""
    monkeypatch.setenv("COLUMNS", "40")
    clock = Clock()
    with Display("fitting", unit="galaxies") as show:
        show.pace = Pace(clock)
        for k in range(1, 3601):
            clock.now = 10.0 * k
            show("fitting", k, 3600, "2 workers")
            if k == 2:
                assert capsys.readouterr().err == ""
        show("fitting", 3600, 3600, "2 workers", last=True)
    lines = capsys.readouterr().err.splitlines()
    assert 60 < len(lines) < 130
    assert re.fullmatch(r"\d\d:\d\d:\d\d fitting: 3/3600 \(0\.1 %\), 10\.0 s each, 9h59m left, 2 workers", lines[0])
    assert "3600/3600 (100.0 %)" in lines[-1]
    assert next_line(1e6) == 1e6 + 600


def test_new_work_begins_a_new_count() -> None:
    clock = Clock()
    with Display("reading", quiet=True) as show:
        show.pace = Pace(clock)
        clock.now = 10.0
        show("reading", 1000, 1000)
        assert show.pace.rate == 100.0
        show("writing: a", 5, 1000)
        clock.now = 20.0
        show("writing: b", 25, 1000)
        assert show.pace.rate == 2.0


def test_loops_report_to_the_display_that_asked() -> None:
    told: list[tuple[Any, ...]] = []

    class Recorder(Display):
        def __call__(self, *args: Any, **kwargs: Any) -> None:
            told.append(args)
            super().__call__(*args, **kwargs)

    report("nobody listens", 1, 2)
    with Recorder("a", quiet=True):
        report("a display that did not ask", 1, 2)
    clock = Clock()
    with Recorder("b", quiet=True, reports=True) as show:
        report("reading", 0, 2000)
        show.pace = Pace(clock)
        clock.now = 10.0
        report("reading", 1000, 2000)
        assert show.pace.left(1000, 2000) == 10.0
        report("reading", 0, 2000)  # once more from the beginning
        clock.now = 20.0
        report("reading", 500, 2000)
        assert show.pace.rate == 50.0
        report("sampling", 0, 0)
        with unheard():
            report("a smaller loop", 1, 2)
    report("nobody listens any more", 1, 2)
    counts = [0, 1000, 0, 500]
    assert told == [*(("reading", n, 2000) for n in counts), ("sampling", 0, 0)]


def test_work_of_unknown_length_says_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Display("sampling") as show:
        show.pace = Pace(clock)
        clock.now = 45.0
        show("sampling", 0, 0)
    assert capsys.readouterr().err.strip().endswith("sampling: 0m45s so far")


def test_long_questions_to_a_catalog_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws are read a shard at a time, exports written a pixel at a time; commands show both."""
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr(Display, "__call__", lambda _, what, done, total: told.append((what, done, total)))
    rng = np.random.default_rng(0)
    write_catalog(tmp_path / "c", [replace(synthetic_posterior(k, rng, 20), ra=40.0 * k, dec=5.0) for k in (1, 2, 3)])
    place = str(tmp_path / "c")
    for command, expected in (
        (["query", place, "--samples", "LOGMSTAR", "-o", str(tmp_path / "a.fits")], ("reading draws", 3, 3)),
        (["query", place, "-p", "LOGMSTAR > 10"], ("reading draws", 3, 3)),
        (["query", place, "-o", str(tmp_path / "b.csv")], ("writing b.csv", 0, 0)),
        (["export", place, str(tmp_path / "h"), "--hats", "--rows", "1", "--draws", "5"], ("writing galaxies", 2, 3)),
        (["export", place, str(tmp_path / "m.fits"), "--models"], ("model spectra", 2, 3)),
    ):
        told.clear()
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert expected in told, command
        assert len({what for what, _, _ in told}) == 1 or "-o" in command, command  # a count that none interrupts


def test_what_is_printed_beside_a_bar_stays_where_it_belongs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bar on the terminal, output into a pipe: sentences go into the pipe."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Display("reading"):
        print("3 galaxies")
    assert capsys.readouterr().out == "3 galaxies\n"


def test_progress_prints_nothing_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with Display("reading") as show:
        show("reading: [bold]a", 1, 3)
        show("writing", 3, 3)
    assert capfd.readouterr() == ("", "")


def test_progress_tells_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    clock = Clock()
    with Display("reading") as show:
        show("fitting: [bold]39633345008634465", 0, 10)
        show.pace = Pace(clock)
        clock.now = 20.0
        show("fitting: [bold]39633345008634465", 5, 10)
    said = capsys.readouterr().err
    assert "fitting: [bold]39633345008634465" in said
    assert "5/10" in said
    assert "4.0 s each, 0m20s left" in said


def test_the_terminal_is_given_back_after_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rich hides the cursor while a bar is shown."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(RuntimeError), Display("reading"):
        raise RuntimeError
    said = capsys.readouterr().err
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")


def test_progress_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last line comes whatever the time, says what went wrong, and the file holds the same as numbers."""
    with Progress(tmp_path, 10) as run:
        run.add_stored(Counter({int(Status.CONVERGED): 4}))
        run.add_fitted(Counter({int(Status.CONVERGED): 4, int(Status.NOT_CONVERGED): 1, int(Status.CRASHED): 1}))
        run.show(3)
        run.show(3, last=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert "fitting: 10/10 (100.0 %)" in line
    assert line.endswith("3 workers, 1 not converged, 1 failed")
    state = json.loads((tmp_path / "progress.json").read_text())
    assert (state["total"], state["done"], state["fitted_now"], state["workers"]) == (10, 10, 6, 3)
    assert state["status"] == {"CONVERGED": 8, "NOT_CONVERGED": 1, "CRASHED": 1}
