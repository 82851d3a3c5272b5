"""The mass function on synthetic surveys of known truth: unbiased, calibrated, and estimators that must fail do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from provabgs.core.errors import InputError
from provabgs.population.survey.log_spline import fit_log_spline, schechter_difference
from provabgs.population.survey.mass_function import (
    BALDRY_2012,
    completeness_limit,
    mass_function,
    stacked_mass_function,
)
from provabgs.population.survey.posterior_grid import posterior_grid
from provabgs.population.survey.sky_regions import sky_regions
from provabgs.population.survey.volume import SurveyVolume
from tests.support.synthetic_survey import SurveyRecipe, SyntheticSurvey, make_survey, true_mass_function

EDGES = np.linspace(9.4, 11.4, 6)
RECIPE = SurveyRecipe(survey=SurveyVolume(6.0, 0.01, 0.3), n_draw=60)


@pytest.fixture(scope="module")
def survey() -> SyntheticSurvey:
    return make_survey(RECIPE, np.random.default_rng(5))


def test_surveys_are_what_they_say(survey: SyntheticSurvey) -> None:
    """With true masses in place of posteriors, 1/Vmax must give the truth back."""
    truth = true_mass_function(RECIPE, EDGES)
    exact = stacked_mass_function(survey.true_log_mass[:, None], survey.volumes.inverse, EDGES)
    pull = np.log(exact.phi / truth) / exact.log_sigma
    assert np.all(np.abs(pull) < 3.5)
    assert np.all(survey.volumes.z_max[:, 0] > survey.redshift - 1e-3)
    assert exact.phi @ np.diff(EDGES) == pytest.approx(
        survey.volumes.inverse[(survey.true_log_mass >= 9.4) & (survey.true_log_mass < 11.4)].sum(), rel=0.02
    )


def test_coverage_and_the_estimators_that_must_fail() -> None:
    """A small version of studies/mass_function_coverage.py."""
    truth = true_mass_function(RECIPE, EDGES)
    within: dict[str, list[np.ndarray]] = {"deconvolved": [], "stacked": [], "no Vmax": []}
    pulls = []
    for k in range(16):
        s = make_survey(RECIPE, np.random.default_rng([11, k]))
        found = {
            "deconvolved": mass_function(s.log_mass, s.volumes.inverse, EDGES),
            "stacked": stacked_mass_function(s.log_mass, s.volumes.inverse, EDGES),
            "no Vmax": mass_function(s.log_mass, np.full(len(s), 1 / RECIPE.survey.total), EDGES),
        }
        assert found["deconvolved"].spline is not None
        assert found["deconvolved"].spline.converged
        for name, result in found.items():
            low, high = result.interval(0.95)
            within[name].append((low < truth) & (truth < high))
        pulls.append(np.log(found["deconvolved"].phi / truth) / found["deconvolved"].log_sigma)
    share = {name: float(np.mean(v)) for name, v in within.items()}
    assert share["deconvolved"] > 0.87
    assert np.all(np.abs(np.mean(pulls, axis=0)) < 1.0)  # four standard errors of a mean of 16
    assert 0.55 < float(np.mean(np.abs(pulls) < 1)) < 0.88
    assert share["stacked"] < 0.75
    assert share["no Vmax"] < 0.5


def test_stacking_makes_too_many_massive_galaxies(survey: SyntheticSurvey) -> None:
    edges = np.array([11.2, 11.6])
    truth = true_mass_function(RECIPE, edges)[0]
    assert stacked_mass_function(survey.log_mass, survey.volumes.inverse, edges).phi[0] > 1.4 * truth
    result = mass_function(survey.log_mass, survey.volumes.inverse, edges)
    assert abs(np.log(result.phi[0] / truth)) < 3 * result.log_sigma[0]


def test_weights_scale_the_density_not_its_relative_error(survey: SyntheticSurvey) -> None:
    plain = mass_function(survey.log_mass, survey.volumes.inverse, EDGES)
    doubled = mass_function(survey.log_mass, survey.volumes.inverse, EDGES, weight=np.full(len(survey), 2.0))
    np.testing.assert_allclose(doubled.phi, 2 * plain.phi, rtol=1e-4)
    np.testing.assert_allclose(doubled.log_sigma, plain.log_sigma, rtol=1e-4)
    half = np.random.default_rng(0).random(len(survey)) < 0.5
    thinned = mass_function(survey.log_mass[half], survey.volumes.inverse[half], EDGES, np.full(half.sum(), 2.0))
    np.testing.assert_allclose(thinned.log_sigma, np.sqrt(2) * plain.log_sigma, rtol=0.35)


def test_the_whole_density_has_the_sum_of_the_weights(survey: SyntheticSurvey) -> None:
    grid = posterior_grid(survey.log_mass)
    spline = fit_log_spline(grid, survey.volumes.inverse)
    total = np.exp(spline.log_density(grid.centre)).sum() * grid.step
    assert total == pytest.approx(survey.volumes.inverse.sum(), rel=1e-5)
    draws = spline.sample(np.random.default_rng(0), 4000)
    at = spline.basis([10.0, 11.0])
    np.testing.assert_allclose((draws @ at.T).std(axis=0), spline.log_sigma([10.0, 11.0]), rtol=0.05)


def test_the_inference_prior_is_divided_out() -> None:
    """Posteriors made under p0 ~ 10^(-m), divided by it, give the density that flat-prior posteriors give."""
    rng = np.random.default_rng(2)
    n, sigma = 1500, 0.2
    mass = 10 + 0.4 * rng.standard_normal(n)
    centre = mass + sigma * rng.standard_normal(n)
    shifted = centre - np.log(10) * sigma**2  # a Gaussian times 10^(-m) is the Gaussian moved down
    draws = shifted[:, None] + sigma * rng.standard_normal((n, 200))
    edges, w = np.array([9.2, 9.6, 10.0, 10.4, 10.8]), np.full(n, 1 / n)
    expected = np.histogram(mass, edges)[0] / n / np.diff(edges)
    right = mass_function(draws, w, edges, log_prior=-np.log(10) * draws)
    wrong = mass_function(draws, w, edges)
    assert np.all(np.abs(np.log(right.phi / expected)) < 3 * right.log_sigma)
    assert np.any(np.abs(np.log(wrong.phi / expected)) > 4 * wrong.log_sigma)


def test_errors_from_the_sky_are_those_of_an_explicit_jackknife() -> None:
    recipe = replace(RECIPE, clumping=0.5, cells=(4, 4))
    s = make_survey(recipe, np.random.default_rng(3))
    w = s.volumes.inverse
    quick = mass_function(s.log_mass, w, EDGES, regions=s.cell)
    n = 16
    left_out = [mass_function(s.log_mass[s.cell != r], w[s.cell != r] * n / (n - 1), EDGES).phi for r in range(n)]
    explicit = np.sqrt((n - 1) * np.log(left_out).var(axis=0))
    np.testing.assert_allclose(quick.log_sigma, explicit, rtol=0.3)
    poisson = mass_function(s.log_mass, w, EDGES)
    np.testing.assert_allclose(quick.phi, poisson.phi, rtol=1e-9)
    assert np.median(quick.log_sigma / poisson.log_sigma) > 1.3  # clumps show


def test_sky_regions_cover_the_footprint_evenly() -> None:
    s = make_survey(replace(RECIPE, survey=SurveyVolume(20.0, 0.01, 0.3), n_draw=1), np.random.default_rng(4))
    regions = sky_regions(s.ra, s.dec, 12, np.random.default_rng(0))
    assert regions.area_fraction.sum() == pytest.approx(1)
    assert regions.label.max() == 11
    counts = np.bincount(regions.label) / len(s)
    np.testing.assert_allclose(counts, regions.area_fraction, rtol=0.25)  # no clumps: density is even
    # compact: the farthest galaxy of a region is much nearer than the footprint's size
    spread = [np.hypot(s.ra[regions.label == r].std(), s.dec[regions.label == r].std()) for r in range(12)]
    assert max(spread) < 0.5 * np.hypot(s.ra.std(), s.dec.std())
    with pytest.raises(InputError, match="no position"):
        sky_regions([1.0, np.nan], [0.0, 0.0], 2, np.random.default_rng(0))
    with pytest.raises(InputError, match="too few for 50"):
        sky_regions(s.ra[:60], s.dec[:60], 50, np.random.default_rng(0))


def test_empty_bins_are_nan_and_few_is_flagged(survey: SyntheticSurvey) -> None:
    edges = np.array([5.0, 5.5, 10.0, 10.5, 13.5, 14.0])
    for result in (
        mass_function(survey.log_mass, survey.volumes.inverse, edges),
        stacked_mass_function(survey.log_mass, survey.volumes.inverse, edges),
    ):
        assert np.isnan(result.phi[[0, 4]]).all()
        assert np.isfinite(result.phi[1:4]).all()
        assert result.few.tolist()[0::4] == [True, True]
        assert not result.few[2]
        assert np.isnan(result.interval()[0][0])


def test_unusable_input_is_named() -> None:
    draws = 10 + 0.1 * np.random.default_rng(0).standard_normal((50, 20))
    w = np.full(50, 1e-4)
    bad = w.copy()
    bad[7] = 0.0
    with pytest.raises(InputError, match=r"galaxy 7 is 0 \(1 of 50"):
        mass_function(draws, bad, EDGES)
    bad[3] = np.nan
    with pytest.raises(InputError, match=r"galaxy 3 is nan \(2 of 50"):
        stacked_mass_function(draws, bad, EDGES)
    lost = draws.copy()
    lost[4] = np.nan
    with pytest.raises(InputError, match="galaxy 4 of 50 has no finite draw"):
        mass_function(lost, w, EDGES)
    with pytest.raises(InputError, match="increasing"):
        mass_function(draws, w, EDGES[::-1])
    with pytest.raises(InputError, match="at least two regions"):
        mass_function(draws, w, EDGES, regions=np.zeros(50, dtype=int))
    with pytest.raises(InputError, match="one 1/Vmax"):
        mass_function(draws, w[:10], EDGES)


def test_the_prior_knows_schechter_functions() -> None:
    m = np.arange(8, 12, 0.25)
    single = np.log(10 ** (-0.4 * (m - 10.7)) * np.exp(-(10 ** (m - 10.7))))
    assert np.abs(schechter_difference(m.size, 0.25) @ single).max() < 1e-10
    double = np.log(BALDRY_2012(m))
    assert np.abs(schechter_difference(m.size, 0.25) @ double).max() < 0.05
    bump = single + 2 * np.exp(-0.5 * ((m - 10) / 0.2) ** 2)
    assert np.abs(schechter_difference(m.size, 0.25) @ bump).max() > 0.5


def test_published_function_at_its_knee() -> None:
    # ln10 e^-1 (phi1 + phi2)
    assert float(BALDRY_2012(10.66)) == pytest.approx(np.log(10) * np.exp(-1) * 4.75e-3)


def test_completeness_limit_scales_with_light() -> None:
    mass = np.linspace(9, 11, 101)[:, None]
    margin = 2.5 * (mass - 8.3)  # one mass-to-light ratio: all just visible at 8.3
    assert completeness_limit(mass, margin, np.ones(101)) == pytest.approx(8.3)
    margin[:20] -= 1.0  # a fifth need 0.4 dex more
    assert completeness_limit(mass, margin, np.ones(101)) == pytest.approx(8.7)
    assert completeness_limit(mass, margin, np.ones(101), 0.5) == pytest.approx(8.3)
