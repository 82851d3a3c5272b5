"""The Python of the guide: each block parses and imports what exists; those without a long fit run as printed."""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table

import provabgs
from provabgs.catalog import Catalog, write_catalog
from provabgs.catalog.shard import write_shard
from provabgs.inference.config import SamplerOptions
from provabgs.inference.samplers import ensemble
from provabgs.mocks.make import MockConfig, MockMaker
from provabgs.mocks.sdss_file import write_spec_file
from provabgs.pipelines.dry_run import synthetic_posterior

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [*sorted((DOCS / "guide").glob("*.md")), DOCS / "surveys.md"]
TARGETID = 39633345008634465
"""The galaxy that the guide names."""


def blocks(page: Path) -> list[str]:
    """Python blocks of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


EXTRAS = ("sparcl", "specutils", "lsdb")
"""Packages that examples import, and that not every installation has."""
EVERY = [(page, k, code) for page in PAGES for k, code in enumerate(blocks(page))]


@pytest.mark.parametrize(("page", "k", "code"), EVERY, ids=[f"{p.stem}-{k}" for p, k, _ in EVERY])
def test_imports_what_exists(page: Path, k: int, code: str) -> None:
    tree = ast.parse(code, f"{page.name}, block {k}")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            name = str(node.module)
            module = (
                pytest.importorskip(name, reason=f"{name} is an extra")
                if name.startswith(EXTRAS)
                else (importlib.import_module(name))
            )
            missing = [a.name for a in node.names if not hasattr(module, a.name)]
            assert not missing, f"{node.module} has no {', '.join(missing)}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "provabgs":
            assert node.attr in {*provabgs.__all__, "catalog", "sdss", "observe"}, f"provabgs.{node.attr}"


def run(page: str, number: int, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run one block as printed; returns its names."""
    space = dict(names or {})
    exec(compile(blocks(DOCS / page)[number], f"{page}, block {number}", "exec"), space)
    return space


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that the guide names: a catalog, and a posterior file."""
    rng = np.random.default_rng(3)
    ids = [TARGETID, *range(1, 30)]
    made = [synthetic_posterior(i, rng, 40, redshift=0.05 + 0.005 * k) for k, i in enumerate(ids)]
    placed = [replace(p, ra=150.1, dec=2.2) for p in made]
    write_catalog(tmp_path / "catalog", placed, n_samples=40)
    write_shard(tmp_path / "out.h5", placed[:2])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_questions_to_a_catalog() -> None:
    mine = Table({"TARGETID": [TARGETID]})
    names = run("guide/catalog.md", 0, {"my_table": mine})
    assert isinstance(names["catalog"], Catalog)
    assert len(names["catalog"]) == 30
    assert 0 < len(names["massive"]) < 30


@pytest.mark.usefixtures("folder")
def test_a_posterior_file(capsys: pytest.CaptureFixture[str]) -> None:
    run("guide/start.md", 1)
    assert str(TARGETID) in capsys.readouterr().out


def test_a_filter_curve_of_ones_own() -> None:
    assert len(run("surveys.md", 0)["photometry"].bands) == 3


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits with the least budget for the sampler."""
    small = provabgs.FitConfig(sampler=SamplerOptions(name="emcee", max_eval=100), n_samples=50)
    real = provabgs.fit
    monkeypatch.setattr(ensemble, "CHUNK", 20)
    monkeypatch.setattr(provabgs, "fit", lambda data, **options: real(data, config=small, **options))


@pytest.mark.usefixtures("quick")
def test_an_sdss_spectrum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = MockMaker(MockConfig(r_max=18.0))
    made = write_spec_file(maker, maker.make(next(maker.selected())), tmp_path)
    made.rename(tmp_path / "spec-0945-52652-0470.fits")
    monkeypatch.chdir(tmp_path)
    names = run("guide/survey.md", 1, {"provabgs": provabgs})
    assert names["posterior"].status.has_samples
    assert names["posterior"].dof_spec > 3000
