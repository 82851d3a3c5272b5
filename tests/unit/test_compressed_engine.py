"""The compressed engine against the exact likelihood, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from provabgs.core.errors import InputError, UnusableTargetError
from provabgs.core.jax import jax, jnp
from provabgs.inference import backends
from provabgs.inference.backends import make_likelihood
from provabgs.inference.compressed import (
    CompressedLikelihood,
    Size,
    make_log_likelihood,
    reduce_projection,
    size_of,
)
from provabgs.inference.compressed.compressed_likelihood import CPU_CHUNK, make_prediction
from provabgs.inference.compressed.merged_nodes import merged_nodes
from provabgs.inference.compressed.normal_equations import COLUMNS_IN_CACHE, make_normal_equations
from provabgs.inference.compressed.photometry import N_BAND_NODES, split_at_step
from provabgs.inference.config import FitConfig, SamplerOptions
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.likelihood.base import REFERENCE_LOG_MASS
from provabgs.inference.standard import PARAMETERS
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import Projection, project
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from provabgs.surveys import load_system
from tests.support.engine_mocks import draw_theta, mock, near
from tests.support.parameters import N_THETA, column, prior_of, put, stars_of
from tests.support.small_library import BETAS

SIZE = Size(192, 192)
"""One size for most tests, so that functions compile once."""


@pytest.fixture(scope="module")
def model(library: SSPLibrary) -> SPSModel:
    return SPSModel(library)


def galaxy(model: SPSModel, seed: int, redshift: float, snr: float, order: int | None = None, **kwargs):
    """Projection, truth and prior of a mock."""
    rng = np.random.default_rng(seed)
    theta = draw_theta(rng)
    data = mock(model, theta, redshift, snr, rng, **kwargs)
    if data.fiber_fraction is None:
        put(theta, f_fiber=1.0)
    projection = project(data, model.library, ObservingOptions(calibration_order=order))
    return projection, theta, prior_of(data), rng


def differences(model: SPSModel, projection: Projection, engine: CompressedLikelihood, points: jax.Array) -> np.ndarray:
    exact = ExactLikelihood(projection, model)
    return np.asarray(engine(points)) + 0.5 * np.asarray(sum(exact.chi2(points)))


@pytest.mark.parametrize(
    ("redshift", "snr", "order", "kwargs", "tolerance"),
    [
        (0.1, 20, None, {}, 0.1),
        (0.48, 20, None, {"photsys": "N"}, 0.1),
        (0.25, 100, None, {}, 0.5),
        (0.2, 20, 3, {}, 0.1),
        (0.3, 20, None, {"photometry": False}, 0.1),
        (0.12, 20, None, {"cameras": "rz"}, 0.1),
        (0.4, 20, None, {"cameras": ""}, 0.02),
    ],
    ids=["S", "N", "high S/N", "calibration", "spectrum alone", "two cameras", "photometry alone"],
)
def test_equals_the_exact_likelihood(model, redshift, snr, order, kwargs, tolerance) -> None:
    projection, theta, prior, rng = galaxy(model, 7, redshift, snr, order, **kwargs)
    engine = CompressedLikelihood(projection, model, size=SIZE)
    points = near(engine, theta, prior, rng, n=16)
    d = differences(model, projection, engine, points)
    assert np.ptp(np.asarray(engine(points))) > 5  # points do span tens of nats
    assert np.abs(d).max() < tolerance


def test_reference_removes_what_is_common(model) -> None:
    projection, theta, prior, rng = galaxy(model, 3, 0.15, 20)
    coarse = CompressedLikelihood(projection, model, size=Size(96, 96))
    points = near(coarse, theta, prior, rng, n=16)
    plain = differences(model, projection, coarse, points)
    referenced = differences(model, projection, coarse.with_reference(jnp.asarray(theta)), points)
    assert np.abs(referenced).max() < 0.4 * np.abs(plain).max()


def test_draws_of_a_fit_correct_the_engine_and_measure_it(model) -> None:
    """From draws, the linear response goes too; the engine's own figure holds at points that it has not seen."""
    projection, theta, prior, rng = galaxy(model, 3, 0.15, 20, order=3)
    coarse = CompressedLikelihood(projection, model, size=Size(96, 96))
    points = near(coarse, theta, prior, rng, n=32)
    draws = near(coarse, theta, prior, rng, n=64, drop=12)
    once = np.abs(differences(model, projection, coarse.with_reference(draws[0]), points)).max()
    corrected = coarse.with_reference(draws)
    after = np.abs(differences(model, projection, corrected, points)).max()
    assert coarse.local_error is None
    assert corrected.local_error is not None
    assert after < 0.75 * once
    assert after < 0.05
    assert after < 20 * corrected.local_error
    assert size_of(corrected.reduction) == size_of(coarse.reduction)


@pytest.mark.parametrize("kwargs", [{}, {"cameras": ""}, {"photometry": False}], ids=["all", "bands", "spectrum"])
def test_the_engine_is_exact_at_its_reference(model, kwargs) -> None:
    projection, theta, *_ = galaxy(model, 19, 0.3, 20, **kwargs)
    size = None if kwargs.get("cameras") == "" else Size(96, 96)
    engine = CompressedLikelihood(projection, model, size=size).with_reference(theta)
    assert np.abs(differences(model, projection, engine, jnp.asarray(theta)[None])).max() < 2e-3


def test_a_correction_is_never_applied_twice(model) -> None:
    projection, theta, prior, rng = galaxy(model, 3, 0.15, 20)
    once = CompressedLikelihood(projection, model, size=Size(96, 96)).with_reference(theta)
    points = near(once, theta, prior, rng, n=8)
    np.testing.assert_allclose(np.asarray(once.with_reference(theta)(points)), np.asarray(once(points)), atol=2e-3)


def test_columns_give_the_same_likelihood(model) -> None:
    """The quadratic form in the masses is ln L, burst and all, in batches below and above the chunk."""
    projection, _, _, rng = galaxy(model, 7, 0.2, 20)
    engine = CompressedLikelihood(projection, model, size=SIZE)
    theta = np.stack([draw_theta(rng) for _ in range(COLUMNS_IN_CACHE // len(BETAS) + 6)])
    put(theta[0], fburst=1.0)
    mass = 10 ** (column(theta, "logmstar") - REFERENCE_LOG_MASS)
    masses = mass[:, None] * column(theta, *BETAS)
    equations = jax.jit(make_normal_equations(model))(jnp.asarray(theta), engine.reduction)
    linear, quadratic = (masses * equations.b).sum(1), np.einsum("bi,bij,bj->b", masses, equations.q, masses)
    expected = np.asarray(engine(jnp.asarray(theta)))
    np.testing.assert_allclose(-0.5 * (equations.constant - 2 * linear + quadratic), expected, rtol=2e-5)


def test_size_follows_tolerance_and_noise(model) -> None:
    sizes = {}
    for snr in (5, 60):
        projection, *_ = galaxy(model, 11, 0.15, snr, photometry=False)
        for tolerance in (0.2, 0.03):
            reduction = reduce_projection(projection, model, tolerance)
            assert reduction.spectrum is not None
            sizes[snr, tolerance] = size_of(reduction)
            if sizes[snr, tolerance].points < 256:
                assert reduction.spectrum.error <= tolerance
    assert sizes[5, 0.2].points < sizes[5, 0.03].points
    assert sizes[5, 0.2].points < sizes[60, 0.2].points


@pytest.mark.parametrize("redshift", [0.1, 0.55], ids=["step inside", "step near the end"])
def test_step_of_the_attenuation(model, redshift) -> None:
    """The 0.7 % jump at 6300 A is followed to a small fraction of its size, pixel by pixel."""
    projection, theta, *_ = galaxy(model, 5, redshift, 50, photometry=False)
    dusty = put(np.array(theta), tau_ism=2.5, n_dust=0.0)
    engine = CompressedLikelihood(projection, model, size=Size(256, 256))
    mine, truth = (
        engine.predict(dusty[None])[0],
        np.asarray(ExactLikelihood(projection, model).predict(dusty[None])[0])[0],
    )
    wave = projection.spectrum.wave / (1 + redshift)
    close = np.abs(wave - 6300) < 60
    assert close.any()
    assert np.abs(mine / truth - 1)[close].max() < 5e-4


def test_single_precision_is_enough_at_high_signal(model) -> None:
    """The engine in double gives the same differences of ln L: rounding is far below the tolerance at S/N 100."""
    projection, theta, prior, rng = galaxy(model, 13, 0.2, 100)
    engine = CompressedLikelihood(projection, model, size=SIZE)
    points = near(engine, theta, prior, rng, n=16)
    double = jax.tree.map(lambda x: x.astype(jnp.float64), engine.reduction)
    # the same pure function, without its casts
    rounding = np.asarray(engine(points)) - np.asarray(_double(model, points, double))
    assert np.abs(rounding).max() < 0.05


def _double(model: SPSModel, theta: jax.Array, r) -> jax.Array:
    values = PARAMETERS.values(theta)
    young, old = merged_nodes(model).weights(model, values, r.tables)
    mass = 10 ** (values["logmstar"] - REFERENCE_LOG_MASS)[:, None]

    def at(places):
        through = model.attenuation.transmission(places.curves, values)
        return (young @ places.ssps.young * through.young + old @ places.ssps.old * through.old) * mass

    rows = (at(r.spectrum.places) * values["f_fiber"][:, None]) @ r.spectrum.rows
    bands = r.photometry.root_ivar * at(r.photometry.places).reshape(len(theta), -1, N_BAND_NODES).sum(axis=-1)
    chi2 = (
        r.spectrum.constant + jnp.sum((r.spectrum.data - rows) ** 2, 1) + jnp.sum((r.photometry.flux - bands) ** 2, 1)
    )
    return -0.5 * chi2


def test_gradient(model) -> None:
    projection, theta, prior, rng = galaxy(model, 17, 0.2, 20)
    engine = CompressedLikelihood(projection, model, size=SIZE)
    points = near(engine, theta, prior, rng, n=4)
    log_like = make_log_likelihood(model)
    double = jax.tree.map(lambda x: x.astype(jnp.float64), engine.reduction)
    gradient = np.asarray(jax.jit(jax.grad(lambda t, r: log_like(t, r).sum()))(points, engine.reduction))
    for name in ("logmstar", "beta2", "fburst", "gamma1", "tau_ism", "n_dust", "tau_bc"):
        i = PARAMETERS.index(name)
        step = jnp.zeros(N_THETA).at[i].set(1e-6 * max(1e-3, float(abs(points[0, i]))))
        up, down = _double(model, points + step, double), _double(model, points - step, double)
        numeric = np.asarray((up - down) / (2 * step[i]))
        np.testing.assert_allclose(gradient[:, i], numeric, rtol=5e-3, atol=2e-3 * np.abs(numeric).max() + 0.05)


def test_large_batches_are_cut_without_changing_anything(model) -> None:
    projection, theta, prior, rng = galaxy(model, 17, 0.2, 20)
    engine = CompressedLikelihood(projection, model, size=SIZE)
    points = near(engine, theta, prior, rng, n=CPU_CHUNK + 40)
    pieces = np.concatenate([np.asarray(engine(points[:CPU_CHUNK])), np.asarray(engine(points[CPU_CHUNK:]))])
    np.testing.assert_allclose(np.asarray(engine(points)), pieces, rtol=0, atol=2e-2)


def test_a_narrow_window_fills_any_size(model) -> None:
    """A short spectrum has fewer candidate points than the class asks for."""
    rng = np.random.default_rng(2)
    wave = 5000 + 0.8 * np.arange(300)
    data = Observation(0.1, (Spectrum("r", wave, 10 + rng.standard_normal(300), np.ones(300)),))
    projection = project(data, model.library)
    engine = CompressedLikelihood(projection, model, size=SIZE)
    theta = put(np.stack([draw_theta(rng) for _ in range(4)]), logmstar=9.5)
    d = differences(model, projection, engine, jnp.asarray(theta))
    assert np.abs(d).max() < 0.05


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_an_error_beyond_the_limit_is_refused(model) -> None:
    projection, *_ = galaxy(model, 4, 0.1, 100, photometry=False)
    with pytest.raises(InputError, match=r"measured error of the compressed engine is .* sigma"):
        reduce_projection(projection, model, size=Size(64, 64))


def test_pixels_beyond_what_is_learnt_are_refused(model) -> None:
    wave = 17000 + 2.0 * np.arange(500)
    data = Observation(0.1, (Spectrum("h", wave, np.ones(500), np.ones(500)),))
    with pytest.raises(InputError, match=r"lie beyond the compressed engine's .* engine = 'exact'"):
        CompressedLikelihood(project(data, model.library), model)


def test_a_fit_falls_back_on_the_exact_engine_and_says_so(model, caplog) -> None:
    wave = 17000 + 2.0 * np.arange(200)
    data = Observation(0.1, (Spectrum("h", wave, np.ones(200), np.ones(200)),))
    exact = ExactLikelihood(project(data, model.library), model)
    with caplog.at_level("WARNING"):
        assert make_likelihood(exact, FitConfig()) is exact
    assert "compressed likelihood not usable, the exact one in its place" in caplog.text


def test_a_measured_error_beyond_the_limit_falls_back_and_says_so(model, caplog) -> None:
    """Dust that leaves light at the red end only, at S/N 100: no size is enough."""
    rng = np.random.default_rng([3, 60])
    theta, redshift = draw_theta(rng), float(rng.uniform(0.01, 0.6))
    data = mock(model, theta, redshift, 100, rng, photometry=False)
    exact = ExactLikelihood(project(data, model.library), model)
    with caplog.at_level("WARNING"):
        assert make_likelihood(exact, FitConfig()) is exact
    assert "measured error" in caplog.text
    assert "compressed likelihood not usable, the exact one in its place" in caplog.text


def test_a_fit_uses_the_compressed_engine_unless_told_otherwise(model, monkeypatch) -> None:
    """Both by what a configuration says and by what a fit calls."""
    made = []

    class Recorded(CompressedLikelihood):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(backends, "CompressedLikelihood", Recorded)
    rng = np.random.default_rng(4)
    data = mock(model, draw_theta(rng), 0.2, 10, rng, cameras="")
    few = SamplerOptions(max_eval=20_000, time_limit_s=5, ess=1.5, rhat=10)
    posterior = fit_observation(data, FitConfig(sampler=few, n_samples=50))
    assert FitConfig().engine == "compressed"
    assert len(made) == 1
    assert 0 < posterior.diagnostics.engine_dlnl < 0.5
    fit_observation(data, FitConfig(engine="exact", sampler=few, n_samples=50))
    assert len(made) == 1


def test_no_valid_pixel_is_refused_by_name(model) -> None:
    with pytest.raises(UnusableTargetError, match="no pixel or band has ivar > 0"):
        Observation(0.1, (Spectrum("b", 3600 + np.arange(100.0), np.ones(100), np.zeros(100)),))


def test_band_beyond_the_library_is_refused_by_name(model) -> None:
    short = replace(model.library, wave=model.library.wave[:4700], spectrum=model.library.spectrum[:, :, :4700])
    data = Observation(0.1, (), Photometry(("wise2010-W2",), np.ones(1), np.ones(1)))
    with pytest.raises(UnusableTargetError, match=r"W2 .* is not covered"):
        project(data, short)


@pytest.mark.parametrize("photsys", ["N", "S"])
def test_bands_are_integrated_at_every_redshift(model, photsys) -> None:
    """The step of the attenuation wanders through every band and through their leaking tails."""
    rng = np.random.default_rng(8)
    theta = np.stack([draw_theta(rng) for _ in range(6)])
    put(theta[:3], tau_ism=2.0)
    for redshift in np.linspace(0.02, 0.59, 20):
        data = Observation(
            float(redshift), (), Photometry(load_system("legacy").filters(photsys), np.ones(5), np.ones(5))
        )
        projection = project(data, model.library)
        reduction = reduce_projection(projection, model)
        bands = _prediction(model)(jnp.asarray(theta), reduction).photometry / reduction.photometry.root_ivar
        exact = _exact_bands(model, projection, theta)
        np.testing.assert_allclose(np.asarray(bands), exact, rtol=2e-3, atol=1e-5)


@lru_cache(maxsize=1)
def _prediction(model: SPSModel):
    return jax.jit(make_prediction(model))


def _exact_bands(model: SPSModel, projection: Projection, theta: np.ndarray) -> np.ndarray:
    luminosity = model.spectrum(jnp.asarray(stars_of(theta)), jax.tree.map(jnp.asarray, model.tables(projection.t_age)))
    return np.asarray(luminosity) * projection.flux_factor @ projection.photometry.operator.T


def test_parts_of_a_band_share_the_nodes() -> None:
    wave = np.linspace(6000, 7000, 200)
    parts = split_at_step(wave, 6300.0)
    assert len(parts) == 2
    assert parts[0][0].stop == parts[1][0].start
    assert parts[0][1].stop == parts[1][1].start
    assert len(split_at_step(wave, 9000.0)) == 1
