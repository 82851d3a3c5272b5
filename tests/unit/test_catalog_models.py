"""A catalog of fits by different models: the columns of all, each posterior its own, clashes and damage named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from provabgs.catalog import Catalog, read_posteriors, write_catalog, write_posteriors
from provabgs.catalog.block import concatenate
from provabgs.catalog.columns import STANDARD, Schema, survey_column, union
from provabgs.catalog.compare import block_differences, differences
from provabgs.catalog.digest import digest
from provabgs.catalog.export import export, published_table, to_arviz
from provabgs.catalog.layout import SUMMARY_NAME, shard_paths
from provabgs.catalog.records import to_block, to_posteriors
from provabgs.catalog.seal import seal
from provabgs.catalog.shard import read_block
from provabgs.catalog.summary import build_summary
from provabgs.core.errors import ConfigError, DataFileError, InputError
from provabgs.core.status import Status
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Diagnostics, Posterior
from provabgs.inference.standard import PARAMETERS, PROPERTIES
from provabgs.pipelines.dry_run import synthetic_posterior
from provabgs.sps.derived import DerivedProperty
from provabgs.sps.parameters import Parameter, ParameterSet
from tests.support.other_model import BINNED, BINNED_PROPERTIES, binned_posterior

STANDARD_IDS, BINNED_IDS, EMPTY_IDS = (1, 2, 3), (11, 12), (21,)
OWN = {"BIN1", "BIN8", "Z_STAR", "F_OLD"}
"""Some columns that the model with age bins alone has."""


def standard(targetid: int, seed: int = 0) -> Posterior:
    """A posterior of the default model, in a shard of its own kind's."""
    made = synthetic_posterior(targetid, np.random.default_rng([seed, targetid]), 200)
    return replace(made, ra=10.0, dec=0.5, diagnostics=replace(made.diagnostics, engine_dlnl=0.01))


def binned(targetid: int) -> Posterior:
    return replace(binned_posterior(targetid, np.random.default_rng(targetid)), ra=50.0, dec=0.5)


def empty(targetid: int) -> Posterior:
    config = FitConfig()
    return Posterior.without_samples(
        Status.CRASHED, "bad", config, 0, targetid=targetid, redshift=0.3, ra=90.0, dec=0.5
    )


@pytest.fixture(scope="module")
def posteriors() -> dict[int, Posterior]:
    rows = [*map(standard, STANDARD_IDS), *map(binned, BINNED_IDS), *map(empty, EMPTY_IDS)]
    return {p.targetid: p for p in rows}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, posteriors: dict[int, Posterior]) -> Path:
    """One shard of the default model, one of the model with age bins, one without samples."""
    path = tmp_path_factory.mktemp("models")
    write_catalog(path, list(posteriors.values()), n_samples=None, encoding="float32")
    assert len(shard_paths(path)) == 3
    return path


@pytest.fixture
def catalog(root: Path) -> Iterator[Catalog]:
    with Catalog.open(root) as opened:
        yield opened


def ids(catalog: Catalog) -> list[int]:
    return sorted(catalog.table(["TARGETID"])["TARGETID"].tolist())


# ---- the union of columns --------------------------------------------------------------------------------------------


def test_the_summary_has_the_columns_of_every_model(catalog: Catalog) -> None:
    expected = {*(q.column for q in (*PARAMETERS, *PROPERTIES)), *(q.column for q in (*BINNED, *BINNED_PROPERTIES))}
    assert {q.column for q in catalog.schema.quantities} == expected
    statistics = ("P16", "P50", "P84", "BF", "RHAT", "ESS_BULK", "ESS_TAIL")
    assert {f"{c}_{s}" for c in expected for s in statistics} <= set(catalog.columns)
    assert len(set(catalog.columns)) == len(catalog.columns)
    table = catalog.table()
    of = {int(t): table[i] for i, t in enumerate(table["TARGETID"])}
    for c in ("BIN1", "Z_STAR", "F_OLD"):
        assert [np.isfinite(of[t][f"{c}_P50"]) for t in (1, 11, 21)] == [False, True, False], c
    for c in ("BETA1", "TAU_BC", "T_AGE_MW"):
        assert [np.isfinite(of[t][f"{c}_P50"]) for t in (1, 11, 21)] == [True, False, False], c
    for c in ("LOGMSTAR_FORMED", "LOGMSTAR", "TAU_ISM"):
        assert [np.isfinite(of[t][f"{c}_P50"]) for t in (1, 11, 21)] == [True, True, False], c
    assert catalog.schema.by_name["Z_STAR_P50"].description == "50 % quantile: stellar metallicity"
    assert table["T_AGE_MW_P50"].unit == "Gyr"


def test_unknown_entries_are_null_in_parquet(root: Path) -> None:
    table = pq.read_table(root / SUMMARY_NAME)
    row = table["TARGETID"].to_pylist().index(1)
    assert table["F_OLD_P50"][row].as_py() is None
    assert table["Z_STAR_EDGE"][row].as_py() is None
    assert table["F_OLD_P50"].null_count == len(STANDARD_IDS) + len(EMPTY_IDS)
    assert (
        table.schema.field("F_OLD_P50").metadata[b"description"]
        == b"50 % quantile: " + BINNED_PROPERTIES[-1].description.encode()
    )


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("F_OLD_P50 > 0", BINNED_IDS),
        ("Z_STAR_P50 > 0.005 and Z_STAR_P84 < 0.02", BINNED_IDS),
        ("isnull(F_OLD_P50)", (*STANDARD_IDS, *EMPTY_IDS)),
        ("BETA1_P50 >= 0", STANDARD_IDS),
        ("LOGMSTAR_P50 > 0", (*STANDARD_IDS, *BINNED_IDS)),
        ("Z_STAR_EDGE > 0.1", BINNED_IDS),
        ("ENGINE_DLNL > 0.1", BINNED_IDS),
        ("ENGINE_DLNL < 0.1", STANDARD_IDS),
        ("isnull(ENGINE_DLNL)", EMPTY_IDS),
    ],
)
def test_select(catalog: Catalog, query: str, found: tuple[int, ...]) -> None:
    assert ids(catalog.select(query)) == sorted(found)


def test_samples_of_a_column_that_one_model_has(catalog: Catalog, posteriors: dict[int, Posterior]) -> None:
    table = catalog.samples([12, 1, 21], ["BIN3", "F_OLD", "BETA2", "SFR_1GYR"])
    own, other = posteriors[12], posteriors[1]
    np.testing.assert_allclose(table["BIN3"][0], own["bin3"], rtol=1e-6)
    np.testing.assert_allclose(table["F_OLD"][0], own["f_old"], rtol=1e-6)
    np.testing.assert_allclose(table["BETA2"][1], other["beta2"], rtol=1e-6)
    np.testing.assert_allclose(np.log10(table["SFR_1GYR"][0]), own["log_sfr_1gyr"], rtol=1e-5)
    for row, column in ((1, "BIN3"), (1, "F_OLD"), (0, "BETA2"), (2, "BIN3"), (2, "BETA2")):
        assert np.isnan(table[column][row]).all(), (row, column)
    with pytest.raises(InputError, match=r"BIN9.*BIN8"):
        catalog.samples(None, ["BIN9"])


def test_probability_of_a_column_that_one_model_has(catalog: Catalog, posteriors: dict[int, Posterior]) -> None:
    table = catalog.probability("F_OLD > 0.25 and Z < 0.2")
    of = dict(zip(table["TARGETID"].tolist(), table["PROBABILITY"].tolist(), strict=True))
    for targetid in BINNED_IDS:
        assert of[targetid] == pytest.approx((posteriors[targetid]["f_old"] > 0.25).mean())
        assert 0.05 < of[targetid] < 0.95
    assert [of[t] for t in STANDARD_IDS] == [0.0] * 3  # no draw of theirs has a value, let alone a large one
    assert np.isnan(of[21])


def test_exports(catalog: Catalog, posteriors: dict[int, Posterior], tmp_path: Path) -> None:
    published = published_table(catalog)
    of = {int(t): published["PROVABGS_MCMC"][i] for i, t in enumerate(published["TARGETID"])}
    assert np.isfinite(of[1]).all()
    columns = list(PARAMETERS.columns)
    assert np.isfinite(of[11][:, columns.index("TAU_ISM")]).all()
    assert np.isnan(of[11][:, columns.index("BETA1")]).all()
    export(catalog.select("F_OLD_P50 > 0"), tmp_path / "old.parquet")
    with Catalog.open(tmp_path / "old.parquet") as part:
        assert part.schema == catalog.schema
        assert ids(part) == sorted(BINNED_IDS)


def test_arviz_has_what_the_chosen_galaxies_have(catalog: Catalog) -> None:
    pytest.importorskip("xarray", reason="needs the extra 'arviz'")
    dataset = to_arviz(catalog.select("F_OLD_P50 > 0"))
    assert "F_OLD" in dataset
    assert "BETA1" not in dataset
    assert dataset["Z_STAR"].attrs["long_name"] == "stellar metallicity"


def test_a_catalog_without_the_published_parameters_has_no_published_layout(tmp_path: Path) -> None:
    write_catalog(tmp_path, [binned(11)])
    with Catalog.open(tmp_path) as catalog:
        assert catalog.schema == Schema(tuple(BINNED), BINNED_PROPERTIES)
        assert "BETA1_P50" not in catalog.columns
        assert "LOGSSFR_1GYR" in catalog._sample_names
        with pytest.raises(InputError, match="needs BETA1"):
            published_table(catalog)


def test_a_single_shard_opens_and_exports_as_its_own_catalog(root: Path, tmp_path: Path) -> None:
    shard = next(p for p in shard_paths(root) if len(read_posteriors(p)) == len(BINNED_IDS))
    with Catalog.open(shard) as catalog:
        assert catalog.schema == Schema(tuple(BINNED), BINNED_PROPERTIES)
        assert len(catalog.select("F_OLD_P50 > 0 and ENGINE_DLNL = 0.125")) == 2
        export(catalog, tmp_path / "a.parquet")
    with Catalog.open(tmp_path / "a.parquet") as again:
        assert again.schema == Schema(tuple(BINNED), BINNED_PROPERTIES)


# ---- round trips -----------------------------------------------------------------------------------------------------


def assert_equal(read: Posterior, written: Posterior) -> None:
    assert (read.parameters, read.properties) == (written.parameters, written.properties)
    np.testing.assert_allclose(read.samples, written.samples, atol=1e-4)
    assert read.derived.keys() == written.derived.keys()
    for name in written.derived:
        np.testing.assert_allclose(read[name], written[name], atol=1e-4)
    assert read.best == pytest.approx(written.best, nan_ok=True)
    for table in ("rhat", "ess_bulk", "ess_tail"):
        assert getattr(read.diagnostics, table) == pytest.approx(getattr(written.diagnostics, table))
    assert read.diagnostics.engine_dlnl == pytest.approx(written.diagnostics.engine_dlnl, nan_ok=True)
    assert read.prior_edge == pytest.approx(written.prior_edge)


@pytest.mark.parametrize("encoding", ["uint16", "float32"])
def test_one_file_of_two_models(tmp_path: Path, posteriors: dict[int, Posterior], encoding: str) -> None:
    path = tmp_path / "a.h5"
    write_posteriors(path, list(posteriors.values()), n_samples=None, encoding=encoding)  # type: ignore[arg-type]
    for read, written in zip(read_posteriors(path), posteriors.values(), strict=True):
        assert_equal(read, written)
    block = read_block(path)
    models = [Schema.from_json(m) for m in block.models]
    assert {len(m.parameters) for m in models} == {PARAMETERS.size, BINNED.size}
    of = dict(zip(block.summary["TARGETID"].tolist(), block.summary["MODEL_ID"].tolist(), strict=True))
    assert models[of[1]].parameters == tuple(PARAMETERS)
    assert models[of[11]].parameters == tuple(BINNED)
    assert of[21] == -1


def test_every_shard_gives_its_own(root: Path, posteriors: dict[int, Posterior]) -> None:
    read = [p for path in shard_paths(root) for p in read_posteriors(path)]
    assert {p.targetid for p in read} == set(posteriors)
    for p in read:
        assert_equal(p, posteriors[p.targetid])


@pytest.mark.parametrize("encoding", ["uint16", "float32"])
def test_blocks_of_two_models_join_in_any_order(posteriors: dict[int, Posterior], encoding: str) -> None:
    blocks = [
        to_block([posteriors[t] for t in group], n_samples=64, encoding=encoding)  # type: ignore[arg-type]
        for group in (STANDARD_IDS, BINNED_IDS, EMPTY_IDS)
    ]
    assert "BIN1" not in blocks[0].samples
    assert "BETA1" not in blocks[1].samples
    joined = concatenate(blocks)
    assert digest(joined) == digest(to_block(list(posteriors.values()), n_samples=64, encoding=encoding))  # type: ignore[arg-type]
    assert block_differences(joined, concatenate(blocks[::-1])) == []
    for p in to_posteriors(joined):
        assert (p.parameters, p.properties) == (posteriors[p.targetid].parameters, posteriors[p.targetid].properties)
    for k in (0, 1, 2):
        assert block_differences(blocks[k], joined)


def test_differences_between_models_are_told(tmp_path: Path) -> None:
    write_catalog(tmp_path / "a", [replace(standard(1), ra=10.0)])
    write_catalog(tmp_path / "b", [replace(binned(1), ra=10.0)])
    found = differences(tmp_path / "a", tmp_path / "b", limit=100)
    assert any(line.startswith("columns that one of them lacks: BETA1_BF") for line in found)
    assert any(line.startswith("samples of different quantities") for line in found)
    narrow = PARAMETERS.with_bounds({"logmstar": (8.0, 12.0)})
    write_catalog(tmp_path / "c", [replace(standard(1), parameters=narrow)])
    assert differences(tmp_path / "a", tmp_path / "c") == ["parameters or derived properties of the models differ"]


# ---- clashes ---------------------------------------------------------------------------------------------------------


def described(posterior: Posterior, parameter: str, fields: dict[str, str]) -> Posterior:
    """The posterior with one of its parameters described otherwise."""
    parameters = (replace(p, **fields) if p.name == parameter else p for p in posterior.parameters)  # type: ignore[arg-type]
    return replace(posterior, parameters=ParameterSet(tuple(parameters)))


@pytest.mark.parametrize(
    ("fields", "other"),
    [
        ({"name": "opacity"}, "TAU_ISM holds 'opacity' []"),
        ({"unit": "mag"}, "TAU_ISM holds 'tau_ism' [mag]"),
        ({"column": "OPACITY"}, "OPACITY holds 'tau_ism' []"),
    ],
)
def test_one_column_for_two_quantities_is_refused(tmp_path: Path, fields: dict[str, str], other: str) -> None:
    first, second = standard(1), described(standard(2), "tau_ism", fields)

    def say(error: pytest.ExceptionInfo[DataFileError]) -> None:
        for part in ("TAU_ISM holds 'tau_ism' []", other, "separate catalogs"):
            assert part in str(error.value)

    with pytest.raises(DataFileError) as error:
        write_posteriors(tmp_path / "a.h5", [first, second])
    say(error)
    with pytest.raises(DataFileError) as error:
        concatenate([to_block([first]), to_block([second])])
    say(error)
    # a shard each: the summary cannot be built, and the error names the shard
    with pytest.raises(DataFileError, match=r"\.0\.h5: column") as error:
        write_catalog(tmp_path / "b", [first, replace(second, ra=50.0)])
    say(error)
    assert not (tmp_path / "b" / SUMMARY_NAME).exists()


def test_a_parameter_here_and_a_derived_property_there_share_a_column() -> None:
    age = next(p for p in PROPERTIES if p.name == "t_age_mw")
    sampled = Parameter(age.name, age.column, age.symbol, age.unit, age.description, "uniform", (0.0, 13.0))
    other = Schema((PARAMETERS["logmstar"], sampled), PROPERTIES[:1])
    for schemas in ((STANDARD, other), (other, STANDARD)):
        both = union(schemas)
        assert both.column_of["t_age_mw"] == "T_AGE_MW"
        assert sampled in both.parameters
        assert age not in both.properties
        assert len({q.column for q in both.quantities}) == len(both.quantities) == len(STANDARD.quantities)


@pytest.mark.parametrize("column", ["Z", "MAG_R", "LOG_PROB", "LOGMSTAR", "TAU_ISM_P50", "TAU_ISM"])
def test_a_column_that_is_taken_is_refused(column: str) -> None:
    """Z of a metallicity would be read where the redshift was meant."""
    odd = Parameter("odd", column, "o", "", "some number", "uniform", (0.0, 1.0))
    with pytest.raises(ConfigError, match=f"column '{column}"):
        Schema((PARAMETERS["tau_ism"], PARAMETERS["logmstar"], odd), PROPERTIES)


def test_a_column_that_two_readers_fill_differently_is_refused() -> None:
    mags, fluxes = (Schema((PARAMETERS["tau_ism"],), (), (survey_column("U", unit=u),)) for u in ("mag", "nmgy"))
    assert union([mags, STANDARD, mags]).survey == mags.survey
    with pytest.raises(DataFileError, match=r"U is f4 \[mag\] in some rows, f4 \[nmgy\] in others"):
        union([mags, fluxes])
    with pytest.raises(ConfigError, match="column 'STATUS' twice"):
        Schema((PARAMETERS["tau_ism"],), (), (survey_column("STATUS"),))


def test_a_name_used_twice_is_refused() -> None:
    twice = DerivedProperty("tau_ism", "OPACITY", "o", "", "some number")
    with pytest.raises(ConfigError, match="name 'tau_ism' twice"):
        Schema((PARAMETERS["tau_ism"],), (twice,))


def test_a_stored_column_comes_before_a_formula_of_its_name(tmp_path: Path) -> None:
    """A model that samples the linear mass MSTAR is asked for its own draws, not for 10 ** LOGMSTAR."""
    linear = Parameter("mass", "MSTAR", "M", "Msun", "mass", "log-uniform", (1e6, 1e13))
    base = standard(1)
    mass = np.geomspace(1e9, 1e10, 200)
    made = replace(
        base,
        parameters=ParameterSet((linear,)),
        samples=mass[:, None],
        best_fit=np.array([1e9]),
        diagnostics=Diagnostics(),
        prior_edge={},
    )
    write_catalog(tmp_path, [made], n_samples=None)
    with Catalog.open(tmp_path) as catalog:
        np.testing.assert_allclose(catalog.samples([1], ["MSTAR"])["MSTAR"][0], mass, rtol=1e-3)
        assert catalog.table(["MSTAR_P50"])["MSTAR_P50"][0] == pytest.approx(np.median(mass), rel=1e-5)
        assert len(catalog.select("MSTAR_P50 > 1e9 and MSTAR_P50 < 1e10")) == 1
        assert catalog._sample_names.count("MSTAR") == 1


def test_draws_and_descriptions_of_properties_must_agree(tmp_path: Path) -> None:
    p = standard(77)
    lacking = {k: v for k, v in p.derived.items() if k != "t_age_mw"}
    for derived, what in ((lacking, "'t_age_mw' has no draws"), (p.derived | {"x": p.log_prob}, "'x' has no desc")):
        with pytest.raises(InputError, match=f"TARGETID 77: derived property {what}"):
            write_posteriors(tmp_path / "a.h5", [replace(p, derived=derived)])


def test_prior_edge_has_a_bit_for_each_of_many_parameters(tmp_path: Path) -> None:
    many = ParameterSet(
        tuple(Parameter(f"p{k}", f"P_{k}", "p", "", "a number", "uniform", (0.0, 1.0)) for k in range(70))
    )
    p = replace(
        standard(1), parameters=many, samples=np.full((200, 70), 0.5), best_fit=np.full(70, 0.5),
        diagnostics=Diagnostics(), prior_edge={"p3": 0.5, "p40": 0.06, "p41": 0.04, "p69": 1.0},
    )  # fmt: skip
    write_catalog(tmp_path, [p])
    with Catalog.open(tmp_path) as catalog:
        row = catalog.table(["PRIOR_EDGE", "P_69_EDGE"])[0]
    assert row["PRIOR_EDGE"] == (1 << 3) + (1 << 40)
    assert row["P_69_EDGE"] == 1.0


# ---- damage ----------------------------------------------------------------------------------------------------------

DAMAGED = [
    "{",
    "[]",
    "null",
    '{"parameters": [{"name": "a"}], "properties": []}',
    '{"parameters": 3, "properties": 4, "survey": []}',
]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_schema_is_named(text: str) -> None:
    with pytest.raises(DataFileError, match="not the description of a model"):
        Schema.from_json(text)


def test_bounds_out_of_order_are_no_schema() -> None:
    data = json.loads(STANDARD.to_json())
    data["parameters"][0]["bounds"] = [12.0, 7.0]
    with pytest.raises(DataFileError, match=r"not the description of a model.*logmstar"):
        Schema.from_json(json.dumps(data))


def test_the_schema_survives_json() -> None:
    for schema in (STANDARD, Schema(tuple(BINNED), BINNED_PROPERTIES)):
        again = Schema.from_json(schema.to_json())
        assert again == schema
        assert again.columns == schema.columns


@pytest.mark.parametrize("text", DAMAGED)
def test_damaged_models_of_a_shard_are_data_file_errors(root: Path, tmp_path: Path, text: str) -> None:
    work = tmp_path / "catalog"
    shutil.copytree(root, work)
    shard = next(p for p in shard_paths(work) if len(read_posteriors(p)) == len(BINNED_IDS))
    with h5py.File(shard, "r+") as f:
        f["models"][0] = text
    for read in (read_posteriors, read_block, Catalog.open):
        with pytest.raises(DataFileError, match=shard.name):
            read(shard)
    with pytest.raises(DataFileError, match=shard.name):
        build_summary(work)
    with Catalog.open(work) as catalog:
        assert ids(catalog.select("F_OLD_P50 > 0")) == sorted(BINNED_IDS)  # the summary is whole
        with pytest.raises(DataFileError, match=shard.name):
            catalog.samples([11], ["F_OLD"])


@pytest.mark.parametrize("text", [None, *DAMAGED])
def test_a_damaged_schema_of_the_summary_is_a_data_file_error(root: Path, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / SUMMARY_NAME
    table: pa.Table = pq.read_table(root / SUMMARY_NAME)
    metadata = {k: v for k, v in (pq.read_metadata(root / SUMMARY_NAME).metadata or {}).items() if k != b"ARROW:schema"}
    del metadata[b"provabgs:schema"]
    if text is not None:
        metadata[b"provabgs:schema"] = text.encode()
    pq.write_table(table.replace_schema_metadata(metadata), path)
    seal(path)
    with pytest.raises(DataFileError, match=rf"{SUMMARY_NAME}: not the description of a model.*provabgs run"):
        Catalog.open(path)
