"""Templates that touch pixels and bands together: every likelihood against the dense Gaussian that they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from provabgs.core.errors import ConfigError
from provabgs.core.jax import jnp
from provabgs.inference.compressed import CompressedLikelihood
from provabgs.inference.likelihood import ExactLikelihood, NormalEquations
from provabgs.inference.likelihood.base import REFERENCE_LOG_MASS
from provabgs.inference.likelihood.marginal import band_coupling, chi2_of
from provabgs.observe.noise import NOISE_TERMS, FitData, Noise
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import Projection, project
from provabgs.sps.model import SPSModel
from tests.support.parameters import column, put
from tests.support.small_library import BETAS, draws, small_library, theta

Z = 0.15
BANDS = ("decam2014-g", "decam2014-r", "decam2014-z")
MODEL = SPSModel(small_library())
TRUTH = theta(logmstar=10.3, fburst=0.1, tburst=2.0, tau_bc=0.5, tau_ism=0.4, n_dust=-0.5, f_fiber=0.5)
ALL = ("both", "pixels", "bands")


class Colour:
    """Relative errors of a few per cent: of pixels and bands together (twice), of pixels alone, of bands alone."""

    name = "colour"

    def __init__(self, kinds: tuple[str, ...] = ALL) -> None:
        self.kinds = kinds

    def __call__(self, data: FitData, options: ObservingOptions) -> Noise:
        x = np.linspace(-1, 1, data.wave.size)
        slope = np.linspace(-1, 1, data.band_flux.size)
        both = [(0.06 * np.ones_like(x), 0.06 * np.ones_like(slope)), (0.04 * x, -0.05 * slope)]
        shapes = {"both": both, "pixels": [(0.03 * x**2, 0 * slope)], "bands": [(0 * x, 0.08 * slope**2)]}
        chosen = [s for kind in self.kinds for s in shapes[kind]]
        pixels, bands = (np.array(side).T for side in zip(*chosen, strict=True))
        return Noise(pixel_templates=data.level[:, None] * pixels, band_templates=data.band_flux[:, None] * bands)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The terms are known while a test of this file runs."""
    before = dict(NOISE_TERMS._known)
    for kinds in (ALL, *((k,) for k in ALL)):
        NOISE_TERMS.register("-".join(("colour", *kinds)), Colour(kinds))
    NOISE_TERMS.register("colour", Colour())
    yield
    NOISE_TERMS._known.clear()
    NOISE_TERMS._known.update(before)


def observation(spectra: bool = True, photometry: bool = True, seed: int = 3) -> Observation:
    """Noisy data of `TRUTH`: two cameras of S/N 20 a pixel, bands of 3 %, spoilt by 2 sigma of each joint template."""
    rng = np.random.default_rng(seed)
    blank = []
    for camera, wave in (("b", np.arange(3700.0, 5600.0, 2.0)), ("r", np.arange(5650.0, 7400.0, 2.0))):
        blank.append(Spectrum(camera, wave, np.ones(wave.size), np.ones(wave.size), sigma_aa=2.0))
    nothing = Observation(Z, tuple(blank), Photometry(BANDS, np.ones(3), np.ones(3)))
    options = ObservingOptions(line_mask="none", noise=())
    pixels, bands = ExactLikelihood(project(nothing, MODEL.library, options), MODEL).predict(TRUTH)
    sigma, band_sigma = 0.05 * np.median(pixels), 0.03 * bands[0]
    tilted = pixels[0] * (1.12 + 0.08 * np.linspace(-1, 1, pixels.shape[1]))
    parts = np.split(tilted + sigma * rng.standard_normal(tilted.size), [blank[0].wave.size])
    cameras = [replace(s, flux=flux, ivar=np.full(flux.size, sigma**-2)) for s, flux in zip(blank, parts, strict=True)]
    flux = bands[0] * [1.22, 1.12, 1.02] + band_sigma * rng.standard_normal(3)
    phot = Photometry(BANDS, flux, band_sigma**-2)
    return Observation(Z, tuple(cameras) if spectra else (), phot if photometry else None, (0.5, 0.05))


def projected(noise: tuple[str, ...] = ("floor", "colour"), **which: bool) -> Projection:
    return project(observation(**which), MODEL.library, ObservingOptions(line_mask="none", noise=noise))


class Dense(NamedTuple):
    """A galaxy's data and their whole covariance, pixels first."""

    data: np.ndarray
    covariance: np.ndarray
    n_pix: int

    @classmethod
    def of(cls, projection: Projection) -> Dense:
        sides = [s for s in (projection.spectrum, projection.photometry) if s is not None]
        templates = np.concatenate([s.templates for s in sides])
        white = np.concatenate([1 / s.ivar for s in sides])
        flux = np.concatenate([s.flux for s in sides])
        return cls(flux, np.diag(white) + templates @ templates.T, projection.n_data[0])

    def chi2(self, model: np.ndarray) -> np.ndarray:
        r = self.data - model
        return np.sum(r * np.linalg.solve(self.covariance, r.T).T, axis=1)

    def chi2_of_spectrum(self, model: np.ndarray) -> np.ndarray:
        """Of the pixels alone, whatever the bands are: their own block of the covariance."""
        n = self.n_pix
        return Dense(self.data[:n], self.covariance[:n, :n], n).chi2(model[:, :n])


def predicted(exact: ExactLikelihood, points: np.ndarray) -> np.ndarray:
    return np.concatenate([p for p in exact.predict(points) if p is not None], axis=1)


def around(n: int, size: float = 0.02, seed: int = 1) -> np.ndarray:
    """Parameter vectors near the truth: this share of the way to draws of the prior."""
    rng = np.random.default_rng(seed)
    step = rng.uniform(0, size, (n, 1))
    return (1 - step) * TRUTH + step * put(draws(n, rng), f_fiber=0.5)


# ---- against the dense Gaussian ------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["colour", *(f"colour-{k}" for k in ALL)])
@pytest.mark.parametrize("which", [{}, {"spectra": False}, {"photometry": False}], ids=["both", "bands", "spectrum"])
def test_chi2_is_that_of_the_dense_covariance(noise: str, which: dict) -> None:
    projection = projected(("floor", noise), **which)
    exact, dense, points = ExactLikelihood(projection, MODEL), Dense.of(projection), around(6)
    spectrum, bands = chi2_of(projection, *exact.predict(points))
    model = predicted(exact, points)
    np.testing.assert_allclose(spectrum + bands, dense.chi2(model), rtol=1e-7)
    if projection.spectrum is not None:
        np.testing.assert_allclose(spectrum, dense.chi2_of_spectrum(model), rtol=1e-7)
    np.testing.assert_allclose(exact(jnp.asarray(points)), -0.5 * dense.chi2(model), rtol=2e-6)
    assert np.ptp(dense.chi2(model)) > 2  # the comparison is not of constants


def test_bands_are_those_given_the_spectrum() -> None:
    """What the templates do is to be seen: without them, or with bands taken apart, chi^2 is another."""
    projection = projected()
    exact, points = ExactLikelihood(projection, MODEL), around(6)
    pixels, bands = exact.predict(points)
    _, given = chi2_of(projection, pixels, bands)
    _, apart = chi2_of(replace(projection, spectrum=None), None, bands)
    assert np.abs(given - apart).max() > 1
    plain = projected(("floor",))
    none = chi2_of(plain, pixels, bands)
    assert np.all(sum(none) > sum(chi2_of(projection, pixels, bands)) + 10)  # data off by 2 sigma of the templates


@pytest.mark.parametrize(
    ("noise", "which", "coupled"),
    [
        ("colour", {}, True),
        ("colour-bands", {}, False),
        ("colour", {"spectra": False}, False),
        ("colour-pixels", {}, None),
        ("colour", {"photometry": False}, None),
    ],
)
def test_pixels_enter_the_bands_where_a_template_touches_both(noise: str, which: dict, coupled: bool | None) -> None:
    """None: bands are independent of each other too."""
    coupling = band_coupling(projected(("floor", noise), **which))
    assert (None if coupling is None else coupling.from_pixels is not None) is coupled


# ---- the compressed likelihood -------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [{}, {"spectra": False}], ids=["both", "bands"])
def test_compressed_differences_are_the_exact_ones(which: dict) -> None:
    projection, points = projected(**which), around(24)
    of_exact = -0.5 * sum(ExactLikelihood(projection, MODEL).chi2(points))
    compressed = CompressedLikelihood(projection, MODEL)
    difference = np.asarray(compressed(jnp.asarray(points))) - of_exact
    near = of_exact > of_exact.max() - 40
    assert near.sum() > 8
    assert np.ptp(of_exact[near]) > 4
    assert np.abs(difference[near]).max() < 0.1
    referenced = compressed.with_reference(TRUTH)
    exact_there = -0.5 * sum(ExactLikelihood(projection, MODEL).chi2(TRUTH))
    np.testing.assert_allclose(referenced(jnp.asarray(TRUTH)), exact_there, atol=2e-3)
    corrected = np.asarray(referenced(jnp.asarray(points))) - of_exact
    assert np.abs(corrected[near]).max() < 0.1


def test_draws_correct_the_compressed_likelihood() -> None:
    """The correction from draws of a fit knows of the coupling, too: bands whitened by pixels, error by error."""
    projection, points = projected(), around(64, 0.01, seed=5)
    corrected = CompressedLikelihood(projection, MODEL).with_reference(around(64, 0.01))
    of_exact = -0.5 * sum(ExactLikelihood(projection, MODEL).chi2(points))
    difference = np.asarray(corrected(jnp.asarray(points))) - of_exact
    assert corrected.local_error is not None
    assert corrected.local_error < 0.05
    assert np.std(difference[of_exact > of_exact.max() - 20]) < 0.05


def test_normal_equations_are_those_of_the_dense_covariance() -> None:
    projection, points = projected(), around(5)
    exact, dense = ExactLikelihood(projection, MODEL), Dense.of(projection)
    system = CompressedLikelihood(projection, MODEL).linear_system
    equations = NormalEquations(*(np.asarray(a) for a in system.equations(jnp.asarray(points), system.data)))
    weight = np.linalg.inv(dense.covariance)
    for k, point in enumerate(points):
        one_each = np.repeat(point[None], len(BETAS), axis=0)
        put(one_each, logmstar=REFERENCE_LOG_MASS, **dict(zip(BETAS, np.eye(len(BETAS)), strict=True)))
        columns = predicted(exact, one_each)
        scale = np.sqrt(np.einsum("ip,pq,iq->i", columns, weight, columns))
        np.testing.assert_allclose(
            equations.q[k] / np.outer(scale, scale), columns @ weight @ columns.T / np.outer(scale, scale), atol=1e-3
        )
        size = np.sqrt(dense.data @ weight @ dense.data)
        np.testing.assert_allclose(
            equations.b[k] / scale / size, columns @ weight @ dense.data / scale / size, atol=1e-3
        )
    np.testing.assert_allclose(equations.constant, dense.data @ weight @ dense.data, rtol=1e-4)


def test_normal_equations_are_the_likelihood() -> None:
    points = around(8)
    compressed = CompressedLikelihood(projected(), MODEL)
    system = compressed.linear_system
    q, b, constant = (np.asarray(a) for a in system.equations(jnp.asarray(points), system.data))
    masses = column(points, *BETAS) * 10.0 ** (column(points, "logmstar")[:, None] - REFERENCE_LOG_MASS)
    chi2 = constant - 2 * np.sum(b * masses, axis=1) + np.einsum("bi,bij,bj->b", masses, q, masses)
    np.testing.assert_allclose(-0.5 * chi2, compressed(jnp.asarray(points)), rtol=2e-5, atol=0.02)


# ---- terms that break the protocol ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "says"),
    [
        (Noise(pixel_templates=np.zeros((3, 1))), r"templates of shapes \(3, 1\) and \(3, 1\), expected \(1825, 1\)"),
        (Noise(band_templates=np.zeros((2, 4))), r"templates of shapes \(1825, 4\) and \(2, 4\), expected .*\(3, 4\)"),
        (Noise(pixel_templates=np.zeros((1825, 2)), band_templates=np.zeros((3, 1))), r"\(1825, 2\) and \(3, 1\)"),
        (Noise(pixel_variance=np.ones(7)), r"pixel variance must be .* of shape \(1825,\), not \(7,\)"),
        (Noise(band_variance=-1.0), "band variance must be finite, >= 0"),
        (Noise(pixel_variance=np.nan), "pixel variance must be finite"),
    ],
)
def test_a_term_of_wrong_shapes_is_refused_by_name(noise: Noise, says: str) -> None:
    NOISE_TERMS.register("wrong", type("Wrong", (), {"name": "wrong", "__call__": lambda *_: noise})())
    with pytest.raises(ConfigError, match=says) as error:
        projected(("floor", "wrong"))
    assert str(error.value).startswith("noise term 'wrong': ")
