"""A configuration's engine and model are what a fit gets, or a named error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from provabgs.cli.fit import EngineName
from provabgs.core.errors import ConfigError
from provabgs.core.jax import jnp
from provabgs.core.registry import Registry
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
from provabgs.sps.histories import NMFHistories
from provabgs.sps.model import SPSModel
from provabgs.sps.registries import HISTORIES
from tests.support.parameters import N_FREE, prior_of
from tests.support.small_library import small_library

HISTORY_NEEDS = (
    "parameters", "linear_block", "resolved_gyr", "least_t_age_gyr", "tables", "nodes", "component_masses",
    "node_masses", "metallicity", "moments", "curves",
)  # fmt: skip
"""What `provabgs.sps.histories.Histories` asks for."""
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


# ---- parts of the model by name ------------------------------------------------------------------------------------


@pytest.fixture
def histories() -> Iterator[Registry]:
    before = dict(HISTORIES._known)
    yield HISTORIES
    HISTORIES._known.clear()
    HISTORIES._known.update(before)


def lacking(*names: str) -> object:
    """The published histories without some of what the protocol asks for."""
    whole = NMFHistories()
    kept = {n: getattr(whole, n) for n in HISTORY_NEEDS if n not in names}
    return SimpleNamespace(**kept)


def test_histories_by_name_get_their_options(histories) -> None:
    histories.register("mine", lambda **options: NMFHistories(**options))
    model = load_model(ModelOptions(history="mine", history_options={"normalisation": "joint"}))
    assert isinstance(model.histories, NMFHistories)
    assert model.histories.normalisation == "joint"
    # conventions of the published code are options of the published histories, which a configuration may overrule
    code = load_model(ModelOptions(conventions="published-code", history_options={"binning": "exact"}))
    assert (code.histories.binning, code.histories.normalisation) == ("exact", "joint")


def test_a_complete_history_is_taken(histories) -> None:
    whole = lacking()
    histories.register("whole", lambda: whole)
    assert load_model(ModelOptions(history="whole")).histories is whole


@pytest.mark.parametrize("missing", [("moments",), ("linear_block", "curves"), ("resolved_gyr",), HISTORY_NEEDS])
def test_histories_that_break_the_protocol_are_refused_by_name(histories, missing) -> None:
    histories.register("half", lambda: lacking(*missing))
    expected = f"history 'half' breaks the protocol: it lacks {', '.join(missing)} (docs/extend.md)"
    with pytest.raises(ConfigError, match=f"^{re.escape(expected)}$"):
        load_model(ModelOptions(history="half"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"colour": 1}, r"model\.history_options of history 'nmf': .*unexpected keyword argument 'colour'"),
        ({"binning": "fine"}, r"model\.history_options: binning = 'fine'; use 'exact' or 'published'"),
        ({"normalisation": "per basis"}, r"normalisation = 'per basis'; use 'per-basis' or 'joint'"),
    ],
)
def test_options_that_histories_do_not_have_are_refused(options, says) -> None:
    with pytest.raises(ConfigError, match=says):
        load_model(ModelOptions(history_options=options))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"history": "nfm"}, r"model\.history = 'nfm': no such history; did you mean 'nmf'"),
        ({"attenuation": "charlot-hall"}, r"model\.attenuation = .*; did you mean 'charlot-fall'"),
        ({"emissions": ("glow",)}, r"model\.emissions = 'glow': no such emission; .*list the module in `plugins`"),
        ({"properties": ("sfr",)}, r"model\.properties = 'sfr': no such derived property"),
    ],
)
def test_unknown_parts_are_refused(options, says) -> None:
    with pytest.raises(ConfigError, match=says):
        load_model(ModelOptions(**options))


# ---- likelihood backends -------------------------------------------------------------------------------------------


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
