"""Every study and every script of timings runs, small: a rename in the package breaks none of them unseen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 300.0
SCRIPTS = sorted(
    f"{path.parent.name}.{path.stem}"
    for folder in ("studies", "bench")
    for path in (ROOT / folder).glob("*.py")
    if "def main(" in path.read_text()
)
PRINTED = {
    "studies.nebular_figures": "",
    "studies.known_cases": "1 cases, 0 tracebacks or hangs",
    "studies.killed_run": "equal, row by row and sample by sample",
    "studies.population_coverage": "nothing is left to run",
    "bench.scheduler_speed": "ms of processor time a galaxy",
    "studies.population_figures": "correlation",
    "studies.honest_figures": "own stars, foreign histories",
}
"""What a script prints at its end; a table where nothing else is said."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One compilation cache for all of them, shared by the workers of xdist; no core for more than one thread."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    defaults = {"PROVABGS_COMPILATION_CACHE": str(shared / "compilations"), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    return defaults | dict(os.environ)


def test_scripts_were_found() -> None:
    assert len(SCRIPTS) >= 21
    assert {"studies.posterior_calibration", "bench.store_speed"} <= set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_smoke(script: str, environment: dict[str, str], tmp_path: Path) -> None:
    """It ends well, prints what it is there for, and leaves nothing in the checkout."""
    before = set((ROOT / "studies").iterdir()) | set(ROOT.iterdir())
    command = [sys.executable, "-m", script, "--smoke"]
    done = subprocess.run(
        command,
        env=environment | {"TMPDIR": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(re.escape(PRINTED[script]) if script in PRINTED else r"^\|---", done.stdout, re.MULTILINE)
    assert set((ROOT / "studies").iterdir()) | set(ROOT.iterdir()) == before
    # Dask's own scratch folder stays, empty, where a worker was killed
    assert [p.name for p in tmp_path.iterdir() if p.name != "dask-scratch-space"] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_readme_names_it(script: str) -> None:
    """One line of the folder's README: what it makes, how it is called, how long it takes."""
    folder, name = script.split(".")
    called = re.compile(rf"python -m {re.escape(script)}[ `]")  # not another script whose name begins so
    lines = [line for line in (ROOT / folder / "README.md").read_text().splitlines() if called.search(line)]
    assert len(lines) == 1, f"{folder}/README.md has {len(lines)} lines with `python -m {script}`"
    assert f"`{name}.py`" in lines[0]


def test_missing_input_is_said() -> None:
    """Without ``--smoke`` a study asks for the data that it needs."""
    done = subprocess.run([sys.executable, "-m", "studies.killed_run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "mocks is missing" in done.stderr


def test_kept_pieces_are_not_made_again(tmp_path: Path) -> None:
    """A study that was stopped goes on: what its folder holds is read, whatever would be computed now."""
    from studies.support.pieces import kept_arrays, kept_text

    path = tmp_path / "new" / "piece.npz"
    first = kept_arrays(path, lambda: {"x": [1.0, 2.0], "name": "one"})
    again = kept_arrays(path, lambda: pytest.fail("made again"))
    assert first["x"].tolist() == again["x"].tolist() == [1.0, 2.0]
    assert again["name"].item() == "one"
    with pytest.raises(ZeroDivisionError):
        kept_text(tmp_path / "piece.md", lambda: str(1 / 0))
    assert kept_text(tmp_path / "piece.md", lambda: "table") == "table"
    assert kept_text(tmp_path / "piece.md", lambda: "other") == "table"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "piece.md"]
