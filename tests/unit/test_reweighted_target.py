"""Sampling under a corrected prior: a known posterior reweighted, the factors, and how a fit is told of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.special import ndtri

from provabgs.catalog.configuration import shared_config
from provabgs.core.errors import ConfigError, InputError
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, SamplerOptions, load_fit_config
from provabgs.inference.prior_correction import Factor, PriorCorrection, load_correction, log_ratio_function
from provabgs.inference.reweighted_target import reweight
from provabgs.inference.samplers import MarginalPosterior, Target
from provabgs.inference.samplers.annealed import sample_annealed
from provabgs.inference.standard import PARAMETERS
from provabgs.inference.target import derived_columns, to_theta
from provabgs.population.prior.draws import draw_properties
from provabgs.population.prior.max_entropy import MaxEntropyPrior
from tests.support.parameters import N_FREE, prior_of, stars_of

OUTER, INNER = PARAMETERS.nonlinear_coordinates, PARAMETERS.linear_coordinates
CORRECTION = PriorCorrection(
    redshift=0.2,
    factors=(
        Factor(name="LOGSSFR_1GYR", nodes=(-13.0, -11.0, -9.5), log_g=(2.0, 1.0, -1.0)),
        Factor(name="T_AGE_MW", nodes=(0.1, 0.9), log_g=(-0.5, 0.5)),
    ),
)


def toy() -> Target:
    """No data: the posterior is the prior, a standard normal in all twelve coordinates, four of them integrated out."""

    def draw_linear(outer: np.ndarray, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        latent = np.empty((len(outer), N_FREE))
        latent[:, OUTER] = outer
        latent[:, INNER] = ndtri(uniforms[:, 0, 1:])
        return latent, -0.5 * np.sum(outer**2, axis=1)

    n_uniform = len(INNER) + 1
    marginal = MarginalPosterior(
        lambda outer: -0.5 * np.sum(outer**2, axis=1), draw_linear, len(OUTER), N_FREE, n_uniform
    )
    return Target(N_FREE, lambda z: np.zeros(len(z)), lambda z: z, marginal)


def test_reweighting_a_normal_moves_its_mean() -> None:
    """exp(a z) times a standard normal is a normal about a: along the linear coordinates as along the others."""
    shift = np.zeros(N_FREE)
    shift[OUTER[0]], shift[INNER[1]], shift[INNER[3]] = 1.5, -1.0, 0.5
    reweighted = reweight(toy(), lambda z: z @ shift)
    result = sample_annealed(reweighted, np.random.default_rng(0), SamplerOptions(max_eval=200_000))
    flat = result.draws.reshape(-1, N_FREE)
    error = 1 / np.sqrt(result.convergence.ess_bulk)
    assert result.convergence.passes(1.01, 400)
    assert np.all(np.abs(flat.mean(axis=0) - shift) < 5 * error)
    assert flat.std(axis=0) == pytest.approx(1.0, abs=0.1)
    np.testing.assert_allclose(result.log_likelihood.ravel(), flat @ shift)  # what walkers without it climb
    forgotten = sample_annealed(toy(), np.random.default_rng(0), SamplerOptions(max_eval=200_000))
    assert abs(forgotten.draws[..., OUTER[0]].mean() - 1.5) > 1


def test_sampling_where_weights_collapse() -> None:
    """Four sigma from the uncorrected prior reweighting has a handful of draws; sampling has as many as it wants."""
    shift = np.zeros(N_FREE)
    shift[OUTER[2]] = 4.0
    weight = np.exp(np.random.default_rng(1).standard_normal((4000, N_FREE)) @ shift)
    assert weight.sum() ** 2 / np.sum(weight**2) < 20
    options = SamplerOptions(max_eval=200_000)
    result = sample_annealed(reweight(toy(), lambda z: z @ shift), np.random.default_rng(2), options)
    assert result.convergence.passes(1.01, 400)
    error = 1 / np.sqrt(result.convergence.ess_bulk)
    assert np.all(np.abs(result.draws.reshape(-1, N_FREE).mean(axis=0) - shift) < 5 * error)


def test_ratio_of_latent_coordinates_is_that_of_properties() -> None:
    model = load_model(FitConfig().model)
    tables, prior = model.tables(11.0), prior_of((0.4, 0.05))
    latent = np.random.default_rng(1).standard_normal((40, N_FREE))
    got = log_ratio_function(CORRECTION, model, prior, tables)(latent)
    derived = derived_columns(model, stars_of(to_theta(latent, prior)), tables)
    ssfr = derived["log_sfr_1gyr"] - derived["logmstar_surviving"]
    expected = np.interp(ssfr, (-13.0, -11.0, -9.5), (2.0, 1.0, -1.0))
    expected += np.interp(derived["t_age_mw"] / 11.0, (0.1, 0.9), (-0.5, 0.5))
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_a_configuration_holds_what_its_file_held(tmp_path: Path) -> None:
    CORRECTION.save(tmp_path / "prior.json")
    config = FitConfig(prior_correction=str(tmp_path / "prior.json"))  # type: ignore[arg-type]
    (tmp_path / "prior.json").unlink()
    assert FitConfig.model_validate_json(config.model_dump_json()).prior_correction == CORRECTION
    assert FitConfig(prior_correction="").prior_correction is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        ({"name": "LOGMSTAR", "nodes": [0, 1], "log_g": [0, 1]}, "known properties are LOGSSFR_1GYR"),
        ({"name": "LOGZ_MW", "nodes": [0, 1], "log_g": [0, 1, 2]}, "2 nodes for 3 values"),
        ({"name": "LOGZ_MW", "nodes": [1, 0], "log_g": [0, 1]}, "increasing"),
    ],
)
def test_refusals_name_the_file(tmp_path: Path, factor: dict, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({"redshift": 0.2, "factors": [factor]}))
    with pytest.raises(ConfigError, match=message) as caught:
        load_correction(path)
    assert str(path) in str(caught.value)
    with pytest.raises(ValidationError, match="no readable corrected prior"):
        FitConfig(prior_correction=tmp_path / "missing.json")  # type: ignore[arg-type]


def test_files_of_a_fit_are_found_beside_its_configuration(tmp_path: Path) -> None:
    """Not in the directory that a command, or a worker, happens to run in."""
    content = json.dumps({"redshift": 0.2, "factors": [{"name": "LOGZ_MW", "nodes": [0, 1], "log_g": [0, 1]}]})
    (tmp_path / "prior.json").write_text(content)
    path = tmp_path / "c.toml"
    path.write_text('[fit]\nprior_correction = "prior.json"\n[fit.model]\nlibrary = "ssp.h5"\nconventions = "paper"\n')
    config = load_fit_config(path)
    assert config.prior_correction is not None
    assert config.prior_correction.factors[0].name == "LOGZ_MW"
    assert config.model.library == tmp_path.resolve() / "ssp.h5"
    assert config.model.conventions == "paper"


def test_populations_know_under_which_prior_draws_were_made() -> None:
    """Catalogs of the two priors are not mixed, and prior draws of a corrected configuration follow its ratio."""
    plain, corrected = FitConfig(), FitConfig(prior_correction=CORRECTION)
    with pytest.raises(ConfigError, match="another prior than claimed \\(prior_correction"):
        shared_config([corrected.model_dump_json()], plain)
    with pytest.raises(InputError, match="corrected one already"):
        MaxEntropyPrior.build(("LOGSSFR_1GYR",), corrected, n=2000)
    before = draw_properties(plain, 0.2, 40_000, np.random.default_rng(2))
    after = draw_properties(corrected, 0.2, 4_000, np.random.default_rng(3))
    ssfr, age = before["LOGSSFR_1GYR"], before["T_AGE_MW"] / 11.3
    ratio = np.exp(np.interp(ssfr, (-13.0, -11.0, -9.5), (2.0, 1.0, -1.0)) + np.interp(age, (0.1, 0.9), (-0.5, 0.5)))
    expected = np.average(ssfr < -11, weights=ratio)
    assert np.mean(after["LOGSSFR_1GYR"] < -11) == pytest.approx(expected, abs=0.04)
    assert expected > np.mean(ssfr < -11) + 0.15
