"""``provabgs ssp`` and the entry point's way with errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from provabgs import __version__
from provabgs.cli.main import app, main
from provabgs.cli.ssp import SourceName, parse_numbers
from provabgs.core.errors import InputError
from provabgs.sps.library import SSPLibrary
from provabgs.sps.sources import SOURCES

runner = CliRunner()


def run_main(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit code of the installed command."""
    monkeypatch.setattr(sys, "argv", ["provabgs", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.npz"
    np.savez(
        path,
        wave=np.linspace(3000, 9000, 7),
        logage=np.array([7.0, 10.0]),
        logzsol=np.array([0.0, 0.5]),
        Z=np.array([0.0142, 0.0449]),
        spec=np.ones((2, 2, 7), np.float32),
        mstar=np.full((2, 2), 0.7),
    )
    return path


def test_sources_on_the_command_line_are_all_sources() -> None:
    assert {name.value for name in SourceName} == set(SOURCES)


def test_info_of_the_default(library: SSPLibrary) -> None:
    result = runner.invoke(app, ["ssp", "info"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for expected in ("12 nodes", "104 nodes", "4899 nodes", "Chabrier (2003)", library.digest(), "MIT"):
        assert expected in result.output


def test_build_then_info(grid: Path, tmp_path: Path) -> None:
    out = tmp_path / "ssp.h5"
    arguments = ["ssp", "build", "--source", "recovered", "-i", str(grid), "-o", str(out), "--wave-max", "5500"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(SSPLibrary.load(out).wave, [3000, 4000, 5000])
    assert "2 nodes" in runner.invoke(app, ["ssp", "info", str(out)]).output


def test_errors_are_one_line_and_exit_code_2(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "x.h5").write_text("no")
    for arguments in (
        ["ssp", "info", str(tmp_path / "absent.h5")],
        ["ssp", "info", str(tmp_path / "x.h5")],
        ["ssp", "build", "--source", "recovered", "-o", str(tmp_path / "o.h5")],
        ["ssp", "build", "--source", "recovered", "-o", str(tmp_path / "none" / "o.h5")],
        ["ssp", "build", "--source", "fsps", "--logzsol", "a,b", "-o", str(tmp_path / "o.h5")],
    ):
        assert run_main(arguments, monkeypatch) == 2
        error = capsys.readouterr().err
        assert error.startswith("provabgs: error: ")
        assert error.count("\n") == 1


def test_success_exits_with_0(monkeypatch, capsys) -> None:
    assert run_main(["--version"], monkeypatch) == 0
    assert capsys.readouterr().out == f"provabgs {__version__}\n"


def test_help_shows_how_to_get_fsps() -> None:
    text = runner.invoke(app, ["ssp", "build", "--help"], env={"COLUMNS": "120"}).output
    assert "pip install 'provabgs[fsps]'" in text
    assert "export SPS_HOME" in text


def test_help_loads_nothing_heavy() -> None:
    """The command stays quick: no array or plotting library is imported for --help."""
    code = (
        "import sys\n"
        "from provabgs.cli.main import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'jax', 'astropy', 'h5py', 'matplotlib', 'dask'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_numbers() -> None:
    assert parse_numbers("-1,0.5", "--x") == (-1.0, 0.5)
    assert parse_numbers(None, "--x") is None
    with pytest.raises(InputError, match="--x 'a': give numbers"):
        parse_numbers("a", "--x")
