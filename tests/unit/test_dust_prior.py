"""The relation of slope and optical depth as a prior: its density, fits under it, and other fits reweighted to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from provabgs.catalog.configuration import shared_config
from provabgs.core.errors import ConfigError, InputError
from provabgs.core.jax import jnp
from provabgs.core.status import Status
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.dust_prior import (
    CALZETTI_SLOPE,
    dust_ratio,
    log_ratio,
    relation_slope,
    require_dust,
    reweight_dust,
)
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.posterior import Posterior
from provabgs.inference.priors import Prior, theta_from_latent
from provabgs.population.prior.draws import draw_properties, prior_of
from provabgs.sps.attenuation import ism_optical_depth
from provabgs.sps.parameters import ParameterSet
from tests.unit.test_dispersion import galaxy

RELATION = {"dust_prior": "relation"}


@pytest.mark.parametrize("n_dust", [-1.0, 0.0, 0.6])
def test_slopes_are_those_of_the_models_own_curve(n_dust: float) -> None:
    wave = np.array([5400.0, 5600.0])
    tau = np.log(np.asarray(ism_optical_depth(wave, jnp.asarray(0.7), jnp.asarray(n_dust))))
    slope = -(tau[1] - tau[0]) / np.log(wave[1] / wave[0])
    assert slope == pytest.approx(CALZETTI_SLOPE - n_dust, abs=0.03)  # the bump's far wing adds 0.02 at n_dust = -1


def test_the_relation_is_that_of_chevallard() -> None:
    assert float(relation_slope(0.0)) == 2.8
    assert float(relation_slope(1.0)) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("depth", "slope"), [((0.0, 3.0), (-2.0, 1.0)), ((0.0, 1.5), (-1.0, 0.4)), ((2.0, 3.0), (-2.0, -1.5))]
)
def test_the_density_is_normalised_within_any_edges(depth: tuple[float, float], slope: tuple[float, float]) -> None:
    grid = [low + (np.arange(1500) + 0.5) / 1500 * (high - low) for low, high in (depth, slope)]
    tau, n = np.meshgrid(*grid, indexing="ij")
    ratio = np.asarray(log_ratio(jnp.asarray(tau), jnp.asarray(n), depth, slope))
    assert np.mean(np.exp(ratio)) == pytest.approx(1.0, abs=2e-3)


def test_thin_dust_is_steep_and_much_dust_unlikely() -> None:
    def at(tau: float, n: float) -> float:
        return float(log_ratio(jnp.asarray(tau), jnp.asarray(n), (0.0, 3.0), (-2.0, 1.0)))

    assert at(0.1, -0.4) > at(0.1, 0.6) + 3
    assert at(2.0, 0.5) > at(2.0, -0.5) + 10
    assert at(0.3, float(CALZETTI_SLOPE - relation_slope(0.3))) > at(2.5, float(CALZETTI_SLOPE - relation_slope(2.5)))


def test_a_galaxys_ratio_is_that_of_its_parameters() -> None:
    prior = prior_of(FitConfig(prior_bounds={"tau_ism": (0.0, 2.0)}), load_model(FitConfig().model))
    latent = np.random.default_rng(1).standard_normal((50, prior.n_coordinate))
    theta = np.asarray(theta_from_latent(jnp.asarray(latent), prior))
    tau, n = (theta[:, prior.parameters.index(name)] for name in ("tau_ism", "n_dust"))
    expected = log_ratio(jnp.asarray(tau), jnp.asarray(n), (0.0, 2.0), (-2.0, 1.0))
    np.testing.assert_allclose(dust_ratio(prior)(latent), expected, rtol=1e-10)


def test_draws_of_the_prior_follow_it_and_histories_do_not() -> None:
    rng = np.random.default_rng
    plain, related = (draw_properties(FitConfig(**c), 0.1, 20_000, rng(1)) for c in ({}, RELATION))
    thin = related["TAU_ISM"] < 0.1
    assert np.median(related["TAU_ISM"]) == pytest.approx(0.83, abs=0.03)  # of the truncated normal
    assert related["N_DUST"][thin].mean() < -0.3 < 0.2 < related["N_DUST"][related["TAU_ISM"] > 0.8].mean()
    assert related["T_AGE_MW"].mean() == pytest.approx(plain["T_AGE_MW"].mean(), abs=0.1)


def test_laws_without_the_two_parameters_are_refused() -> None:
    other = ParameterSet(tuple(p for p in load_model(FitConfig().model).parameters if p.name != "n_dust"))
    with pytest.raises(ConfigError, match=r"dust_prior = 'relation': this dust law has no n_dust; leave .*'uniform'"):
        require_dust(other)
    with pytest.raises(ConfigError, match="has no n_dust"):
        dust_ratio(Prior.of(other))


def test_fits_under_two_priors_are_not_mixed() -> None:
    texts = [FitConfig(**c).model_dump_json() for c in ({}, RELATION)]
    with pytest.raises(ConfigError, match=r"dust_prior: .*uniform.* against .*relation"):
        shared_config(texts)


# ---- fits ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fits() -> list[Posterior]:
    """Bands alone, which leave much to the prior, fitted under either."""
    data = replace(galaxy(load_model(FitConfig().model), 150.0, 20.0), spectra=(), fiber_fraction=None)
    common = {"n_samples": 4000, "sampler": {"aim_eval": 0}}
    return [fit_observation(data, FitConfig.model_validate(common | c), seed=1) for c in ({}, RELATION)]


def test_a_fit_under_the_relation_is_the_other_reweighted(fits: list[Posterior]) -> None:
    plain, related = fits
    assert [p.status for p in fits] == [Status.CONVERGED] * 2
    found = reweight_dust(plain)
    assert 200 < found.n_effective < 3900
    assert found.log_evidence == pytest.approx(related.diagnostics.log_evidence, abs=0.15)
    for name in ("tau_ism", "n_dust", "logmstar", "t_age_mw"):
        sigma = np.std(related[name])
        np.testing.assert_allclose(found.quantiles(name), related.quantiles(name), atol=0.2 * sigma)
    moved = np.abs(plain.quantiles("n_dust") - related.quantiles("n_dust")).max()
    assert moved > 0.5 * np.std(related["n_dust"])


def test_what_cannot_be_reweighted_is_refused(fits: list[Posterior]) -> None:
    with pytest.raises(InputError, match="was fitted with dust_prior = 'relation' already"):
        reweight_dust(fits[1])
    none = Posterior.without_samples(Status.CRASHED, "bad", FitConfig(), 0, targetid=8)
    with pytest.raises(InputError, match="TARGETID 8 has no draws: STATUS CRASHED"):
        reweight_dust(none)
