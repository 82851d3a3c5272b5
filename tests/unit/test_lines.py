"""Emission lines that were injected into mock spectra are recovered within their errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.cosmology import Planck13

from provabgs.core.status import Status
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, MeasureOptions
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.measured.line_columns import K_HALPHA, K_HBETA, star_formation
from provabgs.inference.measured.line_quantities import LINES
from provabgs.inference.measured.lines import Line
from provabgs.inference.measured.measure import measure
from provabgs.inference.posterior import Posterior, identity_of
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from tests.support.parameters import put
from tests.support.small_library import theta

Z = 0.1
SIGMA_KMS, SHIFT_KMS, F_FIBER = 95.0, 25.0, 0.6
FLUX = {
    "OII_3727": 25.0, "HBETA": 14.0, "OIII_4959": 6.0, "OIII_5007": 18.0, "NII_6548": 5.0, "HALPHA": 48.0,
    "NII_6584": 15.0, "SII_6716": 9.0, "SII_6731": 7.0,
}  # fmt: skip
NOISE = 0.4
CONFIG = FitConfig(preset="published", measure=MeasureOptions(groups=("lines",), n_draws=32))
C_KMS = 299792.458


def cameras() -> tuple[Spectrum, ...]:
    """One with a Gaussian width, one with a resolution matrix of DESI's kind."""
    blue, red = np.arange(4000.0, 5700.0, 0.8), np.arange(5660.0, 7600.0, 0.8)
    offsets = np.arange(5, -6, -1)
    row = np.exp(-0.5 * (offsets / 1.3) ** 2)
    resolution = np.repeat((row / row.sum())[:, None], red.size, axis=1)
    one = np.ones
    return (
        Spectrum("b", blue, one(blue.size), one(blue.size) / NOISE**2, sigma_aa=0.9),
        Spectrum("r", red, one(red.size), one(red.size) / NOISE**2, resolution=resolution),
    )


def injected(s: Spectrum, fluxes: dict[str, float]) -> np.ndarray:
    """Lines on a grid of 0.02 A, averaged over pixels, and smeared row by row: not the package's way."""
    fine = s.wave[:, None] + np.linspace(-0.39, 0.39, 40)
    out = np.zeros(s.wave.size)
    for name, flux in fluxes.items():
        for line in LINES[name]:
            centre = line * (1 + Z) * (1 + SHIFT_KMS / C_KMS)
            width = np.hypot(centre * SIGMA_KMS / C_KMS, s.sigma_aa)
            gauss = np.exp(-0.5 * ((fine - centre) / width) ** 2) / (np.sqrt(2 * np.pi) * width)
            out += flux / len(LINES[name]) * gauss.mean(axis=1)
    if s.resolution is None:
        return out
    kernel = s.resolution[::-1, 0]
    return np.convolve(out, kernel, mode="same")


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return theta(logmstar=10.4, fburst=0.05, tburst=0.4, tau_ism=0.3, tau_bc=0.5, n_dust=-0.2, f_fiber=F_FIBER)


@pytest.fixture(scope="module")
def continuum(truth: np.ndarray) -> list[np.ndarray]:
    model = load_model(CONFIG.model)
    blank = Observation(Z, cameras())
    pixels, _ = ExactLikelihood(
        project(blank, model.library, ObservingOptions(line_mask="none", noise=())), model
    ).predict(truth)
    assert pixels is not None
    return np.split(pixels[0], [cameras()[0].wave.size])


def posterior(truth: np.ndarray, data: Observation, config: FitConfig = CONFIG) -> Posterior:
    """Draws as a posterior has them: the truth is one of them."""
    rng = np.random.default_rng([7, int(1e6 * abs(data.spectra[0].flux.sum())) if data.spectra else 0])
    samples = np.repeat(truth, 32, axis=0)
    off = rng.standard_normal((3, 1)) + rng.standard_normal((3, 32))
    put(samples, logmstar=10.4 + 0.01 * off[0], tau_ism=0.3 + 0.02 * off[1], tburst=0.4 * np.exp(0.05 * off[2]))
    return Posterior(
        samples=samples, log_prob=np.zeros(32), derived={}, properties=(), status=Status.CONVERGED,
        config=config.model_dump_json(), seed=1, **identity_of(data),
    )  # fmt: skip


def mock(continuum: list[np.ndarray], fluxes: dict[str, float], rng: np.random.Generator) -> Observation:
    spectra = [
        replace(s, flux=c + injected(s, fluxes) + NOISE * rng.standard_normal(c.size))
        for s, c in zip(cameras(), continuum, strict=True)
    ]
    return Observation(Z, tuple(spectra), targetid=9, fiber_fraction=(F_FIBER, 0.01))


def columns(p: Posterior, data: Observation) -> dict[str, np.ndarray]:
    return {q.column: v for q, v in measure(p, data).items()}


@pytest.fixture(scope="module")
def recovered(truth: np.ndarray, continuum: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    return [columns(posterior(truth, data), data) for data in (mock(continuum, FLUX, rng) for _ in range(36))]


def test_fluxes_are_recovered_within_their_errors(recovered: list[dict[str, np.ndarray]]) -> None:
    """Over 36 realisations each line's pulls have mean 0 and width 1, to what 36 numbers and nine lines allow."""
    pulls = np.array([[(r[f"{n}_FLUX"][0] - f) / r[f"{n}_FLUX"][1] for n, f in FLUX.items()] for r in recovered])
    assert np.abs(pulls.mean(axis=0)).max() < 3.2 / 6
    assert abs(pulls.mean()) < 0.2
    assert pulls.std(axis=0).min() > 0.7
    assert pulls.std(axis=0).max() < 1.35
    assert pulls.std() == pytest.approx(1.0, abs=0.13)
    # an error of a few per cent is nothing to hide behind
    assert recovered[0]["HALPHA_FLUX"][1] < 0.05 * FLUX["HALPHA"]


def test_equivalent_widths(recovered: list[dict[str, np.ndarray]], continuum: list[np.ndarray]) -> None:
    blue, red = cameras()
    for name, camera, level in (("HALPHA", red, continuum[1]), ("OII_3727", blue, continuum[0])):
        away = np.abs(camera.wave / (1 + Z) - np.mean(LINES[name]))
        under = level[(away > 10) & (away < 50)].mean()
        exact = FLUX[name] / under / (1 + Z)
        pulls = np.array([(r[f"{name}_EW"][0] - exact) / r[f"{name}_EW"][1] for r in recovered])
        assert abs(pulls.mean()) < 0.6
        assert 0.7 < pulls.std() < 1.4


def test_the_lines_own_width_and_velocity(recovered: list[dict[str, np.ndarray]]) -> None:
    assert np.median([r["LINE_SIGMA"][0] for r in recovered]) == pytest.approx(SIGMA_KMS, abs=8)
    assert np.median([r["LINE_SHIFT"][0] for r in recovered]) == pytest.approx(SHIFT_KMS, abs=10)


def test_the_rate_of_halpha(recovered: list[dict[str, np.ndarray]]) -> None:
    """By hand: decrement 48 / 14, Cardelli's curve, Kennicutt & Evans's rate for Chabrier's IMF."""
    ebv = 2.5 / (3.61 - 2.53) * np.log10(48 / 14 / 2.86)
    luminosity = 4 * np.pi * Planck13.luminosity_distance(Z).to_value("cm") ** 2 * 48e-17 / F_FIBER
    rate = np.log10(luminosity * 10 ** (0.4 * 2.53 * ebv)) - 41.27 + np.log10(0.63 / 0.67)
    low, middle, high = np.array([r["LOGSFR_HALPHA"] for r in recovered]).T
    assert np.median([r["EBV_BALMER"][1] for r in recovered]) == pytest.approx(ebv, abs=0.03)
    assert np.median(middle) == pytest.approx(rate, abs=0.03)
    assert 0.5 < np.mean((low < rate) & (rate < high)) < 0.86
    assert np.std(middle) == pytest.approx(np.median(high - low) / 2, rel=0.35)


def test_the_noise_models_templates_are_part_of_the_continuum(truth: np.ndarray, continuum: list[np.ndarray]) -> None:
    """Under the honest preset a 4 % ripple of the calibration is taken out, and errors allow for what is left of it."""
    honest = FitConfig(preset="honest", measure=CONFIG.measure)
    rng = np.random.default_rng(17)
    bent = [c * (1 + 0.04 * np.sin(s.wave / 400.0)) for s, c in zip(cameras(), continuum, strict=True)]
    found = [columns(posterior(truth, d, honest), d) for d in (mock(bent, FLUX, rng) for _ in range(16))]
    pulls = np.array([[(r[f"{n}_FLUX"][0] - f) / r[f"{n}_FLUX"][1] for n, f in FLUX.items()] for r in found])
    assert abs(pulls.mean()) < 0.3
    assert pulls.std() < 1.25
    assert np.median([r["HALPHA_FLUX"][1] for r in found]) < 0.15 * FLUX["HALPHA"]


def test_no_lines_are_no_lines(truth: np.ndarray, continuum: list[np.ndarray]) -> None:
    rng = np.random.default_rng(11)
    found = [columns(posterior(truth, data), data) for data in (mock(continuum, {}, rng) for _ in range(12))]
    pulls = np.array([[r[f"{n}_FLUX"][0] / r[f"{n}_FLUX"][1] for n in FLUX] for r in found])
    assert abs(pulls.mean()) < 0.35
    assert pulls.std() == pytest.approx(1.0, abs=0.2)
    assert np.mean([np.isnan(r["LINE_SIGMA"][0]) for r in found]) > 0.8
    assert np.isnan(found[0]["LOGSFR_HALPHA"]).all()


def test_a_covered_line_is_null(truth: np.ndarray, continuum: list[np.ndarray]) -> None:
    data = mock(continuum, FLUX, np.random.default_rng(5))
    blue, red = data.spectra
    near = np.abs(red.wave - 6564.6 * (1 + Z)) < 4.0
    holed = replace(data, spectra=(blue, replace(red, ivar=np.where(near, 0.0, red.ivar))))
    found = columns(posterior(truth, holed), holed)
    assert np.isnan(found["HALPHA_FLUX"]).all()
    assert np.isnan(found["LOGSFR_HALPHA"]).all()
    assert found["NII_6584_FLUX"][0] == pytest.approx(FLUX["NII_6584"], abs=4 * found["NII_6584_FLUX"][1])
    bands = Observation(Z, (), Photometry(("decam2014-r",), [10.0], [4.0]), targetid=9)
    assert np.isnan(columns(posterior(truth, bands), bands)["HBETA_FLUX"]).all()


def test_no_dust_below_the_intrinsic_ratio() -> None:
    draws = np.ones(4)
    lines = {
        "HALPHA": Line(20.0, 1.0, 1.0, 0.1, 20 * draws, 1.0),
        "HBETA": Line(10.0, 0.5, 1.0, 0.1, 10 * draws, 0.5),
    }
    ebv, rate = star_formation(lines, draws, 1e27, np.random.default_rng(0))
    assert ebv is not None
    assert rate is not None
    assert ebv.max() == 0.0
    faint = {**lines, "HBETA": lines["HBETA"]._replace(flux_err=4.0)}
    assert star_formation(faint, draws, 1e27, np.random.default_rng(0)) == (None, None)


def test_extinction_at_balmer_lines() -> None:
    """Cardelli, Clayton & Mathis (1989, ApJ 345, 245), equations 1, 3a and 3b, at vacuum wavelengths."""
    a = [1.0, 0.17699, -0.50447, -0.02427, 0.72085, 0.01979, -0.77530, 0.32999]
    b = [0.0, 1.41338, 2.28305, 1.07233, -5.38434, -0.62251, 5.30260, -2.09002]
    for wave, k in ((6564.6, K_HALPHA), (4862.7, K_HBETA)):
        y = 1e4 / wave - 1.82
        assert 3.1 * (np.polyval(a[::-1], y) + np.polyval(b[::-1], y) / 3.1) == pytest.approx(k, abs=0.005)
