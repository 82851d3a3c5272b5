"""Nebular emission with free gas parameters: the compressed engine against the exact model, a fit, and the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from provabgs.catalog import Catalog, read_posteriors, write_posteriors
from provabgs.catalog.block import concatenate, with_columns
from provabgs.catalog.compare import block_differences
from provabgs.catalog.export import to_arviz
from provabgs.catalog.layout import shard_name
from provabgs.catalog.records import to_block, to_posteriors
from provabgs.catalog.summary import build_summary
from provabgs.core.errors import ConfigError, InputError
from provabgs.core.jax import jnp
from provabgs.core.status import Status
from provabgs.inference.backends import load_model
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.config import FitConfig, ModelOptions
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.likelihood import ExactLikelihood, fit_parameters
from provabgs.inference.posterior import Diagnostics, Posterior
from provabgs.inference.predictive import predict
from provabgs.inference.priors import Prior, log_prior, theta_from_unit, unit_from_theta
from provabgs.inference.standard import PARAMETERS
from provabgs.observe.observation import Observation
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from provabgs.sps.model import SPSModel
from provabgs.sps.nebular import NebularEmission, on_library
from tests.support.engine_mocks import mock, near
from tests.support.parameters import N_FREE, prior_of

CONFIG = FitConfig(
    preset="published",
    model=ModelOptions(nebular=True, gas_free=True),
    observing=ObservingOptions(line_mask="none"),
    n_samples=400,
)
REDSHIFT, SNR = 0.15, 20.0


@pytest.fixture(scope="module")
def model() -> SPSModel:
    model = load_model(CONFIG.model)
    assert [type(e.emission) for e in model.stellar_emissions] == [NebularEmission]
    return model


@pytest.fixture(scope="module")
def truth(model: SPSModel) -> np.ndarray:
    """A dusty star-forming galaxy with gas of log U = -2.9 and a third of solar metallicity, ``(15,)``."""
    values = {"logmstar": 10.2, "beta1": 0.5, "beta2": 0.2, "beta3": 0.2, "beta4": 0.1, "fburst": 0.02, "tburst": 0.6}
    values |= {"gamma1": 2e-3, "gamma2": 4e-3, "tau_bc": 0.6, "tau_ism": 0.3, "n_dust": -0.3, "f_fiber": 0.5}
    return fit_parameters(model).theta(values | {"log_u": -2.9, "gas_logz": -0.5})


@pytest.fixture(scope="module")
def galaxy(model: SPSModel, truth: np.ndarray) -> Observation:
    return replace(mock(model, truth, REDSHIFT, SNR, np.random.default_rng(3)), targetid=5)


@pytest.fixture(scope="module")
def posterior(galaxy: Observation) -> Posterior:
    return fit_observation(galaxy, CONFIG, seed=1)


def test_rows_are_what_the_grid_gives(model: SPSModel) -> None:
    rng = np.random.default_rng(0)
    gas = {name: rng.uniform(*model.parameters[name].bounds, 50) for name in ("log_u", "gas_logz")}
    (lit,) = model.stellar_emissions
    assert isinstance(lit.emission, NebularEmission)
    single = {name: jnp.asarray(values, jnp.float32) for name, values in gas.items()}
    light = np.asarray(lit.emission.strengths(single))[:, 0] @ lit.rows
    grid = lit.emission.grid
    expected = np.asarray(on_library(model.library, grid, grid.emission(**gas)))[:, 0]
    node = model.library.line_nodes
    assert np.allclose(light[:, node], expected[:, node], rtol=1e-4, atol=1e-6 * expected[:, node].max())
    rest = np.setdiff1d(np.arange(expected.shape[1]), node)
    rest = rest[model.library.wave[rest] > 3000]
    off = np.abs(light[:, rest] / expected[:, rest] - 1)
    assert np.median(off) < 1e-3
    assert off.max() < 0.02


def test_compressed_engine_against_the_exact_model(model: SPSModel, truth: np.ndarray, galaxy: Observation) -> None:
    projection = project(galaxy, model.library, CONFIG.observing)
    exact, compressed = ExactLikelihood(projection, model), CompressedLikelihood(projection, model)
    prior = prior_of(galaxy, fit_parameters(model))
    points = np.asarray(near(exact, truth, prior, np.random.default_rng(1), n=48))
    of_exact = -0.5 * sum(exact.chi2(points))
    assert of_exact.max() - of_exact.min() > 15
    for name in ("log_u", "gas_logz"):
        assert np.ptp(exact.parameters.get(points, name)) > 0.01
    assert np.std(np.asarray(compressed(jnp.asarray(points))) - of_exact) < 0.1


def test_a_fit_finds_the_gas(posterior: Posterior, model: SPSModel, truth: np.ndarray) -> None:
    assert posterior.status is Status.CONVERGED, posterior.message
    assert posterior.parameters == fit_parameters(model)
    true = posterior.parameters.values(truth)
    for name, width in (("log_u", 0.25), ("gas_logz", 0.25)):
        draws, value = posterior[name], true[name]
        assert abs(draws.mean() - value) < 3.5 * draws.std(), name
        assert 0.005 < draws.std() < width, name
        assert posterior.diagnostics.rhat[name] < 1.01
        assert posterior.diagnostics.ess_bulk[name] > 400
        assert posterior.prior_edge[name] < 0.05
    low, high = np.quantile(posterior["logmstar"], [0.002, 0.998])
    assert low < true["logmstar"] < high
    assert posterior.samples.shape == (len(posterior.samples), 15)
    assert posterior.best["log_u"] == posterior.parameters.get(posterior.best_fit, "log_u")
    assert not {"log_u", "gas_logz"} & set(posterior.derived)


def test_predictions_take_the_gas_along(posterior: Posterior, galaxy: Observation) -> None:
    spectrum = predict(posterior, galaxy, n_draws=4).spectrum
    assert spectrum is not None
    halpha = np.abs(spectrum.wave - 6564.6 * (1 + REDSHIFT)) < 1.0
    away = np.abs(spectrum.wave - 6700.0 * (1 + REDSHIFT)) < 10
    assert spectrum.model[:, halpha].max() > 3 * np.median(spectrum.model[:, away])
    assert np.abs(((spectrum.flux - spectrum.model[0]) / spectrum.sigma)[halpha]).max() < 6


def test_prior_of_fourteen(model: SPSModel) -> None:
    fit = fit_parameters(model)
    prior = Prior.of(fit, {"log_u": (-3.0, -2.5)}, {"f_fiber": (0.5, 0.1)})
    unit = np.random.default_rng(2).uniform(0.01, 0.99, (30, N_FREE + 2))
    theta = theta_from_unit(jnp.asarray(unit), prior)
    assert theta.shape == (30, 15)
    log_u = fit.get(theta, "log_u")
    assert np.all((log_u > -3.0) & (log_u < -2.5))
    assert np.allclose(unit_from_theta(theta, prior), unit, atol=1e-9)
    plain, without_gas = prior_of((0.5, 0.1)), [c in PARAMETERS.coordinates for c in fit.coordinates]
    assert np.allclose(theta_from_unit(jnp.asarray(unit[:, without_gas]), plain), fit.select(theta, PARAMETERS))
    assert np.all(np.isfinite(log_prior(theta, prior)))
    assert np.all(np.isneginf(log_prior(theta.at[:, fit.index("log_u")].set(-2.2), prior)))


def test_named_errors(model: SPSModel) -> None:
    with pytest.raises(ConfigError, match=r"log_u.*reach beyond the tables"):
        Prior.of(fit_parameters(model), {"log_u": (-5.0, -2.5)})
    with pytest.raises(ConfigError, match=r"prior_bounds\.log_u: no such prior"):
        Prior.of(PARAMETERS, {"log_u": (-3.0, -2.5)})
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
    select = posterior.parameters.select
    return replace(
        posterior,
        targetid=targetid,
        parameters=PARAMETERS,
        samples=select(posterior.samples, PARAMETERS),
        best_fit=select(posterior.best_fit, PARAMETERS),
        best_fit_derived={},
        prior_edge={},
        diagnostics=Diagnostics(),
    )


def test_file_round_trip(posterior: Posterior, tmp_path: Path) -> None:
    write_posteriors(tmp_path / "p.h5", [posterior, plain(posterior, 6)], n_samples=None)
    free, without = read_posteriors(tmp_path / "p.h5")
    assert np.allclose(free["log_u"], posterior["log_u"], atol=1e-4)
    assert free.parameters == posterior.parameters
    assert free.best["gas_logz"] == posterior.best["gas_logz"]
    assert free.prior_edge["log_u"] == pytest.approx(posterior.prior_edge["log_u"])
    assert without.parameters == PARAMETERS
    assert without.samples.shape[1] == 13


@pytest.mark.parametrize("encoding", ["uint16", "float32"])
def test_rows_with_and_without_are_joined(posterior: Posterior, encoding: str) -> None:
    with_gas, without = (to_block([p], encoding=encoding) for p in (posterior, plain(posterior, 6)))  # type: ignore[arg-type]
    assert "LOG_U" in with_gas.samples
    assert "LOG_U" not in without.samples
    either = [concatenate([with_gas, without]), concatenate([without, with_gas])]
    assert block_differences(*either) == []
    back = {p.targetid: p for p in to_posteriors(either[1])}
    assert back[5].parameters == posterior.parameters
    assert back[6].parameters == PARAMETERS
    assert not {"log_u", "gas_logz"} & {*back[5].derived, *back[6].derived}
    assert block_differences(with_gas, without)


def test_rows_without_gas_have_nothing_in_its_columns(posterior: Posterior) -> None:
    with_gas, without = to_block([posterior]), to_block([plain(posterior, 6)])
    wide = with_columns(without.summary, with_gas.schema)
    assert wide.dtype.names == with_gas.summary.dtype.names != without.summary.dtype.names
    assert np.isnan(wide["LOG_U_P50"][0])
    assert wide["LOGMSTAR_P50"][0] == without.summary["LOGMSTAR_P50"][0]
    assert with_columns(wide, without.schema).dtype == without.summary.dtype


def test_queries(posterior: Posterior, tmp_path: Path) -> None:
    gas, none = [posterior], [plain(posterior, 6)]
    for name, shards in (("with", [gas]), ("without", [none]), ("both", [gas, none])):
        for k, rows in enumerate(shards):
            (tmp_path / name / shard_name(100, k)).parent.mkdir(parents=True, exist_ok=True)
            write_posteriors(tmp_path / name / shard_name(100, k), rows)
        build_summary(tmp_path / name)
    with Catalog.open(tmp_path / "with") as catalog:
        assert len(catalog.select("LOG_U_P50 < -2")) == 1
        drawn = np.asarray(catalog.samples([5], ["LOG_U", "LOGMSTAR"])["LOG_U"])[0]
        assert np.median(drawn) == pytest.approx(np.median(posterior["log_u"]), abs=0.05)
        assert np.asarray(catalog.probability("GAS_LOGZ < 0.3")["PROBABILITY"])[0] == 1.0
        assert "LOG_U" in to_arviz(catalog)
    with Catalog.open(tmp_path / "both") as catalog:
        assert list(catalog.select("LOG_U_P50 < -2").table(["TARGETID"])["TARGETID"]) == [5]
        drawn = catalog.samples([6, 5], ["LOG_U"])["LOG_U"]
        assert np.all(np.isnan(drawn[0]))
        assert np.all(np.isfinite(drawn[1]))
    with Catalog.open(tmp_path / "without") as catalog:
        with pytest.raises(InputError, match="LOG_U_P50"):
            catalog.select("LOG_U_P50 < -2")
        with pytest.raises(InputError, match="LOG_U"):
            catalog.samples([6], ["LOG_U"])
        assert "LOG_U" not in to_arviz(catalog)
