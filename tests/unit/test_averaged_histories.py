"""Fits under several families of histories, averaged into one posterior: parameters differ, properties do not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from provabgs.catalog.records import to_block, to_posteriors
from provabgs.core.errors import ConfigError
from provabgs.inference.alternatives import alternatives
from provabgs.inference.averaged_posterior import combine, parts_of, weights_of
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig
from provabgs.inference.fit import check_names, fit_one
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.history_prior import reweight_history
from provabgs.inference.posterior import Posterior
from provabgs.inference.predictive import predict, predict_histories
from provabgs.observe.observation import Observation, Photometry
from provabgs.plotting.corner import all_quantities

FAMILIES = ["nmf", "delayed-tau"]
OPTIONS = {"delayed-tau": {"burst": True, "metallicity": "enriching"}}
OWN = {"nmf": ("beta1", "gamma1", "gamma2"), "delayed-tau": ("tau", "first_stars", "z_rise", "metallicity")}
SHARED = ("logmstar", "fburst", "tburst", "tau_ism")
QUICK = {"aim_eval": 0, "rhat": 1.1, "ess": 60}


def config(history: Any = FAMILIES, options: Any = OPTIONS, **more: Any) -> FitConfig:
    model = {"history": history, "history_options": options} | more.pop("model", {})
    # percentiles of few draws differ from one resampling to the next
    return FitConfig.model_validate({"model": model, "sampler": QUICK, "use": "photometry", "n_samples": 4000} | more)


@cache
def galaxy() -> Observation:
    """Three bands of a galaxy of no particular kind."""
    bands, flux = ("decam2014-g", "decam2014-r", "decam2014-z"), np.array([40.0, 90.0, 150.0])
    return Observation(0.1, (), Photometry(bands, flux, (0.03 * flux) ** -2), targetid=8)


@cache
def fitted(*history: str) -> Posterior:
    several = config(list(history), {k: v for k, v in OPTIONS.items() if k in history})
    alone = config(history[0], OPTIONS.get(history[0], {}))
    return fit_one(galaxy(), several if len(history) > 1 else alone, 3)


# ---- which fits ----------------------------------------------------------------------------------------------------


def test_one_family_is_one_fit() -> None:
    assert FitConfig.model_validate({"model": {"history": ["nmf"]}}) == FitConfig()
    (only,) = alternatives(config("delayed-tau", {"burst": True}))
    assert (only.label, only.config.model.options_of("delayed-tau")) == ("", {"burst": True})


def test_every_family_with_every_amplitude() -> None:
    several = config(observing={"template_error": [0.7, 1.4]})
    made = alternatives(several)
    assert [a.label for a in made] == [f"{h} amplitude {a}" for h in FAMILIES for a in (0.7, 1.4)]
    assert [(a.history, a.config.model.history) for a in made] == [(k, FAMILIES[k]) for k in (0, 0, 1, 1)]
    assert [a.config.model.history_options for a in made[1:3]] == [{}, OPTIONS["delayed-tau"]]
    assert {a.config.sampler.time_limit_s for a in made} == {several.sampler.time_limit_s / 4}
    assert FitConfig.model_validate_json(several.model_dump_json()) == several
    assert all(len(alternatives(a.config)) == 1 for a in made)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"history": []}, "name at least one family, and each once"),
        ({"history": ["nmf", "nmf"]}, "each once"),
        ({"history": FAMILIES, "history_options": {"burst": True}}, r"history_options\.burst: of several families"),
        ({"history": FAMILIES, "history_options": {"nmf": 3}}, r"history_options\.nmf = \{\.\.\.\}"),
        ({"history_weights": "best"}, "'equal' or 'evidence'"),
    ],
)
def test_configurations_that_are_refused(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FitConfig.model_validate({"model": model})


def test_what_takes_one_family_says_so() -> None:
    with pytest.raises(ValueError, match="engine = 'emulator' knows one history"):
        config(engine="emulator")
    with pytest.raises(ConfigError, match="families of histories"):
        fit_observation(galaxy(), config())
    with pytest.raises(ConfigError, match=r"model\.history names nmf, delayed-tau: .* name one of them here"):
        load_model(config().model)
    with pytest.raises(ConfigError, match="nfm"):
        check_names(config(["nmf", "nfm"], {}))
    check_names(config())


def test_bounds_are_those_of_the_families_that_have_them() -> None:
    bounded = config(prior_bounds={"tau": (0.5, 5.0), "tau_ism": (0.0, 1.0)})
    found = fit_one(galaxy(), bounded, 3)
    tau = found["tau"][~np.isnan(found["tau"])]
    assert 0.5 <= tau.min() < tau.max() <= 5.0
    assert found["tau_ism"].max() <= 1.0
    with pytest.raises(ConfigError, match=r"prior_bounds\.tua: no family has it; did you mean 'tau'"):
        fit_one(galaxy(), config(prior_bounds={"tua": (0.5, 5.0)}), 3)


# ---- the average ---------------------------------------------------------------------------------------------------


def test_draws_are_those_of_each_family() -> None:
    """Half from each, each with its own parameters alone, and properties that all have."""
    both, alone = fitted(*FAMILIES), [fitted(name) for name in FAMILIES]
    assert both.status == max(p.status for p in alone)
    assert both.diagnostics.n_eval == sum(p.diagnostics.n_eval for p in alone)
    for k, (name, other) in enumerate(zip(FAMILIES, reversed(FAMILIES), strict=True)):
        mine = both["history"] == k
        assert abs(mine.mean() - 0.5) < 0.01
        for parameter in (*OWN[name], *SHARED):
            spread = np.std(alone[k][parameter])
            low, high = np.quantile(both[parameter][mine], (0.16, 0.84))
            expected = alone[k].quantiles(parameter)
            np.testing.assert_allclose((low, high), expected[[0, 2]], atol=0.15 * spread)
        assert all(np.isnan(both[parameter][mine]).all() for parameter in OWN[other])
        # a quantile is over the draws that have the parameter
        np.testing.assert_allclose(both.quantiles(OWN[name][0])[1], np.median(both[OWN[name][0]][mine]))
    assert not any(np.isnan(draws).any() for draws in both.derived.values())
    assert both.derived.keys() == alone[0].derived.keys() | {"history"}
    assert OWN["nmf"][0] not in all_quantities(both)
    assert set(SHARED) < set(all_quantities(both))


def test_the_catalog_keeps_them_apart() -> None:
    both, several = fitted(*FAMILIES), config()
    block = to_block([both])
    (back,) = to_posteriors(block)
    parts = {a.label: rows for a, rows in parts_of(back, several)}  # stored draws are thinned and rounded
    assert set(parts) == set(FAMILIES)
    for name, rows in parts.items():
        assert abs(len(rows) / len(back.samples) - 0.5) < 0.2
        missing = {p for p in back.parameters.names if np.isnan(back[p][rows]).all()}
        assert missing == {p for other in FAMILIES if other != name for p in OWN[other]} | (
            {"beta2", "beta3", "beta4"} if name != "nmf" else set()
        )
    row = block.summary[0]
    assert row["TAU_P50"] == pytest.approx(both.quantiles("tau")[1], rel=1e-3)
    assert row["LOG_EVIDENCE_DELAYED_TAU"] == pytest.approx(fitted("delayed-tau").diagnostics.log_evidence, abs=1e-3)
    assert np.isfinite(row["T50_P50"])  # measured on draws of both


def test_each_draw_is_predicted_by_its_family() -> None:
    both = fitted(*FAMILIES)
    _, sfr, zh = predict_histories(both, 200)
    assert sfr.shape == zh.shape == (200, sfr.shape[1])
    assert np.isfinite(sfr).all()
    made = predict(both, galaxy(), 200).photometry
    assert made is not None
    np.testing.assert_allclose(np.median(made.model, axis=0), galaxy().photometry.flux, rtol=0.1)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="priors of a history belong to a fit under one"):
        reweight_history(both, z_prior="linear")


def test_weights() -> None:
    """By hand: evidences 1, 3 (nmf at two amplitudes) and 4, 8 (delayed-tau)."""
    log_z = np.log([1.0, 3.0, 4.0, 8.0])
    amplitudes = {"template_error": [0.7, 1.4]}
    equal = config(observing=amplitudes)
    np.testing.assert_allclose(weights_of(equal, alternatives(equal), log_z), [1 / 8, 3 / 8, 1 / 6, 1 / 3])
    by_evidence = config(observing=amplitudes, model={"history_weights": "evidence"})
    np.testing.assert_allclose(weights_of(by_evidence, alternatives(by_evidence), log_z), np.array([1, 3, 4, 8]) / 16)
    plain = config()
    np.testing.assert_allclose(weights_of(plain, alternatives(plain), np.full(2, np.nan)), 0.5)
    unknown = config(model={"history_weights": "evidence"})
    with pytest.raises(ConfigError, match="history_weights = 'evidence' need"):
        weights_of(unknown, alternatives(unknown), np.full(2, np.nan))


def test_a_name_with_two_meanings_is_refused() -> None:
    """The same name with another prior cannot be one column."""
    nmf, other = fitted("nmf"), fitted("delayed-tau")
    parameters = [replace(p, bounds=(0.0, 9.0)) if p.name == "tau_ism" else p for p in other.parameters]
    changed = replace(other, parameters=type(other.parameters)(tuple(parameters)))
    with pytest.raises(ConfigError, match="parameter 'tau_ism' of nmf is not that of delayed-tau"):
        combine(config(), alternatives(config()), [nmf, changed], 3)
