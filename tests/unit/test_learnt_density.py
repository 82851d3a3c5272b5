"""The density behind a learnt prior: mixtures, coordinates, and known populations found again from noisy galaxies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from provabgs.core.errors import InputError
from provabgs.inference.config import FitConfig
from provabgs.inference.learnt import half_of
from provabgs.inference.learnt.coordinates import AGE_NODES, PROPERTIES, REACH, Coordinates, ages_of
from provabgs.inference.learnt.mixture import GaussianSum, Mixture, log_sum, log_terms
from provabgs.observe.cosmology import Cosmology
from provabgs.population.learnt.draws import DrawTable
from provabgs.population.learnt.em import begin, judge, log_density_of, maximise, maximise_all, totals_of
from provabgs.population.learnt.induced import draw_values, inference_prior
from provabgs.population.learnt.learn import LearnOptions, judge_half, learn_half

MEAN, SIGMA, SLOPE = np.array([0.4, -1.2]), np.array([0.45, 0.35]), np.array([0.3, -0.2])
NOISE = np.array([0.4, 0.7])


def made_up(n: int, seed: int = 0, n_draw: int = 128, divide: bool = True) -> DrawTable:
    """Galaxies of a known population, their posteriors exact: standard normal prior, normal data."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(n)
    truth = MEAN + SLOPE * z[:, None] + SIGMA * rng.standard_normal((n, 2))
    data = truth + NOISE * rng.standard_normal((n, 2))
    variance = 1 / (1 + 1 / NOISE**2)
    draws = (variance * data / NOISE**2)[:, None] + np.sqrt(variance) * rng.standard_normal((n, n_draw, 2))
    log_base = stats.norm.logpdf(draws).sum(axis=-1) if divide else np.zeros(draws.shape[:2])
    y = np.concatenate([draws, np.broadcast_to(z[:, None, None], (n, n_draw, 1))], axis=-1)
    ids = np.sort(rng.choice(10**12, n, replace=False))
    order = np.lexsort((ids, half_of(ids)))
    weights = (-log_base - np.log(n_draw)).astype(np.float32)
    return DrawTable(y.astype(np.float32), weights, np.ones(n), ids[order])


def moments(gaussians: GaussianSum) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sigmas of a mixture."""
    covariance = np.linalg.inv(np.einsum("kij,kil->kjl", gaussians.whitening, gaussians.whitening))
    d = gaussians.mean.shape[1]
    weight = np.exp(gaussians.log_weight + 0.5 * np.linalg.slogdet(covariance)[1] + 0.5 * d * np.log(2 * np.pi))
    assert weight.sum() == pytest.approx(1, abs=1e-6)
    mean = weight @ gaussians.mean
    off = gaussians.mean - mean
    return mean, np.sqrt(weight @ (np.diagonal(covariance, axis1=1, axis2=2) + off**2))


# ---- known populations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("z", [-1.0, 0.0, 1.0])
def test_a_population_is_found_with_its_width(z: float) -> None:
    """Mean within 0.1, sigma within 15 %, at three redshifts; the galaxies' own posteriors are as wide as it is."""
    table = made_up(3000)
    blocks = list(table)
    mixture, _ = maximise(begin(blocks, 3, np.random.default_rng(1)), blocks, 200)
    mean, sigma = moments(mixture.at(z))
    np.testing.assert_allclose(mean, MEAN + SLOPE * z, atol=0.1)
    np.testing.assert_allclose(sigma, SIGMA, rtol=0.15)


def test_without_the_division_it_is_not_found() -> None:
    """The prior left in the draws pulls the population to 0: the test above can fail."""
    blocks = list(made_up(3000, divide=False))
    mixture, _ = maximise(begin(blocks, 3, np.random.default_rng(1)), blocks, 200)
    mean, _ = moments(mixture.at(0.0))
    assert abs(mean[1] - MEAN[1]) > 0.3


def test_the_objective_is_that_of_population_densities() -> None:
    """Sum of ln means of ratios, with the term for few draws."""
    table = made_up(50)
    mixture = Mixture(np.log([0.3, 0.7]), np.array([[0, 0, 0.1], [1, -1, 0.0]]), np.stack([np.eye(3), 2 * np.eye(3)]))
    (found,) = totals_of([mixture], table, background=0.0)
    log_g = mixture.log_density(table.y.reshape(-1, 3).astype(np.float64)).reshape(50, -1)
    terms = np.exp(log_g + table.log_weight)
    share = terms / terms.sum(axis=1, keepdims=True)
    expected = np.log(terms.sum(axis=1)) + 0.5 * ((share**2).sum(axis=1) - 1 / share.shape[1])
    assert found.objective == pytest.approx(expected.sum(), rel=1e-4)
    galaxies = judge(mixture, next(iter(table)), background=0.0)
    np.testing.assert_allclose(galaxies.member, share[: len(galaxies.member)], atol=2e-4)


def test_galaxies_of_no_weight_do_not_count() -> None:
    table = made_up(400)
    few = table.part(np.arange(200))
    options = LearnOptions(n_component=1, n_member=1)
    half, weighted = (
        maximise(begin(list(t), 1, np.random.default_rng(0)), list(t), 30)[0]
        for t in (few, table.weighted((np.arange(400) < 200).astype(float)))
    )
    np.testing.assert_allclose(half.mean, weighted.mean, atol=1e-3)
    assert len(learn_half(few, 0, options)) == 1


def test_bootstraps_are_fits_to_weighted_galaxies() -> None:
    """Of one Gaussian the mean is that of least squares to the data, with the bootstrap's weights; and they scatter."""
    table, options = made_up(400), LearnOptions(n_component=1, n_member=6)
    means = np.array([moments(m.at(0.0))[0] for m in learn_half(table, 0, options)])
    data = table.y[..., :2].mean(axis=1) * (1 + NOISE**2)  # the posterior's mean is the data's, shrunk
    rows = np.stack([np.ones(400), table.y[:, 0, 2]], axis=1)
    for b, mean in enumerate(means):
        root = np.sqrt(np.random.default_rng([0, 0, b]).poisson(1.0, 400))[:, None]
        expected = np.linalg.lstsq(rows * root, data * root, rcond=None)[0][0]
        np.testing.assert_allclose(mean, expected, atol=0.04)
    assert np.ptp(means[:, 1]) > 0.06


def test_bootstraps_in_step_are_those_one_by_one() -> None:
    """Weights of their own for each mixture, draws read once; whoever is done first waits."""
    table, rng = made_up(500), np.random.default_rng(4)
    start = begin(list(table), 2, np.random.default_rng(1))
    counts = rng.poisson(1.0, (3, len(table))).astype(float)
    together = maximise_all([start] * 3, table.weighted(counts), 90, 1e-7)
    for count, (mixture, objective) in zip(counts, together, strict=True):
        alone, best = maximise(start, table.weighted(count), 90, 1e-7)
        np.testing.assert_allclose(mixture.mean, alone.mean, atol=1e-6)
        assert objective == pytest.approx(best, abs=1e-9)


def test_what_was_learnt_holds_for_other_galaxies() -> None:
    members = learn_half(made_up(600, seed=1), 0, LearnOptions(n_member=2))
    judged = judge_half(made_up(300, seed=2), members)
    assert judged.gain > 0.3
    lonely = made_up(60, n_draw=8)
    with pytest.raises(InputError, match="fewer than 5 effective draws"):
        judge_half(lonely, members)


def test_densities_in_single_precision_are_those_in_double(induced: tuple[Coordinates, Mixture]) -> None:
    """Of the induced prior, whose components are narrow, out to three sigma."""
    base, rng = induced[1], np.random.default_rng(2)
    y = rng.uniform(-3, 3, (40, 30, base.mean.shape[1])).astype(np.float32)
    y[..., -1] = rng.uniform(-2, 2, (40, 1))
    expected = base.log_density(y.reshape(-1, y.shape[-1]).astype(np.float64)).reshape(40, 30)
    off = np.abs(log_density_of(base, y) - expected)[expected > expected.max() - 12]
    assert np.median(off) < 1e-4
    assert off.max() < 3e-3


def test_ages_at_many_redshifts_are_those_at_few() -> None:
    z = np.random.default_rng(0).uniform(0.01, 0.6, AGE_NODES + 500)
    cosmology = Cosmology("Planck13")
    some = np.arange(0, len(z), 97)
    np.testing.assert_allclose(ages_of(z, cosmology)[some], ages_of(z[some], cosmology), rtol=1e-6)


# ---- mixtures and coordinates ----------------------------------------------------------------------------------------


def test_conditional_density() -> None:
    """Of one Gaussian as in the textbook, of several normalised at every redshift, and the two forms the same."""
    rng = np.random.default_rng(3)
    root = rng.standard_normal((4, 3, 3))
    covariance = root @ root.transpose(0, 2, 1) + 0.2 * np.eye(3)
    one = Mixture(np.zeros(1), np.zeros((1, 3)), covariance[:1])
    c = covariance[0]
    expected = stats.multivariate_normal(c[:2, 2] / c[2, 2] * 0.7, c[:2, :2] - np.outer(c[:2, 2], c[2, :2]) / c[2, 2])
    points = np.column_stack([rng.standard_normal((20, 2)), np.full(20, 0.7)])
    np.testing.assert_allclose(one.log_density(points), expected.logpdf(points[:, :2]), rtol=1e-9)
    several = Mixture(np.log(np.full(4, 0.25)), rng.standard_normal((4, 3)), covariance)
    moments(several.at(0.7))
    both = log_sum(log_terms(several.at(0.7), points[:, :2]))
    np.testing.assert_allclose(several.log_density(points), both, rtol=1e-9)
    with pytest.raises(InputError, match="not positive definite"):
        Mixture(np.zeros(1), np.zeros((1, 3)), -covariance[:1])


@pytest.fixture(scope="module")
def induced() -> tuple[Coordinates, Mixture]:
    return inference_prior(FitConfig(), PROPERTIES, (0.05, 0.35), (0.2, 0.1), 0, 40_000)


@pytest.mark.parametrize("z", [0.05, 0.23])
def test_the_prior_is_normal_in_its_coordinates(induced: tuple[Coordinates, Mixture], z: float) -> None:
    """Other prior draws, between the tabulated redshifts too, are standard normal in each coordinate."""
    values = draw_values(FitConfig(), PROPERTIES, z, 20_000, [5])
    u = induced[0](values[:, None], np.full(20_000, z))[:, 0]
    for k, name in enumerate(PROPERTIES):
        assert stats.kstest(u[:, k], "norm").statistic < 0.02, name


def test_the_prior_is_normalised_against_another_estimate(induced: tuple[Coordinates, Mixture]) -> None:
    """The mean of q over p0 over prior draws is 1 for any density q within the prior: for 20 Gaussians of its draws."""
    coordinates, base = induced
    n, z = 40_000, 0.2
    y = coordinates(draw_values(FitConfig(), PROPERTIES, z, n, [6])[:, None], np.full(n, z))[:, 0]
    log_base = base.log_density(np.column_stack([y, np.zeros(n)]))
    found = []
    for at in y[:20]:
        log_q = stats.multivariate_normal(at * 0.8, 0.25 * np.eye(5)).logpdf(y)
        found.append(np.mean(np.exp(log_q - log_base)))
    assert np.median(found) == pytest.approx(1.0, abs=0.15)
    assert np.max(np.abs(np.log(found))) < 0.8


def test_coordinates_end_somewhere(induced: tuple[Coordinates, Mixture]) -> None:
    """A galaxy without stars of the last Gyr, an age beyond the prior's, a missing draw."""
    coordinates = induced[0]
    values = np.array([[[10.0, -np.inf, -2.0, 5.0, 0.5], [10.0, -10.0, -2.0, 20.0, 0.5], [np.nan] * 5]])
    u = coordinates(values, [0.2])[0]
    assert -REACH <= u[0, 1] < -5
    assert u[1, 3] == REACH
    assert np.isnan(u[2]).all()
    with pytest.raises(InputError, match="expected"):
        coordinates(values[0], [0.2])


def test_halves_are_halves_and_never_change() -> None:
    ids = np.arange(39627783185368040, 39627783185368040 + 4000)
    half = half_of(ids)
    assert abs(half.mean() - 0.5) < 0.03
    assert abs(np.mean(half[1:] == half[:-1]) - 0.5) < 0.03  # neighbours separate
    np.testing.assert_array_equal(half_of([1, 2, 3, 4, 5, -1]), [1, 0, 1, 0, 0, 0])
