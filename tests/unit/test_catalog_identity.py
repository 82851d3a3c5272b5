"""Draws are those of the galaxy that was asked for, whatever happened to the catalog's files meanwhile."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from provabgs.catalog import Catalog, write_catalog
from provabgs.catalog.generations import replace_shard
from provabgs.catalog.layout import SUMMARY_NAME, SUPERSEDED_DIRECTORY, shard_paths
from provabgs.catalog.records import to_block
from provabgs.catalog.seal import seal
from provabgs.catalog.summary import build_summary
from provabgs.core.errors import DataFileError
from provabgs.inference.posterior import Posterior
from provabgs.pipelines.dry_run import synthetic_posterior
from provabgs.population.sources import open_source

FIRST, SECOND = range(100, 120), range(20, 40)


def make(targetid: int, ra: float = 10.0) -> Posterior:
    p = synthetic_posterior(targetid, np.random.default_rng(targetid), 40)
    # a galaxy's mass says which galaxy it is
    mass = targetid / 10 + 1e-3 * np.random.default_rng(targetid).standard_normal(40)
    return replace(p, derived={**p.derived, "logmstar_surviving": mass}, ra=ra, dec=10.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_catalog(tmp_path / "catalog", [*map(make, FIRST)], n_samples=32)
    return tmp_path / "catalog"


def masses(catalog: Catalog) -> dict[int, float]:
    table = catalog.samples(names=["LOGMSTAR"])
    return dict(zip(table["TARGETID"].tolist(), np.median(table["LOGMSTAR"], axis=1).tolist(), strict=True))


def assert_right(catalog: Catalog, ids: set[int]) -> None:
    found = masses(catalog)
    assert set(found) == ids
    np.testing.assert_allclose(list(found.values()), np.array(list(found)) / 10, atol=0.01)
    table = catalog.probability("LOGMSTAR > 11")
    assert table["PROBABILITY"][table["TARGETID"] != 110].tolist() == [
        float(i > 110) for i in table["TARGETID"] if i != 110
    ]


def extend(root: Path) -> None:
    """What a run does on more inputs, up to the moment before it writes the summary."""
    (shard,) = shard_paths(root)
    both = to_block([make(i) for i in (*SECOND, *FIRST)], n_samples=32)
    replace_shard(root, shard.relative_to(root).as_posix(), both)


@pytest.mark.parametrize("links", [True, False])
def test_an_extended_catalog_is_old_until_its_summary_is_new(
    root: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with Catalog.open(root) as opened:
        extend(root)
        extend(root)  # the same rows again
        assert_right(opened, set(FIRST))
        with Catalog.open(root) as catalog:
            assert_right(catalog, set(FIRST))
        source = open_source(root)
        (chunk,) = source.chunks(["LOGMSTAR"])
        assert np.median(chunk.values["LOGMSTAR"], axis=1)[0] == pytest.approx(10.0, abs=0.01)
        build_summary(root)
        with Catalog.open(root) as catalog:
            assert_right(catalog, {*FIRST, *SECOND})
        assert not (root / SUPERSEDED_DIRECTORY).exists()
        with pytest.raises(DataFileError, match="written anew since this catalog was opened; open it again"):
            masses(opened)


def test_an_extended_catalog_written_by_hand_is_refused(root: Path) -> None:
    (shard,) = shard_paths(root)
    write_catalog(root.parent / "other", [make(i) for i in (*SECOND, *FIRST)], n_samples=32)
    shutil.copy(shard_paths(root.parent / "other")[0], shard)
    with Catalog.open(root) as catalog, pytest.raises(DataFileError, match="not the shard that the summary"):
        masses(catalog)


def test_exchanged_shards_are_refused(tmp_path: Path) -> None:
    write_catalog(tmp_path, [*(make(i) for i in FIRST), *(make(i, 50.0) for i in SECOND)], n_samples=32)
    a, b = shard_paths(tmp_path)
    a.rename(tmp_path / "c")
    b.rename(a)
    (tmp_path / "c").rename(b)
    with Catalog.open(tmp_path) as catalog:
        for ask in (masses, lambda c: c.probability("LOGMSTAR > 3"), lambda c: c.samples([105])):
            with pytest.raises(DataFileError, match="not the shard that the summary was built from"):
                ask(catalog)
    build_summary(tmp_path)
    with Catalog.open(tmp_path) as catalog:
        assert_right(catalog, {*FIRST, *SECOND})


def test_rows_of_another_galaxy_are_refused_though_the_shard_is_right(root: Path) -> None:
    with Catalog.open(root) as catalog:
        located = catalog._locate(None)
        located["SHARD_ROW"] = located["SHARD_ROW"][::-1]
        with pytest.raises(DataFileError, match="row 19 is of TARGETID 119, not of 100"):
            list(catalog._chunks(located, ["LOGMSTAR"]))


def reverse_samples(f: h5py.File) -> None:
    f["samples/LOGMSTAR"][:] = f["samples/LOGMSTAR"][:][::-1]


def change_scale(f: h5py.File) -> None:
    f["scale/LOGMSTAR"][3] = f["scale/LOGMSTAR"][3] * np.float32(1.01)


def change_encoding(f: h5py.File) -> None:
    f.attrs["encoding"] = "float32"


def exchange_columns(f: h5py.File) -> None:
    f.move("samples/LOGMSTAR", "samples/X")
    f.move("samples/LOGMSTAR_FORMED", "samples/LOGMSTAR")
    f.move("samples/X", "samples/LOGMSTAR_FORMED")


def change_ids(f: h5py.File) -> None:
    f["targetid"][:] = f["targetid"][:][::-1]


def link_outside(f: h5py.File) -> None:
    path = Path(f.filename).with_name("elsewhere.h5")
    with h5py.File(path, "w") as other:
        f.copy("samples/LOGMSTAR", other, "x")
    del f["samples/LOGMSTAR"]
    f["samples/LOGMSTAR"] = h5py.ExternalLink(str(path), "x")


def soft_link(f: h5py.File) -> None:
    f.move("samples/LOGMSTAR", "x")
    f["samples/LOGMSTAR"] = h5py.SoftLink("/x")


def virtual(f: h5py.File) -> None:
    f.move("samples/LOGMSTAR", "x")
    layout = h5py.VirtualLayout(f["x"].shape, f["x"].dtype)
    layout[:] = h5py.VirtualSource(f["x"])
    f.create_virtual_dataset("samples/LOGMSTAR", layout)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (reverse_samples, "LOGMSTAR, rows from 0: do not match their checksum"),
        (change_scale, "LOGMSTAR, rows from 0: do not match their checksum"),
        (change_encoding, "do not match its SHA-256"),
        (exchange_columns, "LOGMSTAR, rows from 0: do not match their checksum"),
        (change_ids, "targetid, rows from 0: do not match their checksum"),
        (link_outside, "is a link"),
        (soft_link, "is a link"),
        (virtual, "lie in another file"),
    ],
)
def test_samples_that_were_touched_are_refused(root: Path, damage: object, message: str) -> None:
    (shard,) = shard_paths(root)
    with h5py.File(shard, "r+") as f:
        damage(f)  # type: ignore[operator]
    with Catalog.open(root) as catalog:
        for ask in (masses, lambda c: c.probability("LOGMSTAR > 3"), lambda c: c.samples([105])):
            with pytest.raises(DataFileError, match=message):
                ask(catalog)


def test_rows_of_a_shard_beyond_the_first_piece(tmp_path: Path) -> None:
    ids = range(1, 301)
    write_catalog(tmp_path, [make(i) for i in ids], n_samples=16)
    with Catalog.open(tmp_path) as catalog:
        table = catalog.samples([300, 1, 129, 200], ["LOGMSTAR"])
        np.testing.assert_allclose(np.median(table["LOGMSTAR"], axis=1), [30.0, 0.1, 12.9, 20.0], atol=0.01)
        (shard,) = shard_paths(tmp_path)
        with h5py.File(shard, "r+") as f:
            f["samples/LOGMSTAR"][290] += 1
        catalog.samples([1, 200], ["LOGMSTAR"])  # pieces that nobody touched
        with pytest.raises(DataFileError, match="rows from 256"):
            catalog.samples([299], ["LOGMSTAR"])


@pytest.mark.parametrize("name", ["/etc/passwd", "../other/shards/0.0.h5", "shards/../../x.h5"])
def test_names_that_leave_the_catalog_are_refused(root: Path, name: str) -> None:
    with Catalog.open(root) as catalog:
        located = catalog._locate(None)
        located["SHARD"][:] = name
        with pytest.raises(DataFileError, match="no checksum of it"):
            list(catalog._chunks(located, ["LOGMSTAR"]))
        outside = replace(catalog, shards={name: "0" * 64})
        with pytest.raises(DataFileError, match="outside of the catalog"):
            list(outside._chunks(located, ["LOGMSTAR"]))


def test_flipped_bits_in_the_summary_never_change_an_answer(root: Path) -> None:
    summary = root / SUMMARY_NAME
    whole = summary.read_bytes()
    columns = ["TARGETID", "Z", "LOGMSTAR_P50", "SHARD"]

    def ask() -> list[object]:
        with Catalog.open(root) as catalog:
            return catalog.select("Z >= 0").arrow(columns).to_pylist()

    expected, refused = ask(), 0
    rng = np.random.default_rng(1)
    for position in [*rng.integers(0, len(whole), 25), *rng.integers(len(whole) - 2000, len(whole), 10)]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        summary.write_bytes(damaged)
        try:
            assert ask() == expected  # a column that was not asked for
        except DataFileError:
            refused += 1
    assert refused > 10


def test_a_summary_that_is_written_anew_ends_what_was_opened(root: Path) -> None:
    with Catalog.open(root) as catalog:
        chosen = catalog.select("Z >= 0")
        build_summary(root)
        with pytest.raises(DataFileError, match="written anew since this catalog was opened"):
            len(chosen)


def test_a_column_whose_name_is_sql_is_refused(root: Path) -> None:
    table = pq.read_table(root / SUMMARY_NAME)
    odd = table.append_column('X" FROM galaxies; DROP VIEW galaxies; --', table["Z"])
    metadata = {k: v for k, v in pq.read_metadata(root / SUMMARY_NAME).metadata.items() if k != b"ARROW:schema"}
    pq.write_table(odd.replace_schema_metadata(metadata), root / SUMMARY_NAME)
    seal(root / SUMMARY_NAME)
    with pytest.raises(DataFileError, match="is none of ours"):
        Catalog.open(root)
