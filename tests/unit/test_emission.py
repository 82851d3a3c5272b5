"""Emissions as parts of a model: what dust absorbs it gives back, and objects that break the protocol are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from provabgs.core.arrays import FloatArray
from provabgs.core.errors import ConfigError
from provabgs.core.jax import jax, jnp
from provabgs.sps.emission import prepare
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel, trapezoid_widths
from provabgs.sps.parameters import Parameter, Values
from tests.support.parameters import STARS, stars_of
from tests.support.small_library import small_library, theta

T_AGE = 11.0
SHARE = Parameter("f_bump", "F_BUMP", "f", "", "share of the power that the bump gives", "uniform", (0.0, 1.0), "dust")


class Bump:
    """A bump at 9000 A that gives back a share of its supply; `changes` replace attributes and methods."""

    name = "bump"
    parameters = (SHARE,)

    def __init__(self, powered_by: str = "dust", **changes: Any) -> None:
        self.powered_by = powered_by
        for name, value in changes.items():
            setattr(self, name, value)

    def refine(self, library: SSPLibrary) -> SSPLibrary:
        return library

    def rows(self, library: SSPLibrary) -> FloatArray:
        bump = np.exp(-0.5 * ((library.wave - 9000.0) / 200.0) ** 2)
        return (bump / (bump @ trapezoid_widths(library.wave)))[None]

    def supply(self, library: SSPLibrary) -> FloatArray | None:
        young = (library.log_age < 7.1).astype(float)
        return np.broadcast_to(young[None, :, None], (*library.surviving_mass.shape, 1))

    def strengths(self, values: Values) -> jax.Array:
        return values["f_bump"][:, None, None]


def luminosity(model: SPSModel, f_bump: float, **values: float) -> float:
    """Of the whole spectrum, Lsun."""
    star = model.parameters.theta(STARS.values(stars_of(theta(**values)[0])), default=f_bump)[None]
    spectrum = np.asarray(model.spectrum(jnp.asarray(star), model.tables(T_AGE)))[0].astype(float)
    return float(spectrum @ trapezoid_widths(model.library.wave))


def test_dust_gives_back_what_it_absorbs() -> None:
    stars, whole = SPSModel(small_library()), SPSModel(small_library(), emissions=(Bump(),))
    dust = {"tau_bc": 1.0, "tau_ism": 0.8, "n_dust": -0.3}
    clear, dimmed = luminosity(stars, 0.0), luminosity(stars, 0.0, **dust)
    assert dimmed < 0.8 * clear
    assert luminosity(whole, 0.0, **dust) == pytest.approx(dimmed, rel=1e-5)
    assert luminosity(whole, 0.25, **dust) == pytest.approx(dimmed + 0.25 * (clear - dimmed), rel=1e-5)
    assert luminosity(whole, 1.0, **dust) == pytest.approx(clear, rel=1e-5)
    assert luminosity(whole, 1.0) == pytest.approx(clear, rel=1e-6)  # without dust there is nothing to give back


def test_stars_power_what_their_own_dust_dims() -> None:
    """One Lsun of bump for each Msun of stars younger than 10^7.1 yr, behind birth clouds as these are."""
    stars, lit = SPSModel(small_library()), SPSModel(small_library(), emissions=(Bump("stars"),))
    node = float(stars.library.age_gyr[5])
    for tau in (0.0, 1.5):
        burst = {"fburst": 1.0, "tburst": node, "logmstar": 0.0, "tau_bc": tau}
        added = luminosity(lit, 1.0, **burst) - luminosity(stars, 0.0, **burst)
        assert added == pytest.approx(np.exp(-tau * (9000 / 5500) ** -0.7), rel=2e-3)
    old = {"fburst": 1.0, "tburst": 5.0, "logmstar": 0.0}
    assert luminosity(lit, 1.0, **old) == pytest.approx(luminosity(stars, 0.0, **old), rel=1e-6)


def test_several_emissions_add_up() -> None:
    other = Parameter("f_two", "F_TWO", "f", "", "another share", "uniform", (0.0, 1.0), "dust")
    second = Bump(name="second", parameters=(other,), strengths=lambda v: v["f_two"][:, None, None])
    both = SPSModel(small_library(), emissions=(Bump(), second))
    assert both.parameters.names[-2:] == ("f_bump", "f_two")
    star = stars_of(theta(tau_ism=1.0))
    tables = both.tables(T_AGE)

    def light(one: float, two: float) -> FloatArray:
        return np.asarray(both.spectrum(jnp.asarray(np.append(star, [[one, two]], axis=1)), tables))[0]

    np.testing.assert_allclose(light(0.3, 0.2), light(0.5, 0.0), rtol=1e-5)
    assert np.abs(light(0.3, 0.2) / light(0.0, 0.0) - 1).max() > 0.01


@pytest.mark.parametrize(
    ("emission", "says"),
    [
        (Bump("magic"), r"breaks the protocol: it needs .* powered_by \('stars' or 'dust'\)"),
        (type("Half", (), {"name": "bump", "parameters": (), "powered_by": "dust"})(), "breaks the protocol"),
        (Bump(rows=lambda library: np.ones(library.wave.size)), r"rows have shape \(500,\), expected \(nrow, 500\)"),
        (Bump(rows=lambda library: np.ones((1, 7))), r"rows have shape \(1, 7\), expected \(nrow, 500\)"),
        (Bump("stars", supply=lambda library: None), r"supply has shape \(\), expected \(\*\(4, 20\), nchannel\)"),
        (Bump("stars", supply=lambda library: np.ones((4, 20))), r"supply has shape \(4, 20\), expected"),
        (Bump("stars", supply=lambda library: np.ones((20, 4, 1))), r"supply has shape \(20, 4, 1\), expected"),
    ],
)
def test_an_emission_that_breaks_the_protocol_is_refused_by_name(emission: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        prepare(emission, small_library())
    assert str(error.value).startswith("emission 'bump'")
    with pytest.raises(ConfigError, match=says):
        SPSModel(small_library(), emissions=(emission,))


def test_two_parts_with_one_parameter_are_refused() -> None:
    twice = Bump(parameters=(Parameter("tau_ism", "OTHER", "t", "", "taken", "uniform", (0.0, 1.0)),))
    with pytest.raises(ConfigError, match="two parameters of this model have the name 'tau_ism'; rename one"):
        SPSModel(small_library(), emissions=(twice,))
