"""fit_observation: a bad galaxy becomes a STATUS, and a seed fixes the answer. Small library, tiny budgets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri

from provabgs.core.errors import ConfigError, DataFileError, UnusableTargetError
from provabgs.core.jax import jnp
from provabgs.core.status import Status
from provabgs.inference import fit_observation as fit_module
from provabgs.inference.backends import load_model
from provabgs.inference.config import FitConfig, ModelOptions, SamplerOptions
from provabgs.inference.fit import fit_one
from provabgs.inference.fit_observation import fit_observation, galaxy_rng
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.posterior import Posterior
from provabgs.inference.samplers import ensemble
from provabgs.inference.standard import PARAMETERS, PROPERTIES
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.projection import project
from provabgs.sps.model import SPSModel
from tests.support.parameters import N_THETA, column
from tests.support.small_library import BETAS, small_library, theta

Z = 0.1
BANDS = ("decam2014-g", "decam2014-r", "decam2014-z")


@pytest.fixture(scope="module")
def library_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("ssp") / "small.h5"
    small_library().save(path)
    return path


@pytest.fixture(scope="module")
def config(library_file) -> Iterator[FitConfig]:
    """One short look at a small ensemble: nothing converges, everything runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "CHUNK", 24)
        patch.setattr(ensemble, "N_WALKERS", 32)
        patch.setattr(ensemble, "N_ENSEMBLES", 2)
        yield tiny_config(library_file)


def tiny_config(library_file: Path) -> FitConfig:
    return FitConfig(
        preset="published",
        engine="exact",
        model=ModelOptions(library=library_file),
        sampler=SamplerOptions(name="emcee", max_eval=1),
        n_samples=50,
    )


@lru_cache(maxsize=1)
def mock() -> tuple[Spectrum, Photometry]:
    """A galaxy of 10^10 Msun: photometry and a coarse spectrum made by the model without noise."""
    model = SPSModel(small_library())
    wave = np.arange(4000.0, 7000.0, 25.0)
    blank = Observation(
        Z,
        (Spectrum("b", wave, np.ones(wave.size), np.ones(wave.size)),),
        Photometry(BANDS, np.ones(3), np.ones(3)),
    )
    truth = jnp.asarray(theta(fburst=0.1, tburst=2.0, tau_ism=0.4, n_dust=-0.5, f_fiber=0.6))
    projection = project(blank, model.library)
    pixels, bands = (np.asarray(p)[0] for p in ExactLikelihood(projection, model).predict(truth))
    camera = Spectrum("b", projection.spectrum.wave, pixels, 1 / (0.1 * pixels) ** 2)
    return camera, Photometry(BANDS, bands, 1 / (0.05 * bands) ** 2)


def galaxy(targetid: int = 5, spectra: bool = True, **more) -> Observation:
    camera, phot = mock()
    return Observation(Z, (camera,) if spectra else (), phot, (0.6, 0.05), targetid=targetid, **more)


@pytest.fixture(scope="module")
def posterior(config) -> Posterior:
    return fit_observation(galaxy(ra=12.5, dec=-3.0, meta={"PHOTSYS": "S"}), config, seed=3)


# ---- a galaxy that can be fitted -----------------------------------------------------------------------------------


def test_result_holds_what_it_promises(posterior, config):
    assert posterior.status == Status.NOT_CONVERGED
    assert "R-hat" in posterior.message
    assert posterior.parameters == PARAMETERS
    assert posterior.properties == PROPERTIES
    assert posterior.samples.shape == (50, N_THETA)
    assert np.all(np.isfinite(posterior.samples))
    assert np.all(np.isfinite(posterior.log_prob))
    np.testing.assert_allclose(column(posterior.samples, *BETAS).sum(axis=1), 1.0, rtol=1e-9)
    assert set(posterior.derived) == {p.name for p in PROPERTIES}
    assert all(v.shape == (50,) and np.all(np.isfinite(v)) for v in posterior.derived.values())
    assert set(posterior.diagnostics.rhat) == {*PARAMETERS.names, *posterior.derived}
    assert posterior.diagnostics.n_eval == 4096 + 24 * 32 * 2
    assert set(posterior.prior_edge) == set(PARAMETERS.coordinates)
    assert (posterior.targetid, posterior.ra, posterior.dec) == (5, 12.5, -3.0)
    assert posterior.meta == {"PHOTSYS": "S"}
    assert posterior.diagnostics.engine_dlnl == 0.0
    assert posterior.data_hash == galaxy().digest()
    assert FitConfig.model_validate(posterior.config_dict()) == config
    assert {"provabgs", "jax", "numpy"} <= set(posterior.versions)


def test_best_fit_is_the_best_of_what_was_seen(posterior, config):
    observation = galaxy()
    assert posterior.dof_spec == observation.spectra[0].n_valid
    assert posterior.dof_phot == 3
    engine = ExactLikelihood(project(observation, small_library(), config.observing), SPSModel(small_library()))
    spec, phot = (float(c[0]) for c in engine.chi2(posterior.best_fit[None]))
    assert posterior.chi2_spec == pytest.approx(spec, rel=1e-6)
    assert posterior.chi2_phot == pytest.approx(phot, rel=1e-6)
    of_samples = np.sum(engine.chi2(posterior.samples), axis=0)
    assert spec + phot < np.median(of_samples)
    # 4,096 prior draws and 24 steps find the right decade of mass
    assert abs(posterior.best["logmstar"] - 10) < 1


def test_log_prob_of_a_sample_is_likelihood_times_prior(posterior, config):
    """Differences between samples follow from the likelihood, -ln gamma and the Gaussian of f_fiber."""
    observation = galaxy()
    engine = ExactLikelihood(project(observation, small_library(), config.observing), SPSModel(small_library()))
    th = posterior.samples
    expected = np.asarray(engine(th)) - np.log(column(th, "gamma1") * column(th, "gamma2"))
    expected -= 0.5 * ((column(th, "f_fiber") - 0.6) / 0.05) ** 2
    np.testing.assert_allclose(posterior.log_prob - posterior.log_prob[0], expected - expected[0], rtol=1e-6, atol=1e-5)


def test_same_seed_same_posterior(posterior, config):
    again = fit_observation(galaxy(), config, seed=3)
    np.testing.assert_array_equal(again.samples, posterior.samples)
    np.testing.assert_array_equal(again.log_prob, posterior.log_prob)


def test_other_target_other_random_numbers(posterior, config):
    other = fit_observation(galaxy(targetid=6), config, seed=3)
    assert not np.array_equal(other.samples, posterior.samples)
    assert other.data_hash == posterior.data_hash


def test_galaxy_rng_takes_any_targetid():
    draws_of = {t: galaxy_rng(1, t).random() for t in (0, 1, -1, 2**62, 39633345008634465)}
    assert len({*draws_of.values(), galaxy_rng(2, 0).random()}) == 6
    assert galaxy_rng(1, -1).random() == draws_of[-1]


@pytest.mark.parametrize(("use", "dof"), [("spectrum", (True, False)), ("photometry", (False, True))])
def test_one_kind_of_data_alone_within_narrower_bounds(config, use, dof):
    bounds = {"logmstar": (9.9, 10.1), "tau_ism": (0.0, 0.5)}
    got = fit_observation(galaxy(), config.model_copy(update={"use": use, "prior_bounds": bounds}), seed=3)
    assert got.status.has_samples
    assert (got.dof_spec > 0, got.dof_phot > 0) == dof
    assert (np.isfinite(got.chi2_spec), np.isfinite(got.chi2_phot)) == dof
    assert 9.9 <= got["logmstar"].min() < got["logmstar"].max() <= 10.1
    assert got["tau_ism"].max() <= 0.5


def test_conventions_choose_the_model(library_file):
    paper = load_model(ModelOptions(library=library_file))
    code = load_model(ModelOptions(library=library_file, conventions="published-code"))
    told = [(m.t_birth_cloud, m.attenuation.birth_cloud_slope, m.histories.normalisation) for m in (paper, code)]
    assert told == [(0.1, -0.7, "per-basis"), (0.01, -1.0, "joint")]
    assert load_model(ModelOptions(library=library_file)) is paper


# ---- galaxies that cannot ------------------------------------------------------------------------------------------


def failed(observation: Observation, config: FitConfig, status: Status) -> None:
    posterior = fit_observation(observation, config, seed=3)
    assert posterior.status == status
    assert posterior.message
    assert "\n" not in posterior.message
    assert posterior.samples.shape == (0, N_THETA)
    assert np.all(np.isnan(posterior.best_fit))
    assert posterior.targetid == observation.targetid
    assert posterior.data_hash


def test_all_masked(config):
    wave = np.arange(7190.0, 7250.0, 1.0)  # Halpha at z = 0.1
    spectrum = Spectrum("r", wave, np.ones(wave.size), np.ones(wave.size))
    failed(Observation(Z, (spectrum,), targetid=9), config, Status.NO_VALID_PIXELS)


def test_spectrum_asked_for_where_there_is_none(config):
    failed(galaxy(spectra=False), config.model_copy(update={"use": "spectrum"}), Status.NO_VALID_PIXELS)


def test_redshift_out_of_range(config):
    spectrum = galaxy().spectra[0]
    failed(Observation(0.7, (spectrum,), targetid=9), config, Status.REDSHIFT_OUT_OF_RANGE)


def test_band_beyond_the_library(config):
    phot = Photometry(("wise2010-W1",), np.ones(1), np.ones(1))
    failed(Observation(Z, (), phot, targetid=9), config, Status.REDSHIFT_OUT_OF_RANGE)


@pytest.mark.parametrize(("redshift", "brighter"), [(1e-6, 1.0), (Z, 1e4)])
def test_data_far_off_the_prior_become_a_status(config, redshift, brighter):
    phot = mock()[1]
    far = Photometry(phot.bands, phot.flux * brighter, phot.ivar / brighter**2)
    automatic = config.model_copy(update={"sampler": SamplerOptions(max_eval=1, time_limit_s=5.0)})
    posterior = fit_one(Observation(redshift, (), far, targetid=9), automatic)
    assert posterior.status in (Status.LIKELIHOOD_FAILED, Status.NOT_CONVERGED)
    assert posterior.message


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_likelihood_that_never_is_finite(config, monkeypatch, value):
    class Broken(ExactLikelihood):
        def __call__(self, theta):
            return jnp.full(len(theta), value)

    monkeypatch.setattr(fit_module, "ExactLikelihood", Broken)
    failed(galaxy(), config, Status.LIKELIHOOD_FAILED)


@pytest.mark.parametrize(
    ("redshift", "status"),
    [(0.0, Status.REDSHIFT_OUT_OF_RANGE), (-0.1, Status.REDSHIFT_OUT_OF_RANGE), (float("nan"), Status.NO_REDSHIFT)],
)
def test_observation_without_a_redshift_cannot_be_made(redshift, status):
    with pytest.raises(UnusableTargetError) as error:
        Observation(redshift, (), Photometry(("decam2014-r",), np.ones(1), np.ones(1)))
    assert error.value.status == status


def test_observation_without_data_cannot_be_made():
    with pytest.raises(UnusableTargetError) as error:
        Observation(Z, (), Photometry(("decam2014-r",), np.ones(1), np.zeros(1)))
    assert error.value.status == Status.NO_VALID_PIXELS


# ---- mistakes of the user, not of the galaxy -----------------------------------------------------------------------


def test_a_spectrum_that_no_model_describes_is_named(config, posterior):
    """The criterion of SPEC_MISFIT, at one draw: before the fit has ended."""
    said = {Z: "", 0.4: r"no model describes the spectrum \(chi\^2 \d+ for \d+ pixels"}
    model = load_model(config.model)
    for z, expected in said.items():
        observation = replace(galaxy(), redshift=z)
        exact = ExactLikelihood(project(observation, model.library, config.observing), model)
        prior = fit_module.prior_of(exact, observation, config)
        unit = np.asarray(fit_module.to_unit(jnp.asarray(posterior.best_fit[None]), prior))
        reason = fit_module._misfit(exact, prior, ndtri(np.clip(unit, 1e-9, 1 - 1e-9))[0])
        assert re.match(expected or "$", reason), reason


def test_unknown_sampler(config):
    options = config.sampler.model_copy(update={"name": "nuts"})
    says = r"sampler\.name = 'nuts': no such sampler.*known: auto, annealed, emcee"
    with pytest.raises(ConfigError, match=says):
        fit_observation(galaxy(), config.model_copy(update={"sampler": options}), seed=3)


def test_unknown_prior_bound(config):
    with pytest.raises(ConfigError, match=r"prior_bounds\.beta1: no such prior with edges"):
        fit_observation(galaxy(), config.model_copy(update={"prior_bounds": {"beta1": (0.0, 0.5)}}), seed=3)


def test_missing_library(config, tmp_path):
    missing = config.model_copy(update={"model": ModelOptions(library=tmp_path / "nothing.h5")})
    with pytest.raises(DataFileError, match=r"nothing\.h5"):
        fit_observation(galaxy(), missing, seed=3)


@pytest.mark.parametrize("bad", [{"colour": 1}, {"n_samples": 0}, {"engine": "fast"}, {"sampler": {"rhat": 0.9}}])
def test_configuration_is_checked(bad):
    with pytest.raises(ValueError, match="validation error"):
        FitConfig(**bad)
