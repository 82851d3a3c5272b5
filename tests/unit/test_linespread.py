"""The closed-form line-spread matrix against brute-force convolution; the banded operator against the sparse one."""

from __future__ import annotations

import numpy as np
import pytest

from provabgs.core.errors import InputError
from provabgs.core.jax import jnp
from provabgs.observe.linespread import (
    BandedOperator,
    pixel_edges,
    resolution_matrix,
    spread_matrix,
    velocity_sigma,
)


def brute_force(wave_model, flux, wave_pixel, sigma):
    """Convolve and average on a 0.005 A grid."""
    fine = np.arange(wave_pixel[0] - 80, wave_pixel[-1] + 80, 0.005)
    model = np.interp(fine, wave_model, flux)
    edges = pixel_edges(wave_pixel)
    out = []
    for centre, low, high, s in zip(wave_pixel, edges[:-1], edges[1:], sigma, strict=True):
        near = np.abs(fine - centre) < 8 * s + 2
        # response of the pixel to light at `fine`: Gaussian smoothed top hat
        sub = np.linspace(low, high, 81)
        sub = 0.5 * (sub[1:] + sub[:-1])
        kernel = np.exp(-0.5 * ((fine[near][:, None] - sub) / s) ** 2).sum(axis=1)
        out.append(np.sum(kernel * model[near]) / kernel.sum())
    return np.array(out)


@pytest.mark.parametrize("spacing", [0.9, 7.3, 20.0])
def test_matches_brute_force_convolution(spacing):
    rng = np.random.default_rng(3)
    wave_model = np.arange(4000.0, 4600.0, spacing)
    flux = 1 + 0.3 * rng.standard_normal(wave_model.size)
    wave_pixel = 4300 + 0.8 * np.arange(40)
    sigma = velocity_sigma(wave_pixel, 150.0)
    got = spread_matrix(wave_model, wave_pixel, sigma) @ flux
    np.testing.assert_allclose(got, brute_force(wave_model, flux, wave_pixel, sigma), rtol=2e-5)


def test_without_broadening_is_the_pixel_average():
    wave_model = np.arange(4000.0, 4100.0, 0.9)
    flux = np.sin(wave_model / 3) + 2
    wave_pixel = 4030 + 0.8 * np.arange(30)
    got = spread_matrix(wave_model, wave_pixel, np.zeros(30)) @ flux
    edges = pixel_edges(wave_pixel)
    for value, low, high in zip(got, edges[:-1], edges[1:], strict=True):
        x = np.linspace(low, high, 2001)
        assert value == pytest.approx(np.trapezoid(np.interp(x, wave_model, flux), x) / (high - low), rel=1e-6)


def test_rows_sum_to_one_even_at_the_ends_of_the_model():
    wave_model = np.arange(4000.0, 4100.0, 0.9)
    matrix = spread_matrix(wave_model, np.arange(4000.5, 4098.0, 0.8), np.full(122, 3.0))
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-9)


def test_pixels_outside_the_model_are_refused():
    with pytest.raises(InputError, match="wider range"):
        spread_matrix(np.arange(4000.0, 4100.0), np.arange(4090.0, 4110.0), np.ones(20))


def test_banded_operator_equals_sparse_matrix():
    rng = np.random.default_rng(0)
    wave_model = np.concatenate([np.arange(3600.0, 4200.0, 0.9), np.arange(4200.0, 5000.0, 20.0)])
    wave_pixel = np.arange(3700.0, 4800.0, 0.8)
    keep = rng.random(wave_pixel.size) > 0.2
    matrix = spread_matrix(wave_model, wave_pixel, velocity_sigma(wave_pixel, 200.0))[keep]
    spectra = rng.random((3, wave_model.size))
    got = BandedOperator.from_sparse(matrix).apply(jnp.asarray(spectra))
    np.testing.assert_allclose(np.asarray(got)[:, : keep.sum()], (matrix @ spectra.T).T, rtol=1e-12)
    np.testing.assert_array_equal(np.asarray(got)[:, keep.sum() :], 0.0)


def test_resolution_equals_desispec():
    desispec_resolution = pytest.importorskip("desispec.resolution", reason="desispec is not installed")
    bands = np.random.default_rng(1).random((11, 60))
    theirs = desispec_resolution.Resolution(bands).toarray()
    np.testing.assert_array_equal(resolution_matrix(bands).toarray(), theirs)
