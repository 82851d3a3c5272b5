"""Mocks made with a history are fitted with it, and their posteriors reweighted to the other priors of that history."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from provabgs.core.errors import ConfigError, InputError
from provabgs.core.status import Status
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.fit import fit_one
from provabgs.inference.history_prior import reweight_history, reweighted_columns
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.posterior import Posterior
from provabgs.observe.observation import Observation, Spectrum
from provabgs.observe.projection import project
from provabgs.sps.histories import BinHistories, LinearBlock
from provabgs.sps.registries import HISTORIES

REDSHIFT, SNR = 0.1, 20.0
COMMON = {"logmstar": 10.5, "metallicity": 0.012, "tau_bc": 0.6, "tau_ism": 0.3, "n_dust": -0.2, "f_fiber": 1.0}
FBINS = dict(zip((f"fbin{i}" for i in range(1, 6)), (0.003, 0.007, 0.09, 0.3, 0.6), strict=True))
RATIOS = {f"logsfr_ratio{i}": r for i, r in enumerate((0.1, -0.2, -0.3, 0.2), 1)}
BETAS = {f"beta{i}": b for i, b in enumerate((0.02, 0.1, 0.2, 0.3, 0.2, 0.18), 1)}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, float]]] = {
    "dirichlet": ("bins", {"n_bins": 5}, FBINS),
    "continuity": ("bins", {"n_bins": 5, "prior": "continuity", "metallicity": "enriching"}, RATIOS | {"z_rise": 0.4}),
    "delayed-tau": ("delayed-tau", {"burst": True},
                    {"tau": 2.0, "first_stars": 0.8, "fburst": 0.02, "tburst": 0.3}),
    "tng6": ("tng6", {"metallicity": "constant"}, BETAS | {"fburst": 0.0, "tburst": 1.0}),
}  # fmt: skip


def config_of(case: str) -> FitConfig:
    history, options, _ = CASES[case]
    return FitConfig(
        preset="published",
        model={"history": history, "history_options": options},
        observing={"line_mask": "none"},
        sampler={"aim_eval": 0, "time_limit_s": 1200.0},
        n_samples=1000,
    )


def mock(case: str) -> Observation:
    """One camera at low resolution: what a case's own model says, and noise."""
    config, (_, _, own) = config_of(case), CASES[case]
    model = load_model(config.model)
    wave = np.arange(3700.0, 9200.0, 5.0)
    ones = np.ones(wave.size)
    blank = Observation(redshift=REDSHIFT, spectra=(Spectrum("s", wave, ones, ones, sigma_aa=3.0),), targetid=5)
    exact = ExactLikelihood(project(blank, model.library, config.observing), model)
    pixels, _ = exact.predict(exact.parameters.theta(COMMON | own)[None])
    assert pixels is not None
    sigma = np.median(pixels) / SNR
    flux = pixels[0] + sigma * np.random.default_rng(8).standard_normal(wave.size)
    return replace(blank, spectra=(Spectrum("s", wave, flux, ones / sigma**2, sigma_aa=3.0),))


@lru_cache(maxsize=1)
def fitted(case: str) -> Posterior:
    return fit_one(mock(case), config_of(case), seed=3)


@pytest.mark.parametrize("case", CASES)
def test_a_mock_is_recovered_by_its_own_history(case: str) -> None:
    posterior = fitted(case)
    assert posterior.status == Status.CONVERGED, posterior.message
    assert posterior.diagnostics.engine_dlnl < 0.5
    for name, truth in {**COMMON, **CASES[case][2]}.items():
        if name in ("f_fiber", "tburst"):
            continue  # held, and free where there is no burst
        draws = posterior[name]
        low, high = np.quantile(draws, [0.0005, 0.9995])
        assert low <= truth <= high or abs(truth - draws.mean()) < 4 * draws.std(), name
    assert posterior["logmstar"].std() < 0.3
    assert posterior.chi2_spec / posterior.dof_spec == pytest.approx(1.0, abs=0.15)
    if case == "dirichlet":
        check_reweighting(posterior)


def check_reweighting(posterior: Posterior) -> None:
    """Nothing changes under the same prior; Z under a linear prior is higher; collapse is said."""
    same = reweight_history(posterior, "dirichlet")
    assert same.n_effective == pytest.approx(len(posterior.samples))
    assert same.log_evidence == pytest.approx(posterior.diagnostics.log_evidence)
    np.testing.assert_allclose(same.quantiles("t_age_mw"), posterior.quantiles("t_age_mw"), atol=0.02)
    linear = reweight_history(posterior, z_prior="linear")
    assert linear.quantiles("log_z_mw")[1] >= same.quantiles("log_z_mw")[1]
    narrow = reweight_history(posterior, "continuity", {"sigma_dex": 0.001})
    assert narrow.n_effective < 50
    with pytest.raises(InputError, match=r"TARGETID 5: .* of 1000 draws are effective under .*fit the galaxy under"):
        narrow.resampled()
    milder = reweight_history(posterior, "dirichlet", {"concentration": 1.2})
    assert milder.resampled().samples.shape == posterior.samples.shape
    columns = reweighted_columns(posterior, ["dirichlet", "continuity", "stochastic"])
    assert columns["T_AGE_MW_P50_DIRICHLET"] == pytest.approx(np.median(posterior["t_age_mw"]), abs=0.02)
    assert 1 <= columns["N_EFFECTIVE_CONTINUITY"] <= 1000
    assert np.isfinite(columns["LOG_EVIDENCE_STOCHASTIC"])
    for prior, says in (("flat", "no such prior"), (None, "use 'log' or 'linear'")):
        with pytest.raises(ConfigError, match=says):
            reweight_history(posterior, prior, z_prior="flat")


def sampled_fractions(**options: Any) -> BinHistories:
    """Age bins whose flat fractions are sampled like any other parameter: nothing but the total mass is integrated."""
    histories = BinHistories(**options)
    fractions = histories.linear_block.fractions
    histories.parameters = tuple(replace(p, role="shape") if p.name in fractions else p for p in histories.parameters)
    histories.linear_block = LinearBlock(histories.linear_block.total, ())
    return histories


def test_integrated_and_sampled_fractions_are_one_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same quantiles and same evidence, its prior normalised, from 4 + 4 and from 8 + 1 dimensions."""
    monkeypatch.setitem(HISTORIES._known, "sampled", sampled_fractions)
    config = config_of("dirichlet")
    other = config.model_copy(update={"model": config.model.model_copy(update={"history": "sampled"})})
    integrated, sampled = fitted("dirichlet"), fit_one(mock("dirichlet"), other, seed=3)
    assert sampled.status == Status.CONVERGED, sampled.message
    for name in ("logmstar", "t_age_mw", "log_z_mw", "log_sfr_1gyr", "fbin3", "tau_ism"):
        width = integrated[name].std()
        np.testing.assert_allclose(sampled.quantiles(name), integrated.quantiles(name), atol=0.25 * width)
    assert sampled.diagnostics.log_evidence == pytest.approx(integrated.diagnostics.log_evidence, abs=0.7)
    assert integrated.diagnostics.n_eval < 0.5 * sampled.diagnostics.n_eval
