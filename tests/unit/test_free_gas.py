"""Nebular emission with free gas parameters: the compressed engine against the exact model, a fit, and the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from provabgs.catalog import Catalog, read_posteriors, write_posteriors
from provabgs.catalog.block import Block, concatenate, current
from provabgs.catalog.columns import COLUMNS, OPTIONAL
from provabgs.catalog.compare import block_differences
from provabgs.catalog.export import to_arviz
from provabgs.catalog.layout import shard_name
from provabgs.catalog.records import to_block, to_posteriors
from provabgs.catalog.summary import build_summary
from provabgs.core.errors import ConfigError
from provabgs.core.jax import jnp
from provabgs.core.status import Status
from provabgs.inference.backends import load_model
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.compressed.merged_nodes import merged_nodes
from provabgs.inference.config import FitConfig, ModelOptions
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.posterior import Diagnostics, Posterior
from provabgs.inference.predictive import predict
from provabgs.inference.priors import N_FREE, Prior, log_prior, theta_from_unit, unit_from_theta
from provabgs.observe.observation import Observation
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from provabgs.sps.nebular import NebularModel, on_library
from provabgs.sps.parameters import GAS, INDEX, NAMES
from tests.support.engine_mocks import mock, near

CONFIG = FitConfig(
    model=ModelOptions(nebular=True, gas_free=True), observing=ObservingOptions(line_mask="none"), n_samples=400
)
REDSHIFT, SNR = 0.15, 20.0


@pytest.fixture(scope="module")
def model() -> NebularModel:
    model = load_model(CONFIG.model)
    assert isinstance(model, NebularModel)
    return model


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """A dusty star-forming galaxy with gas of log U = -2.9 and a third of solar metallicity, ``(15,)``."""
    vector = np.zeros(len(NAMES) + len(GAS))
    values = {"logmstar": 10.2, "beta1": 0.5, "beta2": 0.2, "beta3": 0.2, "beta4": 0.1, "fburst": 0.02, "tburst": 0.6}
    values |= {"gamma1": 2e-3, "gamma2": 4e-3, "tau_bc": 0.6, "tau_ism": 0.3, "n_dust": -0.3, "f_fiber": 0.5}
    for name, value in values.items():
        vector[PARAMETERS.index(name)] = value
    vector[-2:] = -2.9, -0.5
    return vector


@pytest.fixture(scope="module")
def galaxy(model: NebularModel, truth: np.ndarray) -> Observation:
    return replace(mock(model, truth, REDSHIFT, SNR, np.random.default_rng(3)), targetid=5)


@pytest.fixture(scope="module")
def posterior(galaxy: Observation) -> Posterior:
    return fit_observation(galaxy, CONFIG, seed=1)


def test_rows_are_what_the_grid_gives(model: NebularModel) -> None:
    rng = np.random.default_rng(0)
    theta = np.zeros((50, 15))
    for k, p in enumerate(model.extra):
        theta[:, 13 + k] = rng.uniform(*p.bounds, 50)
    rows = merged_nodes(model).gas
    assert rows is not None
    light = np.asarray(rows.strengths(jnp.asarray(theta, jnp.float32)))[:, 0] @ rows.spectra
    expected = np.asarray(on_library(model.library, model.gas, model.gas.emission(theta[:, 13], theta[:, 14])))[:, 0]
    node = model.library.line_nodes
    assert np.allclose(light[:, node], expected[:, node], rtol=1e-4, atol=1e-6 * expected[:, node].max())
    rest = np.setdiff1d(np.arange(expected.shape[1]), node)
    rest = rest[model.library.wave[rest] > 3000]
    off = np.abs(light[:, rest] / expected[:, rest] - 1)
    assert np.median(off) < 1e-3
    assert off.max() < 0.02


def test_compressed_engine_against_the_exact_model(model: NebularModel, truth: np.ndarray, galaxy: Observation) -> None:
    projection = project(galaxy, model.library, CONFIG.observing)
    exact, compressed = ExactLikelihood(projection, model), CompressedLikelihood(projection, model)
    prior = Prior.create(galaxy.fiber_fraction, None, model.extra)
    points = np.asarray(near(exact, truth, prior, np.random.default_rng(1), n=24))
    of_exact = -0.5 * sum(exact.chi2(points))
    assert of_exact.max() - of_exact.min() > 15
    assert np.ptp(points[:, 13]) > 0.01
    assert np.ptp(points[:, 14]) > 0.01
    assert np.std(np.asarray(compressed(jnp.asarray(points))) - of_exact) < 0.1


def test_a_fit_finds_the_gas(posterior: Posterior, truth: np.ndarray) -> None:
    assert posterior.status is Status.CONVERGED, posterior.message
    for name, value, width in (("log_u", truth[-2], 0.25), ("gas_logz", truth[-1], 0.25)):
        draws = posterior[name]
        assert abs(draws.mean() - value) < 3.5 * draws.std(), name
        assert 0.005 < draws.std() < width, name
        assert posterior.diagnostics.rhat[name] < 1.01
        assert posterior.diagnostics.ess_bulk[name] > 400
        assert posterior.prior_edge[name] < 0.05
    low, high = np.quantile(posterior["logmstar"], [0.002, 0.998])
    assert low < truth[0] < high
    assert posterior.theta().shape == (len(posterior.samples), 15)
    assert posterior.theta(best=True)[0, -2] == posterior.best_fit_derived["log_u"]


def test_predictions_take_the_gas_along(posterior: Posterior, galaxy: Observation) -> None:
    spectrum = predict(posterior, galaxy, n_draws=4).spectrum
    assert spectrum is not None
    halpha = np.abs(spectrum.wave - 6564.6 * (1 + REDSHIFT)) < 1.0
    away = np.abs(spectrum.wave - 6700.0 * (1 + REDSHIFT)) < 10
    assert spectrum.model[:, halpha].max() > 3 * np.median(spectrum.model[:, away])
    assert np.abs(((spectrum.flux - spectrum.model[0]) / spectrum.sigma)[halpha]).max() < 6


def test_prior_of_fourteen(model: NebularModel) -> None:
    prior = Prior.create((0.5, 0.1), {"log_u": (-3.0, -2.5)}, model.extra)
    unit = np.random.default_rng(2).uniform(0.01, 0.99, (30, N_FREE + 2))
    theta = theta_from_unit(jnp.asarray(unit), prior)
    assert theta.shape == (30, 15)
    assert np.all((theta[:, 13] > -3.0) & (theta[:, 13] < -2.5))
    assert np.allclose(unit_from_theta(theta, prior), unit, atol=1e-9)
    plain = prior_of((0.5, 0.1))
    assert np.allclose(theta_from_unit(jnp.asarray(unit[:, :N_FREE]), plain), theta[:, :13])
    assert np.all(np.isfinite(log_prior(theta, prior)))
    assert np.all(np.isneginf(log_prior(theta.at[:, 13].set(-2.2), prior)))


def test_named_errors(model: NebularModel) -> None:
    with pytest.raises(ConfigError, match=r"log_u.*reach beyond the tables"):
        Prior.create(None, {"log_u": (-5.0, -2.5)}, model.extra)
    with pytest.raises(ConfigError, match="'log_u': only"):
        Prior.create(None, {"log_u": (-3.0, -2.5)})
    with pytest.raises(ValidationError, match="needs nebular = true"):
        ModelOptions(gas_free=True)
    with pytest.raises(ValidationError, match=r"prior_bounds\.gas_logz"):
        ModelOptions(nebular=True, gas_free=True, gas_logz=0.0)


def test_a_stored_configuration_is_the_one_that_was_asked_for() -> None:
    for options in (ModelOptions(), ModelOptions(nebular=True, log_u=-3.0), CONFIG.model):
        assert ModelOptions.model_validate_json(options.model_dump_json()) == options


# ---- the store -------------------------------------------------------------------------------------------------------


def plain(posterior: Posterior, targetid: int) -> Posterior:
    """The same galaxy as a fit without free gas would have left it."""
    derived = {k: v for k, v in posterior.derived.items() if k not in OPTIONAL}
    return replace(
        posterior, targetid=targetid, derived=derived, best_fit_derived={}, prior_edge={}, diagnostics=Diagnostics()
    )


def before(block: Block) -> Block:
    """A block of a version that knew no free gas."""
    names = [c.name for c in COLUMNS if not c.name.startswith(tuple(OPTIONAL.values()))]
    summary = np.empty(len(block), [(n, block.summary.dtype[n].str) for n in names])
    for name in names:
        summary[name] = block.summary[name]
    return replace(block, summary=summary)


def test_file_round_trip(posterior: Posterior, tmp_path: Path) -> None:
    write_posteriors(tmp_path / "p.h5", [posterior, plain(posterior, 6)], n_samples=None)
    free, without = read_posteriors(tmp_path / "p.h5")
    assert np.allclose(free["log_u"], posterior["log_u"], atol=1e-4)
    assert free.best_fit_derived["gas_logz"] == posterior.best_fit_derived["gas_logz"]
    assert free.prior_edge["log_u"] == pytest.approx(posterior.prior_edge["log_u"])
    assert "log_u" not in without.derived
    assert without.theta().shape[1] == 13


@pytest.mark.parametrize("encoding", ["uint16", "float32"])
def test_rows_with_and_without_are_joined(posterior: Posterior, encoding: str) -> None:
    with_gas, without = (to_block([p], encoding=encoding) for p in (posterior, plain(posterior, 6)))  # type: ignore[arg-type]
    assert "LOG_U" in with_gas.samples
    assert "LOG_U" not in without.samples
    either = [concatenate([with_gas, without]), concatenate([without, with_gas])]
    assert block_differences(*either) == []
    back = {p.targetid: p for p in to_posteriors(either[1])}
    assert "log_u" in back[5].derived
    assert "log_u" not in back[6].derived
    assert block_differences(with_gas, without)


def test_rows_of_earlier_versions_are_read(posterior: Posterior) -> None:
    new = to_block([plain(posterior, 6)])
    old = before(new)
    assert old.summary.dtype != new.summary.dtype
    assert current(old.summary).dtype == new.summary.dtype
    assert block_differences(replace(old, summary=current(old.summary)), new) == []


def test_queries(posterior: Posterior, tmp_path: Path) -> None:
    for name, row in (("with", posterior), ("without", plain(posterior, 6))):
        (tmp_path / name / shard_name(100, 0)).parent.mkdir(parents=True)
        write_posteriors(tmp_path / name / shard_name(100, 0), [row])
        build_summary(tmp_path / name)
    with Catalog.open(tmp_path / "with") as catalog:
        assert len(catalog.select("LOG_U_P50 < -2")) == 1
        drawn = np.asarray(catalog.samples([5], ["LOG_U", "LOGMSTAR"])["LOG_U"])[0]
        assert np.median(drawn) == pytest.approx(np.median(posterior["log_u"]), abs=0.05)
        assert np.asarray(catalog.probability("GAS_LOGZ < 0.3")["PROBABILITY"])[0] == 1.0
        assert "LOG_U" in to_arviz(catalog)
    with Catalog.open(tmp_path / "without") as catalog:
        assert len(catalog.select("LOG_U_P50 < -2")) == 0
        assert np.all(np.isnan(catalog.samples([6], ["LOG_U"])["LOG_U"]))
        assert "LOG_U" not in to_arviz(catalog)
