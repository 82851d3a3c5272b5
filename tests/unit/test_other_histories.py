"""Delayed exponential histories and the bases of IllustrisTNG, against direct integration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provabgs.core.jax import jnp
from provabgs.data.build_histories import TNG_FILE, build_tng
from provabgs.inference.backends import load_model
from provabgs.inference.config import ModelOptions
from provabgs.sps.derived import derived_properties, history_curves
from provabgs.sps.histories import HistoryBases
from provabgs.sps.model import SPSModel

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "provabgs"
T_AGE = 11.5


def model_of(history: str, **options: Any) -> SPSModel:
    return load_model(ModelOptions(history=history, history_options=options))


@pytest.fixture(scope="module")
def delayed() -> SPSModel:
    return model_of("delayed-tau")


def theta(model: SPSModel, **values: float) -> np.ndarray:
    known = {"logmstar": 10.0, "metallicity": 0.01, "tau_bc": 0.5, "tau_ism": 0.3, "n_dust": 0.0}
    return model.parameters.theta({k: v for k, v in {**known, **values}.items() if k in model.parameters})[None]


@pytest.mark.parametrize("residual", [None, 1e-4, 0.03])
@pytest.mark.parametrize(("tau", "first"), [(0.1, 0.9), (0.5, 0.3), (2.0, 0.8), (30.0, 1.0), (30.0, 0.05)])
def test_delayed_exponential_is_integrated(delayed: SPSModel, tau: float, first: float, residual: float | None) -> None:
    """Masses on the nodes, moments and curves, against sums over a fine grid; with a constant rate or without."""
    if residual is not None:
        delayed = model_of("delayed-tau", residual=True)
    values = theta(delayed, tau=tau, first_stars=first, residual=residual or 0.0)
    begin = first * T_AGE
    t = np.concatenate([np.geomspace(1e-6, 0.02, 20_000), np.linspace(0.02, begin, 400_000)[1:]])
    t, dt = 0.5 * (t[1:] + t[:-1]), np.diff(t)
    mass = (begin - t) * np.exp(-(begin - t) / tau) * dt
    mass /= mass.sum()
    if residual is not None:
        mass = (1 - residual) * mass + residual * dt / dt.sum()
        assert (mass[t < 0.1].sum() / 1e8) > 0.99 * residual / 11.5e9  # no specific rate below this
    derived = {
        k: float(v[0]) for k, v in derived_properties(delayed, jnp.asarray(values), delayed.tables(T_AGE)).items()
    }
    assert derived["t_age_mw"] == pytest.approx((mass * t).sum(), rel=2e-4)
    for name, span in (("log_sfr_100myr", 0.1), ("log_sfr_1gyr", 1.0)):
        expected = 10.0 + np.log10(max(mass[t < span].sum(), 1e-30)) - np.log10(span * 1e9)
        if expected > -20:
            assert derived[name] == pytest.approx(expected, abs=2e-3)
    sfr, z = history_curves(delayed, values, T_AGE, t)
    np.testing.assert_allclose((sfr[0] * dt * 1e9).sum(), 1e10, rtol=1e-4)
    assert np.all(z == 0.01)
    parameters = {k: jnp.asarray(v) for k, v in delayed.parameters.values(values).items()}
    on_nodes = np.asarray(delayed.histories.node_masses(parameters, delayed.tables(T_AGE), delayed.nodes))[0]
    assert on_nodes.sum() == pytest.approx(1.0, rel=1e-6)
    age = delayed.library.age_gyr
    place = np.interp(np.log(t), np.log(age), np.arange(age.size))
    low = np.minimum(place.astype(int), age.size - 2)
    direct = np.bincount(low, mass * (low + 1 - place), age.size) + np.bincount(low + 1, mass * (place - low), age.size)
    np.testing.assert_allclose(on_nodes, direct, atol=6e-3 if tau < 0.2 else 5e-4)


def test_the_light_is_that_of_its_masses(delayed: SPSModel) -> None:
    """Surviving mass and spectrum do not depend on the burst that is not there."""
    burst = model_of("delayed-tau", burst=True)
    plain = theta(delayed, tau=2.0, first_stars=0.8)
    with_burst = theta(burst, tau=2.0, first_stars=0.8, fburst=0.0, tburst=1.0)
    one, two = delayed.spectrum(jnp.asarray(plain), delayed.tables(T_AGE)), burst.spectrum(
        jnp.asarray(with_burst), burst.tables(T_AGE)
    )  # fmt: skip
    np.testing.assert_allclose(one, two, rtol=1e-5)


def test_six_bases_of_tng() -> None:
    model = model_of("tng6", metallicity="constant")
    assert model.linear_block.fractions == tuple(f"beta{i}" for i in range(1, 7))
    tables = model.tables(T_AGE)
    np.testing.assert_allclose(tables.mass.sum(axis=1), 1.0, rtol=1e-9)
    assert np.all(np.diff(tables.mean_age) > 0)  # youngest first
    assert tables.formed_100myr[0] > 0.1
    assert "gamma1" in model_of("tng6").parameters


def test_a_knot_at_zero_is_taken_as_it_is() -> None:
    time = np.array([0.0, 1.0, 13.0])
    bases = HistoryBases(time, [[2.0, 1.0, 1.0]], np.ones((1, 3)))
    np.testing.assert_allclose(bases.sfh_bases([0.0, 0.5, 2.0], 10.0)[0] * 10.5, [2.0, 1.5, 1.0])


@pytest.mark.skipif(not (REFERENCE / TNG_FILE).exists(), reason="reference data of the published code are not here")
def test_the_file_that_ships_is_what_the_script_makes() -> None:
    from astropy.table import Table

    from provabgs.data import data_path

    made, shipped = build_tng(REFERENCE), Table.read(data_path("tng6_bases.ecsv"))
    for name in made.colnames:
        np.testing.assert_allclose(shipped[name], made[name])
    assert dict(shipped.meta) == dict(made.meta)
