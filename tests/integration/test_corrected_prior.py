"""Whole fits under a corrected prior: the same answer as reweighting, where that works."""

from __future__ import annotations

import numpy as np
import pytest

from provabgs.core.status import Status
from provabgs.core.weights import weighted_quantiles
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.posterior import Posterior
from provabgs.population.prior.max_entropy import MaxEntropyPrior, Reweighted
from tests.support.engine_mocks import mock
from tests.support.parameters import named

Z = 0.15
STAR_FORMING = {"logmstar": 10.3, "beta1": 0.1, "beta2": 0.2, "beta3": 0.3, "beta4": 0.4, "fburst": 0.02, "tburst": 3.0,
                "gamma1": 8e-3, "gamma2": 6e-3, "tau_bc": 0.6, "tau_ism": 0.4,
                "n_dust": -0.6, "f_fiber": 0.45}  # fmt: skip
COMPARED = ("logmstar", "log_sfr_1gyr", "log_z_mw", "t_age_mw")


@pytest.fixture(scope="module")
def prior() -> MaxEntropyPrior:
    return MaxEntropyPrior.build(("LOGSSFR_1GYR",), FitConfig(), Z, n=200_000)


def both_ways(prior: MaxEntropyPrior, truth: dict[str, float], snr: float) -> tuple[Posterior, Reweighted, Posterior]:
    """Posterior under the ordinary prior, its weights, and the posterior sampled under the corrected one."""
    model = load_model(FitConfig().model)
    observation = mock(model, named(**truth)[0], Z, snr, np.random.default_rng(0))
    options = {"preset": "published", "n_samples": 4000}
    plain = fit_observation(observation, FitConfig.model_validate(options), seed=1)
    corrected = FitConfig.model_validate(options | {"prior_correction": prior.correction})
    sampled = fit_observation(observation, corrected, seed=2)
    ssfr = plain["log_sfr_1gyr"] - plain["logmstar_surviving"]
    return plain, prior.reweight(ssfr[None, :, None], [Z]), sampled


@pytest.mark.slow
def test_reweighted_and_sampled_posteriors_agree(prior: MaxEntropyPrior) -> None:
    plain, weights, sampled = both_ways(prior, STAR_FORMING, 6.0)
    assert plain.status == sampled.status == Status.CONVERGED
    assert weights.n_effective[0] > 500  # or there would be nothing to compare with
    for name in COMPARED:
        low, middle, high = weighted_quantiles(plain[name][None], weights.weight, [0.16, 0.5, 0.84])[0]
        sigma = 0.5 * (high - low)
        # a median of n draws errs by 1.25 sigma / sqrt(n): four times that, of both
        n = 1 / (1 / weights.n_effective[0] + 1 / sampled.diagnostics.ess_bulk[name])
        assert np.median(sampled[name]) == pytest.approx(middle, abs=5 * sigma / np.sqrt(n)), name
        assert np.diff(np.quantile(sampled[name], [0.16, 0.84]))[0] == pytest.approx(2 * sigma, rel=0.2), name
