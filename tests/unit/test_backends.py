"""A configuration's engine and model are what a fit gets, or a named error."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from provabgs.cli.fit import EngineName
from provabgs.core.errors import ConfigError
from provabgs.core.jax import jnp
from provabgs.emulator.models import PublishedNetworkModel
from provabgs.inference.backends import load_model, make_likelihood
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.config import Engine, FitConfig, ModelOptions
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.likelihood.emulated import EmulatedLikelihood
from provabgs.inference.priors import theta_from_latent
from provabgs.inference.target import make_target
from provabgs.observe.observation import Observation, Photometry
from provabgs.observe.projection import project
from provabgs.sps.model import SPSModel
from tests.support.parameters import N_FREE, prior_of
from tests.support.small_library import small_library

BANDS = ("decam2014-g", "decam2014-r", "decam2014-z")
FLUX = np.array([20.0, 40.0, 60.0])


def exact(model: SPSModel, flux: np.ndarray = FLUX) -> ExactLikelihood:
    galaxy = Observation(0.2, (), Photometry(BANDS, flux, (0.05 * flux) ** -2))
    return ExactLikelihood(project(galaxy, model.library), model)


@pytest.mark.parametrize(
    ("engine", "expected"),
    [("compressed", CompressedLikelihood), ("emulator", EmulatedLikelihood), ("exact", ExactLikelihood)],
)
def test_each_engine_by_name_and_all_agree(engine, expected):
    """Bands alone, near the galaxy's own parameters."""
    config, prior = FitConfig(engine=engine), prior_of()
    model, latent = load_model(config.model), 0.1 * np.random.default_rng(0).standard_normal((64, N_FREE))
    bands = exact(model).predict(np.asarray(theta_from_latent(jnp.asarray(latent[:1]), prior)))[1]
    reference = exact(model, bands[0])
    likelihood = make_likelihood(reference, config)
    assert type(likelihood) is expected
    target = make_target(likelihood, model, reference.tables, prior)
    assert (target.marginal is None) == (engine == "exact")
    truth = make_target(reference, model, reference.tables, prior).log_likelihood(latent)
    near = truth > truth.max() - 30
    assert np.sum(near) >= 10
    assert np.ptp(truth[near]) > 5
    np.testing.assert_allclose(target.log_likelihood(latent)[near], truth[near], atol=0.1)


def test_the_command_line_names_every_engine():
    assert {e.value for e in EngineName} == set(get_args(Engine))


def test_an_emulator_of_another_model_is_a_config_error():
    with pytest.raises(ConfigError, match="engine = 'emulator'"):
        make_likelihood(exact(SPSModel(small_library())), FitConfig(engine="emulator"))


def test_published_networks_need_their_conventions_and_the_exact_engine():
    networks = ModelOptions(published_networks=(Path("nmf.npz"), Path("burst.npz")))
    with pytest.raises(ValueError, match="published_networks need"):
        FitConfig(model=networks)
    with pytest.raises(ValueError, match="published_networks need"):
        FitConfig(engine="exact", model=networks)


def test_published_networks_as_the_model(reference_dir):
    folder = reference_dir / "provabgs"
    nmf, burst = sorted(folder.glob("*nmf*.npz")), sorted(folder.glob("*burst*.npz"))
    if not nmf or not burst:
        pytest.skip("the published networks' arrays are not among the reference files")
    options = ModelOptions(conventions="published-code", published_networks=(nmf[0], burst[0]))
    config = FitConfig(engine="exact", model=options)
    model = load_model(config.model)
    assert isinstance(model, PublishedNetworkModel)
    reference = exact(model)
    target = make_target(make_likelihood(reference, config), model, reference.tables, prior_of())
    assert np.all(np.isfinite(target.log_likelihood(np.zeros((2, N_FREE)))))
