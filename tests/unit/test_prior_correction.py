"""The corrected prior is flat where it says, weights do what they should, and collapse is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from provabgs.core.errors import InputError
from provabgs.core.jax import jnp
from provabgs.core.weights import weighted_quantiles
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.priors import theta_from_latent
from provabgs.inference.samplers import Target
from provabgs.population.prior.corrected import bias_table, correct_catalog
from provabgs.population.prior.draws import age_of_universe, draw_properties, prior_of
from provabgs.population.prior.max_entropy import LIMITS, MaxEntropyPrior
from tests.support.made_up_catalog import made_up_posteriors, write_made_up_catalog
from tests.support.parameters import stars_of

NAMES = ("LOGSSFR_1GYR", "T_AGE_MW")


@pytest.fixture(scope="module")
def prior() -> MaxEntropyPrior:
    return MaxEntropyPrior.build(NAMES, FitConfig(), 0.2, n=200_000, limits={"LOGSSFR_1GYR": (-13.0, -9.0)})


def test_marginals_become_flat_for_other_draws(prior: MaxEntropyPrior) -> None:
    drawn = draw_properties(FitConfig(), 0.2, 100_000, np.random.default_rng(8))
    values = np.stack([drawn[k] for k in NAMES], axis=-1)
    weight = np.exp(prior.log_ratio(values[None], [0.2])[0])
    assert weight.mean() == pytest.approx(1.0, abs=0.1)  # the corrected prior is normalised
    age = age_of_universe(FitConfig(), 0.2)
    ranges = {"LOGSSFR_1GYR": (-13.0, -9.0), "T_AGE_MW": tuple(age * v for v in LIMITS["T_AGE_MW"])}
    for k, name in enumerate(NAMES):
        raw, after = (np.histogram(values[:, k], np.linspace(*ranges[name], 9), weights=w)[0] for w in (None, weight))
        assert raw.max() / raw.min() > 5, name  # or there would be nothing to correct
        assert after.max() / after.min() < 1.4, name


def test_weights_of_draws(prior: MaxEntropyPrior) -> None:
    draws = np.array([[[-12.5, 7.0], [-10.3, 7.0], [np.nan, np.nan]]])
    found = prior.reweight(draws, [0.2])
    assert found.weight.sum() == pytest.approx(1.0)
    assert found.weight[0, 2] == 0
    assert found.weight[0, 0] > 5 * found.weight[0, 1]  # the prior had little at -12.5
    assert found.n_effective[0] < 1.5
    assert found.collapsed.all()
    same = prior.reweight(np.tile(draws[:, :1], (1, 100, 1)), [0.2])
    assert same.n_effective == pytest.approx(100)
    assert not same.collapsed.any()
    with pytest.raises(InputError, match="row 0 has no draw"):
        prior.reweight(np.full((1, 3, 2), np.nan), [0.2])
    with pytest.raises(InputError, match="expected"):
        prior.reweight(draws[0], [0.2])


def test_target_and_rejection_follow_the_same_prior(prior: MaxEntropyPrior) -> None:
    """The JAX ratio on parameters equals the table's on properties, and rejection samples are distributed by it."""
    model = load_model(FitConfig().model)
    tables = model.tables(age_of_universe(FitConfig(), 0.2))
    base = prior_of(FitConfig(), model)
    latent = np.random.default_rng(1).standard_normal((50, base.n_coordinate))
    target = Target(base.n_coordinate, lambda z: np.zeros(len(z)), lambda z: z)
    got = prior.correct_target(target, base, model, tables).log_likelihood(latent)
    theta = stars_of(theta_from_latent(jnp.asarray(latent), base))
    np.testing.assert_allclose(got, prior.log_ratio_theta(model, tables)(theta), rtol=1e-6, atol=1e-8)
    assert np.ptp(got) > 1
    sampled = prior.sample(np.random.default_rng(2), 400)
    assert sampled.shape == (400, 13)
    ratio = np.asarray(prior.log_ratio_theta(model, tables)(jnp.asarray(stars_of(sampled))))
    assert ratio.mean() > np.asarray(got).mean() + 0.5  # favoured where the original prior has little


def test_refusals() -> None:
    with pytest.raises(InputError, match="cannot be made flat"):
        MaxEntropyPrior.build(("LOGMSTAR",), n=2000)
    with pytest.raises(InputError, match="one or more different"):
        MaxEntropyPrior.build((), n=2000)
    with pytest.raises(InputError, match="fewer than 10 of 5000 prior draws"):
        MaxEntropyPrior.build(("LOGSSFR_1GYR",), n=5000, limits={"LOGSSFR_1GYR": (-20.0, -9.0)})


def test_weighted_quantiles() -> None:
    x = np.random.default_rng(3).normal(size=(4, 501))
    np.testing.assert_allclose(
        weighted_quantiles(x, np.ones_like(x), [0.16, 0.5]), np.quantile(x, [0.16, 0.5], axis=1, method="hazen").T
    )
    doubled = weighted_quantiles([[1.0, 2.0, np.nan]], [[1.0, 3.0, 0.0]], [0.5])
    assert 1.5 < doubled[0, 0] < 2.0
    assert np.isnan(weighted_quantiles([[np.nan]], [[0.0]], [0.5])).all()
    with pytest.raises(InputError, match="same table"):
        weighted_quantiles(x, x[:2], [0.5])


def test_bias_of_a_catalog_is_more_than_halved(tmp_path: Path) -> None:
    """Quiescent galaxies measured to 0.5 dex: the prior pulls their sSFR up, the corrected one does not."""
    rng = np.random.default_rng(4)
    truth = rng.uniform(-12.8, -11.8, 80)
    write_made_up_catalog(tmp_path / "catalog", made_up_posteriors(truth, "LOGSSFR_1GYR", 0.5, rng))
    found = correct_catalog(tmp_path / "catalog", ("LOGSSFR_1GYR",), n_prior=200_000)
    assert found.rows.n_used == 80
    order = np.asarray(found.table["TARGETID"]) - 1
    before, after = (np.median(np.asarray(found.table[f"LOGSSFR_1GYR_P50{s}"]) - truth[order]) for s in ("", "_CORR"))
    assert before > 0.3
    assert abs(after) < 0.4 * before
    known = {k: np.asarray(found.table[f"{k}_P50"]) for k in ("LOGMSTAR_FORMED", "LOGSFR_1GYR", "LOGZ_MW", "T_AGE_MW")}
    table = bias_table(found.table, known, found.table["TARGETID"], np.arange(80) < 40)
    assert "low S/N, log Z" in table["regime"]
    assert np.all(np.abs(table["bias"][table["n"] > 0]) < 1e-9)  # "truth" was the median before
    with pytest.raises(InputError, match="none of the galaxies has a truth"):
        bias_table(found.table, known, np.asarray(found.table["TARGETID"]) + 999_999)
