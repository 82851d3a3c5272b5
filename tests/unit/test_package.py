"""The package's own bookkeeping: what is listed is there, and what is there is listed."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import provabgs

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def package_folders() -> set[str]:
    """Dotted names of every folder with an ``__init__.py``, as they install."""
    found = {".".join(f.parent.relative_to(ROOT).parts) for f in (ROOT / "provabgs").rglob("__init__.py")}
    for top in ("mocks", "pipelines", "data"):
        found |= {"provabgs." + ".".join(f.parent.relative_to(ROOT).parts) for f in (ROOT / top).rglob("__init__.py")}
    return found


def test_every_package_is_listed() -> None:
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == package_folders()


@pytest.mark.parametrize("folder", ["provabgs", "mocks", "pipelines", "data"])
def test_every_folder_with_modules_is_a_package(folder: str) -> None:
    for file in (ROOT / folder).rglob("*.py"):
        assert (file.parent / "__init__.py").is_file(), f"{file.parent} has no __init__.py and would not install"


@pytest.mark.parametrize("name", provabgs.__all__)
def test_public_names_load(name: str) -> None:
    assert getattr(provabgs, name) is not None
    assert name in dir(provabgs)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        provabgs.nothing  # noqa: B018


def test_import_is_light() -> None:
    """``import provabgs`` and the command line's help load none of the heavy libraries."""
    code = (
        "import sys, provabgs, provabgs.cli.main\n"
        "heavy = {'jax', 'astropy', 'matplotlib', 'scipy', 'h5py', 'dask', 'pyarrow', 'speclite'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_console_script_points_at_a_function() -> None:
    module, _, function = PYPROJECT["project"]["scripts"]["provabgs"].partition(":")
    assert callable(getattr(import_module(module), function))


def test_version_is_the_same_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {provabgs.__version__}" in citation
    assert f"## {provabgs.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_file_outgrows_its_bound() -> None:
    for folder in ("provabgs", "mocks", "pipelines", "data"):
        for file in (ROOT / folder).rglob("*.py"):
            assert len(file.read_text().splitlines()) <= 600, f"{file.relative_to(ROOT)} is too long to read: split it"


def test_shipped_data_stay_small() -> None:
    total = sum(f.stat().st_size for f in (ROOT / "data").iterdir() if f.is_file())
    assert total <= 40e6, f"data/ holds {total / 1e6:.0f} MB, at most 40 ship"
