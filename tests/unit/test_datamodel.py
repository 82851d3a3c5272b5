"""Every column of every file is in the data model, every documented column exists, and the pages are up to date."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.io.votable.ucd import check_ucd

from provabgs.catalog import Catalog, write_catalog, write_posteriors
from provabgs.catalog.columns import Schema
from provabgs.catalog.datamodel import Entry, entries, to_json
from provabgs.catalog.export import export
from provabgs.inference.flags import Flag
from provabgs.pipelines.dry_run import synthetic_posterior

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("data_model", DOCS / "data_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def schema(pages: ModuleType) -> Schema:
    made: Schema = pages.standard_schema()
    return made


@pytest.fixture(scope="module")
def found(schema: Schema) -> tuple[Entry, ...]:
    return entries(schema)


@pytest.fixture(scope="module")
def files(schema: Schema, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A catalog, a shard and exports of posteriors with all measured quantities."""
    root = tmp_path_factory.mktemp("model")
    rng = np.random.default_rng(1)
    numbers = {q.name: np.ones(len(q.suffixes)) for q in schema.measured}
    made = [
        replace(
            synthetic_posterior(k, rng, 20), ra=10.0, dec=1.0, measured_quantities=schema.measured, measured=numbers
        )
        for k in (1, 2)
    ]
    write_catalog(root / "catalog", made)
    write_posteriors(root / "shard.h5", made)
    with Catalog.open(root / "catalog") as catalog:
        export(catalog, root / "models.fits", "models")
        export(catalog, root / "published.fits", "provabgs")
    return {n: root / n for n in ("catalog", "shard.h5", "models.fits", "published.fits")}


def documented(found: tuple[Entry, ...], table: str) -> set[str]:
    return {e.name for e in found if e.table == table or table in e.also}


def test_the_summary(found: tuple[Entry, ...], files: dict[str, Path]) -> None:
    stored = pq.read_schema(files["catalog"] / "summary.parquet")
    assert set(stored.names) == documented(found, "summary")
    about = {e.name: e for e in found if e.table == "summary"}
    for field in stored:
        kind = {"float": "float32", "double": "float64", "string": "text"}.get(str(field.type), str(field.type))
        assert about[field.name].type == kind, field.name


def test_the_shard(found: tuple[Entry, ...], files: dict[str, Path]) -> None:
    with h5py.File(files["shard.h5"]) as f:
        datasets: list[str] = []
        f.visititems(lambda name, item: datasets.append(name) if isinstance(item, h5py.Dataset) else None)
        fields = set(f["summary"].dtype.names)
    named = documented(found, "shard")
    assert {n for n in datasets if n != "summary"} == {n for n in named if n == n.lower() or "/" in n}
    assert fields == {n for n in named if n == n.upper()}


def test_exports(found: tuple[Entry, ...], files: dict[str, Path]) -> None:
    with fits.open(files["models.fits"]) as hdus:
        for hdu in hdus[1:]:
            if isinstance(hdu, fits.BinTableHDU):
                assert set(hdu.columns.names) == documented(found, hdu.name)
            else:
                assert documented(found, hdu.name) == {"(image)"}
    with fits.open(files["published.fits"]) as hdus:
        assert set(hdus[1].columns.names) == documented(found, "provabgs")


def test_each_entry_is_whole(found: tuple[Entry, ...]) -> None:
    for e in found:
        assert e.description, e.name
        assert e.null, e.name
        assert e.since in ("0.1.0", "0.2.0")
        u.Unit(e.unit)
        assert not e.ucd or check_ucd(e.ucd, check_controlled_vocabulary=True), (e.name, e.ucd)
    keys = [(e.table, e.name) for e in found]
    assert len(keys) == len(set(keys))


def test_the_pages_are_those_of_the_code(pages: ModuleType, schema: Schema, found: tuple[Entry, ...]) -> None:
    stale = "is out of date: run `python docs/data_model.py`"
    text = (DOCS / "datamodel.md").read_text(encoding="utf-8")
    assert text == pages.page(schema), f"docs/datamodel.md {stale}"
    stored = (DOCS / "datamodel.json").read_text(encoding="utf-8")
    assert stored == to_json(found), f"docs/datamodel.json {stale}"
    assert len(json.loads(stored)) == len(found)
    for flag in Flag:
        assert f"| {int(flag)} | {flag.name} |" in text


def test_the_page_names_every_column(pages: ModuleType, schema: Schema, found: tuple[Entry, ...]) -> None:
    text = pages.page(schema)
    for e in found:
        name, escaped = e.name.rpartition("/")[2], e.name
        family = any(
            name.startswith(f"{q.column}_") or name == q.column for q in (*schema.quantities, *schema.measured)
        )
        assert family or f"| {escaped} |" in text or e.name in ("(image)",) or name == "LOG_PROB", e.name
