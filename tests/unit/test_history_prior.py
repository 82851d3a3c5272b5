"""Weights that turn draws under one prior on a history into draws under another: against the other prior itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from provabgs.core.errors import ConfigError, InputError
from provabgs.core.status import Status
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.history_prior import reweight_history, reweighted_columns
from provabgs.inference.posterior import Diagnostics, Posterior
from provabgs.inference.prior_draws import draw_prior
from provabgs.inference.priors import Prior
from provabgs.inference.target import derived_columns
from provabgs.observe.cosmology import Cosmology

REDSHIFT = 0.1
T_AGE = Cosmology("Planck13").age_gyr(REDSHIFT)


def prior_posterior(n: int = 20_000, **options: Any) -> Posterior:
    """Draws of the prior of four bins, as if no data were there."""
    config = FitConfig(model={"history": "bins", "history_options": {"n_bins": 4, **options}})
    model = load_model(config.model)
    theta = draw_prior(Prior.of(model.parameters), n, np.random.default_rng(4))
    return Posterior(
        targetid=5,
        redshift=REDSHIFT,
        status=Status.CONVERGED,
        parameters=model.parameters,
        properties=model.properties,
        samples=theta,
        log_prob=np.zeros(n),
        derived=derived_columns(model, theta, model.tables(T_AGE)),
        diagnostics=Diagnostics(log_evidence=-3.0),
        config=config.model_dump_json(),
    )


@pytest.mark.parametrize(
    ("of", "to", "least"),
    [
        ({"prior": "stochastic"}, {"prior": "continuity", "prior_options": {"sigma_dex": 0.1}}, 200),
        ({"prior": "continuity"}, {"prior": "stochastic"}, 2000),
        ({"prior": "continuity"}, {"prior": "continuity", "prior_options": {"sigma_dex": 0.2}}, 5000),
        ({"prior": "dirichlet"}, {"prior": "dirichlet", "prior_options": {"concentration": 2.0}}, 2000),
        ({"prior": "dirichlet"}, {"z_prior": "linear"}, 2000),
        ({"prior": "dirichlet", "z_prior": "linear"}, {"z_prior": "log"}, 500),
    ],
)
def test_draws_of_one_prior_become_draws_of_another(of: dict[str, Any], to: dict[str, Any], least: float) -> None:
    """Without data the evidence is 1 under either, and weighted quantiles are those of the other's own draws."""
    weighted = reweight_history(prior_posterior(**of), **to)
    assert weighted.n_effective > least
    assert weighted.log_evidence == pytest.approx(-3.0, abs=0.25)
    wanted: dict[str, Any] = {**of, **to}
    if wanted.get("prior_options", {}).get("concentration"):
        # a concentration is a weight in fits as well: held against draws of numpy
        shares = np.random.default_rng(1).dirichlet([2.0] * 4, 20_000)
        np.testing.assert_allclose(weighted.quantiles("fbin1"), np.quantile(shares[:, 0], (0.16, 0.5, 0.84)), atol=0.02)
        return
    own = prior_posterior(**wanted)
    for name, tolerance in (("t_age_mw", 0.2), ("log_z_mw", 0.1), ("logmstar", 0.2)):
        np.testing.assert_allclose(weighted.quantiles(name), own.quantiles(name), atol=tolerance)


def test_the_same_prior_changes_nothing() -> None:
    posterior = prior_posterior(1000)
    same = reweight_history(posterior, "dirichlet")
    assert same.n_effective == pytest.approx(1000)
    assert same.log_evidence == pytest.approx(-3.0)
    again = same.resampled()
    assert sorted(again["t_age_mw"]) == sorted(posterior["t_age_mw"])


def test_collapsed_weights_are_refused() -> None:
    narrow = reweight_history(prior_posterior(1000), "continuity", {"sigma_dex": 0.001})
    assert narrow.n_effective < 50
    with pytest.raises(InputError, match=r"TARGETID 5: .* of 1000 draws are effective under .*fit the galaxy under"):
        narrow.resampled()


def test_columns_of_a_catalog() -> None:
    posterior = prior_posterior(2000)
    columns = reweighted_columns(posterior, ["dirichlet", "continuity", "stochastic"])
    median = np.median(posterior["t_age_mw"])
    assert columns["T_AGE_MW_P50_DIRICHLET"] == pytest.approx(median, abs=0.02)
    assert columns["N_EFFECTIVE_DIRICHLET"] == pytest.approx(2000)
    for prior in ("CONTINUITY", "STOCHASTIC"):
        assert 1 <= columns[f"N_EFFECTIVE_{prior}"] < 2000
        assert np.isfinite(columns[f"LOG_EVIDENCE_{prior}"])
        assert np.isfinite(columns[f"LOGMSTAR_P16_{prior}"]) == (columns[f"N_EFFECTIVE_{prior}"] >= 50)


def test_what_cannot_be_reweighted_is_said() -> None:
    bins = prior_posterior(10)
    for prior, z_prior, says in (
        ("flat", None, "prior = 'flat': no such prior"),
        (None, "flat", "z_prior = 'flat'; use 'log' or 'linear'"),
    ):
        with pytest.raises(ConfigError, match=says):
            reweight_history(bins, prior, z_prior=z_prior)
    published = Posterior(
        targetid=1,
        redshift=0.1,
        status=Status.CONVERGED,
        samples=np.full((3, 13), 0.01),
        config=FitConfig().model_dump_json(),
    )
    with pytest.raises(ConfigError, match=r"model.history = 'nmf' has no prior 'continuity': age bins do"):
        reweight_history(published, "continuity")
    assert reweight_history(published, z_prior="linear").n_effective == pytest.approx(3.0)
    with pytest.raises(InputError, match="TARGETID 1 has no draws"):
        reweight_history(replace(published, samples=np.empty((0, 13))), "continuity")
