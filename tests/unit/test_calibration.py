"""Calibration tests on posteriors whose calibration is known, and a small simulation-based calibration of the fits."""

from __future__ import annotations

import numpy as np
import pytest

from provabgs.core.errors import InputError
from provabgs.core.status import Status
from provabgs.inference.calibration import (
    biased,
    central_coverage,
    overconfident,
    ranks,
    tarp_ranks,
    uniformity,
)
from provabgs.inference.config import FitConfig, ModelOptions
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.standard import PARAMETERS
from provabgs.observe.observation import Observation, Photometry
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from provabgs.sps.model import SPSModel
from tests.support.parameters import STARS, prior_draws, stars_of
from tests.support.small_library import small_library

BANDS = ("decam2014-g", "decam2014-r", "decam2014-z")
N_GALAXY = 24


@pytest.fixture(scope="module")
def gaussian():
    """Correlated Gaussian posteriors of 400 draws for 600 galaxies, calibrated by construction."""
    rng = np.random.default_rng(0)
    n, factor = 600, np.array([[1.0, 0.0, 0.0], [0.8, 0.3, 0.0], [-0.5, 0.2, 2.0]])
    centre = 5 * rng.standard_normal((n, 3))
    truth = centre + rng.standard_normal((n, 3)) @ factor.T
    draws = centre[:, None] + rng.standard_normal((n, 400, 3)) @ factor.T
    return draws, truth, 5 * rng.standard_normal((n, 3))


def p_values(draws, truth, reference):
    rank = ranks(draws, truth)
    each = [uniformity(rank[:, i]).p_chi2 for i in range(3)]
    return [*each, uniformity(tarp_ranks(draws, truth, reference, np.ones(3))).p_chi2]


def test_calibrated_posteriors_pass(gaussian):
    draws, truth, reference = gaussian
    assert min(p_values(draws, truth, reference)) > 1e-3
    inside, sigma = central_coverage(ranks(draws, truth)[:, 0], 0.68)
    assert inside == pytest.approx(0.68, abs=3 * sigma)


@pytest.mark.parametrize("spoil", [overconfident, biased])
def test_wrong_posteriors_fail(gaussian, spoil):
    draws, truth, reference = gaussian
    assert max(p_values(spoil(draws), truth, reference)) < 1e-3


def test_tarp_sees_what_ranks_do_not(gaussian):
    """Draws shuffled among themselves per quantity: margins stay right, the correlation is gone."""
    draws, truth, _ = gaussian
    rng = np.random.default_rng(1)
    shuffled = np.stack([rng.permuted(draws[:, :, i], axis=1) for i in range(3)], axis=2)
    whiten = np.linalg.inv(np.cov((truth - draws.mean(axis=1))[:, :2].T))
    root = np.linalg.cholesky(whiten)
    x, t = shuffled[:, :, :2] @ root, truth[:, :2] @ root
    reference = x[:, 0] + 0.1 * rng.standard_normal((len(x), 2))
    assert uniformity(ranks(shuffled, truth)[:, 0]).p_chi2 > 1e-3
    assert uniformity(tarp_ranks(x, t, reference, np.ones(2))).p_chi2 < 1e-3


def test_shapes_that_do_not_match_are_named():
    with pytest.raises(InputError, match="do not match"):
        ranks(np.zeros((3, 10, 2)), np.zeros((3, 4)))


# ---- the fits themselves -----------------------------------------------------------------------------------------


def simulated(seed: int, model: SPSModel, config: FitConfig) -> tuple[Observation, np.ndarray]:
    """Truth from the prior, bands from the exact model, noise as the likelihood has it."""
    rng = np.random.default_rng([seed, 5])
    theta = prior_draws(1, rng)
    z = rng.uniform(0.05, 0.4)
    blank = Observation(z, (), Photometry(BANDS, np.ones(3), np.ones(3)))
    bands = ExactLikelihood(project(blank, model.library, config.observing), model).predict(theta)[1][0]
    sigma = bands * 10 ** rng.uniform(-2.0, -0.7)
    phot = Photometry(BANDS, bands + sigma * rng.standard_normal(3), sigma**-2.0)
    return Observation(z, (), phot, targetid=seed), theta[0]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    path = tmp_path_factory.mktemp("ssp") / "small.h5"
    small_library().save(path)
    observing = ObservingOptions(floor_optical=0.0)
    config = FitConfig(preset="published", model=ModelOptions(library=path), observing=observing, n_samples=400)
    model = SPSModel(small_library())
    pairs = [simulated(seed, model, config) for seed in range(N_GALAXY)]
    posteriors = [fit_observation(o, config, seed=2) for o, _ in pairs]
    assert [p.status for p in posteriors] == [Status.CONVERGED] * N_GALAXY
    assert all(p.parameters == PARAMETERS for p in posteriors)
    return np.stack([stars_of(p.samples) for p in posteriors]), np.stack([stars_of(t) for _, t in pairs])


def test_fits_are_calibrated(fitted):
    """One in a thousand may fail by chance: the seed is fixed."""
    draws, truth = fitted
    rank = ranks(draws, truth)
    assert min(uniformity(rank[:, i]).p_ks for i in range(rank.shape[1])) > 1e-3
    mass = STARS.get(rank, "logmstar")
    assert central_coverage(mass, 0.68)[0] == pytest.approx(0.68, abs=3 * central_coverage(mass, 0.68)[1])


@pytest.mark.parametrize(("factor", "shift"), [(0.25, 0.0), (1.0, 1.5)])
def test_spoilt_fits_are_not(fitted, factor, shift):
    draws, truth = fitted
    rank = ranks(biased(overconfident(draws, factor), shift), truth)
    assert uniformity(STARS.get(rank, "logmstar")).p_ks < 1e-3
