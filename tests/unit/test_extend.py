"""The worked examples of docs/extend.md: parts made outside the package fit, store, query and draw a galaxy."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
from astropy.table import Table

from provabgs.catalog import Catalog, read_posteriors, write_posteriors
from provabgs.core.arrays import thin
from provabgs.core.errors import ConfigError, InputError
from provabgs.core.jax import jnp
from provabgs.inference.backends import load_model, make_likelihood
from provabgs.inference.config import FitConfig
from provabgs.inference.fit import fit_one
from provabgs.inference.likelihood import ExactLikelihood
from provabgs.inference.posterior import Posterior
from provabgs.inference.prior_draws import draw_prior
from provabgs.inference.priors import Prior
from provabgs.observe.observation import Observation, Spectrum
from provabgs.observe.projection import project
from provabgs.pipelines.config import InputOptions
from provabgs.pipelines.inputs import make_reader
from provabgs.plotting.corner import all_quantities, plot_corner

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extend.md"
MODULE = "my_extensions"
REDSHIFT, SNR = 0.1, 12.0
TRUTH = {"logmstar": 10.3, "log_z": -1.9, "tau_bc": 0.5, "tau_ism": 0.4, "n_dust": -0.3, "f_hot": 0.2, "f_fiber": 0.4}
FRACTIONS = (0.002, 0.006, 0.02, 0.05, 0.12, 0.2, 0.3, 0.302)


def code() -> str:
    """The Python blocks of the page, one after another: one module."""
    return "\n\n".join(block.split("```")[0] for block in PAGE.read_text().split("```python\n")[1:])


@pytest.fixture(scope="module", autouse=True)
def extensions() -> types.ModuleType:
    """The page's module, importable as a user's would be."""
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    exec(compile(code(), str(PAGE), "exec"), module.__dict__)  # the documentation's own code, from this checkout
    return module


@pytest.fixture(scope="module")
def config() -> FitConfig:
    return FitConfig(
        plugins=(MODULE,),
        model={"history": "age-bins", "emissions": ["hot-dust"], "properties": ["log_ssfr"]},
        observing={
            "noise": ["floor", "calibration", "emission-lines", "zero-points"],
            "line_mask": "none",
            "vdisp_kms": 150.0,
        },
        sampler={"aim_eval": 0},
        n_samples=300,
    )


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's survey with its filter curve beside it."""
    folder = tmp_path_factory.mktemp("survey")
    wave = np.arange(4200.0, 4801.0, 10.0)
    np.savetxt(folder / "n450.dat", np.column_stack([wave, np.exp(-0.5 * ((wave - 4500) / 90) ** 2)]))
    path = folder / "narrow.toml"
    path.write_text(PAGE.read_text().split("```toml\n# narrow.toml\n")[1].split("```")[0])
    return path


def read_table(survey: Path, flux: np.ndarray, ivar: np.ndarray) -> Observation:
    """One row of a table of the survey, as `provabgs run` reads it."""
    names = ("N450", "R", "W1", "W2")
    columns = {f"FLUX_{n}": [f] for n, f in zip(names, flux, strict=True)}
    columns |= {f"IVAR_{n}": [w] for n, w in zip(names, ivar, strict=True)}
    path = survey.with_name("table.ecsv")
    Table({"TARGETID": [77], "RA": [10.0], "DEC": [1.0], "Z": [REDSHIFT], **columns}).write(path, overwrite=True)
    reader = make_reader(InputOptions(paths=(str(path),), reader="photometry", options={"survey": str(survey)}))
    (result,) = reader.read(path, [77], [0])
    assert result.observation is not None, result.message
    return result.observation


@pytest.fixture(scope="module")
def galaxy(config: FitConfig, survey: Path) -> Observation:
    """A mock of the toy model: one camera, and four bands of the toy survey, truth as above."""
    model = load_model(config.model)
    wave = np.arange(3700.0, 9000.0, 4.0)
    ones = np.ones(wave.size)
    blank = replace(
        read_table(survey, np.ones(4), np.ones(4)), spectra=(Spectrum("s", wave, ones, ones, sigma_aa=2.0),)
    )
    exact = ExactLikelihood(project(blank, model.library, config.observing), model)
    values = TRUTH | {f"bin{i + 1}": f for i, f in enumerate(FRACTIONS)}
    pixels, fluxes = exact.predict(exact.parameters.theta(values)[None])
    assert pixels is not None
    assert fluxes is not None
    rng = np.random.default_rng(4)
    sigma, band_sigma = np.median(pixels) / SNR, 0.03 * fluxes[0]
    spectrum = Spectrum("s", wave, pixels[0] + sigma * rng.standard_normal(wave.size), ones / sigma**2, sigma_aa=2.0)
    seen = read_table(survey, fluxes[0] + band_sigma * rng.standard_normal(4), band_sigma**-2)
    known = replace(seen, spectra=(spectrum,), fiber_fraction=(0.4, 0.03))
    return sys.modules[MODULE].with_concentration(known, 2.7)


@pytest.fixture(scope="module")
def posterior(galaxy: Observation, config: FitConfig) -> Posterior:
    return fit_one(galaxy, config, seed=2)


def test_the_galaxy_is_fitted_by_the_default_road(posterior: Posterior) -> None:
    """Eight age bins, hot dust and a noise term of one's own: converged, and the truth is within the posterior."""
    assert posterior.status.name == "CONVERGED", posterior.message
    assert posterior.parameters.names == (
        "logmstar", *(f"bin{i}" for i in range(1, 9)), "log_z", "tau_bc", "tau_ism", "n_dust", "f_hot", "f_fiber",
    )  # fmt: skip
    for name in ("logmstar", "log_z", "tau_ism", "f_fiber"):
        draws = posterior[name]
        assert abs(draws.mean() - TRUTH[name]) < 4 * draws.std() + 1e-3, name
    # starlight alone is 40 to 50 % too faint in W1 and W2: the emission is in the fit
    assert posterior.chi2_phot < 20
    assert posterior["f_hot"].mean() > 0.01
    assert np.allclose(sum(posterior[f"bin{i}"] for i in range(1, 9)), 1.0)
    assert posterior.diagnostics.engine_dlnl < 0.5


def test_it_is_stored_queried_and_drawn_under_its_own_names(posterior: Posterior, tmp_path: Path) -> None:
    path = tmp_path / "toy.h5"
    write_posteriors(path, [posterior])
    (again,) = read_posteriors(path)
    assert again.parameters == posterior.parameters
    assert [p.name for p in again.properties][-1] == "log_ssfr"
    kept = thin(len(posterior.samples), len(again.samples))
    np.testing.assert_allclose(again["f_hot"], posterior["f_hot"][kept], atol=1e-4)
    catalog = Catalog.open(path)
    chosen = catalog.select("F_HOT_P50 > 0 and LOGSSFR_FORMED_P50 < -8 and MAG_N450 > 15 and CONCENTRATION > 2")
    row = chosen.table(["TARGETID", "LOG_Z_P50", "MAG_OUR_R", "MAG_R"])
    assert np.isfinite(row["MAG_OUR_R"][0])
    assert np.isnan(row["MAG_R"][0])  # the r band of another camera is not the Legacy Surveys'
    assert catalog.schema.by_name["MAG_N450"].unit == "mag"
    assert row["TARGETID"].tolist() == [77]
    assert row["LOG_Z_P50"][0] == pytest.approx(np.quantile(posterior["log_z"], 0.5), abs=1e-3)
    assert 0 < catalog.probability("LOG_Z > -1.9 and F_HOT < 0.25")["PROBABILITY"][0] < 1
    figure = matplotlib.figure.Figure()
    plot_corner(figure, posterior, all_quantities(posterior))
    labels = {ax.get_xlabel() for ax in figure.axes}
    assert {r"$f_{\rm hot}$", r"$\log_{10} Z$", "$f_7$"} <= labels


def test_the_toy_likelihoods_agree(galaxy: Observation, config: FitConfig) -> None:
    """The compressed likelihood and its normal equations follow the exact one, energy balance and templates too."""
    model = load_model(config.model)
    exact = ExactLikelihood(project(galaxy, model.library, config.observing), model)
    compressed = make_likelihood(exact, config)
    assert compressed is not exact
    theta = jnp.asarray(posterior_like(exact, galaxy))
    difference = np.asarray(compressed(theta)) - np.asarray(exact(theta))
    near = np.asarray(exact(theta)) > np.asarray(exact(theta)).max() - 30
    assert near.sum() > 10
    assert np.std(difference[near]) < 0.3
    system = compressed.linear_system
    assert system is not None
    equations = system.equations(theta, system.data)
    block = model.linear_block
    masses = 10 ** (theta[:, 0, None] - 10) * theta[:, exact.parameters.indices(block.fractions)]
    chi2 = equations.constant - 2 * jnp.sum(equations.b * masses, 1)
    chi2 += jnp.einsum("bi,bij,bj->b", masses, equations.q, masses)
    np.testing.assert_allclose(-0.5 * chi2, compressed(theta), atol=0.05)


def posterior_like(exact: ExactLikelihood, galaxy: Observation) -> np.ndarray:
    """Vectors near the truth, within tens of nats of it."""
    values = TRUTH | {f"bin{i + 1}": f for i, f in enumerate(FRACTIONS)}
    truth, rng = exact.parameters.theta(values), np.random.default_rng(1)
    draws = draw_prior(Prior.of(exact.parameters, normal={"f_fiber": (0.4, 0.03)}), 64, rng)
    step = 10 ** rng.uniform(-4, -2, (64, 1))
    return (1 - step) * truth + step * draws


def test_a_sampler_of_ones_own(galaxy: Observation, config: FitConfig) -> None:
    """It runs on the same road, and its unconverged chains say so."""
    short = config.model_copy(update={"sampler": config.sampler.model_copy(update={"name": "metropolis"})})
    posterior = fit_one(galaxy, short, seed=2)
    assert posterior.status.name == "NOT_CONVERGED"
    assert posterior.diagnostics.sampler == "metropolis"
    assert posterior.samples.shape == (300, 15)


def test_unknown_names_say_what_is_known(galaxy: Observation) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'age-bins'\?.*plugins"):
        fit_one(galaxy, FitConfig(model={"history": "age-bin"}))
    with pytest.raises(ConfigError, match=r"observing.noise = 'zero-point'.*did you mean 'zero-points'"):
        fit_one(galaxy, FitConfig(observing={"noise": ["zero-point"]}))
    with pytest.raises(ConfigError, match=r"plugins: 'no_such_module' cannot be imported"):
        fit_one(galaxy, FitConfig(plugins=("no_such_module",)))


def test_theta_of_another_model_is_refused(config: FitConfig) -> None:
    """A vector of the published model is not taken for one of age bins."""
    model = load_model(config.model)
    with pytest.raises(InputError, match=r"theta has shape \(1, 13\), expected \(\.\.\., 14\).*bin8.*f_hot"):
        model.spectrum(jnp.zeros((1, 13)), model.tables(12.0))
