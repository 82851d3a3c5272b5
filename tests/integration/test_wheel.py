"""What installs: a wheel, and the editable checkout, both with mocks/, pipelines/ and data/ as subpackages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "provabgs", "mocks", "pipelines", "data")
LARGEST_BYTES = 30_000_000
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
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packed, so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source / name)
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout."""
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
    assets = {f"provabgs/gallery/assets/{f.name}" for f in (ROOT / "provabgs" / "gallery" / "assets").iterdir()}
    assert len(assets) > 8
    assert not (modules | data | assets | {"provabgs/py.typed"}) - names
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


def test_packages_stay_small(wheel: Path, source: Path, tmp_path: Path) -> None:
    """A source archive, as ``python -m build --sdist`` makes it, holds what a wheel is built from."""
    code = f"from setuptools import build_meta; print(build_meta.build_sdist({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (sdist,) = tmp_path.glob("provabgs-*.tar.gz")
    assert wheel.stat().st_size < LARGEST_BYTES
    assert sdist.stat().st_size < LARGEST_BYTES
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "provabgs/gallery/assets/index.html", "data/nmf_bases.ecsv", "mocks/__init__.py"} <= names


DOWNSTREAM = """
import numpy as np
import provabgs
from provabgs.catalog import Catalog

config = provabgs.FitConfig(preset="honest")
one: provabgs.Posterior = provabgs.fit("coadd.fits", targetid=1, config=config)
many: list[provabgs.Posterior] = provabgs.fit("coadd.fits")
low: float = float(one.quantiles("t_age_mw")[0])
name: str = one.status.name
chosen: Catalog = Catalog.open("catalog").select("Z < 0.2")
count: int = len(chosen)
wrong: int = one.quantiles("t_age_mw")  # error: float array
provabgs.fit("coadd.fits", target=1)  # error: no such argument
Catalog.open("catalog").choose("Z < 0.2")  # error: no such method
"""
"""Code of somebody else; lines that say so must be errors, and no others."""


def test_types_are_there_for_others(wheel: Path, tmp_path: Path) -> None:
    """mypy on code that uses the installed wheel, in an environment that knows nothing of the checkout."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    (packages / "others.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")) + "\n")
    (tmp_path / "downstream.py").write_text(DOWNSTREAM)
    options = ["--python-executable", str(venv / "bin" / "python"), "--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "mypy", *options, "--config-file=", "--strict", "downstream.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    expected = {k for k, line in enumerate(DOWNSTREAM.splitlines(), start=1) if "# error" in line}
    found = [line for line in done.stdout.splitlines() if line.startswith("downstream.py") and "error:" in line]
    assert {int(line.split(":")[1]) for line in found} == expected, done.stdout + done.stderr
