"""What installs: a wheel, and the editable checkout, both with mocks/, pipelines/ and data/ as subpackages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "provabgs", "mocks", "pipelines", "data")
CHECK = """
import importlib, pathlib, sys
import provabgs, provabgs.mocks, provabgs.pipelines, provabgs.data
root = pathlib.Path(provabgs.__file__).parents[1]
expected = pathlib.Path(sys.argv[1])
assert root == expected, (root, expected)
from provabgs import SSPLibrary
from provabgs.data import data_path
assert data_path("nmf_bases.ecsv").stat().st_size > 0
assert SSPLibrary.default().spectrum.ndim == 3
print(pathlib.Path(provabgs.data.__file__).parent)
"""


def run_check(expected_root: Path, cwd: Path, **environment: str) -> Path:
    """Import everything in a fresh interpreter away from the checkout; returns where the data are."""
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(expected_root)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout, built in a copy so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source / name)
    target = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "wheel",
        "--no-deps",
        "-q",
        "-w",
        str(target),
    ]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(target.glob("provabgs-*.whl"))


def test_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {f"provabgs/{f.relative_to(ROOT / 'provabgs')}" for f in (ROOT / "provabgs").rglob("*.py")}
    for top in ("mocks", "pipelines", "data"):
        modules |= {f"provabgs/{top}/{f.relative_to(ROOT / top)}" for f in (ROOT / top).rglob("*.py")}
    data = {
        f"provabgs/data/{f.name}" for f in (ROOT / "data").iterdir() if f.suffix in {".h5", ".ecsv", ".md", ".json"}
    }
    assert not (modules | data | {"provabgs/py.typed"}) - names
    assert not [n for n in names if n.split("/")[0] in {"mocks", "pipelines", "data", "tests"}]


def test_wheel_imports_with_its_data(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps"]
    done = subprocess.run([*command, "--target", str(site), str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert run_check(site, tmp_path, PYTHONPATH=str(site)) == site / "provabgs" / "data"


def test_editable_install_maps_the_top_level_folders(tmp_path: Path) -> None:
    """The environment that runs the tests has the checkout installed with ``pip install -e``."""
    import provabgs

    if Path(provabgs.__file__).parents[1] != ROOT:
        pytest.skip("the tests run on an installed copy, not on an editable checkout")
    assert run_check(ROOT, tmp_path) == ROOT / "data"
