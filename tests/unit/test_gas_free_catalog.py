"""Populations and surveys of a catalog whose fits had free gas parameters, one of them with narrower prior bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from scipy.optimize import brentq

from provabgs.catalog import Catalog, write_catalog
from provabgs.core.constants import SPECTRUM_UNIT
from provabgs.core.errors import InputError
from provabgs.core.jax import jnp
from provabgs.core.status import Status
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, ModelOptions
from provabgs.inference.posterior import Posterior
from provabgs.inference.prior_draws import draw_prior
from provabgs.mocks.score import TRUTH_COLUMNS, induced_priors
from provabgs.observe.cosmology import Cosmology
from provabgs.observe.filters import band_weights
from provabgs.population.density.reading import open_population
from provabgs.population.prior.corrected import correct_catalog
from provabgs.population.prior.draws import draw_properties, prior_of
from provabgs.population.prior.induced import InducedPrior
from provabgs.population.prior.max_entropy import MaxEntropyPrior
from provabgs.population.survey.draws import theta_of
from provabgs.population.survey.mass_function import mass_function
from provabgs.population.survey.sample import SurveySample, induced_log_prior, survey_sample
from provabgs.population.survey.selection import MagnitudeLimit
from provabgs.population.survey.tracks import MagnitudeTracks
from provabgs.population.survey.volume import SurveyVolume
from provabgs.sps.derived import derived_properties
from provabgs.sps.model import SPSModel

LOG_U, GAS_LOGZ = (-3.5, -3.0), (-1.5, -1.0)
CONFIG = FitConfig(model=ModelOptions(nebular=True, gas_free=True), prior_bounds={"log_u": LOG_U, "gas_logz": GAS_LOGZ})
BAND = "decam2014-g"
"""[O III] and H beta lie in it."""
SURVEY = SurveyVolume(100.0, 0.01, 0.4)
LIMIT = MagnitudeLimit(BAND, 19.5)
N, N_DRAW = 12, 32


@pytest.fixture(scope="module")
def model() -> SPSModel:
    return load_model(CONFIG.model)


@pytest.fixture(scope="module")
def posteriors(model: SPSModel) -> list[Posterior]:
    """Galaxies with starbursts, so that lines count in g, of prior draws in all but mass, burst and dust."""
    rng = np.random.default_rng(4)
    prior = prior_of(CONFIG, model)
    parameters = prior.parameters
    out = []
    for i in range(N):
        z = float(rng.uniform(0.03, 0.06))
        samples = draw_prior(prior, N_DRAW, rng)
        for name, value in {"fburst": 0.05, "tburst": 0.011, "tau_bc": 0.3, "tau_ism": 0.2, "n_dust": 0.0}.items():
            samples[:, parameters.index(name)] = value
        samples[:, parameters.index("logmstar")] = rng.uniform(8.2, 8.8) + 0.05 * rng.standard_normal(N_DRAW)
        stars = parameters.select(samples, model.parameters)
        derived = derived_properties(model, jnp.asarray(stars), model.tables(Cosmology().age_gyr(z)))
        out.append(
            Posterior(
                targetid=500 + i,
                redshift=z,
                status=Status.CONVERGED,
                parameters=parameters,
                properties=model.properties,
                samples=samples,
                log_prob=np.zeros(N_DRAW),
                derived={k: np.asarray(v) for k, v in derived.items()},
                best_fit=samples[0],
                best_fit_derived={k: float(v[0]) for k, v in derived.items()},
                ra=180.0 + i,
                dec=1.0,
                config=CONFIG.model_dump_json(),
            )
        )
    return out


@pytest.fixture(scope="module")
def root(posteriors: list[Posterior], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gas") / "catalog"
    write_catalog(path, posteriors, n_samples=None, encoding="float32")
    return path


@pytest.fixture(scope="module")
def sample(root: Path) -> SurveySample:
    """With the model that the catalog names."""
    with Catalog.open(root) as catalog:
        return survey_sample(catalog, LIMIT, SURVEY)


def z_max(model: SPSModel, posterior: Posterior, **others: float) -> np.ndarray:
    """``(ndraw,)`` roots of the magnitude limit, from spectra computed here; optionally at other parameters."""
    theta = posterior.parameters.select(posterior.samples, model.parameters).copy()
    for name, value in others.items():
        theta[:, model.parameters.index(name)] = value
    cosmology = Cosmology()
    spectra = np.asarray(model.spectrum(jnp.asarray(theta), model.tables(cosmology.age_gyr(posterior.redshift))))

    def margin(z: float, spectrum: np.ndarray) -> float:
        factor = model.library.lsun_cgs / (4 * np.pi * cosmology.luminosity_distance_cm(z) ** 2) / (1 + z)
        flux = factor / SPECTRUM_UNIT * (band_weights(BAND, model.library.wave * (1 + z)) @ spectrum)
        return 19.5 - float(22.5 - 2.5 * np.log10(flux))

    return np.array([brentq(margin, SURVEY.z_low, SURVEY.z_high, args=(s,), xtol=1e-6) for s in spectra])


def test_z_max_is_that_of_the_gas_that_was_fitted(
    model: SPSModel, posteriors: list[Posterior], sample: SurveySample
) -> None:
    """Against roots of spectra computed directly; the lines matter: with other gas z_max would be another."""
    assert len(sample) == N
    for i in (0, 5, 11):
        posterior = posteriors[sample.targetid[i] - 500]  # catalogs are in the order of the sky
        draws = z_max(model, posterior)
        right, expected = np.median(draws), np.mean(1 / SURVEY.within(draws))
        assert sample.inverse_volume[i] == pytest.approx(expected, rel=2e-3)
        # a column number beyond the array ended at f_fiber, which lies above both tables
        wrong = np.median(z_max(model, posterior, log_u=-1.0, gas_logz=0.5))
        assert abs(sample.z_max[i] - right) < 0.1 * abs(wrong - right)


def test_mass_function_of_direct_volumes(model: SPSModel, posteriors: list[Posterior], sample: SurveySample) -> None:
    direct = np.array([np.mean(1 / SURVEY.within(z_max(model, posteriors[t - 500]))) for t in sample.targetid])
    mass, edges = sample.draws["logmstar_surviving"], np.linspace(7.6, 8.8, 4)
    found, expected = (mass_function(mass, v, edges).phi for v in (sample.inverse_volume, direct))
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_prior_bounds_of_gas_reach_the_induced_prior(root: Path, sample: SurveySample) -> None:
    drawn = draw_properties(CONFIG, 0.05, 4000, np.random.default_rng(0))
    assert LOG_U[0] <= drawn["LOG_U"].min() < drawn["LOG_U"].max() <= LOG_U[1]
    prior = InducedPrior.build(("LOG_U",), CONFIG, z_range=(0.05, 0.05), n=20_000)
    values = np.linspace(-3.45, -3.05, 9)[None, :, None]
    np.testing.assert_allclose(prior.log_density(values, [0.05]), -np.log(np.ptp(LOG_U)), atol=0.3)
    with Catalog.open(root) as catalog:
        log_prior = induced_log_prior(catalog, sample, "logmstar_surviving", n=4000)
    assert log_prior is not None
    assert log_prior.shape == (N, N_DRAW)
    assert np.isfinite(log_prior).all()
    data = open_population(root, ["LOGSSFR_1GYR"], n_prior=4000)
    assert data.load().theta.shape == (N, N_DRAW, 1)


def test_corrected_prior(root: Path, model: SPSModel) -> None:
    limits = {"LOGSSFR_1GYR": (-11.5, -9.5)}
    prior = MaxEntropyPrior.build(("LOGSSFR_1GYR",), CONFIG, 0.05, n=20_000, limits=limits)
    drawn = prior.sample(np.random.default_rng(1), 200, batch=2000)
    assert drawn.shape == (200, 15)
    log_u = prior_of(CONFIG, model).parameters.get(drawn, "log_u")
    assert np.all((log_u > LOG_U[0]) & (log_u < LOG_U[1]))
    found = correct_catalog(root, ("LOGSSFR_1GYR",), prior=prior)
    assert len(found.table) == N
    assert np.all(np.asarray(found.table["N_EFFECTIVE"]) > 1)


def test_scores_of_mocks() -> None:
    priors = induced_priors(CONFIG, 0.05, n=2000)
    assert set(priors) == set(TRUTH_COLUMNS)
    assert all(np.isfinite(p(np.array([p.x[3]]))).all() for p in priors.values())


def test_draws_of_another_model_are_refused(model: SPSModel, posteriors: list[Posterior]) -> None:
    columns = {c: np.ones((2, 3)) for c in model.parameters.columns}
    assert theta_of(Table(columns), model).shape == (2, 3, model.parameters.size)
    with pytest.raises(InputError, match=r"no galaxy has draws of LOG_U: .*another SPS model"):
        theta_of(Table(columns | {"LOG_U": np.full((2, 3), np.nan)}), model)
    with pytest.raises(InputError, match="the samples lack LOG_U"):
        theta_of(Table({k: v for k, v in columns.items() if k != "LOG_U"}), model)
    tracks = MagnitudeTracks(model, (BAND,), np.array([0.1, 0.2]))
    with pytest.raises(InputError, match=r"draws has shape .* log_u"):
        tracks.magnitudes(posteriors[0].samples[None, :, :13], [0.1])
