"""Attenuation against numbers worked out apart from the code, and its qualitative laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provabgs.core.jax import jnp
from provabgs.sps.attenuation import (
    CharlotFall,
    birth_cloud_optical_depth,
    calzetti_curve,
    drude_profile,
    ism_optical_depth,
)

WAVE = np.geomspace(1300.0, 60000.0, 200)
optical_depth = st.floats(0.0, 3.0)
slope = st.floats(-2.0, 1.0)


def depth(wave: float, tau: float, n: float) -> float:
    return float(ism_optical_depth(np.array([wave]), jnp.array(tau), jnp.array(n))[0])


def transmission(tau_bc, tau_ism, n):
    """Of old and of young stars at `WAVE`."""
    law = CharlotFall()
    parts = law.transmission(law.curves(WAVE), {"tau_bc": tau_bc, "tau_ism": tau_ism, "n_dust": n})
    assert parts._fields == ("young", "old")
    return parts.old, parts.young


# ---- numbers from the literature -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wave", "k_calzetti"),
    # equation 4 of Calzetti et al. (2000) with R_V = 4.05, worked out apart to five figures; k(B) - k(V) is near 1
    [(1500.0, 10.334), (2175.0, 8.4786), (4400.0, 5.0603), (5500.0, 4.0479), (7000.0, 3.0628), (16000.0, 0.84059)],
)
def test_calzetti_2000(wave, k_calzetti):
    """FSPS's coefficients make k 0.11 % of R_V lower than the paper's formula (docs/studies/fsps_notes.md)."""
    np.testing.assert_allclose(calzetti_curve(np.array([wave]))[0], k_calzetti / 4.05, atol=1.3e-3)


def test_step_between_the_polynomials_is_that_of_fsps():
    """k jumps up by 0.0062 at 6300 A, and 6300 A itself is on the blue side."""
    blue, at, red = calzetti_curve(np.array([6299.999, 6300.0, 6300.001]))
    assert red - blue == pytest.approx(0.0062, abs=1e-4)
    assert abs(at - blue) < 1e-5


def test_curve_ends_where_it_would_turn_negative():
    inside, outside = calzetti_curve(np.array([30950.0, 31000.0]))
    assert 0 < inside < 1e-3
    assert outside == 0


@pytest.mark.parametrize(("n", "at_5500"), [(-1.2, 1.0027), (-0.7, 1.0014), (0.0, 0.9995), (0.5, 0.9982)])
def test_not_renormalised_at_5500(n, at_5500):
    """FSPS's A(5500) per unit of dust2, from docs/studies/fsps_notes.md."""
    assert depth(5500.0, 1.0, n) == pytest.approx(at_5500, abs=1e-4)


def test_drude_profile_is_one_at_its_centre_and_half_at_its_width():
    assert drude_profile(np.array([2175.0]))[0] == pytest.approx(1.0)
    # (w^2 - w0^2)^2 = (w dw)^2 at w = (dw + sqrt(dw^2 + 4 w0^2)) / 2
    upper = (350 + np.sqrt(350**2 + 4 * 2175.0**2)) / 2
    assert drude_profile(np.array([upper, upper - 350.0])) == pytest.approx([0.5, 0.5])


def test_bump_strength_follows_the_slope():
    """At 2175 A, n = 0: k + 0.85 / 4.05; n = 0.85/1.9: the bump vanishes; the power law multiplies both."""
    k = calzetti_curve(np.array([2175.0]))[0]
    assert depth(2175.0, 1.0, 0.0) == pytest.approx(k + 0.85 / 4.05)
    assert depth(2175.0, 2.0, 0.85 / 1.9) == pytest.approx(2 * (2175 / 5500) ** (0.85 / 1.9) * k)
    assert depth(2175.0, 1.0, -1.0) == pytest.approx((5500 / 2175) * (k + 2.75 / 4.05))


def test_birth_cloud_power_law():
    tau = birth_cloud_optical_depth(np.array([2750.0, 5500.0, 11000.0]), jnp.array(1.5))
    np.testing.assert_allclose(tau, 1.5 * 2.0 ** np.array([0.7, 0.0, -0.7]), rtol=1e-12)
    steep = birth_cloud_optical_depth(np.array([11000.0]), jnp.array(1.0), slope=-1.0)
    np.testing.assert_allclose(steep, 0.5, rtol=1e-12)


# ---- laws ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(tau_bc=optical_depth, tau_ism=optical_depth, n=slope)
def test_young_stars_see_more_dust_than_old_ones(tau_bc, tau_ism, n):
    old, young = transmission(jnp.array(tau_bc), jnp.array(tau_ism), jnp.array(n))
    assert np.all(np.isfinite(old))
    assert np.all(np.asarray(young) <= np.asarray(old))
    np.testing.assert_allclose(young, old * np.exp(-tau_bc * (WAVE / 5500) ** -0.7), rtol=1e-10)


@settings(deadline=None, max_examples=50)
@given(tau=optical_depth, more=st.floats(0.01, 2.0), n=st.floats(-2.0, 0.44))
def test_more_dust_less_light(tau, more, n):
    """For n below 0.447 the bump is positive everywhere, and so is the optical depth."""
    less = ism_optical_depth(WAVE, jnp.array(tau), jnp.array(n))
    greater = ism_optical_depth(WAVE, jnp.array(tau + more), jnp.array(n))
    assert np.all(np.asarray(greater) >= np.asarray(less))
    np.testing.assert_allclose(np.asarray(greater) * tau, np.asarray(less) * (tau + more), rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(n=slope)
def test_transmission_never_exceeds_one(n):
    """A negative bump (n > 0.447) never turns the optical depth negative below 3 um."""
    wave = WAVE[WAVE < 30000.0]
    assert np.all(np.asarray(ism_optical_depth(wave, jnp.array(3.0), jnp.array(n))) >= 0)


@settings(deadline=None, max_examples=25)
@given(n=slope, steeper=st.floats(0.05, 1.0))
def test_smaller_n_is_a_steeper_curve(n, steeper):
    blue, red = (depth(w, 1.0, n) for w in (3500.0, 9000.0))
    blue_steep, red_steep = (depth(w, 1.0, n - steeper) for w in (3500.0, 9000.0))
    assert blue_steep / red_steep > blue / red


def test_no_dust_is_exactly_transparent():
    old, young = transmission(jnp.zeros(2), jnp.zeros(2), jnp.array([-2.0, 1.0]))
    assert old.shape == young.shape == (2, WAVE.size)
    assert np.all(np.asarray(old) == 1)
    assert np.all(np.asarray(young) == 1)
