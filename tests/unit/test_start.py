"""Where populations start: the density is that of the draws, and finds a narrow mode at small values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import kstest

from provabgs.inference.config import SamplerOptions
from provabgs.inference.samplers.annealed import sample_annealed
from provabgs.inference.samplers.base import MarginalPosterior, Target
from provabgs.inference.samplers.start import SMALLEST, draw_start, log_start
from provabgs.inference.standard import PARAMETERS


def test_log_start_is_the_density_of_the_draws() -> None:
    grid = np.linspace(-7.5, 7.5, 20_001)[:, None]
    density = np.exp(log_start(grid, (0,))) / np.sqrt(2 * np.pi)
    cumulative = np.cumsum(density) * (grid[1, 0] - grid[0, 0])
    assert cumulative[-1] == pytest.approx(1.0, abs=1e-4)
    draws = draw_start(20_000, 1, (0,), np.random.default_rng(0))[:, 0]
    assert kstest(np.interp(draws, grid[:, 0], cumulative), "uniform").pvalue > 0.01


def test_coordinates_that_are_not_named_keep_the_prior() -> None:
    rng = np.random.default_rng(1)
    x = draw_start(20_000, 3, (1,), rng)
    for k in (0, 2):
        assert kstest(ndtr(x[:, k]), "uniform").pvalue > 0.01
    assert np.mean(ndtr(x[:, 1]) < 10 * SMALLEST) == pytest.approx(0.18, abs=0.02)  # 0.01 under the prior
    prior = -0.5 * np.sum(x**2, axis=1)
    np.testing.assert_array_equal(log_start(x, ()), prior)


def test_the_default_model_names_its_burst() -> None:
    outer = [PARAMETERS.coordinates[k] for k in PARAMETERS.nonlinear_coordinates]
    assert [outer[k] for k in PARAMETERS.small_coordinates] == ["fburst", "tburst"]


def _narrow(x: np.ndarray) -> np.ndarray:
    """Half of the posterior in u < 0.004 of two coordinates, 2e-5 of the prior; the rest broad."""
    u = ndtr(x[:, :2])
    inside = np.log(0.5 / 0.004**2) - 20 * np.sum(np.maximum(u / 0.004 - 1, 0), axis=1)
    other = np.log(0.5 / 0.25) - 200 * np.sum(np.maximum(0.5 - u, 0), axis=1)
    return np.logaddexp(inside, other) - 0.5 * np.sum(x**2, axis=1) - 6 * np.sum(x[:, 2:] ** 2, axis=1)


def test_a_narrow_mode_at_small_values_is_found_by_every_seed() -> None:
    """Its share is known by quadrature; populations that start from the prior never see it."""
    edges = np.linspace(0, 1, 20_001)
    u = (edges[1:] + edges[:-1]) / 2
    inside = np.mean(np.exp(-20 * np.maximum(u / 0.004 - 1, 0))) ** 2 * 0.5 / 0.004**2
    other = np.mean(np.exp(-200 * np.maximum(0.5 - u, 0))) ** 2 * 0.5 / 0.25
    expected = inside / (inside + other)

    def share(small: tuple[int, ...], seed: int) -> float:
        def draw_linear(outer: np.ndarray, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return outer, _narrow(outer)

        marginal = MarginalPosterior(_narrow, draw_linear, 5, 5, 1, small)
        target = Target(5, _narrow, lambda z: z, marginal)
        result = sample_annealed(target, np.random.default_rng(seed), SamplerOptions())
        return float(np.mean(ndtr(result.draws[..., 0]) < 0.05))

    for seed in range(4):
        assert share((0, 1), seed) == pytest.approx(expected, abs=0.05)
    assert min(share((), seed) for seed in range(4)) < 0.05
