"""Population densities: normalised, consistent with their own samples, priors and Jacobians right."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from provabgs.core.errors import InputError
from provabgs.core.jax import jax, jnp
from provabgs.population.density.grid import onto_histogram, onto_nodes, too_coarse
from provabgs.population.density.histogram import HistogramDensity
from provabgs.population.density.likelihood import Draws, Efficiency, Gridded, effective_draws, log_likelihood, log_sum
from provabgs.population.density.mode import find_mode
from provabgs.population.density.models import Density, GaussianDensity, MixtureDensity, region_of
from provabgs.population.density.streamed import StreamedLikelihood, gridded_chunks, in_chunks

ONE = GaussianDensity((0.5,), (2.0,))
TWO = GaussianDensity((0.5, -1.0), (2.0, 1.0))
FAMILIES: list[Density] = [
    ONE,
    TWO,
    MixtureDensity(ONE, 3),
    MixtureDensity(TWO, 2),
    HistogramDensity.uniform(-3, 4, 12),
    HistogramDensity.uniform([-3, -4], [4, 2], [5, 6]),
]


def survey(n: int = 40, s: int = 50, d: int = 1, seed: int = 0) -> Draws:
    rng = np.random.default_rng(seed)
    theta = rng.normal(0.0, 0.8, (n, 1, d)) + 0.3 * rng.standard_normal((n, s, d))
    log_weight = 0.5 * (theta[..., 0] - 1.0) ** 2 - np.log(s)
    return Draws(jnp.asarray(theta), jnp.asarray(log_weight), jnp.ones(n))


@pytest.mark.parametrize("density", FAMILIES, ids=lambda d: f"{type(d).__name__}-{d.ndim}")
def test_normalised_and_sampled_alike(density: Density) -> None:
    rng = np.random.default_rng(1)
    eta = density.sample_prior(rng)
    assert eta.shape == (density.n_eta,)
    drawn = density.sample(eta, rng, 20_000)
    assert drawn.shape == (20_000, density.ndim)
    # E_p[q / p] = 1 for any normalised q, here a broad normal around the draws
    q = stats.multivariate_normal(drawn.mean(axis=0), np.cov(drawn.T).reshape(density.ndim, -1) * 0.3)
    inside = np.isfinite(np.asarray(density.log_prob(jnp.asarray(eta), jnp.asarray(drawn))))
    assert inside.all()
    if not isinstance(density, HistogramDensity):
        ratio = np.exp(q.logpdf(drawn) - np.asarray(density.log_prob(jnp.asarray(eta), jnp.asarray(drawn))))
        assert ratio.mean() == pytest.approx(1.0, abs=5 * ratio.std() / np.sqrt(len(ratio)) + 1e-3)
    else:
        mass = np.exp(np.asarray(density.log_density(jnp.asarray(eta))) + density.log_volume)
        assert mass.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("density", [ONE, MixtureDensity(ONE, 2), HistogramDensity.uniform(-3, 4, 3)], ids=str)
def test_prior_density_is_that_of_prior_draws(density: Density) -> None:
    """Importance ratios of a Gaussian fitted to prior draws have one mean in every region: Jacobians are there."""
    rng = np.random.default_rng(2)
    etas = np.stack([density.sample_prior(rng) for _ in range(4000)])
    q = stats.multivariate_normal(etas.mean(axis=0), 0.4 * np.cov(etas.T))
    log_prior = np.asarray(jax.vmap(density.log_prior)(jnp.asarray(etas)))
    ratio = np.exp(q.logpdf(etas) - log_prior)
    # 1 / Z is the mean; split by each coordinate's sign about the median, expectations are q's own probabilities
    norm = ratio.mean()
    own = q.rvs(20_000, random_state=3)
    for k in range(density.n_eta):
        middle = np.median(etas[:, k])
        got = np.mean(ratio * (etas[:, k] > middle)) / norm
        assert got == pytest.approx(np.mean(own[:, k] > middle), abs=0.08), k


def test_components_stay_in_order() -> None:
    density = MixtureDensity(ONE, 3)
    eta = density.sample_prior(np.random.default_rng(4))
    mean = np.asarray(density.transform(jnp.asarray(eta))["mean"])[:, 0]
    assert np.all(np.diff(mean) > 0)
    assert float(density.transform(jnp.asarray(eta))["weight"].sum()) == pytest.approx(1.0)


def test_likelihood_is_the_formula() -> None:
    draws = survey()
    eta = jnp.array([0.1, -0.7])
    t = {k: float(v[0]) for k, v in ONE.transform(eta).items() if k != "correlation"}
    x, w = np.asarray(draws.theta)[..., 0], np.exp(np.asarray(draws.log_weight))
    u = stats.norm.pdf(x, t["mean"], t["sigma"]) * w
    sums, n_effective = u.sum(axis=1), u.sum(axis=1) ** 2 / np.square(u).sum(axis=1)
    assert float(log_sum(ONE, eta, draws).sum()) == pytest.approx(np.log(sums).sum())
    expected = np.sum(np.log(sums) + 0.5 * (1 / n_effective - 1 / x.shape[1]))
    assert float(log_likelihood(ONE, eta, draws)) == pytest.approx(expected)
    half = draws._replace(weight=jnp.where(jnp.arange(40) < 20, 2.0, 0.0))
    first = Draws(*(a[:20] for a in draws))
    assert float(log_likelihood(ONE, eta, half)) == pytest.approx(2 * float(log_likelihood(ONE, eta, first)))


def test_grids_carry_the_likelihood() -> None:
    draws = survey()
    eta = jnp.array([0.1, -1.0])
    exact = float(log_sum(ONE, eta, draws).sum())
    nodes = onto_nodes(-4.0, 4.0, in_chunks(draws, 16))
    assert nodes.mass.shape == (40, 384)
    assert float(log_likelihood(ONE, eta, nodes)) == pytest.approx(exact, abs=5e-3)
    assert not too_coarse(nodes, [0.3])
    assert too_coarse(nodes, [0.01, 1.0])
    for histogram, d in ((HistogramDensity.uniform(-4, 4, 9), 1), (HistogramDensity.uniform(-4, 4, [4, 5]), 2)):
        some = survey(d=d)
        eta = jnp.asarray(histogram.sample_prior(np.random.default_rng(5)))
        binned = onto_histogram(histogram, [some])
        assert float(log_likelihood(histogram, eta, binned)) == pytest.approx(
            float(log_sum(histogram, eta, some).sum()), abs=1e-4
        )


def test_streams_equal_what_is_in_memory() -> None:
    draws = survey()
    for data, chunks in (
        (draws, lambda: in_chunks(draws, 16)),
        (nodes := onto_nodes(-4.0, 4.0, [draws]), lambda: gridded_chunks(nodes, 16)),
    ):
        streamed = StreamedLikelihood(ONE, chunks)
        eta = np.array([0.1, -0.7])
        value, gradient = jax.value_and_grad(lambda e, data=data: log_likelihood(ONE, e, data))(jnp.asarray(eta))
        got = streamed.value_and_grad(eta)
        assert got[0] == pytest.approx(float(value))
        np.testing.assert_allclose(got[1], gradient, rtol=1e-5)
        np.testing.assert_allclose(streamed.values(np.stack([eta, eta])), float(value))
        hessian = jax.hessian(lambda e, data=data: log_likelihood(ONE, e, data))(jnp.asarray(eta))
        np.testing.assert_allclose(streamed.hessian(eta), hessian, rtol=1e-4)
    assert streamed.first_part().weight.shape == (16,)
    counted = StreamedLikelihood(ONE, chunks, counted=lambda: in_chunks(draws, 16))
    assert counted.effective_draws(eta).shape == (40,)


def test_selection_normalises() -> None:
    """With half the space selected, ln alpha is the log of the population's share there."""
    x = -8 + 16 * (np.arange(4000) + 0.5) / 4000
    efficiency = Efficiency(ONE, jnp.asarray(x[:, None]), jnp.asarray(np.where(x > 0, np.log(x[1] - x[0]), -np.inf)))
    eta = jnp.array([0.1, -0.7])
    t = ONE.transform(eta)
    alpha = stats.norm.sf(0.0, float(t["mean"][0]), float(t["sigma"][0]))
    assert float(jnp.exp(efficiency(eta))) == pytest.approx(alpha, rel=1e-3)
    draws = survey()
    got = float(log_likelihood(ONE, eta, draws, efficiency) - log_likelihood(ONE, eta, draws))
    assert got == pytest.approx(-40 * np.log(alpha), rel=1e-3)


def test_effective_draws_fall_with_the_mismatch() -> None:
    draws = survey()
    near = effective_draws(ONE, jnp.array([-0.25, -0.9]), draws)
    far = effective_draws(ONE, jnp.array([1.5, -3.0]), draws)
    assert np.median(far) < 3 < np.median(near) <= 50
    assert np.isnan(effective_draws(ONE, jnp.zeros(2), onto_nodes(-4.0, 4.0, [draws]))).all()


def test_galaxies_outside_leave_the_grid() -> None:
    draws = survey(n=3)
    moved = draws._replace(theta=draws.theta.at[1].set(99.0))
    assert onto_nodes(-4.0, 4.0, [moved]).weight.shape == (2,)
    with pytest.raises(InputError, match="no galaxy has a draw between"):
        onto_nodes(50.0, 60.0, [draws])
    with pytest.raises(InputError, match="finite low < high"):
        onto_nodes(1.0, 1.0, [draws])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianDensity((0.0,), (0.0,)), "positive"),
        (lambda: GaussianDensity((0.0, 1.0), (1.0,)), "one number per property"),
        (lambda: MixtureDensity(ONE, 1), "components"),
        (lambda: HistogramDensity(((0.0, 1.0, 0.5),)), "ascending"),
        (lambda: HistogramDensity.uniform([0, 0, 0], 1, 4), "one or two"),
        (lambda: region_of(np.ones((4, 1))), "same in all draws"),
        (lambda: region_of(np.full((4, 1), np.nan)), "no finite draws"),
    ],
)
def test_refusals(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_gridded_rows_of_weight_zero_do_not_count() -> None:
    nodes = onto_nodes(-4.0, 4.0, [survey()])
    padded = list(gridded_chunks(nodes, 24))
    assert [c.weight.shape[0] for c in padded] == [24, 24]
    eta = jnp.array([0.1, -0.7])
    total = sum(float(log_likelihood(ONE, eta, c)) for c in padded)
    assert total == pytest.approx(float(log_likelihood(ONE, eta, nodes)))
    assert isinstance(padded[0], Gridded)


def test_the_mode_of_a_histogram_is_not_a_flat_one() -> None:
    """Where neighbours may differ by tau, tau = 0 and all bins alike must not win by their narrowness."""
    density = HistogramDensity.uniform([-4, -4], [4, 4], [8, 8])
    data = onto_histogram(density, [survey(n=80, d=2)])

    @jax.jit
    def posterior(eta: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(lambda e: density.log_prior(e) + log_likelihood(density, e, data))(eta)

    def value_and_grad(eta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = posterior(jnp.asarray(eta))
        return float(value), np.asarray(gradient)

    mode = find_mode(density, value_and_grad, np.random.default_rng(6), n_start=4)
    assert np.exp(mode[0]) > 0.1
    assert np.ptp(np.asarray(density.field(jnp.asarray(mode)))) > 1
    assert np.abs(value_and_grad(mode)[1]).max() < 0.1
