"""A population prior from a catalog and back: cross-fitting, files, refusals, determinism, the two commands, fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from typer.testing import CliRunner

from provabgs.catalog.store import write_catalog
from provabgs.cli.population import population_app
from provabgs.core.errors import ConfigError, DataFileError, InputError, UnusableTargetError
from provabgs.core.jax import jnp
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, load_fit_config
from provabgs.inference.learnt import LearntPrior, half_of, load_prior
from provabgs.inference.learnt.target import learnt_ratio
from provabgs.inference.priors import theta_from_latent
from provabgs.population.learnt.apply import apply_prior
from provabgs.population.learnt.learn import LearnOptions, learn_prior
from provabgs.population.prior.draws import age_of_universe, draw_properties, prior_of
from tests.support.made_up_catalog import made_up_posteriors, write_made_up_catalog

NAMES = ("LOGSSFR_1GYR", "T_AGE_MW")
OPTIONS = LearnOptions(NAMES, n_member=2, n_prior=20_000, n_draws=100)
MEAN, SIGMA = (-11.6, 8.0), (0.25, 0.5)
NOISE = (0.35, 0.8)
N = 480


@pytest.fixture(scope="module")
def posteriors() -> list:
    rng = np.random.default_rng(0)
    return made_up_posteriors(rng.normal(MEAN, SIGMA, (N, 2)), NAMES, NOISE, rng)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, posteriors: list) -> Path:
    root = tmp_path_factory.mktemp("learnt") / "catalog"
    write_made_up_catalog(root, posteriors)
    return root


@pytest.fixture(scope="module")
def prior(catalog: Path) -> LearntPrior:
    return learn_prior(catalog, OPTIONS).prior


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, prior: LearntPrior) -> Path:
    path = tmp_path_factory.mktemp("file") / "prior.h5"
    prior.save(path)
    return path


# ---- what is learnt --------------------------------------------------------------------------------------------------


def test_provenance(prior: LearntPrior) -> None:
    p = prior.provenance
    assert sum(p["galaxies"]) == N
    assert min(p["galaxies"]) > 0.35 * N
    assert p["left_out"] == {"without samples": 1, "not converged": 1}
    assert p["catalog"] == "catalog"
    assert len(p["catalog_sha256"]) == 64
    assert "Chabrier" in p["imf"]
    assert min(p["gain_of_other_half"]) > 0.5  # the population is far from the prior's bulk
    assert p["normalisation"] == pytest.approx([1.0, 1.0], abs=0.5)


def test_galaxies_move_to_their_population(prior: LearntPrior, catalog: Path) -> None:
    """Shrinkage: errors become smaller, and quoted sigmas with them, without the galaxy's own half."""
    table = apply_prior(catalog, prior, least_effective=20.0).table  # of 200
    used = ~np.asarray(table["POP_COLLAPSED"]) & (table["TARGETID"] <= N)
    assert used.sum() > 0.7 * N
    rng = np.random.default_rng(0)
    truth = rng.normal(MEAN, SIGMA, (N, 2))[np.asarray(table["TARGETID"])[used] - 1]
    for k, name in enumerate(NAMES):
        before, after = (np.asarray(table[f"{p}{name}_P50"])[used] - truth[:, k] for p in ("", "POP_"))
        assert abs(np.mean(after)) < 0.6 * abs(np.mean(before)) + 0.05, name
        assert np.sqrt(np.mean(after**2)) < 0.9 * np.sqrt(np.mean(before**2)), name
        low, high = (np.asarray(table[f"POP_{name}_P{q}"])[used] for q in (16, 84))
        assert 0.5 < np.mean((truth[:, k] > low) & (truth[:, k] < high)) < 0.86, name
        assert np.all(np.asarray(table[f"POP_{name}_ERR"])[used] >= 0)


def test_no_galaxy_is_in_its_own_prior(prior: LearntPrior, posteriors: list, tmp_path: Path) -> None:
    """Other draws of a galaxy of half 1 change what half 1 says, and not the prior of that galaxy."""
    number = next(i for i, p in enumerate(posteriors) if half_of([p.targetid])[0] == 1)
    shifted = {k: v[::-1] * 0.9 for k, v in posteriors[number].derived.items()}
    changed = [*posteriors[:number], replace(posteriors[number], derived=shifted), *posteriors[number + 1 :]]
    write_made_up_catalog(tmp_path / "catalog", changed)
    other = learn_prior(tmp_path / "catalog", OPTIONS).prior
    for a, b in zip(prior.halves[0], other.halves[0], strict=True):
        np.testing.assert_array_equal(a.mean, b.mean)
    assert any(np.any(a.mean != b.mean) for a, b in zip(prior.halves[1], other.halves[1], strict=True))
    draws = np.array([[[-11.5, 8.0], [-10.5, 6.0]]])
    own = posteriors[number].targetid
    np.testing.assert_array_equal(prior.log_ratio(draws, [0.2], [own]), other.log_ratio(draws, [0.2], [own]))
    same_half = next(t for t in range(1, 50) if half_of([t])[0] == 0)
    assert np.all(prior.log_ratio(draws, [0.2], [own]) != prior.log_ratio(draws, [0.2], [same_half]))


def test_the_same_again(prior: LearntPrior, catalog: Path) -> None:
    """The seed decides; a scratch file in place of memory changes nothing."""
    again = learn_prior(catalog, OPTIONS._replace(in_memory=1000)).prior
    assert again.sha256 == prior.sha256
    other = learn_prior(catalog, OPTIONS._replace(seed=1)).prior
    assert other.sha256 != prior.sha256


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_file_comes_back_or_is_refused(prior: LearntPrior, stored: Path, tmp_path: Path) -> None:
    found = load_prior(stored)
    assert found.sha256 == prior.sha256
    assert found.provenance == prior.provenance
    draws = np.array([[[-11.5, 8.0], [-10.5, np.nan]]])
    np.testing.assert_array_equal(found.log_ratio(draws, [0.2], [7]), prior.log_ratio(draws, [0.2], [7]))
    data = bytearray(stored.read_bytes())
    damaged = tmp_path / "damaged.h5"
    for at in range(200, len(data), len(data) // 9):
        damaged.write_bytes(data[:at])
        with pytest.raises(DataFileError, match=r"damaged\.h5.*provabgs population learn"):
            load_prior(damaged)
    with pytest.raises(DataFileError, match="no such file"):
        load_prior(tmp_path / "none.h5")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": {"history": "tng6"}}, "another model.history"),
        ({"model": {"nebular": True}}, "another model "),
        ({"observing": {"cosmology": "Planck18"}}, "another cosmology"),
        ({"prior_bounds": {"tau_ism": (0.0, 1.0)}}, "another prior_bounds"),
    ],
)
def test_a_prior_of_other_fits_is_refused(prior: LearntPrior, stored: Path, change: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        prior.check(FitConfig.model_validate(change))
    with pytest.raises(ValueError, match=named):
        FitConfig.model_validate(change | {"prior": str(stored)})


def test_catalogs_that_cannot_be_learnt_from(catalog: Path, posteriors: list, stored: Path, tmp_path: Path) -> None:
    def written(name: str, made: list) -> Path:
        write_catalog(tmp_path / name, made, n_samples=200, allow_mixed=True)
        return tmp_path / name

    other = FitConfig.model_validate({"model": {"history": "tng6"}}).model_dump_json()
    mixed = written("mixed", [*posteriors[:60], *(replace(p, config=other) for p in posteriors[60:])])
    with pytest.raises(ConfigError, match="different priors are mixed"):
        learn_prior(mixed, OPTIONS)
    with pytest.raises(InputError, match=r"30 galaxies are left .* take 40"):
        learn_prior(written("small", posteriors[:30]), OPTIONS)
    few = [replace(p, samples=p.samples[:4], log_prob=p.log_prob[:4], derived={k: v[:4] for k, v in p.derived.items()})
           for p in posteriors]  # fmt: skip
    with pytest.raises(InputError, match="fewer than 5 effective draws"):
        learn_prior(written("few", few), OPTIONS)
    with pytest.raises(InputError, match="LOGMSTER"):
        learn_prior(catalog, OPTIONS._replace(names=("LOGMSTER", "T_AGE_MW")))
    under = FitConfig.model_validate({"prior": str(stored)}).model_dump_json()
    circular = written("circular", [replace(p, config=under) for p in posteriors])
    with pytest.raises(ConfigError, match="counted twice"):
        learn_prior(circular, OPTIONS)
    with pytest.raises(ConfigError, match="count it twice"):
        apply_prior(circular, load_prior(stored))
    with pytest.raises(ConfigError, match="cannot be divided out"):
        draw_properties(FitConfig.model_validate({"prior": str(stored)}), 0.2, 10, np.random.default_rng(0))


# ---- commands --------------------------------------------------------------------------------------------------------


def test_commands(catalog: Path, tmp_path: Path) -> None:
    """Learn and apply: names of both posteriors, galaxies to be fitted again, a configuration that takes the file."""
    run, file, out = CliRunner(), tmp_path / "p.h5", tmp_path / "out"
    told = ["-p", NAMES[0], "-p", NAMES[1], "--members", "1", "--draws", "64"]
    done = run.invoke(population_app, ["learn", str(catalog), "-o", str(file), *told])
    assert done.exit_code == 0, done.output
    assert f"{N} of {N + 2} galaxies used; left out: 1 without samples, 1 not converged" in done.output
    done = run.invoke(population_app, ["apply", str(catalog), "--prior", str(file), "-o", str(out)])
    assert done.exit_code == 0, done.output
    table, again = Table.read(out / "population.fits"), Table.read(out / "collapsed.ecsv")
    assert {"LOGMSTAR_P50", "POP_LOGMSTAR_P50", "POP_T_AGE_MW_ERR", "POP_HALF", "FLAG"} <= set(table.colnames)
    collapsed = np.asarray(table["POP_COLLAPSED"], dtype=bool)
    assert set(again["TARGETID"]) == set(np.asarray(table["TARGETID"])[collapsed])
    assert np.isnan(np.asarray(table["POP_T_AGE_MW_P50"], dtype=float)[collapsed]).all()
    assert np.isfinite(np.asarray(table["POP_T_AGE_MW_P50"], dtype=float)[~collapsed]).all()
    (tmp_path / "fit.toml").write_text('[fit]\nprior = "p.h5"\n')
    config = load_fit_config(tmp_path / "fit.toml")
    assert config.prior is not None
    assert config.prior.sha256 == load_prior(file).sha256
    stored_text = config.model_dump_json()
    file.unlink()
    assert FitConfig.model_validate_json(stored_text) == config  # catalogs outlive the file
    with pytest.raises(ConfigError, match=r"p\.h5: no such file"):
        config.prior.load()
    assert isinstance(run.invoke(population_app, ["learn", str(catalog), "-o", "p.txt"]).exception, InputError)


# ---- fits ------------------------------------------------------------------------------------------------------------


def test_ratio_of_a_fit_is_that_of_stored_draws(prior: LearntPrior) -> None:
    """The function that a fit samples under equals `log_ratio` of the same draws' properties."""
    config, z, targetid = FitConfig(), 0.2, 5
    model = load_model(config.model)
    tables, fitted = model.tables(age_of_universe(config, z)), prior_of(config, model)
    latent = np.random.default_rng(2).standard_normal((300, fitted.n_coordinate))
    found = learnt_ratio(prior, model, fitted, tables, z, targetid)(latent)
    theta = theta_from_latent(jnp.asarray(latent), fitted)
    from provabgs.sps.derived import derived_properties

    d = derived_properties(model, fitted.parameters.select(theta, model.parameters), tables)
    draws = np.stack([np.asarray(d["log_sfr_1gyr"] - d["logmstar_surviving"]), np.asarray(d["t_age_mw"])], axis=-1)
    members = prior.log_ratio(draws[None], [z], [targetid])[:, 0]
    np.testing.assert_allclose(found, np.log(np.mean(np.exp(members), axis=0)), atol=2e-3)
    with pytest.raises(UnusableTargetError, match=r"redshift 0\.5: the learnt prior is of redshifts 0\.2 to 0\.2"):
        learnt_ratio(prior, model, fitted, tables, 0.5, targetid)
