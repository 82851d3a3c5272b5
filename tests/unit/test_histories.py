"""History tables in closed form against brute-force quadrature on a fine grid of time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from provabgs.core.errors import InputError
from provabgs.sps.histories import HistoryBases

NODE_AGE = 10.0 ** (np.arange(5.0, 10.31, 0.05) - 9)
"""Ages like those of MIST, Gyr: 0.1 Myr to 20 Gyr."""
T_AGES = (7.8, 10.0, 13.7)


@pytest.fixture(scope="module")
def bases() -> HistoryBases:
    return HistoryBases.published()


def cells(t_age: float, extra: np.ndarray, n: int = 200_000) -> tuple[np.ndarray, np.ndarray]:
    """Midpoints and widths of fine cells of [0, t_age] that respect the edges `extra`."""
    edges = np.concatenate([[0.0], np.geomspace(1e-6, t_age, n), np.linspace(0, t_age, n), extra[extra < t_age]])
    edges = np.unique(edges)
    return 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)


def piecewise(time: np.ndarray, values: np.ndarray, t: np.ndarray) -> np.ndarray:
    """A basis at `t`, written down apart from the code: linear between knots and below the first, never negative."""
    first = max(values[0] - (values[1] - values[0]) / (time[1] - time[0]) * time[0], 0.0)
    return np.interp(t, np.concatenate([[0.0], time]), np.concatenate([[first], values]))


def brute_force(bases: HistoryBases, basis: int, t_age: float) -> dict[str, np.ndarray | float]:
    """Table entries of one basis by midpoint sums."""
    t, dt = cells(t_age, np.concatenate([NODE_AGE, [0.1, 1.0]]))
    mass = piecewise(bases.time[1:-1], bases.sfh[basis, 1:-1], t) * dt
    mass /= mass.sum()
    share = np.interp(np.log(t), np.log(NODE_AGE), np.arange(NODE_AGE.size))  # fractional node number
    lower = np.minimum(share.astype(int), NODE_AGE.size - 2)
    on_node = np.bincount(lower, mass * (1 - (share - lower)), NODE_AGE.size)
    on_node += np.bincount(lower + 1, mass * (share - lower), NODE_AGE.size)
    return {
        "mass": on_node,
        "mean_age": float(np.sum(mass * t)),
        "formed_100myr": float(mass[t < 0.1].sum()),
        "formed_1gyr": float(mass[t < 1.0].sum()),
    }


@pytest.mark.parametrize("t_age", T_AGES)
@pytest.mark.parametrize("basis", range(4))
def test_tables_match_quadrature(bases, basis, t_age):
    tables = bases.tables(t_age, NODE_AGE)
    truth = brute_force(bases, basis, t_age)
    np.testing.assert_allclose(tables.mass[basis], truth["mass"], rtol=1e-4, atol=1e-9)
    for name in ("mean_age", "formed_100myr", "formed_1gyr"):
        np.testing.assert_allclose(getattr(tables, name)[basis], truth[name], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("binning", ["exact", "published"])
def test_masses_are_shares(bases, binning):
    tables = bases.tables(np.array(T_AGES), NODE_AGE, binning)
    assert tables.mass.shape == (3, 4, NODE_AGE.size)
    assert tables.mass.min() >= 0
    np.testing.assert_allclose(tables.mass.sum(axis=-1), 1.0, rtol=1e-12)


def test_no_mass_on_nodes_older_than_the_galaxy_needs(bases):
    tables = bases.tables(7.8, NODE_AGE)
    first_beyond = int(np.searchsorted(NODE_AGE, 7.8))
    assert np.all(tables.mass[:, first_beyond + 1 :] == 0)
    # all but the last basis, whose stars form before that look-back time, reach the node that brackets 7.8 Gyr
    assert np.all(tables.mass[:3, first_beyond] > 0)


def test_one_table_per_age_equals_tables_apart(bases):
    together = bases.tables(np.array(T_AGES), NODE_AGE)
    for i, t_age in enumerate(T_AGES):
        alone = bases.tables(t_age, NODE_AGE)
        assert together.more == alone.more == ()  # bases need nothing else
        for name in together._fields[:-1]:
            np.testing.assert_allclose(getattr(together, name)[i], getattr(alone, name), rtol=1e-13)


def test_linear_history_has_textbook_moments():
    """s(t) = t over [0, T]: mean age 2T/3, a share (t/T)^2 younger than t."""
    time = np.linspace(0.5, 13.5, 27)
    tables = HistoryBases(time, time[None], np.ones((1, 27))).tables(9.0, NODE_AGE)
    np.testing.assert_allclose(tables.mean_age, 6.0, rtol=1e-12)
    np.testing.assert_allclose(tables.formed_1gyr, (1 / 9) ** 2, rtol=1e-12)
    np.testing.assert_allclose(tables.formed_100myr, (0.1 / 9) ** 2, rtol=1e-11)


def test_all_mass_between_two_nodes():
    """Constant rate over [0, 2] Gyr, nodes at 1 and 4: what is younger than 1 falls to the first, the rest is split."""
    bases = HistoryBases([0.1, 13.0], [[1.0, 1.0]], [[1.0, 1.0]])
    mass = bases.tables(2.0, np.array([1.0, 4.0])).mass[0]
    # int_1^2 ln t / ln 4 dt = (2 ln 2 - 1) / ln 4, of a total of 2
    to_upper = (2 * np.log(2) - 1) / np.log(4) / 2
    np.testing.assert_allclose(mass, [1 - to_upper, to_upper], rtol=1e-12)


def test_mass_beyond_the_last_node_falls_to_it():
    bases = HistoryBases([0.1, 13.0], [[1.0, 1.0]], [[1.0, 1.0]])
    mass = bases.tables(10.0, np.array([0.001, 0.01])).mass[0]
    np.testing.assert_allclose(mass[1], 1.0, atol=1e-3)
    np.testing.assert_allclose(mass.sum(), 1.0, rtol=1e-12)


def test_published_binning_is_the_42_bin_sum(bases):
    """The published scheme written out as a loop: bins, mass by quadrature, SSP at the bin's centre."""
    t_age = 9.3
    edges = [0.0] + [10 ** (6.05 - 9 + 0.1 * k) for k in range(42) if 10 ** (6.05 - 9 + 0.1 * k) < t_age] + [t_age]
    t, dt = cells(t_age, np.array(edges))
    expected = np.zeros(NODE_AGE.size)
    for low, high in pairwise(edges):
        inside = (t > low) & (t < high)
        mass = np.sum(piecewise(bases.time[1:-1], bases.sfh[1, 1:-1], t[inside]) * dt[inside])
        where = np.interp(np.log(0.5 * (low + high)), np.log(NODE_AGE), np.arange(NODE_AGE.size))
        expected[int(where)] += mass * (1 - where % 1)
        expected[int(where) + 1] += mass * (where % 1)
    got = bases.tables(t_age, NODE_AGE, "published").mass[1]
    np.testing.assert_allclose(got, expected / expected.sum(), rtol=1e-5, atol=1e-12)


def test_joint_normalisation_weighs_bases_by_what_they_form(bases):
    """Weights are int_0^t_age s_i: shares beta_i int s_i reproduce sum_i beta_i s_i(t) normalised as a whole."""
    t_age = 8.0
    joint = bases.tables(t_age, NODE_AGE, normalisation="joint")
    t, dt = cells(t_age, np.empty(0))
    for i in range(4):
        by_hand = np.sum(piecewise(bases.time[1:-1], bases.sfh[i, 1:-1], t) * dt)
        np.testing.assert_allclose(joint.weight[i], by_hand, rtol=1e-6)
    np.testing.assert_array_equal(bases.tables(t_age, NODE_AGE).weight, np.ones(4))


def test_sfh_curves_integrate_to_one_and_stop_at_t_age(bases):
    t, dt = cells(7.8, np.empty(0))
    np.testing.assert_allclose(bases.sfh_bases(t, 7.8) @ dt, 1.0, rtol=1e-6)
    assert np.all(bases.sfh_bases(np.array([7.9, 12.0]), 7.8) == 0)


def test_extrapolation_is_linear_below_the_first_knot_and_never_negative():
    time = np.array([1.0, 2.0, 3.0])
    bases = HistoryBases(time, [[3.0, 2.0, 1.0], [1.0, 3.0, 5.0]], [[0.2, 0.3, 0.4]])
    np.testing.assert_allclose(bases.sfh[:, 0], [4.0, 0.0])  # 3 + 1; 1 - 2 is clipped
    np.testing.assert_allclose(bases.metallicity_bases(np.array([0.0, 0.5, 10.0]))[0], [0.1, 0.15, 0.4])


@pytest.mark.parametrize("t_age", [0.0, -1.0, np.nan, np.array([9.0, -2.0])])
def test_age_must_be_positive(bases, t_age):
    with pytest.raises(InputError, match="must be positive"):
        bases.tables(t_age, NODE_AGE)


def test_unknown_binning(bases):
    with pytest.raises(InputError, match="unknown age binning 'fine'"):
        bases.tables(9.0, NODE_AGE, "fine")


def test_unknown_normalisation(bases):
    """It would have been taken for the joint one."""
    with pytest.raises(InputError, match="unknown normalisation 'per basis'"):
        bases.tables(9.0, NODE_AGE, normalisation="per basis")


@pytest.mark.parametrize(
    ("time", "sfh", "zh", "says"),
    [
        ([2.0, 1.0], [[1.0, 1.0]], [[1.0, 1.0]], "increasing"),
        ([1.0, 2.0], [[1.0, 1.0, 1.0]], [[1.0, 1.0]], "one value per time"),
        ([1.0, 2.0], [[1.0, 1.0]], [[1.0]], "one value per time"),
        ([1.0, 2.0], [[1.0, -1.0]], [[1.0, 1.0]], "non-negative"),
        ([1.0, 2.0], [[1.0, 1.0]], [[-1.0, 1.0]], "non-negative"),
    ],
)
def test_bad_bases_are_refused(time, sfh, zh, says):
    with pytest.raises(InputError, match=says):
        HistoryBases(time, sfh, zh)
