"""A galaxy made by the exact model, with noise, is found again within its posterior."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from provabgs.core.jax import jnp
from provabgs.core.status import Status
from provabgs.inference.config import FitConfig, ModelOptions, SamplerOptions
from provabgs.inference.fit_observation import fit_observation
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.posterior import Posterior
from provabgs.inference.samplers import ensemble
from provabgs.inference.standard import PARAMETERS, PROPERTIES
from provabgs.observe.observation import Observation, Photometry, Spectrum
from provabgs.observe.options import ObservingOptions
from provabgs.observe.projection import project
from provabgs.sps.derived import derived_properties
from provabgs.sps.library import SSPLibrary
from provabgs.sps.model import SPSModel
from tests.support.parameters import stars_of
from tests.support.small_library import small_library, theta

Z = 0.15
BANDS = ("decam2014-g", "decam2014-r", "decam2014-z")
TRUTH = {
    "logmstar": 10.4,
    "beta1": 0.15,
    "beta2": 0.25,
    "beta3": 0.35,
    "beta4": 0.25,
    "fburst": 0.1,
    "tburst": 3.0,
    "gamma1": 4e-3,
    "gamma2": 2e-3,
    "tau_bc": 0.8,
    "tau_ism": 0.5,
    "n_dust": -0.6,
    "f_fiber": 0.45,
}
FIBER = (0.45, 0.02)
NO_MASK = ObservingOptions(line_mask="none")


def mock(library: SSPLibrary, wave: list[np.ndarray], bands: tuple[str, ...], snr: float, seed: int) -> Observation:
    """Noisy data of `TRUTH`: Gaussian noise of 1 / snr of the median per pixel, 2 % per band on top of the floor."""
    model = SPSModel(library)
    rng = np.random.default_rng(seed)
    blank = Observation(
        Z,
        tuple(Spectrum(str(i), w, np.ones(w.size), np.ones(w.size), sigma_aa=1.5) for i, w in enumerate(wave)),
        Photometry(bands, np.ones(len(bands)), np.ones(len(bands))),
    )
    noiseless = ExactLikelihood(project(blank, library, NO_MASK), model).predict(jnp.asarray(theta(**TRUTH)))
    pixels, fluxes = (np.asarray(p)[0] for p in noiseless)
    spectra, start = [], 0
    for i, w in enumerate(wave):
        flux = pixels[start : start + w.size]
        start += w.size
        sigma = np.full(w.size, np.median(flux) / snr)
        spectra.append(Spectrum(str(i), w, flux + sigma * rng.standard_normal(w.size), sigma**-2.0, sigma_aa=1.5))
    sigma = 0.02 * fluxes
    # what the noise floor stands for is there too: 2 % of unmodelled error in the optical, 5 % in the infrared
    floor = fluxes * np.array([0.05 if b.startswith("wise") else 0.02 for b in bands])
    noise = np.hypot(sigma, floor) * rng.standard_normal(len(bands))
    return Observation(Z, tuple(spectra), Photometry(bands, fluxes + noise, sigma**-2.0), FIBER, targetid=1)


def truth_of(library: SSPLibrary, t_age: float) -> dict[str, float]:
    model = SPSModel(library)
    derived = derived_properties(model, jnp.asarray(stars_of(theta(**TRUTH))), model.tables(t_age))
    return TRUTH | {p.name: float(derived[p.name][0]) for p in PROPERTIES}


def outside(posterior: Posterior, truth: dict[str, float], probability: float) -> dict[str, float]:
    """Quantities whose truth lies outside the central interval: name and the fraction of draws below the truth."""
    tail = (1 - probability) / 2
    below = {name: float(np.mean(posterior[name] < truth[name])) for name in truth}
    return {name: f for name, f in below.items() if not tail <= f <= 1 - tail}


def fits_the_data(posterior: Posterior) -> None:
    """Best-fit chi^2 as noise alone makes it: within 5 sigma of the numbers of pixels and bands."""
    for chi2, dof in ((posterior.chi2_spec, posterior.dof_spec), (posterior.chi2_phot, posterior.dof_phot)):
        assert chi2 < dof + 5 * np.sqrt(2 * dof)
    # 13 parameters cannot absorb more, floors add a few per cent of variance
    assert posterior.chi2_spec > 0.9 * posterior.dof_spec - 13 - 5 * np.sqrt(2 * posterior.dof_spec)


def test_few_free_parameters_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Histories, mass, ISM dust and fiber fraction free, the rest held near the truth; small library and ensembles."""
    monkeypatch.setattr(ensemble, "N_ENSEMBLES", 2)
    monkeypatch.setattr(ensemble, "N_WALKERS", 32)
    library = small_library(np.arange(2000.0, 12000.0, 50.0))
    library.save(tmp_path / "small.h5")
    observation = mock(library, [np.arange(3700.0, 9700.0, 60.0)], BANDS, snr=10, seed=1)
    held = {n: TRUTH[n] * np.array([0.98, 1.02]) for n in ("fburst", "tburst", "gamma1", "gamma2", "tau_bc")}
    config = FitConfig(
        engine="exact",
        model=ModelOptions(library=tmp_path / "small.h5"),
        observing=NO_MASK,
        sampler=SamplerOptions(name="emcee", max_eval=60_000, rhat=1.05, ess=200),
        prior_bounds={n: (float(a), float(b)) for n, (a, b) in held.items()} | {"n_dust": (-0.62, -0.58)},
    )
    posterior = fit_observation(observation, config, seed=1)
    assert posterior.status.has_samples
    fits_the_data(posterior)
    truth = truth_of(library, project(observation, library, NO_MASK).t_age)
    assert not outside(posterior, truth, 0.999)
    # and something was learnt: the prior is 5.5 dex wide in mass and 3 in tau_ism
    assert np.std(posterior["logmstar"]) < 0.2
    assert np.std(posterior["tau_ism"]) < 0.3


@pytest.mark.slow
def test_default_fit_recovers_an_injected_galaxy(library: SSPLibrary):
    """All thirteen parameters, the shipped library, the default configuration, six draws of the noise.

    What is asserted: fits converge, the best fit is as good as the noise allows, and of the galaxies no more have a
    truth outside the central 99.9 % of the draws than chance allows (one: nineteen quantities each, correlated).
    """
    wave = [np.arange(3600.0, 5800.0, 4.0), np.arange(5760.0, 7620.0, 4.0), np.arange(7520.0, 9824.0, 4.0)]
    config = FitConfig()
    missed = []
    for seed in range(2, 8):
        observation = mock(library, wave, (*BANDS, "wise2010-W1"), snr=12, seed=seed)
        posterior = fit_observation(observation, config, seed=2)
        assert posterior.status is Status.CONVERGED, posterior.message
        fits_the_data(posterior)
        truth = truth_of(library, project(observation, library, config.observing).t_age)
        assert set(truth) == {q.name for q in (*PARAMETERS, *PROPERTIES)}
        missed += [outside(posterior, truth, 0.999)] if outside(posterior, truth, 0.999) else []
        # the mass is among what the data fix
        low, middle, high = posterior.quantiles("logmstar")
        assert high - low < 0.5
        assert abs(middle - TRUTH["logmstar"]) < 0.3
    assert len(missed) <= 1, missed
