"""Fit quality: p-values are uniform where the model is right and reject where it is not; flags, edges and words."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from provabgs.catalog import Catalog, write_catalog
from provabgs.catalog.columns import STANDARD
from provabgs.catalog.records import to_block, to_posteriors
from provabgs.catalog.standard_columns import FIT_QUALITY
from provabgs.cli.report import print_fits
from provabgs.core.status import Status
from provabgs.inference.binned_spectrum import bin_starts
from provabgs.inference.config import FitConfig
from provabgs.inference.fit import Fitted
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.flags import DESCRIPTIONS, Flag, edges_of, flags_of, in_words
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.posterior import Posterior
from provabgs.inference.prior_edge import EDGE_FRACTION, edge_fractions
from provabgs.inference.quality import (
    Quality,
    assess,
    bands_tension,
    coefficient_size,
    largest_window,
    sigmas,
)
from provabgs.inference.standard import PARAMETERS
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import Projection, project
from provabgs.pipelines.dry_run import synthetic_posterior
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from tests.support.engine_mocks import mock
from tests.support.small_library import small_library, theta

Z = 0.1
BANDS = ("decam2014-g", "decam2014-r", "decam2014-z")
MODEL = SPSModel(small_library())
TRUTH = theta(fburst=0.1, tburst=2.0, tau_ism=0.4, n_dust=-0.5, f_fiber=0.6)


# ---- p-values --------------------------------------------------------------------------------------------------------


def projection(noise: tuple[str, ...] = ("floor", "camera-calibration", "fiber-colour")) -> Projection:
    """A galaxy of two cameras and three bands, S/N 20, whose templates the data determine."""
    cameras = []
    for camera, wave in (("b", np.arange(3700.0, 5600.0, 4.0)), ("r", np.arange(5650.0, 7400.0, 4.0))):
        cameras.append(Spectrum(camera, wave, np.ones(wave.size), np.ones(wave.size), sigma_aa=2.0))
    blank = Observation(Z, tuple(cameras), Photometry(BANDS, np.ones(3), np.ones(3)))
    bare = ObservingOptions(line_mask="none", noise=())
    pixels, bands = ExactLikelihood(project(blank, MODEL.library, bare), MODEL).predict(TRUTH)
    parts = np.split(pixels[0], [cameras[0].wave.size])
    cameras = [
        replace(s, flux=flux, ivar=np.full(flux.size, (20 / np.median(pixels)) ** 2))
        for s, flux in zip(cameras, parts, strict=True)
    ]
    data = Observation(Z, tuple(cameras), Photometry(BANDS, bands[0], (0.03 * bands[0]) ** -2))
    return project(data, MODEL.library, ObservingOptions(line_mask="none", noise=noise))


def replicate(p: Projection, exact: ExactLikelihood, rng: np.random.Generator, excess: float = 1.0) -> Projection:
    """The galaxy with data drawn from the model at the truth under the whole covariance, `excess` times the errors."""
    coefficients = excess * rng.standard_normal(len(p.template_terms))
    sides = []
    for side, model in zip((p.spectrum, p.photometry), exact.predict(TRUTH), strict=True):
        noise = excess * rng.standard_normal(model[0].size) / np.sqrt(side.ivar)
        sides.append(replace(side, flux=model[0] + noise + side.templates @ coefficients))
    return replace(p, spectrum=sides[0], photometry=sides[1])


def p_values(excess: float, n: int = 150) -> dict[str, np.ndarray]:
    """Every p-value of `Quality` at the true theta, for n draws of the data."""
    base, rng = projection(), np.random.default_rng(5)
    exact, found = ExactLikelihood(base, MODEL), []
    model = exact.predict(np.repeat(TRUTH, 3, axis=0))
    for _ in range(n):
        drawn = ExactLikelihood(replicate(base, exact, rng, excess), MODEL)
        drawn.predict = lambda t, m=model: tuple(side[: len(t)] for side in m)  # type: ignore[method-assign]
        found.append(assess(drawn, np.repeat(TRUTH, 3, axis=0), TRUTH[0])[0])
    out = {name: np.array([getattr(q, name) for q in found]) for name in ("p_spec", "p_spec_binned", "p_phot")}
    out["calibration_p"] = np.array([q.calibration_p for q in found])
    out["fiber_colour_p"] = np.array([q.fiber_colour_p for q in found])
    return out | {"tension": 2 * stats.norm.sf([q.tension for q in found])}


def test_p_values_are_uniform_where_the_model_is_right() -> None:
    for name, values in p_values(1.0).items():
        assert stats.kstest(values, "uniform").pvalue > 0.01, name


def test_p_values_reject_errors_twice_as_large_as_the_noise_model_says() -> None:
    """The statistical test's wrong fixture: every number notices."""
    for name, values in p_values(2.0).items():
        assert stats.kstest(values, "uniform").pvalue < 1e-6, name
        assert np.median(values) < 0.2, name


def test_bins_hold_pixels_of_one_camera() -> None:
    starts = bin_starts(("b",) * 20 + ("r",) * 9)
    assert starts.tolist() == [0, 8, 16, 20, 28]
    assert bin_starts(("b",) * 3).tolist() == [0]


def smoothed(n: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Unit noise that `width` neighbours share."""
    return np.convolve(rng.standard_normal(n + width - 1), np.ones(width), "valid") / np.sqrt(width)


def test_bins_see_what_pixels_do_not() -> None:
    """Noise shared by neighbours, of half the errors' variance, as SDSS's; with and without wide structure."""
    base = projection()
    exact = ExactLikelihood(base, MODEL)
    model = tuple(np.repeat(m[:1], 3, axis=0) for m in exact.predict(np.repeat(TRUTH, 3, axis=0)))
    rng, spectrum, p = np.random.default_rng(11), base.spectrum, {}
    assert spectrum is not None
    n = spectrum.flux.size
    for structure in (0.0, 0.6):
        noise = np.sqrt(0.55) * smoothed(n, 2, rng) + structure * smoothed(n, 16, rng)
        flux = model[0][0] + spectrum.templates @ rng.standard_normal(spectrum.templates.shape[1])
        data = replace(base, spectrum=replace(spectrum, flux=flux + noise / np.sqrt(spectrum.ivar)))
        drawn = ExactLikelihood(data, MODEL)
        drawn.predict = lambda t: tuple(side[: len(t)] for side in model)  # type: ignore[method-assign]
        p[structure] = assess(drawn, np.repeat(TRUTH, 3, axis=0), TRUTH[0])[0]
    assert p[0.0].p_spec > 0.99
    assert 0.01 < p[0.0].p_spec_binned < 0.99
    assert p[0.6].p_spec > 0.01
    assert p[0.6].p_spec_binned < 1e-6


def test_numbers_are_unknown_where_there_are_no_data() -> None:
    whole = projection()
    for lacking, absent in (
        ("photometry", ("p_phot", "tension")),
        ("spectrum", ("p_spec", "p_spec_binned", "tension", "residual")),
    ):
        q = assess(ExactLikelihood(replace(whole, **{lacking: None}), MODEL), np.repeat(TRUTH, 3, axis=0), TRUTH[0])[0]
        assert all(np.isnan(getattr(q, name)) for name in absent)
        assert np.isfinite(q.p_phot if lacking == "spectrum" else q.p_spec)
        assert np.isnan(q.template_rms)
    none = assess(ExactLikelihood(projection(("floor",)), MODEL), np.repeat(TRUTH, 3, axis=0), TRUTH[0])[0]
    assert np.isnan(none.calibration_rms)
    assert np.isfinite(none.tension)


def test_sigmas_of_a_chi2() -> None:
    assert sigmas(9.0, 1) == pytest.approx(3.0)
    assert sigmas(stats.chi2.isf(2 * stats.norm.sf(5.0), 5), 5) == pytest.approx(5.0)
    # beyond double precision: monotonic and near the square root
    far = [sigmas(x, 5) for x in (1300.0, 1600.0, 3000.0, 1e6)]
    assert np.all(np.diff(far) > 0)
    assert far[-1] == pytest.approx(1000.0, rel=1e-2)
    assert sigmas(0.0, 3) == pytest.approx(0.0, abs=1e-9)


def test_tension_is_that_of_a_fit_without_the_bands() -> None:
    """Linear model, Gaussian prior: bands against the prediction of a fit that never saw them."""
    rng = np.random.default_rng(3)
    spectrum, bands = rng.standard_normal((30, 4)), rng.standard_normal((3, 4))
    truth = rng.standard_normal(4)
    d_s = spectrum @ truth + rng.standard_normal(30)
    d_b = bands @ truth + rng.standard_normal(3) + [4.0, 0.0, -4.0]
    alone = np.linalg.inv(np.eye(4) + spectrum.T @ spectrum)
    innovation = d_b - bands @ (alone @ spectrum.T @ d_s)
    expected = innovation @ np.linalg.solve(np.eye(3) + bands @ alone @ bands.T, innovation)
    joint = np.linalg.inv(np.linalg.inv(alone) + bands.T @ bands)
    mean = joint @ (spectrum.T @ d_s + bands.T @ d_b)
    draws = rng.multivariate_normal(mean, joint, 100_000)
    got = bands_tension(d_b - draws @ bands.T)
    assert got == pytest.approx(sigmas(expected, 3), rel=0.01)
    assert got > 4


def test_bands_that_nothing_predicts_have_no_tension() -> None:
    assert np.isnan(bands_tension(np.random.default_rng(1).standard_normal((5000, 2)) + 3))


def test_coefficients_that_data_do_not_determine_do_not_count() -> None:
    known, unknown = 0.01, 0.99
    rms, p = coefficient_size(np.array([[3.0, -3.0, 0.01]] * 2), np.diag([known, known, unknown]))
    assert rms == pytest.approx(3.0, rel=0.01)
    assert p == pytest.approx(stats.chi2.sf(18 / 0.99, 2))
    assert np.isnan(coefficient_size(np.zeros((2, 2)), np.diag([unknown, unknown]))).all()


def test_probabilities_of_coefficients_are_uniform_and_would_not_be_at_the_best_fit() -> None:
    """A linear model, data with templates and noise drawn: theta of the best fit takes up some of the templates."""
    rng = np.random.default_rng(9)
    templates = rng.standard_normal((200, 6))
    model = templates[:, :4] + 0.1 * rng.standard_normal((200, 4))
    covariance = np.linalg.inv(np.eye(6) + templates.T @ templates)
    whole = np.linalg.inv(np.eye(200) + templates @ templates.T)
    theta_covariance = np.linalg.inv(model.T @ whole @ model)
    root = np.linalg.cholesky(theta_covariance)
    found, at_best = [], []
    for _ in range(400):
        data = templates @ rng.standard_normal(6) + rng.standard_normal(200)
        best = theta_covariance @ model.T @ whole @ data
        drawn = best + rng.standard_normal((127, 4)) @ root.T
        means = (data - np.vstack([best, drawn]) @ model.T) @ templates @ covariance
        found.append(coefficient_size(means[1:], covariance)[1])
        at_best.append(coefficient_size(means[[0, 0]], covariance)[1])
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert stats.kstest(at_best, "uniform").pvalue < 1e-6
    assert np.mean(at_best) > 0.55


def test_the_largest_residual_is_found_with_its_sign() -> None:
    rng = np.random.default_rng(2)
    wave = np.concatenate([np.arange(3600.0, 5800.0, 0.8), np.arange(5760.0, 7600.0, 0.8)])
    noise = rng.standard_normal(wave.size) * 0.5
    ivar = np.full(wave.size, 4.0)
    quiet, _ = largest_window(wave, noise, ivar, 50.0)
    assert abs(quiet) < 4.5
    dip = np.where(np.abs(wave - 5180) < 25, -0.6, 0.0)
    size, centre = largest_window(wave, noise + dip, ivar, 50.0)
    assert size == pytest.approx(-0.6 / 0.5 * np.sqrt(50 / 0.8), abs=3)
    assert centre == pytest.approx(5180, abs=10)
    # a few pixels at the edge of a mask are no window
    gap = (wave < 5170) | (wave > 5200)
    lonely = np.abs(wave - 4000) > 60
    lonely |= np.abs(wave - 4000) < 2
    spike = np.where(np.abs(wave - 4000) < 2, 50.0, 0.0)
    _, where = largest_window(wave[lonely & gap], (noise + spike)[lonely & gap], ivar[lonely & gap], 50.0)
    assert abs(where - 4000) > 60


# ---- edges of the prior ----------------------------------------------------------------------------------------------


def unit_draws(n: int = 1000, **given: np.ndarray) -> np.ndarray:
    """Draws of the prior, but for the coordinates given."""
    unit = np.random.default_rng(4).uniform(size=(n, len(PARAMETERS.coordinates)))
    for name, values in given.items():
        unit[:, PARAMETERS.coordinates.index(name)] = values
    return unit


def alarms(**given: np.ndarray) -> set[str]:
    return {k for k, share in edge_fractions(unit_draws(**given), PARAMETERS).items() if share > EDGE_FRACTION}


def test_a_young_burst_is_no_alarm() -> None:
    """10.0-10.5 Myr, at the low end of a prior that is flat to 13 Gyr: nature's own edge."""
    gyr = 0.010 + 5e-4 * np.random.default_rng(1).uniform(size=1000)
    low, high = PARAMETERS["tburst"].bounds
    unit = (gyr - low) / (high - low)
    assert np.all(unit < 0.01)
    assert alarms(tburst=unit) == set()
    assert alarms(tau_ism=unit, fburst=1 - unit, x_beta1=1 - unit) == set()
    assert alarms(tburst=1 - unit, tau_ism=1 - unit) == {"tburst", "tau_ism"}


@pytest.mark.parametrize("side", ["low", "high"])
def test_a_truth_beyond_the_prior_is_an_alarm(side: str) -> None:
    """Truncated Gaussians whose means lie outside, wide and narrow."""
    rng = np.random.default_rng(2)
    for mean, width in ((-0.02, 0.02), (-0.5, 0.2), (-0.001, 0.0005), (0.0, 0.03)):
        distance = stats.truncnorm.rvs(-mean / width, np.inf, mean, width, size=1000, random_state=rng)
        assert alarms(logmstar=distance if side == "low" else 1 - distance) == {"logmstar"}


def test_a_posterior_that_ends_before_the_edge_is_no_alarm() -> None:
    rng = np.random.default_rng(2)
    for mean, width in ((0.004, 0.001), (0.02, 0.005), (0.002, 0.0004)):
        assert alarms(n_dust=np.abs(rng.normal(mean, width, 1000))) == set()
    assert alarms() == set()


# ---- flags and words -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good() -> Posterior:
    return replace(
        synthetic_posterior(1, np.random.default_rng(1), 50),
        chi2_spec=7050.0,
        quality=Quality(0.3, 0.2, 0.6, tension=0.7, residual=3.1, residual_wave=5180, residual_width=50),
    )


def with_quality(posterior: Posterior, **numbers: float) -> Posterior:
    return replace(posterior, quality=replace(posterior.quality, **numbers))


def test_each_flag_has_its_cause(good: Posterior) -> None:
    assert flags_of(good) == 0
    causes = {
        Flag.SPEC_MISFIT: with_quality(good, p_spec_binned=1e-4),
        Flag.PHOT_MISFIT: with_quality(good, p_phot=1e-4),
        Flag.TENSION: with_quality(good, tension=4.5),
        Flag.TEMPLATE_LARGE: with_quality(good, template_p=1e-4),
        Flag.CALIBRATION_LARGE: with_quality(good, fiber_colour_p=1e-4),
        Flag.PRIOR_EDGE: replace(good, prior_edge={"tau_ism": 0.3}),
        Flag.NOT_CONVERGED: replace(good, status=Status.NOT_CONVERGED),
        Flag.RESIDUAL: with_quality(good, residual=-7.0),
        Flag.OUTLIERS: replace(good, quality=replace(good.quality, clipped=np.arange(200.0))),
        Flag.NO_POSTERIOR | Flag.NOT_CONVERGED: Posterior(1, 0.1, Status.UNOBSERVED, "no exposure"),
    }
    for flag, posterior in causes.items():
        assert flags_of(posterior) == flag
    assert flags_of(with_quality(good, calibration_p=1e-4)) == Flag.CALIBRATION_LARGE
    assert set(DESCRIPTIONS) == set(Flag)


def test_errors_of_pixels_three_per_cent_too_small_are_no_misfit(good: Posterior) -> None:
    pixels, bins = (float(stats.chi2.sf(1.06 * n, n)) for n in (7000, 875))
    assert pixels < 1e-3
    assert flags_of(replace(with_quality(good, p_spec=pixels, p_spec_binned=bins), chi2_spec=1.06 * 7000)) == 0


def test_words_say_what_does_not_fit(good: Posterior) -> None:
    assert in_words(good)[0] == "FLAG 0: fits the data."
    bad = replace(
        with_quality(good, p_phot=1e-7, tension=5.4, residual=6.2, template_rms=2.3, template_p=3e-6),
        chi2_phot=41.0,
        prior_edge={"tau_ism": 0.34, "n_dust": 0.01},
    )
    text = "\n".join(in_words(bad))
    assert "FLAG 174, PHOT_MISFIT + TENSION + TEMPLATE_LARGE + PRIOR_EDGE + RESIDUAL" in text
    pixels = "Spectrum: chi2 7050 over 7000 pixels, p = 0.30 (in bins of 8, p = 0.20)"
    assert f"{pixels}; largest residual at 5180 A (rest), +6.2 sigma" in text
    assert "Bands: chi2 41.0 over 5, p = 1e-7; 5.4 sigma from what the spectrum predicts." in text
    assert "template error 2.3, p = 3e-6." in text
    assert "Draws pile up at an edge of the prior: tau_ism 34%." in text
    assert edges_of(bad) == {"tau_ism": 0.34}
    assert in_words(Posterior(1, 0.1, Status.UNOBSERVED, "no exposure")) == []


def test_the_terminal_says_so(good: Posterior, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = with_quality(good, p_phot=1e-7)
    print_fits([Fitted(bad, None)], tmp_path / "a.h5")
    one = capsys.readouterr().out
    assert all(line in one for line in in_words(bad))
    print_fits([Fitted(bad, None), Fitted(good, None), Fitted(bad, None)], tmp_path / "a.h5")
    assert "FLAG: 2 PHOT_MISFIT\n" in capsys.readouterr().out


# ---- in catalogs -----------------------------------------------------------------------------------------------------


def test_every_number_is_a_column_with_a_description(good: Posterior) -> None:
    numbers = {f.name.upper() for f in fields(Quality)} - {"CLIPPED"}
    assert {c.name for c in FIT_QUALITY} == numbers | {"FLAG", "N_CLIPPED"}
    assert all(c.description for c in FIT_QUALITY)
    assert all(STANDARD.by_name[c.name] == c for c in FIT_QUALITY)


def test_a_catalog_keeps_and_queries_quality(good: Posterior, tmp_path: Path) -> None:
    clipped = np.array([3600.0, 5893.6, 9824.0])
    bad = replace(good, targetid=2, quality=replace(good.quality, p_phot=1e-5, clipped=clipped, template_rms=1.5))
    none = Posterior(3, 0.1, Status.UNOBSERVED, "no exposure", config=good.config)
    write_catalog(tmp_path, [good, bad, none], allow_mixed=True)
    with Catalog.open(tmp_path) as catalog:
        assert catalog.select("FLAG == 0").table(["TARGETID"])["TARGETID"].tolist() == [1]
        assert catalog.select("FLAG & 3 == 2").table(["TARGETID"])["TARGETID"].tolist() == [2]
        table = catalog.arrow(["TARGETID", "N_CLIPPED", "TEMPLATE_RMS", "P_PHOT", "FLAG"]).to_pylist()
    rows = {r["TARGETID"]: r for r in table}
    assert rows[1]["TEMPLATE_RMS"] is None
    assert (rows[2]["N_CLIPPED"], rows[2]["TEMPLATE_RMS"], rows[2]["P_PHOT"]) == (3, 1.5, 1e-5)
    assert (rows[3]["P_PHOT"], rows[3]["FLAG"]) == (None, Flag.NO_POSTERIOR | Flag.NOT_CONVERGED)
    back = {p.targetid: p.quality for p in to_posteriors(to_block([good, bad, none]))}
    np.testing.assert_array_equal(back[2].clipped, clipped)
    assert back[1].clipped.size == 0
    assert back[2].residual_wave == 5180
    assert flags_of(replace(bad, quality=back[2])) == flags_of(bad) == Flag.PHOT_MISFIT


# ---- whole fits ------------------------------------------------------------------------------------------------------


def test_a_mock_of_the_model_itself_is_not_flagged_and_a_spoilt_one_is(library: SSPLibrary) -> None:
    """Default fit; the same data with ripples of 15 % and another z band, judged by photon noise and floors alone."""
    rng = np.random.default_rng(8)
    truth = theta(logmstar=10.5, fburst=0.05, tburst=4.0, tau_bc=0.6, tau_ism=0.4, n_dust=-0.3, f_fiber=0.5)[0]
    observation = mock(SPSModel(library), truth, 0.12, 8.0, rng, cameras="r")
    posterior = fit_observation(observation, FitConfig(), seed=1)
    assert posterior.status == Status.CONVERGED
    assert flags_of(posterior) == 0, in_words(posterior)
    assert 0.01 < posterior.quality.p_spec < 0.99
    assert posterior.quality.tension < 3
    phot = observation.photometry
    assert phot is not None
    spoilt = replace(
        observation,
        spectra=tuple(replace(s, flux=s.flux * (1 + 0.15 * np.sin(s.wave / 60))) for s in observation.spectra),
        photometry=replace(phot, flux=phot.flux * [1, 1, 1.3, 1, 1]),
    )
    exact = ExactLikelihood(project(spoilt, library), SPSModel(library))
    drawn = posterior.parameters.select(posterior.samples, exact.parameters)
    best = posterior.parameters.select(posterior.best_fit[None], exact.parameters)
    chi2_spec, chi2_phot = (float(c[0]) for c in exact.chi2(best))
    wrong = replace(
        posterior,
        chi2_spec=chi2_spec,
        chi2_phot=chi2_phot,
        quality=assess(exact, drawn, best[0])[0],
    )
    assert flags_of(wrong) == Flag.SPEC_MISFIT | Flag.PHOT_MISFIT | Flag.TENSION | Flag.RESIDUAL
    assert np.isfinite(wrong.quality.tension)
