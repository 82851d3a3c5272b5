"""docs/guide/model.md says what the code does: its tables and constants are those of the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from provabgs.core import constants
from provabgs.sps import attenuation
from provabgs.sps.attenuation import CharlotFall
from provabgs.sps.histories import NMFHistories
from provabgs.sps.model import SPSModel

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def text() -> str:
    return (DOCS / "guide" / "model.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parameter_tables", DOCS / "parameter_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["parameter_table", "derived_table"])
def test_tables_are_those_of_the_code(text, tables, name):
    expected = getattr(tables, name)()
    assert expected in text, "docs/guide/model.md is out of date; paste the output of `python docs/parameter_tables.py`"


def test_conventions_are_those_of_the_code(text):
    paper, code = SPSModel(), SPSModel.published()
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.count("|") == 4}
    for model, column in ((paper, 2), (code, 3)):
        cells = {name: rows[name].split("|")[column].strip() for name in rows}
        assert cells["birth clouds end at"].startswith(f"{1000 * model.t_birth_cloud:g} Myr")
        assert isinstance(model.attenuation, CharlotFall)
        assert cells["slope of the birth clouds"].startswith(f"{model.attenuation.birth_cloud_slope:g}")
        of = model.histories
        assert isinstance(of, NMFHistories)
        assert cells["SFH bases normalised"].startswith({"joint": "jointly", "per-basis": "each"}[of.normalisation])
        assert cells["age integral"].startswith({"exact": "closed form", "published": "42 bins"}[of.binning])


def test_constants_are_those_of_the_code(text):
    of_dust = (attenuation.R_V_CALZETTI, attenuation.BUMP_CENTRE)
    for value in (constants.SOLAR_Z_PROVABGS, *constants.Z_RANGE_PROVABGS, *of_dust):
        assert f"{value:g}" in text or f"{value:.2e}" in text, value
