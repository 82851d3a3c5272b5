"""The offset of two catalogs is split into what each convention adds: parts that were put in come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM, Planck13
from astropy.table import Table
from typer.testing import CliRunner

from provabgs.catalog import Catalog
from provabgs.catalog import explain as module
from provabgs.catalog.conventions import LAYOUTS, Layout
from provabgs.catalog.explain import REPEAT, REST, TOTAL, config_of, refit, residual, sample, split, steps_of
from provabgs.catalog.observed import write_fits
from provabgs.catalog.offsets import compare, layout_of, read_other
from provabgs.cli.main import app
from provabgs.core.errors import ConfigError, InputError
from provabgs.core.status import Status
from provabgs.inference.config import FitConfig
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation, Photometry
from provabgs.pipelines.dry_run import synthetic_posterior

N = 12
EFFECT = {"bands": 0.10, "history": -0.20}
"""What each convention adds to the mass, dex."""
LEFT = 0.07
"""Mass that the other's code adds on top."""
BANDS = {"observing": {"bands": ["g", "r"]}}
HISTORY = {"model": {"history": "delayed-tau"}}
MAPPING = """
name = "mine"
[columns.LOGMSTAR]
column = "M"
what = "mass"
[[refit]]
part = "bands"
changes = {observing = {bands = ["g", "r"]}}
[[refit]]
part = "nothing"
changes = {model = {history = "nmf"}}
[[refit]]
part = "history"
changes = {model = {history = "delayed-tau"}}
"""


def observation(targetid: int) -> Observation:
    bands = Photometry(("decam2014-g", "decam2014-r", "decam2014-z"), [1.0 + targetid, 2.0, 3.0], [4.0, 4.0, 4.0])
    return Observation(0.1, (), bands, targetid=targetid, ra=10.0, dec=1.0)


def mass(targetid: int, config: FitConfig, seed: int) -> float:
    """The surviving mass that the stand-in for a fit finds."""
    noise = 0.01 * np.random.default_rng([seed, targetid]).standard_normal()
    bands = EFFECT["bands"] * (config.observing.bands is not None)
    history = EFFECT["history"] * (config.model.history == "delayed-tau")
    return 10 + 0.1 * targetid + noise + bands + history * (1 + 0.1 * (targetid % 3 - 1))


def fake_fit(galaxy: Observation, config: FitConfig, seed: int) -> Posterior:
    p = synthetic_posterior(galaxy.targetid, np.random.default_rng(0), 40, redshift=galaxy.redshift)
    value = mass(galaxy.targetid, config, seed)
    derived = dict(p.derived) | {"logmstar_surviving": np.full(40, value)}
    return replace(p, derived=derived, config=config.model_dump_json(), ra=10.0, dec=1.0, data_hash=galaxy.digest())


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    config = FitConfig(n_samples=40)
    path = tmp_path / "ours.h5"
    write_fits(path, [(fake_fit(observation(t), config, 0), observation(t)) for t in range(1, N + 1)])
    return path


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """The other's values: ours under both conventions, and its own excess."""
    config = FitConfig.model_validate({**BANDS, **HISTORY})
    ids = np.arange(1, N + 1)
    values = [mass(t, config, 9) + LEFT for t in ids.tolist()]
    Table({"TARGETID": ids, "M": values}).write(tmp_path / "theirs.csv")
    (tmp_path / "mine.toml").write_text(MAPPING)
    return tmp_path / "theirs.csv"


def explained(
    ours: Path, theirs: Path, layout: Layout, folder: Path, fit: Callable[..., Posterior] = fake_fit
) -> Table:
    with Catalog.open(ours) as catalog:
        found = compare(catalog, read_other(theirs, layout), layout)
        steps, chosen = steps_of(config_of(catalog), layout), sample(found, 8)
        files = list(refit(steps, chosen, observation, folder, fit=fit))
        return split(found, steps, chosen, files)


def test_parts_that_were_put_in_come_back(ours: Path, theirs: Path, tmp_path: Path) -> None:
    layout = layout_of(None, tmp_path / "mine.toml")
    table = explained(ours, theirs, layout, tmp_path / "fits")
    parts = {str(r["PART"]): r for r in table}
    # "nothing" changes nothing and is left out
    assert list(parts) == [REPEAT, "bands", "history", REST, TOTAL]
    assert {int(r["N"]) for r in table} == {8}
    for name in ("bands", "history"):
        assert parts[name]["MEAN"] == pytest.approx(-EFFECT[name], abs=0.02)
    assert parts[REPEAT]["MEAN"] == pytest.approx(0, abs=3 * parts[REPEAT]["MEAN_ERR"] + 1e-3)
    assert parts[REST]["MEAN"] == pytest.approx(-LEFT, abs=0.02)
    assert parts[TOTAL]["MEAN"] == pytest.approx(-EFFECT["bands"] - EFFECT["history"] - LEFT, abs=0.02)
    # bands add the same to every galaxy, histories do not
    assert parts["bands"]["MEAN_ERR"] < 1e-5 < parts["history"]["MEAN_ERR"]
    assert residual(table) < 1e-12
    assert table.meta["INCOMPLETE"] == {"LOGMSTAR": 0}


def test_what_is_converted_is_a_part_too(ours: Path, theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "h.toml").write_text('imf = "salpeter"\ncosmology = {h0 = 70.0, om0 = 0.3}\n' + MAPPING.lstrip())
    table = explained(ours, theirs, layout_of(None, tmp_path / "h.toml"), tmp_path / "fits")
    parts = {str(r["PART"]): float(r["MEAN"]) for r in table}
    distances = [c.luminosity_distance(0.1).value for c in (Planck13, FlatLambdaCDM(70.0, 0.3))]
    assert parts["IMF, converted"] == pytest.approx(np.log10(0.61), abs=1e-6)
    assert parts["cosmology, converted"] == pytest.approx(2 * np.log10(distances[0] / distances[1]), abs=1e-4)
    # the total is of the numbers as they stand in the two tables
    assert parts[TOTAL] == pytest.approx(-EFFECT["bands"] - EFFECT["history"] - LEFT, abs=0.02)
    assert residual(table) < 1e-12


def test_the_same_command_goes_on(ours: Path, theirs: Path, tmp_path: Path) -> None:
    layout, asked = layout_of(None, tmp_path / "mine.toml"), []

    def counted(galaxy: Observation, config: FitConfig, seed: int) -> Posterior:
        asked.append((galaxy.targetid, config.model.history))
        if len(asked) == 10:
            raise KeyboardInterrupt
        return fake_fit(galaxy, config, seed)

    with pytest.raises(KeyboardInterrupt):
        explained(ours, theirs, layout, tmp_path / "fits", counted)
    done = sorted((tmp_path / "fits").rglob("*.h5"))
    assert len(done) == 9
    done[0].write_bytes(done[0].read_bytes()[:3000])
    resumed = explained(ours, theirs, layout, tmp_path / "fits", counted)
    assert len(asked) == 10 + 3 * 8 - 9 + 1
    whole = explained(ours, theirs, layout, tmp_path / "again")
    np.testing.assert_array_equal(resumed["MEAN"], whole["MEAN"])


def test_galaxies_without_a_fit_are_left_out_of_all_parts(ours: Path, theirs: Path, tmp_path: Path) -> None:
    def fails(galaxy: Observation, config: FitConfig, seed: int) -> Posterior:
        if galaxy.targetid == 1 and config.model.history == "delayed-tau":
            return Posterior.without_samples(Status.CRASHED, "bad", config, seed, targetid=1, redshift=0.1)
        return replace(fake_fit(galaxy, config, seed), status=Status.NOT_CONVERGED)

    table = explained(ours, theirs, layout_of(None, tmp_path / "mine.toml"), tmp_path / "fits", fails)
    assert {int(r["N"]) for r in table} == {7}
    assert table.meta["INCOMPLETE"] == {"LOGMSTAR": 1}
    assert table.meta["NOT_CONVERGED"] == {REPEAT: 8, "bands": 8, "history": 7}
    assert residual(table) < 1e-12
    table["MEAN"][1] += 0.5
    assert residual(table) == pytest.approx(0.5)


def test_the_command(ours: Path, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.refit, "__kwdefaults__", module.refit.__kwdefaults__ | {"fit": fake_fit})
    command = ["compare", str(ours), str(theirs), "--mapping", str(tmp_path / "mine.toml"), "--explain", "5"]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, InputError)
    done = CliRunner().invoke(app, [*command, "--fits", str(tmp_path / "fits")])
    assert done.exit_code == 0, done.output
    assert "history" in done.output
    assert "do not add up" not in done.output
    table = Table.read(tmp_path / "fits" / "parts.ecsv")
    assert set(table["N"]) == {5}


@pytest.mark.parametrize("name", [n for n in LAYOUTS if LAYOUTS[n].refit])
def test_conventions_of_every_layout_are_options_of_a_fit(name: str) -> None:
    steps = steps_of(FitConfig(), LAYOUTS[name])
    assert len(steps) > 2
    parts = [s.part for s in steps]
    assert parts[0] == REPEAT
    assert len(set(parts)) == len(parts)
    assert steps[-1].config != steps[0].config


def test_what_cannot_be_explained(ours: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\[\[refit\]\]"):
        steps_of(FitConfig(), LAYOUTS["own"])
    bad = LAYOUTS["own"].model_copy(update={"refit": LAYOUTS["mpa-jhu"].refit[:1]})
    wrong = bad.refit[0].model_copy(update={"changes": {"model": {"histori": "nmf"}}})
    with pytest.raises(ConfigError, match="histori"):
        steps_of(FitConfig(), bad.model_copy(update={"refit": (wrong,)}))
    mixed = tmp_path / "mixed.h5"
    fits = [fake_fit(observation(1), FitConfig(), 0), fake_fit(observation(2), FitConfig(n_samples=7), 0)]
    write_fits(mixed, [(p, None) for p in fits])
    with Catalog.open(mixed) as catalog, pytest.raises(InputError, match="2 configurations"):
        config_of(catalog)


def test_two_files_of_ours(ours: Path, tmp_path: Path) -> None:
    other = FitConfig.model_validate(BANDS)
    write_fits(tmp_path / "b.h5", [(fake_fit(observation(t), other, 0), None) for t in range(1, N + 1)])
    layout = layout_of("own", None)
    with Catalog.open(ours) as catalog:
        found = {c.quantity: c for c in compare(catalog, read_other(tmp_path / "b.h5", layout), layout)}
    np.testing.assert_allclose(found["LOGMSTAR"].offset, -EFFECT["bands"], atol=1e-5)
    np.testing.assert_allclose(found["T_AGE_MW"].offset, 0, atol=1e-9)
