"""The star-forming sequence recovered from noisy joint posteriors."""

from __future__ import annotations

import numpy as np
import pytest

from provabgs.core.errors import InputError
from provabgs.population.survey.star_forming_sequence import NAMES, SequencePosterior, star_forming_sequence
from tests.support.synthetic_survey import make_sequence

TRUTH = {"slope": 0.8, "intercept": 0.1, "scatter": 0.25, "quenched_fraction": 0.3, "offset": 1.5,
         "quenched_scatter": 0.5}  # fmt: skip


def below(result: SequencePosterior) -> np.ndarray:
    """Posterior probability below the truth, per parameter."""
    return np.array([(result[n] < TRUTH[n]).mean() for n in NAMES])


def test_truth_is_recovered_and_errors_ignored_are_not() -> None:
    """Six samples: parameters lie inside their 95 % intervals; at posterior means, errors ignored, scatter does not."""
    right, naive = [], []
    for k in range(6):
        rng = np.random.default_rng([7, k])
        x, y = make_sequence(300, rng, TRUTH, n_draw=60)
        result = star_forming_sequence(x, y, rng, n_proposal=300)
        assert result.n_effective > 60
        right.append(below(result))
        means = star_forming_sequence(x.mean(axis=1)[:, None], y.mean(axis=1)[:, None], rng, n_proposal=300)
        naive.append(below(means)[NAMES.index("scatter")])
    inside = np.abs(np.array(right) - 0.5) < 0.475
    assert inside.mean() > 0.83
    assert np.all(np.array(naive) < 0.025)


def test_equal_weights_give_the_same_answer_by_either_method() -> None:
    rng = np.random.default_rng(1)
    x, y = make_sequence(500, rng, TRUTH, n_draw=60)
    exact = star_forming_sequence(x, y, rng, n_proposal=1000)
    gaussian = star_forming_sequence(x, y, rng, weight=np.full(500, 3e-6), n_proposal=1000)
    assert (exact.method, gaussian.method) == ("posterior", "sandwich")
    for name in NAMES:
        width = exact[name].std()
        assert abs(exact[name].mean() - gaussian[name].mean()) < 0.4 * width
        assert gaussian[name].std() == pytest.approx(width, rel=0.35)


def test_weights_undo_a_selection() -> None:
    """Quenched galaxies seen in a quarter of the volume: without weights their fraction is too small."""
    rng = np.random.default_rng(2)
    x, y = make_sequence(2400, rng, TRUTH, n_draw=30)
    quenched = y.mean(axis=1) < TRUTH["intercept"] + TRUTH["slope"] * (x.mean(axis=1) - 10.5) - 0.75
    kept = ~quenched | (rng.random(2400) < 0.25)
    weight = np.where(quenched, 4.0, 1.0)[kept]
    plain = star_forming_sequence(x[kept], y[kept], rng, n_proposal=200)
    weighted = star_forming_sequence(x[kept], y[kept], rng, weight=weight, n_proposal=200)
    assert np.quantile(plain["quenched_fraction"], 0.999) < 0.3
    low, high = weighted.quantile("quenched_fraction", [0.01, 0.99])
    assert low < 0.3 < high


def test_galaxies_without_star_formation_are_quenched_not_lost() -> None:
    rng = np.random.default_rng(3)
    x, y = make_sequence(300, rng, TRUTH | {"quenched_fraction": 0.1}, n_draw=40)
    y[:100] = -np.inf
    result = star_forming_sequence(x, y, rng, n_proposal=200)
    assert result.n_galaxy == 300
    assert 0.3 < np.median(result["quenched_fraction"]) < 0.5
    assert np.median(result["slope"]) == pytest.approx(0.8, abs=0.2)


def test_ridge_and_names() -> None:
    rng = np.random.default_rng(4)
    x, y = make_sequence(100, rng, TRUTH, n_draw=20)
    result = star_forming_sequence(x, y, rng, n_proposal=100)
    np.testing.assert_allclose(result.ridge(10.5)[:, 0], result["intercept"])
    np.testing.assert_allclose(result.ridge(11.5)[:, 0], result["intercept"] + result["slope"])
    with pytest.raises(KeyError, match="slope, intercept"):
        _ = result["width"]


def test_unusable_input_is_named() -> None:
    rng = np.random.default_rng(0)
    x, y = make_sequence(40, rng, TRUTH, n_draw=5)
    with pytest.raises(InputError, match="too few"):
        star_forming_sequence(x[:10], y[:10], rng)
    with pytest.raises(InputError, match="weights"):
        star_forming_sequence(x, y, rng, weight=np.zeros(40))
    lost = y.copy()
    lost[3] = np.nan
    with pytest.raises(InputError, match="galaxy 3 of 40"):
        star_forming_sequence(x, lost, rng)
    with pytest.raises(InputError, match=r"\(n, ndraw\)"):
        star_forming_sequence(x, y[:, :3], rng)
