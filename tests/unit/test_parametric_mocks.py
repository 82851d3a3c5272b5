"""Support of the studies of Prospector's parametric mocks and of families' own galaxies."""

from __future__ import annotations

import numpy as np
import pytest

from provabgs import Spectrum
from provabgs.inference.backends import load_model
from provabgs.inference.config import ModelOptions
from studies.support.parametric_mocks import MOCKS, T_AGE, delayed, made_up, observation_of, smooth_ratio, theirs
from studies.support.prior_galaxies import default_model, draw_theta, parameters_of
from tests.support.parameters import PARAMETERS, prior_draws


def test_delayed_is_the_integral() -> None:
    tage, tau = np.array([12.0, 3.0]), np.array([4.0, 0.5])
    age, recent = delayed(tage, tau)
    for k in range(2):
        t = np.linspace(0, tage[k], 400_001)
        rate = t * np.exp(-t / tau[k])
        assert age[k] == pytest.approx(tage[k] - np.sum(rate * t) / np.sum(rate), rel=1e-3)
        assert recent[k] == pytest.approx(np.log10(rate[t > tage[k] - 0.1].sum() / rate.sum()), abs=2e-3)


def test_smooth_ratio_finds_the_calibration_beside_lines() -> None:
    """A factor of 1 to 2.4 is found within half a per cent though one pixel in forty has a line."""
    rng, wave = np.random.default_rng(0), np.linspace(4200.0, 7900.0, 1700)
    model = 1 + 0.1 * np.sin(wave / 7.0)
    factor = 1.7 + 0.7 * np.cos((wave - 4200) / 900)
    flux = factor * model * (1 + 0.1 * rng.standard_normal(wave.size))
    flux[::40] += 5.0
    found = smooth_ratio(Spectrum("s", wave, flux, 1 / (0.1 * factor * model) ** 2), model)
    assert np.median(np.abs(found / factor - 1)) < 0.007
    assert np.std(found / factor) < 0.015


@pytest.mark.parametrize("name", MOCKS)
def test_mocks_become_observations(name: str) -> None:
    data = made_up(name)
    observation = observation_of(data)
    assert bool(observation.spectra) == (name != "phot")
    assert (observation.photometry is not None) == (name != "spec")
    assert (observation.fiber_fraction is not None) == (name == "specphot")


def test_stars_older_than_the_universe_do_not_count() -> None:
    data = made_up("phot")
    data["chain"][:50, 3] = T_AGE + 0.5
    weight = theirs(data)["weight"]
    assert weight[:50].sum() == 0
    assert weight.sum() == pytest.approx(1.0)


def test_default_family_draws_what_the_default_prior_draws() -> None:
    model = default_model()
    assert parameters_of(model).names == PARAMETERS.names
    ours = draw_theta(model, 0.4, np.random.default_rng(3))
    assert np.array_equal(ours, prior_draws(1, np.random.default_rng(3), (0.4, 0.04)))


def test_other_families_draw_their_own_parameters() -> None:
    model = load_model(ModelOptions(history="delayed-tau", history_options={"metallicity": "enriching"}))
    theta = draw_theta(model, 0.4, np.random.default_rng(3))
    values = parameters_of(model).values(theta)
    assert theta.shape == (1, len(parameters_of(model).names))
    assert 0.1 <= float(values["tau"][0]) <= 30.0
