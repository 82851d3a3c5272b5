"""Configurations of trainings: errors name the key and the mend; labels say what a product depends on."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from provabgs.cli.emulator import adjusted
from provabgs.core.errors import ConfigError
from provabgs.pipelines.emulator_config import Product, load_emulator_config, parse_emulator_config
from provabgs.pipelines.job_script import job_arguments

GOOD = {"emulator": {"output": "e.h5", "work": "work"}}
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, r"\[emulator\] is required"),
        ({"emulator": {"output": "e.h5"}}, r"\[emulator\] work is required"),
        (GOOD | {"network": {"step": 3}}, r"\[network\] step is no key; did you mean steps\? \(allowed: hidden, steps"),
        (GOOD | {"netwrok": {}}, r"\[netwrok\] is no key; did you mean network\?"),
        (GOOD | {"data": {"t_age": [9, 8]}}, r"\[data\] .*t_age must increase"),
        (GOOD | {"data": {"t_age": [9, 20]}}, "within 1-14.5 Gyr"),
        (GOOD | {"source": {"kind": "fsps", "library": "x.h5"}}, "leave `library` out"),
        (GOOD | {"source": {"nebular": True}}, "`nebular` and `logzsol` belong to kind 'fsps'"),
        (GOOD | {"source": {"conventions": "mine"}}, r"\[source\] conventions = 'mine'"),
        (GOOD | {"network": {"hidden": []}}, r"\[network\] hidden"),
    ],
)
def test_errors_name_key_and_remedy(data: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_emulator_config(data, "my.toml")
    assert str(caught.value).startswith("my.toml: ")
    assert "\n" not in str(caught.value)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "e.toml"
    with pytest.raises(ConfigError, match=r"no such file; pipelines/emulator\.toml"):
        load_emulator_config(path)
    path.write_text("[emulator")
    with pytest.raises(ConfigError, match="not a TOML file"):
        load_emulator_config(path)
    path.write_text('[emulator]\noutput = "e.h5"\nwork = "/w"\n[source]\nlibrary = "ssp.h5"\n')
    config = load_emulator_config(path)
    assert config.emulator.output == tmp_path / "e.h5"
    assert config.emulator.work == Path("/w")
    assert config.source.library == tmp_path / "ssp.h5"


@pytest.mark.parametrize(("name", "conventions"), [("emulator", "paper"), ("emulator_published", "published-code")])
def test_the_files_that_made_what_ships(name: str, conventions: str) -> None:
    config = load_emulator_config(ROOT / "pipelines" / f"{name}.toml")
    assert config.source.conventions == conventions
    assert config.emulator.output.parent.resolve() == ROOT / "data"


def test_labels_hold_what_a_product_depends_on_and_no_paths() -> None:
    base = parse_emulator_config(GOOD)

    def matters(section: str, key: str, value: object, product: Product) -> bool:
        changed = parse_emulator_config({**GOOD, section: {**GOOD.get(section, {}), key: value}})
        return changed.settings(product) != base.settings(product)

    assert not matters("emulator", "output", "other.h5", "weights")
    assert not matters("cluster", "workers", 7, "weights")
    for section, key, value, products in (
        ("network", "steps", 7, ("weights", "network")),
        ("basis", "burst", 7, ("weights",)),
        ("basis", "old", 7, ("weights", "network", "shards")),
        ("data", "n_train", 500, ("weights", "network")),  # more shards: those there stay good
        ("data", "n_basis", 500, ("weights", "network", "shards")),
        ("emulator", "seed", 7, ("weights", "network", "shards", "spectra")),
        ("source", "conventions", "published-code", ("weights", "network", "shards", "spectra")),
    ):
        for product in get_args(Product):
            assert matters(section, key, value, product) == (product in products), (key, product)


def test_command_line_options_over_the_files() -> None:
    config = adjusted(parse_emulator_config(GOOD), workers=3, slurm=True)
    assert (config.cluster.kind, config.cluster.workers) == ("slurm", 3)
    assert job_arguments(config.cluster, Path("logs"), None, {})["processes"] == config.cluster.cores
    same = parse_emulator_config(GOOD)
    assert adjusted(same, None, False) == same
