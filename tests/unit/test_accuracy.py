"""The hierarchical accuracy: injected bias and scatter come back with honest intervals; what is biased is seen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from provabgs.core.errors import InputError
from provabgs.population.accuracy import AccuracyPosterior, infer_accuracy
from provabgs.population.accuracy_bins import accuracy_in_bins, accuracy_over_plane, bin_edges
from provabgs.population.prior.density_table import tabulate_equal_counts

N_SAMPLE = 300


def simulate(
    rng: np.random.Generator,
    n: int,
    mu: float,
    sigma: float,
    noise: float = 0.15,
    prior: tuple[float, float] | None = None,
    n_sample: int = N_SAMPLE,
) -> tuple[np.ndarray, np.ndarray]:
    """True values and posterior draws of galaxies whose inferred value is off by N(mu, sigma).

    With `prior` (mean, width) the truths come from anywhere but the draws are made under that Gaussian prior.
    """
    truth = rng.normal(0.0, 0.5, n)
    observed = truth + rng.normal(mu, sigma, n) + rng.normal(0.0, noise, n)
    if prior is None:
        return truth, observed[:, None] + noise * rng.standard_normal((n, n_sample))
    precision = 1 / noise**2 + 1 / prior[1] ** 2
    centre = (observed / noise**2 + prior[0] / prior[1] ** 2) / precision
    return truth, centre[:, None] + rng.standard_normal((n, n_sample)) / np.sqrt(precision)


def brute_force(delta: np.ndarray, mu: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The estimator as the paper writes it, cell by cell, normalised over the grid (density in mu and sigma)."""
    out = np.zeros((mu.size, sigma.size))
    for i, m in enumerate(mu):
        for j, s in enumerate(sigma):
            out[i, j] = np.log(stats.norm.pdf(delta, m, s).mean(axis=1)).sum()
    return out


def test_equals_the_formula_evaluated_literally() -> None:
    truth, draws = simulate(np.random.default_rng(0), 12, 0.2, 0.3)
    got = infer_accuracy(draws - truth[:, None])
    mu, sigma = got.mu[5:36:10], got.sigma[5:36:10]
    expected = brute_force(draws - truth[:, None], mu, sigma)
    ours = np.log(got.probability[5:36:10, 5:36:10] / sigma)
    np.testing.assert_allclose(ours - ours.max(), expected - expected.max(), atol=2e-4)


def test_intervals_are_calibrated() -> None:
    """Injected values fall uniformly through the marginal posteriors, over 80 populations."""
    rng = np.random.default_rng(1)
    ranks: dict[str, list[float]] = {"mu": [], "sigma": []}
    grid = np.linspace(0.001, 0.999, 400)
    for _ in range(80):
        mu, sigma = rng.uniform(-0.3, 0.3), rng.uniform(0.1, 0.5)
        truth, draws = simulate(rng, 25, mu, sigma, n_sample=150)
        posterior = infer_accuracy(draws - truth[:, None])
        ranks["mu"].append(float(np.interp(mu, posterior.quantile("mu", grid), grid)))
        ranks["sigma"].append(float(np.interp(sigma, posterior.quantile("sigma", grid), grid)))
    for name, values in ranks.items():
        assert stats.kstest(values, "uniform").pvalue > 1e-3, name


def test_recovers_large_population_tightly() -> None:
    truth, draws = simulate(np.random.default_rng(2), 500, 0.25, 0.2)
    posterior = infer_accuracy(draws - truth[:, None])
    mu, sigma = posterior.peak
    assert mu == pytest.approx(0.25, abs=0.03)
    assert sigma == pytest.approx(0.2, abs=0.03)
    low, high = posterior.quantile("mu", [0.16, 0.84])
    assert 0.5 * (high - low) == pytest.approx(0.25 / np.sqrt(500), rel=0.3)


def test_biased_posteriors_are_seen_as_biased() -> None:
    """A fixture that must fail the claim "no bias": the interval of mu excludes 0."""
    truth, draws = simulate(np.random.default_rng(3), 200, 0.15, 0.1)
    low, high = infer_accuracy(draws - truth[:, None]).quantile("mu", [0.001, 0.999])
    assert low > 0
    assert high < 0.3


def test_overconfident_posteriors_show_as_scatter() -> None:
    """Posteriors half as wide as they should be leave a sigma; honest ones leave next to none."""
    rng = np.random.default_rng(4)
    truth, honest = simulate(rng, 300, 0.0, 1e-6)
    overconfident = honest.mean(axis=1, keepdims=True) + 0.4 * (honest - honest.mean(axis=1, keepdims=True))
    assert infer_accuracy(honest - truth[:, None]).quantile("sigma", 0.84) < 0.08
    assert infer_accuracy(overconfident - truth[:, None]).quantile("sigma", 0.16) > 0.1


def test_dividing_by_the_prior_removes_its_pull() -> None:
    rng = np.random.default_rng(5)
    prior = (1.0, 0.3)  # off the truths and not much wider than the data: pulls every galaxy up
    truth, draws = simulate(rng, 250, 0.0, 0.1, noise=0.15, prior=prior)
    pulled = infer_accuracy(draws - truth[:, None])
    assert pulled.quantile("mu", 0.01) > 0.1
    divided = infer_accuracy(draws - truth[:, None], stats.norm.logpdf(draws, *prior))
    assert abs(divided.peak[0]) < 0.05
    assert abs(divided.peak[0]) < 0.3 * abs(pulled.peak[0])


def test_tabulated_prior_is_the_density() -> None:
    rng = np.random.default_rng(6)
    prior = tabulate_equal_counts(np.concatenate([rng.normal(0.0, 1.0, 200_000), [-np.inf, np.nan]]))
    x = np.linspace(-2, 2, 41)
    np.testing.assert_allclose(prior(x), stats.norm.logpdf(x), atol=0.06)
    assert np.all(np.isfinite(prior([-50.0, 50.0])))
    assert prior(-50.0) < prior(-2.0)
    with pytest.raises(InputError, match="at least 1000"):
        tabulate_equal_counts(np.zeros(10))


def test_bins_leave_out_small_and_unknown() -> None:
    rng = np.random.default_rng(7)
    truth = np.concatenate([np.full(11, 0.1), np.full(10, 1.1), np.full(30, 2.1), [-np.inf]])
    draws = truth[:, None] + rng.normal(0.0, 0.1, (truth.size, 50))
    draws[-1] = 0.0
    got = accuracy_in_bins(draws, truth, width=1.0)
    assert [(b.low, b.n_galaxy) for b in got] == [(0.0, 11), (2.0, 30)]
    by_other = accuracy_in_bins(draws, truth, by=np.arange(truth.size, dtype=float), edges=[0, 26, 52])
    assert [b.n_galaxy for b in by_other] == [26, 25]
    assert bin_edges([0.31, 0.99], 0.2)[0] == pytest.approx(0.2)
    with pytest.raises(InputError, match="do not belong together"):
        accuracy_in_bins(draws, truth[:-1], width=1.0)
    with pytest.raises(InputError, match="edges or a bin width"):
        accuracy_in_bins(draws, truth)


def test_plane() -> None:
    rng = np.random.default_rng(8)
    x = rng.uniform(0, 2, 400)
    truth = rng.normal(0, 1, 400)
    draws = truth[:, None] + np.where(x > 1, 0.5, 0.0)[:, None] + rng.normal(0, 0.1, (400, 60))
    plane = accuracy_over_plane(draws, truth, x, truth, [0, 1, 2, 3], [-5, 5])
    assert plane.mu[:2, 0] == pytest.approx([0.0, 0.5], abs=0.03)
    assert plane.n_galaxy[2, 0] == 0
    assert np.isnan(plane.mu[2, 0])


def test_uneven_numbers_of_draws_weigh_alike() -> None:
    truth, draws = simulate(np.random.default_rng(9), 60, 0.1, 0.2)
    delta = draws - truth[:, None]
    short = delta.copy()
    short[::2, N_SAMPLE // 2 :] = np.nan
    full, cut = infer_accuracy(delta), infer_accuracy(short)
    assert cut.peak == pytest.approx(full.peak, abs=0.03)


def test_refusals() -> None:
    with pytest.raises(InputError, match="galaxies, draws"):
        infer_accuracy(np.zeros(5))
    with pytest.raises(InputError, match="galaxy 1 of 2 has no finite draw"):
        infer_accuracy([[0.0, 1.0], [np.nan, np.nan]])
    with pytest.raises(InputError, match="log_prior has shape"):
        infer_accuracy(np.zeros((2, 3)), np.zeros((2, 2)))


def test_probability_is_one_and_the_grid_holds_it() -> None:
    truth, draws = simulate(np.random.default_rng(10), 30, -0.1, 0.3)
    posterior: AccuracyPosterior = infer_accuracy(draws - truth[:, None])
    assert posterior.probability.sum() == pytest.approx(1.0)
    p = posterior.probability
    assert max(p[0].max(), p[-1].max(), p[:, -1].max()) < 1e-3 * p.max()
    assert posterior.n_galaxy == 30
    assert posterior.n_effective > 10
